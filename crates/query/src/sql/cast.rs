//! CAST and TRY_CAST. A value without a counterpart fails its row (CAST) or becomes NULL (TRY_CAST); numbers that do not
//! fit follow Flink: whole numbers wrap, approximate ones stop at the bound, DECIMALs become NULL.

use std::borrow::Cow;
use std::sync::Arc;

use arrow_array::{Array, ArrayRef, new_null_array};

use super::cursor::excerpt;
use super::datum::{self, Datum};
use super::eval::{Outcome, Rows};
use super::moment::{self, Moment};
use super::number;
use super::types::{LENGTH_MAX, SqlType};

/// The column as another type.
pub fn cast(array: &ArrayRef, from: &SqlType, to: &SqlType, safe: bool, rows: &mut Rows<'_>) -> ArrayRef {
    if *from == SqlType::Null {
        return new_null_array(&to.arrow(), array.len());
    }
    let unchanged = matches!((from, to), (SqlType::Char(_) | SqlType::Varchar(_), SqlType::Varchar(LENGTH_MAX)));
    if unchanged || from == to {
        return Arc::clone(array);
    }
    rows.map(to, &[array], |row| match convert(datum::read(array, from, row), from, to) {
        Err(_) if safe => Ok(Datum::Null),
        outcome => outcome,
    })
}

/// One value as another type.
///
/// # Errors
/// Why the value has no counterpart there.
pub fn convert<'a>(value: Datum<'a>, from: &SqlType, to: &SqlType) -> Outcome<'a> {
    match to {
        SqlType::Char(length) => Ok(Datum::Text(padded(to_text(value, from)?, *length as usize, true))),
        SqlType::Varchar(length) => Ok(Datum::Text(padded(to_text(value, from)?, *length as usize, false))),
        SqlType::Boolean => to_boolean(value),
        SqlType::TinyInt => to_integer(value, from, to, i8::MIN.into(), i8::MAX.into()),
        SqlType::SmallInt => to_integer(value, from, to, i16::MIN.into(), i16::MAX.into()),
        SqlType::Int => to_integer(value, from, to, i32::MIN.into(), i32::MAX.into()),
        SqlType::BigInt => to_integer(value, from, to, i64::MIN, i64::MAX),
        SqlType::Float | SqlType::Double => to_approximate(value, from, to),
        SqlType::Decimal(precision, scale) => to_decimal(value, from, *precision, *scale),
        SqlType::Date => to_date(value, from),
        SqlType::Timestamp(digits) | SqlType::TimestampLtz(digits) => to_timestamp(value, from, to, *digits),
        SqlType::Bytes => Ok(match value {
            Datum::Text(Cow::Borrowed(text)) => Datum::Bytes(Cow::Borrowed(text.as_bytes())),
            Datum::Text(Cow::Owned(text)) => Datum::Bytes(Cow::Owned(text.into_bytes())),
            other => other,
        }),
        SqlType::Null | SqlType::Row(_) => Ok(Datum::Null),
    }
}

fn no_counterpart(text: &str, ty: &SqlType) -> String {
    format!("CAST: '{}' is no {ty}", excerpt(text))
}

fn to_text<'a>(value: Datum<'a>, from: &SqlType) -> Result<Cow<'a, str>, String> {
    let digits = |ty: &SqlType| match ty {
        SqlType::Timestamp(digits) | SqlType::TimestampLtz(digits) => *digits,
        _ => 0,
    };
    let beyond = || "CAST: a time outside the calendar".to_owned();
    Ok(match value {
        Datum::Text(text) => text,
        Datum::Bytes(Cow::Borrowed(bytes)) => String::from_utf8_lossy(bytes),
        Datum::Bytes(Cow::Owned(bytes)) => String::from_utf8_lossy(&bytes).into_owned().into(),
        Datum::Bool(truth) => if truth { "TRUE" } else { "FALSE" }.into(),
        Datum::Int(number) => number.to_string().into(),
        Datum::Float(number) => number::show_float(number).into(),
        Datum::Double(number) => number::show_double(number).into(),
        Datum::Decimal(number) => number::show_decimal(number, from.digits().map_or(0, |(_, scale)| scale)).into(),
        Datum::Days(days) => moment::show_date(moment::date_of_days(days).ok_or_else(beyond)?).into(),
        Datum::Ticks(ticks) => {
            let digits = digits(from);
            Moment::of_ticks(ticks, digits).ok_or_else(beyond)?.show(digits).into()
        }
        Datum::Null => "".into(),
    })
}

/// The text cut to `length` characters, and filled up with blanks to that length if `fill`.
fn padded(text: Cow<'_, str>, length: usize, fill: bool) -> Cow<'_, str> {
    if let Some((end, _)) = text.char_indices().nth(length) {
        return match text {
            Cow::Borrowed(text) => Cow::Borrowed(&text[..end]),
            Cow::Owned(mut text) => {
                text.truncate(end);
                Cow::Owned(text)
            }
        };
    }
    if fill { Cow::Owned(format!("{text:<length$}")) } else { text }
}

fn to_boolean(value: Datum<'_>) -> Outcome<'_> {
    Ok(Datum::Bool(match value {
        Datum::Text(text) => match text.to_ascii_lowercase().as_str() {
            "t" | "true" | "y" | "yes" | "1" => true,
            "f" | "false" | "n" | "no" | "0" => false,
            _ => return Err(no_counterpart(&text, &SqlType::Boolean)),
        },
        Datum::Int(number) => number != 0,
        Datum::Decimal(number) => number != 0,
        Datum::Float(number) => number != 0.0,
        Datum::Double(number) => number != 0.0,
        other => return Ok(other),
    }))
}

fn to_integer<'a>(value: Datum<'a>, from: &SqlType, to: &SqlType, min: i64, max: i64) -> Outcome<'a> {
    // Java goes to 32 bits first, except for BIGINT; the low bits that remain are cut when they are stored.
    let stop = |number: f64| if *to == SqlType::BigInt { number as i64 } else { i64::from(number as i32) };
    let number = match value {
        Datum::Text(text) => {
            return match number::integer(&text, min, max) {
                Some(number) => Ok(Datum::Int(number)),
                None => Err(no_counterpart(&text, to)),
            };
        }
        Datum::Int(number) => number,
        Datum::Float(number) => stop(number.into()),
        Datum::Double(number) => stop(number),
        Datum::Decimal(number) => (number / 10_i128.pow(from.digits().map_or(0, |(_, scale)| scale).into())) as i64,
        Datum::Bool(truth) => truth.into(),
        other => return Ok(other),
    };
    Ok(Datum::Int(number))
}

fn to_approximate<'a>(value: Datum<'a>, from: &SqlType, to: &SqlType) -> Outcome<'a> {
    let single = *to == SqlType::Float;
    if let Datum::Text(text) = &value {
        let number =
            if single { number::float(text).map(Datum::Float) } else { number::double(text).map(Datum::Double) };
        return number.ok_or_else(|| no_counterpart(text, to));
    }
    let number = match value {
        Datum::Int(number) if single => return Ok(Datum::Float(number as f32)),
        Datum::Int(number) => number as f64,
        Datum::Float(number) => number.into(),
        Datum::Double(number) => number,
        Datum::Decimal(number) => {
            let text = number::show_decimal(number, from.digits().map_or(0, |(_, scale)| scale));
            number::double(&text).unwrap_or_default()
        }
        Datum::Bool(truth) => f64::from(u8::from(truth)),
        other => return Ok(other),
    };
    Ok(if single { Datum::Float(number as f32) } else { Datum::Double(number) })
}

fn to_decimal<'a>(value: Datum<'a>, from: &SqlType, precision: u8, scale: u8) -> Outcome<'a> {
    let infinite = |number: f64| no_counterpart(&number::show_double(number), &SqlType::Decimal(precision, scale));
    let number = match value {
        Datum::Text(text) => {
            return match number::decimal(&text, precision, scale) {
                Some(number) => Ok(Datum::Decimal(number)),
                None => Err(no_counterpart(&text, &SqlType::Decimal(precision, scale))),
            };
        }
        Datum::Int(number) => number::rescale(number.into(), 0, precision, scale),
        Datum::Decimal(number) => {
            number::rescale(number, from.digits().map_or(0, |(_, scale)| scale), precision, scale)
        }
        Datum::Float(number) if !number.is_finite() => return Err(infinite(number.into())),
        Datum::Double(number) if !number.is_finite() => return Err(infinite(number)),
        Datum::Float(number) => number::decimal_of_double(number.into(), precision, scale),
        Datum::Double(number) => number::decimal_of_double(number, precision, scale),
        Datum::Bool(truth) => number::rescale(truth.into(), 0, precision, scale),
        other => return Ok(other),
    };
    Ok(number.map_or(Datum::Null, Datum::Decimal))
}

fn to_date<'a>(value: Datum<'a>, from: &SqlType) -> Outcome<'a> {
    Ok(match (value, from) {
        (Datum::Text(text), _) => {
            Datum::Days(moment::date(&text).ok_or_else(|| no_counterpart(&text, &SqlType::Date))?)
        }
        (Datum::Ticks(ticks), SqlType::Timestamp(digits)) => Datum::Days(moment::days_of_ticks(ticks, *digits, false)),
        (Datum::Ticks(ticks), SqlType::TimestampLtz(digits)) => {
            Datum::Days(moment::days_of_ticks(ticks, *digits, true))
        }
        (other, _) => other,
    })
}

fn to_timestamp<'a>(value: Datum<'a>, from: &SqlType, to: &SqlType, digits: u8) -> Outcome<'a> {
    Ok(match (value, from) {
        (Datum::Text(text), _) => {
            let ticks = moment::timestamp(&text, moment::CAST, digits);
            Datum::Ticks(ticks.ok_or_else(|| no_counterpart(&text, to))?)
        }
        (Datum::Days(days), _) => Datum::Ticks(moment::ticks_of_days(days, digits)),
        (Datum::Ticks(ticks), SqlType::Timestamp(from) | SqlType::TimestampLtz(from)) => {
            let ticks = moment::requantize(ticks, *from, digits);
            Datum::Ticks(ticks.ok_or_else(|| "CAST: a time outside the calendar".to_owned())?)
        }
        (other, _) => other,
    })
}
