//! The keeper: copies sealed write-ahead segments into runs and removes them, lets go what retention decides, drops
//! topics that left the configuration, and rewrites a run once less than half of it lives.
//!
//! Order: copy durable, index changed, segment removed, removal durable; segments strictly from the oldest on. A run
//! that exists proves that its segment was copied. Whatever fails is tried again at the next turn; only copying holds
//! up commits, and only after `sealed_max` segments wait.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::PoisonError;
use std::sync::atomic::Ordering;

use stream::crash;
use stream::disk::DiskFile;
use tracing::{error, info, warn};

use super::format::{Entry, FileName};
use super::index::{Key, Partition, Run};
use super::log::{EmbeddedLog, lock};
use super::retention::{decide, is_over};
use super::run::{Pieces, RunWriter, draft_path, read_exactly};
use super::scan::{Found, frames};
use super::state::State;
use super::writer::refusal_of;
use crate::metrics;

/// The keeper's turn: held while it works, so that there is one keeper.
#[derive(Debug, Default)]
pub struct Keeper(());

impl EmbeddedLog {
    /// Keeps until the log is stopped. Runs on a thread of its own.
    pub fn keep_until_stopped(&self) {
        let mut tended_ms = i64::MIN;
        while !self.stopping.load(Ordering::SeqCst) {
            self.copy_sealed();
            let now_ms = self.clock.now_ms();
            if now_ms.saturating_sub(tended_ms) >= self.settings.tend_every.as_millis() as i64 {
                self.tend();
                tended_ms = now_ms;
            }
            let keeper = lock(&self.keeper);
            if !self.stopping.load(Ordering::SeqCst) {
                // A wake-up for no reason only looks again.
                drop(self.keeper_wanted.wait_timeout(keeper, self.settings.tend_every / 4));
            }
        }
        self.write_state();
    }

    /// Copies every sealed segment, as far as the disk lets.
    pub fn copy_sealed(&self) {
        let _turn = lock(&self.keeper);
        loop {
            let oldest = lock(&self.index).sealed.front().copied();
            let Some(wal) = oldest else { break };
            if let Err(error) = self.copy(wal) {
                warn!(%error, segment = wal, "cannot copy a sealed segment; it is tried again");
                *lock(&self.copy_failure) = Some(refusal_of("copy a sealed segment", &error));
                return;
            }
        }
        *lock(&self.copy_failure) = None;
    }

    fn copy(&self, wal: u64) -> io::Result<()> {
        let frames = lock(&self.index).frames_of(wal);
        let (run, pieces) = if frames.is_empty() {
            (None, Vec::new())
        } else {
            let parts = frames.into_iter().flat_map(|(key, frames)| {
                frames.into_iter().map(move |frame| (key.clone(), frame.position, frame.bytes))
            });
            let (run, pieces) = self.write_run(FileName::Wal(wal), wal, 0, parts)?;
            (Some(run), pieces)
        };
        lock(&self.index).adopt_copy(wal, run, pieces);
        // At another try, after a failure below, there is nothing left to copy.
        let draft = self.take_away(FileName::Wal(wal))?;
        crash::point("journal.wal.removed");
        {
            let mut index = lock(&self.index);
            index.sealed.pop_front();
            metrics::files(index.sealed.len(), index.runs.len());
        }
        // Only now: commits wait while too much is sealed.
        if let Err(error) = self.free(&draft) {
            warn!(%error, file = %draft.display(), "cannot free a segment that was copied; the next start does");
        }
        Ok(())
    }

    /// Lets go what retention and the configuration say, and gives its room back to the disk.
    pub fn tend(&self) {
        let _turn = lock(&self.keeper);
        self.drop_gone_topics();
        // What leaves something of its partition needs no state; the rest only after its end is durable.
        self.retain(false);
        if self.write_state() {
            self.retain(true);
        }
        if let Err(error) = self.free_runs() {
            warn!(%error, "cannot free what is no longer kept; it is tried again");
        }
    }

    /// Topics that left the configuration go after a grace period: one that was removed by mistake can come back.
    fn drop_gone_topics(&self) {
        let now_ms = self.clock.now_ms();
        let grace_ms = self.settings.removed_grace.as_millis() as i64;
        let mut guard = lock(&self.index);
        let index = &mut *guard;
        let gone = index.partitions.keys().map(|(topic, _)| topic).filter(|topic| !index.topics.contains_key(*topic));
        for topic in gone.cloned().collect::<Vec<_>>() {
            let since_ms = *index.gone_since_ms.entry(topic.clone()).or_insert(now_ms);
            if now_ms - since_ms >= grace_ms {
                index.partitions.retain(|(other, _), _| *other != topic);
                index.gone_since_ms.remove(&topic);
                self.state_changed.store(true, Ordering::SeqCst);
                info!(topic = &*topic, "a topic left the configuration; its entries are dropped");
            }
        }
    }

    /// Drops what is due, `wholly`: also the last that a partition holds.
    fn retain(&self, wholly: bool) {
        let now_ms = self.clock.now_ms();
        let mut guard = lock(&self.index);
        let index = &mut *guard;
        for ((topic, _), partition) in &mut index.partitions {
            let Some(settings) = index.topics.get(topic) else { continue };
            let verdict = decide(partition, settings, now_ms);
            partition.is_over = is_over(partition, settings, verdict);
            let empties = verdict.pieces == partition.pieces.len() && partition.frames.is_empty();
            if verdict.pieces == 0 || (empties && !wholly) {
                continue;
            }
            partition.drop_pieces(verdict.pieces);
            partition.overtaken_records = partition.overtaken_records.saturating_add(verdict.overtaken_records);
            self.state_changed.store(true, Ordering::SeqCst);
            if verdict.overtaken_records > 0 {
                metrics::overtaken(topic, verdict.overtaken_records);
                warn!(
                    topic = &**topic,
                    records = verdict.overtaken_records,
                    "retention removed records that a reader had not taken"
                );
            }
        }
    }

    /// Writes the state file if it is behind. Returns whether the file is up to date.
    fn write_state(&self) -> bool {
        let changed = self.state_changed.swap(false, Ordering::SeqCst);
        let (state, due) = {
            let index = lock(&self.index);
            let due = |(key, partition): (&Key, &Partition)| {
                let settings = index.topics.get(&key.0);
                settings.is_some_and(|settings| decide(partition, settings, self.clock.now_ms()).pieces > 0)
            };
            let due = index.partitions.iter().any(due);
            ((changed || due).then(|| State::of(&index)), due)
        };
        let Some(state) = state else { return due };
        match state.write(self.disk.as_ref(), &self.dir) {
            Ok(()) => true,
            Err(error) => {
                self.state_changed.store(true, Ordering::SeqCst);
                warn!(%error, "cannot write the journal's state; it is tried again");
                false
            }
        }
    }

    /// Removes runs without live pieces, and rewrites those of which less than half lives.
    fn free_runs(&self) -> io::Result<()> {
        let (runs, live) = {
            let index = lock(&self.index);
            (index.runs.clone(), index.live_bytes())
        };
        for (number, run) in runs {
            match live.get(&number).copied().unwrap_or(0) {
                0 => {
                    lock(&self.index).runs.remove(&number);
                    self.remove(FileName::Run(number, run.generation))?;
                }
                live if live * 2 < run.bytes => self.rewrite(number, run)?,
                _ => {}
            }
        }
        let index = lock(&self.index);
        metrics::files(index.sealed.len(), index.runs.len());
        metrics::live(live.values().sum());
        Ok(())
    }

    fn rewrite(&self, number: u64, old: Run) -> io::Result<()> {
        let pieces = lock(&self.index).pieces_of(number);
        let old_name = FileName::Run(number, old.generation);
        let parts = pieces
            .into_iter()
            .flat_map(|(key, pieces)| pieces.into_iter().map(move |piece| (key.clone(), piece.position, piece.bytes)));
        let (run, pieces) = self.write_run(old_name, number, old.generation + 1, parts)?;
        lock(&self.index).adopt_rewrite(number, run, pieces);
        self.remove(old_name)
    }

    /// Writes a run of `parts` (partition, position, bytes) of the file `from`.
    fn write_run(
        &self,
        from: FileName,
        number: u64,
        generation: u32,
        parts: impl Iterator<Item = (Key, u32, u32)>,
    ) -> io::Result<(Run, Pieces)> {
        let (disk, dir) = (self.disk.as_ref(), self.dir.as_path());
        let file = disk.open(&from.path(dir))?;
        let mut written = RunWriter::create(disk, dir, number, generation, &self.settings);
        for (key, position, bytes) in parts {
            let Ok(run) = &mut written else { break };
            if let Err(error) = copy_frames(file.as_ref(), &key, position, bytes, run) {
                written = Err(error);
            }
        }
        let written = written.and_then(RunWriter::finish);
        if written.is_err() {
            // The disk may be full: the draft must not take the room that is left.
            drop(disk.remove(&draft_path(dir, number, generation)));
        }
        written
    }

    fn remove(&self, name: FileName) -> io::Result<()> {
        let draft = self.take_away(name)?;
        self.free(&draft)
    }

    /// Takes a file's name away, durably, and gives it a draft's: whatever happens now, recovery removes it.
    fn take_away(&self, name: FileName) -> io::Result<PathBuf> {
        let draft = self.dir.join(format!("{}.draft", name.text()));
        match self.disk.replace(&name.path(&self.dir), &draft) {
            // Taken away by a try that failed later.
            Err(error) if error.kind() != io::ErrorKind::NotFound || !self.disk.exists(&draft) => return Err(error),
            _ => {}
        }
        self.disk.sync_dir(&self.dir)?;
        Ok(draft)
    }

    /// Gives a file's room back bit by bit: a commit may have to wait until the disk has taken back what was freed before
    /// it.
    fn free(&self, draft: &Path) -> io::Result<()> {
        // Whoever opened it by its name has read what he wanted.
        drop(self.reading.write().unwrap_or_else(PoisonError::into_inner));
        let mut file = self.disk.open(draft)?;
        while file.len() > self.settings.keeper_step_bytes {
            file.truncate(file.len() - self.settings.keeper_step_bytes)?;
            file.sync()?;
        }
        drop(file);
        self.disk.remove(draft)
    }
}

/// Copies the whole frames of a part of `file` into `run`.
fn copy_frames(file: &dyn DiskFile, key: &Key, position: u32, bytes: u32, run: &mut RunWriter<'_>) -> io::Result<()> {
    let part = read_exactly(file, position.into(), bytes as usize)?;
    for found in frames(&part, 0) {
        let (from, to) = match found {
            Found::Frame { position, bytes, payload } => {
                if let Some(entry) = Entry::read(payload) {
                    run.push(key, &entry, &part[position..position + bytes])?;
                }
                continue;
            }
            Found::Damaged { from, to } => (from, to),
            Found::Tail { from } => (from, part.len()),
        };
        metrics::damaged(to - from);
        let (from, to) = (u64::from(position) + from as u64, u64::from(position) + to as u64);
        error!(topic = &*key.0, from, to, "damaged bytes in the journal are left behind");
    }
    Ok(())
}
