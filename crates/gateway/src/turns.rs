//! Whose bytes are worked on next at the doors. To read, to decompress and to parse a body takes a thread, before any queue
//! has a say: a stream that keeps 128 connections busy would have every thread always. So this work is done in pieces, only
//! as many at a time as there are places, and who waits for a place is served stream by stream in turn: whatever one
//! stream sends, another's piece waits for one of its pieces at most. Nobody holds a place while he waits for his client.
//!
//! Bounded by the requests under way: each waits for one turn at a time.

use std::collections::{HashMap, VecDeque};
use std::future::pending;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::oneshot;
use tokio::task::spawn_blocking;

use crate::budget::QueueId;

/// Places, and who waits for one.
#[derive(Debug)]
pub struct Turns {
    state: Mutex<State>,
}

#[derive(Debug)]
struct State {
    free: usize,
    /// Streams with somebody waiting, in the order of their turns.
    ring: VecDeque<QueueId>,
    waiting: HashMap<QueueId, VecDeque<oneshot::Sender<Turn>>>,
}

/// A place; the next one's when dropped.
#[derive(Debug)]
pub struct Turn(Option<Arc<Turns>>);

impl Turns {
    /// At most `places` pieces are worked on at a time.
    pub fn new(places: usize) -> Arc<Self> {
        let state = State { free: places.max(1), ring: VecDeque::new(), waiting: HashMap::new() };
        Arc::new(Self { state: Mutex::new(state) })
    }

    /// A place for a piece of work of `queue`'s, when its turn has come.
    pub async fn turn(self: &Arc<Self>, queue: QueueId) -> Turn {
        let waiting = {
            let mut state = self.lock();
            if state.free > 0 {
                state.free -= 1;
                return Turn(Some(Arc::clone(self)));
            }
            state.wait(queue)
        };
        match waiting.await {
            Ok(turn) => turn,
            // Nobody drops a sender that waits but together with these turns, which we hold.
            Err(_) => pending().await,
        }
    }

    fn pass_on(self: &Arc<Self>) {
        let mut state = self.lock();
        let mut turn = Turn(Some(Arc::clone(self)));
        while let Some(next) = state.next() {
            match next.send(turn) {
                Ok(()) => return,
                // It waits no longer.
                Err(back) => turn = back,
            }
        }
        turn.0 = None;
        state.free += 1;
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    fn wait(&mut self, queue: QueueId) -> oneshot::Receiver<Turn> {
        let (sender, receiver) = oneshot::channel();
        let line = self.waiting.entry(queue).or_default();
        if line.is_empty() {
            self.ring.push_back(queue);
        }
        line.push_back(sender);
        receiver
    }

    fn next(&mut self) -> Option<oneshot::Sender<Turn>> {
        let queue = self.ring.pop_front()?;
        let line = self.waiting.get_mut(&queue)?;
        let next = line.pop_front();
        if line.is_empty() {
            self.waiting.remove(&queue);
        } else {
            self.ring.push_back(queue);
        }
        next
    }
}

impl Turn {
    /// Does a long piece of work in this place, on a thread that may take its time.
    pub async fn work<T: Send + 'static>(self, work: impl FnOnce() -> T + Send + 'static) -> T {
        let worked = spawn_blocking(move || {
            let done = work();
            drop(self);
            done
        });
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
        if let Some(turns) = self.0.take() {
            turns.pass_on();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::atomic::{AtomicUsize, Ordering};

    #[tokio::test]
    async fn a_flood_lets_another_stream_in_after_one_piece() {
        let turns = Turns::new(1);
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
        let (turns, working, most) = (Turns::new(2), Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)));
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
        assert_eq!(turns.lock().free, 2);
    }
}
