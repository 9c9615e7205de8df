//! Numbers as text, with the rules of the Java that Flink runs on: what counts as a number, how it is rounded, how it is
//! written.

/// Most significant digits of a text that is looked at as one machine word by Flink's DECIMAL parser.
const SHORT_DECIMAL_BYTES: usize = 18;

/// A whole number with an optional sign; digits behind a point are checked and dropped. Blanks around it do not matter.
pub fn integer(text: &str, min: i64, max: i64) -> Option<i64> {
    let text = text.trim_matches(' ');
    let (negative, digits) = sign(text);
    let (whole, fraction) = digits.split_once('.').unwrap_or((digits, ""));
    let plain = |digits: &str| digits.bytes().all(|b| b.is_ascii_digit());
    if digits.is_empty() || !plain(whole) || !plain(fraction) {
        return None;
    }
    let mut value: i64 = 0;
    for digit in whole.bytes() {
        let digit = i64::from(digit - b'0');
        value = value.checked_mul(10)?.checked_sub(digit)?;
    }
    let value = if negative { value } else { value.checked_neg()? };
    (min..=max).contains(&value).then_some(value)
}

fn sign(text: &str) -> (bool, &str) {
    match text.strip_prefix('-') {
        Some(rest) => (true, rest),
        None => (false, text.strip_prefix('+').unwrap_or(text)),
    }
}

/// What Java's `Double.parseDouble` takes, except for hexadecimal: the text without control characters and blanks
/// around it and without the letter of its type.
fn floating(text: &str) -> Option<&str> {
    let text = text.trim_matches(|c: char| c <= ' ');
    let (_, unsigned) = sign(text);
    if matches!(unsigned, "NaN" | "Infinity") {
        return Some(text);
    }
    let text = text.strip_suffix(['d', 'D', 'f', 'F']).unwrap_or(text);
    let (_, unsigned) = sign(text);
    let (mantissa, exponent) = unsigned.split_once(['e', 'E']).unwrap_or((unsigned, "0"));
    let (whole, fraction) = mantissa.split_once('.').unwrap_or((mantissa, ""));
    let plain = |digits: &str| digits.bytes().all(|b| b.is_ascii_digit());
    let (_, exponent) = sign(exponent);
    let number = plain(whole) && plain(fraction) && !(whole.is_empty() && fraction.is_empty());
    (number && plain(exponent) && !exponent.is_empty()).then_some(text)
}

/// A DOUBLE.
pub fn double(text: &str) -> Option<f64> {
    floating(text)?.parse().ok()
}

/// A FLOAT.
pub fn float(text: &str) -> Option<f32> {
    floating(text)?.parse().ok()
}

/// A DECIMAL. Flink reads short texts by hand and lets one foreign character end the number ("10L"); so do we.
pub fn decimal(text: &str, precision: u8, scale: u8) -> Option<i128> {
    if precision <= 18 && text.len() <= SHORT_DECIMAL_BYTES {
        let (number, rest) = decimal_prefix(text.trim_start_matches([' ', '\n', '\t']).as_bytes())?;
        let end = rest.iter().all(|b| matches!(b, b' ' | b'\n' | b'\t'));
        return if end { number.scaled(precision, scale) } else { None };
    }
    let text = text.trim_matches([' ', '\n', '\t']);
    floating(text).filter(|number| number.len() == text.len() && !text.ends_with(['N', 'y']))?;
    decimal_prefix(text.as_bytes())?.0.scaled(precision, scale)
}

/// Digits with a point somewhere: 0.DIGITS times ten to the power of `point`.
struct Digits {
    negative: bool,
    digits: Vec<u8>,
    point: i64,
}

/// The number that `text` begins with and what is left, less the one character that ended it.
fn decimal_prefix(text: &[u8]) -> Option<(Digits, &[u8])> {
    let negative = text.first()? == &b'-';
    let mut at = usize::from(matches!(text[0], b'-' | b'+'));
    if at == text.len() {
        return None;
    }
    let (mut digits, mut point, mut last) = (Vec::new(), None, 0);
    while at < text.len() {
        last = text[at];
        at += 1;
        match last {
            b'0'..=b'9' => digits.push(last - b'0'),
            b'.' if point.is_some() => return None,
            b'.' => point = Some(digits.len() as i64),
            _ => break,
        }
    }
    let mut point = point.unwrap_or(digits.len() as i64);
    if matches!(last, b'e' | b'E') && at < text.len() {
        let down = text[at] == b'-';
        at += usize::from(matches!(text[at], b'-' | b'+'));
        if at == text.len() {
            return None;
        }
        let mut exponent: i64 = 0;
        while at < text.len() {
            let byte = text[at];
            at += 1;
            if !byte.is_ascii_digit() {
                break;
            }
            exponent = (exponent * 10 + i64::from(byte - b'0')).min(1_000_000);
        }
        point += if down { -exponent } else { exponent };
    }
    Some((Digits { negative, digits, point }, &text[at..]))
}

impl Digits {
    /// The number as a DECIMAL, rounded half up; `None` if it has too many digits.
    fn scaled(mut self, precision: u8, scale: u8) -> Option<i128> {
        let zeros = self.digits.iter().take_while(|digit| **digit == 0).count();
        self.digits.drain(..zeros);
        let kept = self.point - zeros as i64 + i64::from(scale);
        if self.digits.is_empty() || kept < 0 {
            return Some(0);
        }
        if kept > i64::from(precision) {
            return None;
        }
        let kept = kept as usize;
        let digit = |at: usize| i128::from(self.digits.get(at).copied().unwrap_or(0));
        let mut value = (0..kept).fold(0, |value, at| value * 10 + digit(at));
        if digit(kept) >= 5 {
            value += 1;
        }
        let value = if self.negative { -value } else { value };
        fits(value, precision)
    }
}

/// The value if it has at most `precision` digits.
pub fn fits(value: i128, precision: u8) -> Option<i128> {
    (value.unsigned_abs() < 10_u128.pow(precision.into())).then_some(value)
}

/// A DECIMAL with another scale, rounded half up; `None` if it has too many digits.
pub fn rescale(value: i128, from_scale: u8, precision: u8, scale: u8) -> Option<i128> {
    if scale >= from_scale {
        return fits(value.checked_mul(10_i128.pow((scale - from_scale).into()))?, precision);
    }
    let unit = 10_i128.pow((from_scale - scale).into());
    let (quotient, rest) = (value / unit, value % unit);
    let away = i128::from(rest.unsigned_abs() * 2 >= unit.unsigned_abs()) * value.signum();
    fits(quotient + away, precision)
}

/// The DECIMAL nearest to a DOUBLE as it is written; `None` if it has too many digits.
pub fn decimal_of_double(value: f64, precision: u8, scale: u8) -> Option<i128> {
    decimal_prefix(format!("{value:e}").as_bytes())?.0.scaled(precision, scale)
}

/// A DECIMAL as text.
pub fn show_decimal(value: i128, scale: u8) -> String {
    let digits = format!("{:0width$}", value.unsigned_abs(), width = usize::from(scale) + 1);
    let (whole, fraction) = digits.split_at(digits.len() - usize::from(scale));
    let sign = if value < 0 { "-" } else { "" };
    if fraction.is_empty() { format!("{sign}{whole}") } else { format!("{sign}{whole}.{fraction}") }
}

/// A DOUBLE as Java writes it.
pub fn show_double(value: f64) -> String {
    let shortest = if format!("{value:e}").contains('.') { format!("{value:e}") } else { format!("{value:.1e}") };
    show(value, 53, &shortest)
}

/// A FLOAT as Java writes it.
pub fn show_float(value: f32) -> String {
    let shortest = if format!("{value:e}").contains('.') { format!("{value:e}") } else { format!("{value:.1e}") };
    show(value.into(), 24, &shortest)
}

/// `value`, whose type has that many significant bits and whose shortest form is given. Java before 19, which Flink 1.20
/// runs on, writes whole numbers below 2^63 with more digits than needed.
fn show(value: f64, significant_bits: i32, shortest: &str) -> String {
    if value.is_nan() {
        return "NaN".to_owned();
    }
    let sign = if value.is_sign_negative() { "-" } else { "" };
    if value.is_infinite() {
        return format!("{sign}Infinity");
    }
    let magnitude = value.abs();
    if magnitude == 0.0 {
        return format!("{sign}0.0");
    }
    let (digits, exponent) = if magnitude.fract() == 0.0 && magnitude < 2_f64.powi(63) {
        whole_digits(magnitude, significant_bits)
    } else {
        let (mantissa, exponent) = shortest.trim_start_matches('-').split_once('e').unwrap_or((shortest, "0"));
        (mantissa.replace('.', ""), exponent.parse().unwrap_or(0))
    };
    let digits = match digits.trim_end_matches('0') {
        "" => "0",
        digits => digits,
    };
    let plain = (1e-3..1e7).contains(&magnitude);
    match exponent {
        _ if !plain => {
            let (first, rest) = digits.split_at(1);
            format!("{sign}{first}.{}E{exponent}", if rest.is_empty() { "0" } else { rest })
        }
        ..0 => format!("{sign}0.{}{digits}", "0".repeat((-exponent - 1) as usize)),
        _ => {
            let whole = exponent as usize + 1;
            let padded = format!("{digits:0<whole$}");
            let (whole, fraction) = padded.split_at(whole);
            format!("{sign}{whole}.{}", if fraction.is_empty() { "0" } else { fraction })
        }
    }
}

/// Digits of a whole number below 2^63, less those that its type cannot hold, and its decimal exponent.
fn whole_digits(magnitude: f64, significant_bits: i32) -> (String, i32) {
    let binary_exponent = (magnitude.to_bits() >> 52) as i32 - 1_023;
    let beyond = (binary_exponent - significant_bits - 1).max(0);
    let dropped = (f64::from(beyond) * std::f64::consts::LOG10_2).floor() as u32;
    let unit = 10_u64.pow(dropped);
    let value = magnitude as u64;
    let digits = (value / unit + u64::from(dropped > 0 && value % unit >= unit / 2)).to_string();
    let exponent = (digits.len() as u32 + dropped) as i32 - 1;
    (digits, exponent)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn rounding_is_half_up() {
        let cases = [(15, 1, 2), (-15, 1, -2), (14, 1, 1), (25, 1, 3), (-14, 1, -1), (149, 2, 1), (150, 2, 2)];
        for (value, from, expected) in cases {
            assert_eq!(rescale(value, from, 10, 0), Some(expected), "{value}");
        }
        assert_eq!(rescale(99, 1, 1, 0), None, "9.9 has two digits when rounded");
        assert_eq!(decimal("9.995", 3, 2), None);
        assert_eq!(decimal("1234567890123456789.5", 20, 0), Some(1_234_567_890_123_456_790));
        assert_eq!(decimal("NaN", 20, 0), None);
    }

    proptest! {
        #[test]
        fn nothing_panics_on_any_text(text in "\\PC{0,30}") {
            let _ = (integer(&text, i64::MIN, i64::MAX), double(&text), float(&text));
            let _ = (decimal(&text, 10, 2), decimal(&text, 38, 10));
        }

        #[test]
        fn doubles_survive_their_text(bits: u64) {
            let value = f64::from_bits(bits);
            prop_assume!(!value.is_nan());
            prop_assert_eq!(double(&show_double(value)), Some(value), "{}", show_double(value));
        }

        #[test]
        fn decimals_survive_their_text(value in -(10_i128.pow(18))..10_i128.pow(18), scale in 0_u8..19) {
            prop_assert_eq!(decimal(&show_decimal(value, scale), 38, scale), Some(value));
        }

        #[test]
        fn integers_are_read_as_rust_reads_them(value: i64) {
            prop_assert_eq!(integer(&format!(" {value}.5 "), i64::MIN, i64::MAX), Some(value));
        }
    }
}
