//! The worker: collects one stream. It wires the loop ([`lane`]) to the sender, the configuration, the facts and the
//! supervisor that holds its files.

pub mod lane;
#[cfg(test)]
mod tests;

use std::os::fd::AsFd;
use std::sync::{Arc, mpsc as events};
use std::time::Duration;

use stream::clock::SystemClock;
use stream::config::{Snapshot, StreamConfig};
use stream::control::{AdminClient, ConfigWatch};
use stream::disk::SharedDisk;
use stream::{Incarnation, StreamId, limits, memory};
use tokio::sync::mpsc;
use tokio::task::JoinSet;
use tracing::{info, warn};

use crate::collect::Collector;
use crate::collect::identity::{FileIdentity, Reader};
use crate::facts::{self, Outbox};
use crate::lock::{self, LockError};
use crate::position::{ENTRIES_MAX, Positions, State, Store, StoreError};
use crate::quarantine::QuarantineError;
use crate::send::{Known, Sender};
use crate::settings::WorkerSettings;
use crate::supervise::hold::HeldBySupervisor;
use lane::{Event, Parts};

/// The exit code of a worker whose stream the gateway does not know: it is tried again slowly.
pub const EXIT_UNKNOWN_STREAM: u8 = 3;
/// How long the last facts may take at an orderly stop.
const LAST_FACTS: Duration = Duration::from_secs(2);
/// How long a worker waits for the one before it to be gone.
const PREDECESSOR: Duration = Duration::from_secs(5);

/// Why a worker stops.
#[derive(Debug, thiserror::Error)]
pub enum WorkError {
    /// The gateway does not know the stream; try again slowly.
    #[error("stream {stream} is unknown to the gateway ({cause}); see that it exists in the configuration")]
    UnknownStream {
        /// The stream.
        stream: StreamId,
        /// The gateway's words.
        cause: String,
    },
    /// What must be remembered cannot be; try again when the disk is mended.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// A refused record cannot be kept; try again when the disk is mended.
    #[error(transparent)]
    Quarantine(#[from] QuarantineError),
    /// Another worker has this state.
    #[error(transparent)]
    Lock(#[from] LockError),
    /// The supervisor is not there.
    #[error("worker of stream {stream}: its supervisor is gone ({cause}); it is not started by hand")]
    Orphan {
        /// The stream.
        stream: StreamId,
        /// What happened.
        cause: String,
    },
    /// A fault of the program.
    #[error("worker of stream {stream} panicked; see the log")]
    Panicked {
        /// The stream.
        stream: StreamId,
    },
}

impl WorkError {
    /// The exit code that tells the supervisor how soon to try again; the binary exits with it.
    pub fn exit_code(&self) -> u8 {
        match self {
            WorkError::UnknownStream { .. } => EXIT_UNKNOWN_STREAM,
            _ => 1,
        }
    }
}

/// Collects one stream until `shutdown`, or until the stream or this life of it is gone from the configuration.
/// Await it on the main thread: a worker dies with its supervisor by a signal that belongs to the thread that asks.
pub async fn work(
    settings: WorkerSettings,
    disk: SharedDisk,
    config: ConfigWatch,
    shutdown: impl Future<Output = ()> + Send,
) -> Result<(), WorkError> {
    // Each batch is filled, packed into a message, and gone: a full flight of both is kept at hand.
    memory::keep_large(limits::MESSAGE_BYTES_MAX, 2 * limits::WORKER_OUTSTANDING_BYTES_MAX);
    let files = join_supervisor(&settings)?;
    run(settings, disk, config, files, shutdown).await
}

/// The files that the supervisor held for this worker, and where to hand over more.
type Held = (HeldBySupervisor, Vec<std::fs::File>);

async fn run(
    settings: WorkerSettings,
    disk: SharedDisk,
    config: ConfigWatch,
    held: Held,
    shutdown: impl Future<Output = ()> + Send,
) -> Result<(), WorkError> {
    let stream = settings.stream.clone();
    let Some(first) = of_stream(&config.borrow(), &stream, settings.incarnation) else {
        info!(%stream, incarnation = %settings.incarnation, "this life of the stream is not in the configuration");
        return Ok(());
    };
    tokio::pin!(shutdown);
    let admin = AdminClient::new(&settings.admin);
    let opened = tokio::select! {
        opened = open(&settings, &disk, &admin) => opened?,
        () = &mut shutdown => return Ok(()),
    };
    let outbox = Outbox::default();
    let (event, events) = events::channel();
    let (batches, queue) = mpsc::channel(2 * ENTRIES_MAX);
    let mut tasks = JoinSet::new();
    let verdicts = event.clone();
    let verdict = move |verdict| drop(verdicts.send(Event::Verdict(verdict)));
    let (gateway, unknown_for_max) = (settings.gateway.clone(), settings.pace.unknown_stream);
    let (watched, id) = (config.clone(), stream.clone());
    let known = Box::new(move || Known::of(watched.borrow().streams.get(&id)));
    let sender = Sender::new(stream.clone(), gateway, queue, unknown_for_max, known, rand::make_rng(), verdict);
    tasks.spawn(sender.run());
    tasks.spawn(outbox.clone().run(admin.clone(), settings.pace.facts));
    tasks.spawn(follow_config(config, stream.clone(), settings.incarnation, first.version, event.clone()));

    // The lock lives as long as the loop that writes the state.
    let Opened { locked, positions, without_state } = opened;
    let parts = parts(&settings, disk, first, held, positions, without_state, outbox.clone());
    let mut lane = tokio::task::spawn_blocking(move || {
        let _locked = locked;
        lane::drive(parts, &batches, &events)
    });
    let ended = tokio::select! {
        ended = &mut lane => ended,
        () = shutdown => {
            // The loop may have ended by itself; then its own answer counts.
            let _ = event.send(Event::Stop);
            lane.await
        }
    };
    tasks.shutdown().await;
    if let Ok(Err(error)) = tokio::time::timeout(LAST_FACTS, outbox.report(&admin)).await {
        warn!(%stream, %error, "the last facts are not reported; the next start reports them");
    }
    ended.unwrap_or(Err(WorkError::Panicked { stream }))
}

/// What the loop is made of.
fn parts(
    settings: &WorkerSettings,
    disk: SharedDisk,
    config: Arc<StreamConfig>,
    (held, files): Held,
    positions: Positions,
    without_state: bool,
    outbox: Outbox,
) -> Parts {
    let (agent_id, incarnation) = (settings.agent_id.clone(), settings.incarnation);
    let reader = Reader { agent_id, incarnation, identity_of: FileIdentity::of };
    let clock = Arc::new(SystemClock);
    Parts {
        collector: Collector::new(reader, config.clone(), settings.pace, clock, held, files, without_state),
        positions,
        config,
        outbox,
        facts: states_facts(settings),
        quarantine: settings.state_dir.join("quarantine.ndjson"),
        disk,
        pace: settings.pace,
    }
}

fn states_facts(settings: &WorkerSettings) -> facts::Collector {
    facts::Collector {
        stream: settings.stream.clone(),
        incarnation: settings.incarnation,
        agent_id: settings.agent_id.clone(),
    }
}

/// Ties this process to its supervisor and takes over the files that it holds.
fn join_supervisor(settings: &WorkerSettings) -> Result<Held, WorkError> {
    let Some(supervisor) = settings.supervisor else { return Ok((HeldBySupervisor::nobody(), Vec::new())) };
    let orphan = |cause: String| WorkError::Orphan { stream: settings.stream.clone(), cause };
    rustix::process::set_parent_process_death_signal(Some(rustix::process::Signal::KILL))
        .map_err(|error| orphan(error.to_string()))?;
    // It may have died before the signal was asked for.
    let parent = rustix::process::getppid().map(|pid| pid.as_raw_nonzero().get().unsigned_abs());
    if parent != Some(supervisor) {
        return Err(orphan(format!("process {supervisor} is not this one's parent")));
    }
    let socket = std::io::stdin().as_fd().try_clone_to_owned().map_err(|error| orphan(error.to_string()))?;
    HeldBySupervisor::connect(socket).map_err(|error| orphan(error.to_string()))
}

/// A worker's state, ready to go on with.
struct Opened {
    locked: std::fs::File,
    positions: Positions,
    /// Nothing was remembered on this machine.
    without_state: bool,
}

/// Opens the state: the one found, or else what admin remembers, kept before anything is read.
async fn open(settings: &WorkerSettings, disk: &SharedDisk, admin: &AdminClient) -> Result<Opened, WorkError> {
    let dir = &settings.state_dir;
    disk.create_dir_all(dir).map_err(|cause| LockError::Io { path: dir.clone(), cause })?;
    let locked = lock::acquire(dir, PREDECESSOR).await?;
    let (mut store, found) = Store::open(disk.clone(), dir)?;
    let without_state = found.is_none();
    let state = match found {
        Some(state) => state,
        None => {
            let recovered = facts::recover(admin, &states_facts(settings)).await;
            info!(stream = %settings.stream, sources = recovered.len(), "no state; admin remembers these");
            let state = State { recovered, ..State::default() };
            store.write_through(&state)?;
            state
        }
    };
    Ok(Opened { locked, positions: Positions::new(store, state), without_state })
}

fn of_stream(snapshot: &Snapshot, stream: &StreamId, incarnation: Incarnation) -> Option<Arc<StreamConfig>> {
    snapshot.streams.get(stream).filter(|config| config.incarnation == incarnation).cloned().map(Arc::new)
}

/// Tells the loop each change of the stream's configuration after `version`.
async fn follow_config(
    mut config: ConfigWatch,
    stream: StreamId,
    incarnation: Incarnation,
    mut version: u64,
    event: events::Sender<Event>,
) {
    loop {
        let current = of_stream(&config.borrow_and_update(), &stream, incarnation);
        let told = match current {
            None => event.send(Event::Stop),
            Some(config) if config.version != version => {
                version = config.version;
                event.send(Event::Config(config))
            }
            Some(_) => Ok(()),
        };
        if told.is_err() || config.changed().await.is_err() {
            return;
        }
    }
}
