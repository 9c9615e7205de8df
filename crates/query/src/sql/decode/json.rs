//! Format `json`: the record is a JSON object. Fields are read straight into the cells of their slots, without a tree in
//! memory; unknown fields are skipped, of equal keys the last one counts, and a field that is missing is NULL. A scalar
//! is converted to its column's type as Flink does it: numbers become text as they are written, text is parsed.

use std::borrow::Cow;
use std::fmt;

use serde::de::{self, DeserializeSeed, Deserializer, IgnoredAny, MapAccess, Visitor};
use serde_json::value::RawValue;

use super::super::cursor::excerpt;
use super::super::datum::Datum;
use super::super::functions::json::unescape;
use super::super::moment;
use super::super::number;
use super::super::types::SqlType;
use super::{Field, json_style};

/// Options of the format.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Options {
    /// A missing field fails the record.
    pub fail_on_missing: bool,
    /// Timestamps are written as in ISO 8601, with a `T`.
    pub iso_timestamps: bool,
}

/// Decodes a record into its row's cells, which are NULL.
///
/// # Errors
/// Why the record is no such object.
pub fn decode<'a>(
    body: &'a [u8],
    fields: &[Field],
    slots: &[SqlType],
    options: Options,
    cells: &mut [Datum<'a>],
) -> Result<(), String> {
    let mut deserializer = serde_json::Deserializer::from_slice(body);
    let object = Object { fields, slots, options, cells, nullable: false };
    object.deserialize(&mut deserializer).and_then(|_| deserializer.end()).map_err(|error| format!("json: {error}"))
}

/// An object that is being read.
struct Object<'c, 'de> {
    fields: &'c [Field],
    slots: &'c [SqlType],
    options: Options,
    cells: &'c mut [Datum<'de>],
    nullable: bool,
}

impl<'de> DeserializeSeed<'de> for Object<'_, 'de> {
    /// Whether it was an object, and not null.
    type Value = bool;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<bool, D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Object<'_, 'de> {
    type Value = bool;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object")
    }

    fn visit_unit<E: de::Error>(self) -> Result<bool, E> {
        if self.nullable { Ok(false) } else { Err(E::invalid_type(de::Unexpected::Unit, &self)) }
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<bool, A::Error> {
        let mut seen = if self.options.fail_on_missing { vec![false; self.fields.len()] } else { Vec::new() };
        let mut expected = 0;
        while let Some(found) = map.next_key_seed(Name { fields: self.fields, expected })? {
            let Some(at) = found else {
                map.next_value::<IgnoredAny>()?;
                continue;
            };
            expected = at + 1;
            if let Some(seen) = seen.get_mut(at) {
                *seen = true;
            }
            let field = &self.fields[at];
            if let Some(fields) = &field.row {
                clear(field, self.cells);
                let Self { slots, options, .. } = self;
                let row = Object { fields, slots, options, cells: &mut *self.cells, nullable: true };
                let present = map.next_value_seed(row)?;
                self.cells[field.slot] = Datum::Bool(present);
                continue;
            }
            let raw: &'de RawValue = map.next_value()?;
            self.cells[field.slot] = scalar(raw.get(), &self.slots[field.slot], self.options)
                .map_err(|cause| de::Error::custom(format!("field `{}`: {cause}", field.name)))?;
        }
        match seen.iter().position(|seen| !seen) {
            Some(missing) => Err(de::Error::custom(format!("field `{}` is missing", self.fields[missing].name))),
            None => Ok(true),
        }
    }
}

/// Takes back what an earlier field of the same name has put there.
fn clear(field: &Field, cells: &mut [Datum<'_>]) {
    cells[field.slot] = Datum::Null;
    field.row.iter().flatten().for_each(|field| clear(field, cells));
}

/// A key that is looked up among the fields; they mostly come in the declared order.
struct Name<'c> {
    fields: &'c [Field],
    expected: usize,
}

impl<'de> DeserializeSeed<'de> for Name<'_> {
    type Value = Option<usize>;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Self::Value, D::Error> {
        deserializer.deserialize_str(self)
    }
}

impl Visitor<'_> for Name<'_> {
    type Value = Option<usize>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a key")
    }

    fn visit_str<E: de::Error>(self, name: &str) -> Result<Self::Value, E> {
        let is_named = |at: &usize| self.fields[*at].name == name;
        let expected = self.expected.min(self.fields.len());
        Ok((expected..self.fields.len()).chain(0..expected).find(is_named))
    }
}

/// A JSON value as a value of that type.
fn scalar<'a>(raw: &'a str, ty: &SqlType, options: Options) -> Result<Datum<'a>, String> {
    let first = raw.as_bytes()[0];
    if first == b'n' {
        return Ok(Datum::Null);
    }
    let text = if first == b'"' { unescape(raw)? } else { Cow::Borrowed(raw) };
    let mistyped = || format!("{} is no {ty}", excerpt(raw));
    if matches!(first, b'{' | b'[') {
        return if ty.is_text() { Ok(Datum::Text(compact(raw).into())) } else { Err(mistyped()) };
    }
    let number = matches!(first, b'-' | b'0'..=b'9');
    let instant = matches!(ty, SqlType::TimestampLtz(_));
    let value = match ty {
        SqlType::Char(_) | SqlType::Varchar(_) => return Ok(Datum::Text(text)),
        SqlType::Boolean => Some(Datum::Bool(text.trim().eq_ignore_ascii_case("true"))),
        SqlType::TinyInt => integer(&text, number, i8::MIN.into(), i8::MAX.into()),
        SqlType::SmallInt => integer(&text, number, i16::MIN.into(), i16::MAX.into()),
        SqlType::Int => integer(&text, number, i32::MIN.into(), i32::MAX.into()),
        SqlType::BigInt => integer(&text, number, i64::MIN, i64::MAX),
        SqlType::Float => number::float(&text).map(Datum::Float),
        SqlType::Double => number::double(&text).map(Datum::Double),
        SqlType::Decimal(precision, scale) => number::double(&text)
            .map(|_| number::decimal(&text, *precision, *scale).map_or(Datum::Null, Datum::Decimal)),
        SqlType::Date if first == b'"' => moment::strict_date(&text).map(Datum::Days),
        SqlType::Timestamp(digits) | SqlType::TimestampLtz(digits) if first == b'"' => {
            moment::timestamp(&text, json_style(options.iso_timestamps, instant), *digits).map(Datum::Ticks)
        }
        _ => None,
    };
    value.ok_or_else(mistyped)
}

/// A whole number; fractions of JSON numbers are cut off, text is taken whole.
fn integer(text: &str, number: bool, min: i64, max: i64) -> Option<Datum<'static>> {
    let value = match text.trim().parse::<i64>() {
        Ok(value) => value,
        Err(_) if !number => return None,
        Err(_) => {
            let value: f64 = text.parse().ok()?;
            let whole = text.bytes().all(|b| b.is_ascii_digit() || b == b'-');
            let bounded = !whole && value > -9.3e18 && value < 9.2e18;
            bounded.then_some(value as i64)?
        }
    };
    (min..=max).contains(&value).then_some(Datum::Int(value))
}

/// JSON without the white space between its tokens.
fn compact(raw: &str) -> String {
    let (mut in_string, mut escaped) = (false, false);
    raw.chars()
        .filter(|c| {
            let kept = in_string || !c.is_ascii_whitespace();
            match c {
                _ if escaped => escaped = false,
                '\\' if in_string => escaped = true,
                '"' => in_string = !in_string,
                _ => {}
            }
            kept
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sql::types::STRING;
    use proptest::prelude::*;

    /// `a STRING, b ROW<c INT>, d DECIMAL(4, 1), e TIMESTAMP_LTZ(3)`
    fn layout() -> (Vec<Field>, Vec<SqlType>) {
        let leaf = |name: &str, slot| Field { name: name.to_owned(), slot, row: None };
        let row = Field { name: "b".to_owned(), slot: 1, row: Some(vec![leaf("c", 2)]) };
        let slots = vec![STRING, SqlType::Boolean, SqlType::Int, SqlType::Decimal(4, 1), SqlType::TimestampLtz(3)];
        (vec![leaf("a", 0), row, leaf("d", 3), leaf("e", 4)], slots)
    }

    fn decoded(body: &str, options: Options) -> Result<Vec<Datum<'_>>, String> {
        let (fields, slots) = layout();
        let mut cells = vec![Datum::Null; slots.len()];
        decode(body.as_bytes(), &fields, &slots, options, &mut cells).map(|()| cells)
    }

    #[test]
    fn values_are_converted_as_flink_does() {
        let first = |body| decoded(body, Options::default()).map(|cells| cells[0].clone());
        assert_eq!(first(r#"{"a":1.50}"#), Ok(Datum::text("1.50")));
        assert_eq!(first(r#"{"a":{"x": [1, " y "]}}"#), Ok(Datum::text(r#"{"x":[1," y "]}"#)));
        assert_eq!(first(r#"{"x":{"a":1},"a":"\u00fc"}"#), Ok(Datum::text("ü")));
        assert_eq!(first(r#"{"a":1,"a":null}"#), Ok(Datum::Null));
        assert_eq!(first(r#"{"A":1}"#), Ok(Datum::Null));
        let nested = |body| decoded(body, Options::default()).map(|cells| cells[1..3].to_vec());
        assert_eq!(nested(r#"{"b":{"c":" 7 "}}"#), Ok(vec![Datum::Bool(true), Datum::Int(7)]));
        assert_eq!(nested(r#"{"b":{"c":7},"b":null}"#), Ok(vec![Datum::Bool(false), Datum::Null]));
        assert_eq!(nested(r#"{"b":{"c":7.9}}"#), Ok(vec![Datum::Bool(true), Datum::Int(7)]));
        let decimal = |body| decoded(body, Options::default()).map(|cells| cells[3].clone());
        assert_eq!(decimal(r#"{"d":1.25}"#), Ok(Datum::Decimal(13)));
        assert_eq!(decimal(r#"{"d":1000}"#), Ok(Datum::Null));
    }

    #[test]
    fn what_is_no_such_object_fails_with_its_place() {
        for body in
            ["", "null", "[]", "42", "{", r#"{"a":1} x"#, r#"{"b":1}"#, r#"{"b":{"c":"x"}}"#, r#"{"b":{"c":3e9}}"#]
        {
            let cause = decoded(body, Options::default()).unwrap_err();
            assert!(cause.contains("column"), "{body}: {cause}");
        }
        let strict = Options { fail_on_missing: true, ..Options::default() };
        assert!(decoded(r#"{"a":1,"b":{},"d":1,"e":null}"#, strict).unwrap_err().contains("`c` is missing"));
    }

    #[test]
    fn timestamps_follow_the_declared_standard() {
        let time = |text: &str, iso_timestamps| {
            let body = format!(r#"{{"e":"{text}"}}"#);
            decoded(&body, Options { iso_timestamps, ..Options::default() }).map(|cells| cells[4] == Datum::Ticks(1))
        };
        assert_eq!(time("1970-01-01 00:00:00.001Z", false), Ok(true));
        assert_eq!(time("1970-01-01T00:00:00.001Z", true), Ok(true));
        assert!(time("1970-01-01T00:00:00.001Z", false).is_err());
    }

    proptest! {
        #[test]
        fn no_bytes_panic(body in proptest::collection::vec(any::<u8>(), 0..64)) {
            let (fields, slots) = layout();
            let mut cells = vec![Datum::Null; slots.len()];
            let _ = decode(&body, &fields, &slots, Options::default(), &mut cells);
        }

        #[test]
        fn no_text_like_json_panics(body in r#"\{"[abcde]":[{}\[\]"\\:,a-z0-9.eE+ -]{0,24}\}"#) {
            let _ = decoded(&body, Options::default());
        }
    }
}
