//! The functions, one module per kind. A function sees values, row by row; NULLs are kept away from it: one NULL argument
//! makes the result NULL.

pub mod json;
pub mod regexp;
pub mod text;
pub mod time;

use std::sync::Arc;

use arrow_array::ArrayRef;
use arrow_array::cast::AsArray;

use super::datum::{self, Datum};
use super::eval::Rows;
use super::types::SqlType;

/// A function, with what is known of its arguments before the first record.
#[derive(Clone, Debug)]
pub enum Function {
    /// UPPER(text)
    Upper,
    /// LOWER(text)
    Lower,
    /// TRIM(text, characters)
    Trim {
        /// At the beginning.
        leading: bool,
        /// At the end.
        trailing: bool,
    },
    /// SUBSTRING(text, start [, length])
    Substring,
    /// CHAR_LENGTH(text)
    CharLength,
    /// CONCAT(text, ...) and `||`
    Concat,
    /// REGEXP_EXTRACT(text, group) with a pattern known beforehand.
    RegexpExtract(Arc<regexp::Pattern>),
    /// REGEXP_EXTRACT(text, pattern, group)
    RegexpExtractAny,
    /// SPLIT_INDEX(text, separator, index)
    SplitIndex,
    /// TO_TIMESTAMP_LTZ(number, 0 or 3)
    ToTimestampLtz {
        /// The number counts seconds (0), else milliseconds (3).
        seconds: bool,
    },
    /// DATE_FORMAT(timestamp) with a pattern known beforehand.
    DateFormat(time::Format),
    /// DATE_FORMAT(timestamp, pattern)
    DateFormatAny,
    /// JSON_VALUE(text)
    JsonValue(json::JsonValue),
}

/// The values of a function, row by row.
pub fn call(function: &Function, arguments: &[(&ArrayRef, &SqlType)], ty: &SqlType, rows: &mut Rows<'_>) -> ArrayRef {
    let inputs: Vec<&ArrayRef> = arguments.iter().map(|(array, _)| *array).collect();
    let value = |argument: usize, row: usize| datum::read(arguments[argument].0, arguments[argument].1, row);
    let text = |argument: usize, row: usize| arguments[argument].0.as_string::<i32>().value(row);
    match function {
        Function::Upper => rows.map(ty, &inputs, |row| Ok(Datum::Text(text(0, row).to_uppercase().into()))),
        Function::Lower => rows.map(ty, &inputs, |row| Ok(Datum::Text(text(0, row).to_lowercase().into()))),
        Function::Trim { leading, trailing } => {
            rows.map(ty, &inputs, |row| Ok(Datum::text(text::trim(text(0, row), text(1, row), *leading, *trailing))))
        }
        Function::Substring => rows.map(ty, &inputs, |row| {
            let length = (arguments.len() > 2).then(|| value(2, row).as_int());
            Ok(text::substring(text(0, row), value(1, row).as_int(), length).map_or(Datum::Null, Datum::text))
        }),
        Function::CharLength => rows.map(ty, &inputs, |row| Ok(Datum::Int(text(0, row).chars().count() as i64))),
        Function::Concat => rows.map(ty, &inputs, |row| {
            let parts: Vec<&str> = (0..arguments.len()).map(|argument| text(argument, row)).collect();
            text::concat(&parts).map(|text| Datum::Text(text.into()))
        }),
        Function::RegexpExtract(pattern) => regexp::extract(pattern, inputs[0], inputs[1], ty, rows),
        Function::RegexpExtractAny => {
            let mut last = regexp::Last::default();
            rows.map(ty, &inputs, |row| last.extract(text(0, row), text(1, row), value(2, row).as_int()))
        }
        Function::SplitIndex => rows.map(ty, &inputs, |row| {
            Ok(text::split_index(text(0, row), &value(1, row), value(2, row).as_int()).map_or(Datum::Null, Datum::text))
        }),
        Function::ToTimestampLtz { seconds } => {
            rows.map(ty, &inputs, |row| Ok(time::to_timestamp_ltz(value(0, row).as_int(), *seconds)))
        }
        Function::DateFormat(format) => rows.map(ty, &inputs, |row| format.show(&value(0, row), arguments[0].1)),
        Function::DateFormatAny => rows.map(ty, &inputs, |row| {
            time::Format::new(text(1, row)).and_then(|format| format.show(&value(0, row), arguments[0].1))
        }),
        Function::JsonValue(json) => rows.map(ty, &inputs, |row| json.value(text(0, row))),
    }
}
