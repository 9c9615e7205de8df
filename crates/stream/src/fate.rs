//! Fates: for every leg a record ends in exactly one of them, committed together with the data.

use serde::{Deserialize, Serialize};

/// How a record ended, for a leg.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Fate {
    /// In the sink.
    Delivered,
    /// Left out by the stream's own SQL.
    Filtered,
    /// Kept apart with its cause: it could not be decoded, converted or mapped.
    Quarantined,
    /// Kept apart because the sink had closed its partition.
    Late,
    /// Left out in the agent by the stream's own policy.
    Dropped,
}

/// Records per fate, and what a leg read twice.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct FateCounts {
    /// In the sink.
    pub delivered: u64,
    /// Left out by SQL.
    pub filtered: u64,
    /// Kept apart with a cause, since the beginning: also those that were replayed.
    pub quarantined: u64,
    /// Kept apart because too late.
    pub late: u64,
    /// Left out in the agent.
    pub dropped: u64,
    /// Records taken out of the quarantine again. Not a fate: each has got another one instead, or the same anew.
    #[serde(default)]
    pub replayed: u64,
    /// Copies removed because the record had been taken before. Not a fate: the record has one already.
    pub doubles: u64,
}

impl FateCounts {
    /// Counts one record.
    pub fn count(&mut self, fate: Fate) {
        *self.of(fate) += 1;
    }

    /// Adds `other`.
    pub fn add(&mut self, other: &FateCounts) {
        self.delivered += other.delivered;
        self.filtered += other.filtered;
        self.quarantined += other.quarantined;
        self.late += other.late;
        self.dropped += other.dropped;
        self.replayed += other.replayed;
        self.doubles += other.doubles;
    }

    /// Records that have a fate.
    pub fn total(&self) -> u64 {
        self.delivered + self.filtered + self.in_quarantine() + self.late + self.dropped
    }

    /// Records that are in the quarantine now.
    pub fn in_quarantine(&self) -> u64 {
        self.quarantined.saturating_sub(self.replayed)
    }

    fn of(&mut self, fate: Fate) -> &mut u64 {
        match fate {
            Fate::Delivered => &mut self.delivered,
            Fate::Filtered => &mut self.filtered,
            Fate::Quarantined => &mut self.quarantined,
            Fate::Late => &mut self.late,
            Fate::Dropped => &mut self.dropped,
        }
    }
}
