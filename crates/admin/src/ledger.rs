//! The ledger: what was collected of a stream, what became of it in each leg, and what is missing.
//!
//! The whole decision is here and pure. What makes "missing" provable is the order in which its inputs are read (see
//! `audit`): first the facts, then the journal's ends, then the leg's report. Facts and the ends read after them are a
//! [`Mark`]: whatever its facts call acknowledged lay before its ends. So a leg whose every position has passed a
//! mark's ends has read all that the mark calls acknowledged, and what it has not taken of that is lost; the rest of
//! what is acknowledged and not taken is in flight. A leg of a stream that never rests is never at the end of the
//! journal, but it passes one mark after the other: [`Marks`].
//!
//! Amounts are ordinals of sources (bytes of files and request bodies), because ranges are what both sides state;
//! fates count records.

use std::collections::BTreeMap;
use std::sync::Arc;

use serde::{Deserialize, Serialize};
use stream::facts::{LegReport, Place, SetApart, SourceFact};
use stream::fate::FateCounts;
use stream::{Incarnation, Range, Ranges, SourceId, StreamId};

/// Most sources that one answer lists; the totals always cover all.
pub const SOURCES_LISTED_MAX: usize = 10_000;
/// Most missing ranges that one answer names per leg; the totals always cover all.
pub const MISSING_LISTED_MAX: usize = 1_000;

/// Facts of one stream, by source and collector.
pub type Facts = BTreeMap<(SourceId, String), SourceFact>;

/// The answer of `GET /api/v1/ledger/{id}`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Ledger {
    /// The stream.
    pub stream: StreamId,
    /// Its life.
    pub incarnation: Incarnation,
    /// Version of its configuration.
    pub version: u64,
    /// What was collected.
    pub collected: Collected,
    /// One balance for each sink of the stream, in the order of the configuration.
    pub legs: Vec<LegBalance>,
    /// Why the journal's ends are not known; then nothing is called missing.
    pub ends_unknown: Option<String>,
}

/// What the collecting side states.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Collected {
    /// Sources known.
    pub sources_total: u64,
    /// Ordinals seen in all sources.
    pub seen: u64,
    /// Ordinals acknowledged in all sources (those set apart included: the position has moved past them).
    pub acknowledged: u64,
    /// Ordinals set apart by agents: refused for good, kept in their quarantine files.
    pub set_apart: u64,
    /// The sources, at most [`SOURCES_LISTED_MAX`].
    pub sources: Vec<CollectedSource>,
}

/// One source.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct CollectedSource {
    /// The source.
    pub source: SourceId,
    /// What it is.
    #[serde(flatten)]
    pub account: Account,
}

/// What is known of one source, over all who read it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Account {
    /// What a person knows it by.
    pub name: String,
    /// Who reads it.
    pub collectors: Vec<String>,
    /// Ordinals seen.
    pub seen: u64,
    /// Everything before it is acknowledged.
    pub acknowledged: u64,
    /// Whether it has ended at `seen`.
    pub finished: bool,
    /// Ranges set apart, with their cause.
    pub set_apart: Vec<SetApart>,
}

/// Accounts by source.
pub type Accounts = BTreeMap<SourceId, Account>;

/// Where a partition of the stream's topic ended, after the facts were read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct End {
    /// The partition.
    pub place: Place,
    /// One past the last durable record.
    pub offset: u64,
    /// Records that a limit removed before a live reader had taken them.
    pub overtaken_records: u64,
}

/// What became of a stream's records in one leg.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct LegBalance {
    /// The sink's name.
    pub leg: String,
    /// The leg's last commit; 0: it has not reported yet.
    pub commit: u64,
    /// Records per fate, and removed doubles.
    pub fates: FateCounts,
    /// Whether its job runs on Flink, where of the fates only delivered and quarantined records are counted.
    #[serde(default)]
    pub on_flink: bool,
    /// Bytes of bodies delivered.
    pub delivered_bytes: u64,
    /// Positions beside the journal's ends.
    pub positions: Vec<LegPosition>,
    /// Ordinals taken, whatever their fate.
    pub taken: u64,
    /// Ordinals taken of which no acknowledgement has been reported yet.
    pub ahead: u64,
    /// Ordinals acknowledged and not taken, that the leg has not provably read past.
    pub in_flight: u64,
    /// Ordinals acknowledged and not taken, although the leg has read past where the journal ended then: lost.
    pub missing: u64,
    /// The missing ranges by source, at most [`MISSING_LISTED_MAX`] ranges.
    pub missing_ranges: Vec<MissingSource>,
    /// Why the leg stands still, if it does.
    pub failure: Option<String>,
}

/// A leg's position beside the partition's end.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct LegPosition {
    /// The partition.
    #[serde(flatten)]
    pub place: Place,
    /// Everything before it is committed.
    pub offset: u64,
    /// The partition's end, if known.
    pub end: Option<u64>,
    /// Records that retention removed before a live reader had taken them.
    pub overtaken_records: u64,
}

/// What is missing of one source.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct MissingSource {
    /// The source.
    pub source: SourceId,
    /// What a person knows it by.
    pub name: String,
    /// The ranges.
    pub ranges: Ranges,
}

/// What is known of each source, over all who read it.
pub fn accounts(facts: &Facts) -> Accounts {
    let mut accounts = Accounts::new();
    for ((source, collector), fact) in facts {
        let account = accounts.entry(*source).or_default();
        account.collectors.push(collector.clone());
        account.name = fact.name.clone();
        account.seen = account.seen.max(fact.seen);
        account.acknowledged = account.acknowledged.max(fact.acknowledged);
        account.finished |= fact.finished;
        for apart in &fact.set_apart {
            if !account.set_apart.iter().any(|other| other.range == apart.range) {
                account.set_apart.push(apart.clone());
            }
        }
    }
    accounts
}

/// The collecting side of the ledger.
pub fn collected(accounts: &Accounts) -> Collected {
    let mut sum = Collected { sources_total: accounts.len() as u64, ..Collected::default() };
    for (source, account) in accounts {
        sum.seen += account.seen;
        sum.acknowledged += account.acknowledged;
        sum.set_apart += account.apart().total();
        if sum.sources.len() < SOURCES_LISTED_MAX {
            sum.sources.push(CollectedSource { source: *source, account: account.clone() });
        }
    }
    sum
}

impl Account {
    /// The ranges that agents set apart.
    pub fn apart(&self) -> Ranges {
        self.set_apart.iter().map(|apart| apart.range).collect()
    }

    /// What a leg must take of the first `acknowledged` ordinals, and has not.
    fn open(&self, acknowledged: u64, taken: &Ranges) -> Ranges {
        if taken.contiguous_end() >= acknowledged {
            return Ranges::default();
        }
        Ranges::from(vec![Range::new(0, acknowledged)]).difference(&self.apart()).difference(taken)
    }
}

/// Facts, and the ends that were read after them.
#[derive(Clone, Debug, PartialEq)]
pub struct Mark {
    /// What the facts said.
    pub accounts: Arc<Accounts>,
    /// Where the topic's partitions ended after that.
    pub ends: Vec<End>,
}

impl Mark {
    /// Whether a leg has read all that the mark calls acknowledged. A leg that has not reported has read nothing.
    fn passed(&self, report: Option<&LegReport>) -> bool {
        let offset = |place| {
            let positions = report.iter().flat_map(|report| &report.positions);
            positions.filter(|position| position.place == place).map(|position| position.offset).max().unwrap_or(0)
        };
        self.ends.iter().all(|end| offset(end.place) >= end.offset)
    }
}

/// The marks of one leg: the newest one that it has passed, and the next one that it has to pass.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Marks {
    passed: Option<Mark>,
    next: Option<Mark>,
}

impl Marks {
    /// Goes on to `now`, the mark just made, if any; `report` is read after it. Returns the newest mark passed.
    pub fn advance(&mut self, now: Option<&Mark>, report: Option<&LegReport>) -> Option<&Mark> {
        if self.next.as_ref().is_some_and(|next| next.passed(report)) {
            self.passed = self.next.take();
        }
        match now {
            Some(now) if now.passed(report) => *self = Self { passed: Some(now.clone()), next: None },
            Some(now) if self.next.is_none() => self.next = Some(now.clone()),
            _ => (),
        }
        // A leg that started anew has to pass it again.
        self.passed.as_ref().filter(|mark| mark.passed(report))
    }
}

/// What became of what was acknowledged, in one leg. `passed` is the newest mark that the leg has passed: without one
/// nothing is called missing. `ends` are shown beside the positions.
pub fn balance(
    accounts: &Accounts,
    leg: &str,
    report: Option<&LegReport>,
    passed: Option<&Mark>,
    ends: &[End],
) -> LegBalance {
    let none = BTreeMap::new();
    let taken = report.map_or(&none, |report| &report.taken);
    let nothing = Ranges::default();
    let mut sum = LegBalance {
        leg: leg.to_owned(),
        commit: report.map_or(0, |report| report.commit),
        fates: report.map(|report| report.fates).unwrap_or_default(),
        on_flink: report.is_some_and(|report| report.job.is_some()),
        delivered_bytes: report.map_or(0, |report| report.delivered_bytes),
        positions: positions(report, ends),
        taken: taken.values().map(Ranges::total).sum(),
        ahead: 0,
        in_flight: 0,
        missing: 0,
        missing_ranges: Vec::new(),
        failure: report.and_then(|report| report.failure.clone()),
    };
    let mut room = MISSING_LISTED_MAX;
    for (source, account) in accounts {
        let taken = taken.get(source).unwrap_or(&nothing);
        let read = passed.and_then(|mark| mark.accounts.get(source)).map_or(0, |account| account.acknowledged);
        let missing = account.open(read, taken);
        sum.in_flight += account.open(account.acknowledged, taken).total() - missing.total();
        sum.missing += missing.total();
        sum.name_missing(*source, &account.name, &missing, &mut room);
    }
    sum.ahead = taken.iter().map(|(source, taken)| ahead(accounts.get(source), taken)).sum();
    sum
}

impl LegBalance {
    /// A number of records that only the embedded engine counts.
    pub fn counted(&self, records: u64) -> Option<u64> {
        (!self.on_flink).then_some(records)
    }

    fn name_missing(&mut self, source: SourceId, name: &str, open: &Ranges, room: &mut usize) {
        let ranges: Vec<Range> = open.as_slice().iter().take(*room).copied().collect();
        *room -= ranges.len();
        if !ranges.is_empty() {
            self.missing_ranges.push(MissingSource { source, name: name.to_owned(), ranges: ranges.into() });
        }
    }
}

/// A leg's positions and the ends, one row for each place that either names. A place without a position is unread.
fn positions(report: Option<&LegReport>, ends: &[End]) -> Vec<LegPosition> {
    let mut rows: BTreeMap<Place, LegPosition> = BTreeMap::new();
    let unread = |place| LegPosition { place, offset: 0, end: None, overtaken_records: 0 };
    for end in ends {
        let row = rows.entry(end.place).or_insert(unread(end.place));
        (row.end, row.overtaken_records) = (Some(end.offset), end.overtaken_records);
    }
    for position in report.iter().flat_map(|report| &report.positions) {
        rows.entry(position.place).or_insert(unread(position.place)).offset = position.offset;
    }
    rows.into_values().collect()
}

/// Ordinals taken past what is known to be acknowledged.
fn ahead(account: Option<&Account>, taken: &Ranges) -> u64 {
    let acknowledged = account.map_or(0, |account| account.acknowledged);
    if taken.end() <= acknowledged {
        return 0;
    }
    taken.difference(&Ranges::from(vec![Range::new(0, acknowledged)])).total()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::BTreeSet;
    use stream::facts::{FlinkJob, JobState, Position};

    const HERE: Place = Place { cluster: 0, partition: 0 };

    fn source(number: u32) -> SourceId {
        SourceId::derive(number, &[])
    }

    fn fact(number: u32, acknowledged: u64, apart: &[(u64, u64)]) -> ((SourceId, String), SourceFact) {
        let fact = SourceFact {
            stream: "a.b.c".parse().unwrap(),
            incarnation: Incarnation(1),
            source: source(number),
            collector: "agent-1".into(),
            name: format!("/var/log/{number}"),
            seen: acknowledged,
            acknowledged,
            finished: false,
            set_apart: apart.iter().map(|r| SetApart { range: (*r).into(), cause: "too large".into() }).collect(),
            cuts: Vec::new(),
        };
        ((fact.source, fact.collector.clone()), fact)
    }

    fn report(offset: u64, taken: &[(u32, &[(u64, u64)])]) -> LegReport {
        let ranges = |ranges: &[(u64, u64)]| ranges.iter().map(|r| Range::from(*r)).collect::<Ranges>();
        LegReport {
            stream: "a.b.c".parse().unwrap(),
            incarnation: Incarnation(1),
            leg: "files".into(),
            commit: 3,
            positions: vec![Position::at(HERE, offset)],
            fates: FateCounts { delivered: 7, doubles: 2, ..FateCounts::default() },
            delivered_bytes: 70,
            delay_ms_p50: 1,
            delay_ms_p99: 2,
            whole: true,
            taken: taken.iter().map(|(number, held)| (source(*number), ranges(held))).collect(),
            failure: None,
            job: None,
        }
    }

    fn end(partition: u32, offset: u64) -> End {
        End { place: Place { cluster: 0, partition }, offset, overtaken_records: 0 }
    }

    /// The balance when the ends have been read just after the facts.
    fn balanced(facts: &[((SourceId, String), SourceFact)], report: &LegReport, ends: &[End]) -> LegBalance {
        let accounts = Arc::new(accounts(&facts.iter().cloned().collect()));
        let now = Mark { accounts: accounts.clone(), ends: ends.to_vec() };
        let mut marks = Marks::default();
        balance(&accounts, "files", Some(report), marks.advance(Some(&now), Some(report)), ends)
    }

    #[test]
    fn nothing_is_lost_when_all_is_taken() {
        let sum = balanced(&[fact(1, 100, &[])], &report(10, &[(1, &[(0, 100)])]), &[end(0, 10)]);
        assert_eq!((sum.in_flight, sum.missing, sum.ahead, sum.taken), (0, 0, 0, 100));
        assert_eq!((sum.fates.delivered, sum.counted(sum.fates.doubles)), (7, Some(2)));
        let job = FlinkJob {
            state: JobState::Running,
            leg: None,
            object: None,
            attempt: None,
            checkpoint: None,
            lag_records: None,
        };
        let on_flink = LegReport { job: Some(job), ..report(10, &[(1, &[(0, 100)])]) };
        let sum = balanced(&[fact(1, 100, &[])], &on_flink, &[end(0, 10)]);
        assert_eq!((sum.fates.delivered, sum.counted(sum.fates.doubles)), (7, None), "nobody counts them there");
    }

    #[test]
    fn before_the_end_it_is_in_flight_and_after_it_missing() {
        let facts = [fact(1, 100, &[]), fact(2, 50, &[])];
        let taken: &[(u32, &[(u64, u64)])] = &[(1, &[(0, 40), (60, 100)]), (2, &[(0, 50)])];
        let before = balanced(&facts, &report(9, taken), &[end(0, 10)]);
        assert_eq!((before.in_flight, before.missing), (20, 0));
        let after = balanced(&facts, &report(10, taken), &[end(0, 10)]);
        assert_eq!((after.in_flight, after.missing), (0, 20));
        let named =
            MissingSource { source: source(1), name: "/var/log/1".into(), ranges: vec![Range::new(40, 60)].into() };
        assert_eq!(after.missing_ranges, [named]);
    }

    #[test]
    fn one_unread_partition_keeps_all_in_flight() {
        let sum = balanced(&[fact(1, 100, &[])], &report(10, &[]), &[end(0, 10), end(1, 1)]);
        assert_eq!((sum.in_flight, sum.missing), (100, 0));
    }

    #[test]
    fn without_ends_or_without_a_report_nothing_is_missing() {
        let accounts = Arc::new(accounts(&[fact(1, 100, &[])].into()));
        let (report, now) = (report(10, &[]), Mark { accounts: accounts.clone(), ends: vec![end(0, 10)] });
        let mut marks = Marks::default();
        let unknown = balance(&accounts, "files", Some(&report), marks.advance(None, Some(&report)), &[]);
        assert_eq!((unknown.in_flight, unknown.missing), (100, 0));
        let silent = balance(&accounts, "files", None, marks.advance(Some(&now), None), &now.ends);
        assert_eq!((silent.in_flight, silent.missing, silent.commit), (100, 0, 0));
    }

    #[test]
    fn a_journal_that_has_lost_the_topic_makes_it_missing() {
        let sum = balanced(&[fact(1, 100, &[])], &report(10, &[(1, &[(0, 30)])]), &[]);
        assert_eq!((sum.in_flight, sum.missing), (0, 70));
    }

    #[test]
    fn what_agents_set_apart_is_not_missed() {
        let facts = [fact(1, 100, &[(40, 60)])];
        let sum = balanced(&facts, &report(10, &[(1, &[(0, 40), (60, 100)])]), &[end(0, 10)]);
        assert_eq!((sum.in_flight, sum.missing), (0, 0));
        assert_eq!(collected(&accounts(&facts.into())).set_apart, 20);
    }

    #[test]
    fn two_collectors_of_one_source_count_once() {
        let first = fact(1, 100, &[(0, 10)]);
        let mut second = fact(1, 80, &[(0, 10)]);
        second.0.1 = "gateway-1".into();
        let sum = collected(&accounts(&[first, second].into()));
        assert_eq!((sum.sources_total, sum.acknowledged, sum.set_apart), (1, 100, 10));
        assert_eq!(sum.sources[0].account.collectors, ["agent-1", "gateway-1"]);
    }

    #[test]
    fn the_list_of_missing_ranges_is_bounded_and_the_total_is_not() {
        let held: Vec<(u64, u64)> = (0..2_000).map(|i| (2 * i, 2 * i + 1)).collect();
        let sum = balanced(&[fact(1, 4_000, &[])], &report(1, &[(1, &held)]), &[end(0, 1)]);
        assert_eq!(sum.missing, 2_000);
        let listed: usize = sum.missing_ranges.iter().map(|source| source.ranges.as_slice().len()).sum();
        assert_eq!(listed, MISSING_LISTED_MAX);
    }

    type Held = Vec<(u64, u64)>;

    fn held() -> impl Strategy<Value = Held> {
        proptest::collection::vec((0..80_u64, 0..10_u64).prop_map(|(start, length)| (start, start + length)), 0..8)
    }

    fn ordinals(held: &[(u64, u64)]) -> BTreeSet<u64> {
        held.iter().flat_map(|(start, end)| *start..*end).collect()
    }

    proptest! {
        /// Against sets of ordinals: each acknowledged one is taken, set apart, in flight or missing, and only one of them.
        #[test]
        fn equals_a_count_of_ordinals(
            sources in proptest::collection::vec((0..90_u64, 0..90_u64, held(), held()), 1..4), passed: bool,
        ) {
            let facts = |of: fn(&(u64, u64, Held, Held)) -> u64| -> Facts {
                sources.iter().zip(1..).map(|(source, n)| fact(n, of(source), &source.3)).collect()
            };
            let taken: Vec<(u32, &[(u64, u64)])> =
                sources.iter().zip(1..).map(|((_, _, taken, _), n)| (n, taken.as_slice())).collect();
            let earlier = Arc::new(accounts(&facts(|(earlier, now, ..)| *earlier.min(now))));
            let mark = Mark { accounts: earlier, ends: vec![end(0, 5)] };
            let report = report(5, &taken);
            let accounts = accounts(&facts(|(_, now, ..)| *now));
            let sum = balance(&accounts, "files", Some(&report), passed.then_some(&mark), &[]);

            let (mut in_flight, mut missing, mut ahead, mut all) = (0, 0, 0, 0);
            for (earlier, acknowledged, taken, apart) in &sources {
                let (taken, apart) = (ordinals(taken), ordinals(apart));
                let open = (0..*acknowledged).filter(|at| !taken.contains(at) && !apart.contains(at));
                let (read, unread): (Vec<u64>, Vec<u64>) = open.partition(|at| passed && at < earlier);
                (missing, in_flight) = (missing + read.len() as u64, in_flight + unread.len() as u64);
                ahead += taken.iter().filter(|at| **at >= *acknowledged).count() as u64;
                all += taken.len() as u64;
            }
            prop_assert_eq!((sum.in_flight, sum.missing), (in_flight, missing));
            prop_assert_eq!((sum.taken, sum.ahead), (all, ahead));
            prop_assert_eq!(sum.missing_ranges.iter().map(|source| source.ranges.total()).sum::<u64>(), sum.missing);
        }

        /// A stream that never rests, with a leg that is never at the end: no false alarm, and each loss is named once
        /// the leg has passed a mark made after it; it does not come and go.
        #[test]
        fn a_loss_is_found_while_the_stream_flows(
            lost in proptest::collection::btree_set(0..60_u64, 0..5), lag in 1..6_usize,
            audits in proptest::collection::vec(any::<bool>(), 70),
        ) {
            let mut log: Vec<u64> = Vec::new();
            let (mut marks, mut known) = (Marks::default(), 0);
            for (ordinal, audit) in (0..70_u64).zip(audits) {
                if !lost.contains(&ordinal) {
                    log.push(ordinal);
                }
                let read = log.len().saturating_sub(lag);
                let taken: Held = log[..read].iter().map(|at| (*at, at + 1)).collect();
                if audit || ordinal >= 60 {
                    let accounts = Arc::new(accounts(&[fact(1, ordinal + 1, &[])].into()));
                    let now = Mark { accounts: accounts.clone(), ends: vec![end(0, log.len() as u64)] };
                    let report = report(read as u64, &[(1, &taken)]);
                    let sum = balance(&accounts, "files", Some(&report), marks.advance(Some(&now), Some(&report)), &now.ends);
                    let named = sum.missing_ranges.iter().flat_map(|source| source.ranges.as_slice());
                    prop_assert!(named.flat_map(|r| r.start..r.end).all(|at| lost.contains(&at)), "a false alarm");
                    prop_assert!(sum.missing >= known, "what was missing is in flight again");
                    known = sum.missing;
                }
            }
            let due = lost.iter().filter(|at| **at < 55).count() as u64;
            prop_assert!(known >= due, "{known} of {due} found");
        }
    }

    #[test]
    fn a_leg_that_starts_anew_has_all_before_it() {
        let mark = Mark { accounts: Arc::new(accounts(&[fact(1, 100, &[])].into())), ends: vec![end(0, 10)] };
        let mut marks = Marks::default();
        assert!(marks.advance(Some(&mark), Some(&report(10, &[]))).is_some());
        assert!(marks.advance(None, Some(&report(0, &[]))).is_none());
    }
}
