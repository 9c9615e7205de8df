//! Transactions that somebody has left open: what a person sees of them, and how one is ended. Until it ends, nothing that
//! was written behind its beginning is visible to a reader of committed records.

use std::time::Duration;

use kafka_protocol::messages::{DescribeTransactionsRequest, ListTransactionsRequest, TransactionalId};
use kafka_protocol::protocol::StrBytes;

use crate::cluster::Cluster;
use crate::error::KafkaError;
use crate::transaction::{Settings, TransactionalProducer};

/// States in which a transaction holds up readers.
const OPEN: [&str; 3] = ["Ongoing", "PrepareCommit", "PrepareAbort"];
/// How long the taking over may take.
const WITHIN: Duration = Duration::from_secs(60);

/// An open transaction.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Open {
    /// Whose: the transactional id.
    pub id: String,
    /// What the broker calls its state.
    pub state: String,
    /// When it began, in ms since 1970; -1 where the broker does not say.
    pub since_ms: i64,
    /// After how long the broker aborts it by itself.
    pub timeout: Duration,
    /// Partitions that it writes to.
    pub partitions: usize,
}

/// Every open transaction of the cluster, the oldest first.
pub async fn list(cluster: &Cluster) -> Result<Vec<Open>, KafkaError> {
    let mut open = Vec::new();
    let states = OPEN.map(StrBytes::from_static_str).to_vec();
    let request = ListTransactionsRequest::default().with_state_filters(states);
    // Each broker knows those that it coordinates.
    for address in cluster.addresses().await? {
        let answer = cluster.ask(&address, &request).await?;
        KafkaError::check(answer.error_code, || format!("listing the transactions of broker {address}"))?;
        let ids: Vec<TransactionalId> =
            answer.transaction_states.into_iter().map(|state| state.transactional_id).collect();
        if !ids.is_empty() {
            open.extend(described(cluster, &address, ids).await?);
        }
    }
    open.sort_by_key(|open| open.since_ms);
    Ok(open)
}

async fn described(cluster: &Cluster, address: &str, ids: Vec<TransactionalId>) -> Result<Vec<Open>, KafkaError> {
    let request = DescribeTransactionsRequest::default().with_transactional_ids(ids);
    let answer = cluster.ask(address, &request).await?;
    // One that has ended meanwhile is none.
    let known = answer.transaction_states.into_iter().filter(|state| state.error_code == 0);
    let is_open = |state: &StrBytes| OPEN.contains(&&**state);
    let open = known.filter(|state| is_open(&state.transaction_state)).map(|state| Open {
        id: state.transactional_id.0.to_string(),
        state: state.transaction_state.to_string(),
        since_ms: state.transaction_start_time_ms,
        timeout: Duration::from_millis(u64::try_from(state.transaction_timeout_ms).unwrap_or(0)),
        partitions: state.topics.iter().map(|topic| topic.partitions.len()).sum(),
    });
    Ok(open.collect())
}

/// Ends the transaction of `id`, without its rows unless its commit was decided already, and shuts its producer out: a leg
/// that lives starts anew from its committed state.
pub async fn abort(cluster: &Cluster, id: &str) -> Result<(), KafkaError> {
    let settings = Settings { id: id.to_owned(), transaction_timeout: WITHIN, step_within: WITHIN };
    TransactionalProducer::start(cluster.clone(), settings).await.map(drop)
}
