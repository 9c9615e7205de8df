//! The way of one parcel to the journal: build its batch, append it, say how that ended. Nothing is acknowledged before
//! the journal has said that it is durable.

use std::collections::BTreeMap;
use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use journal::{Journal, partitions};
use rand::Rng;
use stream::config::{Compression, StreamConfig};
use stream::facts::Place;
use stream::retry::Backoff;
use stream::wire::{Refusal, RefusalReason};
use stream::{Batch, StreamId};
use tokio::task::JoinSet;
use tokio::time::{Instant, timeout_at};

use crate::budget::QueueId;
use crate::directory::StreamHandle;
use crate::pack;
use crate::queue::{Cargo, Parcel};

/// Tries that fit into a batch's deadline at the longest wait between them, so that a short outage ends in an answer.
const TRIES_MIN: u32 = 10;

/// A writer to the journal, with an order and a connection of its own.
pub trait Produce: Send + Sync + 'static {
    /// Partitions of a stream's topic in each cluster.
    fn partitions(&self, config: &StreamConfig) -> u32;

    /// Appends `batch` to `topic`, packed as asked for where the journal packs; ready when it is durable, or refused whole.
    fn append(
        &self,
        topic: &str,
        place: Place,
        batch: &Batch,
        compression: Compression,
    ) -> impl Future<Output = Result<Appended, Refusal>> + Send;
}

/// Where the journal has a batch; of one that is spread by key, its last part.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Appended {
    /// The partition.
    pub partition: u32,
    /// Offset of its first record there.
    pub offset: u64,
    /// One past its last.
    pub offset_end: u64,
    /// Whether other partitions have parts of it.
    pub is_spread: bool,
}

impl<J: Journal> Produce for J {
    fn partitions(&self, config: &StreamConfig) -> u32 {
        self.places(config).iter().map(|place| place.partition + 1).max().unwrap_or(1)
    }

    async fn append(
        &self,
        topic: &str,
        place: Place,
        batch: &Batch,
        compression: Compression,
    ) -> Result<Appended, Refusal> {
        let appended = Journal::append(self, topic, place, batch, compression).await?;
        let (offset, offset_end) = (appended.offset, appended.end_offset);
        Ok(Appended { partition: place.partition, offset, offset_end, is_spread: false })
    }
}

/// Where a parcel belongs.
#[derive(Clone, Debug)]
pub struct Route {
    /// Its queue.
    pub queue: QueueId,
    /// Its stream, whose configuration says which partition a batch goes to.
    pub stream: Arc<StreamHandle>,
    /// The stream's topic.
    pub topic: Arc<str>,
    /// The producer that takes it.
    pub producer: usize,
}

/// How an append ended.
#[derive(Debug)]
pub struct Landing {
    /// The queue it came from.
    pub queue: QueueId,
    /// The producer that took it.
    pub producer: usize,
    /// The parcel, its batch built.
    pub parcel: Parcel,
    /// What the journal said.
    pub result: Result<Appended, Refusal>,
}

/// Appends `parcel` through `writer`, until the parcel's deadline.
pub async fn fly<P: Produce>(writer: Arc<P>, route: Route, mut parcel: Parcel) -> Landing {
    let result = match built(&route, &mut parcel) {
        Some(batch) => {
            let late = || Refusal::new(RefusalReason::Unavailable, "journal", "no answer before the batch deadline");
            let appended = timeout_at(parcel.deadline, append(&writer, &route, &batch, &mut parcel.durable)).await;
            appended.unwrap_or_else(|_| Err(late()))
        }
        None => Err(nothing()),
    };
    Landing { queue: route.queue, producer: route.producer, parcel, result }
}

/// Appends every part of a batch to its partition, all at a time: the batch is durable when all are, and if one fails, it
/// has failed. What is `durable` already is not appended again by its next try: a partition that fails for long must not
/// fill the others with doubles.
async fn append<P: Produce>(
    writer: &Arc<P>,
    route: &Route,
    batch: &Arc<Batch>,
    durable: &mut BTreeMap<u32, Appended>,
) -> Result<Appended, Refusal> {
    let config = &route.stream.config;
    let compression = config.spec.compression;
    let shares = partitions::spread(config, writer.partitions(config), batch);
    if let [(place, whole)] = shares.as_slice() {
        return writer.append(&route.topic, *place, whole, compression).await;
    }
    let last = shares.iter().max_by_key(|(_, part)| part.range.end).map(|(place, _)| place.partition);
    let mut appends = JoinSet::new();
    for (place, part) in shares.into_iter().filter(|(place, _)| !durable.contains_key(&place.partition)) {
        let (writer, topic) = (Arc::clone(writer), Arc::clone(&route.topic));
        appends.spawn(async move { (place.partition, writer.append(&topic, place, &part, compression).await) });
    }
    let mut refused = None;
    while let Some(answered) = appends.join_next().await {
        match answered {
            Ok((partition, Ok(appended))) => drop(durable.insert(partition, appended)),
            Ok((_, Err(refusal))) => refused = Some(refusal),
            Err(broken) => std::panic::resume_unwind(broken.into_panic()),
        }
    }
    let last = last.and_then(|partition| durable.get(&partition)).copied();
    match refused {
        Some(refusal) => Err(refusal),
        None => last.map(|last| Appended { is_spread: true, ..last }).ok_or_else(nothing),
    }
}

fn nothing() -> Refusal {
    Refusal::new(RefusalReason::Malformed, "request", "there is no record in it")
}

/// The parcel's batch, built at the first try and the same at every other.
fn built(route: &Route, parcel: &mut Parcel) -> Option<Arc<Batch>> {
    let batch = match &mut parcel.cargo {
        Cargo::Batch(batch) => return Some(Arc::clone(batch)),
        Cargo::Parts(_) => return None,
        Cargo::Unbuilt { source, start, parts } => {
            let mut joined = pack::join(*start, std::mem::take(parts));
            Arc::new(joined.take(route.stream.id(), route.stream.config.incarnation, *source)?)
        }
    };
    parcel.cargo = Cargo::Batch(Arc::clone(&batch));
    Some(batch)
}

/// Whether a refusal of the journal is worth another try: what may pass within the deadline. An unknown topic may be
/// one that the journal has not heard of yet. A full disk is said at once, for its sender to slow down.
pub fn passes(refusal: &Refusal) -> bool {
    use RefusalReason::{QueueFull, Unavailable, UnknownStream};
    matches!(refusal.reason, QueueFull | Unavailable | UnknownStream)
}

/// What a sender hears when tries have not helped: the journal's own words, as something that may pass.
pub fn given_up(stream: &StreamId, last: &Refusal) -> Refusal {
    let message = format!("not durable before the batch deadline; send it again later (last: {last})");
    Refusal::new(RefusalReason::Unavailable, crate::admit::scope(stream), message)
}

/// How long a queue rests after a failed append.
pub fn rest(backoff: &mut Backoff, batch_deadline: Duration, dice: &mut impl Rng) -> Duration {
    backoff.next_wait(Duration::from_millis(1), dice).min(batch_deadline / TRIES_MIN)
}

/// Whether `deadline` leaves time for another try.
pub fn in_time(deadline: Instant, now: Instant) -> bool {
    now < deadline
}
