//! Flink in small, and what may happen to it: gateway and cluster crash, answers are lost, submissions arrive late, jobs
//! fail and are cancelled by hand, the engine dies between any two steps, people change their minds. In every world, at
//! every moment, at most one copy of the job runs and no row is delivered twice; when the faults cease, exactly one runs
//! and no row is missing.

mod flink;

use std::collections::{BTreeMap, BTreeSet};

use rand::rngs::ChaCha8Rng;
use rand::{RngExt, SeedableRng};

use super::{Action, Answer, End, Job, Memory, Prepared, Retained, Seen, Sighting, State, Status, Stop, Wanted, next};
use crate::job::{Attempt, Begin, Checkpoint, Id, LegText, Session, Text};

const WORLDS: u64 = 6_000;
const LOOKS: usize = 55;

/// Rows [from, to) of the topic in files of this number: as in Flink, a file is committed once however often it is asked for.
type Pending = Vec<(u64, (u64, u64))>;

#[derive(Clone, Debug)]
struct Stored {
    epoch: u32,
    checkpoint: Checkpoint,
    position: u64,
    pending: Pending,
    hidden: Pending,
    text: Text,
    is_savepoint: bool,
    hand_over: Option<String>,
}

#[derive(Clone, Debug)]
struct Running {
    attempt: Attempt,
    status: Status,
    /// Of the newest checkpoint.
    position: u64,
    newest: u64,
    newest_path: Option<String>,
    pending: Pending,
    /// Committed, and still to be put together with others before they are seen.
    hidden: Pending,
    stop: Option<(Id, Option<String>)>,
}

struct World {
    dice: ChaCha8Rng,
    now_ms: i64,
    log: Vec<String>,
    faults: bool,
    has_ha: bool,
    /// Whether jobs leave files hidden until they are put together.
    hides: bool,
    wanted: Wanted,
    durable: Memory,
    memory: Memory,
    prepared: Option<Prepared>,
    answer: Option<Answer>,
    gateway_is_up: bool,
    sessions: BTreeSet<String>,
    submitting: Vec<(String, Attempt)>,
    cluster_is_up: bool,
    cluster_is_reachable: bool,
    storage_is_up: bool,
    /// Submissions in the cluster's hands, and since when.
    received: Vec<(i64, Attempt)>,
    known: BTreeSet<Id>,
    jobs: BTreeMap<Id, Running>,
    stored: Vec<Stored>,
    objects: BTreeMap<String, u64>,
    head: u64,
    files: u64,
    delivered: BTreeMap<u64, (u64, u64)>,
    /// Hidden files that are there.
    hidden: BTreeMap<u64, (u64, u64)>,
    /// Those that the engine has shown: no state that names them can be restored.
    shown: BTreeSet<u64>,
    /// Whether the job's mark is in its folder: without it nothing is shown.
    is_marked: bool,
    is_forgotten: bool,
}

/// A text; every third of a shape of its own, every fifth one that Flink does not take.
fn text(version: u64, hides: bool) -> Text {
    let hidden_in = hides.then(|| "/out".into());
    let leg = LegText { sink_table: format!("sinks {}", version / 3), insert: format!("version {version}"), hidden_in };
    Text { source: "s".into(), tables: Vec::new(), legs: vec![leg], settings: Vec::new() }
}

fn is_refused(text: &Text) -> bool {
    text.legs[0].insert.ends_with('4') || text.legs[0].insert.ends_with('9')
}

impl World {
    fn new(seed: u64) -> Self {
        let mut dice = ChaCha8Rng::seed_from_u64(seed);
        let (has_ha, hides) = (dice.random_bool(0.3), dice.random_bool(0.5));
        Self {
            dice,
            now_ms: 1_000_000,
            log: Vec::new(),
            faults: true,
            has_ha,
            hides,
            wanted: text(0, hides).into(),
            durable: Memory::default(),
            memory: Memory::default(),
            prepared: None,
            answer: None,
            gateway_is_up: true,
            sessions: BTreeSet::new(),
            submitting: Vec::new(),
            cluster_is_up: true,
            cluster_is_reachable: true,
            storage_is_up: true,
            received: Vec::new(),
            known: BTreeSet::new(),
            jobs: BTreeMap::new(),
            stored: Vec::new(),
            objects: BTreeMap::new(),
            head: 0,
            files: 0,
            delivered: BTreeMap::new(),
            hidden: BTreeMap::new(),
            shown: BTreeSet::new(),
            is_marked: false,
            is_forgotten: false,
        }
    }

    fn chance(&mut self, share: f64) -> bool {
        self.dice.random_bool(share)
    }

    fn say(&mut self, what: impl Into<String>) {
        let what = what.into();
        self.log.push(format!("{} {what}", self.now_ms));
    }

    fn check(&self) {
        let alive: Vec<Id> =
            self.jobs.values().filter(|job| job.status.is_alive()).map(|job| job.attempt.job).collect();
        assert!(alive.len() <= 1, "{} copies run: {alive:?}\n{}", alive.len(), self.log.join("\n"));
        let mut ranges: Vec<(u64, u64)> = self.delivered.values().copied().collect();
        ranges.sort_unstable();
        let twice = ranges.windows(2).find(|pair| pair[0].1 > pair[1].0);
        assert!(twice.is_none(), "delivered twice: {twice:?}\n{}", self.log.join("\n"));
    }

    fn step(&mut self) {
        self.now_ms += 1_000;
        let session = self.look_at_session();
        self.some_events();
        let before = self.storage_is_up.then(|| self.look_at_storage());
        self.some_events();
        let jobs = (self.cluster_is_up && self.cluster_is_reachable).then(|| self.look_at_jobs());
        self.some_events();
        let retained =
            self.storage_is_up.then(|| self.look_at_storage()).filter(|after| before.as_ref() == Some(after));
        let prepared = self.prepared.clone().filter(|prepared| self.sessions.contains(&prepared.session.0));
        let (answer, fresh) = (self.answer.take(), Id::random(&mut self.dice));
        let seen = Seen { session, jobs, retained, prepared, answer, fresh };
        let (memory, action) = next(&self.memory, &self.wanted, &seen, self.now_ms);
        if self.faults && self.chance(0.02) {
            (self.memory, self.prepared) = (self.durable.clone(), None);
            return;
        }
        if memory != self.memory || action != Action::Wait {
            self.say(format!("{action:?}; {:?} {:?}", memory.state, memory.problem));
        }
        (self.durable, self.memory) = (memory.clone(), memory);
        self.some_events();
        self.act(action);
        self.check();
    }

    fn look_at_session(&self) -> Sighting {
        match &self.memory.state {
            State::Submitting { session, .. } if self.gateway_is_up => {
                if self.sessions.contains(&session.0) {
                    Sighting::Present
                } else {
                    Sighting::Gone
                }
            }
            _ => Sighting::Unknown,
        }
    }

    fn look_at_jobs(&self) -> Vec<Job> {
        let trigger = match &self.memory.state {
            State::Stopping { trigger, .. } => Some(*trigger),
            _ => None,
        };
        let shown = |job: &Running| Job {
            id: job.attempt.job,
            status: job.status,
            newest: (job.newest > 0).then(|| Checkpoint {
                number: job.newest,
                path: job.newest_path.clone().unwrap_or_else(|| match &job.attempt.begin {
                    Begin::State(checkpoint) => checkpoint.path.clone(),
                    _ => String::new(),
                }),
            }),
            stop: job.stop.as_ref().filter(|(asked, _)| Some(*asked) == trigger).map(|(_, failed)| match failed {
                None => Stop::InProgress,
                Some(cause) => Stop::Failed(cause.clone()),
            }),
            cause: None,
        };
        self.jobs.values().map(shown).collect()
    }

    fn look_at_storage(&self) -> Option<Retained> {
        let epoch = self.memory.attempt().map_or(0, |attempt| attempt.epoch);
        let newest =
            self.stored.iter().filter(|stored| stored.epoch == epoch).max_by_key(|stored| stored.checkpoint.number);
        newest.map(|stored| Retained { checkpoint: stored.checkpoint.clone(), hand_over: stored.hand_over.clone() })
    }

    fn act(&mut self, action: Action) {
        match action {
            Action::Wait => {}
            Action::Unmark(_) => self.is_marked = false,
            Action::Forget => (self.is_forgotten, self.is_marked) = (true, false),
            Action::Prepare(text) if self.gateway_is_up && is_refused(&text) => {
                self.answer = Some(Answer::Refused("no such column".into()));
            }
            Action::Prepare(text) if self.gateway_is_up => {
                let session = Session(format!("{:?}", Id::random(&mut self.dice)));
                self.sessions.insert(session.0.clone());
                self.prepared = Some(Prepared { session, text });
            }
            Action::Prepare(_) => {}
            Action::Submit => self.submit(),
            Action::Close(Session(session)) if self.gateway_is_up => {
                self.sessions.remove(&session);
                self.submitting.retain(|(of, _)| *of != session);
            }
            Action::Close(_) => {}
            Action::Stop(id, trigger) if self.cluster_is_up && self.cluster_is_reachable => {
                if let Some(job) = self.jobs.get_mut(&id)
                    && job.stop.as_ref().is_none_or(|(asked, _)| *asked != trigger)
                {
                    let failed = (job.status != Status::Running).then(|| "not running".to_owned());
                    job.stop = Some((trigger, failed));
                }
            }
            Action::Cancel(id) if self.cluster_is_up && self.cluster_is_reachable => {
                if let Some(job) = self.jobs.get_mut(&id).filter(|job| job.status.is_alive()) {
                    job.status = Status::Canceled;
                }
            }
            Action::Stop(..) | Action::Cancel(_) => {}
            Action::Show(_) => self.show(),
        }
    }

    /// All, or a part before the disk fails.
    fn show(&mut self) {
        assert!(!self.jobs.values().any(|job| job.status.is_alive()), "a job still writes\n{}", self.log.join("\n"));
        let fails = !self.is_marked || (self.faults && self.chance(0.3));
        let share = if fails { usize::from(self.is_marked) } else { self.hidden.len() };
        for _ in 0..share {
            let Some((file, range)) = self.hidden.pop_first() else { break };
            self.shown.insert(file);
            self.delivered.insert(file, range);
        }
        self.answer = Some(if fails { Answer::Failed("the disk".into()) } else { Answer::Shown });
    }

    fn submit(&mut self) {
        self.prepared = None;
        let State::Submitting { attempt, session } = self.memory.state.clone() else { panic!("submits nothing") };
        if !self.gateway_is_up || !self.sessions.contains(&session.0) {
            self.answer = Some(Answer::Failed("the gateway is away".into()));
            return;
        }
        let was_known = self.known.contains(&attempt.job);
        self.submitting.push((session.0, attempt.clone()));
        self.some_events();
        let arrived = !self.submitting.iter().any(|(_, other)| *other == attempt)
            && !self.received.iter().any(|(_, other)| *other == attempt);
        if was_known && arrived && self.known.contains(&attempt.job) {
            self.answer = Some(Answer::Known);
        }
    }

    /// The faults cease; a good text is wanted, or none.
    fn settle(&mut self) {
        self.say("the faults cease");
        self.faults = false;
        self.repair();
        if let Wanted::Run { text: wanted, .. } = &self.wanted
            && is_refused(wanted)
        {
            self.wanted = text(1, self.hides).into();
        }
        let is_settled = |world: &World| match (&world.wanted, &world.memory.state) {
            (Wanted::Run { text, .. }, State::Running { attempt }) => attempt.text == *text && world.runs(attempt.job),
            (Wanted::Stopped, State::Fresh | State::Idle { end: End::Gone | End::Clean | End::Shown, .. }) => {
                world.jobs.values().all(|job| !job.status.is_alive()) && world.nothing_is_under_way()
            }
            _ => false,
        };
        for _ in 0..3_000 {
            if is_settled(self) {
                return;
            }
            self.step();
        }
        panic!("never settled: {:?}\n{}", self.memory, self.log.join("\n"));
    }

    /// The job is not wanted any more: in the end nothing of what it has committed is hidden.
    fn remove(&mut self) {
        self.wanted = Wanted::Removed;
        for _ in 0..3_000 {
            if self.is_forgotten {
                assert!(self.hidden.is_empty(), "left hidden: {:?}\n{}", self.hidden, self.log.join("\n"));
                return;
            }
            self.step();
        }
        panic!("never forgotten: {:?}\n{}", self.memory, self.log.join("\n"));
    }

    fn runs(&self, id: Id) -> bool {
        self.jobs.get(&id).is_some_and(|job| job.status == Status::Running)
    }

    fn nothing_is_under_way(&self) -> bool {
        self.submitting.is_empty() && self.received.is_empty()
    }

    /// With the job running, all that its newest checkpoint covers is delivered, without a gap.
    fn nothing_is_missing(&mut self) {
        let Some(mut job) = self.jobs.values().find(|job| job.status == Status::Running).cloned() else { return };
        self.checkpoint(&mut job, false);
        self.commit(&mut job);
        self.put_together(&mut job);
        self.check();
        let mut ranges: Vec<(u64, u64)> = self.delivered.values().copied().collect();
        ranges.sort_unstable();
        let end = ranges.iter().try_fold(0, |end, range| (range.0 == end).then_some(range.1));
        assert_eq!(end.unwrap_or(u64::MAX), job.position, "missing in {ranges:?}\n{}", self.log.join("\n"));
    }
}

#[test]
fn one_copy_runs_and_every_row_is_delivered_once() {
    let worlds = std::env::var("ISOLANE_SEEDS").ok().and_then(|text| text.parse().ok()).unwrap_or(WORLDS);
    let (mut delivered, mut shown, mut attempts, mut epochs) = (0, 0, BTreeSet::new(), BTreeSet::new());
    for seed in 0..worlds {
        let mut world = World::new(seed);
        world.say(format!("seed {seed}, HA {}", world.has_ha));
        for _ in 0..LOOKS {
            world.step();
            world.some_events();
            attempts.extend(world.memory.attempt().map(|attempt| attempt.job));
        }
        // Every third is removed as things stand, with all their faults; the others are mended and looked at.
        if seed % 3 == 0 {
            world.remove();
        } else {
            world.settle();
            world.nothing_is_missing();
        }
        epochs.extend(world.memory.attempt().map(|attempt| attempt.epoch));
        delivered += world.delivered.len();
        shown += world.shown.len();
    }
    assert!(delivered as u64 > worlds * 3, "the worlds do little: {delivered} files");
    assert!(shown as u64 > worlds / 10, "the worlds hide little: {shown} files were shown");
    assert!(attempts.len() as u64 > worlds * 2, "the worlds do little: {} attempts", attempts.len());
    assert!(epochs.len() > 3, "hardly a text was handed over: {epochs:?}");
}
