//! The streams that a gateway takes records for, as its doors see them: published by the dispatcher, one handle a
//! stream, with what has flowed through it.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use stream::StreamId;
use stream::config::StreamConfig;
use stream::facts::FlowReport;
use stream::wire::RefusalReason;

use crate::budget::QueueId;
use crate::metrics;

/// The streams by id.
pub type Directory = BTreeMap<StreamId, Arc<StreamHandle>>;

/// One stream at one version of its configuration.
#[derive(Debug)]
pub struct StreamHandle {
    /// Its queue, and its account in the budget.
    pub queue: QueueId,
    /// What its user wants.
    pub config: StreamConfig,
    /// What has flowed.
    pub flow: Arc<Flow>,
}

/// Counts since the gateway started.
#[derive(Debug, Default)]
pub struct Flow {
    records: AtomicU64,
    bytes: AtomicU64,
    refusals: Mutex<BTreeMap<&'static str, u64>>,
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
        metrics::stored(self.id(), records, bytes);
    }

    /// Notes a batch that was refused.
    pub fn refused(&self, reason: RefusalReason) {
        let mut refusals = self.flow.refusals.lock().unwrap_or_else(PoisonError::into_inner);
        *refusals.entry(reason.name()).or_default() += 1;
        metrics::refused(self.id(), reason.name());
    }

    /// What `reporter` states of the stream.
    pub fn report(&self, reporter: &str, queue_bytes: u64) -> FlowReport {
        let refusals = self.flow.refusals.lock().unwrap_or_else(PoisonError::into_inner);
        FlowReport {
            stream: self.id().clone(),
            incarnation: self.config.incarnation,
            reporter: reporter.to_owned(),
            records: self.flow.records.load(Ordering::Relaxed),
            bytes: self.flow.bytes.load(Ordering::Relaxed),
            refusals: refusals.iter().map(|(reason, count)| ((*reason).to_owned(), *count)).collect(),
            queue_bytes,
        }
    }
}
