//! The topics that streams need, on every cluster, as their configuration says.

use std::collections::{BTreeMap, HashMap};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use kafka::topics::{Wanted, ensure};
use kafka::{Cluster, KafkaError};
use stream::config::{Snapshot, StreamConfig};
use stream::limits;
use tokio::time::Instant;

use crate::seam::name_of;

/// Copies of each partition where the cluster has brokers enough; with two of them in sync an append is acknowledged.
const REPLICATION: i16 = 3;

/// How long a topic that was seen to be as it should be is not looked at again: with thousands of streams, a change of one
/// must not be a look at all of them.
const TRUSTED: Duration = Duration::from_secs(50);

/// Topics that were seen to be as they should be, and when.
#[derive(Debug, Default)]
pub struct Seen(Mutex<HashMap<String, (Wanted, Instant)>>);

impl Seen {
    /// Those that are to be looked at now.
    fn due(&self, mut wanted: Vec<Wanted>, now: Instant) -> Vec<Wanted> {
        let seen = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let is_trusted = |wanted: &Wanted| {
            seen.get(&wanted.topic).is_some_and(|(known, at)| known == wanted && now.duration_since(*at) < TRUSTED)
        };
        wanted.retain(|wanted| !is_trusted(wanted));
        wanted
    }

    /// These are as they should be; whoever has not been looked at for long is forgotten.
    fn note(&self, wanted: Vec<Wanted>, now: Instant) {
        let mut seen = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        seen.retain(|_, (_, at)| now.duration_since(*at) < 3 * TRUSTED);
        seen.extend(wanted.into_iter().map(|wanted| (wanted.topic.clone(), (wanted, now))));
    }
}

/// Makes the topics of all streams what they should be, but those `seen` to be so just now. The first that cannot be had
/// is the error; the others are tried all the same.
pub async fn prepare(cluster: &Cluster, seen: &Seen, streams: &Snapshot) -> Result<(), KafkaError> {
    let replication = REPLICATION.min(cluster.brokers().await? as i16);
    let wanted: Vec<Wanted> = streams.streams.values().map(|config| wanted(config, replication)).collect();
    let now = Instant::now();
    let due = seen.due(wanted, now);
    if due.is_empty() {
        return Ok(());
    }
    // One that is made now may be another's work: only what was there will have been compared.
    let was_there = due.iter().filter(|one| cluster.known_topic(&one.topic).is_some()).cloned().collect();
    ensure(cluster, &due).await?;
    seen.note(was_there, now);
    Ok(())
}

fn wanted(config: &StreamConfig, replication: i16) -> Wanted {
    let own = &config.spec.limits;
    let settings = BTreeMap::from([
        ("cleanup.policy", "delete".to_owned()),
        ("compression.type", "producer".to_owned()),
        ("max.message.bytes", limits::MESSAGE_BYTES_MAX.to_string()),
        // Event time as the record's time would let retention eat old events, and brokers refuse young ones.
        ("message.timestamp.type", "LogAppendTime".to_owned()),
        ("retention.bytes", (own.retention_bytes / u64::from(config.spec.partitions())).to_string()),
        ("retention.ms", (own.retention_seconds * 1_000).to_string()),
        ("unclean.leader.election.enable", "false".to_owned()),
    ]);
    Wanted { topic: name_of(&config.topic_key()), partitions: config.spec.partitions() as i32, replication, settings }
}

#[cfg(test)]
mod tests {
    use super::*;
    use stream::Incarnation;
    use stream::config::StreamSpec;

    #[test]
    fn what_was_just_seen_is_trusted_for_a_while_unless_something_else_is_wanted() {
        let of = |number: u64, replication| {
            let spec = StreamSpec::new("a.b.c".parse().unwrap());
            wanted(&StreamConfig { incarnation: Incarnation(number), version: 1, spec }, replication)
        };
        let (seen, now) = (Seen::default(), Instant::now());
        seen.note(vec![of(1, 3), of(2, 3)], now);
        let due = |wanted, after| seen.due(wanted, now + after).len();
        assert_eq!(due(vec![of(1, 3), of(2, 3), of(3, 3)], Duration::from_secs(1)), 1);
        assert_eq!(due(vec![of(1, 1), of(2, 3)], Duration::from_secs(1)), 1);
        assert_eq!(due(vec![of(1, 3)], TRUSTED), 1);
        seen.note(Vec::new(), now + 3 * TRUSTED);
        assert_eq!(due(vec![of(1, 3)], Duration::ZERO), 1, "forgotten");
    }
}
