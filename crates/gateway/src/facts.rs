//! What a gateway states to admin, every second: facts of the sources that it makes itself (HTTP), and what flowed per
//! stream. Facts wait here until admin has taken them; a newer fact of a source replaces the one that waits.
//!
//! Bounded: [`FACTS_MAX`] facts wait. If admin is away for longer than they last, new sources are not stated; that is
//! counted and logged, their records are safe.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use http::Method;
use serde::Serialize;
use serde::de::IgnoredAny;
use stream::SourceId;
use stream::control::{AdminClient, ControlError};
use stream::facts::{FlowReport, SourceFact};
use tokio::sync::watch;
use tracing::warn;

use crate::budget::Budget;
use crate::directory::Directory;
use crate::metrics;

/// Facts that may wait: about 50 MB, four minutes at 1,000 keyed requests a second.
pub const FACTS_MAX: usize = 250_000;
/// Facts of one call; each range set apart counts as one more. About 2 MB.
const FACTS_PER_CALL: usize = 5_000;
/// How long the last report may take.
const LAST_WITHIN: Duration = Duration::from_secs(2);

/// Facts that admin has not taken yet.
#[derive(Debug)]
pub struct FactBook {
    gateway_id: String,
    waiting: Mutex<HashMap<SourceId, SourceFact>>,
}

impl FactBook {
    /// A book whose facts are signed by `gateway_id`.
    pub fn new(gateway_id: impl Into<String>) -> Self {
        Self { gateway_id: gateway_id.into(), waiting: Mutex::default() }
    }

    /// States `fact`, signed.
    pub fn put(&self, mut fact: SourceFact) {
        fact.collector.clone_from(&self.gateway_id);
        let mut waiting = self.lock();
        if waiting.len() < FACTS_MAX || waiting.contains_key(&fact.source) {
            waiting.insert(fact.source, fact);
        } else {
            metrics::lost_facts(1);
        }
    }

    fn take(&self) -> Vec<SourceFact> {
        let mut waiting = self.lock();
        let mut weight = 0;
        let fits = |fact: &&SourceFact| {
            let first = weight == 0;
            weight += 1 + fact.set_apart.len();
            first || weight <= FACTS_PER_CALL
        };
        let sources: Vec<SourceId> = waiting.values().take_while(fits).map(|fact| fact.source).collect();
        sources.iter().filter_map(|source| waiting.remove(source)).collect()
    }

    /// Puts facts back that admin did not take, unless there are newer ones.
    fn give_back(&self, facts: Vec<SourceFact>) {
        let mut waiting = self.lock();
        for fact in facts {
            waiting.entry(fact.source).or_insert(fact);
        }
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<SourceId, SourceFact>> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Who states what to whom.
pub struct Reporter {
    /// To whom.
    pub admin: AdminClient,
    /// The facts.
    pub book: Arc<FactBook>,
    /// The streams.
    pub directory: watch::Receiver<Arc<Directory>>,
    /// What they hold.
    pub budget: Arc<Budget>,
}

impl Reporter {
    /// Reports `every` so often until `stop` is ready, then once more.
    pub async fn run(self, every: Duration, stop: impl Future<Output = ()> + Send) {
        let mut tick = tokio::time::interval(every);
        tick.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        tokio::pin!(stop);
        loop {
            tokio::select! {
                () = &mut stop => break,
                _ = tick.tick() => self.report().await,
            }
        }
        if tokio::time::timeout(LAST_WITHIN, self.report()).await.is_err() {
            warn!("admin did not take the last report in time");
        }
    }

    async fn report(&self) {
        if let Err(error) = self.report_flows().await {
            warn!(%error, "cannot report flows; trying again");
        }
        while self.report_facts().await {}
    }

    async fn report_flows(&self) -> Result<(), ControlError> {
        let directory = Arc::clone(&self.directory.borrow());
        let report = |queue_bytes, stream: &crate::directory::StreamHandle| {
            metrics::queue_bytes(stream.id(), queue_bytes);
            stream.report(&self.book.gateway_id, queue_bytes)
        };
        let flows: Vec<FlowReport> =
            directory.values().map(|stream| report(self.budget.held(stream.queue) as u64, stream)).collect();
        if flows.is_empty() { Ok(()) } else { self.post("/api/v1/flows", &flows).await }
    }

    /// Reports one call's worth of facts. True if there may be more to report now.
    async fn report_facts(&self) -> bool {
        let facts = self.book.take();
        if facts.is_empty() {
            return false;
        }
        match self.post("/api/v1/facts", &facts).await {
            Ok(()) => true,
            Err(ControlError::Refused { status, message }) if (400..500).contains(&status) => {
                warn!(
                    status,
                    message,
                    facts = facts.len(),
                    "admin refuses facts for good; they are lost to the ledger"
                );
                metrics::lost_facts(facts.len());
                true
            }
            Err(error) => {
                warn!(%error, facts = facts.len(), "cannot report facts; trying again");
                self.book.give_back(facts);
                false
            }
        }
    }

    async fn post(&self, path: &str, body: &impl Serialize) -> Result<(), ControlError> {
        self.admin.send::<IgnoredAny>(Method::POST, path, body).await.map(|_| ())
    }
}
