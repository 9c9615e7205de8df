//! A JSON array, each of whose elements is a record, byte for byte as it stands there; or one JSON value that is no array,
//! which is one record. What is no JSON is refused whole.

use std::fmt;

use axum::http::HeaderMap;
use bytes::Bytes;
use serde::Deserializer;
use serde::de::{self, SeqAccess, Visitor};
use serde_json::value::RawValue;
use stream::wire::{Refusal, RefusalReason};

use super::Protocol;
use crate::admit::Gatherer;

/// See the file's header.
pub struct Array;

impl Protocol for Array {
    const PATH: &'static str = "json";

    fn gather(_: &HeaderMap, body: Bytes, records: &mut Gatherer<'_>) -> Result<(), Refusal> {
        let malformed = |error: serde_json::Error| {
            Refusal::new(RefusalReason::Malformed, "request", format!("the body is no JSON: {error}; mend it"))
        };
        let is_array = body.iter().find(|byte| !byte.is_ascii_whitespace()) == Some(&b'[');
        if !is_array {
            let one: &RawValue = serde_json::from_slice(&body).map_err(malformed)?;
            return records.push(body.len() as u64, None, one.get().as_bytes());
        }
        records.expect(0, body.len());
        let mut refusal = None;
        let mut reader = serde_json::Deserializer::from_slice(&body);
        let elements = Elements { body: &body, records, refusal: &mut refusal };
        let read = reader.deserialize_seq(elements).and_then(|()| reader.end());
        match refusal {
            Some(refusal) => Err(refusal),
            None => read.map_err(malformed),
        }
    }
}

/// Takes elements as they are read, so that a limit is hit before more than it allows is in memory. An element's range
/// begins where the one before it ends; the last one's has what stands behind it, so that together they cover the body.
struct Elements<'a, 'g> {
    body: &'a [u8],
    records: &'a mut Gatherer<'g>,
    refusal: &'a mut Option<Refusal>,
}

impl<'de> Visitor<'de> for Elements<'_, '_> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an array")
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut elements: A) -> Result<(), A::Error> {
        let mut next: Option<&RawValue> = elements.next_element()?;
        while let Some(element) = next {
            next = elements.next_element()?;
            let text = element.get().as_bytes();
            let end = text.as_ptr() as usize + text.len() - self.body.as_ptr() as usize;
            let range_end = if next.is_some() { end } else { self.body.len() };
            if let Err(refusal) = self.records.push(range_end as u64, None, text) {
                *self.refusal = Some(refusal);
                return Err(de::Error::custom("refused"));
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::admit::tests::gathered;
    use stream::Range;

    #[test]
    fn elements_are_records_as_they_stand() {
        let body = br#" [ {"a": [1, 2]} , "x,]" ,3 ] "#;
        let found = gathered::<Array>(body).unwrap();
        let expected = [(0, 16, r#"{"a": [1, 2]}"#), (16, 24, r#""x,]""#), (24, 30, "3")];
        let expected: Vec<_> =
            expected.into_iter().map(|(start, end, text)| (Range::new(start, end), Bytes::from(text))).collect();
        assert_eq!(found, expected);
        assert_eq!(gathered::<Array>(br#"{"a": 1}"#).unwrap(), [(Range::new(0, 8), Bytes::from(r#"{"a": 1}"#))]);
    }

    #[test]
    fn what_is_no_json_is_refused() {
        for bad in ["[1, 2", "[1 2]", "{} {}", "[1,]", "nonsense", "[\"\u{1}\"]"] {
            assert_eq!(gathered::<Array>(bad.as_bytes()).unwrap_err().reason, RefusalReason::Malformed, "{bad}");
        }
    }
}
