//! The supervisor: one worker process for each stream that has file inputs, so that nothing one stream does reaches
//! another. It reads no data itself; it starts, watches, restarts and stops, and holds its workers' open files.
//!
//! A worker follows its stream's configuration by itself; it is replaced only when the stream begins another life.
//! Children must be started from threads that live as long as the runtime (its worker threads do): a worker's
//! death signal comes with the end of the thread that started it.

pub mod hold;
pub mod lease;
pub mod child;
#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::io;
use std::path::PathBuf;
use std::time::Duration;

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use stream::config::{Input, Snapshot};
use stream::control::{AdminClient, ConfigWatch};
use stream::disk::SharedDisk;
use stream::{Incarnation, StreamId};
use tokio::task::JoinSet;
use tracing::{info, warn};

use crate::lock::{self, LockError};
use crate::metrics;
use crate::settings::{AgentSettings, WorkerSettings};
use child::Worker;

/// How long a supervisor waits for the one before it to be gone.
const PREDECESSOR: Duration = Duration::from_secs(5);

/// Why the agent cannot go on.
#[derive(Debug, thiserror::Error)]
pub enum SuperviseError {
    /// Another machine runs with this id.
    #[error(
        "agent id {agent_id} is in use elsewhere ({message}); give this machine another id, or, if it was cloned, \
         remove agent-id from its state folder"
    )]
    IdTaken {
        /// The id.
        agent_id: String,
        /// Admin's words.
        message: String,
    },
    /// The id file is damaged.
    #[error(
        "{} does not hold an agent id; write the id into it that admin knows this machine by, or remove it to get a \
         new one (files are then read anew)", .0.display()
    )]
    DamagedId(PathBuf),
    /// The state folder cannot be used.
    #[error("{}: {cause}; see that the folder can be written", .path.display())]
    State {
        /// The file or folder.
        path: PathBuf,
        /// What happened.
        cause: io::Error,
    },
    /// Another agent has the state folder.
    #[error(transparent)]
    Lock(#[from] LockError),
}

/// Keeps a worker running for each stream that has file inputs, until `shutdown`; then stops them all.
pub async fn supervise(
    settings: AgentSettings,
    disk: SharedDisk,
    mut config: ConfigWatch,
    shutdown: impl Future<Output = ()> + Send,
) -> Result<(), SuperviseError> {
    tokio::pin!(shutdown);
    raise_file_limit();
    let fail = |cause| SuperviseError::State { path: settings.state_dir.clone(), cause };
    disk.create_dir_all(&settings.state_dir).map_err(fail)?;
    let _locked = lock::acquire(&settings.state_dir, PREDECESSOR).await?;
    let lease = tokio::select! {
        lease = lease::acquire(&settings, &disk, AdminClient::new(&settings.admin)) => lease?,
        () = &mut shutdown => return Ok(()),
    };
    let mut workers =
        Workers { settings, agent_id: lease.agent_id.clone(), running: BTreeMap::new(), stopping: JoinSet::new() };
    let lost = lease.keep();
    tokio::pin!(lost);
    let ended = loop {
        let wanted = wanted(&config.borrow_and_update());
        workers.reconcile(&wanted);
        tokio::select! {
            changed = config.changed() => if changed.is_err() { break Ok(()) },
            error = &mut lost => break Err(error),
            () = &mut shutdown => break Ok(()),
        }
    };
    workers.reconcile(&BTreeMap::new());
    workers.stopping.join_all().await;
    ended
}

/// The streams that need a worker, and their lives.
fn wanted(snapshot: &Snapshot) -> BTreeMap<StreamId, Incarnation> {
    let collects = |inputs: &[Input]| inputs.iter().any(|Input::File { paths }| !paths.is_empty());
    let streams = snapshot.streams.values().filter(|config| collects(&config.spec.inputs));
    streams.map(|config| (config.spec.id.clone(), config.incarnation)).collect()
}

struct Workers {
    settings: AgentSettings,
    agent_id: String,
    running: BTreeMap<StreamId, (Incarnation, Worker)>,
    stopping: JoinSet<()>,
}

impl Workers {
    /// Stops what is not wanted and starts what is.
    fn reconcile(&mut self, wanted: &BTreeMap<StreamId, Incarnation>) {
        while self.stopping.try_join_next().is_some() {}
        for (stream, (incarnation, worker)) in std::mem::take(&mut self.running) {
            if wanted.get(&stream) == Some(&incarnation) {
                self.running.insert(stream, (incarnation, worker));
            } else {
                info!(%stream, %incarnation, "stopping the worker");
                self.stopping.spawn(worker.stop());
            }
        }
        for (stream, incarnation) in wanted {
            if !self.running.contains_key(stream) {
                let worker = Worker::start(self.worker(stream, *incarnation), self.settings.worker_command.clone());
                self.running.insert(stream.clone(), (*incarnation, worker));
            }
        }
        metrics::workers(self.running.len());
    }

    fn worker(&self, stream: &StreamId, incarnation: Incarnation) -> WorkerSettings {
        let folder = format!("{stream}@{incarnation}");
        WorkerSettings {
            stream: stream.clone(),
            incarnation,
            agent_id: self.agent_id.clone(),
            state_dir: self.settings.state_dir.join("workers").join(folder),
            gateway: self.settings.gateway.clone(),
            admin: self.settings.admin.clone(),
            supervisor: Some(std::process::id()),
            pace: self.settings.pace,
        }
    }
}

/// Each worker's files are open here a second time; the limit that most systems start with is for much less.
fn raise_file_limit() {
    let limit = getrlimit(Resource::Nofile);
    if let Err(error) = setrlimit(Resource::Nofile, Rlimit { current: limit.maximum, ..limit }) {
        warn!(%error, "the limit on open files cannot be raised");
    }
}
