//! The log's face to its callers: append, read, bounds, keep, configure. All calls return at once or after a disk read;
//! what takes longer is answered through the reply that came with it.

use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError, RwLock};

use stream::clock::Clock;
use stream::disk::SharedDisk;
use stream::wire::{Refusal, RefusalReason};
use stream::{Batch, limits};
use tokio::sync::watch;

use super::commit::{Full, Pending};
use super::index::{Index, Key};
use super::keeper::Keeper;
use super::writer::Writer;
use super::{LogSettings, OpenError, PARTITIONS_MAX, TOPIC_KEY_BYTES_MAX, Topics, recover};
use crate::metrics;
use crate::seam::{Appended, Bounds, KeptPosition};

/// Where the answer to an append goes. It must not block.
pub type Reply = Box<dyn FnOnce(Result<Appended, Refusal>) + Send>;

/// The log of one directory. One process owns it; any thread may call it.
pub struct EmbeddedLog {
    pub(super) disk: SharedDisk,
    pub(super) dir: PathBuf,
    pub(super) clock: Arc<dyn Clock>,
    pub(super) settings: LogSettings,
    pub(super) index: Mutex<Index>,
    pub(super) pending: Mutex<Pending<Waiting>>,
    pub(super) arrived: Condvar,
    pub(super) writer: Mutex<Writer>,
    pub(super) keeper: Mutex<Keeper>,
    pub(super) keeper_wanted: Condvar,
    /// Held for reading while a file is open for a reader: what has left its name may be cut off only once nobody reads it.
    pub(super) reading: RwLock<()>,
    /// Why the keeper cannot copy, while it cannot.
    pub(super) copy_failure: Mutex<Option<Refusal>>,
    /// Whether the state file is older than what it should say.
    pub(super) state_changed: AtomicBool,
    pub(super) stopping: AtomicBool,
}

/// An append that waits for its commit.
pub struct Waiting {
    pub(super) partition: u32,
    pub(super) records: u32,
    pub(super) batch: Vec<u8>,
    pub(super) reply: Reply,
}

/// Takes a lock. Nothing here leaves a lock's content half changed, so a panic elsewhere does not spoil it.
pub(super) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl EmbeddedLog {
    /// Opens the log in `dir`, creating it if there is none, and finds again whatever was acknowledged. The caller owns
    /// `dir` exclusively (see `serve`).
    pub fn open(
        disk: SharedDisk,
        dir: PathBuf,
        clock: Arc<dyn Clock>,
        settings: LogSettings,
    ) -> Result<Arc<Self>, OpenError> {
        let recovered = recover::recover(disk.as_ref(), &dir, &settings)?;
        Ok(Arc::new(Self {
            index: Mutex::new(recovered.index),
            pending: Mutex::new(Pending::new((&settings).into())),
            arrived: Condvar::new(),
            writer: Mutex::new(Writer::new(recovered.next_number, recovered.previous)),
            keeper: Mutex::new(Keeper::default()),
            keeper_wanted: Condvar::new(),
            reading: RwLock::new(()),
            copy_failure: Mutex::new(None),
            state_changed: AtomicBool::new(false),
            stopping: AtomicBool::new(false),
            disk,
            dir,
            clock,
            settings,
        }))
    }

    /// Adopts the topics of a configuration. A topic that is no longer there is refused from now on and leaves the disk
    /// after the grace period.
    pub fn configure(&self, topics: Topics) {
        lock(&self.index).configure(topics);
    }

    /// Queues a batch for the next commits; `reply` hears how it ended.
    pub fn append(&self, topic: &str, partition: u32, batch: &Batch, reply: Reply) {
        if let Err((refusal, reply)) = self.enqueue(topic, partition, batch, reply) {
            metrics::refused(refusal.reason);
            reply(Err(refusal));
        }
    }

    fn enqueue(&self, topic: &str, partition: u32, batch: &Batch, reply: Reply) -> Result<(), (Refusal, Reply)> {
        let key = match self.known(topic, partition) {
            Ok((key, _)) => key,
            Err(refusal) => return Err((refusal, reply)),
        };
        let place = (Arc::clone(&key), partition);
        if lock(&self.index).partitions.get(&place).is_some_and(|held| held.is_over) {
            let message =
                "its job stands still and the topic holds all that it may; mend the job (see `isolane status`)";
            return Err((Refusal::new(RefusalReason::QueueFull, format!("topic {topic}"), message), reply));
        }
        let encoded = batch.to_wire().to_bytes();
        if encoded.len() > limits::MESSAGE_BYTES_MAX {
            let message = format!(
                "a batch of {} bytes; at most {} are taken: split it",
                encoded.len(),
                limits::MESSAGE_BYTES_MAX
            );
            return Err((Refusal::new(RefusalReason::TooLarge, format!("topic {topic}"), message), reply));
        }
        if self.stopping.load(Ordering::SeqCst) {
            return Err((stopping(), reply));
        }
        let bytes = encoded.len();
        let waiting = Waiting { partition, records: batch.len() as u32, batch: encoded, reply };
        let pushed = lock(&self.pending).push(&key, bytes, waiting);
        match pushed {
            Ok(()) => {
                self.arrived.notify_one();
                Ok(())
            }
            Err(Full::Topic(waiting)) => Err((full(format!("topic {topic}")), waiting.reply)),
            Err(Full::Journal(waiting)) => Err((full("journal".into()), waiting.reply)),
        }
    }

    /// The key of a configured topic's partition.
    pub(super) fn known(&self, topic: &str, partition: u32) -> Result<Key, Refusal> {
        let scope = || format!("topic {}", topic.chars().take(TOPIC_KEY_BYTES_MAX).collect::<String>());
        if partition >= PARTITIONS_MAX {
            let message = format!("partition {partition}; a topic has at most {PARTITIONS_MAX}");
            return Err(Refusal::new(RefusalReason::Malformed, scope(), message));
        }
        match lock(&self.index).topic(topic) {
            Some((key, _)) => Ok((key, partition)),
            None => {
                let message = "the configuration has no stream with this topic; create it, or wait until it is known";
                Err(Refusal::new(RefusalReason::UnknownStream, scope(), message))
            }
        }
    }

    /// The durable end of a partition, and its changes: for readers that wait at the end.
    pub fn watch_end(&self, topic: &str, partition: u32) -> Result<watch::Receiver<u64>, Refusal> {
        let key = self.known(topic, partition)?;
        Ok(lock(&self.index).partitions.entry(key).or_default().end.subscribe())
    }

    /// What is held of `topics`; of all configured topics if none is named.
    pub fn bounds(&self, topics: &[String]) -> Vec<Bounds> {
        lock(&self.index).bounds(topics)
    }

    /// Takes a reader's committed position. It is on disk within a few seconds: an older one only keeps more.
    pub fn keep(&self, kept: &KeptPosition) -> Result<(), Refusal> {
        let key = self.known(&kept.topic, kept.place.partition)?;
        let mut index = lock(&self.index);
        let readers = &mut index.partitions.entry(key).or_default().readers;
        if kept.gone {
            readers.remove(&kept.reader);
        } else {
            readers.insert(kept.reader.clone(), kept.offset);
        }
        self.state_changed.store(true, Ordering::SeqCst);
        Ok(())
    }

    /// Ends both threads' loops; what waits is refused.
    pub fn stop(&self) {
        self.stopping.store(true, Ordering::SeqCst);
        let waiting = {
            let mut pending = lock(&self.pending);
            let mut all = Vec::new();
            while !pending.is_empty() {
                all.extend(pending.take());
            }
            all
        };
        waiting.into_iter().for_each(|(_, waiting)| (waiting.reply)(Err(stopping())));
        self.arrived.notify_all();
        self.keeper_wanted.notify_all();
    }
}

fn stopping() -> Refusal {
    Refusal::new(RefusalReason::Unavailable, "journal", "it is stopping; try again when it is back")
}

fn full(scope: String) -> Refusal {
    Refusal::new(RefusalReason::QueueFull, scope, "too much waits for the disk; wait and send the batch again")
}
