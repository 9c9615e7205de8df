//! Which producers serve which queue, slice by slice. Pure.
//!
//! Each queue has a slot number and K places `slot * K .. slot * K + K`. N consecutive places are a *row*. In every
//! slice the places of a row are mapped onto the N producers by a permutation, so the load is even. N slices are a
//! *cycle*, in which a row goes through a Latin square: each place meets every producer once. Each row draws its square
//! anew for each cycle, so that two queues which share a producer in one slice share one in the next by chance only
//! (shuffle sharding in time). All queues that fit into the first row have producers of their own.
//!
//! A [`Binding`] is one queue's part: at the turn the producers that leave take nothing new, and those that come start
//! when nothing is in flight on the leaving ones, at the latest after the batch deadline.

use std::time::Duration;

use rand::SeedableRng;
use rand::rngs::ChaCha8Rng;
use rand::seq::SliceRandom;
use tokio::time::Instant;

/// Who may serve whom.
#[derive(Clone, Copy, Debug)]
pub struct Schedule {
    producers: usize,
    per_queue: usize,
    seed: u64,
}

impl Schedule {
    /// Bindings of at most `per_queue` (K) of `producers` (N), at least one of each; shuffled by `seed`.
    pub fn new(producers: usize, per_queue: usize, seed: u64) -> Self {
        let producers = producers.max(1);
        Self { producers, per_queue: per_queue.clamp(1, producers), seed }
    }

    /// At most `per_queue` (K) from now on. True if that is something new.
    pub fn set_per_queue(&mut self, per_queue: usize) -> bool {
        let before = std::mem::replace(&mut self.per_queue, per_queue.clamp(1, self.producers));
        before != self.per_queue
    }

    /// The producers of the queue at `slot` in `slice`: at least one, at most K, sorted.
    pub fn producers_of(&self, slot: usize, slice: u64) -> Vec<usize> {
        let first = slot * self.per_queue;
        let mut bound: Vec<usize> =
            (first..first + self.per_queue).map(|place| self.producer_at(place, slice)).collect();
        bound.sort_unstable();
        bound.dedup();
        bound
    }

    /// The row's square is the cyclic one with its slices and its producers shuffled.
    fn producer_at(&self, place: usize, slice: u64) -> usize {
        let n = self.producers;
        let (row, column) = (place / n, place % n);
        let (cycle, step) = (slice / n as u64, (slice % n as u64) as usize);
        let mut seed = [0; 32];
        seed[..8].copy_from_slice(&self.seed.to_le_bytes());
        seed[8..16].copy_from_slice(&(row as u64).to_le_bytes());
        seed[16..24].copy_from_slice(&cycle.to_le_bytes());
        let mut dice = ChaCha8Rng::from_seed(seed);
        let mut shuffled = || {
            let mut order: Vec<usize> = (0..n).collect();
            order.shuffle(&mut dice);
            order
        };
        let (steps, producers) = (shuffled(), shuffled());
        producers[(column + steps[step]) % n]
    }
}

/// The producers that one queue is bound to, and the turn that is under way.
#[derive(Clone, Debug)]
pub struct Binding {
    bound: Vec<usize>,
    turn: Option<Turn>,
}

#[derive(Clone, Debug)]
struct Turn {
    next: Vec<usize>,
    since: Instant,
}

impl Binding {
    /// A queue bound to `producers` from now on.
    pub fn new(producers: Vec<usize>) -> Self {
        Self { bound: producers, turn: None }
    }

    /// A slice begins in which the queue belongs to `next`. A turn that is still under way keeps its beginning, so that
    /// short slices cannot put it off.
    pub fn begin_turn(&mut self, next: Vec<usize>, now: Instant) {
        let since = self.turn.take().map_or(now, |turn| turn.since);
        if next != self.bound {
            self.turn = Some(Turn { next, since });
        }
    }

    /// Ends the turn if nothing is `in_flight` on the leaving producers, or the deadline has passed. True if it ended.
    pub fn end_turn(&mut self, in_flight: impl Fn(usize) -> bool, now: Instant, deadline: Duration) -> bool {
        let over = self.turn.as_ref().is_some_and(|turn| {
            let mut leaving = self.bound.iter().filter(|producer| !turn.next.contains(producer));
            now >= turn.since + deadline || !leaving.any(|producer| in_flight(*producer))
        });
        if over && let Some(turn) = self.turn.take() {
            self.bound = turn.next;
        }
        over
    }

    /// The producers that the queue is bound to.
    pub fn producers(&self) -> &[usize] {
        &self.bound
    }

    /// The producers that may take something of the queue now: in a turn only those that stay.
    pub fn takers(&self) -> impl Iterator<Item = usize> + '_ {
        let stays = |producer: &usize| self.turn.as_ref().is_none_or(|turn| turn.next.contains(producer));
        self.bound.iter().copied().filter(stays)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::BTreeSet;

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(128))]

        #[test]
        fn every_queue_has_one_to_k_producers_in_every_slice(
            n in 1..20_usize, k in 1..6_usize, slot in 0..200_usize, slice in 0..10_000_u64, seed: u64,
        ) {
            let bound = Schedule::new(n, k, seed).producers_of(slot, slice);
            prop_assert!(!bound.is_empty() && bound.len() <= k.min(n));
            prop_assert!(bound.iter().all(|producer| *producer < n));
        }

        #[test]
        fn the_places_of_a_row_are_a_permutation_in_every_slice(
            n in 1..20_usize, row in 0..20_usize, slice in 0..10_000_u64, seed: u64,
        ) {
            let schedule = Schedule::new(n, 1, seed);
            let places = row * n..(row + 1) * n;
            let met: BTreeSet<usize> = places.map(|place| schedule.producer_at(place, slice)).collect();
            prop_assert_eq!(met.len(), n);
        }

        #[test]
        fn within_n_slices_a_queue_meets_every_producer(
            n in 1..20_usize, k in 1..4_usize, slot in 0..100_usize, cycle in 0..1000_u64, seed: u64,
        ) {
            let schedule = Schedule::new(n, k, seed);
            let slices = cycle * n as u64..(cycle + 1) * n as u64;
            let met: BTreeSet<usize> = slices.flat_map(|slice| schedule.producers_of(slot, slice)).collect();
            prop_assert_eq!(met.len(), n);
        }

        #[test]
        fn with_enough_producers_nobody_shares(
            queues in 1..8_usize, k in 1..4_usize, spare in 0..4_usize, slice in 0..10_000_u64, seed: u64,
        ) {
            let schedule = Schedule::new(queues * k + spare, k, seed);
            let bound: Vec<usize> = (0..queues).flat_map(|slot| schedule.producers_of(slot, slice)).collect();
            prop_assert_eq!(bound.len(), queues * k);
            prop_assert_eq!(bound.iter().collect::<BTreeSet<_>>().len(), queues * k);
        }

        #[test]
        fn who_shares_changes_with_time(n in 4..16_usize, a in 0..40_usize, b in 0..40_usize, seed: u64) {
            prop_assume!(a / n != b / n);
            let schedule = Schedule::new(n, 1, seed);
            let shares = |slice: &u64| schedule.producers_of(a, *slice) == schedule.producers_of(b, *slice);
            let slices = 40 * n as u64;
            prop_assert!((0..slices).filter(shares).count() < slices as usize / 2);
        }

        #[test]
        fn a_turn_hands_over_when_idle_or_at_the_deadline(
            old in proptest::collection::btree_set(0..6_usize, 1..4),
            new in proptest::collection::btree_set(0..6_usize, 1..4),
            busy in proptest::collection::btree_set(0..6_usize, 0..6), waited_ms in 0..20_u64,
        ) {
            let (now, deadline) = (Instant::now(), Duration::from_millis(10));
            let mut binding = Binding::new(old.iter().copied().collect());
            binding.begin_turn(new.iter().copied().collect(), now);
            let takers: BTreeSet<usize> = binding.takers().collect();
            prop_assert_eq!(&takers, &old.intersection(&new).copied().collect(), "only those that stay take");
            let later = now + Duration::from_millis(waited_ms);
            let ended = binding.end_turn(|producer| busy.contains(&producer), later, deadline);
            let leaving_busy = old.difference(&new).any(|producer| busy.contains(producer));
            prop_assert_eq!(ended, old != new && (!leaving_busy || waited_ms >= 10));
            if ended {
                prop_assert_eq!(binding.takers().collect::<BTreeSet<_>>(), new);
            }
        }
    }
}
