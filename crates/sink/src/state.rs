//! What a leg knows, committed together with its data: positions, the ranges taken per source, the horizon, the fates.
//! A commit carries only what changed; [`LegState::apply`] is the one place where changes become state.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use stream::facts::{Place, Position};
use stream::fate::FateCounts;
use stream::provenance::SourceId;
use stream::ranges::Ranges;

/// The committed state of a leg.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct LegState {
    /// Number of the last commit; 0: none yet.
    pub commit: u64,
    /// Everything before them is committed. Sorted by place.
    pub positions: Vec<Position>,
    /// What has been taken, per source that is remembered.
    pub sources: BTreeMap<SourceId, SourceState>,
    /// Birth of the youngest source forgotten, in minutes since 1970: an unknown source born no later is stale.
    pub horizon_minutes: Option<u32>,
    /// Fates since the leg's beginning; `delivered` is the number of rows.
    pub fates: FateCounts,
    /// Bytes of bodies delivered since the leg's beginning.
    pub delivered_bytes: u64,
    /// How far the quarantine has been taken again.
    #[serde(default)]
    pub replay: Replay,
    /// Whether the leg was handed over: whoever took it goes on, and this one only from what that one hands over.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub is_handed_over: bool,
}

/// A place in a leg's quarantine, which is a log: what is set apart is added at its end.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct ApartPosition {
    /// The commit that set the record apart; 0 where the quarantine is one topic.
    pub commit: u64,
    /// Records of that commit before it; in a topic the offset.
    pub record: u64,
}

/// How far a leg has taken its quarantine again: it moves along the quarantine as a reader does, and its place is committed
/// with the rows that came of it. So each record is replayed once, and what fails again stands at the end anew.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Replay {
    /// The order that was last begun: when it was given, in ms since 1970.
    pub order_ms: u64,
    /// Which log the positions are of; 0 where there is only ever one.
    #[serde(default)]
    pub log: u64,
    /// Everything before this has been replayed.
    pub next: ApartPosition,
    /// Where this replay ends: what the quarantine held when it began.
    pub end: ApartPosition,
}

impl Replay {
    /// Whether something is left to do.
    pub fn is_under_way(&self) -> bool {
        self.next < self.end
    }
}

/// What is known of one source.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct SourceState {
    /// The ranges taken; in a [`Commit`] those newly taken.
    pub taken: Ranges,
    /// Its length, once its end was read.
    pub finished: Option<u64>,
    /// Where its latest batch was seen, per place.
    pub last: Vec<Seen>,
}

/// The latest batch of a source at one place.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Seen {
    /// Where.
    pub place: Place,
    /// Offset of the batch's last record.
    pub offset: u64,
    /// When the journal took it, in ms since 1970.
    pub append_time_ms: i64,
}

/// What changed since the last commit.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Commit {
    /// All positions, as they stand.
    pub positions: Vec<Position>,
    /// Changed sources: ranges newly taken, an end, last places.
    pub sources: BTreeMap<SourceId, SourceState>,
    /// Sources that are remembered no longer.
    pub forgotten: Vec<SourceId>,
    /// The horizon as it stands.
    pub horizon_minutes: Option<u32>,
    /// Fates of the records read since the last commit.
    pub fates: FateCounts,
    /// Bytes of bodies among the rows written since the last commit.
    pub delivered_bytes: u64,
    /// The replay as it stands.
    #[serde(default)]
    pub replay: Replay,
    /// Whether this is the last commit of a leg that is handed over.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub is_handed_over: bool,
}

impl SourceState {
    /// Adds what `change` says.
    pub fn absorb(&mut self, change: &SourceState) {
        self.taken.union(&change.taken);
        self.finished = self.finished.max(change.finished);
        change.last.iter().for_each(|seen| self.see(*seen));
    }

    /// Notes the latest batch at a place.
    pub fn see(&mut self, seen: Seen) {
        match self.last.iter_mut().find(|known| known.place == seen.place) {
            Some(known) => *known = seen,
            None => self.last.push(seen),
        }
    }

    /// Whether everything up to its end has been taken.
    pub fn is_complete(&self) -> bool {
        self.finished.is_some_and(|length| self.taken.contiguous_end() >= length)
    }
}

impl LegState {
    /// The state after the commit numbered `number`.
    pub fn apply(&mut self, number: u64, commit: &Commit) {
        self.commit = number;
        self.positions.clone_from(&commit.positions);
        for (source, change) in &commit.sources {
            self.sources.entry(*source).or_default().absorb(change);
        }
        for source in &commit.forgotten {
            self.sources.remove(source);
        }
        self.horizon_minutes = self.horizon_minutes.max(commit.horizon_minutes);
        self.fates.add(&commit.fates);
        self.delivered_bytes += commit.delivered_bytes;
        if commit.replay.order_ms != 0 {
            // A commit from before there were replays says nothing of them.
            self.replay = commit.replay;
        }
        self.is_handed_over = commit.is_handed_over;
    }

    /// The commit that hands the leg over: it changes nothing else.
    pub fn hand_over(&self) -> Commit {
        Commit {
            positions: self.positions.clone(),
            horizon_minutes: self.horizon_minutes,
            replay: self.replay,
            is_handed_over: true,
            ..Commit::default()
        }
    }

    /// The committed position at `place`; its beginning if nothing was committed there.
    pub fn position(&self, place: Place) -> Position {
        self.positions.iter().find(|position| position.place == place).copied().unwrap_or(Position::at(place, 0))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use stream::provenance::Range;

    #[test]
    fn commits_add_up_and_forgetting_raises_the_horizon() {
        let (place, source) = (Place { cluster: 0, partition: 0 }, SourceId::derive(7, &[b"a"]));
        let change = |start, end, finished| SourceState {
            taken: [Range::new(start, end)].into_iter().collect(),
            finished,
            last: vec![Seen { place, offset: end, append_time_ms: 1 }],
        };
        let mut state = LegState::default();
        for (number, (start, end, finished)) in [(1, (0, 5, None)), (2, (5, 9, Some(9)))] {
            let fates = FateCounts { delivered: 1, ..FateCounts::default() };
            let positions = vec![Position::at(place, end)];
            let sources = [(source, change(start, end, finished))].into();
            state.apply(number, &Commit { positions, sources, fates, ..Commit::default() });
        }
        let held = &state.sources[&source];
        assert!(held.is_complete() && held.last.len() == 1 && held.taken.as_slice() == [Range::new(0, 9)]);
        assert_eq!((state.commit, state.position(place).offset, state.fates.delivered), (2, 9, 2));
        let forget = Commit { forgotten: vec![source], horizon_minutes: Some(7), ..Commit::default() };
        state.apply(3, &forget);
        assert!(state.sources.is_empty() && state.horizon_minutes == Some(7));
        let (before, last) = (state.clone(), state.hand_over());
        state.apply(4, &last);
        assert_eq!(state, LegState { commit: 4, is_handed_over: true, ..before }, "nothing else changes");
        let text = serde_json::to_string(&state).unwrap();
        assert_eq!(serde_json::from_str::<LegState>(&text).unwrap(), state);
    }
}
