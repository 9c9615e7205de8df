//! What a gateway states to admin, every second: facts of the sources that it makes itself (HTTP), and what flowed per
//! stream. Facts wait here until admin has taken them; a newer fact of a source replaces the one that waits.
//!
//! Bounded: [`FACTS_MAX`] facts wait. If admin is away for longer than they last, new sources are not stated; that is
//! counted and logged, their records are safe.

use std::collections::{HashMap, HashSet};
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

use crate::budget::{Budget, QueueId};
use crate::directory::Directory;
use crate::metrics;

/// Facts that may wait: about 50 MB, four minutes at 1,000 keyed requests a second.
pub const FACTS_MAX: usize = 250_000;
/// Facts of one call; each range set apart counts as one more. About 2 MB.
const FACTS_PER_CALL: usize = 5_000;
/// Reports of which each brings a flow at least once, although nothing of it has changed: admin hears of every stream,
/// and of this gateway, within that many seconds.
const FLOW_TURNS: u64 = 10;
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

/// The flows that admin has been told. With thousands of streams only few have news each second.
#[derive(Debug, Default)]
struct Told {
    flows: HashMap<QueueId, FlowReport>,
    turn: u64,
}

impl Told {
    /// What of `flows`, all there are, is to be told now: what has changed or is queued, and of the others those whose
    /// turn it is.
    fn news(&mut self, flows: impl Iterator<Item = (QueueId, FlowReport)>) -> Vec<(QueueId, FlowReport)> {
        let is_news = |(queue, flow): &(QueueId, FlowReport)| {
            flow.queue_bytes > 0 || queue % FLOW_TURNS == self.turn % FLOW_TURNS || self.flows.get(queue) != Some(flow)
        };
        let (mut news, mut all) = (Vec::new(), HashSet::new());
        for flow in flows {
            all.insert(flow.0);
            if is_news(&flow) {
                news.push(flow);
            }
        }
        self.flows.retain(|queue, _| all.contains(queue));
        news
    }

    /// Admin has taken these: the next ones' turn.
    fn note(&mut self, news: Vec<(QueueId, FlowReport)>) {
        self.turn += 1;
        self.flows.extend(news);
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
        let mut told = Told::default();
        loop {
            tokio::select! {
                () = &mut stop => break,
                _ = tick.tick() => self.report(&mut told).await,
            }
        }
        if tokio::time::timeout(LAST_WITHIN, self.report(&mut told)).await.is_err() {
            warn!("admin did not take the last report in time");
        }
    }

    async fn report(&self, told: &mut Told) {
        if let Err(error) = self.report_flows(told).await {
            warn!(%error, "cannot report flows; trying again");
        }
        while self.report_facts().await {}
    }

    async fn report_flows(&self, told: &mut Told) -> Result<(), ControlError> {
        let directory = Arc::clone(&self.directory.borrow());
        let report = |queue_bytes, stream: &crate::directory::StreamHandle| {
            metrics::queue_bytes(stream.id(), queue_bytes);
            (stream.queue, stream.report(&self.book.gateway_id, queue_bytes))
        };
        let flows = directory.streams.values().map(|stream| report(self.budget.held(stream.queue) as u64, stream));
        let news: Vec<(QueueId, FlowReport)> = told.news(flows);
        if !news.is_empty() {
            let flows: Vec<&FlowReport> = news.iter().map(|(_, flow)| flow).collect();
            self.post("/api/v1/flows", &flows).await?;
        }
        told.note(news);
        Ok(())
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

#[cfg(test)]
mod tests {
    use super::*;
    use stream::Incarnation;

    #[test]
    fn a_flow_is_told_when_it_changes_and_from_time_to_time() {
        let flow = |records, queue_bytes| FlowReport {
            stream: "a.b.c".parse().unwrap(),
            incarnation: Incarnation(1),
            reporter: "g".to_owned(),
            records,
            bytes: records,
            refusals: Default::default(),
            queue_bytes,
            producers: Vec::new(),
            refused_last: None,
        };
        let mut told = Told::default();
        let mut tell = |flows: &[(QueueId, FlowReport)]| {
            let news = told.news(flows.iter().cloned());
            let queues: Vec<QueueId> = news.iter().map(|(queue, _)| *queue).collect();
            told.note(news);
            queues
        };
        let flows: Vec<_> = (0..100).map(|queue| (queue, flow(0, 0))).collect();
        assert_eq!(tell(&flows).len(), 100, "all are new");
        let quiet: Vec<usize> = (0..FLOW_TURNS).map(|_| tell(&flows).len()).collect();
        assert_eq!(quiet, [10; FLOW_TURNS as usize], "each once in ten turns");
        let changed: Vec<_> = (0..100)
            .map(|queue| (queue, if queue == 55 { flow(1, 0) } else { flow(0, u64::from(queue == 56)) }))
            .collect();
        let queues = tell(&changed);
        assert!(queues.len() == 12 && queues.contains(&55) && queues.contains(&56), "{queues:?}");
        assert!(tell(&changed).contains(&56), "as long as something is queued");
    }
}
