//! Makes batches of lines: several HTTP requests of one stream become one append, as far as one batch holds them. Pure.

use bytes::Bytes;
use stream::limits::{BATCH_BYTES_MAX, BATCH_RECORDS_MAX};
use stream::{Batch, BatchBuilder, Incarnation, Kind, SourceId, StreamId};

use crate::admit::lines;

/// Bytes of all parts.
pub fn length(parts: &[Bytes]) -> u64 {
    parts.iter().map(|part| part.len() as u64).sum()
}

/// Whether a batch of `bytes` and `records` takes another request. A single request may be larger than a packed batch.
pub fn fits(bytes: u64, records: u64, more_bytes: u64, more_records: u64) -> bool {
    bytes + more_bytes <= BATCH_BYTES_MAX as u64 && records + more_records <= BATCH_RECORDS_MAX as u64
}

/// The lines of `parts` as a batch whose range begins at `start`; a record's range is its bytes with its newline.
/// With `end`, a record that says that the source ends here. `None` without any line.
pub fn build(
    stream: &StreamId,
    incarnation: Incarnation,
    source: SourceId,
    start: u64,
    parts: &[Bytes],
    end: bool,
) -> Option<Batch> {
    let mut builder = BatchBuilder::new(start);
    let mut part_end = start;
    for part in parts {
        part_end += part.len() as u64;
        for line in lines(part) {
            let line_end = builder.end() + line.len() as u64 + 1;
            builder.push(Kind::Event, line_end.min(part_end), None, line);
        }
    }
    if end {
        builder.push(Kind::End, part_end, None, b"");
    }
    builder.take(stream, incarnation, source)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use stream::Range;

    #[test]
    fn ranges_are_the_bytes_with_their_newlines() {
        let parts = [Bytes::from_static(b"ab\n\nc"), Bytes::from_static(b"d\n")];
        let source = SourceId::derive(1, &[]);
        let batch = build(&"a.b.c".parse().unwrap(), Incarnation(1), source, 10, &parts, true).unwrap();
        let records: Vec<_> = batch.records().map(|record| (record.kind, record.range, record.body)).collect();
        let event = |start, end, body: &'static str| (Kind::Event, Range::new(start, end), Bytes::from(body));
        let end = (Kind::End, Range::new(17, 17), Bytes::new());
        assert_eq!(records, [event(10, 13, "ab"), event(13, 14, ""), event(14, 15, "c"), event(15, 17, "d"), end]);
    }

    proptest! {
        #[test]
        fn a_batch_covers_exactly_the_bytes(
            parts in proptest::collection::vec("[a\n]{1,20}", 1..6), start in 0..1000_u64,
        ) {
            let parts: Vec<Bytes> = parts.into_iter().map(Bytes::from).collect();
            let source = SourceId::derive(1, &[]);
            let batch = build(&"a.b.c".parse().unwrap(), Incarnation(1), source, start, &parts, false).unwrap();
            prop_assert_eq!(batch.range, Range::new(start, start + length(&parts)));
            prop_assert!(batch.records().all(|record| !record.range.is_empty()));
            prop_assert_eq!(batch.len(), parts.iter().map(|part| lines(part).count()).sum::<usize>());
        }
    }
}
