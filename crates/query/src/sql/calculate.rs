//! Calculation: whole numbers wrap around as in Java, a DECIMAL that outgrows its type becomes NULL, and a division by
//! zero fails its row.

use arrow_array::ArrayRef;
use arrow_buffer::i256;

use super::datum::{self, Datum};
use super::eval::{Outcome, Rows};
use super::number;
use super::syntax::Calculation;
use super::types::{SqlType, bounded_decimal};

/// The type of a calculation with operands of these types; `None` if Flink has none.
pub fn result(operator: Calculation, a: &SqlType, b: &SqlType) -> Option<SqlType> {
    if !a.is_numeric() || !b.is_numeric() {
        return None;
    }
    if a.is_approximate() || b.is_approximate() {
        return if operator == Calculation::Remainder { None } else { super::types::common(a, b) };
    }
    if a.is_integer() && b.is_integer() {
        return super::types::common(a, b);
    }
    let ((p1, s1), (p2, s2)) = (a.digits()?, b.digits()?);
    Some(match operator {
        Calculation::Add | Calculation::Subtract => {
            let scale = s1.max(s2);
            bounded_decimal((p1 - s1).max(p2 - s2) + scale + 1, scale)
        }
        Calculation::Multiply => bounded_decimal(p1 + p2 + 1, s1 + s2),
        Calculation::Divide => {
            let scale = (s1 + p2 + 1).max(6);
            bounded_decimal(p1 - s1 + s2 + scale, scale)
        }
        Calculation::Remainder => {
            let scale = s1.max(s2);
            bounded_decimal((p1 - s1).min(p2 - s2) + scale, scale)
        }
    })
}

/// The results of a calculation, row by row.
pub fn calculate(
    operator: Calculation,
    (a, a_type): (&ArrayRef, &SqlType),
    (b, b_type): (&ArrayRef, &SqlType),
    ty: &SqlType,
    rows: &mut Rows<'_>,
) -> ArrayRef {
    rows.map(ty, &[a, b], |row| match (datum::read(a, a_type, row), datum::read(b, b_type, row)) {
        (Datum::Int(a), Datum::Int(b)) => integers(operator, a, b),
        (Datum::Float(a), Datum::Float(b)) => Ok(Datum::Float(floats(operator, a.into(), b.into()) as f32)),
        (Datum::Double(a), Datum::Double(b)) => Ok(Datum::Double(floats(operator, a, b))),
        (Datum::Decimal(a), Datum::Decimal(b)) => decimals(operator, (a, scale(a_type)), (b, scale(b_type)), ty),
        _ => Ok(Datum::Null),
    })
}

/// `-x`, row by row.
pub fn negate(array: &ArrayRef, ty: &SqlType, rows: &mut Rows<'_>) -> ArrayRef {
    rows.map(ty, &[array], |row| {
        Ok(match datum::read(array, ty, row) {
            Datum::Int(value) => Datum::Int(value.wrapping_neg()),
            Datum::Float(value) => Datum::Float(-value),
            Datum::Double(value) => Datum::Double(-value),
            Datum::Decimal(value) => Datum::Decimal(-value),
            _ => Datum::Null,
        })
    })
}

fn scale(ty: &SqlType) -> u8 {
    ty.digits().map_or(0, |(_, scale)| scale)
}

/// Narrower types than BIGINT wrap when they are stored: the low bits are the same.
fn integers(operator: Calculation, a: i64, b: i64) -> Outcome<'static> {
    Ok(Datum::Int(match operator {
        Calculation::Add => a.wrapping_add(b),
        Calculation::Subtract => a.wrapping_sub(b),
        Calculation::Multiply => a.wrapping_mul(b),
        Calculation::Divide | Calculation::Remainder if b == 0 => return Err(format!("{a} is divided by zero")),
        Calculation::Divide => a.wrapping_div(b),
        Calculation::Remainder => a.wrapping_rem(b),
    }))
}

fn floats(operator: Calculation, a: f64, b: f64) -> f64 {
    match operator {
        Calculation::Add => a + b,
        Calculation::Subtract => a - b,
        Calculation::Multiply => a * b,
        Calculation::Divide => a / b,
        Calculation::Remainder => a % b,
    }
}

/// Calculates in 256 bits, which hold every result of two DECIMALs, and rounds half up to the result's scale.
fn decimals(operator: Calculation, (a, s1): (i128, u8), (b, s2): (i128, u8), ty: &SqlType) -> Outcome<'static> {
    let SqlType::Decimal(precision, scale) = *ty else { return Ok(Datum::Null) };
    let ten = |power: u8| i256::from_i128(10).wrapping_pow(power.into());
    let common = s1.max(s2);
    let (wide_a, wide_b) = (i256::from_i128(a), i256::from_i128(b));
    let (left, right) = (wide_a.wrapping_mul(ten(common - s1)), wide_b.wrapping_mul(ten(common - s2)));
    let divides = matches!(operator, Calculation::Divide | Calculation::Remainder);
    if divides && b == 0 {
        return Err(format!("{} is divided by zero", number::show_decimal(a, s1)));
    }
    let (value, value_scale) = match operator {
        Calculation::Add => (left.wrapping_add(right), common),
        Calculation::Subtract => (left.wrapping_sub(right), common),
        Calculation::Multiply => (wide_a.wrapping_mul(wide_b), s1 + s2),
        Calculation::Remainder => (left.wrapping_rem(right), common),
        Calculation::Divide => (rounded_quotient(left.wrapping_mul(ten(scale)), right), scale),
    };
    let value = if value_scale > scale { rounded_quotient(value, ten(value_scale - scale)) } else { value };
    let value = value.to_i128().and_then(|value| number::fits(value, precision));
    Ok(value.map_or(Datum::Null, Datum::Decimal))
}

fn rounded_quotient(a: i256, b: i256) -> i256 {
    let (quotient, rest) = (a.wrapping_div(b), a.wrapping_rem(b));
    let half = rest.wrapping_abs().wrapping_mul(i256::from_i128(2)) >= b.wrapping_abs();
    let away = if (a < i256::ZERO) == (b < i256::ZERO) { i256::ONE } else { i256::MINUS_ONE };
    if half { quotient.wrapping_add(away) } else { quotient }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn types_of_calculations_are_flinks() {
        let decimal = SqlType::Decimal;
        let cases = [
            (Calculation::Divide, SqlType::Int, decimal(2, 1), Some(decimal(17, 6))),
            (Calculation::Divide, decimal(10, 2), SqlType::Int, Some(decimal(21, 13))),
            (Calculation::Multiply, decimal(10, 2), decimal(10, 2), Some(decimal(21, 4))),
            (Calculation::Add, decimal(10, 2), decimal(10, 2), Some(decimal(11, 2))),
            (Calculation::Multiply, decimal(38, 10), decimal(38, 10), Some(decimal(38, 6))),
            (Calculation::Add, SqlType::Int, SqlType::BigInt, Some(SqlType::BigInt)),
            (Calculation::Remainder, SqlType::Double, SqlType::Int, None),
            (Calculation::Add, SqlType::Boolean, SqlType::Int, None),
        ];
        for (operator, a, b, expected) in cases {
            assert_eq!(result(operator, &a, &b), expected, "{operator:?} {a} {b}");
        }
    }

    proptest! {
        #[test]
        fn decimals_never_panic(a in -(10_i128.pow(37))..10_i128.pow(37), b: i64, s1 in 0_u8..=38, s2 in 0_u8..=18) {
            let (ta, tb) = (SqlType::Decimal(38, s1), SqlType::Decimal(19.max(s2), s2));
            for operator in [Calculation::Add, Calculation::Multiply, Calculation::Divide, Calculation::Remainder] {
                let ty = result(operator, &ta, &tb).unwrap();
                let _ = decimals(operator, (a, s1), (b.into(), s2), &ty);
            }
        }

        #[test]
        fn sums_of_decimals_are_exact(a in -10_000_i128..10_000, b in -10_000_i128..10_000) {
            let ty = SqlType::Decimal(10, 3);
            let sum = decimals(Calculation::Add, (a, 1), (b, 3), &ty);
            prop_assert_eq!(sum, Ok(Datum::Decimal(a * 100 + b)));
        }
    }
}
