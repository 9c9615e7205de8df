//! JSON_VALUE. The document is walked once along the path, without a tree in memory. As in Flink, whatever follows the
//! first JSON value is not looked at, of equal keys the last one counts, and a path without a mode is strict: what is
//! missing is an error, and NULL is what an error yields unless ON ERROR says otherwise.

use std::borrow::Cow;
use std::fmt;

use serde::de::{DeserializeSeed, Deserializer, IgnoredAny, MapAccess, SeqAccess, Visitor};
use serde::{Deserialize, de};
use serde_json::value::RawValue;

use super::super::cursor::excerpt;
use super::super::datum::Datum;
use super::super::eval::Outcome;
use super::super::number;
use super::super::types::SqlType;

/// Most steps of a path.
const STEPS_MAX: usize = 64;

/// JSON_VALUE with everything but its document.
#[derive(Clone, Debug)]
pub struct JsonValue {
    /// Where to look.
    pub path: Path,
    /// The type of the value.
    pub returning: SqlType,
    /// What an absent value yields; `Err` fails the row.
    pub on_empty: Result<Datum<'static>, ()>,
    /// What an error yields; `Err` fails the row.
    pub on_error: Result<Datum<'static>, ()>,
}

/// A JSON path.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Path {
    /// Missing parts make the value absent, instead of being an error.
    lax: bool,
    target: Target,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Target {
    One(Vec<Step>),
    /// A list of matches, which is never one value.
    Many,
    /// No path; Flink finds that out at the first record and takes it for an error of the record.
    Invalid,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Step {
    Key(String),
    Index(usize),
}

impl Path {
    /// Reads a path.
    ///
    /// # Errors
    /// What in it is not supported here.
    pub fn new(text: &str) -> Result<Self, String> {
        let words = text.trim_start();
        let mode = words.split_once(char::is_whitespace).filter(|(mode, _)| matches!(*mode, "lax" | "strict"));
        let (mode, spec) = mode.unwrap_or(("strict", text));
        let spec = spec.trim();
        let steps = match spec.strip_prefix('$') {
            Some(steps) => Cow::Borrowed(steps),
            None => Cow::Owned(format!(".{spec}")),
        };
        Ok(Self { lax: mode == "lax", target: target(&steps)? })
    }

    /// Whether it is a path at all.
    pub fn is_valid(&self) -> bool {
        self.target != Target::Invalid
    }
}

fn target(mut rest: &str) -> Result<Target, String> {
    let mut steps = Vec::new();
    while !rest.is_empty() {
        if steps.len() == STEPS_MAX {
            return Err(format!("a path of more than {STEPS_MAX} steps"));
        }
        let step = if let Some(inner) = rest.strip_prefix('[') {
            let Some((inside, after)) = bracket(inner) else { return Ok(Target::Invalid) };
            rest = after;
            inside
        } else if let Some(name) = rest.strip_prefix('.') {
            let end = name.find(['.', '[']).unwrap_or(name.len());
            rest = &name[end..];
            match &name[..end] {
                "" if rest.starts_with('.') => return Ok(Target::Many),
                "" => return Ok(Target::Invalid),
                "*" => return Ok(Target::Many),
                name if name.ends_with(')') => return Err("functions in a path".to_owned()),
                name => Step::Key(name.to_owned()),
            }
        } else {
            return Ok(Target::Invalid);
        };
        match step {
            Step::Key(ref key) if key.is_empty() => return Ok(Target::Many),
            step => steps.push(step),
        }
    }
    Ok(Target::One(steps))
}

/// The step inside a bracket, and what stands behind it. An empty key stands for a list of matches.
fn bracket(inner: &str) -> Option<(Step, &str)> {
    if let Some(quote @ ('\'' | '"')) = inner.chars().next() {
        let (key, after) = inner[1..].split_once(quote)?;
        return Some((Step::Key(key.to_owned()), after.trim_start().strip_prefix(']')?));
    }
    let (inside, after) = inner.split_once(']')?;
    let step = match inside.trim().parse() {
        Ok(index) => Step::Index(index),
        Err(_) => Step::Key(String::new()),
    };
    Some((step, after))
}

impl JsonValue {
    /// The value in a document.
    ///
    /// # Errors
    /// The value is not of the type it is declared to be, or ERROR ON EMPTY or ON ERROR applies.
    pub fn value<'a>(&self, document: &'a str) -> Outcome<'a> {
        let or = |otherwise: &Result<Datum<'static>, ()>, what: &str| {
            otherwise.clone().map_err(|()| format!("JSON_VALUE: {what} in '{}'", excerpt(document)))
        };
        let Target::One(steps) = &self.path.target else {
            let empty = self.path.lax && self.path.is_valid() && find(document, &[]).is_ok();
            return if empty { or(&self.on_empty, "no value") } else { or(&self.on_error, "no single value") };
        };
        match find(document, steps).map(|found| found.map(RawValue::get)) {
            Err(_) => or(&self.on_error, "no JSON"),
            Ok(Some(raw)) if !matches!(raw.as_bytes()[0], b'{' | b'[' | b'n') => typed(raw, &self.returning),
            Ok(_) if self.path.lax => or(&self.on_empty, "no value"),
            Ok(_) => or(&self.on_error, "no value"),
        }
    }
}

/// A JSON scalar as a value of that type. Flink converts nothing here: a number of the wrong kind fails.
fn typed<'a>(raw: &'a str, ty: &SqlType) -> Outcome<'a> {
    let whole = || raw.bytes().all(|b| b.is_ascii_digit() || b == b'-');
    let mistyped = || Err(format!("JSON_VALUE: {} is no {ty}", excerpt(raw)));
    match (raw.as_bytes()[0], ty) {
        (b'"', SqlType::Char(_) | SqlType::Varchar(_)) => unescape(raw).map(Datum::Text),
        (b't' | b'f', SqlType::Boolean) => Ok(Datum::Bool(raw == "true")),
        (b't' | b'f', _) if ty.is_text() => Ok(Datum::text(raw)),
        (b'-' | b'0'..=b'9', _) if ty.is_text() && whole() => Ok(Datum::text(if raw == "-0" { "0" } else { raw })),
        (b'-' | b'0'..=b'9', _) if ty.is_text() => {
            Ok(Datum::Text(number::show_double(raw.parse().unwrap_or_default()).into()))
        }
        (b'-' | b'0'..=b'9', SqlType::Int) if whole() => match raw.parse::<i32>() {
            Ok(number) => Ok(Datum::Int(number.into())),
            Err(_) => mistyped(),
        },
        (b'-' | b'0'..=b'9', SqlType::Double) if !whole() => Ok(Datum::Double(raw.parse().unwrap_or_default())),
        _ => mistyped(),
    }
}

/// The text of a JSON string, without its quotes.
///
/// # Errors
/// An escape in it is none.
pub fn unescape(raw: &str) -> Result<Cow<'_, str>, String> {
    if !raw.contains('\\') {
        return Ok(Cow::Borrowed(raw.trim_matches('"')));
    }
    serde_json::from_str(raw).map(Cow::Owned).map_err(|error| format!("a broken string: {error}"))
}

/// What stands at the end of `steps`, if anything does.
fn find<'a>(document: &'a str, steps: &[Step]) -> serde_json::Result<Option<&'a RawValue>> {
    Walk(steps).deserialize(&mut serde_json::Deserializer::from_str(document))
}

/// One step into a document.
struct Walk<'s>(&'s [Step]);

/// A key, borrowed where it can be.
#[derive(Deserialize)]
struct Key<'a>(#[serde(borrow)] Cow<'a, str>);

impl<'de> DeserializeSeed<'de> for Walk<'_> {
    type Value = Option<&'de RawValue>;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Self::Value, D::Error> {
        if self.0.is_empty() {
            return <&RawValue>::deserialize(deserializer).map(Some);
        }
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Walk<'_> {
    type Value = Option<&'de RawValue>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("any JSON value")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
        let mut found = None;
        while let Some(Key(key)) = map.next_key()? {
            match &self.0[0] {
                Step::Key(wanted) if key == *wanted => found = map.next_value_seed(Walk(&self.0[1..]))?,
                _ => drop(map.next_value::<IgnoredAny>()?),
            }
        }
        Ok(found)
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Self::Value, A::Error> {
        let mut found = None;
        let mut at = 0;
        loop {
            let more = match &self.0[0] {
                Step::Index(wanted) if at == *wanted => {
                    let value = seq.next_element_seed(Walk(&self.0[1..]))?;
                    found = value.flatten();
                    value.is_some()
                }
                _ => seq.next_element::<IgnoredAny>()?.is_some(),
            };
            if !more {
                return Ok(found);
            }
            at += 1;
        }
    }

    fn visit_bool<E: de::Error>(self, _: bool) -> Result<Self::Value, E> {
        Ok(None)
    }

    fn visit_i64<E: de::Error>(self, _: i64) -> Result<Self::Value, E> {
        Ok(None)
    }

    fn visit_u64<E: de::Error>(self, _: u64) -> Result<Self::Value, E> {
        Ok(None)
    }

    fn visit_f64<E: de::Error>(self, _: f64) -> Result<Self::Value, E> {
        Ok(None)
    }

    fn visit_str<E: de::Error>(self, _: &str) -> Result<Self::Value, E> {
        Ok(None)
    }

    fn visit_unit<E: de::Error>(self) -> Result<Self::Value, E> {
        Ok(None)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sql::types::STRING;
    use proptest::prelude::*;

    fn value(path: &str, document: &str) -> Outcome<'static> {
        let path = Path::new(path)?;
        let json = JsonValue { path, returning: STRING, on_empty: Ok(Datum::text("empty")), on_error: Err(()) };
        json.value(document).map(|value| Datum::Text(value.as_text().to_owned().into()))
    }

    #[test]
    fn lax_takes_what_is_missing_for_absent_and_strict_for_an_error() {
        assert_eq!(value("lax $.a.b", r#"{"a":1}"#), Ok(Datum::text("empty")));
        assert!(value("$.a.b", r#"{"a":1}"#).is_err());
        assert_eq!(value("$.a[1].b", r#"{"a":[0,{"b":"\u00fc"}]}"#), Ok(Datum::text("ü")));
        assert!(value("lax $.a", "{").is_err(), "no JSON is an error in both");
        assert!(Path::new("$.a.length()").is_err());
    }

    proptest! {
        #[test]
        fn no_path_and_no_document_panics(path in "[$.a\\[\\]'*0-9\" ]{0,12}", document in "[{}\\[\\]\":,a0-9tnul\\\\.-]{0,24}") {
            let _ = value(&path, &document);
        }
    }
}
