//! An agent's machine: a worker per stream, with the real loop, positions and sender, started again when they end. The
//! supervisor's processes and descriptors are not simulated: a kill takes the whole agent.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::{Arc, Mutex};

use agent::WorkError;
use agent::position::{State, Store};
use agent::work::lane::Event;
use stream::config::{Snapshot, StreamConfig};
use stream::disk::{SharedDisk, SimDisk};
use stream::{Incarnation, StreamId};
use tokio::sync::mpsc;
use tokio::task::AbortHandle;

use crate::admin::{Admin, inputs};
use crate::gateway::GatewayHost;
use crate::link::{Ends, Links};
use crate::oracle::Ledger;
use crate::world::World;

/// One life of a stream.
pub type Life = (StreamId, Incarnation);

/// How a process ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Loss {
    /// The process alone: what it has written is there.
    Process,
    /// The machine's power: what it has not synced may be gone.
    Power,
}

/// See the module.
pub struct AgentHost {
    pub world: World,
    /// Its number.
    pub number: usize,
    admin: Arc<Admin>,
    /// Where it sends.
    pub gateways: Vec<Arc<GatewayHost>>,
    /// Its connections.
    pub links: Arc<Links>,
    /// Where it is noted what was acknowledged.
    pub ledger: Arc<Ledger>,
    /// What its workers remember.
    pub disk: SimDisk,
    files: PathBuf,
    state: Mutex<Host>,
}

struct Host {
    is_up: bool,
    config: Arc<Snapshot>,
    workers: BTreeMap<Life, Worker>,
}

struct Worker {
    task: AbortHandle,
    version: u64,
    /// Where its events go while it runs.
    events: Option<mpsc::UnboundedSender<Event>>,
}

impl AgentHost {
    /// An agent whose streams' files lie below `files`.
    pub fn new(
        world: &World,
        number: usize,
        admin: &Arc<Admin>,
        gateways: &[Arc<GatewayHost>],
        (links, ledger): (&Arc<Links>, &Arc<Ledger>),
        files: PathBuf,
    ) -> Arc<Self> {
        let state = Host { is_up: false, config: admin.now(), workers: BTreeMap::new() };
        Arc::new(Self {
            world: world.clone(),
            number,
            admin: Arc::clone(admin),
            gateways: gateways.to_vec(),
            links: Arc::clone(links),
            ledger: Arc::clone(ledger),
            disk: SimDisk::new(),
            files,
            state: Mutex::new(state),
        })
    }

    /// Starts with what admin says, or with the last good copy.
    pub fn start(self: &Arc<Self>) {
        let config = if self.world.is_calm() || self.world.chance(0.8) { self.admin.now() } else { self.config() };
        self.world.note(format!("agent {}: starts with config {}", self.number, config.version));
        self.state.lock().unwrap().is_up = true;
        self.adopt(config);
    }

    /// Hears of a configuration.
    pub fn adopt(self: &Arc<Self>, config: Arc<Snapshot>) {
        let mut state = self.state.lock().unwrap();
        if config.version < state.config.version {
            return;
        }
        state.config = Arc::clone(&config);
        if !state.is_up {
            return;
        }
        for (life, worker) in &mut state.workers {
            let told = match config.streams.get(&life.0).filter(|config| config.incarnation == life.1) {
                None => Event::Stop,
                Some(config) if config.version != worker.version => {
                    worker.version = config.version;
                    Event::Config(self.own(config))
                }
                Some(_) => continue,
            };
            // One that is not running reads the configuration when it starts.
            if let Some(events) = &worker.events {
                drop(events.send(told));
            }
        }
        for config in config.streams.values() {
            let life = (config.spec.id.clone(), config.incarnation);
            state.workers.entry(life.clone()).or_insert_with(|| {
                let task = tokio::spawn(Arc::clone(self).tend(life)).abort_handle();
                Worker { task, version: config.version, events: None }
            });
        }
    }

    /// Ends it, and starts it again after a while.
    pub fn fail(self: &Arc<Self>, loss: Loss) {
        let workers = {
            let mut state = self.state.lock().unwrap();
            if !std::mem::replace(&mut state.is_up, false) {
                return;
            }
            std::mem::take(&mut state.workers)
        };
        self.world.note(format!("agent {}: ends, {loss:?}", self.number));
        workers.into_values().for_each(|worker| worker.task.abort());
        self.links.cut(|ends| matches!(ends, Ends::Agent(number, _) if number == self.number));
        match loss {
            Loss::Process => self.disk.process_loss(),
            Loss::Power => self.world.roll(|dice| self.disk.power_loss(dice)),
        }
        let host = Arc::clone(self);
        tokio::spawn(async move {
            host.world.pause(50..4_000).await;
            host.start();
        });
    }

    /// Where a life's worker keeps its state.
    pub fn state_dir(life: &Life) -> PathBuf {
        format!("/agent/{}@{}", life.0, life.1).into()
    }

    /// What a life's worker has remembered.
    pub fn remembered(&self, life: &Life) -> Option<State> {
        let disk: SharedDisk = Arc::new(self.disk.clone());
        Store::look(&disk, &Self::state_dir(life)).ok()?
    }

    /// The folder of a stream's files.
    pub fn files_of(&self, stream: &StreamId) -> PathBuf {
        self.files.join(stream.as_str())
    }

    /// What it knows to be configured.
    pub fn config(&self) -> Arc<Snapshot> {
        Arc::clone(&self.state.lock().unwrap().config)
    }

    /// The stream's configuration with this agent's own paths.
    fn own(&self, config: &StreamConfig) -> Arc<StreamConfig> {
        let mut own = config.clone();
        own.spec.inputs = inputs(&self.files_of(&config.spec.id), self.admin.plan(&config.spec.id).pattern);
        Arc::new(own)
    }

    /// Runs a worker, again whenever it ends by an error.
    async fn tend(self: Arc<Self>, life: Life) {
        while let Err(error) = self.work(&life).await {
            self.world.note(format!("agent {}: worker of {} life {}: {error}", self.number, life.0, life.1));
            if self.ends_here() {
                return;
            }
            match error {
                WorkError::UnknownStream { .. } => self.world.pause(2_000..5_000).await,
                _ => self.world.pause(100..1_000).await,
            }
        }
        self.world.note(format!("agent {}: worker of {} life {} is done", self.number, life.0, life.1));
    }

    /// Whether a step found that the disk does nothing more: then the agent ends there.
    pub fn ends_here(self: &Arc<Self>) -> bool {
        let is_gone = self.disk.power_is_gone();
        if is_gone {
            self.fail(if self.world.chance(0.5) { Loss::Power } else { Loss::Process });
        }
        is_gone
    }

    /// Notes where a worker that starts takes its events, and gives it its configuration.
    pub fn join(&self, life: &Life, events: &mpsc::UnboundedSender<Event>) -> Option<Arc<StreamConfig>> {
        let mut state = self.state.lock().unwrap();
        let config = state.config.streams.get(&life.0).filter(|config| config.incarnation == life.1).cloned()?;
        let worker = state.workers.get_mut(life)?;
        (worker.events, worker.version) = (Some(events.clone()), config.version);
        drop(state);
        Some(self.own(&config))
    }
}
