//! De-duplication: what a leg has taken, as range sets per source. Pure: no I/O, time passed in.
//!
//! A record whose range is disjoint from the set is new; contained, it is a double and is dropped and counted; anything
//! else means that two readings of one source disagree about where records end, and is set apart. A batch that is
//! disjoint or contained as a whole is judged by one look.
//!
//! A source whose end was read and that is taken whole is forgotten once the journal has removed its last batch for
//! [`limits::FORGET_MARGIN`]; the *horizon* is then the birth of the youngest source forgotten, and an unknown source
//! born no later is *stale*: it may be one of those forgotten, so it is set apart, never delivered.
//!
//! Limit: [`limits::RANGE_SET_BYTES_MAX`] bytes, estimated by [`Taken::bytes`]; beyond it [`super::read::gate`] holds
//! the readers. Nothing is forgotten to make room.

use std::collections::{BTreeMap, HashMap};

use sink::{LegState, Seen, SourceState};
use stream::facts::Place;
use stream::limits;
use stream::provenance::SourceId;
use stream::ranges::{Ranges, Relation};
use stream::{Batch, Kind, View};

/// What a source costs beside its ranges: the id, the state, its place in the map.
const SOURCE_BYTES: usize = 160;
/// What a range or a last place costs.
const RANGE_BYTES: usize = 24;

/// What is to be done with one record.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// Take it.
    New,
    /// Taken before: drop and count it.
    Double,
    /// Set it apart, with this cause.
    Apart(&'static str),
    /// It says something, but is no record: an end or a heartbeat.
    Silent,
}

const OVERLAP: &str = "overlap: its range was taken in part, with other record boundaries";
const STALE: &str = "stale: its source is unknown and born before the leg's horizon, so it may have been taken before";
const NO_RANGE: &str = "no range: it covers no part of its source, so it cannot be told from its copies";

/// Whether a record was set apart because it may be a double: no other text of the job changes that.
pub fn is_doubtful(cause: &str) -> bool {
    [OVERLAP, STALE, NO_RANGE].contains(&cause)
}

/// What a leg has taken.
#[derive(Debug, Default)]
pub struct Taken {
    sources: HashMap<SourceId, SourceState>,
    horizon_minutes: Option<u32>,
    bytes: usize,
    gaps: usize,
    changes: Changes,
}

/// What changed since the last commit.
#[derive(Debug, Default)]
pub struct Changes {
    /// Per source: ranges newly taken, an end, last places.
    pub sources: BTreeMap<SourceId, SourceState>,
    /// Sources remembered no longer.
    pub forgotten: Vec<SourceId>,
}

impl Taken {
    /// What was taken according to a committed state.
    pub fn from_state(state: &LegState) -> Self {
        let sources: HashMap<SourceId, SourceState> =
            state.sources.iter().map(|(source, state)| (*source, state.clone())).collect();
        let bytes = sources.values().map(cost).sum();
        let gaps = sources.values().map(gaps).sum();
        Self { sources, horizon_minutes: state.horizon_minutes, bytes, gaps, changes: Changes::default() }
    }

    /// Judges the records of a batch, in order, and takes what is new. `seen` is the batch's last record's place.
    pub fn take(&mut self, batch: &Batch, seen: Seen) -> Vec<Verdict> {
        if batch.views().all(|record| record.kind == Kind::Heartbeat && record.range.is_empty()) {
            return vec![Verdict::Silent; batch.len()];
        }
        if self.is_stale(batch.source) {
            return batch.views().map(|record| verdict(&record, Verdict::Apart(STALE))).collect();
        }
        let held = self.sources.entry(batch.source).or_insert_with(|| {
            self.bytes += SOURCE_BYTES;
            SourceState::default()
        });
        let change = self.changes.sources.entry(batch.source).or_default();
        let (cost_before, gaps_before) = (cost(held), gaps(held));
        let judged = match held.taken.relation(batch.range) {
            Relation::Disjoint => batch.views().map(|record| verdict(&record, Verdict::New)).collect(),
            Relation::Contained => batch.views().map(|record| verdict(&record, Verdict::Double)).collect(),
            Relation::Overlapping => judge_each(&held.taken, batch),
        };
        let covered = batch.covered();
        held.taken.union(&covered);
        change.taken.union(&covered);
        let end = batch.views().filter(|record| record.kind == Kind::End).map(|record| record.range.end).max();
        for state in [held, change] {
            state.finished = state.finished.max(end);
            state.see(seen);
        }
        let held = &self.sources[&batch.source];
        self.bytes = (self.bytes + cost(held)).saturating_sub(cost_before);
        self.gaps = (self.gaps + gaps(held)).saturating_sub(gaps_before);
        judged
    }

    fn is_stale(&self, source: SourceId) -> bool {
        let before_horizon = self.horizon_minutes.is_some_and(|horizon| source.birth_minutes() <= horizon);
        before_horizon && !self.sources.contains_key(&source)
    }

    /// Forgets what the journal will not bring again: complete sources whose last batches were appended a margin before
    /// `reached_ms`, the append time up to which everything has been read, and lie before `starts`, the oldest offsets
    /// that each place still keeps. With half of the budget used, the margin alone decides: a late copy is then stale
    /// and set apart, never delivered twice, while a leg that holds its readers would stand still.
    pub fn forget(&mut self, starts: &BTreeMap<Place, u64>, reached_ms: i64) {
        let margin_ms = limits::FORGET_MARGIN.as_millis() as i64;
        let pressed = self.bytes > limits::RANGE_SET_BYTES_MAX / 2;
        let is_gone = |seen: &Seen| {
            let removed = starts.get(&seen.place).is_some_and(|start| *start > seen.offset);
            (removed || pressed) && reached_ms.saturating_sub(seen.append_time_ms) > margin_ms
        };
        let forgotten: Vec<SourceId> = self
            .sources
            .iter()
            .filter(|(_, state)| state.is_complete() && state.last.iter().all(is_gone))
            .map(|(source, _)| *source)
            .collect();
        for source in &forgotten {
            let state = self.sources.remove(source);
            self.bytes = self.bytes.saturating_sub(state.as_ref().map_or(0, cost));
            self.gaps = self.gaps.saturating_sub(state.as_ref().map_or(0, gaps));
            self.horizon_minutes = self.horizon_minutes.max(Some(source.birth_minutes()));
        }
        self.changes.forgotten.extend(forgotten);
    }

    /// What changed since the last call.
    pub fn changes(&mut self) -> Changes {
        std::mem::take(&mut self.changes)
    }

    /// The horizon.
    pub fn horizon_minutes(&self) -> Option<u32> {
        self.horizon_minutes
    }

    /// All that has been taken of a source that is remembered.
    pub fn of(&self, source: &SourceId) -> Option<&Ranges> {
        self.sources.get(source).map(|state| &state.taken)
    }

    /// All that has been taken of every source remembered.
    pub fn all(&self) -> BTreeMap<SourceId, Ranges> {
        self.sources.iter().map(|(source, state)| (*source, state.taken.clone())).collect()
    }

    /// Memory of the range sets, estimated.
    pub fn bytes(&self) -> usize {
        self.bytes
    }

    /// Gaps in the range sets: what other places have not brought yet, or nobody ever will.
    pub fn gaps(&self) -> usize {
        self.gaps
    }
}

fn cost(state: &SourceState) -> usize {
    SOURCE_BYTES + RANGE_BYTES * (state.taken.as_slice().len() + state.last.len())
}

fn gaps(state: &SourceState) -> usize {
    state.taken.as_slice().len().saturating_sub(1)
}

/// The verdict on a record of which `otherwise` holds if it covers anything.
fn verdict(record: &View<'_>, otherwise: Verdict) -> Verdict {
    match (record.range.is_empty(), record.kind) {
        (false, _) => otherwise,
        (true, Kind::Event | Kind::PressedBack) => Verdict::Apart(NO_RANGE),
        (true, _) => Verdict::Silent,
    }
}

fn judge_each(taken: &Ranges, batch: &Batch) -> Vec<Verdict> {
    let judge = |record: View<'_>| {
        let lies = match taken.relation(record.range) {
            Relation::Disjoint => Verdict::New,
            Relation::Contained => Verdict::Double,
            Relation::Overlapping => Verdict::Apart(OVERLAP),
        };
        verdict(&record, lies)
    };
    batch.views().map(judge).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use sink::Commit;
    use stream::provenance::Range;
    use stream::{BatchBuilder, Incarnation};

    const PLACE: Place = Place { cluster: 0, partition: 0 };

    fn seen(offset: u64) -> Seen {
        Seen { place: PLACE, offset, append_time_ms: 0 }
    }

    fn source(n: u8) -> SourceId {
        SourceId::derive(1_000 + u32::from(n), &[&[n]])
    }

    /// Records of source `n` whose ranges end at `ends`, the first beginning at `start`; a mark wherever the end divides
    /// by 5, and an end of source where asked for.
    fn batch(n: u8, start: u64, ends: &[u64], is_end: bool) -> Batch {
        let mut builder = BatchBuilder::new(start);
        for end in ends {
            let kind = if end % 5 == 0 { Kind::Mark } else { Kind::Event };
            builder.push(kind, *end, None, if kind == Kind::Mark { b"" } else { b"x" });
        }
        if is_end {
            builder.push(Kind::End, ends.last().copied().unwrap_or(start), None, b"");
        }
        builder.take(&"a.b.c".parse().unwrap(), Incarnation(1), source(n)).unwrap()
    }

    /// The boundaries of source `n`: a pure function of it, as cuts of real sources are.
    fn boundaries(n: u8) -> Vec<u64> {
        (1..=30)
            .scan(0, |end, i| {
                *end += 1 + (i * (3 + u64::from(n))) % 7;
                Some(*end)
            })
            .collect()
    }

    proptest! {
        #[test]
        fn every_record_is_taken_once_however_it_is_sent(
            // Each sending: source, first record, number of records, over how many partitions its records are spread,
            // whether the leg restarts from its state after it.
            sendings in proptest::collection::vec((0..4_u8, 0..30_usize, 1..31_usize, 1..4_u64, any::<bool>()), 1..60),
        ) {
            let (mut taken, mut state) = (Taken::default(), LegState::default());
            let mut counts: HashMap<(u8, u64), u64> = HashMap::new();
            let (mut sent, mut doubles) = (0_u64, 0_u64);
            let whole = (0..4).map(|n| (n, 0, 30, 1, true));
            for (i, (n, from, records, partitions, restarts)) in sendings.into_iter().chain(whole).enumerate() {
                let ends = boundaries(n);
                let to = (from + records).min(30);
                let start = if from == 0 { 0 } else { ends[from - 1] };
                let parts = batch(n, start, &ends[from..to], to == 30).part(|one| (one.range.end % partitions) as u32);
                for part in parts.values() {
                    let verdicts = taken.take(part, seen(i as u64));
                    for (record, verdict) in part.views().zip(verdicts).filter(|(one, _)| one.kind != Kind::End) {
                        sent += 1;
                        match verdict {
                            Verdict::New => *counts.entry((n, record.range.end)).or_default() += 1,
                            Verdict::Double => doubles += 1,
                            other => prop_assert!(false, "{other:?}"),
                        }
                    }
                }
                if restarts {
                    let Changes { sources, forgotten } = taken.changes();
                    state.apply(i as u64, &Commit { sources, forgotten, ..Commit::default() });
                    let text = serde_json::to_string(&state).unwrap();
                    state = serde_json::from_str(&text).unwrap();
                    let known = (taken.bytes(), taken.gaps());
                    taken = Taken::from_state(&state);
                    prop_assert_eq!((taken.bytes(), taken.gaps()), known, "the estimates drift");
                }
            }
            prop_assert_eq!(counts.len(), 120);
            prop_assert!(counts.values().all(|n| *n == 1));
            prop_assert_eq!(doubles, sent - 120);
            prop_assert!(state.sources.values().all(SourceState::is_complete));
        }
    }

    #[test]
    fn other_boundaries_are_set_apart_and_their_copies_are_doubles() {
        let mut taken = Taken::default();
        assert_eq!(taken.take(&batch(0, 0, &[4, 8], false), seen(1)), [Verdict::New; 2]);
        let torn = batch(0, 6, &[11, 13], false);
        assert_eq!(taken.take(&torn, seen(3)), [Verdict::Apart(OVERLAP), Verdict::New]);
        assert_eq!(taken.take(&torn, seen(5)), [Verdict::Double; 2]);
    }

    #[test]
    fn what_covers_nothing_is_set_apart_unless_it_only_says_something() {
        let mut builder = BatchBuilder::new(3);
        builder.push(Kind::Event, 3, None, b"x");
        builder.push(Kind::Heartbeat, 3, None, b"");
        let batch = builder.take(&"a.b.c".parse().unwrap(), Incarnation(1), source(0)).unwrap();
        assert_eq!(Taken::default().take(&batch, seen(0)), [Verdict::Apart(NO_RANGE), Verdict::Silent]);
    }

    #[test]
    fn a_complete_source_is_forgotten_after_the_margin_and_then_stale() {
        let margin_ms = limits::FORGET_MARGIN.as_millis() as i64;
        let mut taken = Taken::default();
        taken.take(&batch(3, 0, &[4, 8], true), seen(2));
        taken.take(&batch(1, 0, &[4, 8], false), seen(4));
        let starts = |start| BTreeMap::from([(PLACE, start)]);
        taken.forget(&starts(2), margin_ms + 1);
        taken.forget(&starts(9), margin_ms);
        assert_eq!(taken.horizon_minutes(), None);
        taken.forget(&starts(9), margin_ms + 1);
        assert_eq!((taken.horizon_minutes(), taken.changes().forgotten), (Some(1_003), vec![source(3)]));
        assert_eq!(taken.take(&batch(3, 0, &[4], false), seen(9)), [Verdict::Apart(STALE)]);
        assert_eq!(taken.take(&batch(2, 0, &[4], false), seen(9)), [Verdict::Apart(STALE)], "older, unknown");
        assert_eq!(taken.take(&batch(1, 8, &[9], false), seen(9)), [Verdict::New], "older, but known");
        assert_eq!(taken.take(&batch(4, 0, &[4], false), seen(9)), [Verdict::New], "younger");
        assert_eq!(taken.of(&source(1)).unwrap().as_slice(), [Range::new(0, 9)]);
    }
}
