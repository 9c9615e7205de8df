//! The host of jobs on Flink: one task per job that looks, decides ([`crate::lifecycle`]), remembers and acts. When it ends
//! the jobs go on; when it comes back it finds them by what it remembered.
//!
//! State per job: its [`Memory`], a file of the state folder (some kilobytes, written before each act that it announces), and
//! a prepared session, in memory alone.

use std::collections::{BTreeMap, BTreeSet};
use std::future::Future;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use stream::Incarnation;
use stream::clock::Clock;
use stream::disk::{SharedDisk, read_all, write_atomically};
use stream::facts::JobState;
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::Instant;
use tracing::{error, info, warn};

use crate::cluster::Cluster;
use crate::gateway::{Gateway, StatementError};
use crate::job::{Begin, Id, JobKey, Text};
use crate::lifecycle::{Action, Answer, End, Memory, Prepared, Retained, Seen, Sighting, State, Wanted, next};
use crate::rest::RestError;
use crate::retained::Places;
use crate::statements;

/// How often a job is asked how far it is behind: Flink's JobManager collects gauges every 10 s.
const LAG_EVERY: Duration = Duration::from_secs(10);

/// What the host needs.
pub struct Settings {
    /// Through which jobs are submitted.
    pub gateway: Gateway,
    /// Where they run.
    pub cluster: Cluster,
    /// Where Flink keeps what it can restore.
    pub places: Places,
    /// The disk.
    pub disk: SharedDisk,
    /// Where is remembered what was done.
    pub state_dir: PathBuf,
    /// The clock.
    pub clock: Arc<dyn Clock>,
    /// How often a job is looked at.
    pub every: Duration,
    /// Who is told how each job stands, after each look.
    pub told: Arc<Told>,
    /// Shows the files that a job has committed in a folder and left hidden, to be put together with others. No job writes there
    /// meanwhile; it is asked for again after a crash.
    pub shows: Arc<Shows>,
}

/// Shows the hidden files of the folder of this mark, a file that the job has made there.
pub type Shows = dyn Fn(&Path) -> io::Result<()> + Send + Sync;

/// Hears how a job stands.
pub type Told = dyn Fn(&JobKey, Standing) + Send + Sync;

/// How a job stands.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Standing {
    /// Where it stands.
    pub state: JobState,
    /// The attempt that is under way, or was last.
    pub attempt: Option<Id>,
    /// From where that began.
    pub begin: Option<Begin>,
    /// Checkpoints of earlier epochs.
    pub checkpoints_before: u64,
    /// Records that it is behind the journal, if it runs and knows.
    pub lag_records: Option<u64>,
    /// What a person should know.
    pub problem: Option<String>,
}

/// What is wanted of each job; one that is not named is removed.
pub type WantedJobs = BTreeMap<JobKey, Wanted>;

/// Keeps the jobs as they are wanted until `shutdown` completes. Jobs that run go on running.
///
/// # Errors
/// The state folder cannot be read.
pub async fn serve(
    settings: Settings,
    mut wanted: watch::Receiver<Arc<WantedJobs>>,
    shutdown: impl Future<Output = ()> + Send,
) -> io::Result<()> {
    let settings = Arc::new(settings);
    settings.disk.create_dir_all(&settings.state_dir)?;
    let mut keepers: BTreeMap<JobKey, watch::Sender<Wanted>> = BTreeMap::new();
    let mut tasks: JoinSet<JobKey> = JoinSet::new();
    tokio::pin!(shutdown);
    loop {
        let now = wanted.borrow_and_update().clone();
        let remembered = remembered(&settings.disk, &settings.state_dir)?;
        let keys = now.keys().chain(&remembered).chain(keepers.keys()).cloned().collect::<BTreeSet<_>>();
        for key in &keys {
            let order = order(&now, &keys, key);
            let keeper = keepers.entry(key.clone()).or_insert_with(|| {
                let (sender, orders) = watch::channel(order.clone());
                tasks.spawn(supervise(settings.clone(), key.clone(), orders));
                sender
            });
            keeper.send_replace(order);
        }
        tokio::select! {
            () = &mut shutdown => return Ok(()),
            changed = wanted.changed() => if changed.is_err() { (&mut shutdown).await; return Ok(()) },
            Some(Ok(forgotten)) = tasks.join_next() => { keepers.remove(&forgotten); }
        }
    }
}

/// What is to become of one of the jobs that are known: it does not run before all of an earlier life of its stream are forgotten.
fn order(wanted: &WantedJobs, known: &BTreeSet<JobKey>, key: &JobKey) -> Wanted {
    let order = wanted.get(key).cloned().unwrap_or(Wanted::Removed);
    let first = JobKey { incarnation: Incarnation(0), leg: None, ..key.clone() };
    let mut of_stream = known.range(first..).take_while(|other| other.stream == key.stream);
    match of_stream.find(|other| other.incarnation != key.incarnation) {
        Some(other) if order.runs() => Wanted::After(other.clone()),
        _ => order,
    }
}

/// The jobs of which something is remembered in a state folder.
///
/// # Errors
/// The folder cannot be read.
pub fn remembered(disk: &SharedDisk, state_dir: &Path) -> io::Result<Vec<JobKey>> {
    let names = disk.list(state_dir)?;
    Ok(names.iter().filter_map(|name| name.strip_suffix(".json")?.parse().ok()).collect())
}

/// Keeps one job, whatever happens to its keeper.
async fn supervise(settings: Arc<Settings>, key: JobKey, orders: watch::Receiver<Wanted>) -> JobKey {
    loop {
        let mut keeper = JoinSet::new();
        keeper.spawn(keep(settings.clone(), key.clone(), orders.clone()));
        match keeper.join_next().await {
            Some(Ok(key)) => return key,
            broken => error!(job = %key, ?broken, "the job's keeper ended; starting it again"),
        }
        tokio::time::sleep(settings.every).await;
    }
}

/// Keeps one job as it is ordered, until it is forgotten.
async fn keep(settings: Arc<Settings>, key: JobKey, mut orders: watch::Receiver<Wanted>) -> JobKey {
    let mut keeper = Keeper::new(settings, key);
    while let Err(error) = keeper.remember_what_was() {
        warn!(job = %keeper.key, %error, "what is remembered of the job cannot be read; trying again");
        tokio::time::sleep(keeper.settings.every).await;
    }
    loop {
        let wanted = orders.borrow_and_update().clone();
        match keeper.step(&wanted).await {
            Ok(Action::Forget) => return keeper.key,
            Ok(Action::Wait) => {}
            Ok(_) => continue,
            Err(error) => {
                warn!(job = %keeper.key, %error, "nothing is done about the job: its state cannot be written")
            }
        }
        drop(tokio::time::timeout(keeper.settings.every, orders.changed()).await);
    }
}

struct Keeper {
    settings: Arc<Settings>,
    key: JobKey,
    memory: Memory,
    prepared: Option<Prepared>,
    answer: Option<Answer>,
    /// Records that the job is behind, and when that is looked at again.
    lag: (Option<u64>, Instant),
    /// What went wrong in this step.
    trouble: Option<Trouble>,
    /// What went wrong with the last step's act, told until one succeeds or none is due.
    act_trouble: Option<Trouble>,
    /// What was last logged of the job's conduct: only changes are, as there are thousands of jobs.
    said: String,
}

/// What goes wrong with a job that is nothing to decide about.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Trouble {
    /// A server does not answer, which is no matter of this job, and said elsewhere.
    Server(String),
    /// Something else.
    Own(String),
}

impl From<RestError> for Trouble {
    fn from(error: RestError) -> Self {
        match error {
            RestError::Away { .. } => Trouble::Server(error.to_string()),
            RestError::Refused { .. } => Trouble::Own(error.to_string()),
        }
    }
}

impl Keeper {
    fn new(settings: Arc<Settings>, key: JobKey) -> Self {
        let (memory, lag) = (Memory::default(), (None, Instant::now()));
        Self {
            settings,
            key,
            memory,
            prepared: None,
            answer: None,
            lag,
            trouble: None,
            act_trouble: None,
            said: String::new(),
        }
    }

    fn file(&self) -> PathBuf {
        self.settings.state_dir.join(format!("{}.json", self.key))
    }

    fn remember_what_was(&mut self) -> io::Result<()> {
        match read_all(self.settings.disk.as_ref(), &self.file()) {
            Ok(bytes) => {
                self.memory = serde_json::from_slice(&bytes).map_err(io::Error::other)?;
                self.memory.problem.iter().for_each(|problem| warn!(job = %self.key, problem, "the job"));
            }
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => return Err(error),
        }
        Ok(())
    }

    /// Looks, decides, remembers, acts.
    async fn step(&mut self, wanted: &Wanted) -> io::Result<Action> {
        let before = self.trouble.take();
        let seen = self.look(wanted).await;
        let (memory, action) = next(&self.memory, wanted, &seen, self.settings.clock.now_ms());
        if memory != self.memory {
            if memory.problem != self.memory.problem
                && let Some(problem) = &memory.problem
            {
                warn!(job = %self.key, problem, "the job");
            }
            let bytes = serde_json::to_vec_pretty(&memory).map_err(io::Error::other)?;
            write_atomically(self.settings.disk.as_ref(), &self.file(), &bytes, |_| ())?;
            self.memory = memory;
        }
        (self.settings.told)(&self.key, self.standing(wanted));
        let does = action.to_string();
        if action != Action::Wait && does != self.said {
            info!(job = %self.key, "next: {does}");
            self.said = does;
        }
        self.act(&action).await?;
        self.act_trouble = self.trouble.clone().filter(|_| action != Action::Wait);
        if action == Action::Wait {
            self.look_at_lag().await;
        }
        match &self.trouble {
            Some(Trouble::Own(trouble)) if before != self.trouble => warn!(job = %self.key, trouble, "the job"),
            _ => (),
        }
        Ok(action)
    }

    fn standing(&self, wanted: &Wanted) -> Standing {
        let attempt = self.memory.attempt();
        let trouble = match self.trouble.as_ref().or(self.act_trouble.as_ref()) {
            Some(Trouble::Server(trouble) | Trouble::Own(trouble)) => Some(trouble.clone()),
            None => None,
        };
        let waits = match wanted {
            Wanted::After(other) => Some(format!(
                "waits for job {other} of the stream that was deleted, which may write into the same folders: it begins when that is \
                 stopped and forgotten; what holds that up is in the engine role's log"
            )),
            _ => None,
        };
        let problem = waits.or_else(|| self.memory.problem.clone()).or(trouble);
        let state = match self.memory.state.told() {
            // Of a job that is not remembered Flink may have one all the same.
            JobState::Fresh if problem.is_some() => JobState::Unsettled,
            state => state,
        };
        Standing {
            state,
            problem,
            attempt: attempt.map(|attempt| attempt.job),
            begin: attempt.map(|attempt| attempt.begin.clone()),
            checkpoints_before: self.memory.checkpoints_before,
            lag_records: self.lag.0,
        }
    }

    /// Nothing is decided by it, so nothing waits for it; a cluster that does not answer is told of elsewhere.
    async fn look_at_lag(&mut self) {
        let State::Running { attempt } = &self.memory.state else {
            self.lag = (None, Instant::now());
            return;
        };
        if Instant::now() >= self.lag.1 {
            let lag = self.settings.cluster.lag(attempt.job).await.unwrap_or_default();
            self.lag = (lag, Instant::now() + LAG_EVERY);
        }
    }

    async fn look(&mut self, wanted: &Wanted) -> Seen {
        let settings = self.settings.clone();
        let Settings { gateway, cluster, .. } = settings.as_ref();
        let session = match &self.memory.state {
            State::Submitting { session, .. } => gateway.sighting(session).await,
            _ => Sighting::Unknown,
        };
        let is_needed = match &self.memory.state {
            State::Submitting { .. } => true,
            State::Idle { last, end, .. }
                if last.text.hides() && (*end == End::Clean || *wanted == Wanted::Removed) =>
            {
                true
            }
            State::Fresh | State::Idle { .. } => wanted.runs(),
            State::Running { .. } | State::Stopping { .. } => false,
        };
        let before = if is_needed { self.retained().await } else { None };
        let own = self.memory.attempt().map(|attempt| attempt.job);
        let trigger = match &self.memory.state {
            State::Stopping { trigger, .. } => Some(*trigger),
            _ => None,
        };
        let jobs = cluster.jobs(&statements::name(&self.key), own, trigger).await;
        let jobs = jobs.inspect_err(|error| self.trouble = Some(error.clone().into())).ok();
        let is_over = jobs.iter().flatten().any(|job| Some(job.id) == own && !job.status.is_alive());
        let retained = match before {
            Some(before) => self.retained().await.filter(|after| before == *after),
            // What is over writes no more: one look is enough.
            None if is_over => self.retained().await,
            None => None,
        };
        if let Some(prepared) = &self.prepared
            && gateway.sighting(&prepared.session).await != Sighting::Present
        {
            self.prepared = None;
        }
        let (prepared, answer, fresh) = (self.prepared.clone(), self.answer.take(), Id::random(&mut rand::rng()));
        Seen { session, jobs, retained, prepared, answer, fresh }
    }

    /// The newest checkpoint; `None` if the storage does not say.
    async fn retained(&mut self) -> Option<Option<Retained>> {
        let (places, key) = (self.settings.places.clone(), self.key.clone());
        let (last, mark) = (self.memory.attempt().cloned(), self.memory.mark.clone());
        let found = tokio::task::spawn_blocking(move || places.newest(&key, last.as_ref(), mark.as_ref())).await;
        let found = found.unwrap_or_else(|error| Err(io::Error::other(error)));
        found
            .inspect_err(|error| self.trouble = Some(Trouble::Own(format!("its checkpoints cannot be read: {error}"))))
            .ok()
    }

    async fn act(&mut self, action: &Action) -> io::Result<()> {
        let settings = self.settings.clone();
        let Settings { gateway, cluster, places, .. } = settings.as_ref();
        let epoch = self.memory.attempt().map_or(0, |attempt| attempt.epoch);
        let done = match action {
            Action::Wait => return Ok(()),
            Action::Forget => return self.forget().await,
            Action::Unmark(folders) => {
                self.unmark(folders.clone()).await;
                return Ok(());
            }
            Action::Prepare(text) => {
                self.prepare(text).await;
                return Ok(());
            }
            Action::Submit => {
                self.submit().await;
                return Ok(());
            }
            Action::Show(folders) => {
                self.show(folders.clone()).await;
                return Ok(());
            }
            Action::Close(session) => gateway.close(session).await,
            Action::Stop(job, trigger) => cluster.stop(*job, *trigger, &places.savepoints(&self.key, epoch)).await,
            Action::Cancel(job) => cluster.cancel(*job).await,
        };
        if let Err(error) = done {
            self.trouble = Some(error.into());
        }
        // What came of it is seen at the next look.
        tokio::time::sleep(self.settings.every).await;
        Ok(())
    }

    async fn forget(&self) -> io::Result<()> {
        let file = self.file();
        if self.settings.disk.exists(&file) {
            self.settings.disk.remove(&file)?;
            self.settings.disk.sync_dir(&self.settings.state_dir)?;
        }
        // Last, as nothing can be shown without them.
        self.unmark(self.memory.attempt().map(|last| last.text.hidden_in()).unwrap_or_default()).await;
        Ok(())
    }

    /// One that cannot be removed keeps another job from showing files there, and is named then.
    async fn unmark(&self, folders: Vec<PathBuf>) {
        let (disk, key) = (self.settings.disk.clone(), self.key.clone());
        let all = move || folders.iter().for_each(|folder| drop(disk.remove(&statements::mark(folder, &key))));
        drop(tokio::task::spawn_blocking(all).await);
    }

    async fn prepare(&mut self, text: &Text) {
        let settings = self.settings.clone();
        let Settings { gateway, cluster, .. } = settings.as_ref();
        if let Some(unused) = self.prepared.take() {
            drop(gateway.close(&unused.session).await);
        }
        let opened = gateway.open(&statements::properties(text, cluster.at())).await;
        let session = match opened {
            Ok(session) => session,
            Err(error) => {
                self.trouble = Some(error.into());
                tokio::time::sleep(self.settings.every).await;
                return;
            }
        };
        for statement in statements::prepare(text) {
            let Err(error) = gateway.run(&session, &statement).await else { continue };
            // Nothing was submitted in it; left open it would stay in the gateway's memory.
            drop(gateway.close(&session).await);
            match error {
                StatementError::Refused(cause) => self.answer = Some(Answer::Refused(cause)),
                StatementError::Unknown(cause) => {
                    self.trouble = Some(Trouble::Own(format!("the job could not be prepared: {cause}")));
                    tokio::time::sleep(self.settings.every).await;
                }
            }
            return;
        }
        self.prepared = Some(Prepared { session, text: text.clone() });
    }

    async fn show(&mut self, folders: Vec<PathBuf>) {
        let (shows, key) = (self.settings.shows.clone(), self.key.clone());
        let all = move || folders.iter().try_for_each(|folder| shows(&statements::mark(folder, &key)));
        let shown = tokio::task::spawn_blocking(all).await;
        self.answer = Some(match shown.unwrap_or_else(|error| Err(io::Error::other(error))) {
            Ok(()) => Answer::Shown,
            Err(error) => Answer::Failed(format!("the files that the job left hidden cannot be shown: {error}")),
        });
    }

    async fn submit(&mut self) {
        self.prepared = None;
        let settings = self.settings.clone();
        let Settings { gateway, places, .. } = settings.as_ref();
        let State::Submitting { attempt, session } = &self.memory.state else { return };
        for statement in statements::submit(&self.key, attempt, places) {
            let cause = match gateway.run(session, &statement).await {
                Ok(()) => continue,
                Err(error) => error.to_string(),
            };
            self.trouble = Some(Trouble::Own(format!("the job could not be submitted: {cause}")));
            let is_known = cause.contains("DuplicateJobSubmissionException");
            self.answer = Some(if is_known { Answer::Known } else { Answer::Failed(cause) });
            return;
        }
    }
}

#[cfg(test)]
mod tests;
