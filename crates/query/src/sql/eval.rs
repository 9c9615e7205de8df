//! Evaluation, column by column. A row that fails gets its cause and is NULL from there on; the other rows of the batch
//! do not notice. Only *active* rows are evaluated: that is how CASE, COALESCE, AND and OR leave out what is not chosen.

use std::sync::Arc;

use arrow_array::cast::AsArray;
use arrow_array::{Array, ArrayRef, BooleanArray, StructArray, new_null_array};
use arrow_buffer::{BooleanBuffer, NullBuffer};
use arrow_schema::DataType;
use arrow_select::interleave::interleave;
use stream::limits::RECORD_BYTES_MAX;

use super::calculate;
use super::cast;
use super::datum::{self, Datum};
use super::expr::{Expr, Kind};
use super::functions;
use super::functions::regexp::Matches;
use super::syntax::Comparison;
use super::types::SqlType;

/// What a function makes of one row: a value, or the cause of the row's failure.
pub type Outcome<'a> = Result<Datum<'a>, String>;

/// One evaluation over the decoded rows of a batch.
#[derive(Debug)]
pub struct Evaluation<'a> {
    columns: &'a [ArrayRef],
    causes: Vec<Option<String>>,
    matches: Vec<Matches>,
}

/// The rows that a function works on, and where it reports the failed ones.
#[derive(Debug)]
pub struct Rows<'a> {
    /// Which rows are evaluated.
    pub active: &'a BooleanBuffer,
    causes: &'a mut [Option<String>],
    /// What regular expressions have matched already in this batch.
    pub matches: &'a mut Vec<Matches>,
}

impl Rows<'_> {
    /// A column of what `function` makes of each active row in which no input is NULL.
    pub fn map<'v>(
        &mut self,
        ty: &SqlType,
        inputs: &[&ArrayRef],
        mut function: impl FnMut(usize) -> Outcome<'v>,
    ) -> ArrayRef {
        let nulls = inputs.iter().filter_map(|input| input.logical_nulls());
        let live = nulls.fold(self.active.clone(), |live, nulls| &live & nulls.inner());
        let values = (0..live.len()).map(|row| {
            if !live.value(row) {
                return Datum::Null;
            }
            function(row).and_then(bounded).unwrap_or_else(|cause| {
                self.causes[row].get_or_insert(cause);
                Datum::Null
            })
        });
        datum::column(ty, values, live.len() * TEXT_BYTES)
    }
}

/// Room for a text that a function makes, until it is known.
const TEXT_BYTES: usize = 16;

/// Keeps texts from growing without bound, whatever the SQL makes of a record.
fn bounded(value: Datum<'_>) -> Outcome<'_> {
    match &value {
        Datum::Text(text) if text.len() > RECORD_BYTES_MAX => {
            Err(format!("a text of {} bytes, more than {RECORD_BYTES_MAX}", text.len()))
        }
        _ => Ok(value),
    }
}

impl<'a> Evaluation<'a> {
    /// An evaluation over `rows` rows of these columns.
    pub fn new(columns: &'a [ArrayRef], rows: usize) -> Self {
        Self { columns, causes: vec![None; rows], matches: Vec::new() }
    }

    /// The cause of each row's failure, if it has failed.
    pub fn causes(&mut self) -> &mut [Option<String>] {
        &mut self.causes
    }

    /// The rows of `among` that have not failed.
    pub fn alive(&self, among: &BooleanBuffer) -> BooleanBuffer {
        BooleanBuffer::collect_bool(among.len(), |row| among.value(row) && self.causes[row].is_none())
    }

    /// The values of `expr` in the active rows; what stands in the others means nothing.
    pub fn eval(&mut self, expr: &Expr, active: &BooleanBuffer) -> ArrayRef {
        match &expr.kind {
            Kind::Slot(slot) => self.columns[*slot].clone(),
            Kind::Row { present, fields } => self.row(&expr.ty, *present, fields, active),
            Kind::Literal(value) => {
                datum::column(&expr.ty, (0..active.len()).map(|_| value.clone()), active.len() * TEXT_BYTES)
            }
            Kind::Cast { input, safe } => {
                let array = self.eval(input, active);
                cast::cast(&array, &input.ty, &expr.ty, *safe, &mut self.rows(active))
            }
            Kind::Not(input) => self.truth(input, active, |truth| truth.map(|truth| !truth)),
            Kind::IsTruth(input, wanted) => self.truth(input, active, |truth| Some(truth == Some(*wanted))),
            Kind::IsNull(input) => {
                let array = self.eval(input, active);
                let nulls = array.logical_nulls();
                let is_null = |row| nulls.as_ref().is_some_and(|nulls| nulls.is_null(row));
                Arc::new(BooleanArray::from(BooleanBuffer::collect_bool(active.len(), is_null)))
            }
            Kind::And(operands) => self.connect(operands, active, false),
            Kind::Or(operands) => self.connect(operands, active, true),
            Kind::Compare(operator, left, right) => self.compare(*operator, left, right, active),
            Kind::Distinct(left, right) => {
                let (a, b) = (self.eval(left, active), self.eval(right, active));
                let value = |row| datum::read(&a, &left.ty, row) != datum::read(&b, &right.ty, row);
                Arc::new(BooleanArray::from(BooleanBuffer::collect_bool(active.len(), value)))
            }
            Kind::Calculate(operator, left, right) => {
                let (a, b) = (self.eval(left, active), self.eval(right, active));
                calculate::calculate(*operator, (&a, &left.ty), (&b, &right.ty), &expr.ty, &mut self.rows(active))
            }
            Kind::Negate(input) => {
                let array = self.eval(input, active);
                calculate::negate(&array, &expr.ty, &mut self.rows(active))
            }
            Kind::In(input, list) => self.is_in(input, list, active),
            Kind::Like(input, like) => {
                let array = self.eval(input, active);
                let texts = array.as_string::<i32>();
                let matches = |row| Ok(Datum::Bool(like.matches(texts.value(row))));
                self.rows(active).map(&SqlType::Boolean, &[&array], matches)
            }
            Kind::Case(branches, otherwise) => self.case(branches, otherwise, active),
            Kind::Coalesce(operands) => self.coalesce(&expr.ty, operands, active),
            Kind::Call(function, arguments) => {
                let arrays: Vec<_> = arguments.iter().map(|argument| self.eval(argument, active)).collect();
                let typed: Vec<_> = arrays.iter().zip(arguments).map(|(array, expr)| (array, &expr.ty)).collect();
                functions::call(function, &typed, &expr.ty, &mut self.rows(active))
            }
        }
    }

    fn rows<'r>(&'r mut self, active: &'r BooleanBuffer) -> Rows<'r> {
        Rows { active, causes: &mut self.causes, matches: &mut self.matches }
    }

    fn row(&mut self, ty: &SqlType, present: usize, fields: &[Expr], active: &BooleanBuffer) -> ArrayRef {
        let DataType::Struct(schema) = ty.arrow() else { unreachable!("the binder makes ROWs of type ROW") };
        let arrays = fields.iter().map(|field| self.eval(field, active)).collect();
        let nulls = NullBuffer::new(is_true(&self.columns[present]));
        Arc::new(StructArray::new(schema, arrays, Some(nulls)))
    }

    /// A function of the truth of `input`, which may be unknown.
    fn truth(&mut self, input: &Expr, active: &BooleanBuffer, f: impl Fn(Option<bool>) -> Option<bool>) -> ArrayRef {
        let array = self.eval(input, active);
        let truths = array.as_boolean();
        Arc::new(truths.iter().map(f).collect::<BooleanArray>())
    }

    /// AND (`decisive` is FALSE) and OR (`decisive` is TRUE): the first decisive operand decides a row.
    fn connect(&mut self, operands: &[Expr], active: &BooleanBuffer, decisive: bool) -> ArrayRef {
        let mut truth = vec![Some(!decisive); active.len()];
        let mut open = active.clone();
        for operand in operands {
            let array = self.eval(operand, &open);
            let values = array.as_boolean();
            for row in open.set_indices() {
                match values.is_valid(row).then(|| values.value(row)) {
                    None => truth[row] = None,
                    Some(value) if value == decisive => truth[row] = Some(value),
                    Some(_) => {}
                }
            }
            open = BooleanBuffer::collect_bool(open.len(), |row| open.value(row) && truth[row] != Some(decisive));
        }
        Arc::new(truth.into_iter().collect::<BooleanArray>())
    }

    fn compare(&mut self, operator: Comparison, left: &Expr, right: &Expr, active: &BooleanBuffer) -> ArrayRef {
        let (a, b) = (self.eval(left, active), self.eval(right, active));
        self.rows(active).map(&SqlType::Boolean, &[&a, &b], |row| {
            let order = datum::read(&a, &left.ty, row).order(&datum::read(&b, &right.ty, row));
            Ok(Datum::Bool(match operator {
                Comparison::Equal => order.is_some_and(|order| order.is_eq()),
                Comparison::Unequal => order.is_none_or(|order| order.is_ne()),
                Comparison::Less => order.is_some_and(|order| order.is_lt()),
                Comparison::LessOrEqual => order.is_some_and(|order| order.is_le()),
                Comparison::Greater => order.is_some_and(|order| order.is_gt()),
                Comparison::GreaterOrEqual => order.is_some_and(|order| order.is_ge()),
            }))
        })
    }

    fn is_in(&mut self, input: &Expr, list: &[Expr], active: &BooleanBuffer) -> ArrayRef {
        let array = self.eval(input, active);
        let candidates: Vec<_> = list.iter().map(|candidate| self.eval(candidate, active)).collect();
        self.rows(active).map(&SqlType::Boolean, &[&array], |row| {
            let value = datum::read(&array, &input.ty, row);
            let mut unknown = false;
            for candidate in &candidates {
                match datum::read(candidate, &input.ty, row) {
                    Datum::Null => unknown = true,
                    candidate if value.order(&candidate).is_some_and(|order| order.is_eq()) => {
                        return Ok(Datum::Bool(true));
                    }
                    _ => {}
                }
            }
            Ok(if unknown { Datum::Null } else { Datum::Bool(false) })
        })
    }

    fn case(&mut self, branches: &[(Expr, Expr)], otherwise: &Expr, active: &BooleanBuffer) -> ArrayRef {
        let mut open = active.clone();
        let mut chosen = vec![branches.len(); active.len()];
        let mut arrays = Vec::with_capacity(branches.len() + 1);
        for (branch, (when, then)) in branches.iter().enumerate() {
            let array = self.eval(when, &open);
            let truths = array.as_boolean();
            let hit = BooleanBuffer::collect_bool(open.len(), |row| {
                open.value(row) && truths.is_valid(row) && truths.value(row)
            });
            hit.set_indices().for_each(|row| chosen[row] = branch);
            arrays.push(self.eval(then, &hit));
            open = &open & &!&hit;
        }
        arrays.push(self.eval(otherwise, &open));
        choose(&arrays, &chosen)
    }

    fn coalesce(&mut self, ty: &SqlType, operands: &[Expr], active: &BooleanBuffer) -> ArrayRef {
        let mut open = active.clone();
        let mut chosen = vec![operands.len(); active.len()];
        let mut arrays = Vec::with_capacity(operands.len() + 1);
        for (branch, operand) in operands.iter().enumerate() {
            let array = self.eval(operand, &open);
            let hit = BooleanBuffer::collect_bool(open.len(), |row| open.value(row) && array.is_valid(row));
            hit.set_indices().for_each(|row| chosen[row] = branch);
            arrays.push(array);
            open = &open & &!&hit;
        }
        arrays.push(new_null_array(&ty.arrow(), active.len()));
        choose(&arrays, &chosen)
    }
}

/// The column that takes each row from the chosen one of `arrays`, which are of one type.
fn choose(arrays: &[ArrayRef], chosen: &[usize]) -> ArrayRef {
    let arrays: Vec<&dyn Array> = arrays.iter().map(AsRef::as_ref).collect();
    let indices: Vec<_> = chosen.iter().enumerate().map(|(row, array)| (*array, row)).collect();
    interleave(&arrays, &indices).expect("the binder gives all branches one type, and every array has all rows")
}

/// Where a condition is TRUE.
pub fn is_true(array: &ArrayRef) -> BooleanBuffer {
    let truths = array.as_boolean();
    BooleanBuffer::collect_bool(truths.len(), |row| truths.is_valid(row) && truths.value(row))
}
