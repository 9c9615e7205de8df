//! Makes batches of lines: several HTTP requests of one stream become one append, as far as one batch holds them. Pure.

use bytes::Bytes;
use stream::limits::{BATCH_BYTES_MAX, BATCH_RECORDS_MAX};
use stream::{BatchBuilder, Kind};

use crate::admit::lines;

/// Bytes of all parts.
pub fn length(parts: &[Bytes]) -> u64 {
    parts.iter().map(|part| part.len() as u64).sum()
}

/// Whether a batch of `bytes` and `records` takes another request. A single request may be larger than a packed batch.
pub fn fits(bytes: u64, records: u64, more_bytes: u64, more_records: u64) -> bool {
    bytes + more_bytes <= BATCH_BYTES_MAX as u64 && records + more_records <= BATCH_RECORDS_MAX as u64
}

/// The lines of `parts`, `records` together, as records from `start` on; a record's range is its bytes with its newline.
pub fn gather(start: u64, parts: &[Bytes], records: usize) -> BatchBuilder {
    let mut builder = BatchBuilder::with_room(start, records, length(parts) as usize);
    let mut part_end = start;
    for part in parts {
        part_end += part.len() as u64;
        for line in lines(part) {
            let line_end = builder.end() + line.len() as u64 + 1;
            builder.push(Kind::Event, line_end.min(part_end), None, line);
        }
    }
    builder
}

/// The lines of one request that is a source of its own: they, and a record that says that the source ends with them.
pub fn gather_whole(body: &Bytes, records: usize) -> BatchBuilder {
    let mut builder = gather(0, std::slice::from_ref(body), records + 1);
    builder.push(Kind::End, body.len() as u64, None, b"");
    builder
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use stream::{Incarnation, Range, SourceId};

    #[test]
    fn ranges_are_the_bytes_with_their_newlines() {
        let parts = [Bytes::from_static(b"ab\n\nc"), Bytes::from_static(b"d\n")];
        let source = SourceId::derive(1, &[]);
        let batch = gather(10, &parts, 4).take(&"a.b.c".parse().unwrap(), Incarnation(1), source).unwrap();
        let records: Vec<_> = batch.records().map(|record| (record.kind, record.range, record.body)).collect();
        let event = |start, end, body: &'static str| (Kind::Event, Range::new(start, end), Bytes::from(body));
        assert_eq!(records, [event(10, 13, "ab"), event(13, 14, ""), event(14, 15, "c"), event(15, 17, "d")]);
        let whole = gather_whole(&Bytes::from_static(b"a"), 1).take(&batch.stream, Incarnation(1), source).unwrap();
        let records: Vec<_> = whole.records().map(|record| (record.kind, record.range, record.body)).collect();
        assert_eq!(records, [event(0, 1, "a"), (Kind::End, Range::new(1, 1), Bytes::new())]);
    }

    proptest! {
        #[test]
        fn a_batch_covers_exactly_the_bytes(
            parts in proptest::collection::vec("[a\n]{1,20}", 1..6), start in 0..1000_u64,
        ) {
            let parts: Vec<Bytes> = parts.into_iter().map(Bytes::from).collect();
            let source = SourceId::derive(1, &[]);
            let batch = gather(start, &parts, 0).take(&"a.b.c".parse().unwrap(), Incarnation(1), source).unwrap();
            prop_assert_eq!(batch.range, Range::new(start, start + length(&parts)));
            prop_assert!(batch.records().all(|record| !record.range.is_empty()));
            prop_assert_eq!(batch.len(), parts.iter().map(|part| lines(part).count()).sum::<usize>());
        }
    }
}
