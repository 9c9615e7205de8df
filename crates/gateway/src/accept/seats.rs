//! The places at a door: a bounded number of connections, and who must leave when there are more. Pure but for its lock.
//!
//! ```text
//! new    no request has come yet          ┐ the client owes us something: one of these is let go when somebody new comes
//! idle   its last request is answered     ┘ to a full door, the new before the idle, whoever has waited longest first
//! busy   a request is under way             never let go; if all are busy, whoever comes waits
//! ```
//!
//! So connections that say nothing, however many, press out one another. A client that comes meanwhile has as long for
//! its request as it takes the others to come again in full number, and needs a round trip. nginx does the same when its
//! connections are used up; a bound per address would part neighbours behind one load balancer, and help against one
//! machine only.

use std::collections::{BTreeSet, HashMap};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use axum::body::{Body, HttpBody};
use axum::response::Response;
use http_body_util::BodyExt;
use tokio::sync::Notify;

/// The places of one door.
#[derive(Debug)]
pub struct Seats {
    max: usize,
    state: Mutex<State>,
    /// Somebody left, or began to wait.
    changed: Notify,
}

#[derive(Debug, Default)]
struct State {
    /// Counts seats and changes of state.
    clock: u64,
    seated: HashMap<u64, Seated>,
    /// Who can be let go, in that order.
    waiting: BTreeSet<(Wait, u64, u64)>,
}

#[derive(Debug)]
struct Seated {
    /// Requests under way.
    requests: usize,
    /// Its place among those who wait; none: it is busy.
    rank: Option<(Wait, u64, u64)>,
    gone: Arc<Notify>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Wait {
    New,
    Idle,
}

/// One connection's place; free again when dropped.
#[derive(Debug)]
pub struct Seat {
    seats: Arc<Seats>,
    id: u64,
    gone: Arc<Notify>,
}

/// A request under way on a connection, until dropped.
#[derive(Debug)]
pub struct UnderWay(Arc<Seat>);

/// Why a connection must end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Leave {
    /// Its place was given to somebody else.
    Shed,
    /// No request came in time.
    Silent,
}

impl Seats {
    /// A door with `max` places.
    pub fn new(max: usize) -> Arc<Self> {
        Arc::new(Self { max, state: Mutex::default(), changed: Notify::new() })
    }

    /// A place: a free one, or that of somebody who is let go for it. Waits while all are busy. One caller at a time.
    pub async fn take(self: &Arc<Self>) -> Seat {
        loop {
            if let Some(seat) = self.try_take() {
                return seat;
            }
            self.changed.notified().await;
        }
    }

    fn try_take(self: &Arc<Self>) -> Option<Seat> {
        let mut state = self.lock();
        if state.seated.len() >= self.max && !state.shed() {
            return None;
        }
        let (id, gone) = (state.tick(), Arc::new(Notify::new()));
        state.seated.insert(id, Seated { requests: 0, rank: None, gone: Arc::clone(&gone) });
        state.wait(id, Wait::New);
        Some(Seat { seats: Arc::clone(self), id, gone })
    }

    /// Lets the one go that would have to make place: the system has no connection left to give.
    pub fn shed(&self) {
        self.lock().shed();
    }

    /// Connections that have a place.
    pub fn taken(&self) -> usize {
        self.lock().seated.len()
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    fn tick(&mut self) -> u64 {
        self.clock += 1;
        self.clock
    }

    /// Lets one go, if any can be.
    fn shed(&mut self) -> bool {
        let Some((_, _, id)) = self.waiting.pop_first() else { return false };
        if let Some(seated) = self.seated.remove(&id) {
            seated.gone.notify_one();
        }
        true
    }

    fn wait(&mut self, id: u64, how: Wait) {
        let rank = (how, self.tick(), id);
        if let Some(seated) = self.seated.get_mut(&id) {
            seated.rank = Some(rank);
            self.waiting.insert(rank);
        }
    }

    fn begin(&mut self, id: u64) {
        let Some(seated) = self.seated.get_mut(&id) else { return };
        seated.requests += 1;
        if let Some(rank) = seated.rank.take() {
            self.waiting.remove(&rank);
        }
    }

    fn end(&mut self, id: u64) {
        let Some(seated) = self.seated.get_mut(&id) else { return };
        seated.requests -= 1;
        if seated.requests == 0 {
            self.wait(id, Wait::Idle);
        }
    }

    fn leave(&mut self, id: u64) {
        let left = self.seated.remove(&id);
        if let Some(rank) = left.and_then(|seated| seated.rank) {
            self.waiting.remove(&rank);
        }
    }

    fn is_new(&self, id: u64) -> bool {
        self.seated.get(&id).is_none_or(|seated| matches!(seated.rank, Some((Wait::New, _, _))))
    }
}

impl Seat {
    /// Notes that a request has come.
    pub fn begin(self: &Arc<Self>) -> UnderWay {
        self.seats.lock().begin(self.id);
        UnderWay(Arc::clone(self))
    }

    /// Ready when the connection must end; no request within `first_within` is a reason.
    pub async fn must_leave(&self, first_within: Duration) -> Leave {
        let silent = async {
            tokio::time::sleep(first_within).await;
            if !self.seats.lock().is_new(self.id) {
                std::future::pending::<()>().await;
            }
        };
        tokio::select! {
            () = self.gone.notified() => Leave::Shed,
            () = silent => Leave::Silent,
        }
    }
}

impl Drop for Seat {
    fn drop(&mut self) {
        self.seats.lock().leave(self.id);
        self.seats.changed.notify_one();
    }
}

impl UnderWay {
    /// The request is under way until its answer has been given: one that is whole already, or the end of a stream.
    pub fn until_answered(self, response: Response) -> Response {
        if response.body().size_hint().exact().is_some() {
            return response;
        }
        response.map(|body| {
            Body::new(body.map_frame(move |frame| {
                let _under_way = &self;
                frame
            }))
        })
    }
}

impl Drop for UnderWay {
    fn drop(&mut self) {
        self.0.seats.lock().end(self.0.id);
        self.0.seats.changed.notify_one();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Whether a connection was let go.
    async fn is_gone(seat: &Seat) -> bool {
        let left = tokio::time::timeout(Duration::from_millis(1), seat.must_leave(Duration::from_secs(60)));
        left.await == Ok(Leave::Shed)
    }

    #[tokio::test(start_paused = true)]
    async fn the_silent_make_place_and_the_busy_stay() {
        let seats = Seats::new(3);
        let [loris, idle, busy] = [(); 3].map(|()| Arc::new(seats.try_take().unwrap()));
        drop(idle.begin());
        let request = busy.begin();
        let second = Arc::new(seats.try_take().unwrap());
        assert!(is_gone(&loris).await && !is_gone(&idle).await && !is_gone(&busy).await);
        let second_request = second.begin();
        let third = Arc::new(seats.try_take().unwrap());
        assert!(is_gone(&idle).await, "no new one was left");
        let third_request = third.begin();
        assert!(seats.try_take().is_none(), "all are busy");
        drop((request, second_request));
        drop(busy.begin());
        let _fourth = seats.try_take().unwrap();
        assert!(is_gone(&second).await && !is_gone(&busy).await, "whoever has been idle for longest goes first");
        drop((loris, idle, second, third_request));
        assert_eq!(seats.taken(), 3, "who was let go does not leave twice");
    }

    #[tokio::test(start_paused = true)]
    async fn whoever_comes_to_busy_clients_waits_for_one_of_them() {
        let seats = Seats::new(1);
        let only = Arc::new(seats.take().await);
        let request = only.begin();
        let mut next = std::pin::pin!(seats.take());
        assert!(tokio::time::timeout(Duration::from_secs(1), next.as_mut()).await.is_err());
        drop(request);
        let next = next.await;
        assert!(is_gone(&only).await && seats.taken() == 1);
        assert_eq!(next.must_leave(Duration::from_secs(5)).await, Leave::Silent);
    }

    #[tokio::test(start_paused = true)]
    async fn an_answer_that_goes_on_keeps_its_connection_busy() {
        let seats = Seats::new(1);
        let seat = Arc::new(seats.try_take().unwrap());
        let whole = seat.begin().until_answered(Response::new(Body::from("whole")));
        assert_eq!(whole.body().size_hint().exact(), Some(5));
        let (sender, frames) = tokio::sync::mpsc::channel::<Result<&str, std::io::Error>>(1);
        let stream = Body::from_stream(tokio_stream::wrappers::ReceiverStream::new(frames));
        let answer = seat.begin().until_answered(Response::new(stream));
        assert!(seats.try_take().is_none());
        drop((sender, answer));
        assert!(seats.try_take().is_some());
    }
}
