//! A Kafka topic, with the leg's state in a compacted topic of the same cluster: rows, records set apart and state are one
//! transaction, so a reader with `read_committed` sees each row once, and a leg goes on exactly where its rows end.
//!
//! ```text
//! append rows, as they come                 kafka.rows.appended     (readers do not see them yet)
//! append the change of the leg's state      kafka.state.appended
//! end the transaction                       kafka.transaction.ended <- committed
//! ```
//!
//! After a lost answer nobody but the log knows how a transaction ended. So there is one way on, the same after a crash, a
//! time-out and a fence: [`Sink::recover`] takes the transactional id over, which ends what was open and shuts out whoever
//! is still alive, and then reads the state topic. The transactional id is the leg's name: stable, one per leg.
//!
//! States of a [`KafkaSink`]: *not recovered* (new, or after any error), and *live*. Blocking: a leg has a thread of its
//! own; what waits for brokers runs on the process's runtime.
//!
//! Limits: what waits to be appended by [`FLUSH_BYTES`] a partition; an open transaction by [`OPEN_BYTES_MAX`], beyond
//! which [`Sink::is_full`] asks for a commit.

pub mod rows;
pub mod apart;
pub mod state;
pub mod transactions;
pub mod hand_over;
pub mod delivered;

use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

use arrow_array::RecordBatch;
use kafka::batch::BatchWriter;
use kafka::fetch::{Fetcher, Isolation};
use kafka::offsets::{self, At};
pub use kafka::open::Open;
use kafka::topics::{Wanted, ensure};
use kafka::transaction::{Place, Settings, TransactionalProducer};
use kafka::{Cluster, KafkaError};
use stream::clock::{Clock, SystemClock};
use stream::config::{Compression, KafkaTarget};
use stream::{crash, limits};
use tokio::runtime::Handle;
use tracing::info;

use crate::error::SinkError;
use crate::files::Identity;
use crate::metrics;
use crate::seam::{Apart, ApartEnd, Rows, SetApart, Sink};
use crate::state::{ApartPosition, Commit, LegState};
use rows::{Laid, LaidRows};
use state::{Book, Folded, StateRecord};

/// The topic of all legs' states in a cluster, and its partitions.
const STATE_TOPIC: &str = "isolane.legs";
const STATE_PARTITIONS: i32 = 16;
/// Small segments that are compacted soon: a recovery reads what is not compacted yet, of all legs of its partition.
const STATE_SETTINGS: [(&str, &str); 4] = [
    ("cleanup.policy", "compact"),
    ("min.cleanable.dirty.ratio", "0.1"),
    ("segment.bytes", "33554432"),
    ("segment.ms", "600000"),
];
/// Copies of each topic made here, where the cluster has brokers enough.
const REPLICATION: i16 = 3;
/// Bytes that wait for one partition before they are appended: what one batch takes.
const FLUSH_BYTES: usize = 512 << 10;
/// Bytes of an open transaction before the sink asks for a commit: bounds what is read again after a crash.
const OPEN_BYTES_MAX: usize = 64 << 20;
/// What a batch of one row has beside key, value and headers: its head, the provenance, lengths.
const ROW_OVERHEAD_BYTES: usize = 256;
/// How long one step may take: longer than a broker needs to come back.
const STEP: Duration = Duration::from_secs(60);
/// How long a transaction may stay open beyond two checkpoints: a restart of the job, and a step.
const TRANSACTION_MARGIN: Duration = Duration::from_secs(90);

/// A topic that a leg writes to.
pub struct KafkaSink {
    runtime: Handle,
    target: KafkaTarget,
    identity: Identity,
    transaction_timeout: Duration,
    live: Option<Live>,
    /// The quarantine's reader, while a replay is under way.
    reading: Option<Fetcher>,
}

struct Live {
    cluster: Cluster,
    producer: TransactionalProducer,
    state: LegState,
    book: Book,
    state_place: Place,
    partitions: i32,
    topic: String,
    compression: Compression,
    /// What the topic takes of one row: key, value and headers.
    row_bytes_max: usize,
    quarantine: Place,
    waiting: BTreeMap<Shelf, BatchWriter>,
    open_bytes: usize,
    rows: u64,
    apart: u64,
}

/// A leg's name in its cluster: its transactional id, and the key of its state.
fn name_of(Identity { stream, incarnation, leg }: &Identity) -> String {
    format!("{stream}.{incarnation}.{leg}")
}

/// Where records go that the leg could not convert: a topic of its own, because a replay needs one log with one writer.
fn quarantine_of(identity: &Identity) -> Place {
    (format!("{}.quarantine", name_of(identity)), 0)
}

fn state_place(leg: &str) -> Place {
    (STATE_TOPIC.to_owned(), rows::partition_of(leg.as_bytes(), STATE_PARTITIONS))
}

/// Which batch a record waits in.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Shelf {
    /// A partition of the sink's topic.
    Rows(i32),
    /// The quarantine.
    Apart,
}

impl KafkaSink {
    /// The sink of a leg that commits every `checkpoint`. Nothing is touched before [`Sink::recover`].
    pub fn new(runtime: Handle, target: KafkaTarget, identity: Identity, checkpoint: Duration) -> Self {
        let transaction_timeout = checkpoint * 2 + TRANSACTION_MARGIN;
        Self { runtime, target, identity, transaction_timeout, live: None, reading: None }
    }

    fn name(&self) -> String {
        name_of(&self.identity)
    }

    fn quarantine(&self) -> Place {
        quarantine_of(&self.identity)
    }

    fn cluster(&self) -> Result<Cluster, SinkError> {
        self.live.as_ref().map(|live| live.cluster.clone()).ok_or(SinkError::NotRecovered)
    }

    /// Runs what waits for brokers on the runtime, and waits for it.
    fn wait<T: Send + 'static>(&self, work: impl Future<Output = T> + Send + 'static) -> Result<T, SinkError> {
        let (sender, answer) = std::sync::mpsc::sync_channel(1);
        self.runtime.spawn(async move { drop(sender.send(work.await)) });
        answer.recv().map_err(|_| self.failed(&KafkaError::Closed))
    }

    /// Runs a step on the live transaction; after an error the sink is not live any more.
    fn step<F, T>(&mut self, work: impl FnOnce(Live) -> F) -> Result<T, SinkError>
    where
        F: Future<Output = (Live, Result<T, KafkaError>)> + Send + 'static,
        T: Send + 'static,
    {
        let live = self.live.take().ok_or(SinkError::NotRecovered)?;
        let (live, done) = self.wait(work(live))?;
        let done = done.map_err(|error| self.failed(&error))?;
        self.live = Some(live);
        Ok(done)
    }

    fn failed(&self, error: &KafkaError) -> SinkError {
        SinkError::Kafka { topic: self.target.topic.clone(), cause: error.to_string() }
    }

    /// The sink's topics as they should be.
    async fn prepare(cluster: &Cluster, target: &KafkaTarget, quarantine: String) -> Result<(), KafkaError> {
        let replication = replication(cluster).await?;
        let mut topics = vec![
            wanted(STATE_TOPIC, STATE_PARTITIONS, replication, &STATE_SETTINGS),
            // Kept until a person has decided.
            wanted(&quarantine, 1, replication, &[("retention.ms", "-1")]),
        ];
        topics.extend(topic_of(cluster, target).await?);
        ensure(cluster, &topics).await
    }
}

/// A sink's own topic as it is made; none if it is there: then it is left alone.
async fn topic_of(cluster: &Cluster, target: &KafkaTarget) -> Result<Option<Wanted>, KafkaError> {
    match cluster.topic(&target.topic).await {
        Err(error) if error.is_unknown_topic() => {
            // Event times would let retention eat old events as soon as they are there.
            let settings = [("message.timestamp.type", "LogAppendTime")];
            let replication = replication(cluster).await?;
            Ok(Some(wanted(&target.topic, target.partitions as i32, replication, &settings)))
        }
        known => known.map(|_| None),
    }
}

async fn replication(cluster: &Cluster) -> Result<i16, KafkaError> {
    Ok(REPLICATION.min(cluster.brokers().await? as i16))
}

fn wanted(topic: &str, partitions: i32, replication: i16, settings: &[(&'static str, &str)]) -> Wanted {
    let bytes = limits::MESSAGE_BYTES_MAX.to_string();
    let of_all = [("max.message.bytes", bytes.as_str())];
    let settings = settings.iter().chain(&of_all).map(|(name, value)| (*name, (*value).to_owned())).collect();
    Wanted { topic: topic.to_owned(), partitions, replication, settings }
}

impl Live {
    async fn recover(
        target: KafkaTarget,
        name: String,
        quarantine: Place,
        transaction_timeout: Duration,
    ) -> Result<Result<Self, String>, KafkaError> {
        let cluster = Cluster::new(&target.brokers)?;
        KafkaSink::prepare(&cluster, &target, quarantine.0.clone()).await?;
        let settings = Settings { id: name.clone(), transaction_timeout, step_within: STEP };
        let producer = TransactionalProducer::start(cluster.clone(), settings).await?;
        let state_place = state_place(&name);
        let (state, book) = match read_state(&cluster, &state_place, &name).await?.finish() {
            Ok(found) => found,
            Err(cause) => return Ok(Err(cause)),
        };
        let partitions = cluster.topic(&target.topic).await?.leaders.len() as i32;
        Ok(Ok(Self {
            cluster: cluster.clone(),
            producer,
            state,
            book,
            state_place,
            partitions,
            row_bytes_max: row_bytes_max(&cluster, &target.topic).await?,
            topic: target.topic,
            compression: target.compression,
            quarantine,
            waiting: BTreeMap::new(),
            open_bytes: 0,
            rows: 0,
            apart: 0,
        }))
    }

    /// Adds a record to what waits; false, and nothing is added, if that must be appended first.
    fn push(&mut self, shelf: Shelf, laid: &Laid<'_>) -> bool {
        let batch = self
            .waiting
            .entry(shelf)
            .or_insert_with(|| BatchWriter::new(laid.time_ms, FLUSH_BYTES).packed(self.compression));
        // A topic that takes little takes small batches.
        let room = FLUSH_BYTES.min(self.row_bytes_max);
        if !batch.is_empty() && batch.bytes() + laid.bytes() > room {
            return false;
        }
        let before = batch.bytes();
        batch.push(laid.time_ms, laid.key, laid.value, laid.headers);
        self.open_bytes += batch.bytes() - before;
        true
    }

    async fn write(&mut self, rows: &LaidRows) -> Result<(), KafkaError> {
        self.rows += rows.len() as u64;
        let now_ms = SystemClock.now_ms();
        for row in 0..rows.len() {
            let push = |live: &mut Self| {
                rows.with(row, now_ms, |laid| {
                    live.push(Shelf::Rows(rows::partition_of(laid.spread_by(), live.partitions)), laid)
                })
            };
            if !push(self) {
                self.flush().await?;
                push(self);
            }
        }
        Ok(())
    }

    async fn set_apart(&mut self, records: &[SetApart]) -> Result<(), KafkaError> {
        self.apart += records.len() as u64;
        for record in records {
            let push = |live: &mut Self| rows::with_apart(record, |laid| live.push(Shelf::Apart, laid));
            if !push(self) {
                self.flush().await?;
                push(self);
            }
        }
        Ok(())
    }

    /// Appends what waits, for all partitions at once: one wait for the brokers.
    async fn flush(&mut self) -> Result<(), KafkaError> {
        if self.waiting.is_empty() {
            return Ok(());
        }
        let place = |shelf| match shelf {
            Shelf::Rows(partition) => (self.topic.clone(), partition),
            Shelf::Apart => self.quarantine.clone(),
        };
        let waiting = std::mem::take(&mut self.waiting);
        self.producer.append(waiting.into_iter().map(|(shelf, batch)| (place(shelf), batch)).collect()).await?;
        crash::point("kafka.rows.appended");
        Ok(())
    }

    async fn commit(&mut self, name: &str, commit: &Commit) -> Result<u64, KafkaError> {
        self.flush().await?;
        let number = self.state.commit + 1;
        self.state.apply(number, commit);
        append_state(&mut self.producer, &self.state_place, self.book.records(name, &self.state, commit)).await?;
        crash::point("kafka.state.appended");
        self.producer.end(true).await?;
        crash::point("kafka.transaction.ended");
        (self.open_bytes, self.rows, self.apart) = (0, 0, 0);
        Ok(number)
    }
}

/// What a topic takes of one row: its batch's limit, without what lies around a row in a batch of its own.
async fn row_bytes_max(cluster: &Cluster, topic: &str) -> Result<usize, KafkaError> {
    const KEY: &str = "max.message.bytes";
    let settings = kafka::topics::settings(cluster, &[topic], &BTreeSet::from([KEY])).await?;
    let bytes = settings.get(topic).and_then(|own| own.get(KEY)?.parse::<usize>().ok());
    Ok(bytes.map_or(usize::MAX, |bytes| bytes.saturating_sub(ROW_OVERHEAD_BYTES)))
}

/// Appends what is told of a leg's state. A batch a record: a snapshot's pieces together may be more than one batch holds.
async fn append_state(
    producer: &mut TransactionalProducer,
    place: &Place,
    records: Vec<StateRecord>,
) -> Result<(), KafkaError> {
    for record in records {
        let headers: Vec<(&[u8], &[u8])> = record.headers.iter().map(|(n, v)| (n.as_bytes(), v.as_bytes())).collect();
        let mut batch = BatchWriter::new(0, record.value.len());
        batch.push(0, Some(record.key.as_bytes()), Some(&record.value), &headers);
        producer.append(vec![(place.clone(), batch)]).await?;
    }
    Ok(())
}

/// Reads all that is committed of a leg's state.
async fn read_state(cluster: &Cluster, place: &Place, name: &str) -> Result<Folded, KafkaError> {
    let (topic, partition) = place;
    let start = offsets::of(cluster, topic, *partition, At::Start).await?;
    let mut fetcher = Fetcher::new(cluster.clone(), topic, *partition, start, Isolation::Committed);
    // Whatever this leg wrote is before the end as it is now; open transactions there are other legs' and end in time.
    let end = offsets::of(cluster, topic, *partition, At::End).await?;
    let deadline = Instant::now() + STEP;
    let mut folded = Folded::default();
    while fetcher.offset() < end {
        if Instant::now() > deadline {
            let what = "the end of a transaction that is open in the state topic";
            return Err(KafkaError::Silent { broker: topic.clone(), what, within: STEP });
        }
        match fetcher.next(Duration::from_millis(200)).await {
            Ok(fetched) => fetched.records.iter().for_each(|record| folded.add(name, record)),
            Err(error) if error.passes() => {
                tokio::time::sleep(Duration::from_millis(100)).await;
            }
            Err(error) => return Err(error),
        }
    }
    Ok(folded)
}

impl Sink for KafkaSink {
    fn recover(&mut self) -> Result<LegState, SinkError> {
        (self.live, self.reading) = (None, None);
        let recovering = Live::recover(self.target.clone(), self.name(), self.quarantine(), self.transaction_timeout);
        let live = self.wait(recovering)?.map_err(|error| self.failed(&error))?;
        let live = live.map_err(|cause| SinkError::Kafka { topic: STATE_TOPIC.to_owned(), cause })?;
        info!(leg = self.name(), commit = live.state.commit, topic = self.target.topic, "the Kafka sink has recovered");
        metrics::recovered(self.identity.stream.as_str(), 0);
        let state = live.state.clone();
        self.live = Some(live);
        Ok(state)
    }

    fn misfits(&self, rows: &RecordBatch) -> Vec<(usize, String)> {
        let bytes_max = self.live.as_ref().map_or(usize::MAX, |live| live.row_bytes_max);
        rows::misfits(rows, &self.target, bytes_max)
    }

    fn write(&mut self, rows: Rows) -> Result<(), SinkError> {
        let laid = rows::lay_out(rows, &self.target)
            .map_err(|cause| SinkError::Kafka { topic: self.target.topic.clone(), cause })?;
        self.step(|mut live| async move {
            let done = live.write(&laid).await;
            (live, done)
        })
    }

    fn set_apart(&mut self, records: &[SetApart]) -> Result<(), SinkError> {
        if records.is_empty() {
            return Ok(());
        }
        let records = records.to_vec();
        self.step(|mut live| async move {
            let done = live.set_apart(&records).await;
            (live, done)
        })
    }

    fn apart_end(&mut self) -> Result<ApartEnd, SinkError> {
        let (cluster, quarantine) = (self.cluster()?, self.quarantine());
        let end = self.wait(async move { apart::end(&cluster, &quarantine).await })?;
        end.map_err(|error| self.failed(&error))
    }

    fn read_apart(&mut self, from: ApartPosition, end: ApartPosition) -> Result<Apart, SinkError> {
        let (cluster, quarantine) = (self.cluster()?, self.quarantine());
        let known = self.reading.take().filter(|known| known.offset() == from.record as i64);
        let (fetcher, read) = self.wait(async move {
            let mut fetcher = known.unwrap_or_else(|| apart::reader(cluster, &quarantine, from));
            let read = apart::read(&mut fetcher, &quarantine.0, end).await;
            (fetcher, read)
        })?;
        let apart = read.map_err(|error| self.failed(&error))?;
        self.reading = (apart.next < end).then_some(fetcher);
        Ok(apart)
    }

    fn is_full(&self) -> bool {
        self.live.as_ref().is_some_and(|live| live.open_bytes > OPEN_BYTES_MAX)
    }

    fn commit(&mut self, commit: &Commit) -> Result<u64, SinkError> {
        let (name, commit, began) = (self.name(), commit.clone(), Instant::now());
        let contradiction = |what, stated, written| SinkError::Contradiction {
            dir: self.target.topic.clone().into(),
            what,
            stated,
            written,
        };
        let live = self.live.as_ref().ok_or(SinkError::NotRecovered)?;
        for (what, stated, written) in
            [("rows", commit.fates.delivered, live.rows), ("set apart", commit.fates.quarantined, live.apart)]
        {
            if stated != written {
                let error = contradiction(what, stated, written);
                self.live = None;
                return Err(error);
            }
        }
        let bytes = live.open_bytes as u64;
        let number = self.step(|mut live| async move {
            let done = live.commit(&name, &commit).await;
            (live, done)
        })?;
        metrics::committed(self.identity.stream.as_str(), 0, bytes, began.elapsed().as_secs_f64());
        Ok(number)
    }
}
