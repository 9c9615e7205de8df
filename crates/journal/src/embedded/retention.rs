//! Which pieces of a partition go. Pure.
//!
//! The oldest piece goes when its last entry is older than the retention time, or while the partition holds more than
//! the retention bytes. Where retention waits, it goes only once the slowest reader has committed past it; before any
//! reader has kept a position nothing goes, since nobody has taken anything yet. A disk that is full because of this
//! refuses appends: nothing acknowledged is given up for what is not yet.

use super::TopicSettings;
use super::index::{Partition, Piece};

/// What a topic may hold beyond its retention: a few write-ahead segments, which go as a whole only.
const SLACK_BYTES: u64 = 256 << 20;

/// What goes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Verdict {
    /// How many of the oldest pieces.
    pub pieces: usize,
    /// Records in them that a live reader had not taken.
    pub overtaken_records: u64,
}

/// Decides for one partition.
pub fn decide(partition: &Partition, settings: &TopicSettings, now_ms: i64) -> Verdict {
    let oldest_ms = now_ms.saturating_sub(i64::try_from(settings.retention.as_millis()).unwrap_or(i64::MAX));
    let slowest = partition.slowest();
    let mut bytes = partition.bytes();
    let mut verdict = Verdict::default();
    for piece in &partition.pieces {
        let due = piece.last_time_ms < oldest_ms || bytes > settings.retention_bytes;
        let awaited = settings.retention_waits && slowest.is_none_or(|taken| taken < piece.end);
        if !due || awaited {
            break;
        }
        bytes -= u64::from(piece.bytes);
        verdict.pieces += 1;
        verdict.overtaken_records += slowest.map_or(0, |taken| untaken(piece, taken));
    }
    verdict
}

/// Whether what a reader still waits for is more than the topic may keep, and room for what comes between two looks:
/// then its senders are refused, so that a leg that stands still does not fill the disk of all.
pub fn is_over(partition: &Partition, settings: &TopicSettings, verdict: Verdict) -> bool {
    let going: u64 = partition.pieces.iter().take(verdict.pieces).map(|piece| u64::from(piece.bytes)).sum();
    partition.bytes() - going > settings.retention_bytes.saturating_add(SLACK_BYTES)
}

/// Records of a piece past what the slowest reader has taken.
fn untaken(piece: &Piece, taken: u64) -> u64 {
    piece.end.saturating_sub(taken.max(piece.first))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_a_reader_holds_back_makes_a_topic_full() {
        let settings = TopicSettings { retention: Duration::MAX, retention_bytes: 1_000, retention_waits: true };
        let pieces = [(SLACK_BYTES as u32, 10, 0), (2_000, 10, 0)];
        for (taken, over) in [(None, true), (Some(5), true), (Some(10), false)] {
            let partition = partition(&pieces, taken);
            assert_eq!(is_over(&partition, &settings, decide(&partition, &settings, 0)), over, "{taken:?}");
        }
    }

    use proptest::prelude::*;
    use std::time::Duration;

    fn partition(pieces: &[(u32, u64, i64)], taken: Option<u64>) -> Partition {
        let mut partition = Partition::default();
        let mut first = 0;
        for (bytes, records, last_time_ms) in pieces.iter().copied() {
            let end = first + records;
            partition.pieces.push_back(Piece { run: 1, position: 0, bytes, first, end, last_time_ms });
            first = end;
        }
        partition.readers.extend(taken.map(|taken| ("files".to_owned(), taken)));
        partition
    }

    fn settings(seconds: u64, retention_bytes: u64, retention_waits: bool) -> TopicSettings {
        TopicSettings { retention: Duration::from_secs(seconds), retention_bytes, retention_waits }
    }

    #[test]
    fn time_and_size_take_the_oldest() {
        let pieces = [(100, 10, 1_000), (100, 10, 2_000), (100, 10, 9_000)];
        let gone = |settings: TopicSettings, taken| decide(&partition(&pieces, taken), &settings, 10_000).pieces;
        assert_eq!(gone(settings(5, 1_000, false), None), 2, "by time");
        assert_eq!(gone(settings(60, 150, false), None), 2, "by size");
        assert_eq!(gone(settings(60, 300, false), None), 0, "within both");
        assert_eq!(gone(settings(5, 1_000, true), None), 0, "nobody has taken anything");
        assert_eq!(gone(settings(5, 1_000, true), Some(19)), 1, "the reader is in the second piece");
        assert_eq!(gone(settings(1, 1_000, true), Some(30)), 2, "only what is due");
    }

    proptest! {
        #[test]
        fn a_waiting_topic_loses_nothing_and_another_counts(
            pieces in proptest::collection::vec((1..100_u32, 1..20_u64, 0..100_i64), 0..12), taken in 0..200_u64,
            bytes in 0..600_u64, seconds in 0..2_u64,
        ) {
            let held = partition(&pieces, Some(taken));
            let waiting = decide(&held, &settings(seconds, bytes, true), 1_050);
            prop_assert!(held.pieces.iter().take(waiting.pieces).all(|piece| piece.end <= taken));
            prop_assert_eq!(waiting.overtaken_records, 0);

            let other = decide(&held, &settings(seconds, bytes, false), 1_050);
            let end = held.pieces.iter().take(other.pieces).next_back().map_or(0, |piece| piece.end);
            prop_assert_eq!(other.overtaken_records, end.saturating_sub(taken));
            let left: u64 = held.pieces.iter().skip(other.pieces).map(|piece| u64::from(piece.bytes)).sum();
            prop_assert!(left <= bytes, "{left} bytes are left of {bytes}");
        }
    }
}
