//! What the journal measures, one function per observation.

use std::time::Duration;

use metrics::{counter, gauge, histogram};
use stream::wire::RefusalReason;

/// A commit became durable: how long it took from its beginning, and its bytes.
pub fn committed(took: Duration, bytes: usize) {
    histogram!("isolane_journal_commit_seconds").record(took.as_secs_f64());
    counter!("isolane_journal_commit_bytes").increment(bytes as u64);
}

/// A batch became durable.
pub fn appended(topic: &str, records: u64, bytes: usize) {
    counter!("isolane_journal_appended_records", "stream" => topic.to_owned()).increment(records);
    counter!("isolane_journal_appended_bytes", "stream" => topic.to_owned()).increment(bytes as u64);
}

/// A batch was refused.
pub fn refused(reason: RefusalReason) {
    counter!("isolane_journal_refused_batches", "reason" => reason.name()).increment(1);
}

/// Bytes that wait for a commit after one was taken.
pub fn pending(bytes: usize) {
    gauge!("isolane_journal_pending_bytes").set(bytes as f64);
}

/// Files on the disk: sealed segments that wait to be copied, and runs.
pub fn files(sealed: usize, runs: usize) {
    gauge!("isolane_journal_sealed_segments").set(sealed as f64);
    gauge!("isolane_journal_run_files").set(runs as f64);
}

/// Bytes of entries kept in runs.
pub fn live(bytes: u64) {
    gauge!("isolane_journal_run_bytes").set(bytes as f64);
}

/// Bytes that are no frame and were passed over.
pub fn damaged(bytes: usize) {
    counter!("isolane_journal_damaged_bytes").increment(bytes as u64);
}

/// Records that a limit removed before a reader had taken them.
pub fn overtaken(topic: &str, records: u64) {
    counter!("isolane_journal_overtaken_records", "stream" => topic.to_owned()).increment(records);
}

/// A record in a topic that carries no provenance of ours.
#[cfg(feature = "kafka")]
pub fn foreign(topic: &str) {
    counter!("isolane_journal_foreign_records", "stream" => topic.to_owned()).increment(1);
}
