//! The way of one parcel to the journal: build its batch, append it, say how that ended. Nothing is acknowledged before
//! the journal has said that it is durable.

use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use rand::Rng;
use stream::retry::Backoff;
use stream::wire::{Refusal, RefusalReason};
use stream::{Batch, Incarnation, StreamId};
use tokio::time::{Instant, timeout_at};

use crate::budget::QueueId;
use crate::pack;
use crate::queue::{Cargo, Parcel};

/// The embedded journal's topics have one partition.
pub const PARTITION: u32 = 0;
/// Tries that fit into a batch's deadline at the longest wait between them, so that a short outage ends in an answer.
const TRIES_MIN: u32 = 10;

/// A writer to the journal, with an order and a connection of its own.
pub trait Produce: Send + Sync + 'static {
    /// Appends `batch` to `topic`; ready when it is durable, or refused whole.
    fn append(&self, topic: &str, batch: &Batch) -> impl Future<Output = Result<Appended, Refusal>> + Send;
}

/// Where the journal has a batch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Appended {
    /// Offset of its first record.
    pub offset: u64,
    /// One past its last.
    pub offset_end: u64,
}

impl Produce for journal::JournalClient {
    async fn append(&self, topic: &str, batch: &Batch) -> Result<Appended, Refusal> {
        let appended = journal::Journal::append(self, topic, PARTITION, batch).await?;
        Ok(Appended { offset: appended.offset, offset_end: appended.end_offset })
    }
}

/// Where a parcel belongs.
#[derive(Clone, Debug)]
pub struct Route {
    /// Its queue.
    pub queue: QueueId,
    /// Its stream.
    pub stream: StreamId,
    /// The stream's life.
    pub incarnation: Incarnation,
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
        Some(batch) => match timeout_at(parcel.deadline, writer.append(&route.topic, &batch)).await {
            Ok(result) => result,
            Err(_) => Err(Refusal::new(RefusalReason::Unavailable, "journal", "no answer before the batch deadline")),
        },
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
            Arc::new(pack::build(&route.stream, route.incarnation, *source, *start, parts, *end)?)
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
