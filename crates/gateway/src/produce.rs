//! The way of one parcel to the journal: build its batch, append it, say how that ended. Nothing is acknowledged before
//! the journal has said that it is durable.

use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use journal::{Journal, partitions};
use rand::Rng;
use stream::config::StreamConfig;
use stream::facts::Place;
use stream::retry::Backoff;
use stream::wire::{Refusal, RefusalReason};
use stream::{Batch, StreamId};
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

    /// Appends `batch` to `topic`; ready when it is durable, or refused whole.
    fn append(
        &self,
        topic: &str,
        place: Place,
        batch: &Batch,
    ) -> impl Future<Output = Result<Appended, Refusal>> + Send;
}

/// Where the journal has a batch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Appended {
    /// The partition.
    pub partition: u32,
    /// Offset of its first record.
    pub offset: u64,
    /// One past its last.
    pub offset_end: u64,
}

impl<J: Journal> Produce for J {
    fn partitions(&self, config: &StreamConfig) -> u32 {
        self.places(config).iter().map(|place| place.partition + 1).max().unwrap_or(1)
    }

    async fn append(&self, topic: &str, place: Place, batch: &Batch) -> Result<Appended, Refusal> {
        let appended = Journal::append(self, topic, place, batch).await?;
        Ok(Appended { partition: place.partition, offset: appended.offset, offset_end: appended.end_offset })
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
            let config = &route.stream.config;
            let place = partitions::choose(config, writer.partitions(config), &batch);
            let late = || Refusal::new(RefusalReason::Unavailable, "journal", "no answer before the batch deadline");
            let appended = timeout_at(parcel.deadline, writer.append(&route.topic, place, &batch)).await;
            appended.unwrap_or_else(|_| Err(late()))
        }
        None => Err(Refusal::new(RefusalReason::Malformed, "request", "there is no record in it")),
    };
    Landing { queue: route.queue, producer: route.producer, parcel, result }
}

/// The parcel's batch, built at the first try and the same at every other.
fn built(route: &Route, parcel: &mut Parcel) -> Option<Arc<Batch>> {
    let batch = match &parcel.cargo {
        Cargo::Batch(batch) => return Some(Arc::clone(batch)),
        Cargo::Lines(_) => return None,
        Cargo::Unbuilt { source, start, parts, end } => {
            let incarnation = route.stream.config.incarnation;
            Arc::new(pack::build(route.stream.id(), incarnation, *source, *start, parts, *end)?)
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
