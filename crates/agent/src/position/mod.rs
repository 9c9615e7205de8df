//! How far each source is acknowledged, and what must be remembered about it: the one owner of a worker's state.
//!
//! Per source, entries (one per batch handed to `send`) stand in the order of their ranges and may be done in any
//! order; the position is the end of the first ones that are done without a gap. Bounded by what may be outstanding.

pub mod state;
pub mod store;

use std::collections::{BTreeMap, BTreeSet, HashMap, VecDeque};
use std::path::Path;

use stream::SourceId;
use stream::facts::{Cut, CutKind, SetApart};
use stream::limits;
use tracing::{info, warn};

pub use state::{SourceState, State, before_hash};
pub use store::{Store, StoreError};

/// Batches outstanding of one worker. Small batches weigh little in bytes, but each takes a turn of the gateway.
pub const ENTRIES_MAX: usize = 256;
/// Sources remembered beside those being read: ended ones, and ones whose file is not found.
const SOURCES_KEPT_MAX: usize = 128;
/// What a record weighs beside its body.
const RECORD_OVERHEAD_BYTES: usize = 16;

/// The positions of one worker.
pub struct Positions {
    store: Store,
    state: State,
    queues: HashMap<SourceId, VecDeque<Entry>>,
    outstanding: BTreeMap<u64, (SourceId, usize)>,
    outstanding_bytes: usize,
    next_entry: u64,
    unwritten: bool,
    changed: BTreeSet<SourceId>,
}

struct Entry {
    id: u64,
    end: u64,
    before: Option<u64>,
    last: bool,
    done: bool,
}

/// A batch as the positions see it.
#[derive(Clone, Copy, Debug)]
pub struct Outgoing {
    /// Its source.
    pub source: SourceId,
    /// Where its last record ends.
    pub end: u64,
    /// [`before_hash`] of the bytes before `end`; none where they are not at hand.
    pub before: Option<u64>,
    /// Whether it is the source's last one.
    pub last: bool,
    /// Its records.
    pub records: usize,
    /// Bytes of its bodies.
    pub body_bytes: usize,
}

impl Positions {
    /// Takes over what a worker remembers.
    pub fn new(store: Store, state: State) -> Self {
        let changed = state.sources.keys().copied().collect();
        Self {
            store,
            state,
            queues: HashMap::new(),
            outstanding: BTreeMap::new(),
            outstanding_bytes: 0,
            next_entry: 0,
            unwritten: false,
            changed,
        }
    }

    /// What is remembered.
    pub fn state(&self) -> &State {
        &self.state
    }

    /// One source.
    pub fn source(&self, id: SourceId) -> Option<&SourceState> {
        self.state.sources.get(&id)
    }

    /// Remembers a new source, durably: nothing of it may be sent before.
    pub fn mint(&mut self, id: SourceId, source: SourceState, version: u64) -> Result<(), StoreError> {
        let (path, generation) = (source.path.display(), source.generation);
        info!(source = %id, %path, generation, position = source.position, "new source");
        let mut source = source;
        if source.cuts.is_empty() {
            source.cuts.push(Cut { at: source.position, kind: CutKind::Config, config_version: version });
        }
        self.state.recovered.retain(|fact| fact.source != id);
        self.state.sources.insert(id, source);
        self.changed.insert(id);
        self.write_through()
    }

    /// Remembers that a configuration is in force from the given ordinals on, durably.
    pub fn configure(
        &mut self,
        version: u64,
        record_bytes_max: usize,
        from: &[(SourceId, u64)],
    ) -> Result<(), StoreError> {
        self.state.record_bytes_max.insert(version, record_bytes_max);
        for (id, at) in from {
            if let Some(source) = self.state.sources.get_mut(id) {
                source.cuts.push(Cut { at: *at, kind: CutKind::Config, config_version: version });
                self.changed.insert(*id);
            }
        }
        self.write_through()
    }

    /// Remembers that a source ends at `at`, durably. `lost` is what lay beyond and is gone.
    pub fn end(&mut self, id: SourceId, at: u64, version: u64, lost: Option<SetApart>) -> Result<(), StoreError> {
        if let Some(source) = self.state.sources.get_mut(&id) {
            source.cuts.push(Cut { at, kind: CutKind::EndOfFile, config_version: version });
            source.set_apart.extend(lost);
            self.changed.insert(id);
        }
        self.write_through()
    }

    /// Notes where a source's file is and how long it is.
    pub fn saw(&mut self, id: SourceId, path: &Path, length: u64) {
        let Some(source) = self.state.sources.get_mut(&id) else { return };
        if source.path != path {
            source.path = path.to_owned();
            self.unwritten = true;
            self.changed.insert(id);
        }
        if source.seen < length {
            source.seen = length;
            self.changed.insert(id);
        }
    }

    /// Whether more may be sent.
    pub fn has_room(&self) -> bool {
        self.outstanding_bytes < limits::WORKER_OUTSTANDING_BYTES_MAX && self.outstanding.len() < ENTRIES_MAX
    }

    /// Bytes sent and not done.
    pub fn outstanding_bytes(&self) -> usize {
        self.outstanding_bytes
    }

    /// Whether everything sent is done.
    pub fn is_settled(&self) -> bool {
        self.outstanding.is_empty()
    }

    /// Notes a batch that is about to be sent; its number comes back with [`Positions::done`].
    pub fn begin(&mut self, batch: Outgoing) -> u64 {
        let (id, bytes) = (self.next_entry, batch.body_bytes + batch.records * RECORD_OVERHEAD_BYTES);
        self.next_entry += 1;
        let entry = Entry { id, end: batch.end, before: batch.before, last: batch.last, done: false };
        self.queues.entry(batch.source).or_default().push_back(entry);
        self.outstanding.insert(id, (batch.source, bytes));
        self.outstanding_bytes += bytes;
        id
    }

    /// Notes that every record of a batch is acknowledged or set apart, and says whether its source is finished by it.
    pub fn done(&mut self, entry: u64) -> Option<SourceId> {
        let (id, bytes) = self.outstanding.remove(&entry)?;
        self.outstanding_bytes -= bytes;
        let queue = self.queues.get_mut(&id)?;
        if let Some(entry) = queue.iter_mut().find(|held| held.id == entry) {
            entry.done = true;
        }
        let source = self.state.sources.get_mut(&id)?;
        while let Some(first) = queue.front().filter(|first| first.done) {
            if first.end > source.position {
                (source.position, source.before) = (first.end, first.before);
            }
            source.finished |= first.last;
            queue.pop_front();
        }
        let finished = source.finished;
        if queue.is_empty() {
            self.queues.remove(&id);
        }
        self.unwritten = true;
        self.changed.insert(id);
        finished.then_some(id)
    }

    /// Notes a record that was refused for good and lies in the quarantine.
    pub fn set_apart(&mut self, id: SourceId, apart: SetApart) {
        let Some(source) = self.state.sources.get_mut(&id) else { return };
        if source.set_apart.iter().all(|held| held.range != apart.range) {
            source.set_apart.push(apart);
            self.unwritten = true;
            self.changed.insert(id);
        }
    }

    /// Writes the positions, if any changed. `read_now` are the sources whose files are open.
    pub fn write(&mut self, read_now: &BTreeSet<SourceId>) {
        if !self.unwritten {
            return;
        }
        self.forget(read_now);
        match self.store.write(&self.state) {
            Ok(()) => self.unwritten = false,
            Err(error) => warn!(%error, "positions are not written; trying again"),
        }
    }

    /// Sources whose facts changed since the last call.
    pub fn take_changed(&mut self) -> Vec<(SourceId, SourceState)> {
        let changed = std::mem::take(&mut self.changed);
        changed.into_iter().filter_map(|id| Some((id, self.state.sources.get(&id)?.clone()))).collect()
    }

    fn write_through(&mut self) -> Result<(), StoreError> {
        self.store.write_through(&self.state)?;
        self.unwritten = false;
        Ok(())
    }

    /// Forgets cuts that were passed and, beyond the bound, the sources that were born first among those not read.
    fn forget(&mut self, read_now: &BTreeSet<SourceId>) {
        self.state.sources.values_mut().for_each(SourceState::forget_passed_cuts);
        let busy = |id: &SourceId| read_now.contains(id) || self.queues.contains_key(id) || self.changed.contains(id);
        let idle: Vec<SourceId> = self.state.sources.keys().filter(|id| !busy(id)).copied().collect();
        for id in idle.iter().take(idle.len().saturating_sub(SOURCES_KEPT_MAX)) {
            self.state.sources.remove(id);
        }
        let named = |version: &u64| {
            self.state.sources.values().flat_map(|source| &source.cuts).any(|cut| cut.config_version == *version)
        };
        let newest = self.state.record_bytes_max.keys().next_back().copied();
        let unnamed: Vec<u64> = self.state.record_bytes_max.keys().filter(|v| !named(v)).copied().collect();
        for version in unnamed.into_iter().filter(|version| Some(*version) != newest) {
            self.state.record_bytes_max.remove(&version);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::collect::identity::{FileIdentity, Fingerprint};
    use proptest::prelude::*;
    use std::sync::Arc;
    use stream::disk::SimDisk;

    fn source(inode: u64) -> (SourceId, SourceState) {
        let file = FileIdentity { device: 1, inode, birth_ns: 1 };
        let print = Fingerprint::of(b"x\n", false).unwrap();
        let id = SourceId::derive(inode as u32, &[&inode.to_le_bytes()]);
        (id, SourceState::new("/f".into(), &file, print, 0))
    }

    fn positions() -> Positions {
        let (store, _) = Store::open(Arc::new(SimDisk::new()), Path::new("/s")).unwrap();
        Positions::new(store, State::default())
    }

    proptest! {
        #[test]
        fn a_position_passes_only_what_is_done(order in Just((1..=12_u64).collect::<Vec<_>>()).prop_shuffle()) {
            let mut positions = positions();
            let (id, state) = source(1);
            positions.mint(id, state, 1).unwrap();
            for n in 1..=12 {
                let (end, last) = (n * 10, n == 12);
                let batch = Outgoing { source: id, end, before: Some(n), last, records: 1, body_bytes: 9 };
                prop_assert_eq!(positions.begin(batch), n - 1);
            }
            let mut done = BTreeSet::new();
            for n in order {
                let finished = positions.done(n - 1);
                done.insert(n);
                let contiguous = (1..=12).take_while(|n| done.contains(n)).last().unwrap_or(0);
                let source = positions.source(id).unwrap();
                prop_assert_eq!(source.position, contiguous * 10);
                prop_assert_eq!(source.before, (contiguous > 0).then_some(contiguous));
                prop_assert_eq!(finished.is_some(), contiguous == 12);
            }
            prop_assert!(positions.is_settled() && positions.outstanding_bytes == 0);
            prop_assert_eq!(positions.done(3), None, "a second answer changes nothing");
        }
    }

    #[test]
    fn what_is_remembered_is_bounded_and_what_is_read_is_not_forgotten() {
        let mut positions = positions();
        let ids: Vec<SourceId> = (0..200)
            .map(|inode| {
                let (id, state) = source(inode);
                positions.mint(id, state, inode).unwrap();
                id
            })
            .collect();
        positions.take_changed();
        positions.set_apart(ids[199], SetApart { range: stream::Range::new(0, 1), cause: "x".into() });
        positions.write(&[ids[0]].into());
        assert_eq!(positions.state().sources.len(), SOURCES_KEPT_MAX + 2);
        assert!(positions.source(ids[0]).is_some() && positions.source(ids[1]).is_none());
    }

    #[test]
    fn room_is_bounded_by_entries_and_bytes() {
        let mut positions = positions();
        let (id, state) = source(1);
        positions.mint(id, state, 1).unwrap();
        let batch = Outgoing { source: id, end: 1, before: None, last: false, records: 1, body_bytes: 1 << 20 };
        let entries: Vec<u64> = (0..4).map(|_| positions.begin(batch)).collect();
        assert!(!positions.has_room());
        positions.done(entries[0]);
        assert!(positions.has_room());
        for _ in 0..ENTRIES_MAX {
            positions.begin(Outgoing { body_bytes: 0, ..batch });
        }
        assert!(!positions.has_room());
    }
}
