//! Deficit round robin over the queues of one producer, by bytes and priority weight. Pure.
//!
//! Each queue that has something to send stands in a ring. At its turn it is credited a quantum times its weight and
//! sends while its credit lasts, then goes to the ring's end; who has nothing to send leaves the ring and its credit.
//! Work-conserving: while any queue has something, something is chosen.

use std::collections::{HashMap, VecDeque};

use crate::budget::QueueId;

/// Credit of one turn at weight 1: small beside a batch at its limit, so that small batches interleave finely.
pub const QUANTUM_BYTES: i64 = 64 * 1024;

/// The ring of one producer.
#[derive(Debug, Default)]
pub struct Drr {
    ring: VecDeque<QueueId>,
    members: HashMap<QueueId, Member>,
    /// Whether the queue at the front has had its credit for this turn.
    credited: bool,
}

#[derive(Debug)]
struct Member {
    weight: u32,
    credit: i64,
}

impl Drr {
    /// Puts `queue` at the ring's end unless it stands there; its weight counts from now on.
    pub fn activate(&mut self, queue: QueueId, weight: u32) {
        let ring = &mut self.ring;
        let join = || {
            ring.push_back(queue);
            Member { weight, credit: 0 }
        };
        self.members.entry(queue).or_insert_with(join).weight = weight.max(1);
    }

    /// Who sends next. `head_bytes` tells the size of what a queue would send, `None` if it has nothing to send here.
    pub fn next(&mut self, head_bytes: impl Fn(QueueId) -> Option<usize>) -> Option<QueueId> {
        while let Some(queue) = self.ring.front().copied() {
            let member = self.members.get_mut(&queue);
            let (Some(member), Some(bytes)) = (member, head_bytes(queue)) else {
                self.ring.pop_front();
                self.members.remove(&queue);
                self.credited = false;
                continue;
            };
            if !self.credited {
                member.credit += QUANTUM_BYTES * i64::from(member.weight);
                self.credited = true;
            }
            if member.credit >= bytes as i64 {
                member.credit -= bytes as i64;
                return Some(queue);
            }
            self.ring.rotate_left(1);
            self.credited = false;
        }
        None
    }

    /// Charges `queue` for `bytes` beyond what [`Drr::next`] knew of: what was packed onto its batch.
    pub fn charge(&mut self, queue: QueueId, bytes: usize) {
        if let Some(member) = self.members.get_mut(&queue) {
            member.credit -= bytes as i64;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(128))]

        #[test]
        fn backlogged_queues_share_by_weight(
            queues in proptest::collection::vec((1..=4_u32, 1..=200_000_usize), 2..6),
        ) {
            let mut drr = Drr::default();
            queues.iter().enumerate().for_each(|(id, (weight, _))| drr.activate(id as u64, *weight));
            let mut sent = vec![0_usize; queues.len()];
            while sent.iter().sum::<usize>() < 40_000_000 {
                let id = drr.next(|id| Some(queues[id as usize].1)).expect("all are backlogged") as usize;
                sent[id] += queues[id].1;
            }
            let share = |(sent, (weight, _)): (&usize, &(u32, usize))| *sent as f64 / f64::from(*weight);
            let per_weight: Vec<f64> = sent.iter().zip(&queues).map(share).collect();
            let most = per_weight.iter().copied().fold(0.0, f64::max);
            let least = per_weight.iter().copied().fold(f64::MAX, f64::min);
            let one_turn = (QUANTUM_BYTES + 200_000) as f64;
            prop_assert!(most - least <= 2.0 * one_turn, "{per_weight:?}");
        }

        #[test]
        fn is_work_conserving_and_loses_nothing(
            loads in proptest::collection::vec(0..30_usize, 1..8), bytes in 1..2_000_000_usize,
        ) {
            let mut drr = Drr::default();
            let mut left = loads.clone();
            (0..loads.len()).for_each(|id| drr.activate(id as u64, 1));
            for _ in 0..loads.iter().sum() {
                let id = drr.next(|id| (left[id as usize] > 0).then_some(bytes)).expect("something is left");
                left[id as usize] -= 1;
            }
            prop_assert_eq!(drr.next(|id| (left[id as usize] > 0).then_some(bytes)), None);
        }
    }

    #[test]
    fn a_flood_lets_a_newcomer_in_within_one_turn() {
        let mut drr = Drr::default();
        drr.activate(0, 1);
        (0..100).for_each(|_| assert_eq!(drr.next(|_| Some(1000)), Some(0)));
        drr.activate(1, 1);
        let before = (0..).take_while(|_| drr.next(|_| Some(1000)) == Some(0)).count();
        assert!(before <= QUANTUM_BYTES as usize / 1000, "{before} batches of the flood came first");
    }
}
