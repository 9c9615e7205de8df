//! One value, and columns of them: the only place that knows how each type lies in an Arrow array.

use std::borrow::Cow;
use std::cmp::Ordering;
use std::sync::Arc;

use arrow_array::builder::{BinaryBuilder, BooleanBuilder, PrimitiveBuilder, StringBuilder};
use arrow_array::cast::AsArray;
use arrow_array::types::{
    ArrowPrimitiveType, Date32Type, Decimal128Type, Float32Type, Float64Type, Int8Type, Int16Type, Int32Type,
    Int64Type, TimestampMicrosecondType, TimestampMillisecondType,
};
use arrow_array::{Array, ArrayRef, new_null_array};

use super::types::{SqlType, ticks_per_second};

/// One value. Its type stands beside it: whole numbers of every width are `Int`.
#[derive(Clone, Debug, PartialEq)]
pub enum Datum<'a> {
    /// NULL of any type.
    Null,
    /// CHAR, VARCHAR, STRING.
    Text(Cow<'a, str>),
    /// BOOLEAN.
    Bool(bool),
    /// TINYINT to BIGINT.
    Int(i64),
    /// FLOAT.
    Float(f32),
    /// DOUBLE.
    Double(f64),
    /// DECIMAL, without its point.
    Decimal(i128),
    /// DATE: days since 1970.
    Days(i32),
    /// TIMESTAMP and TIMESTAMP_LTZ: ticks since 1970, see [`ticks_per_second`].
    Ticks(i64),
    /// BYTES.
    Bytes(Cow<'a, [u8]>),
}

impl<'a> Datum<'a> {
    /// Text that is borrowed.
    pub fn text(text: &'a str) -> Self {
        Datum::Text(Cow::Borrowed(text))
    }

    /// The text; empty for other types, which the binder keeps away.
    pub fn as_text(&self) -> &str {
        match self {
            Datum::Text(text) => text,
            _ => "",
        }
    }

    /// The whole number; 0 for other types, which the binder keeps away.
    pub fn as_int(&self) -> i64 {
        match self {
            Datum::Int(number) => *number,
            _ => 0,
        }
    }

    /// How two values of the same type follow one another. `None` beside NULL and NaN.
    pub fn order(&self, other: &Datum<'_>) -> Option<Ordering> {
        match (self, other) {
            (Datum::Text(a), Datum::Text(b)) => Some(a.as_bytes().cmp(b.as_bytes())),
            (Datum::Bool(a), Datum::Bool(b)) => Some(a.cmp(b)),
            (Datum::Int(a), Datum::Int(b)) => Some(a.cmp(b)),
            (Datum::Float(a), Datum::Float(b)) => a.partial_cmp(b),
            (Datum::Double(a), Datum::Double(b)) => a.partial_cmp(b),
            (Datum::Decimal(a), Datum::Decimal(b)) => Some(a.cmp(b)),
            (Datum::Days(a), Datum::Days(b)) => Some(a.cmp(b)),
            (Datum::Ticks(a), Datum::Ticks(b)) => Some(a.cmp(b)),
            (Datum::Bytes(a), Datum::Bytes(b)) => Some(a.cmp(b)),
            _ => None,
        }
    }
}

/// The value of a row of a column of that type.
pub fn read<'a>(array: &'a ArrayRef, ty: &SqlType, row: usize) -> Datum<'a> {
    fn int<T: ArrowPrimitiveType>(array: &ArrayRef, row: usize) -> Datum<'static>
    where
        i64: From<T::Native>,
    {
        Datum::Int(array.as_primitive::<T>().value(row).into())
    }
    if array.is_null(row) {
        return Datum::Null;
    }
    match ty {
        SqlType::Null | SqlType::Row(_) => Datum::Null,
        SqlType::Char(_) | SqlType::Varchar(_) => Datum::text(array.as_string::<i32>().value(row)),
        SqlType::Boolean => Datum::Bool(array.as_boolean().value(row)),
        SqlType::TinyInt => int::<Int8Type>(array, row),
        SqlType::SmallInt => int::<Int16Type>(array, row),
        SqlType::Int => int::<Int32Type>(array, row),
        SqlType::BigInt => int::<Int64Type>(array, row),
        SqlType::Float => Datum::Float(array.as_primitive::<Float32Type>().value(row)),
        SqlType::Double => Datum::Double(array.as_primitive::<Float64Type>().value(row)),
        SqlType::Decimal(..) => Datum::Decimal(array.as_primitive::<Decimal128Type>().value(row)),
        SqlType::Date => Datum::Days(array.as_primitive::<Date32Type>().value(row)),
        SqlType::Timestamp(digits) | SqlType::TimestampLtz(digits) => Datum::Ticks(match ticks_per_second(*digits) {
            1_000 => array.as_primitive::<TimestampMillisecondType>().value(row),
            _ => array.as_primitive::<TimestampMicrosecondType>().value(row),
        }),
        SqlType::Bytes => Datum::Bytes(Cow::Borrowed(array.as_binary::<i32>().value(row))),
    }
}

/// The column of that type with these values, with room for so many bytes of text; a value of another type counts as NULL,
/// which the binder keeps away.
pub fn column<'a>(ty: &SqlType, values: impl ExactSizeIterator<Item = Datum<'a>>, text_bytes: usize) -> ArrayRef {
    let rows = values.len();
    match ty {
        SqlType::Null | SqlType::Row(_) => {
            values.for_each(drop);
            new_null_array(&ty.arrow(), rows)
        }
        SqlType::Char(_) | SqlType::Varchar(_) => {
            let mut builder = StringBuilder::with_capacity(rows, text_bytes);
            values.for_each(|value| match value {
                Datum::Text(text) => builder.append_value(text),
                _ => builder.append_null(),
            });
            Arc::new(builder.finish())
        }
        SqlType::Bytes => {
            let mut builder = BinaryBuilder::with_capacity(rows, text_bytes);
            values.for_each(|value| match value {
                Datum::Bytes(bytes) => builder.append_value(bytes),
                _ => builder.append_null(),
            });
            Arc::new(builder.finish())
        }
        SqlType::Boolean => {
            let mut builder = BooleanBuilder::with_capacity(rows);
            values.for_each(|value| match value {
                Datum::Bool(truth) => builder.append_value(truth),
                _ => builder.append_null(),
            });
            Arc::new(builder.finish())
        }
        SqlType::TinyInt => primitive::<Int8Type>(ty, values, |value| int(value).map(|n| n as i8)),
        SqlType::SmallInt => primitive::<Int16Type>(ty, values, |value| int(value).map(|n| n as i16)),
        SqlType::Int => primitive::<Int32Type>(ty, values, |value| int(value).map(|n| n as i32)),
        SqlType::BigInt => primitive::<Int64Type>(ty, values, int),
        SqlType::Float => primitive::<Float32Type>(ty, values, |value| match value {
            Datum::Float(number) => Some(number),
            _ => None,
        }),
        SqlType::Double => primitive::<Float64Type>(ty, values, |value| match value {
            Datum::Double(number) => Some(number),
            _ => None,
        }),
        SqlType::Decimal(..) => primitive::<Decimal128Type>(ty, values, |value| match value {
            Datum::Decimal(number) => Some(number),
            _ => None,
        }),
        SqlType::Date => primitive::<Date32Type>(ty, values, |value| match value {
            Datum::Days(days) => Some(days),
            _ => None,
        }),
        SqlType::Timestamp(digits) | SqlType::TimestampLtz(digits) => match ticks_per_second(*digits) {
            1_000 => primitive::<TimestampMillisecondType>(ty, values, ticks),
            _ => primitive::<TimestampMicrosecondType>(ty, values, ticks),
        },
    }
}

fn int(value: Datum<'_>) -> Option<i64> {
    match value {
        Datum::Int(number) => Some(number),
        _ => None,
    }
}

fn ticks(value: Datum<'_>) -> Option<i64> {
    match value {
        Datum::Ticks(ticks) => Some(ticks),
        _ => None,
    }
}

fn primitive<'a, T: ArrowPrimitiveType>(
    ty: &SqlType,
    values: impl ExactSizeIterator<Item = Datum<'a>>,
    native: impl Fn(Datum<'a>) -> Option<T::Native>,
) -> ArrayRef {
    let mut builder = PrimitiveBuilder::<T>::with_capacity(values.len()).with_data_type(ty.arrow());
    values.for_each(|value| builder.append_option(native(value)));
    Arc::new(builder.finish())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sql::types::STRING;

    #[test]
    fn every_type_gives_back_what_was_put_in() {
        let cases = [
            (STRING, Datum::text("ü")),
            (SqlType::Boolean, Datum::Bool(true)),
            (SqlType::TinyInt, Datum::Int(-128)),
            (SqlType::SmallInt, Datum::Int(32_767)),
            (SqlType::Int, Datum::Int(-1)),
            (SqlType::BigInt, Datum::Int(i64::MIN)),
            (SqlType::Float, Datum::Float(1.5)),
            (SqlType::Double, Datum::Double(-0.0)),
            (SqlType::Decimal(20, 3), Datum::Decimal(-1_234_567)),
            (SqlType::Date, Datum::Days(-1)),
            (SqlType::Timestamp(3), Datum::Ticks(-1)),
            (SqlType::TimestampLtz(6), Datum::Ticks(7)),
            (SqlType::Bytes, Datum::Bytes(Cow::Borrowed(b"\xff"))),
        ];
        for (ty, value) in cases {
            let array = column(&ty, [value.clone(), Datum::Null].into_iter(), 0);
            assert_eq!(array.data_type(), &ty.arrow(), "{ty}");
            assert_eq!([read(&array, &ty, 0), read(&array, &ty, 1)], [value, Datum::Null], "{ty}");
        }
    }
}
