//! Leg reports: the latest of each leg, with all it has ever stated as taken.
//!
//! Positions and ranges of one report belong together, and a report may arrive late or twice, so:
//!
//! - A partial report replaces the sources it names, if it is no older than the known one.
//! - A whole report does the same; sources it no longer names stay as they were, because a leg forgets finished
//!   sources that it has taken.
//! - A whole report with an *older* commit is a leg that starts anew (its sink's state is gone) or a straggler. It
//!   replaces all, and until the highest commit ever reported is reached again only whole reports are taken: what the
//!   next partial one builds on is not certain before.
//! - A partial report of an unknown leg is not taken, and a whole one is asked for.

use std::sync::{Arc, Mutex};

use sqlx::{Row, SqliteConnection};
use stream::config::Snapshot;
use stream::facts::{LegReport, ReportReply};
use stream::{Incarnation, Ranges, SourceId};

use super::open::{parse, print};
use super::{Book, Loaded, locked, streams};
use crate::error::StoreError;
use crate::metrics;

/// What is known of a leg.
#[derive(Clone, Debug, PartialEq)]
pub struct Leg {
    /// The latest report, with everything taken.
    pub report: LegReport,
    /// The highest commit ever reported; above the latest one's, partial reports are not taken.
    pub commit_highest: u64,
}

/// What becomes of a report.
#[derive(Debug, PartialEq, Eq)]
pub enum Verdict {
    /// It is older than what is known.
    Ignore,
    /// It cannot be built on; a whole one is wanted.
    AskWhole,
    /// It adds to what is known.
    Add,
    /// It replaces all that is known.
    Replace,
}

/// Decides about a report.
pub fn judge(known: Option<&Leg>, report: &LegReport) -> Verdict {
    let Some(known) = known else { return if report.whole { Verdict::Replace } else { Verdict::AskWhole } };
    let older = report.commit < known.report.commit;
    let certain = known.report.commit >= known.commit_highest;
    match (report.whole, certain) {
        (true, true) if !older => Verdict::Add,
        (true, _) => Verdict::Replace,
        (false, false) => Verdict::AskWhole,
        (false, true) if older => Verdict::Ignore,
        (false, true) => Verdict::Add,
    }
}

/// Takes a report.
pub(super) async fn take(
    connection: &mut SqliteConnection,
    snapshot: &Snapshot,
    book: &Mutex<Book>,
    report: LegReport,
) -> Result<ReportReply, StoreError> {
    if !streams::lives(snapshot, &report.stream, report.incarnation) {
        metrics::left_out("leg_report", 1);
        return Ok(ReportReply::default());
    }
    let known = locked(book).look(report.incarnation).and_then(|entry| entry.legs.get(&report.leg).cloned());
    let verdict = judge(known.as_deref(), &report);
    match verdict {
        Verdict::Ignore => {
            metrics::left_out("leg_report", 1);
            return Ok(ReportReply::default());
        }
        Verdict::AskWhole => return Ok(ReportReply { send_whole: true }),
        Verdict::Replace => forget_sources(connection, &report).await?,
        Verdict::Add => (),
    }
    let commit_highest = known.map_or(0, |known| known.commit_highest).max(report.commit);
    store(connection, &report, commit_highest).await?;
    keep(&mut locked(book), report, commit_highest, verdict == Verdict::Add);
    Ok(ReportReply::default())
}

async fn forget_sources(connection: &mut SqliteConnection, report: &LegReport) -> Result<(), StoreError> {
    sqlx::query("DELETE FROM leg_sources WHERE incarnation = ? AND leg = ?")
        .bind(report.incarnation.to_string())
        .bind(&report.leg)
        .execute(connection)
        .await?;
    Ok(())
}

async fn store(connection: &mut SqliteConnection, report: &LegReport, commit_highest: u64) -> Result<(), StoreError> {
    let incarnation = report.incarnation.to_string();
    for (source, ranges) in &report.taken {
        sqlx::query("INSERT OR REPLACE INTO leg_sources (incarnation, leg, source, ranges) VALUES (?, ?, ?, ?)")
            .bind(&incarnation)
            .bind(&report.leg)
            .bind(source.to_string())
            .bind(print(ranges)?)
            .execute(&mut *connection)
            .await?;
    }
    let bare = print(&LegReport { taken: Default::default(), ..report.clone() })?;
    sqlx::query("INSERT OR REPLACE INTO legs (incarnation, leg, commit_highest, report) VALUES (?, ?, ?, ?)")
        .bind(&incarnation)
        .bind(&report.leg)
        .bind(commit_highest as i64)
        .bind(bare)
        .execute(connection)
        .await?;
    Ok(())
}

/// Puts a report into the book: in the place of what is known, or added to it.
fn keep(book: &mut Book, mut report: LegReport, commit_highest: u64, add: bool) {
    let legs = &mut book.change(&report.stream, report.incarnation).legs;
    match legs.get_mut(&report.leg).filter(|_| add) {
        Some(known) => {
            let known = Arc::make_mut(known);
            let mut taken = std::mem::take(&mut known.report.taken);
            taken.append(&mut report.taken);
            *known = Leg { report: LegReport { taken, ..report }, commit_highest };
        }
        None => drop(legs.insert(report.leg.clone(), Arc::new(Leg { report, commit_highest }))),
    }
}

/// Loads the legs of living streams.
pub(super) async fn load(connection: &mut SqliteConnection, loaded: &mut Loaded) -> Result<(), StoreError> {
    for row in sqlx::query("SELECT commit_highest, report FROM legs").fetch_all(&mut *connection).await? {
        let report: LegReport = parse("report", row.try_get("report")?)?;
        keep(&mut loaded.book, report, row.try_get::<i64, _>("commit_highest")? as u64, false);
    }
    let rows = sqlx::query(
        "SELECT leg_sources.incarnation, streams.id, leg, source, ranges FROM leg_sources JOIN streams USING (incarnation)",
    );
    for row in rows.fetch_all(connection).await? {
        let incarnation = Incarnation::try_from(row.try_get::<String, _>("incarnation")?)
            .map_err(|error| StoreError::Database(format!("column incarnation: {error}")))?;
        let source: SourceId = row
            .try_get::<String, _>("source")?
            .parse()
            .map_err(|error| StoreError::Database(format!("column source: {error}")))?;
        let ranges: Ranges = parse("ranges", row.try_get("ranges")?)?;
        let id = row.try_get::<String, _>("id")?;
        let id = id.parse().map_err(|error| StoreError::Database(format!("column id: {error}")))?;
        let leg: String = row.try_get("leg")?;
        if let Some(known) = loaded.book.change(&id, incarnation).legs.get_mut(&leg) {
            Arc::make_mut(known).report.taken.insert(source, ranges);
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::{BTreeMap, BTreeSet};
    use stream::Range;
    use stream::fate::FateCounts;

    const LIFE: Incarnation = Incarnation(1);

    fn report(commit: u64, whole: bool, taken: BTreeMap<SourceId, Ranges>) -> LegReport {
        LegReport {
            stream: "a.b.c".parse().unwrap(),
            incarnation: LIFE,
            leg: "files".into(),
            commit,
            positions: Vec::new(),
            fates: FateCounts::default(),
            delivered_bytes: commit,
            delay_ms_p50: 0,
            delay_ms_p99: 0,
            whole,
            taken,
            failure: None,
            job: None,
        }
    }

    /// Delivers a report to the book alone; whether a whole one is asked for.
    fn deliver(book: &mut Book, report: LegReport) -> bool {
        let known = book.entry(LIFE).legs.get("files").cloned();
        let verdict = judge(known.as_deref(), &report);
        if matches!(verdict, Verdict::Add | Verdict::Replace) {
            let commit_highest = known.map_or(0, |known| known.commit_highest).max(report.commit);
            keep(book, report, commit_highest, verdict == Verdict::Add);
        }
        verdict == Verdict::AskWhole
    }

    #[derive(Clone, Copy, Debug)]
    enum Step {
        /// Commits more of a source.
        Commit(u8),
        /// Reports; the answer may get lost.
        Report { answered: bool },
        /// Starts again: the next report is whole.
        Restart,
        /// An old report arrives once more.
        Straggler(usize),
    }

    fn step() -> impl Strategy<Value = Step> {
        prop_oneof![
            4 => (0..4_u8).prop_map(Step::Commit),
            4 => any::<bool>().prop_map(|answered| Step::Report { answered }),
            1 => Just(Step::Restart),
            1 => (0..50_usize).prop_map(Step::Straggler),
        ]
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(256))]
        /// Whatever gets lost, doubled or late: what is known is always exactly one commit of the leg.
        #[test]
        fn what_is_known_is_one_commit_of_the_leg(steps in proptest::collection::vec(step(), 1..60)) {
            let mut commits = vec![BTreeMap::new()];
            let (mut changed, mut whole): (BTreeSet<SourceId>, bool) = (BTreeSet::new(), true);
            let mut sent: Vec<LegReport> = Vec::new();
            let mut book = Book::default();
            for step in steps {
                match step {
                    Step::Commit(number) => {
                        let mut taken: BTreeMap<SourceId, Ranges> = commits.last().cloned().unwrap();
                        let source = SourceId::derive(u32::from(number), &[]);
                        let held = taken.entry(source).or_default();
                        held.insert(Range::new(held.end(), held.end() + 10));
                        commits.push(taken);
                        changed.insert(source);
                    }
                    Step::Report { answered } => {
                        let mut taken = commits.last().cloned().unwrap();
                        taken.retain(|source, _| whole || changed.contains(source));
                        let report = report(commits.len() as u64 - 1, whole, taken);
                        sent.push(report.clone());
                        let ask_whole = deliver(&mut book, report);
                        if answered {
                            whole = ask_whole;
                            if !ask_whole { changed.clear(); }
                        }
                    }
                    Step::Restart => whole = true,
                    Step::Straggler(at) => {
                        if let Some(report) = sent.get(at) { deliver(&mut book, report.clone()); }
                    }
                }
                if let Some(known) = book.entry(LIFE).legs.get("files") {
                    prop_assert_eq!(&known.report.taken, &commits[known.report.commit as usize]);
                }
            }
        }
    }

    #[test]
    fn a_leg_that_forgets_a_finished_source_does_not_make_it_missing() {
        let source = |number| SourceId::derive(number, &[]);
        let ten: Ranges = vec![Range::new(0, 10)].into();
        let mut book = Book::default();
        deliver(&mut book, report(1, true, [(source(1), ten.clone()), (source(2), ten.clone())].into()));
        deliver(&mut book, report(2, true, [(source(2), ten.clone())].into()));
        assert_eq!(book.entry(LIFE).legs["files"].report.taken.len(), 2);
        deliver(&mut book, report(1, true, [(source(2), ten.clone())].into()));
        assert_eq!(book.entry(LIFE).legs["files"].report.taken.len(), 1, "it started anew");
        assert!(deliver(&mut book, report(1, false, [(source(3), ten.clone())].into())), "not yet certain");
        deliver(&mut book, report(2, true, [(source(2), ten.clone())].into()));
        assert!(!deliver(&mut book, report(3, false, [(source(3), ten)].into())));
        assert_eq!(book.entry(LIFE).legs["files"].report.taken.len(), 2);
    }

    #[test]
    fn a_straggler_that_comes_twice_is_not_built_on() {
        let taken: BTreeMap<_, Ranges> = [(SourceId::derive(1, &[]), vec![Range::new(0, 10)].into())].into();
        let mut book = Book::default();
        deliver(&mut book, report(1, true, taken.clone()));
        deliver(&mut book, report(0, true, BTreeMap::new()));
        deliver(&mut book, report(0, true, BTreeMap::new()));
        assert!(deliver(&mut book, report(1, false, BTreeMap::new())), "what it builds on is not there");
        deliver(&mut book, report(1, true, taken.clone()));
        assert_eq!(book.entry(LIFE).legs["files"].report.taken, taken);
    }
}
