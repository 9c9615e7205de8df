//! What a worker states of its sources to admin, for the ledger and for a worker that lost its state.
//!
//! The newest fact of each source waits in an outbox until admin has answered for it; data never waits for facts.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use stream::control::{AdminClient, ControlError};
use stream::facts::SourceFact;
use stream::retry::Backoff;
use stream::{Incarnation, SourceId, StreamId};
use tracing::{debug, warn};

use crate::position::SourceState;

/// Facts of one report, so that one body stays small.
const REPORT_FACTS_MAX: usize = 1_000;

/// Whose facts.
#[derive(Clone, Debug)]
pub struct Collector {
    /// The stream.
    pub stream: StreamId,
    /// Its life.
    pub incarnation: Incarnation,
    /// The agent.
    pub agent_id: String,
}

impl Collector {
    /// What is stated of a source.
    pub fn fact(&self, source: SourceId, state: &SourceState) -> SourceFact {
        SourceFact {
            stream: self.stream.clone(),
            incarnation: self.incarnation,
            source,
            collector: self.agent_id.clone(),
            name: state.path.display().to_string(),
            seen: state.seen.max(state.position),
            acknowledged: state.position,
            finished: state.finished,
            set_apart: state.set_apart.clone(),
            cuts: state.cuts.clone(),
        }
    }
}

/// Facts that wait to be reported: one per source. Clones share it.
#[derive(Clone, Default)]
pub struct Outbox(Arc<Mutex<BTreeMap<SourceId, SourceFact>>>);

impl Outbox {
    /// States a fact; it replaces an older one of its source.
    pub fn put(&self, fact: SourceFact) {
        self.lock().insert(fact.source, fact);
    }

    /// Reports what waits, once.
    pub async fn report(&self, admin: &AdminClient) -> Result<(), ControlError> {
        loop {
            let facts: Vec<SourceFact> = {
                let mut waiting = self.lock();
                let taken = waiting.keys().take(REPORT_FACTS_MAX).copied().collect::<Vec<_>>();
                taken.iter().filter_map(|source| waiting.remove(source)).collect()
            };
            if facts.is_empty() {
                return Ok(());
            }
            if let Err(error) = admin.send::<serde_json::Value>(http::Method::POST, "/api/v1/facts", &facts).await {
                let mut waiting = self.lock();
                for fact in facts {
                    // One stated since then is newer.
                    waiting.entry(fact.source).or_insert(fact);
                }
                return Err(error);
            }
        }
    }

    /// Reports every `every`, for good.
    pub async fn run(self, admin: AdminClient, every: Duration) {
        let mut backoff = Backoff::default();
        loop {
            tokio::time::sleep(every).await;
            match self.report(&admin).await {
                Ok(()) => backoff.reset(),
                Err(error) => {
                    debug!(%error, "facts are not reported; they wait");
                    let wait = backoff.next_wait(Duration::ZERO, &mut rand::rng());
                    tokio::time::sleep(wait).await;
                }
            }
        }
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<SourceId, SourceFact>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// What admin remembers of this collector. Waits until admin answers: without it and without a state of its own, a
/// worker does not know what it has sent.
pub async fn recover(admin: &AdminClient, collector: &Collector) -> Vec<SourceFact> {
    let Collector { stream, incarnation, agent_id } = collector;
    let path = format!("/api/v1/facts?stream={stream}&incarnation={incarnation}&collector={agent_id}");
    let mut backoff = Backoff::default();
    loop {
        match admin.get(&path).await {
            Ok(facts) => return facts,
            Err(error) => {
                warn!(%stream, %error, "no state of its own, and admin does not tell what it remembers; trying again");
                let wait = backoff.next_wait(Duration::from_millis(50), &mut rand::rng());
                tokio::time::sleep(wait).await;
            }
        }
    }
}
