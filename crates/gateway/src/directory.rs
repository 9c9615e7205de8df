//! The streams that a gateway takes records for, and the tokens of their senders, as its doors see them: published by
//! the dispatcher, one handle a stream, with what has flowed through it.

use std::collections::{BTreeMap, HashMap};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};

use stream::StreamId;
use stream::config::{Snapshot, StreamConfig};
use stream::facts::{FlowReport, RefusedLast};
use stream::token::SecretHash;
use stream::wire::Refusal;

use crate::access::TokenHandle;
use crate::budget::QueueId;
use crate::metrics;
use crate::rate::{Rates, Tarpit};

/// One version of what the doors know.
#[derive(Debug, Default)]
pub struct Directory {
    /// The streams by id.
    pub streams: BTreeMap<StreamId, Arc<StreamHandle>>,
    /// The tokens by the hashes of their live secrets.
    pub tokens: HashMap<SecretHash, Arc<TokenHandle>>,
}

impl Directory {
    /// The tokens of `snapshot`. One that has not changed since `self` keeps what its senders owe.
    pub fn tokens_of(&self, snapshot: &Snapshot) -> HashMap<SecretHash, Arc<TokenHandle>> {
        let mut tokens = HashMap::new();
        for token in snapshot.tokens.values() {
            let known = token.secrets.iter().find_map(|secret| self.tokens.get(secret));
            let new = || {
                let rates = Rates::new(format!("token {}", token.spec.name), token.spec.rate);
                Arc::new(TokenHandle { spec: token.spec.clone(), rates })
            };
            let handle = known.filter(|known| known.spec == token.spec).cloned().unwrap_or_else(new);
            tokens.extend(token.secrets.iter().map(|secret| (*secret, Arc::clone(&handle))));
        }
        tokens
    }
}

/// One stream at one version of its configuration.
#[derive(Debug)]
pub struct StreamHandle {
    /// Its queue, and its account in the budget.
    pub queue: QueueId,
    /// What its user wants.
    pub config: StreamConfig,
    /// What may flow.
    pub rates: Arc<Rates>,
    /// What has flowed.
    pub flow: Arc<Flow>,
    /// Where the answers to what is refused wait.
    pub tarpit: Arc<Tarpit>,
}

/// Counts since the gateway started.
#[derive(Debug, Default)]
pub struct Flow {
    records: AtomicU64,
    bytes: AtomicU64,
    /// Made with the first records: most streams of an installation are silent.
    stored: OnceLock<metrics::Stored>,
    seen: Mutex<Seen>,
}

#[derive(Debug, Default)]
struct Seen {
    refusals: BTreeMap<&'static str, u64>,
    refused_last: Option<RefusedLast>,
    producers: Vec<usize>,
}

impl StreamHandle {
    /// The stream's id.
    pub fn id(&self) -> &StreamId {
        &self.config.spec.id
    }

    /// Notes records that became durable.
    pub fn stored(&self, records: u64, bytes: u64) {
        self.flow.records.fetch_add(records, Ordering::Relaxed);
        self.flow.bytes.fetch_add(bytes, Ordering::Relaxed);
        self.flow.stored.get_or_init(|| metrics::Stored::of(self.id())).count(records, bytes);
    }

    /// Notes a batch that was refused.
    pub fn refused(&self, refusal: &Refusal, now_ms: i64) {
        let reason = refusal.reason.name();
        let mut seen = self.seen();
        *seen.refusals.entry(reason).or_default() += 1;
        seen.refused_last = Some(RefusedLast { at_ms: now_ms, message: refusal.to_string() });
        metrics::refused(self.id(), reason);
    }

    /// Notes who serves the queue from now on.
    pub fn bound_to(&self, producers: Vec<usize>) {
        self.seen().producers = producers;
    }

    fn seen(&self) -> MutexGuard<'_, Seen> {
        self.flow.seen.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What `reporter` states of the stream.
    pub fn report(&self, reporter: &str, queue_bytes: u64) -> FlowReport {
        let seen = self.seen();
        FlowReport {
            stream: self.id().clone(),
            incarnation: self.config.incarnation,
            reporter: reporter.to_owned(),
            records: self.flow.records.load(Ordering::Relaxed),
            bytes: self.flow.bytes.load(Ordering::Relaxed),
            refusals: seen.refusals.iter().map(|(reason, count)| ((*reason).to_owned(), *count)).collect(),
            queue_bytes,
            producers: seen.producers.clone(),
            refused_last: seen.refused_last.clone(),
        }
    }
}
