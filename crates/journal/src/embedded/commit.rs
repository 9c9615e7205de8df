//! What waits for the next group commit: a queue per topic, each bounded in bytes, served in turns. Pure.
//!
//! A commit takes of each topic at most one quantum (or one entry, if that is larger), beginning where the last commit
//! stopped; a commit after one that had a heavy topic is for the light ones, if any waits. So whatever a topic floods,
//! another waits for no more than one quantum of it, in one commit. What a full queue refuses, it refuses at once.

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;

use stream::limits::COMMIT_LIGHT_BYTES;

use super::LogSettings;

/// Entries that wait, as `T`s.
#[derive(Debug)]
pub struct Pending<T> {
    queues: HashMap<Arc<str>, Queue<T>>,
    /// Topics with something waiting, in the order of their turns.
    turns: VecDeque<Arc<str>>,
    bytes: usize,
    /// Whether the last commit had a heavy topic.
    was_heavy: bool,
    bounds: PendingBounds,
}

/// The limits of what waits, in bytes; see [`LogSettings`].
#[derive(Clone, Copy, Debug)]
pub struct PendingBounds {
    /// Of one topic in one commit.
    pub quantum: usize,
    /// What waits of a light topic, at most.
    pub light: usize,
    /// Of one commit.
    pub commit: usize,
    /// Of one topic's queue.
    pub topic: usize,
    /// What a topic's queue may always hold.
    pub topic_floor: usize,
    /// Of all queues.
    pub total: usize,
}

impl From<&LogSettings> for PendingBounds {
    fn from(settings: &LogSettings) -> Self {
        Self {
            quantum: settings.quantum_bytes,
            light: COMMIT_LIGHT_BYTES,
            commit: settings.commit_bytes_max,
            topic: settings.topic_pending_bytes_max,
            topic_floor: settings.topic_pending_bytes_floor,
            total: settings.pending_bytes_max,
        }
    }
}

#[derive(Debug)]
struct Queue<T> {
    items: VecDeque<(usize, T)>,
    bytes: usize,
}

/// What was full. It gives the entry back.
#[derive(Debug)]
pub enum Full<T> {
    /// The topic's own queue.
    Topic(T),
    /// All queues together.
    Journal(T),
}

impl<T> Pending<T> {
    /// Nothing waits.
    pub fn new(bounds: PendingBounds) -> Self {
        Self { queues: HashMap::new(), turns: VecDeque::new(), bytes: 0, was_heavy: false, bounds }
    }

    /// Queues an entry of `bytes` bytes behind the others of its topic.
    pub fn push(&mut self, topic: &Arc<str>, bytes: usize, item: T) -> Result<(), Full<T>> {
        let held = self.queues.get(topic).map_or(0, |queue| queue.bytes);
        // An empty queue takes anything: an entry larger than the limit must not be refused for ever.
        if held > 0 && held + bytes > self.bounds.topic {
            return Err(Full::Topic(item));
        }
        if held + bytes > self.bounds.topic_floor && self.bytes + bytes > self.bounds.total {
            return Err(Full::Journal(item));
        }
        let queue = self.queues.entry(Arc::clone(topic)).or_insert_with(|| {
            self.turns.push_back(Arc::clone(topic));
            Queue { items: VecDeque::new(), bytes: 0 }
        });
        queue.items.push_back((bytes, item));
        queue.bytes += bytes;
        self.bytes += bytes;
        Ok(())
    }

    /// The entries of the next commit, with their topics.
    pub fn take(&mut self) -> Vec<(Arc<str>, T)> {
        let (mut taken, mut bytes) = (Vec::new(), 0);
        let is_for_light = self.was_heavy && self.turns.iter().any(|topic| !self.is_heavy(topic));
        self.was_heavy = false;
        for _ in 0..self.turns.len() {
            if bytes >= self.bounds.commit {
                break;
            }
            let Some(topic) = self.turns.pop_front() else { break };
            let is_heavy = self.is_heavy(&topic);
            if is_heavy && is_for_light {
                self.turns.push_back(topic);
                continue;
            }
            self.was_heavy |= is_heavy;
            bytes += self.take_turn(&topic, &mut taken);
            match self.queues.get(&topic) {
                Some(queue) if queue.items.is_empty() => drop(self.queues.remove(&topic)),
                _ => self.turns.push_back(topic),
            }
        }
        self.bytes -= bytes;
        taken
    }

    fn is_heavy(&self, topic: &str) -> bool {
        self.queues.get(topic).is_some_and(|queue| queue.bytes > self.bounds.light)
    }

    /// One topic's turn: a quantum, or one entry.
    fn take_turn(&mut self, topic: &Arc<str>, taken: &mut Vec<(Arc<str>, T)>) -> usize {
        let Some(queue) = self.queues.get_mut(topic) else { return 0 };
        let mut turn = 0;
        while let Some((bytes, item)) = queue.items.pop_front() {
            if turn > 0 && turn + bytes > self.bounds.quantum {
                queue.items.push_front((bytes, item));
                break;
            }
            turn += bytes;
            taken.push((Arc::clone(topic), item));
        }
        queue.bytes -= turn;
        turn
    }

    /// Bytes that wait.
    pub fn bytes(&self) -> usize {
        self.bytes
    }

    /// Whether nothing waits.
    pub fn is_empty(&self) -> bool {
        self.turns.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const QUANTUM: usize = 100;

    fn pending() -> Pending<(usize, usize)> {
        Pending::new(PendingBounds {
            quantum: QUANTUM,
            light: QUANTUM / 2,
            commit: 250,
            topic: 1_000,
            topic_floor: 200,
            total: 3_000,
        })
    }

    fn topic(i: usize) -> Arc<str> {
        Arc::from(format!("t{i}"))
    }

    proptest! {
        #[test]
        fn nothing_is_lost_reordered_or_unbounded(
            steps in proptest::collection::vec((0..6_usize, 1..180_usize, any::<bool>()), 1..300),
        ) {
            let mut pending = pending();
            let mut model: Vec<VecDeque<(usize, usize)>> = vec![VecDeque::new(); 6];
            let check = |pending: &mut Pending<(usize, usize)>, model: &mut Vec<VecDeque<(usize, usize)>>| {
                let mut turns: HashMap<Arc<str>, (usize, usize)> = HashMap::new();
                for (of, (i, bytes)) in pending.take() {
                    let at = (0..6).find(|n| topic(*n) == of).unwrap();
                    assert_eq!(model[at].pop_front(), Some((i, bytes)), "out of order");
                    let (count, sum) = turns.entry(of).or_default();
                    (*count, *sum) = (*count + 1, *sum + bytes);
                }
                assert!(turns.values().all(|(count, sum)| *sum <= QUANTUM || *count == 1), "beyond the quantum: {turns:?}");
            };
            for (i, (of, bytes, commit)) in steps.into_iter().enumerate() {
                let held: usize = model[of].iter().map(|(_, bytes)| bytes).sum();
                match pending.push(&topic(of), bytes, (i, bytes)) {
                    Ok(()) => model[of].push_back((i, bytes)),
                    Err(Full::Topic(_)) => prop_assert!(held + bytes > 1_000),
                    Err(Full::Journal(_)) => prop_assert!(held + bytes > 200 && pending.bytes() + bytes > 3_000),
                }
                prop_assert_eq!(pending.bytes(), model.iter().flatten().map(|(_, bytes)| bytes).sum::<usize>());
                if commit {
                    check(&mut pending, &mut model);
                }
            }
            while !pending.is_empty() {
                check(&mut pending, &mut model);
            }
            prop_assert!(model.iter().all(VecDeque::is_empty), "lost: {model:?}");
        }

        #[test]
        fn a_flood_costs_the_others_one_quantum_a_commit(
            flood in proptest::collection::vec(1..QUANTUM, 10..50), quiet in proptest::collection::vec(1..40_usize, 1..4),
        ) {
            let mut pending = pending();
            for (i, bytes) in flood.iter().enumerate() {
                drop(pending.push(&topic(0), *bytes, (i, *bytes)));
            }
            for (i, bytes) in quiet.iter().enumerate() {
                pending.push(&topic(1 + i), *bytes, (i, *bytes)).unwrap();
            }
            let commit = pending.take();
            let of_flood: usize = commit.iter().filter(|(of, _)| *of == topic(0)).map(|(_, (_, bytes))| bytes).sum();
            prop_assert!(of_flood <= QUANTUM);
            prop_assert_eq!(commit.iter().filter(|(of, _)| *of != topic(0)).count(), quiet.len(), "a quiet topic had to wait");
        }
    }

    #[test]
    fn light_topics_have_a_commit_without_the_heavy_one_between_two_of_its_turns() {
        let mut pending = pending();
        let topics_of = |pending: &mut Pending<(usize, usize)>| {
            let mut topics: Vec<String> = pending.take().into_iter().map(|(topic, _)| topic.to_string()).collect();
            topics.dedup();
            topics
        };
        (0..6).for_each(|i| pending.push(&topic(0), 90, (i, 90)).unwrap());
        pending.push(&topic(1), 10, (0, 10)).unwrap();
        assert_eq!(topics_of(&mut pending), ["t0", "t1"], "nothing heavy was there before");
        assert_eq!(topics_of(&mut pending), ["t0"], "nobody else waits");
        (1..3).for_each(|i| pending.push(&topic(i), 10, (0, 10)).unwrap());
        assert_eq!(topics_of(&mut pending), ["t1", "t2"]);
        pending.push(&topic(1), 10, (0, 10)).unwrap();
        assert_eq!(topics_of(&mut pending), ["t0", "t1"], "the heavy one is not put off twice");
    }
}
