//! The topics that streams need, on every cluster, as their configuration says.

use std::collections::BTreeMap;

use kafka::topics::{Wanted, ensure};
use kafka::{Cluster, KafkaError};
use stream::config::{Snapshot, StreamConfig};
use stream::limits;

/// Copies of each partition where the cluster has brokers enough; with two of them in sync an append is acknowledged.
const REPLICATION: i16 = 3;

/// A topic's name in Kafka, which takes no `@`.
pub fn name_of(key: &str) -> String {
    key.replace('@', ".")
}

/// Makes the topics of all streams what they should be. The first that cannot be had is the error; the others are tried
/// all the same.
pub async fn prepare(cluster: &Cluster, streams: &Snapshot) -> Result<(), KafkaError> {
    let replication = REPLICATION.min(cluster.brokers().await? as i16);
    let wanted: Vec<Wanted> = streams.streams.values().map(|config| wanted(config, replication)).collect();
    ensure(cluster, &wanted).await
}

fn wanted(config: &StreamConfig, replication: i16) -> Wanted {
    let own = &config.spec.limits;
    let settings = BTreeMap::from([
        ("cleanup.policy", "delete".to_owned()),
        ("compression.type", "producer".to_owned()),
        ("max.message.bytes", limits::MESSAGE_BYTES_MAX.to_string()),
        // Event time as the record's time would let retention eat old events, and brokers refuse young ones.
        ("message.timestamp.type", "LogAppendTime".to_owned()),
        ("retention.bytes", (own.retention_bytes / u64::from(config.spec.partitions)).to_string()),
        ("retention.ms", (own.retention_seconds * 1_000).to_string()),
        ("unclean.leader.election.enable", "false".to_owned()),
    ]);
    Wanted { topic: name_of(&config.topic_key()), partitions: config.spec.partitions as i32, replication, settings }
}
