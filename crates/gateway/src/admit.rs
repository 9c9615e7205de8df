//! What a batch must be to be let in: checks of its size against the limits, pure and before any queue sees it.

use stream::config::StreamConfig;
use stream::limits::{BATCH_BYTES_MAX, BATCH_RECORDS_MAX};
use stream::wire::{Refusal, RefusalReason};
use stream::{Batch, StreamId};

/// Records of one HTTP request. More than a batch on the wire may hold: an HTTP client knows no batches, and a body
/// within its byte limit should not fail for its short lines.
pub const REQUEST_RECORDS_MAX: usize = 10_000;
/// What a record costs beside its body: its entries in a batch's columns.
const RECORD_BYTES: usize = 16;
/// What a batch costs beside its records: its place in a queue, its answer.
const BATCH_BYTES: usize = 512;

/// Memory that a batch is charged for; counts what tiny records cost, so that they are bounded too.
pub fn cost(body_bytes: usize, records: usize) -> usize {
    body_bytes + records * RECORD_BYTES + BATCH_BYTES
}

/// Checks a batch that came over gRPC.
pub fn check_batch(config: &StreamConfig, batch: &Batch) -> Result<(), Refusal> {
    let id = &config.spec.id;
    within(id, "bytes of bodies in the batch", batch.body_bytes(), BATCH_BYTES_MAX)?;
    within(id, "records in the batch", batch.len(), BATCH_RECORDS_MAX)?;
    within(id, "bytes in the longest record", batch.body_bytes_longest(), config.spec.limits.record_bytes_max)
}

/// Checks the lines of an HTTP body and counts them. An empty line is an empty record; a trailing newline ends the
/// last record.
pub fn check_lines(config: &StreamConfig, body: &[u8]) -> Result<usize, Refusal> {
    let id = &config.spec.id;
    if body.is_empty() {
        return Err(Refusal::new(RefusalReason::Malformed, scope(id), "the body is empty; send at least one record"));
    }
    let (mut records, mut longest) = (0, 0);
    for line in lines(body) {
        records += 1;
        longest = longest.max(line.len());
    }
    within(id, "records in the body", records, REQUEST_RECORDS_MAX)?;
    within(id, "bytes in the longest record", longest, config.spec.limits.record_bytes_max)?;
    Ok(records)
}

/// The lines of `body` without their newlines.
pub fn lines(body: &[u8]) -> impl Iterator<Item = &[u8]> {
    let mut rest = body;
    std::iter::from_fn(move || {
        if rest.is_empty() {
            return None;
        }
        let end = memchr::memchr(b'\n', rest).unwrap_or(rest.len());
        let line = &rest[..end];
        rest = rest.get(end + 1..).unwrap_or_default();
        Some(line)
    })
}

/// The scope of a refusal that concerns one stream.
pub fn scope(id: &StreamId) -> String {
    format!("stream {id}")
}

/// The refusal of a stream that no queue exists for.
pub fn unknown_stream(id: &str) -> Refusal {
    let message = "no such stream, or another life of it; create it, or read the configuration again";
    Refusal::new(RefusalReason::UnknownStream, format!("stream {id}"), message)
}

/// The refusal of a stream that was deleted while its batch was on its way.
pub fn deleted_stream(scope: impl Into<String>) -> Refusal {
    Refusal::new(RefusalReason::UnknownStream, scope, "the stream was deleted")
}

fn within(id: &StreamId, what: &str, found: usize, max: usize) -> Result<(), Refusal> {
    if found <= max {
        return Ok(());
    }
    let message = format!("{found} {what}, the limit is {max}; send less at a time");
    Err(Refusal::new(RefusalReason::TooLarge, scope(id), message))
}

#[cfg(test)]
mod tests {
    use super::*;
    use stream::Incarnation;
    use stream::config::StreamSpec;

    fn config(record_bytes_max: usize) -> StreamConfig {
        let mut spec = StreamSpec::new("a.b.c".parse().unwrap());
        spec.limits.record_bytes_max = record_bytes_max;
        StreamConfig { incarnation: Incarnation(1), version: 1, spec }
    }

    #[test]
    fn lines_are_cut_at_newlines_and_nowhere_else() {
        for (body, expected) in [
            ("a\nb\n", vec!["a", "b"]),
            ("a\nb", vec!["a", "b"]),
            ("\n", vec![""]),
            ("\n\na\r\n \n", vec!["", "", "a\r", " "]),
            ("", vec![]),
        ] {
            let found: Vec<_> = lines(body.as_bytes()).map(|line| std::str::from_utf8(line).unwrap()).collect();
            assert_eq!(found, expected, "{body:?}");
        }
    }

    #[test]
    fn what_is_over_a_limit_is_refused() {
        let reason = |body: &[u8]| check_lines(&config(5), body).map_err(|refusal| refusal.reason);
        assert_eq!(reason(b"12345\n\n"), Ok(2));
        assert_eq!(reason(b"1\n123456\n"), Err(RefusalReason::TooLarge));
        assert_eq!(reason(b""), Err(RefusalReason::Malformed));
        assert_eq!(reason(&[b'\n'; REQUEST_RECORDS_MAX]), Ok(REQUEST_RECORDS_MAX));
        assert_eq!(reason(&[b'\n'; REQUEST_RECORDS_MAX + 1]), Err(RefusalReason::TooLarge));
    }
}
