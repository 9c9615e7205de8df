//! Makes one batch of several requests of one stream, as far as one batch holds them. Pure.

use stream::BatchBuilder;
use stream::limits::{BATCH_BYTES_MAX, BATCH_RECORDS_MAX};

/// Ordinals that all parts together cover.
pub fn length(parts: &[BatchBuilder]) -> u64 {
    parts.iter().map(BatchBuilder::end).sum()
}

/// Bytes of all bodies.
pub fn bytes(parts: &[BatchBuilder]) -> u64 {
    parts.iter().map(|part| part.body_bytes() as u64).sum()
}

/// Whether a batch of `bytes` and `records` takes another request. A single request may be larger than a packed batch.
pub fn fits(bytes: u64, records: u64, more_bytes: u64, more_records: u64) -> bool {
    bytes + more_bytes <= BATCH_BYTES_MAX as u64 && records + more_records <= BATCH_RECORDS_MAX as u64
}

/// The records of `parts`, each of which counts from 0, from `start` on. What is alone is not copied.
pub fn join(start: u64, mut parts: Vec<BatchBuilder>) -> BatchBuilder {
    let mut joined = match parts.pop() {
        Some(alone) if parts.is_empty() => alone,
        last => {
            parts.extend(last);
            let sum = |of: fn(&BatchBuilder) -> usize| parts.iter().map(of).sum();
            let mut joined = BatchBuilder::with_room(0, sum(BatchBuilder::len), sum(BatchBuilder::body_bytes));
            parts.iter().for_each(|part| joined.absorb(part));
            joined
        }
    };
    joined.begin_at(start);
    joined
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use stream::{Incarnation, Kind, Range, SourceId};

    proptest! {
        #[test]
        fn a_batch_covers_exactly_the_ordinals(
            lengths in proptest::collection::vec(proptest::collection::vec(1..9_u64, 1..5), 1..6), start in 0..1000_u64,
        ) {
            let part = |lengths: &Vec<u64>| {
                let mut part = BatchBuilder::new(0);
                lengths.iter().for_each(|length| part.push(Kind::Event, part.end() + length, None, b"x"));
                part
            };
            let parts: Vec<BatchBuilder> = lengths.iter().map(part).collect();
            let (length, source) = (length(&parts), SourceId::derive(1, &[]));
            let batch = join(start, parts).take(&"a.b.c".parse().unwrap(), Incarnation(1), source).unwrap();
            prop_assert_eq!(batch.range, Range::new(start, start + length));
            let expected: Vec<u64> = lengths.concat();
            prop_assert_eq!(batch.views().map(|record| record.range.len()).collect::<Vec<_>>(), expected);
        }
    }
}
