//! The host of legs: watches the configuration and keeps one leg running per INSERT, each on a thread of its own. A leg
//! that fails or panics ends alone, is reported, and is started again after a back-off from its committed state; one
//! whose job changed commits, then starts anew with the new text at its committed position.
//!
//! State per leg: its supervising task, told by a watch what the leg is to do (`None`: it is no longer wanted).

use std::collections::BTreeMap;
use std::future::Future;
use std::path::PathBuf;
use std::sync::Arc;
use std::thread;
use std::time::Duration;

use journal::{Journal, Topic};
use sink::{FilesSink, Identity, Sink};
use stream::StreamId;
use stream::clock::{Clock, SystemClock};
use stream::config::{SinkKind, SinkSpec, Snapshot, StreamConfig};
use stream::control::{AdminClient, ConfigWatch};
use stream::disk::SharedDisk;
use stream::retry::Backoff;
use tokio::runtime::Handle;
use tokio::sync::{oneshot, watch};
use tokio::task::JoinHandle;
use tokio::time::Instant;
use tracing::{error, info, warn};

use crate::error::LegError;
use crate::leg::begin::Begin;
use crate::leg::report::{self, Mailbox};
use crate::leg::run::{Leg, Parts};
use crate::leg::{Destination, LegKey, LegSpec, read};
use crate::metrics;
use crate::sql;

/// A leg that ran this long before it failed starts its back-off anew.
const STEADY: Duration = Duration::from_secs(30);
/// Shortest time between two commits: each is several syncs.
const CHECKPOINT_MIN: Duration = Duration::from_millis(10);
/// How long legs may take to commit at shutdown; one that hangs then is left as a crash would leave it.
const STOP: Duration = Duration::from_secs(30);
/// How long the journal may take to hear that a reader is gone; retention by size forgets it anyway.
const GONE: Duration = Duration::from_secs(10);

/// What a query role needs.
#[derive(Clone)]
pub struct QuerySettings<J> {
    /// The journal to read.
    pub journal: J,
    /// Whom legs report to.
    pub admin: AdminClient,
    /// Where legs write whose sink names no folder: `<out_root>/<stream>/<sink>`.
    pub out_root: PathBuf,
    /// The disk.
    pub disk: SharedDisk,
    /// How often legs commit, whatever their streams say; for `up`, where a person is watching.
    pub checkpoint: Option<Duration>,
}

/// Runs the legs of all streams until `shutdown` completes; then every leg commits what it has, and this returns, at the
/// latest after 30 s.
pub async fn serve<J: Journal>(
    settings: QuerySettings<J>,
    mut config: ConfigWatch,
    shutdown: impl Future<Output = ()> + Send,
) {
    let mut host =
        Host { settings: Arc::new(settings), known: BTreeMap::new(), legs: BTreeMap::new(), leaving: BTreeMap::new() };
    tokio::pin!(shutdown);
    loop {
        let snapshot = config.borrow_and_update().clone();
        host.follow(&snapshot);
        tokio::select! {
            () = &mut shutdown => break,
            changed = config.changed() => if changed.is_err() { (&mut shutdown).await; break },
        }
    }
    host.stop().await;
}

struct Host<J> {
    settings: Arc<QuerySettings<J>>,
    /// The legs of each stream as it was last seen, so that only changed SQL is checked again.
    known: BTreeMap<StreamId, (StreamConfig, Vec<(LegKey, LegSpec)>)>,
    legs: BTreeMap<LegKey, Supervised>,
    /// Tasks of removed legs that have not ended yet; a leg that is wanted again waits for its former self.
    leaving: BTreeMap<LegKey, JoinHandle<()>>,
}

struct Supervised {
    order: watch::Sender<Order>,
    task: JoinHandle<()>,
}

/// What a supervising task is told.
#[derive(Clone, Debug, PartialEq)]
enum Order {
    Run(Arc<LegSpec>),
    /// Commit and end; the leg will go on another time.
    Stop,
    /// Commit and end; the leg is no longer wanted, and nobody is to wait for it.
    Remove,
}

impl<J: Journal> Host<J> {
    /// Makes the running legs those of the snapshot, of streams whose jobs run here.
    fn follow(&mut self, snapshot: &Snapshot) {
        self.known.retain(|id, (config, _)| snapshot.streams.get(id) == Some(config));
        let own = snapshot.streams.iter().filter(|(_, config)| config.spec.engine.is_embedded());
        for (id, config) in own {
            let legs = || (config.clone(), legs_of(config, &self.settings));
            self.known.entry(id.clone()).or_insert_with(legs);
        }
        let wanted: BTreeMap<LegKey, LegSpec> =
            self.known.values().flat_map(|(_, legs)| legs.iter().cloned()).collect();
        let removed: Vec<LegKey> = self.legs.keys().filter(|key| !wanted.contains_key(key)).cloned().collect();
        self.leaving.retain(|_, task| !task.is_finished());
        for key in removed {
            if let Some(leg) = self.legs.remove(&key) {
                leg.order.send_replace(Order::Remove);
                self.leaving.insert(key, leg.task);
            }
        }
        for (key, spec) in wanted {
            self.want(key, Order::Run(Arc::new(spec)));
        }
        metrics::legs(self.legs.len());
    }

    fn want(&mut self, key: LegKey, order: Order) {
        if let Some(leg) = self.legs.get(&key) {
            leg.order.send_if_modified(|known| {
                let is_new = *known != order;
                known.clone_from(&order);
                is_new
            });
            return;
        }
        let (sender, orders) = watch::channel(order);
        let before = self.leaving.remove(&key);
        let task = tokio::spawn(supervise(self.settings.clone(), key.clone(), orders, before));
        self.legs.insert(key, Supervised { order: sender, task });
    }

    async fn stop(self) {
        for leg in self.legs.values() {
            leg.order.send_replace(Order::Stop);
        }
        let tasks = self.legs.into_iter().map(|(key, leg)| (key, leg.task));
        let deadline = Instant::now() + STOP;
        for (key, task) in tasks.chain(self.leaving) {
            if tokio::time::timeout_at(deadline, task).await.is_err() {
                error!(stream = %key.stream, leg = key.sink, "the leg did not stop in time; it is left as it is");
            }
        }
    }
}

/// The legs of a stream: one per sink that its job inserts into. A job that cannot be checked has a leg per sink all the
/// same, so that its failure is seen.
fn legs_of<J: Journal>(config: &StreamConfig, settings: &QuerySettings<J>) -> Vec<(LegKey, LegSpec)> {
    let (out_root, checkpoint) = (&settings.out_root, settings.checkpoint);
    let sinks: Vec<String> = config.spec.sinks.iter().map(|sink| sink.name.clone()).collect();
    let names: Vec<&str> = sinks.iter().map(String::as_str).collect();
    let inserted = sql::check(&config.sql(), &names).ok();
    let is_used =
        |sink: &&SinkSpec| inserted.as_ref().is_none_or(|job| job.legs.iter().any(|leg| leg.sink == sink.name));
    let leg = |sink: &SinkSpec| {
        let default_dir = || out_root.join(config.spec.id.as_str()).join(&sink.name);
        let destination = match &sink.kind {
            SinkKind::Files { path, .. } => Destination::Files(path.clone().unwrap_or_else(default_dir)),
            SinkKind::Kafka(target) => Destination::Kafka(target.clone()),
        };
        let spec = LegSpec {
            topic: Topic::of(config),
            places: settings.journal.places(config),
            sql: config.sql(),
            sinks: sinks.clone(),
            destination,
            checkpoint: checkpoint
                .unwrap_or(Duration::from_millis(config.spec.limits.checkpoint_ms))
                .max(CHECKPOINT_MIN),
            replay_ms: sink.replay_ms,
            begin_from: sink.begin_from.clone(),
        };
        let (stream, incarnation) = (config.spec.id.clone(), config.incarnation);
        (LegKey { stream, incarnation, sink: sink.name.clone() }, spec)
    };
    config.spec.sinks.iter().filter(is_used).map(leg).collect()
}

/// Keeps one leg as it is ordered to be, once its former self (`before`) has ended.
async fn supervise<J: Journal>(
    settings: Arc<QuerySettings<J>>,
    key: LegKey,
    mut orders: watch::Receiver<Order>,
    before: Option<JoinHandle<()>>,
) {
    if let Some(before) = before {
        drop(before.await);
    }
    let mailbox = Mailbox::new(&key);
    let delivering = tokio::spawn(report::deliver(mailbox.clone(), settings.admin.clone()));
    let (mut backoff, mut topic): (Backoff, Option<Topic>) = (Backoff::default(), None);
    loop {
        let order = orders.borrow_and_update().clone();
        let Order::Run(spec) = order else {
            if let (Order::Remove, Some(topic)) = (order, topic) {
                say_gone(&settings.journal, &mailbox, &topic.key, &key).await;
            }
            break;
        };
        topic = Some(spec.topic.clone());
        let started = Instant::now();
        let Err(error) = run_until_ordered(&settings, &key, &spec, &mailbox, &mut orders).await else { continue };
        metrics::failed(key.stream.as_str(), &key.sink);
        error!(stream = %key.stream, leg = key.sink, %error, "the leg stopped; starting it again");
        mailbox.fail(error.to_string());
        if started.elapsed() > STEADY {
            backoff.reset();
        }
        let wait = backoff.next_wait(Duration::from_millis(50), &mut rand::rng());
        drop(tokio::time::timeout(wait, orders.changed()).await);
    }
    delivering.abort();
}

/// Runs the leg until it fails, or until there is another order; then it commits and ends.
async fn run_until_ordered<J: Journal>(
    settings: &Arc<QuerySettings<J>>,
    key: &LegKey,
    spec: &Arc<LegSpec>,
    mailbox: &Arc<Mailbox>,
    orders: &mut watch::Receiver<Order>,
) -> Result<(), LegError> {
    let keeping = report::keep(mailbox.clone(), settings.journal.clone(), spec.topic.key.clone(), reader_name(key));
    let keeping = AbortOnDrop(tokio::spawn(keeping));
    let (stop, stopped) = watch::channel(false);
    let live = live(settings.clone(), key.clone(), spec.clone(), mailbox.clone(), stopped);
    let mut ended = on_own_thread(key, live)?;
    let outcome = tokio::select! {
        outcome = &mut ended => outcome,
        _ = orders.changed() => {
            stop.send_replace(true);
            ended.await
        }
    };
    drop(keeping);
    info!(stream = %key.stream, leg = key.sink, "the leg has ended");
    outcome.unwrap_or_else(|_| Err(LegError::Panicked("see the log for its message".to_owned())))
}

/// Ends a task when it is dropped.
struct AbortOnDrop(JoinHandle<()>);

impl Drop for AbortOnDrop {
    fn drop(&mut self) {
        self.0.abort();
    }
}

/// Runs `leg` on a thread of its own: its work blocks, and what it does must hold up no other. If it panics, the answer
/// never comes.
fn on_own_thread(
    key: &LegKey,
    leg: impl Future<Output = Result<(), LegError>> + Send + 'static,
) -> Result<oneshot::Receiver<Result<(), LegError>>, LegError> {
    let (answer, ended) = oneshot::channel();
    let runtime = Handle::current();
    let run = move || drop(answer.send(runtime.block_on(leg)));
    thread::Builder::new().name(format!("leg {}", key.stream)).spawn(run)?;
    Ok(ended)
}

/// One run of a leg, from its committed state on.
async fn live<J: Journal>(
    settings: Arc<QuerySettings<J>>,
    key: LegKey,
    spec: Arc<LegSpec>,
    mailbox: Arc<Mailbox>,
    stopped: watch::Receiver<bool>,
) -> Result<(), LegError> {
    let sinks: Vec<&str> = spec.sinks.iter().map(String::as_str).collect();
    let mut plans = sql::check(&spec.sql, &sinks)?.legs;
    plans.retain(|plan| plan.sink == key.sink);
    let found = plans.len();
    let (Some(plan), 1) = (plans.pop(), found) else { return Err(LegError::Inserts { sink: key.sink, found }) };
    let identity = Identity { stream: key.stream.clone(), incarnation: key.incarnation, leg: key.sink.clone() };
    let sink = open_sink(&settings, &spec, identity)?;
    let clock: Arc<dyn Clock> = Arc::new(SystemClock);
    let (places, replay_ms) = (spec.places.clone(), spec.replay_ms);
    let begin =
        spec.begin_from.clone().map(|path| Begin { disk: settings.disk.clone(), path, topic: spec.topic.name() });
    let mut leg = Leg::recover(Parts { key, places, plan: Box::new(plan), sink, clock, mailbox, replay_ms, begin })?;
    let (arrivals, mut readers) = read::start(&settings.journal, &spec.topic, &leg.positions(), &leg.gate());
    tokio::select! {
        // What a leg that stops has read counts, whatever became of its readers.
        biased;
        outcome = leg.run(arrivals, spec.checkpoint, stopped) => outcome,
        Some(Err(broken)) = readers.join_next() => Err(LegError::Panicked(format!("while reading: {broken}"))),
    }
}

/// The sink of a leg; nothing is touched yet.
fn open_sink<J>(settings: &QuerySettings<J>, spec: &LegSpec, identity: Identity) -> Result<Box<dyn Sink>, LegError> {
    match &spec.destination {
        Destination::Files(dir) => Ok(Box::new(FilesSink::new(settings.disk.clone(), dir.clone(), identity))),
        #[cfg(feature = "kafka")]
        Destination::Kafka(target) => {
            Ok(Box::new(sink::KafkaSink::new(Handle::current(), target.clone(), identity, spec.checkpoint)))
        }
        #[cfg(not(feature = "kafka"))]
        Destination::Kafka(_) => Err(LegError::WithoutKafka),
    }
}

/// The name under which the journal knows a leg as a reader of its topic.
fn reader_name(key: &LegKey) -> String {
    key.sink.clone()
}

/// Tells the journal that nobody is to wait for this leg any more; in vain if its topic is gone too.
async fn say_gone(journal: &impl Journal, mailbox: &Mailbox, topic: &str, key: &LegKey) {
    let positions = mailbox.last().positions;
    let name = reader_name(key);
    let told = report::keep_all(journal, topic, &name, &positions, true);
    match tokio::time::timeout(GONE, told).await {
        Ok(Ok(())) => info!(stream = %key.stream, leg = key.sink, "the leg is removed"),
        Ok(Err(error)) => warn!(stream = %key.stream, leg = key.sink, %error, "the journal was not told of a removal"),
        Err(_) => warn!(stream = %key.stream, leg = key.sink, "the journal was not told of a removal: it is silent"),
    }
}

#[cfg(test)]
mod tests;
