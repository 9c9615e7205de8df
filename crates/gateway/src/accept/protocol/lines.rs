//! Newline-delimited records. An empty line is an empty record; a trailing newline ends the last record and may be
//! missing; nothing else is stripped, and bytes need not be UTF-8.

use axum::http::HeaderMap;
use bytes::{Bytes, BytesMut};
use stream::wire::Refusal;

use super::Protocol;
use crate::admit::Gatherer;

/// See the file's header.
pub struct Lines;

impl Protocol for Lines {
    const PATH: &'static str = "records";
    // Found and copied at gigabytes a second.
    const AT_ONCE_BYTES_MAX: usize = 256 * 1024;

    /// The lines move together in the buffer that they came in, if it is theirs alone: a copy of each would be the
    /// greatest cost of a long body.
    fn gather(_: &HeaderMap, body: Bytes, records: &mut Gatherer<'_>) -> Result<(), Refusal> {
        let mut bodies = body.try_into_mut().unwrap_or_else(|shared| BytesMut::from(&shared[..]));
        records.expect(memchr::memchr_iter(b'\n', &bodies).count() + 1, 0);
        let (mut start, mut kept) = (0, 0);
        while start < bodies.len() {
            let end = memchr::memchr(b'\n', &bodies[start..]).map_or(bodies.len(), |at| start + at);
            // A record's range is its bytes with its newline.
            let next = (end + 1).min(bodies.len());
            records.push_length(next as u64, end - start)?;
            bodies.copy_within(start..end, kept);
            (start, kept) = (next, kept + end - start);
        }
        bodies.truncate(kept);
        records.set_bodies(bodies);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::admit::tests::{config, gathered};
    use stream::{Range, SourceId};

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

    #[test]
    fn a_body_that_another_holds_stays_as_it_is() {
        let (body, config) = (Bytes::from("a\n\nbc"), config(10));
        let (held, mut records) = (body.clone(), Gatherer::new(&config, 0));
        Lines::gather(&HeaderMap::new(), body, &mut records).unwrap();
        let batch =
            records.finish().unwrap().take(&config.spec.id, config.incarnation, SourceId::derive(1, &[])).unwrap();
        assert_eq!(batch.views().map(|record| record.body).collect::<Vec<_>>(), [&b"a"[..], b"", b"bc"]);
        assert_eq!(held, "a\n\nbc");
    }
}
