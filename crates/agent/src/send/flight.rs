//! What has been sent and not answered, and what to send next: a pure state machine without connection or clock.
//!
//! An *entry* is a batch as `position` knows it; a *part* is what travels: the entry's batch, or a piece of it after it
//! was refused for good. Parts wait, lie on the wire, and leave when they are acknowledged or, as a single record
//! refused for good, set apart. A part keeps its records' boundaries however often it is sent. When the connection is
//! lost every part on the wire waits again. Bounded by what `position` lets be outstanding.

use std::collections::{BTreeMap, BTreeSet, HashMap, VecDeque};
use std::time::{Duration, Instant};

use rand::Rng;
use stream::batch::BatchBuilder;
use stream::retry::Backoff;
use stream::wire::{Refusal, RefusalReason};
use stream::{Batch, Record, SourceId};

/// What an answer means for the sender of an entry.
#[derive(Clone, Debug, PartialEq)]
pub enum Verdict {
    /// Every record of the entry is acknowledged or set apart.
    Done(u64),
    /// This record was refused for good; it must be kept before its entry is done.
    SetApart {
        /// Its source.
        source: SourceId,
        /// The record.
        record: Record,
        /// The cause, in the gateway's words.
        cause: String,
    },
    /// The gateway has not known the stream for too long.
    UnknownStream(String),
}

/// See the module.
pub struct Flight {
    parts: BTreeMap<u64, Part>,
    /// Entry, start of its range and part: the order in which they were read, however often they were split.
    waiting: BTreeSet<(u64, u64, u64)>,
    /// Parts left of each entry.
    left: HashMap<u64, usize>,
    next_part: u64,
    on_wire: VecDeque<(u64, Instant)>,
    /// What the gateway's queue took when it last said so, less what was sent since.
    credit_bytes: Option<u64>,
    paused_until: Option<Instant>,
    backoff: Backoff,
    unknown_since: Option<Instant>,
    unknown_for_max: Duration,
    /// One part at a time: a refused one must be tried again before the next.
    is_ordered: bool,
}

struct Part {
    entry: u64,
    batch: Batch,
}

impl Part {
    /// Its place among those that wait.
    fn place(&self, id: u64) -> (u64, u64, u64) {
        (self.entry, self.batch.range.start, id)
    }
}

impl Flight {
    /// Nothing sent. A stream may be unknown for `unknown_for_max`.
    pub fn new(unknown_for_max: Duration) -> Self {
        Self {
            parts: BTreeMap::new(),
            waiting: BTreeSet::new(),
            left: HashMap::new(),
            next_part: 0,
            on_wire: VecDeque::new(),
            credit_bytes: None,
            paused_until: None,
            backoff: Backoff::default(),
            unknown_since: None,
            unknown_for_max,
            is_ordered: false,
        }
    }

    /// Whether the stream's records must stay in order.
    pub fn set_ordered(&mut self, is_ordered: bool) {
        self.is_ordered = is_ordered;
    }

    /// Takes over a batch.
    pub fn push(&mut self, entry: u64, batch: Batch) {
        self.left.insert(entry, 1);
        self.wait(entry, batch);
    }

    /// Whether there is nothing to send or to wait for.
    pub fn is_empty(&self) -> bool {
        self.parts.is_empty()
    }

    /// Whether something may be sent now.
    pub fn may_send(&self, now: Instant) -> bool {
        let fits = |bytes: usize| self.credit_bytes.is_none_or(|credit| bytes as u64 <= credit);
        let next = self.waiting.first().and_then(|(_, _, id)| self.parts.get(id));
        if self.is_ordered && !self.on_wire.is_empty() {
            return false;
        }
        // With nothing on the wire no answer would ever raise the credit: then one part asks.
        next.is_some_and(|part| self.on_wire.is_empty() || fits(part.batch.body_bytes()))
            && self.paused_until.is_none_or(|until| until <= now)
    }

    /// The next part to send, now on the wire.
    pub fn send(&mut self, now: Instant) -> Option<(u64, &Batch)> {
        if !self.may_send(now) {
            return None;
        }
        let (_, _, id) = self.waiting.pop_first()?;
        let part = self.parts.get(&id)?;
        self.on_wire.push_back((id, now));
        self.credit_bytes = self.credit_bytes.map(|credit| credit.saturating_sub(part.batch.body_bytes() as u64));
        Some((id, &part.batch))
    }

    /// When a pause is over, if there is one.
    pub fn paused_until(&self) -> Option<Instant> {
        self.paused_until
    }

    /// Since when the oldest part on the wire has waited for its answer.
    pub fn waits_since(&self) -> Option<Instant> {
        self.on_wire.iter().map(|(_, since)| *since).min()
    }

    /// A part is durable in the journal.
    pub fn acknowledged(&mut self, id: u64, credit_bytes: u64) -> Option<Verdict> {
        let part = self.answered(id)?;
        self.credit_bytes = Some(credit_bytes);
        self.backoff.reset();
        (self.paused_until, self.unknown_since) = (None, None);
        self.leave(part.entry)
    }

    /// A part was refused.
    pub fn refused(&mut self, id: u64, refusal: &Refusal, now: Instant, dice: &mut impl Rng) -> Vec<Verdict> {
        let Some(part) = self.answered(id) else { return Vec::new() };
        if refusal.reason.for_good() {
            return self.split(part, refusal);
        }
        self.waiting.insert(part.place(id));
        self.parts.insert(id, part);
        if self.paused_until.is_none_or(|until| until <= now) {
            self.paused_until = Some(now + self.backoff.next_wait(refusal.retry_after, dice));
        }
        if refusal.reason != RefusalReason::UnknownStream {
            self.unknown_since = None;
            return Vec::new();
        }
        let since = *self.unknown_since.get_or_insert(now);
        let too_long = now.duration_since(since) >= self.unknown_for_max;
        too_long.then(|| Verdict::UnknownStream(refusal.to_string())).into_iter().collect()
    }

    /// The connection is gone: what lay on the wire waits again.
    pub fn disconnected(&mut self) {
        let parts = &self.parts;
        self.waiting.extend(self.on_wire.drain(..).filter_map(|(id, _)| Some(parts.get(&id)?.place(id))));
        self.credit_bytes = None;
    }

    fn wait(&mut self, entry: u64, batch: Batch) {
        let part = Part { entry, batch };
        self.waiting.insert(part.place(self.next_part));
        self.parts.insert(self.next_part, part);
        self.next_part += 1;
    }

    /// Takes a part off the wire; none if it is not there (an answer that came twice).
    fn answered(&mut self, id: u64) -> Option<Part> {
        let at = self.on_wire.iter().position(|(on_wire, _)| *on_wire == id)?;
        self.on_wire.remove(at);
        self.parts.remove(&id)
    }

    fn leave(&mut self, entry: u64) -> Option<Verdict> {
        let left = self.left.get_mut(&entry)?;
        *left -= 1;
        if *left > 0 {
            return None;
        }
        self.left.remove(&entry);
        Some(Verdict::Done(entry))
    }

    /// Halves a part, so that only the refused record itself is set apart in the end.
    fn split(&mut self, part: Part, refusal: &Refusal) -> Vec<Verdict> {
        let batch = &part.batch;
        if batch.len() == 1 {
            let apart = |record| Verdict::SetApart { source: batch.source, record, cause: refusal.to_string() };
            let mut verdicts: Vec<Verdict> = batch.records().map(apart).collect();
            verdicts.extend(self.leave(part.entry));
            return verdicts;
        }
        let halves = halve(batch);
        *self.left.entry(part.entry).or_insert(1) += halves.len() - 1;
        halves.into_iter().for_each(|half| self.wait(part.entry, half));
        Vec::new()
    }
}

fn halve(batch: &Batch) -> Vec<Batch> {
    let mut builder = BatchBuilder::new(batch.range.start);
    let mut halves = Vec::with_capacity(2);
    for (i, record) in batch.records().enumerate() {
        if i == batch.len() / 2 {
            halves.extend(builder.take(&batch.stream, batch.incarnation, batch.source));
        }
        builder.push(record.kind, record.range.end, record.event_time_ms, &record.body);
    }
    halves.extend(builder.take(&batch.stream, batch.incarnation, batch.source));
    halves
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use rand::rngs::ChaCha8Rng;
    use rand::{RngExt, SeedableRng};
    use stream::{Incarnation, Kind, Range, Ranges};

    fn batch(start: u64, bodies: &[&str]) -> Batch {
        let mut builder = BatchBuilder::new(start);
        for body in bodies {
            builder.push(Kind::Event, builder.end() + body.len() as u64 + 1, None, body.as_bytes());
        }
        builder.take(&"a.b.c".parse().unwrap(), Incarnation(1), SourceId::derive(1, &[])).unwrap()
    }

    fn refusal(reason: RefusalReason) -> Refusal {
        Refusal::new(reason, "stream a.b.c", "no")
    }

    proptest! {
        /// A gateway that answers at random and a connection that breaks at random: in the end every record was
        /// acknowledged or, if it is a bad one, set apart, and each entry is done exactly once.
        #[test]
        fn every_record_ends_once(seed: u64, sizes in proptest::collection::vec(1..9_usize, 1..12)) {
            let mut dice = ChaCha8Rng::seed_from_u64(seed);
            let mut flight = Flight::new(Duration::from_secs(3600));
            let (mut start, mut bad) = (0, 0);
            for (entry, size) in sizes.iter().enumerate() {
                let mut body = || if dice.random_bool(0.2) { "bad" } else { "good" };
                let bodies: Vec<&str> = (0..*size).map(|_| body()).collect();
                bad += bodies.iter().filter(|body| **body == "bad").count();
                let batch = batch(start, &bodies);
                start = batch.range.end;
                flight.push(entry as u64, batch);
            }
            let (mut now, mut wire, mut taken) = (Instant::now(), Vec::new(), Ranges::default());
            let (mut done, mut apart) = (Vec::new(), Vec::new());
            for step in 0.. {
                prop_assert!(step < 100_000, "it does not end");
                if flight.is_empty() { break }
                now += Duration::from_millis(200);
                while let Some((id, batch)) = flight.send(now) { wire.push((id, batch.clone())); }
                if wire.is_empty() { continue }
                let (id, batch) = wire.remove(dice.random_range(0..wire.len()));
                match dice.random_range(0..10) {
                    0 => { wire.clear(); flight.disconnected(); }
                    n @ 1..=2 => {
                        let reason = [RefusalReason::QueueFull, RefusalReason::UnknownStream][n - 1];
                        prop_assert!(flight.refused(id, &refusal(reason), now, &mut dice).is_empty());
                    }
                    _ if batch.records().any(|record| record.body == "bad") => {
                        for verdict in flight.refused(id, &refusal(RefusalReason::Malformed), now, &mut dice) {
                            match verdict {
                                Verdict::SetApart { record, .. } => { taken.insert(record.range); apart.push(record); }
                                Verdict::Done(entry) => done.push(entry),
                                Verdict::UnknownStream(_) => prop_assert!(false, "too soon"),
                            }
                        }
                    }
                    _ => {
                        taken.insert(batch.range);
                        let verdict = flight.acknowledged(id, dice.random_range(0..100));
                        if let Some(Verdict::Done(entry)) = verdict { done.push(entry) }
                        prop_assert_eq!(flight.acknowledged(id, 5), None, "a second answer changes nothing");
                    }
                }
            }
            done.sort_unstable();
            prop_assert_eq!(done, (0..sizes.len() as u64).collect::<Vec<_>>());
            prop_assert_eq!(taken.as_slice(), [Range::new(0, start)]);
            prop_assert_eq!(apart.len(), bad);
            prop_assert!(apart.iter().all(|record| record.body == "bad"));
        }
    }

    #[test]
    fn credit_and_pauses_hold_back() {
        let (mut flight, now) = (Flight::new(Duration::from_secs(30)), Instant::now());
        let mut dice = ChaCha8Rng::seed_from_u64(1);
        (0..3).for_each(|entry| flight.push(entry, batch(entry * 5, &["good"])));
        let first = flight.send(now).unwrap().0;
        let second = flight.send(now).unwrap().0;
        flight.acknowledged(first, 3);
        assert!(!flight.may_send(now), "4 bytes do not fit in a credit of 3");
        flight.refused(second, &refusal(RefusalReason::QueueFull), now, &mut dice);
        assert!(!flight.may_send(now), "the gateway asked for a wait");
        assert!(flight.may_send(now + Duration::from_secs(5)), "with nothing on the wire one part asks");
    }

    #[test]
    fn an_ordered_stream_has_one_part_on_the_wire_and_a_refused_one_goes_first_again() {
        let (mut flight, now) = (Flight::new(Duration::from_secs(30)), Instant::now());
        let mut dice = ChaCha8Rng::seed_from_u64(1);
        flight.set_ordered(true);
        (0..3).for_each(|entry| flight.push(entry, batch(entry * 5, &["good"])));
        let first = flight.send(now).unwrap().0;
        assert!(flight.send(now).is_none(), "a second one is under way");
        flight.refused(first, &refusal(RefusalReason::QueueFull), now, &mut dice);
        let later = now + Duration::from_secs(5);
        assert_eq!(flight.send(later).unwrap().0, first);
        flight.acknowledged(first, 1_000);
        let second = flight.send(later).unwrap().0;
        flight.disconnected();
        assert_eq!(flight.send(later).unwrap().0, second);
    }

    #[test]
    fn a_stream_unknown_for_too_long_stops_the_sender() {
        let (mut flight, now) = (Flight::new(Duration::from_secs(30)), Instant::now());
        let mut dice = ChaCha8Rng::seed_from_u64(1);
        flight.push(0, batch(0, &["good"]));
        for (second, stops) in [(0, false), (29, false), (60, true)] {
            let now = now + Duration::from_secs(second);
            let id = flight.send(now).unwrap().0;
            let verdicts = flight.refused(id, &refusal(RefusalReason::UnknownStream), now, &mut dice);
            assert_eq!(!verdicts.is_empty(), stops, "after {second} s");
        }
    }
}
