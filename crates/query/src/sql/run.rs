//! A leg at work: decode, watermark, WHERE, SELECT, each over the rows that have come so far; what is left of the batch
//! are the delivered rows.

use arrow_array::{ArrayRef, BooleanArray, RecordBatch, RecordBatchOptions};
use arrow_buffer::BooleanBuffer;
use arrow_select::filter::filter;

use super::datum::{self, Datum};
use super::decode::{Decoded, decode};
use super::eval::{Evaluation, is_true};
use super::{InputRow, LegPlan, Output, RowFate};

/// Runs `plan` over `rows`.
pub fn run(plan: &LegPlan, rows: &[InputRow<'_>]) -> Output {
    let Decoded { columns, origin, failed } = decode(&plan.source.layout, rows);
    let mut fates = vec![RowFate::Filtered; rows.len()];
    for (row, cause) in failed {
        fates[row as usize] = RowFate::Failed(cause);
    }
    let all = BooleanBuffer::new_set(origin.len());
    let mut evaluation = Evaluation::new(&columns, origin.len());
    // Before WHERE, as in Flink: there a record without a readable event time fails even if it would be left out.
    let event_times = plan.source.watermark.as_ref().map(|watermark| evaluation.eval(&watermark.expr, &all));
    let mut alive = evaluation.alive(&all);
    if let Some(condition) = &plan.condition {
        let chosen = is_true(&evaluation.eval(condition, &alive));
        alive = evaluation.alive(&(&alive & &chosen));
    }
    let mut outputs: Vec<ArrayRef> = Vec::with_capacity(plan.outputs.len());
    for output in plan.outputs.iter() {
        let values = evaluation.eval(&output.expr, &alive);
        if output.required {
            let nulls = values.logical_nulls();
            for row in alive.set_indices().filter(|row| nulls.as_ref().is_some_and(|nulls| nulls.is_null(*row))) {
                evaluation.causes()[row].get_or_insert_with(|| format!("column `{}` is NOT NULL", output.name));
            }
        }
        outputs.push(values);
        alive = evaluation.alive(&alive);
    }
    for (row, cause) in evaluation.causes().iter_mut().enumerate() {
        if let Some(cause) = cause.take() {
            fates[origin[row] as usize] = RowFate::Failed(cause);
        }
    }
    let delivered: Vec<u32> = alive.set_indices().map(|row| origin[row]).collect();
    delivered.iter().for_each(|row| fates[*row as usize] = RowFate::Delivered);
    let event_time = |row: usize| {
        let input = &rows[origin[row] as usize];
        let declared = plan.source.watermark.as_ref().zip(event_times.as_ref());
        match declared.map(|(watermark, times)| datum::read(times, &watermark.expr.ty, row)) {
            Some(Datum::Ticks(ms)) => ms,
            _ => input.header.event_time_ms.unwrap_or(input.append_time_ms),
        }
    };
    let event_times_ms = alive.set_indices().map(event_time).collect();
    Output { batch: batch(plan, &outputs, &alive), origin: delivered, event_times_ms, fates }
}

/// The rows of `alive` as the sink gets them.
fn batch(plan: &LegPlan, outputs: &[ArrayRef], alive: &BooleanBuffer) -> RecordBatch {
    let (rows, all) = (alive.count_set_bits(), alive.len());
    let mask = BooleanArray::new(alive.clone(), None);
    let kept = |array: &ArrayRef| match rows == all {
        true => array.clone(),
        false => filter(array, &mask).expect("every column has as many rows as the mask"),
    };
    let columns = outputs.iter().map(kept).collect();
    let options = RecordBatchOptions::new().with_row_count(Some(rows));
    RecordBatch::try_new_with_options(plan.schema.clone(), columns, &options)
        .expect("the schema is made from the types of these columns, and required columns have no NULL left")
}
