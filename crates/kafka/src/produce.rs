//! A producer: what is handed over goes to its partition's leader, many partitions in one request, and each hand-over
//! hears how it ended. It tries nothing again: whoever knows the record's order and deadline does (the gateway).
//!
//! One task per broker owns what waits there and what is under way: at most [`REQUESTS_MAX`] requests, because a broker
//! answers one connection's requests one after the other (decision 0001). A partition whose appends the broker timed out
//! (a follower that hangs) goes over a second connection for [`PENALTY`], so that it holds up nobody else's answers.
//!
//! Bounded: bytes handed over and not yet answered, per producer, by [`Settings::outstanding_bytes_max`]; further
//! hand-overs wait. States of a broker's task: *idle* (no connection), *open*, *waiting* (after a failure, until the
//! back-off has passed; what is handed over meanwhile is refused at once).

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use kafka_protocol::ResponseError;
use kafka_protocol::messages::produce_request::{PartitionProduceData, TopicProduceData};
use kafka_protocol::messages::{ProduceRequest, ProduceResponse};
use stream::config::Compression;
use stream::retry::Backoff;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc, oneshot};
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep_until, timeout_at};
use tracing::warn;

use crate::batch::BatchWriter;
use crate::cluster::{Cluster, TopicId, name};
use crate::connection::Connection;
use crate::error::KafkaError;
use crate::pulse::{Pulse, Turn};

/// Requests under way on one connection: one at the broker, one on its way.
const REQUESTS_MAX: usize = 2;
/// Bytes of one request, give or take one hand-over: a larger one only delays the answers of what is in it.
const REQUEST_BYTES_MAX: usize = 1 << 20;
/// Bytes of one partition in one request, give or take one hand-over.
const BATCH_BYTES_MAX: usize = 512 << 10;
/// Hand-overs that wait for a broker's task; their bytes are bounded by the producer.
const WAITING_MAX: usize = 1 << 16;
/// How long a partition stays on the second connection after the broker has timed out an append there.
const PENALTY: Duration = Duration::from_secs(10);
/// Longest wait after a broker could not be reached.
const WAIT_MAX: Duration = Duration::from_secs(1);
/// What an answer may take beyond the time-out that the broker was given.
const ANSWER_MARGIN: Duration = Duration::from_secs(5);
/// What a record costs beside its bytes, about: its header, its lengths.
const RECORD_BYTES: usize = 80;

/// How a producer works.
#[derive(Clone, Copy, Debug)]
pub struct Settings {
    /// Bytes handed over and not yet answered.
    pub outstanding_bytes_max: usize,
    /// How long the broker waits for its followers before it names the partition that made it wait.
    pub ack_timeout: Duration,
    /// The same for a partition that has made it wait before.
    pub penalty_ack_timeout: Duration,
    /// What is handed over waits so long at most for others to go with; see [`crate::pulse`].
    pub linger_max: Duration,
}

/// Records to append, laid out only when their request is made.
pub trait Records: Send + Sync + 'static {
    /// How many.
    fn count(&self) -> usize;
    /// Bytes of their bodies.
    fn bytes(&self) -> usize;
    /// Adds each to the batch.
    fn write(&self, batch: &mut BatchWriter);
    /// How their partition's batches are packed.
    fn compression(&self) -> Compression {
        Compression::None
    }
}

/// Where records have become durable.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Appended {
    /// Offset of the first.
    pub offset: i64,
    /// When the broker took them, in ms since 1970; -1 where the topic says that it does not matter.
    pub append_time_ms: i64,
}

type Outcome = Result<Appended, KafkaError>;

/// What records cost in a batch, about.
fn cost(records: &dyn Records) -> usize {
    records.bytes() + RECORD_BYTES * records.count()
}

struct HandOver {
    topic: Arc<str>,
    partition: i32,
    topic_id: TopicId,
    records: Box<dyn Records>,
    turn: Turn,
    reply: oneshot::Sender<Outcome>,
    room: OwnedSemaphorePermit,
}

impl HandOver {
    fn bytes(&self) -> usize {
        cost(self.records.as_ref())
    }
}

/// A producer. Cheap to clone; clones share its connections and its bound.
#[derive(Clone)]
pub struct Producer {
    cluster: Cluster,
    settings: Settings,
    room: Arc<Semaphore>,
    brokers: Arc<Mutex<HashMap<String, mpsc::Sender<HandOver>>>>,
    /// By broker; siblings share them.
    pulses: Arc<Mutex<HashMap<String, Arc<Pulse>>>>,
}

impl Producer {
    /// A producer for `cluster`. It connects when it is first used.
    pub fn new(cluster: Cluster, settings: Settings) -> Self {
        let room = Arc::new(Semaphore::new(settings.outstanding_bytes_max));
        Self { cluster, settings, room, brokers: Arc::default(), pulses: Arc::default() }
    }

    /// Another producer with connections and a bound of its own, that sends when this one does.
    pub fn sibling(&self) -> Self {
        let pulses = Arc::clone(&self.pulses);
        Self { pulses, ..Self::new(self.cluster.clone(), self.settings) }
    }

    /// Appends `records` to a partition, and returns when all in-sync replicas have them or they are refused. After an
    /// error that is none of the broker's own (`Lost`, `Silent`, a time-out) they may be there all the same.
    pub async fn append(&self, topic: &Arc<str>, partition: i32, records: Box<dyn Records>) -> Outcome {
        let outcome = self.hand_over(topic, partition, records).await;
        if outcome.as_ref().is_err_and(KafkaError::is_about_leaders) {
            self.cluster.doubt(topic);
        }
        outcome
    }

    async fn hand_over(&self, topic: &Arc<str>, partition: i32, records: Box<dyn Records>) -> Outcome {
        let bytes = cost(records.as_ref()).clamp(1, self.settings.outstanding_bytes_max);
        // Asked for before room is taken: a stream without a leader must not hold the others' room.
        let leader = self.cluster.leader(topic, partition).await?;
        let room = Arc::clone(&self.room).acquire_many_owned(bytes as u32).await.map_err(|_| KafkaError::Closed)?;
        let (reply, answer) = oneshot::channel();
        let turn = self.pulse(&leader.address).turn(topic, Instant::now());
        let hand_over =
            HandOver { topic: Arc::clone(topic), partition, topic_id: leader.topic_id, records, turn, reply, room };
        self.broker(&leader.address).send(hand_over).await.map_err(|_| KafkaError::Closed)?;
        answer.await.map_err(|_| KafkaError::Closed)?
    }

    fn pulse(&self, address: &str) -> Arc<Pulse> {
        let mut pulses = self.pulses.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(pulse) = pulses.get(address) {
            return Arc::clone(pulse);
        }
        let pulse = Arc::new(Pulse::new(self.settings.linger_max));
        pulses.insert(address.to_owned(), Arc::clone(&pulse));
        pulse
    }

    fn broker(&self, address: &str) -> mpsc::Sender<HandOver> {
        let mut brokers = self.brokers.lock().unwrap_or_else(PoisonError::into_inner);
        let start = || {
            let (sender, hand_overs) = mpsc::channel(WAITING_MAX);
            tokio::spawn(serve_broker(address.to_owned(), self.settings, hand_overs));
            sender
        };
        brokers.retain(|_, sender| !sender.is_closed());
        brokers.entry(address.to_owned()).or_insert_with(start).clone()
    }
}

/// Divides what is for one broker between its two connections.
async fn serve_broker(address: String, settings: Settings, mut hand_overs: mpsc::Receiver<HandOver>) {
    let (timed_out, mut penalised) = mpsc::channel(WAITING_MAX);
    let lane = |ack_timeout, timed_out| {
        let (sender, receiver) = mpsc::channel(WAITING_MAX);
        tokio::spawn(
            Lane { address: address.clone(), ack_timeout, timed_out, waiting: Waiting::default() }.run(receiver),
        );
        sender
    };
    let ordinary = lane(settings.ack_timeout, Some(timed_out));
    let penalty = lane(settings.penalty_ack_timeout, None);
    let mut until: HashMap<(Arc<str>, i32), Instant> = HashMap::new();
    while let Some(hand_over) = hand_overs.recv().await {
        while let Ok(place) = penalised.try_recv() {
            warn!(topic = &*place.0, partition = place.1, "a slow partition gets a connection of its own for a while");
            until.insert(place, Instant::now() + PENALTY);
        }
        let now = Instant::now();
        until.retain(|_, until| *until > now);
        let is_slow = !until.is_empty() && until.contains_key(&(Arc::clone(&hand_over.topic), hand_over.partition));
        let lane = if is_slow { &penalty } else { &ordinary };
        if lane.send(hand_over).await.is_err() {
            return;
        }
    }
}

/// One connection to one broker, and what waits for it.
struct Lane {
    address: String,
    ack_timeout: Duration,
    /// Told of partitions whose appends the broker timed out.
    timed_out: Option<mpsc::Sender<(Arc<str>, i32)>>,
    waiting: Waiting,
}

#[derive(Default)]
struct Waiting {
    /// By partition, each in the order in which it was handed over.
    partitions: HashMap<(Arc<str>, i32), VecDeque<HandOver>>,
    /// Partitions with something waiting, in the order of their turns.
    turns: VecDeque<(Arc<str>, i32)>,
    bytes: usize,
    /// When the first of it should be sent.
    due: Option<Instant>,
}

impl Waiting {
    fn push(&mut self, hand_over: HandOver) {
        self.bytes += hand_over.bytes();
        self.due = Some(self.due.map_or(hand_over.turn.due, |due| due.min(hand_over.turn.due)));
        let place = (Arc::clone(&hand_over.topic), hand_over.partition);
        let queue = self.partitions.entry(place.clone()).or_default();
        if queue.is_empty() {
            self.turns.push_back(place);
        }
        queue.push_back(hand_over);
    }

    /// Whether a request is to be made now: its moment has come, or it is full.
    fn is_due(&self, now: Instant) -> bool {
        self.bytes >= REQUEST_BYTES_MAX || self.due.is_some_and(|due| due <= now)
    }

    /// What goes into the next request: of each partition in turn one batch, so that a flood delays the others by one.
    fn take(&mut self) -> Vec<Vec<HandOver>> {
        let (mut taken, mut bytes) = (Vec::new(), 0);
        for _ in 0..self.turns.len() {
            if bytes >= REQUEST_BYTES_MAX {
                break;
            }
            let Some(place) = self.turns.pop_front() else { break };
            let Some(queue) = self.partitions.get_mut(&place) else { continue };
            let turn = take_batch(queue);
            let turn_bytes = turn.iter().map(HandOver::bytes).sum::<usize>();
            bytes += turn_bytes;
            self.bytes -= turn_bytes;
            taken.push(turn);
            if queue.is_empty() {
                self.partitions.remove(&place);
            } else {
                self.turns.push_back(place);
            }
        }
        if self.turns.is_empty() {
            self.due = None;
        }
        taken
    }

    fn refuse(&mut self, error: &KafkaError) {
        self.turns.clear();
        (self.bytes, self.due) = (0, None);
        let all = self.partitions.drain().flat_map(|(_, queue)| queue);
        all.for_each(|hand_over| drop(hand_over.reply.send(Err(error.clone()))));
    }
}

/// As much of one partition's queue as one batch takes. A request names a topic by one id: what was handed over to its
/// successor waits for the next one.
fn take_batch(queue: &mut VecDeque<HandOver>) -> Vec<HandOver> {
    let (mut taken, mut bytes): (Vec<HandOver>, usize) = (Vec::new(), 0);
    while let Some(next) = queue.front() {
        let fits = taken
            .first()
            .is_none_or(|first| first.topic_id == next.topic_id && bytes + next.bytes() <= BATCH_BYTES_MAX);
        if !fits {
            break;
        }
        bytes += next.bytes();
        taken.extend(queue.pop_front());
    }
    taken
}

impl Lane {
    async fn run(mut self, mut hand_overs: mpsc::Receiver<HandOver>) {
        let mut backoff = Backoff::default();
        while let Some(first) = hand_overs.recv().await {
            self.waiting.push(first);
            let lost = match Connection::open(&self.address).await {
                Ok(connection) => {
                    backoff.reset();
                    match self.serve(&connection, &mut hand_overs).await {
                        Some(lost) => lost,
                        None => return,
                    }
                }
                Err(error) => error,
            };
            let wait = backoff.next_wait(Duration::ZERO, &mut rand::rng()).min(WAIT_MAX);
            warn!(error = %lost, wait_ms = wait.as_millis() as u64, "cannot produce to a broker; trying again");
            self.waiting.refuse(&lost);
            let until = Instant::now() + wait;
            while let Ok(Some(hand_over)) = timeout_at(until, hand_overs.recv()).await {
                drop(hand_over.reply.send(Err(lost.clone())));
            }
        }
    }

    /// Sends and answers until the connection is lost (why), or the producer is gone (`None`).
    async fn serve(
        &mut self,
        connection: &Connection,
        hand_overs: &mut mpsc::Receiver<HandOver>,
    ) -> Option<KafkaError> {
        let mut under_way: JoinSet<Result<(), KafkaError>> = JoinSet::new();
        let mut is_open = true;
        loop {
            while under_way.len() < REQUESTS_MAX && self.waiting.is_due(Instant::now()) {
                let request = Request::of(self.waiting.take());
                under_way.spawn(request.send(connection.clone(), self.ack_timeout, self.timed_out.clone()));
            }
            if !is_open && under_way.is_empty() && self.waiting.due.is_none() {
                return None;
            }
            tokio::select! {
                Some(answered) = under_way.join_next() => match answered {
                    Ok(Ok(())) => {}
                    Ok(Err(error)) => return Some(error),
                    Err(_) => return Some(KafkaError::Closed),
                },
                hand_over = hand_overs.recv(), if is_open => match hand_over {
                    Some(hand_over) => {
                        self.waiting.push(hand_over);
                        while let Ok(more) = hand_overs.try_recv() {
                            self.waiting.push(more);
                        }
                    }
                    None => is_open = false,
                },
                () = sleep_until(self.waiting.due.unwrap_or_else(Instant::now)),
                    if self.waiting.due.is_some() && under_way.len() < REQUESTS_MAX => {}
            }
        }
    }
}

/// A request under way.
struct Request {
    batches: Vec<LaidOut>,
}

/// One partition's batch of a request, and who waits for it.
struct LaidOut {
    topic: Arc<str>,
    topic_id: TopicId,
    partition: i32,
    bytes: Bytes,
    riders: Vec<HandOver>,
}

impl Request {
    fn of(taken: Vec<Vec<HandOver>>) -> Self {
        let laid_out = |riders: Vec<HandOver>| {
            let first = riders.first()?;
            let (topic, topic_id, partition) = (Arc::clone(&first.topic), first.topic_id, first.partition);
            let bytes = riders.iter().map(HandOver::bytes).sum();
            // The topics' time is the broker's: what stands in a record does not matter.
            let mut batch = BatchWriter::new(0, bytes).packed(first.records.compression());
            riders.iter().for_each(|rider| rider.records.write(&mut batch));
            Some(LaidOut { topic, topic_id, partition, bytes: batch.finish(None), riders })
        };
        Self { batches: taken.into_iter().filter_map(laid_out).collect() }
    }

    fn message(&self, by_id: bool, ack_timeout: Duration) -> ProduceRequest {
        let mut topics: BTreeMap<(&str, TopicId), Vec<PartitionProduceData>> = BTreeMap::new();
        for LaidOut { topic, topic_id, partition, bytes, .. } in &self.batches {
            let data = PartitionProduceData::default().with_index(*partition).with_records(Some(bytes.clone()));
            topics.entry((topic, *topic_id)).or_default().push(data);
        }
        let topic = |((topic, id), partitions): ((&str, TopicId), _)| {
            let data = TopicProduceData::default().with_partition_data(partitions);
            if by_id { data.with_topic_id(id) } else { data.with_name(name(topic)) }
        };
        ProduceRequest::default()
            .with_acks(-1)
            .with_timeout_ms(ack_timeout.as_millis() as i32)
            .with_topic_data(topics.into_iter().map(topic).collect())
    }

    async fn send(
        self,
        connection: Connection,
        ack_timeout: Duration,
        timed_out: Option<mpsc::Sender<(Arc<str>, i32)>>,
    ) -> Result<(), KafkaError> {
        let asked = async {
            let version = connection.version::<ProduceRequest>()?;
            let by_id = version >= 13;
            let message = self.message(by_id, ack_timeout);
            Ok((by_id, connection.call_at(&message, version, ack_timeout + ANSWER_MARGIN).await?))
        };
        match asked.await {
            Ok((by_id, answer)) => {
                self.answer(by_id, &answer, timed_out.as_ref());
                Ok(())
            }
            Err(error) => {
                let riders = self.batches.into_iter().flat_map(|batch| batch.riders);
                riders.for_each(|rider| drop(rider.reply.send(Err(KafkaError::clone(&error)))));
                Err(error)
            }
        }
    }

    fn answer(self, by_id: bool, answer: &ProduceResponse, timed_out: Option<&mpsc::Sender<(Arc<str>, i32)>>) {
        for LaidOut { topic, topic_id, partition, riders, .. } in self.batches {
            let outcome = outcome_of(by_id, answer, &topic, topic_id, partition);
            if matches!(outcome.as_ref().err().and_then(KafkaError::code), Some(ResponseError::RequestTimedOut)) {
                // A full channel only means that it has been told often enough.
                let _ = timed_out.map(|timed_out| timed_out.try_send((Arc::clone(&topic), partition)));
            }
            let mut before = 0;
            for HandOver { records, reply, room, turn, .. } in riders {
                let own = outcome.clone().map(|first| Appended { offset: first.offset + before, ..first });
                before += records.count() as i64;
                drop((room, turn));
                // Whoever handed it over may have given up.
                drop(reply.send(own));
            }
        }
    }
}

fn outcome_of(by_id: bool, answer: &ProduceResponse, topic: &str, id: TopicId, partition: i32) -> Outcome {
    let is_it = |theirs: &&kafka_protocol::messages::produce_response::TopicProduceResponse| {
        if by_id { theirs.topic_id == id } else { &*theirs.name.0 == topic }
    };
    let theirs = answer.responses.iter().filter(is_it).flat_map(|topic| &topic.partition_responses);
    let what = || format!("an append to partition {partition} of topic {topic}");
    match theirs.into_iter().find(|theirs| theirs.index == partition) {
        Some(theirs) => {
            KafkaError::check(theirs.error_code, what)?;
            Ok(Appended { offset: theirs.base_offset, append_time_ms: theirs.log_append_time_ms })
        }
        None => Err(KafkaError::Refused { what: what(), code: ResponseError::UnknownServerError }),
    }
}
