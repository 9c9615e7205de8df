//! The writer: takes a commit's entries, gives them offsets, makes them durable in one write and one sync, and only then
//! shows them to readers and answers.
//!
//! States: *open* (a write-ahead segment takes commits), *closed* (none is open: at the start, after a full segment,
//! after a failure). Out of *closed* it goes by itself: a new segment is tried, after a failure with back-off; until
//! then what is taken is refused, so that senders wait and not we. Offsets of a refused commit are given again: nobody
//! has seen them, and recovery ignores what a failed commit left behind (see wal.rs).

use std::collections::HashMap;
use std::io;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use rand::SeedableRng;
use rand::rngs::ChaCha8Rng;
use stream::limits::COMMIT_QUANTUM_BYTES;
use stream::retry::Backoff;
use stream::wire::{Refusal, RefusalReason};
use tracing::{error, info};

use super::format::Entry;
use super::index::{Key, WalFrame};
use super::log::{EmbeddedLog, Reply, Waiting, lock};
use super::wal::{Previous, Wal};
use crate::metrics;
use crate::seam::Appended;

/// How long the writer sleeps at most when the keeper must copy first, or nothing arrives.
const LOOK_AGAIN: Duration = Duration::from_millis(20);
/// Room for a commit's bytes that is kept at most: that of commits with one heavy topic.
const KEPT_BYTES_MAX: usize = 2 * COMMIT_QUANTUM_BYTES;

/// The writer's own state.
pub struct Writer {
    wal: Option<Wal>,
    next_number: u64,
    previous: Previous,
    backoff: Backoff,
    retry_at_ms: i64,
    /// Why no segment can be opened, until the next try.
    failure: Option<Refusal>,
    /// A commit's bytes, laid out. Its room is kept: fresh pages for a megabyte take longer than to fill them.
    bytes: Vec<u8>,
    /// For the waits. A disk has one writer, whose waits need not differ from anybody's: a start repeats them.
    dice: ChaCha8Rng,
}

/// What a step of the writer did.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Step {
    /// Nothing waits.
    Idle,
    /// The keeper must copy a sealed segment first.
    Blocked,
    /// A commit was made or refused.
    Worked,
}

/// An entry with its place, ready to be published.
struct Placed {
    key: Key,
    frame: WalFrame,
    append_time_ms: i64,
    batch_bytes: usize,
    reply: Reply,
}

impl Writer {
    /// A writer whose first segment is `next_number`.
    pub fn new(next_number: u64, previous: Previous) -> Self {
        let (backoff, dice) = (Backoff::default(), ChaCha8Rng::seed_from_u64(next_number));
        let (failure, bytes) = (None, Vec::new());
        Self { wal: None, next_number, previous, backoff, retry_at_ms: i64::MIN, failure, bytes, dice }
    }
}

impl EmbeddedLog {
    /// Commits until the log is stopped. Runs on a thread of its own.
    pub fn write_until_stopped(&self) {
        while !self.stopping.load(Ordering::SeqCst) {
            match self.commit_once() {
                Step::Worked => {}
                Step::Blocked => {
                    self.keeper_wanted.notify_all();
                    std::thread::sleep(LOOK_AGAIN);
                }
                Step::Idle => {
                    let pending = lock(&self.pending);
                    if pending.is_empty() {
                        // A spurious or timed-out wake-up only looks again.
                        drop(self.arrived.wait_timeout(pending, LOOK_AGAIN * 50));
                    }
                }
            }
        }
    }

    /// One group commit.
    pub fn commit_once(&self) -> Step {
        let mut writer = lock(&self.writer);
        if lock(&self.pending).is_empty() {
            return Step::Idle;
        }
        let refusal = match self.open_segment(&mut writer) {
            Ok(true) => None,
            Ok(false) => return Step::Blocked,
            Err(refusal) => Some(refusal),
        };
        let taken = {
            let mut pending = lock(&self.pending);
            let taken = pending.take();
            metrics::pending(pending.bytes());
            taken
        };
        if taken.is_empty() {
            return Step::Idle;
        }
        match (refusal, writer.wal.take()) {
            (None, Some(wal)) => self.commit(&mut writer, wal, taken),
            (refusal, _) => {
                let refusal = refusal.unwrap_or_else(|| unavailable("no segment is open"));
                taken.into_iter().for_each(|(_, waiting)| refuse(waiting.reply, &refusal));
            }
        }
        Step::Worked
    }

    /// Makes sure that a segment is open. `false`: wait for the keeper.
    fn open_segment(&self, writer: &mut Writer) -> Result<bool, Refusal> {
        if writer.wal.is_some() {
            return Ok(true);
        }
        if lock(&self.index).sealed.len() >= self.settings.sealed_max {
            return lock(&self.copy_failure).clone().map_or(Ok(false), Err);
        }
        let now_ms = self.clock.now_ms();
        if let Some(failure) = writer.failure.as_ref().filter(|_| now_ms < writer.retry_at_ms) {
            return Err(failure.clone());
        }
        let number = writer.next_number;
        writer.next_number += 1;
        match Wal::create(self.disk.as_ref(), &self.dir, number, writer.previous) {
            Ok(wal) => {
                if writer.failure.take().is_some() {
                    info!(segment = number, "the journal takes batches again");
                }
                writer.wal = Some(wal);
                Ok(true)
            }
            Err(error) => Err(self.fail(writer, "open a write-ahead segment", &error)),
        }
    }

    fn commit(&self, writer: &mut Writer, mut wal: Wal, taken: Vec<(Arc<str>, Waiting)>) {
        let begun = Instant::now();
        let placed = self.place(&wal, taken, &mut writer.bytes);
        let bytes = writer.bytes.len();
        match wal.commit(&writer.bytes) {
            Ok(()) => {
                writer.backoff.reset();
                let full = wal.durable_bytes() >= self.settings.wal_bytes;
                let number = wal.number();
                if full {
                    writer.previous = Previous { number, bytes: wal.durable_bytes() };
                } else {
                    writer.wal = Some(wal);
                }
                metrics::committed(begun.elapsed(), bytes);
                self.publish(placed, full.then_some(number));
            }
            Err(error) => {
                let refusal = self.fail(writer, "make a commit durable", &error);
                if let Some(previous) = wal.give_up(self.disk.as_ref(), &self.dir) {
                    writer.previous = previous;
                    lock(&self.index).sealed.push_back(previous.number);
                    self.keeper_wanted.notify_all();
                }
                placed.into_iter().for_each(|placed| refuse(placed.reply, &refusal));
            }
        }
        if writer.bytes.capacity() > KEPT_BYTES_MAX {
            writer.bytes = Vec::new();
        }
    }

    /// Gives the entries their offsets and lays out the commit's `bytes`.
    fn place(&self, wal: &Wal, taken: Vec<(Arc<str>, Waiting)>, bytes: &mut Vec<u8>) -> Vec<Placed> {
        let append_time_ms = self.clock.now_ms();
        let mut ends: HashMap<Key, u64> = HashMap::new();
        {
            let index = lock(&self.index);
            for (topic, waiting) in &taken {
                let key = (Arc::clone(topic), waiting.partition);
                let end = index.partitions.get(&key).map_or(0, |partition| partition.end());
                ends.insert(key, end);
            }
        }
        let room = taken.iter().map(|(topic, waiting)| Entry::frame_bytes(topic, &waiting.batch)).sum();
        bytes.clear();
        bytes.reserve(room);
        let mut placed = Vec::with_capacity(taken.len());
        for (topic, Waiting { partition, records, batch, reply }) in taken {
            let key = (topic, partition);
            let end = ends.entry(key.clone()).or_default();
            let entry = Entry { topic: &key.0, partition, offset: *end, append_time_ms, records, batch: &batch };
            let from = bytes.len();
            entry.write(bytes);
            debug_assert_eq!(bytes.len() - from, Entry::frame_bytes(&key.0, &batch));
            let frame = WalFrame {
                wal: wal.number(),
                position: (wal.durable_bytes() + from as u64) as u32,
                bytes: (bytes.len() - from) as u32,
                first: entry.offset,
                end: entry.end(),
            };
            *end = frame.end;
            placed.push(Placed { key, frame, append_time_ms, batch_bytes: batch.len(), reply });
        }
        placed
    }

    /// Shows durable entries to readers, then answers. `sealed`: the segment that this commit filled.
    fn publish(&self, placed: Vec<Placed>, sealed: Option<u64>) {
        {
            let mut index = lock(&self.index);
            for placed in &placed {
                index.partitions.entry(placed.key.clone()).or_default().push_frame(placed.frame);
            }
            index.sealed.extend(sealed);
        }
        if sealed.is_some() {
            self.keeper_wanted.notify_all();
        }
        for Placed { key, frame, append_time_ms, batch_bytes, reply } in placed {
            metrics::appended(&key.0, frame.end - frame.first, batch_bytes);
            reply(Ok(Appended { offset: frame.first, end_offset: frame.end, append_time_ms }));
        }
    }

    /// Notes a failure: refuse until the back-off has passed.
    fn fail(&self, writer: &mut Writer, doing: &str, error: &io::Error) -> Refusal {
        let wait = writer.backoff.next_wait(Duration::ZERO, &mut writer.dice);
        error!(%error, wait_ms = wait.as_millis() as u64, "the journal cannot {doing}; it refuses and tries again");
        let refusal = refusal_of(doing, error);
        writer.retry_at_ms = self.clock.now_ms().saturating_add(wait.as_millis() as i64);
        writer.failure = Some(refusal.clone());
        refusal
    }
}

/// A disk error as a refusal.
pub(super) fn refusal_of(doing: &str, error: &io::Error) -> Refusal {
    match error.kind() {
        io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded | io::ErrorKind::FileTooLarge => {
            let message = format!("cannot {doing}: the disk is full; make room, it goes on by itself");
            Refusal::new(RefusalReason::DiskFull, "journal", message)
        }
        _ => unavailable(&format!("cannot {doing}: {error}; try again")),
    }
}

fn unavailable(message: &str) -> Refusal {
    Refusal::new(RefusalReason::Unavailable, "journal", message)
}

fn refuse(reply: Reply, refusal: &Refusal) {
    metrics::refused(refusal.reason);
    reply(Err(refusal.clone()));
}
