//! A transactional producer: appends to several partitions become visible together, or not at all; a newer producer
//! under the same transactional id shuts the older one out.
//!
//! States: *ready* (no transaction), *open* (something was appended), *broken* (an error or a lost answer: nobody knows
//! how the transaction ended). Out of *broken* leads only [`TransactionalProducer::start`], which ends whatever was open
//! and takes a new epoch, so that a request that is still on its way somewhere cannot slip into a later transaction.
//! Whoever must know how it ended reads the log (the Kafka sink reads its state topic).
//!
//! Blocking on nothing but the broker's answers; appends of one transaction go out as one request per broker.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::time::Duration;

use bytes::Bytes;
use kafka_protocol::ResponseError;
use kafka_protocol::messages::add_partitions_to_txn_request::AddPartitionsToTxnTopic;
use kafka_protocol::messages::produce_request::{PartitionProduceData, TopicProduceData};
use kafka_protocol::messages::{
    AddPartitionsToTxnRequest, EndTxnRequest, FindCoordinatorRequest, InitProducerIdRequest, ProduceRequest,
    ProducerId, TransactionalId,
};
use kafka_protocol::protocol::StrBytes;
use tokio::task::JoinSet;
use tokio::time::Instant;
use tracing::debug;

use crate::batch::{BatchWriter, Stamp};
use crate::cluster::{ANSWER, Cluster, name};
use crate::connection::Connection;
use crate::error::KafkaError;

/// How the protocol calls a transactional id among the things that have a coordinator.
const TRANSACTION: i8 = 1;
/// Appends inside a transaction name topics: the newest version before the one in which the broker adds partitions.
const PRODUCE_VERSION_MAX: i16 = 11;
/// Pause before a call that the cluster answered with "not now" is made again.
const PAUSE: Duration = Duration::from_millis(50);

/// How a transactional producer works.
#[derive(Clone, Debug)]
pub struct Settings {
    /// The transactional id: stable, one per leg.
    pub id: String,
    /// After how long the cluster aborts an open transaction by itself.
    pub transaction_timeout: Duration,
    /// How long one step (appending, ending) may take in all, its repetitions included.
    pub step_within: Duration,
}

/// A topic and a partition.
pub type Place = (String, i32);

/// A transactional producer.
#[derive(Debug)]
pub struct TransactionalProducer {
    cluster: Cluster,
    settings: Settings,
    coordinator: Connection,
    producer_id: i64,
    epoch: i16,
    sequences: HashMap<Place, i32>,
    added: BTreeSet<Place>,
    leaders: HashMap<String, Connection>,
}

impl TransactionalProducer {
    /// Takes over the transactional id: older producers are shut out, an open transaction of theirs is aborted, one
    /// whose commit was decided is finished first.
    pub async fn start(cluster: Cluster, settings: Settings) -> Result<Self, KafkaError> {
        let deadline = Instant::now() + settings.step_within;
        let request = InitProducerIdRequest::default()
            .with_transactional_id(Some(transactional_id(&settings.id)))
            .with_transaction_timeout_ms(settings.transaction_timeout.as_millis() as i32)
            .with_producer_id(ProducerId(-1))
            .with_producer_epoch(-1);
        loop {
            let asked = async {
                let coordinator = find_coordinator(&cluster, &settings.id).await?;
                let answer = coordinator.call(&request, settings.step_within).await?;
                KafkaError::check(answer.error_code, || format!("taking over transactional id {}", settings.id))?;
                Ok((coordinator, answer.producer_id.0, answer.producer_epoch))
            };
            match asked.await {
                Ok((coordinator, producer_id, epoch)) => {
                    let (sequences, added, leaders) = Default::default();
                    return Ok(Self { cluster, settings, coordinator, producer_id, epoch, sequences, added, leaders });
                }
                Err(error) => again(&error, deadline).await?,
            }
        }
    }

    /// Whether something was appended since the last commit.
    pub fn is_open(&self) -> bool {
        !self.added.is_empty()
    }

    /// Appends a batch to each place, in the open transaction; opens one if there is none. After an error the producer
    /// is broken.
    pub async fn append(&mut self, batches: Vec<(Place, BatchWriter)>) -> Result<(), KafkaError> {
        let deadline = Instant::now() + self.settings.step_within;
        self.add_partitions(batches.iter().map(|(place, _)| place), deadline).await?;
        let mut waiting: Vec<(Place, Bytes)> = Vec::with_capacity(batches.len());
        for (place, batch) in batches.into_iter().filter(|(_, batch)| !batch.is_empty()) {
            let sequence = self.sequences.entry(place.clone()).or_default();
            let stamp = Stamp { producer_id: self.producer_id, epoch: self.epoch, sequence: *sequence };
            *sequence = sequence.wrapping_add(batch.len() as i32) & i32::MAX;
            waiting.push((place, batch.finish(Some(stamp))));
        }
        while !waiting.is_empty() {
            let before = waiting.len();
            let failure = self.produce(&mut waiting).await;
            if !waiting.is_empty() {
                // An answer that leaves a partition out is as good as none.
                let failure = failure.unwrap_or_else(|| KafkaError::Refused {
                    what: format!("appends of a transaction of {}", self.settings.id),
                    code: ResponseError::RequestTimedOut,
                });
                again(&failure, deadline).await?;
                debug!(%failure, before, left = waiting.len(), "appending the rest of a transaction again");
            }
        }
        Ok(())
    }

    /// Ends the open transaction: all of it becomes visible, or, unless `commit`, nothing. After an error the producer
    /// is broken, and only the log knows.
    pub async fn end(&mut self, commit: bool) -> Result<(), KafkaError> {
        if !self.is_open() {
            return Ok(());
        }
        let deadline = Instant::now() + self.settings.step_within;
        let request = EndTxnRequest::default()
            .with_transactional_id(transactional_id(&self.settings.id))
            .with_producer_id(ProducerId(self.producer_id))
            .with_producer_epoch(self.epoch)
            .with_committed(commit);
        loop {
            let answer = self.coordinator.call(&request, self.settings.step_within).await?;
            match KafkaError::check(answer.error_code, || format!("ending a transaction of {}", self.settings.id)) {
                Ok(()) => {
                    self.added.clear();
                    return Ok(());
                }
                Err(error) => self.coordinator_again(&error, deadline).await?,
            }
        }
    }

    async fn add_partitions(
        &mut self,
        places: impl Iterator<Item = &Place>,
        deadline: Instant,
    ) -> Result<(), KafkaError> {
        let new: BTreeSet<Place> = places.filter(|place| !self.added.contains(*place)).cloned().collect();
        if new.is_empty() {
            return Ok(());
        }
        let mut topics: BTreeMap<&str, Vec<i32>> = BTreeMap::new();
        new.iter().for_each(|(topic, partition)| topics.entry(topic).or_default().push(*partition));
        let topic =
            |(topic, partitions)| AddPartitionsToTxnTopic::default().with_name(name(topic)).with_partitions(partitions);
        let request = AddPartitionsToTxnRequest::default()
            .with_v3_and_below_transactional_id(transactional_id(&self.settings.id))
            .with_v3_and_below_producer_id(ProducerId(self.producer_id))
            .with_v3_and_below_producer_epoch(self.epoch)
            .with_v3_and_below_topics(topics.into_iter().map(topic).collect());
        loop {
            // Said twice it changes nothing, so a lost connection (brokers close idle ones) is only opened again.
            let asked = self.coordinator.call(&request, self.settings.step_within).await;
            let answer = match asked {
                Err(error @ (KafkaError::Lost { .. } | KafkaError::Connect { .. })) => {
                    again(&error, deadline).await?;
                    self.coordinator = find_coordinator(&self.cluster, &self.settings.id).await?;
                    continue;
                }
                answer => answer?,
            };
            let results = answer.results_by_topic_v3_and_below.into_iter().flat_map(|t| t.results_by_partition);
            let failed = results.map(|result| result.partition_error_code).find(|code| *code != 0);
            let what = || format!("adding partitions to a transaction of {}", self.settings.id);
            match KafkaError::check(failed.unwrap_or(0), what) {
                Ok(()) => break,
                Err(error) => self.coordinator_again(&error, deadline).await?,
            }
        }
        self.added.extend(new);
        Ok(())
    }

    /// Waits before another try at the coordinator, which may be another broker by now.
    async fn coordinator_again(&mut self, error: &KafkaError, deadline: Instant) -> Result<(), KafkaError> {
        again(error, deadline).await?;
        if matches!(error.code(), Some(ResponseError::NotCoordinator | ResponseError::CoordinatorNotAvailable)) {
            self.coordinator = find_coordinator(&self.cluster, &self.settings.id).await?;
        }
        Ok(())
    }

    /// Sends what waits, one request per broker; what was stored leaves `waiting`. The last failure is answered.
    async fn produce(&mut self, waiting: &mut Vec<(Place, Bytes)>) -> Option<KafkaError> {
        let (mut by_broker, mut failure): (BTreeMap<String, Vec<(Place, Bytes)>>, _) = (BTreeMap::new(), None);
        for (place, bytes) in waiting.iter() {
            match self.cluster.leader(&place.0, place.1).await {
                Ok(leader) => by_broker.entry(leader.address).or_default().push((place.clone(), bytes.clone())),
                Err(error) => failure = Some(error),
            }
        }
        // All brokers at the same time: the wait is that for the slowest of them, not for one after the other.
        let mut asked = JoinSet::new();
        for (address, batches) in by_broker {
            match self.connection_to(&address).await {
                Ok(connection) => drop(asked.spawn(self.request_of(&batches).send(connection, address, batches))),
                Err(error) => failure = Some(batches.iter().fold(error, |error, (place, _)| self.note(place, error))),
            }
        }
        while let Some(answered) = asked.join_next().await {
            let Ok(Produced { address, batches, outcomes }) = answered else {
                failure = Some(KafkaError::Closed);
                continue;
            };
            match outcomes {
                Ok(outcomes) => {
                    for (place, outcome) in outcomes {
                        match outcome {
                            Ok(()) => waiting.retain(|(other, _)| *other != place),
                            Err(error) => failure = Some(self.note(&place, error)),
                        }
                    }
                }
                Err(error) => {
                    self.leaders.remove(&address);
                    failure = Some(batches.iter().fold(error, |error, (place, _)| self.note(place, error)));
                }
            }
        }
        failure
    }

    fn note(&self, (topic, _): &Place, error: KafkaError) -> KafkaError {
        if error.is_about_leaders() {
            self.cluster.doubt(topic);
        }
        error
    }

    async fn connection_to(&mut self, address: &str) -> Result<Connection, KafkaError> {
        let connection = match self.leaders.get(address).filter(|open| !open.is_lost()) {
            Some(open) => open.clone(),
            None => Connection::open(address).await?,
        };
        self.leaders.insert(address.to_owned(), connection.clone());
        Ok(connection)
    }

    fn request_of(&self, batches: &[(Place, Bytes)]) -> Request {
        let mut topics: BTreeMap<&str, Vec<PartitionProduceData>> = BTreeMap::new();
        for ((topic, partition), bytes) in batches {
            let data = PartitionProduceData::default().with_index(*partition).with_records(Some(bytes.clone()));
            topics.entry(topic).or_default().push(data);
        }
        let topic = |(topic, data)| TopicProduceData::default().with_name(name(topic)).with_partition_data(data);
        let within = self.settings.step_within;
        let message = ProduceRequest::default()
            .with_transactional_id(Some(transactional_id(&self.settings.id)))
            .with_acks(-1)
            .with_timeout_ms(within.as_millis() as i32)
            .with_topic_data(topics.into_iter().map(topic).collect());
        Request { message, within }
    }
}

/// What one broker is asked to append.
struct Request {
    message: ProduceRequest,
    within: Duration,
}

/// What became of each batch.
type Outcomes = Vec<(Place, Result<(), KafkaError>)>;

/// What one broker said.
struct Produced {
    address: String,
    batches: Vec<(Place, Bytes)>,
    outcomes: Result<Outcomes, KafkaError>,
}

impl Request {
    async fn send(self, connection: Connection, address: String, batches: Vec<(Place, Bytes)>) -> Produced {
        let outcomes = self.ask(&connection).await;
        Produced { address, batches, outcomes }
    }

    async fn ask(&self, connection: &Connection) -> Result<Outcomes, KafkaError> {
        let version = connection.version::<ProduceRequest>()?.min(PRODUCE_VERSION_MAX);
        let answer = connection.call_at(&self.message, version, self.within).await?;
        let mut outcomes = Vec::new();
        for topic in answer.responses {
            for partition in topic.partition_responses {
                let place = (topic.name.0.to_string(), partition.index);
                let what = || format!("an append to partition {} of topic {}", place.1, place.0);
                let outcome = match KafkaError::check(partition.error_code, what) {
                    // The first try was stored, only its answer was lost: the broker knows it by its sequence.
                    Err(error) if error.code() == Some(ResponseError::DuplicateSequenceNumber) => Ok(()),
                    outcome => outcome,
                };
                outcomes.push((place, outcome));
            }
        }
        Ok(outcomes)
    }
}

fn transactional_id(id: &str) -> TransactionalId {
    TransactionalId(StrBytes::from_string(id.to_owned()))
}

async fn find_coordinator(cluster: &Cluster, id: &str) -> Result<Connection, KafkaError> {
    let request = FindCoordinatorRequest::default()
        .with_key_type(TRANSACTION)
        .with_coordinator_keys(vec![StrBytes::from_string(id.to_owned())]);
    let answer = cluster.ask_anybody(&request, ANSWER).await?;
    let what = || format!("the coordinator of transactional id {id}");
    KafkaError::check(answer.error_code, what)?;
    let found = answer.coordinators.into_iter().next();
    let found =
        found.ok_or_else(|| KafkaError::Refused { what: what(), code: ResponseError::CoordinatorNotAvailable })?;
    KafkaError::check(found.error_code, what)?;
    Connection::open(&format!("{}:{}", found.host, found.port)).await
}

/// Waits before another try, if the error may pass and there is time left.
async fn again(error: &KafkaError, deadline: Instant) -> Result<(), KafkaError> {
    let passes = error.passes() || error.code() == Some(ResponseError::ConcurrentTransactions);
    if !passes || Instant::now() + PAUSE > deadline {
        return Err(error.clone());
    }
    tokio::time::sleep(PAUSE).await;
    Ok(())
}
