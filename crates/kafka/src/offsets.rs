//! Where partitions begin and end.

use std::collections::{BTreeMap, HashMap};

use kafka_protocol::messages::list_offsets_request::{ListOffsetsPartition, ListOffsetsTopic};
use kafka_protocol::messages::list_offsets_response::ListOffsetsTopicResponse;
use kafka_protocol::messages::{BrokerId, ListOffsetsRequest};

use crate::cluster::{Cluster, Leader, name};
use crate::error::KafkaError;

/// Which offset.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum At {
    /// The oldest kept.
    Start,
    /// One past the last that all in-sync replicas have.
    End,
}

impl At {
    /// How the protocol asks for it.
    fn timestamp(self) -> i64 {
        match self {
            Self::Start => -2,
            Self::End => -1,
        }
    }
}

/// A topic and a partition.
pub type Place = (String, i32);

/// One partition's offset.
pub async fn of(cluster: &Cluster, topic: &str, partition: i32, at: At) -> Result<i64, KafkaError> {
    let found = of_all(cluster, &[(topic.to_owned(), partition)], at).await?;
    found.get(&(topic.to_owned(), partition)).copied().ok_or_else(|| crate::cluster::unknown(topic))
}

/// The offsets of many partitions, one call per broker. The first that cannot be had is the error.
pub async fn of_all(cluster: &Cluster, places: &[Place], at: At) -> Result<HashMap<Place, i64>, KafkaError> {
    let mut by_broker: BTreeMap<String, Vec<&Place>> = BTreeMap::new();
    for place in places {
        let leader = cluster.leader(&place.0, place.1).await;
        let Leader { address, .. } = leader.inspect_err(|_| cluster.doubt(&place.0))?;
        by_broker.entry(address).or_default().push(place);
    }
    let mut found = HashMap::with_capacity(places.len());
    for (address, places) in by_broker {
        let asked =
            cluster.ask(&address, &request(&places, at)).await.and_then(|answer| take(answer.topics, &mut found));
        if let Err(error) = asked {
            places.iter().for_each(|(topic, _)| cluster.doubt(topic));
            return Err(error);
        }
    }
    Ok(found)
}

fn request(places: &[&Place], at: At) -> ListOffsetsRequest {
    let mut topics: BTreeMap<&str, Vec<ListOffsetsPartition>> = BTreeMap::new();
    for (topic, partition) in places {
        let partition = ListOffsetsPartition::default().with_partition_index(*partition).with_timestamp(at.timestamp());
        topics.entry(topic).or_default().push(partition);
    }
    let topic = |(topic, partitions)| ListOffsetsTopic::default().with_name(name(topic)).with_partitions(partitions);
    ListOffsetsRequest::default().with_replica_id(BrokerId(-1)).with_topics(topics.into_iter().map(topic).collect())
}

fn take(topics: Vec<ListOffsetsTopicResponse>, found: &mut HashMap<Place, i64>) -> Result<(), KafkaError> {
    for topic in topics {
        for partition in topic.partitions {
            let (name, index) = (topic.name.to_string(), partition.partition_index);
            KafkaError::check(partition.error_code, || format!("the offsets of partition {index} of topic {name}"))?;
            found.insert((name, index), partition.offset);
        }
    }
    Ok(())
}
