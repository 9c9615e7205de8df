//! The journal's process: the real embedded log on a simulated disk, its two threads' steps taken by tasks.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use journal::embedded::log::Reply;
use journal::embedded::topics_of;
use journal::embedded::writer::Step;
use journal::{EmbeddedLog, LogSettings, OpenError};
use stream::Batch;
use stream::config::Snapshot;
use stream::disk::SimDisk;
use stream::wire::{Refusal, RefusalReason};
use tokio::sync::Notify;
use tokio::task::AbortHandle;
use tokio::time::timeout;

use crate::admin::Admin;
use crate::agent::Loss;
use crate::link::{Ends, Links};
use crate::world::World;

const DIR: &str = "/journal";

/// See the module.
pub struct JournalHost {
    world: World,
    admin: Arc<Admin>,
    links: Arc<Links>,
    /// Its disk.
    pub disk: SimDisk,
    state: Mutex<Host>,
}

struct Host {
    copy: Arc<Snapshot>,
    running: Option<Running>,
}

struct Running {
    log: Arc<EmbeddedLog>,
    arrived: Arc<Notify>,
    tasks: [AbortHandle; 2],
}

impl JournalHost {
    /// A journal that does not run yet.
    pub fn new(world: &World, admin: &Arc<Admin>, links: &Arc<Links>) -> Arc<Self> {
        let state = Host { copy: admin.now(), running: None };
        let (admin, links) = (Arc::clone(admin), Arc::clone(links));
        Arc::new(Self { world: world.clone(), admin, links, disk: SimDisk::new(), state: Mutex::new(state) })
    }

    /// Opens the log and starts.
    pub fn start(self: &Arc<Self>) {
        let mut state = self.state.lock().unwrap();
        if self.world.is_calm() || self.world.chance(0.8) {
            state.copy = self.admin.now();
        }
        let clock = Arc::new(self.world.clone());
        let log = match EmbeddedLog::open(Arc::new(self.disk.clone()), DIR.into(), clock, settings()) {
            Ok(log) => log,
            Err(error) => {
                if !matches!(error, OpenError::Io { .. }) {
                    self.world.found(format!("the journal does not open: {error}"));
                }
                self.world.note(format!("journal: does not open: {error}"));
                drop(state);
                if self.disk.power_is_gone() {
                    self.world.roll(|dice| self.disk.power_loss(dice));
                }
                return self.start_again();
            }
        };
        self.world.note(format!("journal: starts with config {}", state.copy.version));
        log.configure(topics_of(&state.copy));
        let arrived = Arc::new(Notify::new());
        let sealed = Arc::new(Notify::new());
        let write = write(Arc::clone(self), Arc::clone(&log), Arc::clone(&arrived), Arc::clone(&sealed));
        let keep = keep(Arc::clone(self), Arc::clone(&log), sealed);
        let tasks = [tokio::spawn(write).abort_handle(), tokio::spawn(keep).abort_handle()];
        state.running = Some(Running { log, arrived, tasks });
    }

    /// Whether it runs.
    pub fn is_up(&self) -> bool {
        self.state.lock().unwrap().running.is_some()
    }

    /// The log, while it runs.
    pub fn log(&self) -> Option<Arc<EmbeddedLog>> {
        self.state.lock().unwrap().running.as_ref().map(|running| Arc::clone(&running.log))
    }

    /// Hears of a configuration.
    pub fn adopt(&self, config: Arc<Snapshot>) {
        let mut state = self.state.lock().unwrap();
        state.copy = config;
        if let Some(running) = &state.running {
            running.log.configure(topics_of(&state.copy));
        }
    }

    /// Takes an append.
    pub fn append(&self, topic: &str, partition: u32, batch: &Batch, reply: Reply) {
        let running = self.state.lock().unwrap().running.as_ref().map(|running| {
            running.arrived.notify_one();
            Arc::clone(&running.log)
        });
        match running {
            Some(log) => log.append(topic, partition, batch, reply),
            None => reply(Err(Refusal::new(RefusalReason::Unavailable, "journal", "it is gone"))),
        }
    }

    /// Ends it, and starts it again after a while.
    pub fn fail(self: &Arc<Self>, loss: Loss) {
        let Some(running) = self.state.lock().unwrap().running.take() else { return };
        self.world.note(format!("journal: ends, {loss:?}"));
        self.links.cut(|ends| matches!(ends, Ends::Gateway(_)));
        running.tasks.iter().for_each(AbortHandle::abort);
        match loss {
            Loss::Process => self.disk.process_loss(),
            Loss::Power => self.world.roll(|dice| self.disk.power_loss(dice)),
        }
        self.start_again();
    }

    fn start_again(self: &Arc<Self>) {
        let host = Arc::clone(self);
        tokio::spawn(async move {
            host.world.pause(50..4_000).await;
            host.start();
        });
    }

    /// Whether a step found that the disk does nothing more: then the process ends there.
    fn ends_here(self: &Arc<Self>) -> bool {
        let is_gone = self.disk.power_is_gone();
        if is_gone {
            self.fail(if self.world.chance(0.7) { Loss::Power } else { Loss::Process });
        }
        is_gone
    }
}

/// What the writer's thread does.
async fn write(host: Arc<JournalHost>, log: Arc<EmbeddedLog>, arrived: Arc<Notify>, sealed: Arc<Notify>) {
    loop {
        match log.commit_once() {
            Step::Idle => arrived.notified().await,
            Step::Worked => {}
            Step::Blocked => {
                sealed.notify_one();
                host.world.pause(20..21).await;
            }
        }
        if host.ends_here() {
            return;
        }
        // What a sync takes.
        let slow = !host.world.is_calm() && host.world.chance(0.05);
        host.world.pause(if slow { 20..200 } else { 1..5 }).await;
    }
}

/// What the keeper's thread does.
async fn keep(host: Arc<JournalHost>, log: Arc<EmbeddedLog>, sealed: Arc<Notify>) {
    loop {
        drop(timeout(Duration::from_millis(500), sealed.notified()).await);
        log.copy_sealed();
        if host.ends_here() {
            return;
        }
        log.tend();
        if host.ends_here() {
            return;
        }
    }
}

fn settings() -> LogSettings {
    LogSettings {
        wal_bytes: 4_000,
        sealed_max: 2,
        quantum_bytes: 1_000,
        commit_bytes_max: 4_000,
        topic_pending_bytes_max: 10_000,
        topic_pending_bytes_floor: 1_000,
        pending_bytes_max: 20_000,
        keeper_step_bytes: 1_500,
        piece_bytes: 800,
        removed_grace: Duration::from_secs(5),
        tend_every: Duration::from_millis(500),
    }
}
