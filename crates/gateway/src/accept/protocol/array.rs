//! A JSON array, each of whose elements is a record, byte for byte as it stands there; or one JSON value that is no array,
//! which is one record. What is no JSON is refused whole.

use axum::http::HeaderMap;
use bytes::Bytes;
use serde_json::value::RawValue;
use stream::wire::{Refusal, RefusalReason};

use super::Protocol;
use crate::admit::Gatherer;

/// See the file's header.
pub struct Array;

impl Protocol for Array {
    const PATH: &'static str = "json";

    fn gather(_: &HeaderMap, body: &Bytes, records: &mut Gatherer<'_>) -> Result<(), Refusal> {
        let is_array = body.iter().find(|byte| !byte.is_ascii_whitespace()) == Some(&b'[');
        let read =
            if is_array { serde_json::from_slice(body) } else { serde_json::from_slice(body).map(|one| vec![one]) };
        let elements: Vec<&RawValue> = read.map_err(|error| {
            Refusal::new(RefusalReason::Malformed, "request", format!("the body is no JSON: {error}; mend it"))
        })?;
        let Some((last, before)) = elements.split_last() else { return Ok(()) };
        for element in before {
            let text = element.get().as_bytes();
            let end = text.as_ptr() as usize + text.len() - body.as_ptr() as usize;
            records.push(end as u64, None, text)?;
        }
        // The last one's range has what stands behind it, so that together they cover the body.
        records.push(body.len() as u64, None, last.get().as_bytes())
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
