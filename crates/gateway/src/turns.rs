//! Whose request goes on next. To read, to decompress and to parse a body takes a thread, before any queue has a say, and
//! each request under way costs its steps: a stream that keeps 128 connections busy would have every thread always. So
//! there are only so many places at a time, and who waits for one is served stream by stream in turn. Alone a stream may
//! have all; beside others that have sent lately no more than an allowance, so that there is a place for them at once.
//!
//! Two things are handed out so: threads for pieces of bodies (nobody holds one while he waits for his client), of which
//! one is always left; and requests on their way through the queues to the journal, whose allowance falls by half
//! whenever the machine does not keep up, and rises one by one while it does ([`Turns::adjust`]): what a flood gets is
//! what the others leave, and it waits at the door. A heavy request counts as several, and rests afterwards. Fair
//! queueing with shares of concurrency is what Kubernetes does before its API (KEP-1040); the rise and fall is TCP's.
//!
//! Bounded by the requests under way: each waits for one turn at a time.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::future::pending;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::Duration;

use stream::background;
use tokio::runtime::Handle;
use tokio::sync::oneshot;
use tokio::task::spawn_blocking;
use tokio::time::{Instant, MissedTickBehavior, interval, sleep};

use crate::budget::QueueId;

/// Who has sent within so long, or twice that, counts as one who sends.
const LATELY: Duration = Duration::from_secs(1);
/// So many of a stream wait for a place at a time if it is a flood.
const FLOOD: usize = 16;
/// Looks that must have found the machine in time before an allowance rises.
const IN_TIME: u32 = 10;
/// The longest rest after a heavy turn: a megabyte takes some 6 ms of two cores.
const REST_MAX: Duration = Duration::from_millis(20);
/// How often it is looked whether a thread is late.
pub const LOOK: Duration = Duration::from_millis(20);
/// Who comes to a look later than this is short of time. Timers are a millisecond late by themselves.
const LATE: Duration = Duration::from_millis(2);

/// Places, and who waits for one.
#[derive(Debug)]
pub struct Turns {
    places: usize,
    floor: usize,
    /// Whether a door's thread was late since the allowance was looked at.
    is_late: AtomicBool,
    state: Mutex<State>,
}

/// Places that one stream may have beside others.
#[derive(Clone, Copy, Debug)]
struct Allowance {
    places: usize,
    /// Looks since it changed that found the machine in time.
    in_time: u32,
}

#[derive(Debug)]
struct State {
    free: usize,
    /// Whether anybody has had to wait since the allowance was looked at for a change.
    is_wanted: bool,
    /// Places that a stream has now, as they count.
    held: BTreeMap<QueueId, usize>,
    /// Streams with somebody waiting, in the order of their turns.
    ring: VecDeque<QueueId>,
    waiting: BTreeMap<QueueId, VecDeque<Waiting>>,
    lately: Lately,
    allowance: Allowance,
    /// When a look was last late.
    late_at: Option<Instant>,
}

/// Somebody who waits for a place.
#[derive(Debug)]
struct Waiting {
    /// What it counts as.
    places: usize,
    sender: oneshot::Sender<Turn>,
}

/// How many streams have sent lately.
#[derive(Debug)]
struct Lately {
    since: Instant,
    now: BTreeSet<QueueId>,
    before: usize,
}

/// A place; the next one's when dropped.
#[derive(Debug)]
pub struct Turn {
    of: Option<(Arc<Turns>, QueueId)>,
    /// What it counts as.
    places: usize,
    /// When it began, if it is a heavy one.
    heavy_since: Option<Instant>,
    is_flood: bool,
}

impl Turns {
    /// At most `places` at a time; of one stream, while others send, an allowance that begins at `floor`.
    pub fn new(places: usize, floor: usize) -> Arc<Self> {
        let places = places.max(1);
        let lately = Lately { since: Instant::now(), now: BTreeSet::new(), before: 0 };
        let (held, ring, waiting) = (BTreeMap::new(), VecDeque::new(), BTreeMap::new());
        let floor = floor.clamp(1, places);
        let allowance = Allowance { places: floor, in_time: 0 };
        let state = State { free: places, is_wanted: false, held, ring, waiting, lately, allowance, late_at: None };
        Arc::new(Self { places, floor, is_late: AtomicBool::new(false), state: Mutex::new(state) })
    }

    /// A place for `queue`, when its turn has come.
    pub async fn turn(self: &Arc<Self>, queue: QueueId) -> Turn {
        self.turn_of(queue, 1).await
    }

    /// A place for `queue` that counts as so many of its allowance. What is more than that is done when the stream has
    /// nothing else under way.
    pub async fn turn_of(self: &Arc<Self>, queue: QueueId, places: usize) -> Turn {
        let waiting = {
            let mut state = lock(&self.state);
            state.lately.note(queue, Instant::now());
            let most = self.most(&state);
            // Nobody comes before those of his own stream who wait already.
            if !state.waiting.contains_key(&queue) && state.takes(queue, places, most) {
                return self.began(queue, places, false);
            }
            state.wait(queue, places)
        };
        match waiting.await {
            Ok(turn) => turn,
            // Nobody drops a sender that waits but together with these turns, which we hold.
            Err(_) => pending().await,
        }
    }

    fn began(self: &Arc<Self>, queue: QueueId, places: usize, is_flood: bool) -> Turn {
        let heavy_since = (places > 1).then(Instant::now);
        Turn { of: Some((Arc::clone(self), queue)), places, heavy_since, is_flood }
    }

    /// How long the place of a heavy turn that has ended is kept: as long again as it took, at most [`REST_MAX`], so that what
    /// has waited for it goes on first; where the machine keeps up, or nobody else sends, not at all.
    fn rest(&self, since: Instant) -> Option<Duration> {
        let (state, now) = (lock(&self.state), Instant::now());
        let is_short = state.late_at.is_some_and(|late_at| now - late_at < LATELY);
        (is_short && self.most(&state) < self.places).then(|| (now - since).min(REST_MAX))
    }

    /// A turn is over.
    fn end(self: &Arc<Self>, queue: QueueId, places: usize) {
        let mut state = lock(&self.state);
        state.give_back(queue, places);
        self.pass_on(&mut state);
    }

    /// Places that one stream may have now.
    fn most(&self, state: &State) -> usize {
        if state.lately.count() <= 1 { self.places } else { state.allowance.places }
    }

    /// A look that comes so late. If it or a door's thread is short of time, the allowance falls by half. After a while in
    /// time it rises by one, or falls by one if nobody has had to wait meanwhile: one that nobody has tried says nothing.
    pub fn adjust(self: &Arc<Self>, late: Duration) {
        let is_late = self.is_late.swap(false, Ordering::Relaxed) || late > LATE;
        let mut state = lock(&self.state);
        if is_late {
            state.late_at = Some(Instant::now());
        }
        let is_wanted = state.is_wanted || !state.ring.is_empty();
        state.allowance = state.allowance.after(is_late, is_wanted, self.floor, self.places);
        state.is_wanted = is_wanted && state.allowance.in_time > 0;
        self.pass_on(&mut state);
    }

    /// Gives free places to whoever is next.
    fn pass_on(self: &Arc<Self>, state: &mut State) {
        let most = self.most(state);
        while let Some((queue, Waiting { places, sender })) = state.next(most) {
            let is_flood = state.waiting.get(&queue).is_some_and(|line| line.len() >= FLOOD) && most < self.places;
            let turn = self.began(queue, places, is_flood);
            if let Err(mut unheard) = sender.send(turn) {
                // It waits no longer. Given back here, because the turn's own end would ask for the lock that is held.
                unheard.of = None;
                state.give_back(queue, places);
            }
        }
    }
}

/// Looks whether the thread that this runs on is late, as long as the turns are there. A thread that is busy with the
/// requests of one stream delays the others that come to it, whatever else the machine has to spare.
pub async fn watch_thread(turns: Weak<Turns>) {
    let mut look = interval(LOOK);
    look.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        let late = look.tick().await.elapsed();
        let Some(turns) = turns.upgrade() else { return };
        if late > LATE {
            turns.is_late.store(true, Ordering::Relaxed);
        }
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Allowance {
    fn after(self, is_late: bool, is_wanted: bool, floor: usize, most: usize) -> Self {
        match (is_late, self.in_time + 1) {
            (true, _) => Self { places: (self.places / 2).max(floor), in_time: 0 },
            (false, IN_TIME..) if is_wanted => Self { places: (self.places + 1).min(most), in_time: 0 },
            (false, IN_TIME..) => Self { places: (self.places - 1).max(floor), in_time: 0 },
            (false, in_time) => Self { in_time, ..self },
        }
    }
}

impl State {
    /// Gives `queue` a place that counts as so many, if there is one for it.
    fn takes(&mut self, queue: QueueId, places: usize, most: usize) -> bool {
        let held = self.held.entry(queue).or_default();
        let takes = self.free > 0 && (*held == 0 || *held + places <= most);
        if takes {
            *held += places;
            self.free -= 1;
        } else if *held == 0 {
            self.held.remove(&queue);
        }
        takes
    }

    fn give_back(&mut self, queue: QueueId, places: usize) {
        self.free += 1;
        if let Some(held) = self.held.get_mut(&queue) {
            *held -= places;
            if *held == 0 {
                self.held.remove(&queue);
            }
        }
    }

    fn wait(&mut self, queue: QueueId, places: usize) -> oneshot::Receiver<Turn> {
        let (sender, receiver) = oneshot::channel();
        self.is_wanted = true;
        let line = self.waiting.entry(queue).or_default();
        // Before any leaves the line: a stream stands in the ring once.
        if line.is_empty() {
            self.ring.push_back(queue);
        }
        // Those that wait no longer go now and then.
        if line.len() >= FLOOD && line.len().is_power_of_two() {
            line.retain(|waiting| !waiting.sender.is_closed());
        }
        line.push_back(Waiting { places, sender });
        receiver
    }

    /// Who has waited for longest among the streams whose turn it is, and now has a place.
    fn next(&mut self, most: usize) -> Option<(QueueId, Waiting)> {
        if self.free == 0 {
            return None;
        }
        for _ in 0..self.ring.len() {
            let queue = self.ring.pop_front()?;
            let places = self.waiting.get(&queue).and_then(VecDeque::front)?.places;
            if !self.takes(queue, places, most) {
                self.ring.push_back(queue);
                continue;
            }
            let line = self.waiting.get_mut(&queue)?;
            let next = line.pop_front()?;
            if line.is_empty() {
                self.waiting.remove(&queue);
            } else {
                self.ring.push_back(queue);
            }
            return Some((queue, next));
        }
        None
    }
}

impl Lately {
    /// `queue` sends.
    fn note(&mut self, queue: QueueId, now: Instant) {
        if now - self.since >= LATELY {
            self.before = if now - self.since < 2 * LATELY { self.now.len() } else { 0 };
            self.now.clear();
            self.since = now;
        }
        self.now.insert(queue);
    }

    /// How many send.
    fn count(&self) -> usize {
        self.before.max(self.now.len())
    }
}

impl Turn {
    /// Whether it is one of a flood's beside other streams: work that may take its time, so that theirs does not.
    pub fn is_flood(&self) -> bool {
        self.is_flood
    }

    /// Does a long piece of work in this place, on another thread: a flood's on one that gives way to the others.
    pub async fn work<T: Send + 'static>(self, work: impl FnOnce() -> T + Send + 'static) -> T {
        let is_flood = self.is_flood;
        let work = move || {
            let done = work();
            drop(self);
            done
        };
        let worked = if is_flood { background::run(work) } else { spawn_blocking(work) };
        match worked.await {
            Ok(done) => done,
            Err(broken) => match broken.try_into_panic() {
                Ok(panic) => std::panic::resume_unwind(panic),
                // The process is going down.
                Err(_) => pending().await,
            },
        }
    }
}

impl Drop for Turn {
    fn drop(&mut self) {
        let Some((turns, queue)) = self.of.take() else { return };
        let places = self.places;
        let rest = self.heavy_since.and_then(|since| turns.rest(since));
        match (rest, Handle::try_current()) {
            (Some(rest), Ok(runtime)) => drop(runtime.spawn(async move {
                sleep(rest).await;
                turns.end(queue, places);
            })),
            _ => turns.end(queue, places),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::atomic::{AtomicUsize, Ordering};

    #[tokio::test]
    async fn a_flood_lets_another_stream_in_after_one_piece() {
        let turns = Turns::new(1, 1);
        let held = turns.turn(0).await;
        let order = Arc::new(Mutex::new(Vec::new()));
        let wait = |queue| {
            let (turns, order) = (Arc::clone(&turns), Arc::clone(&order));
            async move {
                let _turn = turns.turn(queue).await;
                order.lock().unwrap().push(queue);
            }
        };
        let mut waiting = tokio::task::JoinSet::new();
        (0..20).for_each(|_| drop(waiting.spawn(wait(0))));
        tokio::task::yield_now().await;
        waiting.spawn(wait(1));
        tokio::task::yield_now().await;
        drop(held);
        waiting.join_all().await;
        let order = order.lock().unwrap();
        assert_eq!((order.len(), order.iter().position(|queue| *queue == 1)), (21, Some(1)));
    }

    #[tokio::test]
    async fn there_are_as_many_places_as_were_said_and_none_is_lost() {
        let (turns, working, most) = (Turns::new(2, 2), Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)));
        let piece = |queue| {
            let (turns, working, most) = (Arc::clone(&turns), Arc::clone(&working), Arc::clone(&most));
            async move {
                let work = move || {
                    most.fetch_max(working.fetch_add(1, Ordering::SeqCst) + 1, Ordering::SeqCst);
                    std::thread::yield_now();
                    working.fetch_sub(1, Ordering::SeqCst);
                };
                turns.turn(queue).await.work(work).await;
            }
        };
        let mut pieces = tokio::task::JoinSet::new();
        (0..200).for_each(|number| drop(pieces.spawn(piece(number % 3))));
        // Some give up while they wait.
        for _ in 0..20 {
            let _gone = tokio::time::timeout(std::time::Duration::ZERO, turns.turn(9)).await;
        }
        pieces.join_all().await;
        assert!(most.load(Ordering::SeqCst) <= 2);
        assert_eq!(lock(&turns.state).free, 2);
    }

    #[tokio::test(start_paused = true)]
    async fn beside_others_a_stream_has_its_part_at_most_and_alone_all() {
        let turns = Turns::new(8, 3);
        let at_once = async |queue| tokio::time::timeout(Duration::ZERO, turns.turn(queue)).await.ok();
        let fill = async |queue| {
            let mut held = Vec::new();
            while let Some(turn) = at_once(queue).await {
                held.push(turn);
            }
            held
        };
        let mut noisy = fill(0).await;
        assert_eq!(noisy.len(), 8, "nobody else sends");
        assert!(at_once(1).await.is_none());
        let quiet = tokio::spawn({
            let turns = Arc::clone(&turns);
            async move { turns.turn(1).await }
        });
        tokio::task::yield_now().await;
        noisy.pop();
        let quiet = quiet.await.unwrap();
        drop(noisy);
        let noisy = fill(0).await;
        assert_eq!(noisy.len(), 3, "the floor");
        drop(noisy);
        let noisy = fill(0).await;
        let more = (0..=FLOOD).map(|_| {
            let turns = Arc::clone(&turns);
            tokio::spawn(async move { turns.turn(0).await.is_flood() })
        });
        let more: Vec<_> = more.collect();
        tokio::task::yield_now().await;
        (0..3 * IN_TIME).for_each(|_| turns.adjust(LATE));
        drop(noisy);
        let mut floods = 0;
        for one in more {
            floods += usize::from(one.await.unwrap());
        }
        assert_eq!(floods, 1, "the last ones are no flood any more");
        assert_eq!(fill(0).await.len(), 6, "more was wanted, and the machine keeps up");
        turns.adjust(2 * LATE);
        assert_eq!(fill(0).await.len(), 3, "and does not");
        drop(quiet);
        tokio::time::advance(2 * LATELY).await;
        assert_eq!(fill(0).await.len(), 8, "the others have fallen silent");
        let state = lock(&turns.state);
        assert!(state.free == 8 && state.held.is_empty(), "{state:?}");
    }

    #[tokio::test(start_paused = true)]
    async fn what_needs_many_places_goes_alone_and_is_not_passed_by_its_own_stream() {
        let turns = Turns::new(16, 4);
        let at_once = async |queue, places| tokio::time::timeout(Duration::ZERO, turns.turn_of(queue, places)).await;
        let quiet = at_once(1, 1).await.unwrap();
        let small = at_once(0, 1).await.unwrap();
        let order = Arc::new(Mutex::new(Vec::new()));
        let mut line = tokio::task::JoinSet::new();
        for places in [9, 1] {
            let (turns, order) = (Arc::clone(&turns), Arc::clone(&order));
            line.spawn(async move {
                let _turn = turns.turn_of(0, places).await;
                order.lock().unwrap().push(places);
            });
            tokio::task::yield_now().await;
        }
        assert!(order.lock().unwrap().is_empty(), "beside the small one there is an allowance of three more");
        assert!(at_once(1, 3).await.is_ok(), "another stream has its own");
        drop((small, quiet));
        line.join_all().await;
        assert_eq!(*order.lock().unwrap(), [9, 1]);
        assert!(at_once(2, 1_000).await.is_ok(), "more than there are");
        let state = lock(&turns.state);
        assert!(state.free == 16 && state.held.is_empty(), "{state:?}");
    }

    #[tokio::test(start_paused = true)]
    async fn a_heavy_turn_rests_beside_others_where_the_machine_is_short_of_time() {
        let turns = Turns::new(16, 4);
        let again_after = async |worked: Duration| {
            let heavy = turns.turn_of(0, 9).await;
            tokio::time::sleep(worked).await;
            let ended = Instant::now();
            drop(heavy);
            drop(turns.turn_of(0, 9).await);
            ended.elapsed().as_millis() as u64
        };
        drop(turns.turn(1).await);
        assert_eq!(again_after(Duration::from_millis(7)).await, 0, "it keeps up");
        turns.adjust(2 * LATE);
        let rested = again_after(Duration::from_millis(7)).await;
        assert!((7..10).contains(&rested), "as long again: {rested} ms");
        drop(turns.turn(1).await);
        turns.adjust(2 * LATE);
        let rested = again_after(Duration::from_millis(300)).await;
        assert!((20..23).contains(&rested), "an append that took its time is no work: {rested} ms");
        tokio::time::sleep(2 * LATELY).await;
        turns.adjust(2 * LATE);
        assert_eq!(again_after(Duration::from_millis(7)).await, 0, "nobody else sends");
    }

    #[tokio::test]
    async fn no_place_is_lost_when_all_of_a_line_hang_up() {
        let turns = Turns::new(1, 1);
        let held = turns.turn(0).await;
        let line: Vec<_> = (0..FLOOD)
            .map(|_| {
                tokio::spawn({
                    let turns = Arc::clone(&turns);
                    async move { drop(turns.turn(1).await) }
                })
            })
            .collect();
        tokio::task::yield_now().await;
        line.iter().for_each(tokio::task::JoinHandle::abort);
        for hung_up in line {
            assert!(hung_up.await.unwrap_err().is_cancelled());
        }
        let last = tokio::spawn({
            let turns = Arc::clone(&turns);
            async move { drop(turns.turn(1).await) }
        });
        tokio::task::yield_now().await;
        drop(held);
        last.await.unwrap();
        let state = lock(&turns.state);
        assert!(state.free == 1 && state.ring.is_empty() && state.held.is_empty(), "{state:?}");
    }
}
