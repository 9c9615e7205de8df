//! Flink's types as far as the embedded engine knows them: how they are written, which Arrow array holds their values,
//! which type two of them have in common, and which casts exist.

use std::fmt;

use arrow_schema::{DataType, Field, TimeUnit};

/// Longest VARCHAR, which is what STRING means.
pub const LENGTH_MAX: u32 = i32::MAX as u32;
/// STRING.
pub const STRING: SqlType = SqlType::Varchar(LENGTH_MAX);
/// Most digits of a DECIMAL.
pub const DECIMAL_DIGITS_MAX: u8 = 38;
/// Most fraction digits of a timestamp here: Arrow's microseconds. Flink knows 9.
pub const FRACTION_DIGITS_MAX: u8 = 6;

/// A type of Flink SQL.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum SqlType {
    /// The type of a bare NULL.
    Null,
    /// CHAR(n), in code points.
    Char(u32),
    /// VARCHAR(n), in code points; STRING is the longest.
    Varchar(u32),
    /// BOOLEAN.
    Boolean,
    /// TINYINT, 8 bits.
    TinyInt,
    /// SMALLINT, 16 bits.
    SmallInt,
    /// INT, 32 bits.
    Int,
    /// BIGINT, 64 bits.
    BigInt,
    /// FLOAT, 32 bits.
    Float,
    /// DOUBLE, 64 bits.
    Double,
    /// DECIMAL(precision, scale).
    Decimal(u8, u8),
    /// DATE.
    Date,
    /// TIMESTAMP(fraction digits), without a zone.
    Timestamp(u8),
    /// TIMESTAMP_LTZ(fraction digits), an instant.
    TimestampLtz(u8),
    /// BYTES.
    Bytes,
    /// ROW<name type, ...>.
    Row(Vec<(String, SqlType)>),
}

use SqlType::{
    BigInt, Boolean, Bytes, Char, Date, Decimal, Double, Float, Int, Null, Row, SmallInt, Timestamp, TimestampLtz,
    TinyInt, Varchar,
};

impl SqlType {
    /// Whether it is CHAR or VARCHAR.
    pub fn is_text(&self) -> bool {
        matches!(self, Char(_) | Varchar(_))
    }

    /// Whether it is a whole number.
    pub fn is_integer(&self) -> bool {
        matches!(self, TinyInt | SmallInt | Int | BigInt)
    }

    /// Whether it is FLOAT or DOUBLE.
    pub fn is_approximate(&self) -> bool {
        matches!(self, Float | Double)
    }

    /// Whether one can calculate with it.
    pub fn is_numeric(&self) -> bool {
        self.is_integer() || self.is_approximate() || matches!(self, Decimal(..))
    }

    /// Whether it is TIMESTAMP or TIMESTAMP_LTZ.
    pub fn is_timestamp(&self) -> bool {
        matches!(self, Timestamp(_) | TimestampLtz(_))
    }

    /// Precision and scale of an exact number seen as a DECIMAL.
    pub fn digits(&self) -> Option<(u8, u8)> {
        match self {
            TinyInt => Some((3, 0)),
            SmallInt => Some((5, 0)),
            Int => Some((10, 0)),
            BigInt => Some((19, 0)),
            Decimal(precision, scale) => Some((*precision, *scale)),
            _ => None,
        }
    }

    /// The Arrow type that holds its values.
    pub fn arrow(&self) -> DataType {
        match self {
            Null => DataType::Null,
            Char(_) | Varchar(_) => DataType::Utf8,
            Boolean => DataType::Boolean,
            TinyInt => DataType::Int8,
            SmallInt => DataType::Int16,
            Int => DataType::Int32,
            BigInt => DataType::Int64,
            Float => DataType::Float32,
            Double => DataType::Float64,
            Decimal(precision, scale) => DataType::Decimal128(*precision, *scale as i8),
            Date => DataType::Date32,
            Timestamp(digits) => DataType::Timestamp(unit(*digits), None),
            TimestampLtz(digits) => DataType::Timestamp(unit(*digits), Some("UTC".into())),
            Bytes => DataType::Binary,
            Row(fields) => {
                DataType::Struct(fields.iter().map(|(name, ty)| Field::new(name, ty.arrow(), true)).collect())
            }
        }
    }
}

fn unit(fraction_digits: u8) -> TimeUnit {
    if fraction_digits <= 3 { TimeUnit::Millisecond } else { TimeUnit::Microsecond }
}

/// Ticks per second in the Arrow array of a timestamp with that many fraction digits.
pub fn ticks_per_second(fraction_digits: u8) -> i64 {
    if fraction_digits <= 3 { 1_000 } else { 1_000_000 }
}

impl fmt::Display for SqlType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Null => f.write_str("NULL"),
            Char(n) => write!(f, "CHAR({n})"),
            Varchar(LENGTH_MAX) => f.write_str("STRING"),
            Varchar(n) => write!(f, "VARCHAR({n})"),
            Boolean => f.write_str("BOOLEAN"),
            TinyInt => f.write_str("TINYINT"),
            SmallInt => f.write_str("SMALLINT"),
            Int => f.write_str("INT"),
            BigInt => f.write_str("BIGINT"),
            Float => f.write_str("FLOAT"),
            Double => f.write_str("DOUBLE"),
            Decimal(precision, scale) => write!(f, "DECIMAL({precision}, {scale})"),
            Date => f.write_str("DATE"),
            Timestamp(digits) => write!(f, "TIMESTAMP({digits})"),
            TimestampLtz(digits) => write!(f, "TIMESTAMP_LTZ({digits})"),
            Bytes => f.write_str("BYTES"),
            Row(fields) => {
                f.write_str("ROW<")?;
                for (i, (name, ty)) in fields.iter().enumerate() {
                    let (comma, name) = (if i == 0 { "" } else { ", " }, name.replace('`', "``"));
                    write!(f, "{comma}`{name}` {ty}")?;
                }
                f.write_str(">")
            }
        }
    }
}

/// The type that holds the values of both, as in CASE, COALESCE and comparisons; `None` if Flink mixes them not.
pub fn common(a: &SqlType, b: &SqlType) -> Option<SqlType> {
    match (a, b) {
        _ if a == b => Some(a.clone()),
        (Null, other) | (other, Null) => Some(other.clone()),
        (Char(n) | Varchar(n), Char(m) | Varchar(m)) => Some(Varchar(*n.max(m))),
        (Timestamp(n), Timestamp(m)) => Some(Timestamp(*n.max(m))),
        (TimestampLtz(n), TimestampLtz(m)) => Some(TimestampLtz(*n.max(m))),
        _ if a.is_integer() && b.is_integer() => Some(if a.digits() > b.digits() { a.clone() } else { b.clone() }),
        _ if a.is_approximate() || b.is_approximate() => {
            let float = |ty: &SqlType| ty.is_integer() || *ty == Float;
            (a.is_numeric() && b.is_numeric()).then(|| if float(a) && float(b) { Float } else { Double })
        }
        _ => {
            let ((p1, s1), (p2, s2)) = (a.digits()?, b.digits()?);
            let scale = s1.max(s2);
            Some(bounded_decimal((p1 - s1).max(p2 - s2) + scale, scale))
        }
    }
}

/// The DECIMAL of a calculation whose exact result has that precision and scale: beyond 38 digits the scale gives way,
/// down to 6.
pub fn bounded_decimal(precision: u8, scale: u8) -> SqlType {
    if precision <= DECIMAL_DIGITS_MAX {
        return Decimal(precision, scale);
    }
    let whole = precision - scale;
    Decimal(DECIMAL_DIGITS_MAX, DECIMAL_DIGITS_MAX.saturating_sub(whole).max(scale.min(6)))
}

/// Whether CAST knows a way from one type to the other.
pub fn castable(from: &SqlType, to: &SqlType) -> bool {
    match (from, to) {
        _ if from == to => true,
        (_, Null) | (_, Row(_)) | (Row(_), _) => *from == Null,
        (Null, _) => true,
        (Char(_) | Varchar(_), _) => true,
        (Bytes, _) => to.is_text(),
        (_, Char(_) | Varchar(_)) => true,
        (Boolean, _) => to.is_numeric(),
        (Date | Timestamp(_) | TimestampLtz(_), _) => *to == Date || to.is_timestamp(),
        _ => from.is_numeric() && (to.is_numeric() || *to == Boolean),
    }
}

/// Whether INSERT may convert without being told: no value can be lost or fail.
pub fn insertable(from: &SqlType, to: &SqlType) -> bool {
    match (from, to) {
        _ if from == to || *from == Null => true,
        _ if from.is_text() && to.is_text() => true,
        (Timestamp(n), Timestamp(m)) | (TimestampLtz(n), TimestampLtz(m)) => n <= m,
        (Date, Timestamp(_) | TimestampLtz(_)) => true,
        (_, Decimal(precision, scale)) => from.digits().is_some_and(|(p, s)| s <= *scale && p - s <= precision - scale),
        _ if from.is_integer() && to.is_integer() => from.digits() < to.digits(),
        _ => from.digits().is_some() && to.is_approximate() || (from, to) == (&Float, &Double),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn common_types_are_flinks() {
        let cases = [
            (Char(1), Char(4), Some(Varchar(4))),
            (Char(4), STRING, Some(STRING)),
            (TinyInt, Int, Some(Int)),
            (Int, Decimal(2, 1), Some(Decimal(11, 1))),
            (Decimal(38, 0), Decimal(38, 30), Some(Decimal(38, 6))),
            (Int, Float, Some(Float)),
            (Decimal(3, 1), Float, Some(Double)),
            (Null, Date, Some(Date)),
            (STRING, Int, None),
            (Timestamp(3), TimestampLtz(3), None),
        ];
        for (a, b, expected) in cases {
            assert_eq!(common(&a, &b), expected, "{a} and {b}");
            assert_eq!(common(&b, &a), expected, "{b} and {a}");
        }
    }

    #[test]
    fn insert_widens_and_never_narrows() {
        let cases = [
            (Int, BigInt, true),
            (BigInt, Int, false),
            (Int, Decimal(10, 0), true),
            (Int, Decimal(10, 2), false),
            (STRING, Varchar(3), true),
            (STRING, Int, false),
            (TimestampLtz(3), Timestamp(3), false),
            (Float, Double, true),
            (Double, Float, false),
        ];
        for (from, to, expected) in cases {
            assert_eq!(insertable(&from, &to), expected, "{from} to {to}");
            assert!(!expected || castable(&from, &to), "{from} to {to} is inserted but not cast");
        }
    }
}
