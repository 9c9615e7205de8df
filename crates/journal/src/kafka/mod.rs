//! Kafka as the journal: a normal cluster, and a failover cluster if there is one. Topics exist on both, readers read
//! both; appends go where [`crate::partitions`] says.
//!
//! A record of a topic is one event: its value the event's own bytes, its header `il` the provenance. So any tool can
//! read a topic. Kafka names topics without `@`: `<topic>.<incarnation>`.

pub(crate) mod records;
mod read;
mod topics;

use std::collections::HashMap;
use std::sync::Arc;

use kafka::offsets::{self, At};
use kafka::produce::{Producer, Settings};
use kafka::{Cluster, KafkaError};
use stream::Batch;
use stream::config::{Compression, Snapshot, StreamConfig};
use stream::facts::{Place, Position};
use stream::limits;
use stream::wire::{Refusal, RefusalReason};

use crate::seam::{Appended, Bounds, Capabilities, Journal, KeptPosition, Reader, Topic, name_of};

/// How a gateway produces (decision 0001): a broker that waits longer than this for a follower names the partition, and
/// the partition gets a connection of its own.
const PRODUCE: Settings = Settings {
    outstanding_bytes_max: limits::PRODUCER_OUTSTANDING_BYTES_MAX,
    ack_timeout: std::time::Duration::from_millis(1_000),
    penalty_ack_timeout: limits::BATCH_DEADLINE,
    linger_max: limits::PRODUCER_LINGER_MAX,
};

/// Kafka's clusters. Clones share connections and bounds, so N producers are N of these.
#[derive(Clone)]
pub struct KafkaJournal {
    /// By number: 0 the normal one, 1 the failover one.
    clusters: Arc<[Member]>,
}

/// One of the clusters.
struct Member {
    cluster: Cluster,
    producer: Producer,
    seen: Arc<topics::Seen>,
}

impl KafkaJournal {
    /// The journal in these clusters, each `host:port[,host:port]...`. It connects when it is first used.
    pub fn connect(clusters: &[String]) -> Result<Self, KafkaError> {
        let cluster = |bootstrap: &String| {
            let cluster = Cluster::new(bootstrap)?;
            Ok(Member { cluster: cluster.clone(), producer: Producer::new(cluster, PRODUCE), seen: Arc::default() })
        };
        Ok(Self { clusters: clusters.iter().map(cluster).collect::<Result<_, KafkaError>>()? })
    }

    /// The same clusters with connections and bounds of their own for what is appended: another producer.
    pub fn another(&self) -> Self {
        let sibling = |Member { cluster, producer, seen }: &Member| Member {
            cluster: cluster.clone(),
            producer: producer.sibling(),
            seen: Arc::clone(seen),
        };
        Self { clusters: self.clusters.iter().map(sibling).collect() }
    }

    fn member(&self, place: Place) -> Result<&Member, Refusal> {
        let none =
            || Refusal::new(RefusalReason::Unavailable, "journal", format!("there is no cluster {}", place.cluster));
        self.clusters.get(usize::from(place.cluster)).ok_or_else(none)
    }

    async fn bounds_in(&self, number: u8, cluster: &Cluster, topics: &[String]) -> Result<Vec<Bounds>, KafkaError> {
        let mut places = Vec::new();
        let mut keys = Vec::new();
        for key in topics {
            let name = name_of(key);
            match cluster.topic(&name).await {
                Ok(topic) => {
                    for partition in 0..topic.leaders.len() {
                        places.push((name.clone(), partition as i32));
                        keys.push(key);
                    }
                }
                Err(error) if error.is_unknown_topic() => {}
                Err(error) => return Err(error),
            }
        }
        let starts = offsets::of_all(cluster, &places, At::Start).await?;
        let ends = offsets::of_all(cluster, &places, At::End).await?;
        let of = |found: &HashMap<(String, i32), i64>, place: &(String, i32)| {
            found.get(place).map_or(0, |offset| *offset as u64)
        };
        let bounds = |(key, place): (&&String, &(String, i32))| Bounds {
            topic: key.to_string(),
            place: Place { cluster: number, partition: place.1 as u32 },
            start_offset: of(&starts, place),
            end_offset: of(&ends, place),
            bytes: 0,
            overtaken_records: 0,
        };
        Ok(keys.iter().zip(&places).map(bounds).collect())
    }
}

impl Journal for KafkaJournal {
    fn capabilities(&self) -> Capabilities {
        Capabilities { retention_waits: false, packs: true }
    }

    fn places(&self, config: &StreamConfig) -> Vec<Place> {
        let partitions = config.spec.partitions();
        let in_cluster = |cluster| (0..partitions).map(move |partition| Place { cluster: cluster as u8, partition });
        (0..self.clusters.len()).flat_map(in_cluster).collect()
    }

    async fn prepare(&self, streams: &Snapshot) -> Result<(), Refusal> {
        let mut outcome = Ok(());
        for Member { cluster, seen, .. } in self.clusters.iter() {
            // One that is away must not keep the other from being prepared.
            if let Err(error) = topics::prepare(cluster, seen, streams).await {
                outcome = Err(refusal("journal", &error));
            }
        }
        outcome
    }

    async fn append(
        &self,
        topic: &str,
        place: Place,
        batch: &Batch,
        compression: Compression,
    ) -> Result<Appended, Refusal> {
        let Member { producer, .. } = self.member(place)?;
        let name: Arc<str> = name_of(topic).into();
        let laid = Box::new(records::Laid(batch.clone(), compression));
        let appended = producer.append(&name, place.partition as i32, laid).await;
        let appended = appended.map_err(|error| refusal(&format!("topic {topic}"), &error))?;
        let offset = appended.offset as u64;
        let end_offset = offset + batch.len() as u64;
        Ok(Appended { offset, end_offset, append_time_ms: appended.append_time_ms })
    }

    fn read(&self, topic: &Topic, from: Position) -> Reader {
        let cluster = self.member(from.place).map(|member| member.cluster.clone());
        read::start(cluster, topic.clone(), from)
    }

    async fn bounds(&self, topics: &[String]) -> Result<Vec<Bounds>, Refusal> {
        let mut all = Vec::new();
        for (number, Member { cluster, .. }) in (0..).zip(self.clusters.iter()) {
            all.extend(self.bounds_in(number, cluster, topics).await.map_err(|error| refusal("journal", &error))?);
        }
        Ok(all)
    }

    async fn keep(&self, _: KeptPosition) -> Result<(), Refusal> {
        // Kafka's retention waits for nobody; a reader that it overtakes says so itself.
        Ok(())
    }
}

/// A cluster's error as a refusal.
fn refusal(scope: &str, error: &KafkaError) -> Refusal {
    let reason = match error {
        error if error.is_unknown_topic() => RefusalReason::UnknownStream,
        error if error.is_too_large() => RefusalReason::TooLarge,
        _ => RefusalReason::Unavailable,
    };
    Refusal::new(reason, scope, error.to_string())
}
