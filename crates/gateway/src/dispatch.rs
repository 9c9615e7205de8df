//! The dispatcher: the one task that owns every lane and every producer's books. Doors hand it what they have admitted;
//! it queues, chooses what each producer sends next, and tells every sender how that ended.
//!
//! All choices are made by pure parts ([`crate::schedule`], [`crate::drr`], [`crate::queue`], [`crate::key`]), with the
//! dice and in the order that a seed repeats; appends run in tasks of their own and come back as landings. Bounded:
//! messages by the inbox, bytes by the budget, remembered keys by as much again, flights by the producers' outstanding
//! bytes (exceeded by at most one parcel each).

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use rand::RngExt;
use rand::rngs::ChaCha8Rng;
use stream::clock::Clock;
use stream::control::ConfigWatch;
use stream::limits::{COMMIT_LIGHT_BYTES, IDEMPOTENCY_BYTES_MAX};
use stream::policy::GatewayPolicy;
use stream::wire::{Refusal, RefusalReason};
use stream::{Batch, BatchBuilder, Kind, StreamId, crash};
use tokio::sync::{mpsc, oneshot, watch};
use tokio::task::JoinSet;
use tokio::time::{Instant, timeout_at};
use tracing::info;

use crate::access::{Access, Caller, Shown};
use crate::budget::{Budget, Permit, QueueId};
use crate::directory::{Directory, StreamHandle};
use crate::drr::Drr;
use crate::facts::FactBook;
use crate::key::Key;
use crate::lane::{KeyedLook, Lane};
use crate::outcome::{deliver, refuse, tell};
use crate::produce::{Landing, Produce, fly, given_up, in_time, passes};
use crate::queue::{Answer, Cargo, Outcome, Rider};
use crate::rate::Rates;
use crate::schedule::{Binding, Schedule};
use crate::settings::GatewaySettings;
use crate::source::Start;
use crate::turns::{Turn, Turns};
use crate::{admit, metrics, turns};

/// Messages that wait for the dispatcher; their bytes are in the budget.
const INBOX_MESSAGES_MAX: usize = 1_024;
/// Requests on their way to the journal, and how many of one stream there may always be.
const UNDER_WAY_MAX: usize = 4_096;
const UNDER_WAY_FLOOR: usize = 4;
/// A request counts as one more for so many bytes: each of its steps takes longer, and makes others wait longer.
const PLACE_BYTES: usize = COMMIT_LIGHT_BYTES;

/// What a door has admitted.
#[derive(Debug)]
pub enum Load {
    /// A batch of an agent.
    Batch(Batch),
    /// The records of a request without a key.
    Gathered(BatchBuilder),
    /// Those of one with a key.
    Keyed {
        /// The key.
        key: Key,
        /// Birth if the key is not remembered.
        birth_minutes: u32,
        /// Hash of the body.
        body_hash: [u8; 32],
        /// The records.
        gathered: BatchBuilder,
    },
}

struct Message {
    queue: QueueId,
    load: Load,
    records: usize,
    permit: Permit,
    place: Option<Turn>,
    deadline: Instant,
    sender: oneshot::Sender<Outcome>,
}

/// What the doors hold of the dispatcher. It ends when the last handle is gone and everything has landed.
#[derive(Clone)]
pub struct Handle {
    inbox: mpsc::Sender<Message>,
    directory: watch::Receiver<Arc<Directory>>,
    access: Access,
    /// The memory budget.
    pub budget: Arc<Budget>,
    /// Whose requests are on their way to the journal.
    pub under_way: Arc<Turns>,
    batch_deadline: Duration,
}

impl Handle {
    /// Who it is that shows this.
    pub fn caller(&self, shown: Shown<'_>) -> Result<Caller, Refusal> {
        self.access.caller(&self.directory.borrow(), shown)
    }

    /// The stream of this id, if `caller` may send to it and records are taken for it.
    pub fn stream(&self, caller: &Caller, id: &str) -> Result<Arc<StreamHandle>, Refusal> {
        let parsed: StreamId = id.parse().map_err(|_| admit::unknown_stream(id))?;
        caller.may_send_to(&parsed)?;
        self.directory.borrow().streams.get(&parsed).cloned().ok_or_else(|| admit::unknown_stream(id))
    }

    /// The streams, as they change.
    pub fn directory(&self) -> watch::Receiver<Arc<Directory>> {
        self.directory.clone()
    }

    /// Hands over what was admitted. The outcome follows, at the latest after the batch deadline. What a client sent by
    /// itself waits for its stream's turn first; an agent's batches are bounded by its call.
    pub async fn submit(
        &self,
        queue: QueueId,
        load: Load,
        records: usize,
        permit: Permit,
    ) -> oneshot::Receiver<Outcome> {
        let (sender, outcome) = oneshot::channel();
        let deadline = Instant::now() + self.batch_deadline;
        let place = match load {
            Load::Batch(_) => None,
            Load::Gathered(_) | Load::Keyed { .. } => {
                let places = 1 + permit.bytes() / PLACE_BYTES;
                match timeout_at(deadline, self.under_way.turn_of(queue, places)).await {
                    Ok(place) => Some(place),
                    Err(_) => {
                        tell(sender, Err(crowded()));
                        return outcome;
                    }
                }
            }
        };
        if let Err(refused) = self.inbox.send(Message { queue, load, records, permit, place, deadline, sender }).await {
            tell(refused.0.sender, Err(closing()));
        }
        outcome
    }
}

/// What is said when the gateway is going down.
pub fn closing() -> Refusal {
    Refusal::new(RefusalReason::Unavailable, "gateway", "the gateway is going down; send it again")
}

fn crowded() -> Refusal {
    let message = "the stream has too many requests under way; send again later, or more records in each";
    Refusal::new(RefusalReason::QueueFull, "queue", message)
}

/// The owner of all lanes.
pub struct Dispatcher<P> {
    inbox: mpsc::Receiver<Message>,
    config: ConfigWatch,
    directory: watch::Sender<Arc<Directory>>,
    budget: Arc<Budget>,
    under_way: Arc<Turns>,
    book: Arc<FactBook>,
    clock: Arc<dyn Clock>,
    start: Start,
    schedule: Schedule,
    slice: Duration,
    /// Of the settings: as long as the policy does not say.
    started_with: (usize, Duration),
    batch_deadline: Duration,
    outstanding_bytes_max: usize,
    /// Of the keys of all streams together.
    key_bytes_max: usize,
    started: Instant,
    slices: u64,
    producers: Vec<Producer<P>>,
    lanes: BTreeMap<QueueId, Lane>,
    next_queue: QueueId,
    /// Slots below the number of lanes that nobody has: the others keep theirs when streams come and go.
    free_slots: BTreeSet<usize>,
    flights: JoinSet<Landing>,
    dice: ChaCha8Rng,
}

struct Producer<P> {
    writer: Arc<P>,
    ring: Drr,
    outstanding_bytes: usize,
    measured: ::metrics::Gauge,
}

impl<P: Produce> Dispatcher<P> {
    /// A dispatcher with a lane for every stream of the present configuration, and its handle.
    pub fn new(
        settings: &GatewaySettings,
        writers: Vec<P>,
        config: ConfigWatch,
        book: Arc<FactBook>,
        mut dice: ChaCha8Rng,
    ) -> (Self, Handle) {
        let (sender, inbox) = mpsc::channel(INBOX_MESSAGES_MAX);
        let (directory, directory_reader) = watch::channel(Arc::default());
        let budget = Budget::new(settings.gateway_bytes_max, settings.queue_bytes_floor);
        let under_way = Turns::new(UNDER_WAY_MAX, UNDER_WAY_FLOOR);
        let nonce: u128 = dice.random();
        let producer = |(number, writer)| {
            let (writer, measured) = (Arc::new(writer), metrics::outstanding_bytes(number));
            Producer { writer, ring: Drr::default(), outstanding_bytes: 0, measured }
        };
        let producers: Vec<_> = writers.into_iter().enumerate().map(producer).collect();
        let mut dispatcher = Self {
            inbox,
            config,
            directory,
            budget: Arc::clone(&budget),
            under_way: Arc::clone(&under_way),
            book,
            clock: Arc::clone(&settings.clock),
            start: Start { nonce },
            schedule: Schedule::new(producers.len(), settings.producers_per_queue, nonce as u64),
            slice: settings.slice,
            started_with: (settings.producers_per_queue, settings.slice),
            batch_deadline: settings.batch_deadline,
            outstanding_bytes_max: settings.producer_outstanding_bytes_max,
            key_bytes_max: settings.gateway_bytes_max,
            started: Instant::now(),
            slices: 0,
            producers,
            lanes: BTreeMap::new(),
            next_queue: 0,
            free_slots: BTreeSet::new(),
            flights: JoinSet::new(),
            dice,
        };
        dispatcher.follow_config();
        let (access, batch_deadline) = (settings.access, settings.batch_deadline);
        (dispatcher, Handle { inbox: sender, directory: directory_reader, access, budget, under_way, batch_deadline })
    }

    /// Runs until the last handle is gone and nothing is queued or in flight.
    pub async fn run(mut self) {
        // Rests, turns, deadlines, and changes of the configuration: to wait for those would cost something each time.
        let mut tick = tokio::time::interval(turns::LOOK);
        tick.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        let mut open = true;
        while open || self.lanes.values().any(|lane| !lane.is_idle()) {
            tokio::select! {
                // Rare things first; landings are bounded by what is outstanding, and make room for what comes.
                biased;
                due = tick.tick() => {
                    self.under_way.adjust(due.elapsed());
                    self.look_around();
                }
                Some(landing) = self.flights.join_next() => match landing {
                    Ok(landing) => self.land(landing),
                    Err(broken) => std::panic::resume_unwind(broken.into_panic()),
                },
                message = self.inbox.recv(), if open => match message {
                    Some(message) => self.accept(message),
                    None => open = false,
                },
            }
        }
        self.lanes.values().filter_map(|lane| lane.source.end(lane.handle.id())).for_each(|fact| self.book.put(fact));
    }

    /// Queues what a door has admitted.
    fn accept(&mut self, message: Message) {
        let Message { queue, load, records, permit, place, deadline, sender } = message;
        let Some(lane) = self.lanes.get_mut(&queue).filter(|lane| !lane.closing) else {
            tell(sender, Err(admit::deleted_stream("queue")));
            return;
        };
        let (cargo, body_bytes, answer) = match load {
            Load::Batch(batch) => {
                let bytes = batch.body_bytes();
                (Cargo::Batch(Arc::new(batch)), bytes, Answer::Sender(sender))
            }
            Load::Gathered(gathered) => {
                let bytes = gathered.body_bytes();
                (Cargo::Parts(vec![gathered]), bytes, Answer::Sender(sender))
            }
            Load::Keyed { key, birth_minutes, body_hash, mut gathered } => {
                let asked = KeyedLook { key: &key, body_hash, birth_minutes, now_ms: self.clock.now_ms() };
                let Some(birth_minutes) = lane.look(asked, sender) else { return };
                let incarnation = lane.handle.config.incarnation;
                let source = key.source(birth_minutes, incarnation, &body_hash);
                let (bytes, length) = (gathered.body_bytes(), gathered.end());
                gathered.push(Kind::End, length, None, b"");
                // The end is a record at least.
                let Some(batch) = gathered.take(lane.handle.id(), incarnation, source) else { return };
                (Cargo::Batch(Arc::new(batch)), bytes, Answer::Key { key, source, length })
            }
        };
        let rider = Rider { records: records as u64, permit, _place: place, answer };
        lane.queue.push(cargo, rider, admit::cost(body_bytes, records), deadline);
        crash::point("gateway.batch.queued");
        self.wake(queue);
    }

    /// Puts a lane into the rings of its producers and lets them send.
    fn wake(&mut self, queue: QueueId) {
        let Some(lane) = self.lanes.get(&queue) else { return };
        let weight = lane.handle.config.spec.priority.weight();
        let takers: Vec<usize> = lane.binding.takers().collect();
        for producer in takers {
            self.producers[producer].ring.activate(queue, weight);
            self.fill(producer);
        }
    }

    /// Sends on `producer` until it has enough outstanding or nobody has anything for it.
    fn fill(&mut self, number: usize) {
        let now = Instant::now();
        let producer = &mut self.producers[number];
        while producer.outstanding_bytes < self.outstanding_bytes_max {
            let ready = |queue| self.lanes.get(&queue).and_then(|lane: &Lane| lane.ready(number, now));
            let Some(queue) = producer.ring.next(ready) else { break };
            let Some(lane) = self.lanes.get_mut(&queue) else { continue };
            let head_bytes = lane.queue.head_bytes().unwrap_or(0);
            let Some((route, parcel)) = lane.take(queue, number, self.clock.now_minutes()) else { continue };
            producer.ring.charge(queue, parcel.bytes - head_bytes);
            producer.outstanding_bytes += parcel.bytes;
            self.flights.spawn(fly(Arc::clone(&producer.writer), route, parcel));
        }
    }

    /// Takes back a parcel that the journal has answered.
    fn land(&mut self, landing: Landing) {
        let Landing { queue, producer, parcel, result } = landing;
        self.producers[producer].outstanding_bytes -= parcel.bytes;
        let Some(lane) = self.lanes.get_mut(&queue) else { return };
        lane.landed(producer, parcel.bytes);
        let now = Instant::now();
        match result {
            Ok(appended) => {
                lane.recover();
                crash::point("gateway.batch.produced");
                deliver(lane, parcel, appended, &self.book);
            }
            Err(refusal) if passes(&refusal) && in_time(parcel.deadline, now) => {
                metrics::retried(lane.handle.id());
                lane.rest(now, self.batch_deadline, &mut self.dice);
                lane.queue.put_back(parcel);
            }
            Err(refusal) if passes(&refusal) => {
                let refusal = given_up(lane.handle.id(), &refusal);
                refuse(lane, parcel, &refusal, &self.book);
            }
            Err(refusal) => refuse(lane, parcel, &refusal, &self.book),
        }
        lane.end_turn(now, self.batch_deadline);
        self.wake(queue);
        self.fill(producer);
    }

    /// What time brings: a changed configuration, slices, ended turns and rests, deadlines, lanes that have drained.
    fn look_around(&mut self) {
        // Asked of the value, and not of the channel: whoever changed it may be gone.
        if self.config.borrow().has_changed() {
            self.follow_config();
        }
        let now = Instant::now();
        self.begin_slice(now);
        self.producers.iter().for_each(|producer| producer.measured.set(producer.outstanding_bytes as f64));
        let waiting: Vec<QueueId> = self.lanes.keys().copied().collect();
        for queue in waiting {
            let Some(lane) = self.lanes.get_mut(&queue) else { continue };
            lane.end_turn(now, self.batch_deadline);
            for parcel in lane.queue.take_overdue(now) {
                let late = Refusal::new(RefusalReason::Unavailable, "queue", "its turn did not come in time");
                let refusal = given_up(lane.handle.id(), &late);
                refuse(lane, parcel, &refusal, &self.book);
            }
            if lane.closing && lane.is_idle() {
                self.drop_lane(queue);
            } else if !lane.queue.is_empty() {
                self.wake(queue);
            }
        }
    }

    fn begin_slice(&mut self, now: Instant) {
        let slices = (now - self.started).as_millis() / self.slice.as_millis().max(1);
        if slices as u64 != self.slices {
            self.slices = slices as u64;
            self.bind_anew(now);
        }
    }

    /// Follows the gateways' policy. Bindings turn as at the beginning of a slice.
    fn follow_policy(&mut self, policy: GatewayPolicy) {
        let (per_queue, slice) = self.started_with;
        let slice = policy.slice_seconds.map_or(slice, Duration::from_secs);
        let changed = self.schedule.set_per_queue(policy.producers_per_queue.unwrap_or(per_queue));
        if changed || slice != self.slice {
            self.slice = slice;
            self.bind_anew(Instant::now());
        }
    }

    fn bind_anew(&mut self, now: Instant) {
        for lane in self.lanes.values_mut() {
            lane.binding.begin_turn(self.schedule.producers_of(lane.slot, self.slices), now);
        }
    }

    fn drop_lane(&mut self, queue: QueueId) {
        let Some(lane) = self.lanes.remove(&queue) else { return };
        self.free_slots.insert(lane.slot);
        if let Some(fact) = lane.source.end(lane.handle.id()) {
            self.book.put(fact);
        }
        info!(stream = %lane.handle.id(), "the deleted stream's queue has drained");
    }

    /// Makes the lanes what the configuration says, and publishes them.
    fn follow_config(&mut self) {
        let snapshot = Arc::clone(&self.config.borrow_and_update());
        self.follow_policy(snapshot.gateways);
        for (queue, lane) in &mut self.lanes {
            let now = snapshot
                .streams
                .get(lane.handle.id())
                .filter(|config| config.incarnation == lane.handle.config.incarnation);
            if now.is_none() && !lane.closing {
                lane.closing = true;
                self.budget.close(*queue);
            }
        }
        let open = self.lanes.iter().filter(|(_, lane)| !lane.closing);
        let mut known: BTreeMap<StreamId, QueueId> =
            open.map(|(queue, lane)| (lane.handle.id().clone(), *queue)).collect();
        let tokens = self.directory.borrow().tokens_of(&snapshot);
        let mut directory = Directory { tokens, ..Directory::default() };
        for (id, config) in &snapshot.streams {
            let queue = known.remove(id);
            let old = queue.and_then(|queue| self.lanes.get(&queue)).map(|lane| Arc::clone(&lane.handle));
            let handle = match old {
                Some(old) if old.config == *config => old,
                old => self.open_lane(queue, config, old.as_deref()),
            };
            directory.streams.insert(id.clone(), handle);
        }
        let key_bytes_max = IDEMPOTENCY_BYTES_MAX.min(self.key_bytes_max / directory.streams.len().max(1));
        self.lanes.values_mut().for_each(|lane| lane.set_key_bytes_max(key_bytes_max));
        self.directory.send_replace(Arc::new(directory));
    }

    /// Makes a lane, or gives the one of `queue` its changed configuration.
    fn open_lane(
        &mut self,
        queue: Option<QueueId>,
        config: &stream::config::StreamConfig,
        old: Option<&StreamHandle>,
    ) -> Arc<StreamHandle> {
        let new_queue = self.next_queue;
        let queue = queue.unwrap_or(new_queue);
        self.budget.open(queue, admit::scope(&config.spec.id), config.spec.limits.queue_bytes_max);
        let limit = config.spec.limits.rate;
        let rates = old.map(|old| Arc::clone(&old.rates)).filter(|rates| rates.limit() == limit);
        let rates = rates.unwrap_or_else(|| Arc::new(Rates::new(admit::scope(&config.spec.id), limit)));
        let flow = old.map(|old| Arc::clone(&old.flow)).unwrap_or_default();
        let tarpit = old.map(|old| Arc::clone(&old.tarpit)).unwrap_or_default();
        let handle = Arc::new(StreamHandle { queue, config: config.clone(), rates, flow, tarpit });
        if let Some(lane) = self.lanes.get_mut(&queue) {
            lane.reconfigure(Arc::clone(&handle));
            return handle;
        }
        self.next_queue += 1;
        let slot = self.free_slots.pop_first().unwrap_or(self.lanes.len());
        let binding = Binding::new(self.schedule.producers_of(slot, self.slices));
        handle.bound_to(binding.producers().to_vec());
        let lane = Lane::new(Arc::clone(&handle), slot, binding, self.producers.len(), self.start);
        self.lanes.insert(queue, lane);
        handle
    }
}
