//! One stream's lane within the dispatcher: its queue, its keys, its running source, its standing with the producers.

use std::sync::Arc;
use std::time::Duration;

use rand::Rng;
use stream::limits::{COMMIT_QUANTUM_BYTES, IDEMPOTENCY_WINDOW};
use stream::retry::Backoff;
use stream::wire::{Refusal, RefusalReason};
use tokio::sync::oneshot;
use tokio::time::Instant;

use crate::admit;
use crate::budget::QueueId;
use crate::directory::StreamHandle;
use crate::key::{Key, Keys, Look};
use crate::outcome::tell;
use crate::pack;
use crate::produce::{self, Route};
use crate::queue::{Cargo, Outcome, Parcel, Queue, Stored};
use crate::schedule::Binding;
use crate::source::{RunningSource, Start};

/// Bytes of one lane in flight on one producer: what one group commit takes of a topic. More would only wait in front
/// of other lanes' batches, and a stalled topic would hold the whole producer.
const LANE_OUTSTANDING_BYTES_MAX: usize = COMMIT_QUANTUM_BYTES;
/// Parcels of one lane in flight on one producer. Requests beyond it wait, and are packed meanwhile.
const LANE_OUTSTANDING_PARCELS_MAX: usize = 32;

/// A request with a key, as it comes.
#[derive(Debug)]
pub struct KeyedLook<'a> {
    /// The key.
    pub key: &'a Key,
    /// Hash of the decompressed body.
    pub body_hash: [u8; 32],
    /// Birth if the key is not remembered.
    pub birth_minutes: u32,
    /// Wall-clock time.
    pub now_ms: i64,
}

/// The lane.
#[derive(Debug)]
pub struct Lane {
    /// The stream.
    pub handle: Arc<StreamHandle>,
    /// Its number in the schedule.
    pub slot: usize,
    /// Its producers.
    pub binding: Binding,
    /// Its parcels.
    pub queue: Queue,
    /// Its running source.
    pub source: RunningSource,
    /// The stream is gone: what is queued is drained, nothing new is taken.
    pub closing: bool,
    topic: Arc<str>,
    keys: Keys<oneshot::Sender<Outcome>, Stored>,
    in_flight: Vec<InFlight>,
    backoff: Backoff,
    resting_until: Option<Instant>,
}

#[derive(Clone, Copy, Debug, Default)]
struct InFlight {
    bytes: usize,
    parcels: usize,
}

impl Lane {
    /// A lane without a past.
    pub fn new(handle: Arc<StreamHandle>, slot: usize, binding: Binding, producers: usize, start: Start) -> Self {
        Self {
            slot,
            binding,
            queue: Queue::default(),
            source: RunningSource::new(start, handle.config.incarnation),
            closing: false,
            topic: handle.config.topic_key().into(),
            keys: Keys::new(IDEMPOTENCY_WINDOW.as_millis() as i64, 0),
            in_flight: vec![InFlight::default(); producers],
            backoff: Backoff::default(),
            resting_until: None,
            handle,
        }
    }

    /// Takes over a changed configuration of the same life.
    pub fn reconfigure(&mut self, handle: Arc<StreamHandle>) {
        self.topic = handle.config.topic_key().into();
        self.handle = handle;
    }

    /// The stream's share of the memory for keys has changed.
    pub fn set_key_bytes_max(&mut self, bytes_max: usize) {
        self.keys.set_bytes_max(bytes_max);
    }

    /// The birth to produce a request with a key under; `None` if it needs no producing: its sender has been told, or
    /// will be with those who wait for the same.
    pub fn look(&mut self, asked: KeyedLook<'_>, sender: oneshot::Sender<Outcome>) -> Option<u32> {
        let KeyedLook { key, body_hash, birth_minutes, now_ms } = asked;
        let scope = || admit::scope(self.handle.id());
        let (sender, outcome) = match self.keys.look(key, body_hash, birth_minutes, now_ms, sender) {
            Look::Produce(birth_minutes) => return Some(birth_minutes),
            Look::Joined => return None,
            Look::Done(sender, stored) => (sender, Ok(stored)),
            Look::OtherBody(sender) => {
                let message = "the idempotency key was used with another body; use a key of its own for each body";
                (sender, Err(Refusal::new(RefusalReason::KeyReused, scope(), message)))
            }
            Look::Crowded(sender) => {
                let message = "too many requests wait for the outcome of this idempotency key; send again later";
                (sender, Err(Refusal::new(RefusalReason::QueueFull, scope(), message)))
            }
        };
        tell(sender, outcome);
        None
    }

    /// Tells everybody who waits for `key`.
    pub fn settle_key(&mut self, key: &Key, outcome: &Outcome) {
        let waiters = self.keys.settle(key, outcome.as_ref().ok().copied());
        waiters.into_iter().for_each(|waiter| tell(waiter, outcome.clone()));
    }

    /// Memory of what the lane would send on `producer` now; `None` if it has nothing to send there.
    pub fn ready(&self, producer: usize, now: Instant) -> Option<usize> {
        let head = self.queue.head_bytes()?;
        let there = self.in_flight.get(producer)?;
        let rests = self.resting_until.is_some_and(|until| now < until);
        if self.handle.config.spec.order.is_one_at_a_time() && self.in_flight.iter().any(|there| there.parcels > 0) {
            // One at a time, whichever producer has it: a failed one must be tried again before the next.
            return None;
        }
        let room = there.parcels == 0
            || (there.parcels < LANE_OUTSTANDING_PARCELS_MAX && there.bytes + head <= LANE_OUTSTANDING_BYTES_MAX);
        (!rests && room && self.binding.takers().any(|taker| taker == producer)).then_some(head)
    }

    /// Takes the next parcel for `producer`; what has no range gets it now, for good.
    pub fn take(&mut self, queue: QueueId, producer: usize, now_minutes: u32) -> Option<(Route, Parcel)> {
        let mut parcel = self.queue.take()?;
        if let Cargo::Parts(parts) = &mut parcel.cargo {
            let parts = std::mem::take(parts);
            let (source, range) = self.source.allot(pack::length(&parts), now_minutes);
            parcel.allotted = Some((source, range));
            parcel.cargo = Cargo::Unbuilt { source, start: range.start, parts };
        }
        let there = &mut self.in_flight[producer];
        there.bytes += parcel.bytes;
        there.parcels += 1;
        let route = Route { queue, stream: Arc::clone(&self.handle), topic: Arc::clone(&self.topic), producer };
        Some((route, parcel))
    }

    /// A parcel of `bytes` has come back from `producer`.
    pub fn landed(&mut self, producer: usize, bytes: usize) {
        let there = &mut self.in_flight[producer];
        there.bytes -= bytes;
        there.parcels -= 1;
    }

    /// An append succeeded: the lane goes on at once.
    pub fn recover(&mut self) {
        self.backoff.reset();
        self.resting_until = None;
    }

    /// An append failed: the lane rests for a while. Those that failed with it do not lengthen the rest.
    pub fn rest(&mut self, now: Instant, batch_deadline: Duration, dice: &mut impl Rng) {
        if self.resting_until.is_none_or(|until| until <= now) {
            self.resting_until = Some(now + produce::rest(&mut self.backoff, batch_deadline, dice));
        }
    }

    /// Ends a turn whose time has come.
    pub fn end_turn(&mut self, now: Instant, deadline: Duration) {
        let in_flight = &self.in_flight;
        if self.binding.end_turn(|producer| in_flight[producer].parcels > 0, now, deadline) {
            self.handle.bound_to(self.binding.producers().to_vec());
        }
    }

    /// Whether nothing is queued or in flight.
    pub fn is_idle(&self) -> bool {
        self.queue.is_empty() && self.in_flight.iter().all(|there| there.parcels == 0)
    }
}
