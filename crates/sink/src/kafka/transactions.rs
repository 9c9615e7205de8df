//! A cluster's open transactions, for a person.

use kafka::open::{self, Open};
use kafka::{Cluster, KafkaError};

use crate::error::SinkError;

/// The open transactions of the cluster at `brokers`, the oldest first.
pub async fn list(brokers: &str) -> Result<Vec<Open>, SinkError> {
    let listed = async { open::list(&Cluster::new(brokers)?).await };
    listed.await.map_err(|error| failed(brokers, &error))
}

/// Ends the transaction of a transactional id, without its rows unless its commit was decided already.
pub async fn abort(brokers: &str, id: &str) -> Result<(), SinkError> {
    let aborted = async { open::abort(&Cluster::new(brokers)?, id).await };
    aborted.await.map_err(|error| failed(brokers, &error))
}

fn failed(brokers: &str, error: &KafkaError) -> SinkError {
    SinkError::Kafka { topic: format!("transactions of {brokers}"), cause: error.to_string() }
}
