//! Newline-delimited records. An empty line is an empty record; a trailing newline ends the last record and may be
//! missing; nothing else is stripped, and bytes need not be UTF-8.

use axum::http::HeaderMap;
use bytes::Bytes;
use stream::wire::Refusal;

use super::Protocol;
use crate::admit::Gatherer;

/// See the file's header.
pub struct Lines;

impl Protocol for Lines {
    const PATH: &'static str = "records";
    // Found and copied at gigabytes a second.
    const AT_ONCE_BYTES_MAX: usize = 256 * 1024;

    fn gather(_: &HeaderMap, body: &Bytes, records: &mut Gatherer<'_>) -> Result<(), Refusal> {
        records.expect(memchr::memchr_iter(b'\n', body).count() + 1);
        let mut start = 0;
        while start < body.len() {
            let end = memchr::memchr(b'\n', &body[start..]).map_or(body.len(), |at| start + at);
            // A record's range is its bytes with its newline.
            let next = (end + 1).min(body.len());
            records.push(next as u64, None, &body[start..end])?;
            start = next;
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
    fn lines_are_cut_at_newlines_and_nowhere_else() {
        for (body, expected) in [
            ("a\nb\n", vec![("a", 0, 2), ("b", 2, 4)]),
            ("a\nb", vec![("a", 0, 2), ("b", 2, 3)]),
            ("\n", vec![("", 0, 1)]),
            ("\n\na\r\n \n", vec![("", 0, 1), ("", 1, 2), ("a\r", 2, 5), (" ", 5, 7)]),
        ] {
            let expected: Vec<_> =
                expected.into_iter().map(|(body, start, end)| (Range::new(start, end), Bytes::from(body))).collect();
            assert_eq!(gathered::<Lines>(body.as_bytes()).unwrap(), expected, "{body:?}");
        }
    }
}
