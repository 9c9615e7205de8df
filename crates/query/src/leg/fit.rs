//! Rows that a destination cannot take: a failure of the record, as one to convert is, so that it is set apart with its cause
//! and holds up no other.

use arrow_array::UInt32Array;
use arrow_select::take::take_record_batch;
use sink::Sink;

use super::convert::Convert;
use crate::sql::{InputRow, Output, RowFate};

/// A SELECT, and the destination of its rows.
pub struct Fitted<'a> {
    /// The SELECT.
    pub plan: &'a dyn Convert,
    /// The destination.
    pub sink: &'a dyn Sink,
}

impl Convert for Fitted<'_> {
    fn convert(&self, rows: &[InputRow<'_>]) -> Output {
        let output = self.plan.convert(rows);
        let misfits = self.sink.misfits(&output.batch);
        if misfits.is_empty() { output } else { without(output, misfits) }
    }
}

/// The output without the rows that do not fit; their records have failed.
fn without(output: Output, misfits: Vec<(usize, String)>) -> Output {
    let Output { batch, mut origin, mut event_times_ms, mut fates } = output;
    let mut fits = vec![true; batch.num_rows()];
    for (row, cause) in misfits {
        fits[row] = false;
        fates[origin[row] as usize] = RowFate::Failed(cause);
    }
    let kept: UInt32Array = (0_u32..).zip(&fits).filter(|(_, fits)| **fits).map(|(row, _)| row).collect();
    let batch = take_record_batch(&batch, &kept).expect("every row that is taken is there");
    let mut fitting = fits.iter();
    origin.retain(|_| *fitting.next().unwrap_or(&false));
    let mut fitting = fits.iter();
    event_times_ms.retain(|_| *fitting.next().unwrap_or(&false));
    Output { batch, origin, event_times_ms, fates }
}

#[cfg(test)]
mod tests {
    use super::*;
    use arrow_array::{Int32Array, RecordBatch};
    use arrow_schema::{DataType, Field, Schema};
    use std::sync::Arc;

    #[test]
    fn what_does_not_fit_fails_and_the_others_stay() {
        let schema = Arc::new(Schema::new(vec![Field::new("n", DataType::Int32, false)]));
        let batch = RecordBatch::try_new(schema, vec![Arc::new(Int32Array::from(vec![10, 11, 12]))]).unwrap();
        // Records 0 and 2 to 4; record 1 was filtered.
        let fates = [RowFate::Delivered, RowFate::Filtered, RowFate::Delivered, RowFate::Delivered];
        let output = Output { batch, origin: vec![0, 2, 3], event_times_ms: vec![5, 6, 7], fates: fates.to_vec() };
        let left = without(output, vec![(1, "too large".to_owned())]);
        let numbers = left.batch.column(0).as_any().downcast_ref::<Int32Array>().unwrap().values().to_vec();
        assert_eq!((numbers, left.origin, left.event_times_ms), (vec![10, 12], vec![0, 3], vec![5, 7]));
        assert_eq!(left.fates[2], RowFate::Failed("too large".to_owned()));
        assert_eq!(left.fates[3], RowFate::Delivered);
    }
}
