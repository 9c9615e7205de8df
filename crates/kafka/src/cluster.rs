//! One cluster: who leads which partition, and the connections for short questions. Metadata is asked for the topics
//! that somebody has named, when it is first needed, when a leader turns out to be another, and when it has grown old.
//!
//! Owner of its state: [`Known`], behind one lock that is never held during a call. Refreshes are one at a time and at
//! most every [`REFRESH_MIN`]; whoever comes meanwhile waits for the one under way.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use kafka_protocol::messages::metadata_request::MetadataRequestTopic;
use kafka_protocol::messages::metadata_response::MetadataResponseTopic;
use kafka_protocol::messages::{MetadataRequest, MetadataResponse, TopicName};
use kafka_protocol::protocol::StrBytes;
use tokio::time::Instant;
use tracing::debug;

use crate::call::Call;
use crate::connection::Connection;
use crate::error::KafkaError;

/// The id that a cluster gives a topic when it makes it: one made again under the same name has another.
pub type TopicId = uuid::Uuid;

/// Shortest time between two refreshes.
const REFRESH_MIN: Duration = Duration::from_millis(100);
/// What is known of a topic is asked again after this long, whatever happens.
const AGE_MAX: Duration = Duration::from_secs(60);
/// How long the question who leads what may take; everybody waits for it.
const METADATA: Duration = Duration::from_secs(3);
/// How long short questions may take.
pub const ANSWER: Duration = Duration::from_secs(10);

/// A cluster. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Cluster {
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    bootstrap: Vec<String>,
    known: Mutex<Known>,
    refreshing: tokio::sync::Mutex<Option<Instant>>,
    connections: tokio::sync::Mutex<HashMap<String, Connection>>,
}

#[derive(Debug, Default)]
struct Known {
    brokers: BTreeMap<i32, String>,
    /// The most brokers that were ever seen at once.
    brokers_most: usize,
    topics: HashMap<String, Arc<Topic>>,
    /// Topics that somebody asks for: a refresh asks for all of them that are missing or old.
    asked: BTreeSet<String>,
}

/// What is known of a topic.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Topic {
    /// Its id; nil if the cluster gives none.
    pub id: TopicId,
    /// The leader of each partition; none while there is no leader.
    pub leaders: Vec<Option<i32>>,
    /// Copies of each partition, those that are away included.
    pub copies: usize,
    as_of: Instant,
}

/// Where a partition's leader is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Leader {
    /// The broker's id.
    pub broker: i32,
    /// Its address.
    pub address: String,
    /// The topic's id.
    pub topic_id: TopicId,
}

impl Cluster {
    /// The cluster that one of `bootstrap` (`host:port[,host:port]...`) belongs to. It connects when it is first asked.
    pub fn new(bootstrap: &str) -> Result<Self, KafkaError> {
        let addresses: Vec<String> = bootstrap.split(',').map(|address| address.trim().to_owned()).collect();
        let plausible = |address: &String| {
            address.rsplit_once(':').is_some_and(|(host, port)| !host.is_empty() && port.parse::<u16>().is_ok())
        };
        if !addresses.iter().all(plausible) {
            return Err(KafkaError::Address(bootstrap.to_owned()));
        }
        let shared = Shared {
            bootstrap: addresses,
            known: Mutex::default(),
            refreshing: tokio::sync::Mutex::default(),
            connections: tokio::sync::Mutex::default(),
        };
        Ok(Self { shared: Arc::new(shared) })
    }

    fn known(&self) -> MutexGuard<'_, Known> {
        self.shared.known.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What is known of `topic`, asked for if need be.
    pub async fn topic(&self, topic: &str) -> Result<Arc<Topic>, KafkaError> {
        let fresh = |known: &Arc<Topic>| known.as_of.elapsed() < AGE_MAX;
        if let Some(known) = self.known().topics.get(topic).filter(|known| fresh(known)) {
            return Ok(Arc::clone(known));
        }
        self.refresh(&[topic.to_owned()]).await?;
        self.known().topics.get(topic).cloned().ok_or_else(|| unknown(topic))
    }

    /// Where the leader of a partition is.
    pub async fn leader(&self, topic: &str, partition: i32) -> Result<Leader, KafkaError> {
        let known = self.topic(topic).await?;
        let none = || KafkaError::NoLeader { topic: topic.to_owned(), partition };
        let leaders = known.leaders.get(usize::try_from(partition).map_err(|_| none())?).ok_or_else(none)?;
        let broker = leaders.ok_or_else(none)?;
        let address = self.known().brokers.get(&broker).cloned().ok_or_else(none)?;
        Ok(Leader { broker, address, topic_id: known.id })
    }

    /// How many brokers the cluster has: the most that were seen at once, because one that is away is not named.
    pub async fn brokers(&self) -> Result<usize, KafkaError> {
        self.refresh_brokers().await?;
        Ok(self.known().brokers_most)
    }

    /// The addresses of all brokers that are there.
    pub async fn addresses(&self) -> Result<Vec<String>, KafkaError> {
        self.refresh_brokers().await?;
        Ok(self.known().brokers.values().cloned().collect())
    }

    async fn refresh_brokers(&self) -> Result<(), KafkaError> {
        let asked = MetadataRequest::default().with_topics(Some(Vec::new())).with_allow_auto_topic_creation(false);
        let answer = self.ask_anybody(&asked, METADATA).await?;
        self.learn(&BTreeSet::new(), answer);
        Ok(())
    }

    /// Forgets what is known of a topic, because it turned out to be wrong.
    pub fn doubt(&self, topic: &str) {
        self.known().topics.remove(topic);
    }

    /// What is known of `topic`, without asking.
    pub fn known_topic(&self, topic: &str) -> Option<Arc<Topic>> {
        self.known().topics.get(topic).cloned()
    }

    /// Asks for these topics anew, and for all others that somebody waits for or that have grown old: one call for all. A
    /// topic that the cluster does not have is no error here.
    pub async fn refresh(&self, topics: &[String]) -> Result<(), KafkaError> {
        let began = Instant::now();
        // Said before the turn comes, so that the call of whoever is before us asks for these too.
        self.known().asked.extend(topics.iter().cloned());
        let mut last = self.shared.refreshing.lock().await;
        let is_there = |topic: &String| self.known().topics.get(topic).is_some_and(|known| known.as_of > began);
        if topics.iter().all(is_there) {
            return Ok(());
        }
        if let Some(last) = *last {
            tokio::time::sleep_until(last + REFRESH_MIN).await;
        }
        *last = Some(Instant::now());
        let due = self.due(topics);
        let named = |topic: &String| MetadataRequestTopic::default().with_name(Some(name(topic)));
        let asked = MetadataRequest::default()
            .with_topics(Some(due.iter().map(named).collect()))
            .with_allow_auto_topic_creation(false);
        let answer = self.ask_anybody(&asked, METADATA).await?;
        self.learn(&due, answer);
        Ok(())
    }

    fn due(&self, topics: &[String]) -> BTreeSet<String> {
        let known = self.known();
        let is_old = |topic: &&String| known.topics.get(*topic).is_none_or(|known| known.as_of.elapsed() > AGE_MAX / 2);
        topics.iter().chain(known.asked.iter().filter(is_old)).cloned().collect()
    }

    fn learn(&self, asked: &BTreeSet<String>, answer: MetadataResponse) {
        let mut known = self.known();
        asked.iter().for_each(|topic| drop(known.topics.remove(topic)));
        let address = |host: &str, port: i32| format!("{host}:{port}");
        known.brokers = answer.brokers.iter().map(|b| (b.node_id.0, address(&b.host, b.port))).collect();
        known.brokers_most = known.brokers_most.max(known.brokers.len());
        for topic in answer.topics {
            let Some(name) = topic.name.as_ref().filter(|_| topic.error_code == 0).map(|name| name.0.to_string())
            else {
                // Whoever still wants it asks again.
                if let Some(name) = &topic.name {
                    known.asked.remove(&*name.0);
                }
                continue;
            };
            known.topics.insert(name, Arc::new(Topic::learnt(&topic)));
        }
    }

    /// Asks any broker that answers, the ones known first.
    pub async fn ask_anybody<C: Call>(&self, request: &C, within: Duration) -> Result<C::Answer, KafkaError> {
        let mut addresses: Vec<String> = self.known().brokers.values().cloned().collect();
        addresses.extend(
            self.shared.bootstrap.iter().filter(|known| !addresses.contains(known)).cloned().collect::<Vec<_>>(),
        );
        let first = rand::random_range(0..addresses.len().max(1));
        let mut last = KafkaError::Closed;
        for turn in 0..addresses.len() {
            let address = &addresses[(first + turn) % addresses.len()];
            match self.ask_within(address, request, within).await {
                Ok(answer) => return Ok(answer),
                Err(error) => debug!(%error, "asking the next broker"),
            }
            last = KafkaError::Connect { broker: addresses.join(","), cause: "no broker answers".to_owned() };
        }
        Err(last)
    }

    /// Asks one broker a short question.
    pub async fn ask<C: Call>(&self, address: &str, request: &C) -> Result<C::Answer, KafkaError> {
        self.ask_within(address, request, ANSWER).await
    }

    async fn ask_within<C: Call>(&self, address: &str, request: &C, within: Duration) -> Result<C::Answer, KafkaError> {
        let asked = self.connection(address).await?.call(request, within).await;
        if matches!(asked, Err(KafkaError::Silent { .. })) {
            // Whatever hangs there would hang for the next question too.
            self.shared.connections.lock().await.remove(address);
        }
        asked
    }

    /// The shared connection to one broker, for short questions.
    pub async fn connection(&self, address: &str) -> Result<Connection, KafkaError> {
        if let Some(open) = self.shared.connections.lock().await.get(address).filter(|open| !open.is_lost()) {
            return Ok(open.clone());
        }
        let open = Connection::open(address).await?;
        self.shared.connections.lock().await.insert(address.to_owned(), open.clone());
        Ok(open)
    }
}

impl Topic {
    fn learnt(topic: &MetadataResponseTopic) -> Self {
        let count = topic.partitions.iter().map(|p| p.partition_index + 1).max().unwrap_or(0);
        let mut leaders = vec![None; usize::try_from(count).unwrap_or(0)];
        for partition in &topic.partitions {
            let leader = Some(partition.leader_id.0).filter(|leader| *leader >= 0);
            if let Some(place) = usize::try_from(partition.partition_index).ok().and_then(|at| leaders.get_mut(at)) {
                *place = leader;
            }
        }
        let copies = topic.partitions.iter().map(|partition| partition.replica_nodes.len()).min().unwrap_or(0);
        Self { id: topic.topic_id, leaders, copies, as_of: Instant::now() }
    }
}

/// A topic's id as a number that is never 0: which log a position is of.
pub fn log_of(id: TopicId) -> u64 {
    let (high, low) = id.as_u64_pair();
    (high ^ low).max(1)
}

/// A topic's name as the protocol's type.
pub fn name(topic: &str) -> TopicName {
    TopicName(StrBytes::from_string(topic.to_owned()))
}

/// The refusal of a cluster that does not have `topic`.
pub fn unknown(topic: &str) -> KafkaError {
    let code = kafka_protocol::ResponseError::UnknownTopicOrPartition;
    KafkaError::Refused { what: format!("topic {topic}"), code }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_are_checked() {
        assert!(Cluster::new("127.0.0.1:9092, kafka.example:19092").is_ok());
        for bad in ["", "localhost", "localhost:", ":9092", "a:1,,b:2", "a:70000"] {
            assert_eq!(Cluster::new(bad).err(), Some(KafkaError::Address(bad.to_owned())));
        }
    }
}
