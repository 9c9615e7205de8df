//! The seam between the rooms and whatever makes records durable: append to a partition, read from a position, bounds,
//! keep. The embedded log is behind [`crate::JournalClient`], Kafka behind `KafkaJournal`; what differs between journals
//! is named in [`Capabilities`].

use std::future::Future;

use stream::config::{Compression, Snapshot, StreamConfig};
use stream::facts::{Place, Position};
use stream::wire::{Refusal, v1};
use stream::{Batch, Incarnation, StreamId};
use tokio::sync::mpsc;
use tokio::task::JoinHandle;

/// What a journal can do beyond appending and reading.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Capabilities {
    /// Retention waits for the slowest reader that has kept a position.
    pub retention_waits: bool,
    /// Batches are packed as their stream says.
    pub packs: bool,
}

/// A topic, and whose it is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Topic {
    /// Its key, `stream::config::StreamConfig::topic_key`.
    pub key: String,
    /// The stream of its records.
    pub stream: StreamId,
    /// The stream's life.
    pub incarnation: Incarnation,
}

impl Topic {
    /// The topic of a stream.
    pub fn of(config: &StreamConfig) -> Self {
        Self { key: config.topic_key(), stream: config.spec.id.clone(), incarnation: config.incarnation }
    }

    /// Its name in Kafka and in hand-over objects.
    pub fn name(&self) -> String {
        name_of(&self.key)
    }
}

/// A topic's name in Kafka, which takes no `@`.
pub fn name_of(key: &str) -> String {
    key.replace('@', ".")
}

/// Where a batch has become durable.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Appended {
    /// Offset of the batch's first record.
    pub offset: u64,
    /// One past the offset of its last.
    pub end_offset: u64,
    /// When the journal took it, in ms since 1970.
    pub append_time_ms: i64,
}

/// One appended batch, as it is read.
#[derive(Clone, Debug, PartialEq)]
pub struct Entry {
    /// Offset of the batch's first record; the i-th record has `offset + i`.
    pub offset: u64,
    /// When the journal took it, in ms since 1970.
    pub append_time_ms: i64,
    /// The records.
    pub batch: Batch,
}

impl Entry {
    /// One past the offset of the last record.
    pub fn end_offset(&self) -> u64 {
        self.offset + self.batch.len() as u64
    }
}

/// What one step of reading yields.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Chunk {
    /// Entries in the order of their offsets; none: nothing new, only the bounds. The first one may begin before the
    /// offset asked for: an entry is never cut.
    pub entries: Vec<Entry>,
    /// The oldest offset kept when the chunk was made.
    pub start_offset: u64,
    /// The durable end when the chunk was made.
    pub end_offset: u64,
    /// Where reading goes on, if that is not right behind the last entry (something there is nobody's).
    pub next_offset: Option<u64>,
    /// Which log it is; 0 where there is only ever one.
    pub log: u64,
    /// The log is not the one that was read before (somebody deleted it, or cut it): offsets begin anew with this chunk.
    pub is_anew: bool,
}

/// What a journal holds of one partition.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Bounds {
    /// The topic's key.
    pub topic: String,
    /// The cluster and the partition.
    pub place: Place,
    /// The oldest offset kept.
    pub start_offset: u64,
    /// The durable end.
    pub end_offset: u64,
    /// Bytes kept on disk.
    pub bytes: u64,
    /// Records that a limit removed before a live reader had taken them.
    pub overtaken_records: u64,
}

/// A reader's committed position.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KeptPosition {
    /// The topic's key.
    pub topic: String,
    /// The cluster and the partition.
    pub place: Place,
    /// The reader: the leg's name.
    pub reader: String,
    /// Everything before this offset is committed.
    pub offset: u64,
    /// The reader no longer exists: nothing waits for it any more.
    pub gone: bool,
}

/// A journal. Topics are named by `stream::config::StreamConfig::topic_key`.
pub trait Journal: Clone + Send + Sync + 'static {
    /// What this journal can do.
    fn capabilities(&self) -> Capabilities;

    /// Everywhere that a stream's records may lie: its readers read all of it.
    fn places(&self, config: &StreamConfig) -> Vec<Place>;

    /// Makes what the configured streams need, as far as it is not there. Said again it changes nothing.
    fn prepare(&self, streams: &Snapshot) -> impl Future<Output = Result<(), Refusal>> + Send;

    /// Appends a batch as one entry, packed as asked for where the journal packs at all, and returns once it is durable. Many appends may run at the same time; each topic
    /// keeps the order in which they were begun. After a refusal with reason `Unavailable` the batch may be durable
    /// all the same: the reader's de-duplication drops the double.
    fn append(
        &self,
        topic: &str,
        place: Place,
        batch: &Batch,
        compression: Compression,
    ) -> impl Future<Output = Result<Appended, Refusal>> + Send;

    /// Reads from a position on, then what becomes durable, until the reader is dropped.
    fn read(&self, topic: &Topic, from: Position) -> Reader;

    /// What is held of `topics`; of all topics if none is named. A topic that the journal does not know is left out.
    fn bounds(&self, topics: &[String]) -> impl Future<Output = Result<Vec<Bounds>, Refusal>> + Send;

    /// States a reader's committed position, for retention to wait for.
    fn keep(&self, position: KeptPosition) -> impl Future<Output = Result<(), Refusal>> + Send;
}

/// A reading in progress. Dropping it ends it.
#[derive(Debug)]
pub struct Reader {
    chunks: mpsc::Receiver<Result<Chunk, Refusal>>,
    /// Feeds the chunks; gone once its end was seen.
    task: Option<JoinHandle<()>>,
}

impl Reader {
    /// A reader fed by `task` through `chunks`.
    pub fn new(chunks: mpsc::Receiver<Result<Chunk, Refusal>>, task: JoinHandle<()>) -> Self {
        Self { chunks, task: Some(task) }
    }

    /// The next chunk; every few seconds one without entries, so that the bounds are fresh. After a
    /// refusal the reader goes on by itself (it waits, connects again and resumes where it was), so the caller only
    /// reports it and calls again. Losing the race in a `select!` loses nothing.
    ///
    /// # Panics
    /// If the task that feeds it has panicked: nothing more would ever come.
    pub async fn next(&mut self) -> Result<Chunk, Refusal> {
        if let Some(chunk) = self.chunks.recv().await {
            return chunk;
        }
        let ended = match &mut self.task {
            Some(task) => task.await,
            None => Ok(()),
        };
        self.task = None;
        match ended {
            Err(broken) if broken.is_panic() => std::panic::resume_unwind(broken.into_panic()),
            // It ends by itself only when this reader is dropped or the runtime stops.
            _ => std::future::pending().await,
        }
    }
}

impl Drop for Reader {
    fn drop(&mut self) {
        self.task.iter().for_each(JoinHandle::abort);
    }
}

impl From<v1::Appended> for Appended {
    fn from(wire: v1::Appended) -> Self {
        Self { offset: wire.offset, end_offset: wire.end_offset, append_time_ms: wire.append_time_ms }
    }
}

impl From<Appended> for v1::Appended {
    fn from(appended: Appended) -> Self {
        Self { offset: appended.offset, end_offset: appended.end_offset, append_time_ms: appended.append_time_ms }
    }
}

/// The place of a partition of the embedded log, which is one cluster.
pub(crate) fn here(partition: u32) -> Place {
    Place { cluster: 0, partition }
}

impl From<v1::Bounds> for Bounds {
    fn from(wire: v1::Bounds) -> Self {
        Self {
            topic: wire.topic,
            place: here(wire.partition),
            start_offset: wire.start_offset,
            end_offset: wire.end_offset,
            bytes: wire.bytes,
            overtaken_records: wire.overtaken_records,
        }
    }
}

impl From<Bounds> for v1::Bounds {
    fn from(bounds: Bounds) -> Self {
        Self {
            topic: bounds.topic,
            partition: bounds.place.partition,
            start_offset: bounds.start_offset,
            end_offset: bounds.end_offset,
            bytes: bounds.bytes,
            overtaken_records: bounds.overtaken_records,
        }
    }
}

impl From<v1::KeepRequest> for KeptPosition {
    fn from(wire: v1::KeepRequest) -> Self {
        let place = here(wire.partition);
        Self { topic: wire.topic, place, reader: wire.reader, offset: wire.offset, gone: wire.gone }
    }
}

impl From<KeptPosition> for v1::KeepRequest {
    fn from(kept: KeptPosition) -> Self {
        let KeptPosition { topic, place, reader, offset, gone } = kept;
        Self { topic, partition: place.partition, reader, offset, gone }
    }
}
