//! What a leg of a job on Flink has taken and delivered: positions and ranges by the job's hand-over objects, of which there is
//! one for each completed checkpoint; rows by the footers of committed files.
//!
//! State: what was reported last. Bytes: 16 a range taken, and those of [`Footers`].

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use anyhow::{Context, Result};
use flink::job::Begin;
use flink::{Places, Standing};
use query::leg::hand_over::{HandOver, Reached};
use sink::SinkError;
use sink::files::footers::Footers;
use stream::facts::{FlinkJob, JobState, LegReport, Position};
use stream::fate::FateCounts;
use stream::{Ranges, SourceId};

#[cfg(feature = "kafka")]
use {sink::kafka::delivered::Delivered, tokio::runtime::Handle};

use super::jobs::{FlinkLeg, Told};

/// Files become visible after their checkpoint's object: until this look after it they are looked for, ever more rarely, since that
/// lists all folders of a sink.
const LAST_LOOK: u32 = 32;

/// The account of one leg.
pub struct Account {
    leg: FlinkLeg,
    places: Places,
    rows: Rows,
    apart: [Footers; 4],
    /// The object that was read last.
    object: Option<PathBuf>,
    /// Looks since it was read, or since the job stood otherwise: what it had left hidden is shown late.
    looks: u32,
    state: Option<JobState>,
    commit: u64,
    checkpoint: Option<u64>,
    positions: Vec<Position>,
    taken: BTreeMap<SourceId, Ranges>,
    /// The last report, without its sources.
    told: Option<LegReport>,
}

/// Who tells which rows were delivered.
enum Rows {
    Files(Footers),
    #[cfg(feature = "kafka")]
    Topic(Delivered),
    /// This isolane was built without Kafka: the role has not started then.
    #[cfg(not(feature = "kafka"))]
    Unknown,
}

impl Rows {
    fn of(told: &Told, born: SystemTime) -> Self {
        match told {
            Told::Footers(folder) => Self::Files(Footers::new(folder.clone(), born)),
            #[cfg(feature = "kafka")]
            Told::Topic(target, topic) => Self::Topic(Delivered::new(&target.brokers, topic.clone())),
            #[cfg(not(feature = "kafka"))]
            Told::Topic(..) => Self::Unknown,
        }
    }

    fn read_on(&mut self) -> Result<(), SinkError> {
        match self {
            Self::Files(footers) => footers.read_on(),
            #[cfg(feature = "kafka")]
            Self::Topic(delivered) => Handle::current().block_on(delivered.read_on()),
            #[cfg(not(feature = "kafka"))]
            Self::Unknown => Ok(()),
        }
    }

    /// Rows, and the ordinals that they cover.
    fn amount(&self) -> (u64, u64) {
        match self {
            Self::Files(footers) => (footers.rows(), footers.ranges().values().map(Ranges::total).sum()),
            #[cfg(feature = "kafka")]
            Self::Topic(delivered) => (delivered.rows(), delivered.ordinals()),
            #[cfg(not(feature = "kafka"))]
            Self::Unknown => (0, 0),
        }
    }
}

impl Account {
    /// Of a leg that nothing was reported of.
    pub fn new(leg: FlinkLeg, places: Places) -> Self {
        let born = UNIX_EPOCH + Duration::from_millis(leg.key.incarnation.born_ms().unsigned_abs());
        let (rows, apart) = (Rows::of(&leg.rows, born), leg.apart.clone().map(|folder| Footers::new(folder, born)));
        let (positions, taken) = (Vec::new(), BTreeMap::new());
        Self {
            leg,
            places,
            rows,
            apart,
            object: None,
            looks: 0,
            state: None,
            commit: 0,
            checkpoint: None,
            positions,
            taken,
            told: None,
        }
    }

    /// What is to be reported, if anything has changed; with `whole` all sources.
    pub fn look(&mut self, standing: Option<&Standing>, whole: bool) -> Option<LegReport> {
        let standing = standing?;
        if self.state.replace(standing.state) != Some(standing.state) {
            self.looks = 0;
        }
        let object = self.read_object(standing);
        let rows = self.read_rows();
        // What is not known must not replace what is.
        let whole = whole && object.is_ok();
        let state = match standing.state {
            JobState::Running => JobState::Running,
            // Where it stands is not known while what it has left cannot be read.
            _ if object.is_err() => JobState::Unsettled,
            state => state,
        };
        let failure = object.as_ref().err().or(rows.as_ref().err()).map(|error| format!("{error:#}"));
        let changed = object.unwrap_or_default();
        let (delivered, delivered_bytes) = self.rows.amount();
        let report = LegReport {
            stream: self.leg.key.stream.clone(),
            incarnation: self.leg.key.incarnation,
            leg: self.leg.key.sink.clone(),
            commit: self.commit,
            positions: self.positions.clone(),
            fates: FateCounts {
                delivered,
                quarantined: self.apart.iter().map(Footers::rows).sum(),
                ..FateCounts::default()
            },
            delivered_bytes,
            delay_ms_p50: 0,
            delay_ms_p99: 0,
            whole,
            taken: BTreeMap::new(),
            failure: self.leg.refused.clone().or_else(|| standing.problem.clone()).or(failure),
            job: Some(FlinkJob {
                leg: self.leg.job.leg.clone(),
                state,
                object: self.object.clone(),
                attempt: standing.attempt.map(|attempt| attempt.to_string()),
                checkpoint: self.checkpoint,
                lag_records: standing.lag_records,
            }),
        };
        let bare = LegReport { whole: false, ..report.clone() };
        if !whole && changed.is_empty() && self.told.as_ref() == Some(&bare) {
            return None;
        }
        self.told = Some(bare);
        Some(LegReport { taken: if whole { self.taken.clone() } else { changed }, ..report })
    }

    /// Reads a newer object, if there is one. The sources that have changed.
    fn read_object(&mut self, standing: &Standing) -> Result<BTreeMap<SourceId, Ranges>> {
        match self.newest(standing)? {
            Some((number, path)) if self.object.as_ref() != Some(&path) => self.take(standing, number, path),
            _ => Ok(BTreeMap::new()),
        }
    }

    /// Reads what is told of rows.
    fn read_rows(&mut self) -> Result<()> {
        self.looks = self.looks.saturating_add(1);
        if self.looks.is_power_of_two() && self.looks <= LAST_LOOK {
            let apart = |()| self.apart.iter_mut().try_for_each(Footers::read_on);
            let read = self.rows.read_on().and_then(apart);
            // It stays a failure until it is none any more.
            self.looks = if read.is_ok() { self.looks } else { 0 };
            read?;
        }
        Ok(())
    }

    /// The newest object of the attempt, with its checkpoint's number; while there is none, that which the attempt began from, or
    /// the newest of an earlier attempt that it goes on from.
    fn newest(&self, standing: &Standing) -> Result<Option<(Option<u64>, PathBuf)>> {
        let Some(attempt) = standing.attempt else { return Ok(None) };
        let found = self.places.newest_object(&self.leg.job, attempt).context("hand-over objects cannot be read")?;
        Ok(match (found, &standing.begin) {
            (Some((job, number, path)), _) if job == attempt => Some((Some(number), path)),
            (_, Some(Begin::HandOver(url))) => Some((None, Places::path(url))),
            (Some((_, number, path)), Some(Begin::State(_))) => Some((Some(number), path)),
            _ => None,
        })
    }

    fn take(&mut self, standing: &Standing, number: Option<u64>, path: PathBuf) -> Result<BTreeMap<SourceId, Ranges>> {
        let object = HandOver::open(&path).with_context(|| format!("hand-over object {}", path.display()))?;
        let position = |reached: &Reached| Position { place: reached.place, offset: reached.offset, log: reached.log };
        self.positions = object.positions.iter().map(position).collect();
        self.commit = self.commit.max(standing.checkpoints_before + number.unwrap_or(0));
        (self.checkpoint, self.object, self.looks) = (number, Some(path), 0);
        // What the job has forgotten is not kept here either: a request with a key is a source, and there is no end of them.
        let taken = object.sources.into_iter().map(|(source, state)| (source, state.taken)).collect();
        let before = std::mem::replace(&mut self.taken, taken);
        let is_changed = |(source, taken): &(&SourceId, &Ranges)| before.get(source) != Some(taken);
        Ok(self.taken.iter().filter(is_changed).map(|(source, taken)| (*source, taken.clone())).collect())
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use flink::JobKey;
    use flink::job::Id;
    use query::leg::LegKey;

    use super::*;

    const OBJECT: &str = include_str!("../../../crates/stream/vectors/hand-over.json");

    fn leg(root: &Path) -> FlinkLeg {
        let job: JobKey = "a.b.c@000000000000001f".parse().unwrap();
        let key = LegKey { stream: job.stream.clone(), incarnation: job.incarnation, sink: "files".to_owned() };
        let apart = ["a", "b", "c", "d"].map(|folder| root.join(folder));
        FlinkLeg { job, key, rows: Told::Footers(root.join("files")), apart, refused: None }
    }

    fn standing(attempt: &str, begin: Begin) -> Standing {
        let attempt = Some(Id::try_from(attempt.to_owned()).unwrap());
        Standing {
            state: JobState::Running,
            attempt,
            begin: Some(begin),
            checkpoints_before: 100,
            lag_records: None,
            problem: None,
        }
    }

    #[test]
    fn what_was_taken_is_told_by_objects_and_only_changes_are() {
        let root = tempfile::tempdir().unwrap();
        let folder = root.path().join("a.b.c@000000000000001f/hand-over");
        std::fs::create_dir_all(&folder).unwrap();
        let mut account = Account::new(leg(root.path()), Places::new(root.path().to_owned()));
        assert_eq!(account.look(None, true), None, "nobody knows yet how the job stands");

        // Where it began, before it has completed anything.
        let (own, other) = ("000000000000000000000000000000aa", "000000000000000000000000000000bb");
        let given = root.path().join("given.json");
        std::fs::write(&given, OBJECT).unwrap();
        let begun = standing(own, Begin::HandOver(format!("file://{}", given.display())));
        let report = account.look(Some(&begun), true).unwrap();
        assert_eq!((report.commit, report.whole, report.positions.len(), report.taken.len()), (100, true, 3, 3));
        assert_eq!(account.look(Some(&begun), false), None);

        // Another attempt's objects are not its own.
        let object = |job: &str, number: u64| folder.join(format!("{job}-{number:019}.json"));
        std::fs::write(object(other, 9), OBJECT).unwrap();
        assert_eq!(account.look(Some(&begun), false), None);
        std::fs::write(object(own, 7), OBJECT.replace("[0,500],[600", "[0,550],[600")).unwrap();
        let report = account.look(Some(&begun), false).unwrap();
        assert_eq!((report.commit, report.whole, report.taken.len()), (107, false, 1));
        let job = report.job.unwrap();
        assert_eq!((job.checkpoint, job.object), (Some(7), Some(object(own, 7))));

        // What cannot be read replaces nothing.
        std::fs::write(object(own, 8), "{").unwrap();
        let report = account.look(Some(&begun), true).unwrap();
        assert_eq!((report.commit, report.whole, report.taken.len()), (107, false, 0));
        assert!(report.failure.unwrap().contains("hand-over object"));
        let stopped = Standing { state: JobState::Idle, ..begun };
        let job = account.look(Some(&stopped), true).unwrap().job.unwrap();
        assert_eq!(job.state, JobState::Unsettled, "its last object cannot be read");
    }
}
