//! The embedded log: thousands of topics in one shared write-ahead log, copied in the background into runs sorted by
//! topic, so that a slow topic keeps its own bytes and nobody else's.
//!
//! ```text
//! append ▸ commit (queues, quantum) ▸ writer ▸ wal ──sealed──▸ keeper ▸ run      read ▸ index ▸ run or wal
//!                                                              └ retention, state
//! ```
//!
//! Two threads work on it: the writer owns the open write-ahead segment, the keeper owns the runs and the state file.
//! Readers come on any thread. The index is shared under one lock, held for microseconds and never during a disk call.

pub mod commit;
pub mod format;
pub mod scan;
pub mod wal;
pub mod run;
pub mod index;
pub mod writer;
pub mod read;
pub mod retention;
pub mod state;
pub mod keeper;
pub mod recover;
pub mod log;
#[cfg(test)]
mod tests;

use std::collections::HashMap;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use stream::config::Snapshot;
use stream::limits;

pub use log::EmbeddedLog;
pub use read::{StoredChunk, StoredEntry};

/// Partitions a topic may have; more would let one caller grow the index without end.
pub const PARTITIONS_MAX: u32 = 64;
/// Longest topic key: the longest topic name and an incarnation.
pub const TOPIC_KEY_BYTES_MAX: usize = 512;

/// Sizes and times of the log. The defaults are those of `docs/decisions/0003`.
#[derive(Clone, Debug)]
pub struct LogSettings {
    /// A write-ahead segment of this many bytes is sealed.
    pub wal_bytes: u64,
    /// Sealed segments that may wait for the keeper; beyond it commits wait.
    pub sealed_max: usize,
    /// What one group commit takes of one topic.
    pub quantum_bytes: usize,
    /// What one group commit takes in all, give or take one turn: a larger one is slower, not faster.
    pub commit_bytes_max: usize,
    /// What waits for a commit, per topic.
    pub topic_pending_bytes_max: usize,
    /// What a topic may always have waiting, whatever the others hold.
    pub topic_pending_bytes_floor: usize,
    /// What waits for a commit beyond those floors.
    pub pending_bytes_max: usize,
    /// What the keeper writes, or gives back to the disk, between two syncs: a commit may have to wait for as much.
    pub keeper_step_bytes: u64,
    /// Contiguous frames of one partition in a run that the index knows as one piece: the grain of retention.
    pub piece_bytes: u64,
    /// How long a topic that left the configuration stays on disk.
    pub removed_grace: Duration,
    /// How often retention looks.
    pub tend_every: Duration,
}

impl Default for LogSettings {
    fn default() -> Self {
        Self {
            wal_bytes: 64 << 20,
            sealed_max: 2,
            quantum_bytes: limits::COMMIT_QUANTUM_BYTES,
            commit_bytes_max: 4 << 20,
            topic_pending_bytes_max: limits::TOPIC_PENDING_BYTES_MAX,
            topic_pending_bytes_floor: 2 << 20,
            pending_bytes_max: 256 << 20,
            keeper_step_bytes: 1 << 20,
            piece_bytes: 256 << 10,
            removed_grace: Duration::from_secs(600),
            tend_every: Duration::from_secs(2),
        }
    }
}

/// What the configuration says of a topic.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TopicSettings {
    /// Entries older than this go.
    pub retention: Duration,
    /// Beyond this many bytes the oldest entries go.
    pub retention_bytes: u64,
    /// Whether both wait for the slowest reader.
    pub retention_waits: bool,
}

/// The topics of a configuration, by key.
pub type Topics = HashMap<Arc<str>, TopicSettings>;

/// The topics of `snapshot`.
pub fn topics_of(snapshot: &Snapshot) -> Topics {
    let topic = |config: &stream::config::StreamConfig| {
        let own = &config.spec.limits;
        let settings = TopicSettings {
            retention: Duration::from_secs(own.retention_seconds),
            retention_bytes: own.retention_bytes,
            retention_waits: own.retention_waits,
        };
        (Arc::from(config.topic_key()), settings)
    };
    snapshot.streams.values().map(topic).collect()
}

/// Why the log could not be opened.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// The disk refused.
    #[error("journal: cannot {doing} {}: {source}", .path.display())]
    Io {
        /// What was tried.
        doing: &'static str,
        /// On which file or directory.
        path: PathBuf,
        /// What the disk said.
        source: std::io::Error,
    },
    /// Bytes that were durable are damaged, and nothing whole follows them in their file.
    #[error(
        "journal: {} is damaged at byte {byte}: {what}; restore the file from a copy, or move it away and accept the loss of what follows that byte in it",
        .path.display()
    )]
    Damaged {
        /// The file.
        path: PathBuf,
        /// Where the damage begins.
        byte: u64,
        /// What is wrong.
        what: &'static str,
    },
    /// Written by another version.
    #[error("journal: {} has format version {found}, this program reads {}; use the program that wrote it", .path.display(), format::VERSION)]
    Version {
        /// The file.
        path: PathBuf,
        /// Its version.
        found: u32,
    },
}

impl OpenError {
    /// For `map_err`.
    pub(crate) fn io(doing: &'static str, path: impl Into<PathBuf>) -> impl FnOnce(std::io::Error) -> Self {
        let path = path.into();
        move |source| Self::Io { doing, path, source }
    }
}
