//! The one memory budget of a gateway. Whoever reads, queues or sends a stream's bytes holds a permit for them from
//! before the first byte is read until the outcome is known; what finds no room is refused at the door.
//!
//! A stream holds at most its own `queue_bytes_max`. Of that, bytes up to the floor are always its own; bytes beyond
//! the floor come from the room that all share. The floors together take at most half of the budget: with many streams
//! each floor shrinks, so that the total stays bounded.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use stream::wire::{Refusal, RefusalReason};

use crate::admit::deleted_stream;

/// A queue, and a stream's account in the budget. Never used twice.
pub type QueueId = u64;

/// The budget.
#[derive(Debug)]
pub struct Budget {
    state: Mutex<State>,
}

#[derive(Debug)]
struct State {
    bytes_max: usize,
    floor_bytes_wanted: usize,
    floor_bytes: usize,
    shared_held: usize,
    accounts: HashMap<QueueId, Account>,
}

#[derive(Debug)]
struct Account {
    scope: String,
    queue_bytes_max: usize,
    held: usize,
    open: bool,
}

/// Bytes that a stream holds; given back when dropped.
#[derive(Debug)]
pub struct Permit {
    budget: Arc<Budget>,
    queue: QueueId,
    bytes: usize,
}

impl Budget {
    /// A budget of `bytes_max` in all, of which each stream has `floor_bytes` for itself while they fit.
    pub fn new(bytes_max: usize, floor_bytes: usize) -> Arc<Self> {
        let (floor_bytes_wanted, accounts) = (floor_bytes, HashMap::new());
        let state = State { bytes_max, floor_bytes_wanted, floor_bytes, shared_held: 0, accounts };
        Arc::new(Self { state: Mutex::new(state) })
    }

    /// Opens an account, or changes its limit. `scope` is what its refusals name.
    pub fn open(&self, queue: QueueId, scope: String, queue_bytes_max: usize) {
        let mut state = self.lock();
        let held = state.accounts.get(&queue).map_or(0, |account| account.held);
        state.accounts.insert(queue, Account { scope, queue_bytes_max, held, open: true });
        state.share_out();
    }

    /// Closes an account: it takes nothing more, and goes when its last byte is given back.
    pub fn close(&self, queue: QueueId) {
        let mut state = self.lock();
        if let Some(account) = state.accounts.get_mut(&queue) {
            account.open = false;
        }
        state.forget_if_done(queue);
    }

    /// A permit for `bytes` of `queue`.
    pub fn reserve(self: &Arc<Self>, queue: QueueId, bytes: usize) -> Result<Permit, Refusal> {
        let mut permit = Permit { budget: Arc::clone(self), queue, bytes: 0 };
        permit.resize(bytes)?;
        Ok(permit)
    }

    /// Bytes held for `queue` now.
    pub fn held(&self, queue: QueueId) -> usize {
        self.lock().accounts.get(&queue).map_or(0, |account| account.held)
    }

    /// Bytes that `queue` would still take within its own limit.
    pub fn room(&self, queue: QueueId) -> usize {
        let state = self.lock();
        state.accounts.get(&queue).map_or(0, |account| account.queue_bytes_max.saturating_sub(account.held))
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Permit {
    /// What it is for.
    pub fn bytes(&self) -> usize {
        self.bytes
    }

    /// Makes it a permit for `bytes`. Refused, it stays as it is; shrinking always succeeds.
    pub fn resize(&mut self, bytes: usize) -> Result<(), Refusal> {
        if bytes == self.bytes {
            return Ok(());
        }
        self.budget.lock().change(self.queue, self.bytes, bytes)?;
        self.bytes = bytes;
        Ok(())
    }

    /// Makes it a permit for at least `bytes`.
    pub fn grow(&mut self, bytes: usize) -> Result<(), Refusal> {
        if bytes > self.bytes { self.resize(bytes) } else { Ok(()) }
    }
}

impl Drop for Permit {
    fn drop(&mut self) {
        let mut state = self.budget.lock();
        state.set_held(self.queue, |held| held.saturating_sub(self.bytes));
        state.forget_if_done(self.queue);
    }
}

impl State {
    fn change(&mut self, queue: QueueId, from: usize, to: usize) -> Result<(), Refusal> {
        let Some(account) = self.accounts.get(&queue) else { return Err(deleted_stream("queue")) };
        let held = account.held + to - from;
        if to > from {
            if !account.open {
                return Err(deleted_stream(&account.scope));
            }
            let others = account.held - from;
            if others > 0 && held > account.queue_bytes_max {
                let message =
                    format!("the queue holds {} of {} bytes; send again later", others, account.queue_bytes_max);
                return Err(Refusal::new(RefusalReason::QueueFull, account.scope.clone(), message));
            }
            let floor = self.floor_bytes;
            let shared = self.shared_held - account.held.saturating_sub(floor) + held.saturating_sub(floor);
            let shared_max = self.bytes_max - self.floor_bytes * self.accounts.len();
            if held > floor && shared > shared_max {
                let message =
                    format!("all streams together hold {shared} of {shared_max} shared bytes; send again later");
                return Err(Refusal::new(RefusalReason::QueueFull, "gateway memory", message));
            }
        }
        self.set_held(queue, |_| held);
        Ok(())
    }

    fn set_held(&mut self, queue: QueueId, to: impl FnOnce(usize) -> usize) {
        let Some(account) = self.accounts.get_mut(&queue) else { return };
        let before = account.held.saturating_sub(self.floor_bytes);
        account.held = to(account.held);
        self.shared_held = self.shared_held - before + account.held.saturating_sub(self.floor_bytes);
    }

    fn forget_if_done(&mut self, queue: QueueId) {
        if self.accounts.get(&queue).is_some_and(|account| !account.open && account.held == 0) {
            self.accounts.remove(&queue);
            self.share_out();
        }
    }

    /// The floor changes with the number of streams, and with it what counts as shared.
    fn share_out(&mut self) {
        let fair = self.bytes_max / 2 / self.accounts.len().max(1);
        self.floor_bytes = self.floor_bytes_wanted.min(fair);
        self.shared_held = self.accounts.values().map(|account| account.held.saturating_sub(self.floor_bytes)).sum();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn budget(streams: u64, bytes_max: usize, floor: usize, queue: usize) -> Arc<Budget> {
        let budget = Budget::new(bytes_max, floor);
        (0..streams).for_each(|id| budget.open(id, format!("stream {id}"), queue));
        budget
    }

    #[test]
    fn the_floor_is_there_whatever_the_others_hold() {
        let budget = budget(3, 1000, 100, 800);
        let greedy: Vec<_> = (0..8).map(|_| budget.reserve(0, 100).unwrap()).collect();
        let refusal = budget.reserve(0, 1).unwrap_err();
        assert_eq!((refusal.reason, refusal.scope.as_str()), (RefusalReason::QueueFull, "stream 0"));
        let mut second = budget.reserve(1, 100).unwrap();
        assert_eq!(second.resize(101).unwrap_err().scope, "gateway memory");
        let third = budget.reserve(2, 100).unwrap();
        drop(greedy);
        assert_eq!(second.resize(500), Ok(()));
        drop((second, third));
        assert_eq!((budget.held(0), budget.held(1), budget.held(2)), (0, 0, 0));
    }

    #[test]
    fn an_empty_queue_takes_one_batch_however_small_its_limit() {
        let budget = budget(1, 10_000, 100, 50);
        let only = budget.reserve(0, 60).unwrap();
        assert!(budget.reserve(0, 1).is_err());
        drop(only);
    }

    #[test]
    fn a_closed_account_takes_nothing_and_goes_with_its_last_byte() {
        let budget = budget(2, 1000, 100, 500);
        let permit = budget.reserve(0, 10).unwrap();
        budget.close(0);
        assert_eq!(budget.reserve(0, 1).unwrap_err().reason, RefusalReason::UnknownStream);
        drop(permit);
        assert_eq!(budget.lock().accounts.len(), 1);
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(128))]
        #[test]
        fn the_total_is_bounded_and_all_comes_back(
            steps in proptest::collection::vec((0..6_u64, 0..400_usize, any::<bool>()), 1..120), streams in 1..6_u64,
        ) {
            let budget = budget(streams, 1000, 150, 400);
            let mut permits = Vec::new();
            for (queue, bytes, release) in steps {
                if release && !permits.is_empty() {
                    permits.swap_remove(bytes % permits.len());
                } else if let Ok(permit) = budget.reserve(queue, bytes) {
                    permits.push(permit);
                }
                let held: Vec<usize> = (0..streams).map(|id| budget.held(id)).collect();
                prop_assert!(held.iter().sum::<usize>() <= 1000, "{held:?}");
                prop_assert!(held.iter().all(|held| *held <= 400), "{held:?}");
            }
            permits.clear();
            prop_assert_eq!(budget.lock().shared_held, 0);
        }
    }
}
