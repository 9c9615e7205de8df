//! Facts and leg reports in memory: what the ledger reads. One entry per living stream; facts and reports are shared
//! by reference, so that an audit holds them still without copying (a writer copies what is being read).
//!
//! Bytes: about 300 per source and leg. Sources go with their stream.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::Arc;

use stream::{Incarnation, StreamId};

use super::legs::Leg;
use crate::ledger::Facts;

/// Facts and reports of all living streams.
#[derive(Default)]
pub struct Book {
    entries: HashMap<Incarnation, Entry>,
    changed: HashSet<StreamId>,
}

/// Facts and reports of one stream.
#[derive(Clone, Default)]
pub struct Entry {
    /// What the collecting side states.
    pub facts: Arc<Facts>,
    /// What the legs state, by sink.
    pub legs: BTreeMap<String, Arc<Leg>>,
}

impl Book {
    /// What is known of a life; nothing known is an empty entry.
    pub fn entry(&self, incarnation: Incarnation) -> Entry {
        self.entries.get(&incarnation).cloned().unwrap_or_default()
    }

    /// The same without taking a share.
    pub fn look(&self, incarnation: Incarnation) -> Option<&Entry> {
        self.entries.get(&incarnation)
    }

    /// For changing it; the stream is due for an audit.
    pub fn change(&mut self, stream: &StreamId, incarnation: Incarnation) -> &mut Entry {
        self.changed.insert(stream.clone());
        self.entries.entry(incarnation).or_default()
    }

    /// Forgets a life.
    pub fn forget(&mut self, incarnation: Incarnation) {
        self.entries.remove(&incarnation);
    }

    /// The streams changed since this was last asked.
    pub fn take_changed(&mut self) -> HashSet<StreamId> {
        std::mem::take(&mut self.changed)
    }

    /// Puts a stream back, because its audit could not be made.
    pub fn still_changed(&mut self, stream: StreamId) {
        self.changed.insert(stream);
    }
}
