//! The running source of a stream's HTTP requests without a key: one per gateway start and stream, with ordinals
//! allotted in the order in which requests are produced.
//!
//! Ranges join without a gap, although requests can be refused after their range was allotted: such a range stays
//! *void*, is never used for other bytes (the refused ones may have been stored after all), and is stated in the
//! source's fact as set apart. Bounded: at [`VOIDS_MAX`] void ranges the source ends and the next one begins.

use stream::facts::{SetApart, SourceFact};
use stream::provenance::ORDINAL_MAX;
use stream::{Incarnation, Range, Ranges, SourceId, StreamId};

/// Void ranges of one source.
pub const VOIDS_MAX: usize = 1_000;
const VOID_CAUSE: &str = "refused, sender still has it";

/// What makes the sources of one gateway start differ from those of every other.
#[derive(Clone, Copy, Debug)]
pub struct Start {
    /// Drawn at the start.
    pub nonce: u128,
}

/// The source that requests get their ranges of, and those before it that still have something in flight.
#[derive(Debug)]
pub struct RunningSource {
    start: Start,
    incarnation: Incarnation,
    epoch: u64,
    /// Born with its first request: a source born long before its first record would be taken for a forgotten one.
    current: Option<Part>,
    ended: Vec<Part>,
}

#[derive(Debug)]
struct Part {
    source: SourceId,
    next: u64,
    settled: Ranges,
    voids: Ranges,
    in_flight: usize,
}

impl RunningSource {
    /// The running source of a stream's life.
    pub fn new(start: Start, incarnation: Incarnation) -> Self {
        Self { start, incarnation, epoch: 0, current: None, ended: Vec::new() }
    }

    /// The next `length` ordinals; a source that begins with them is born at `now_minutes` since 1970.
    pub fn allot(&mut self, length: u64, now_minutes: u32) -> (SourceId, Range) {
        let full = |part: &mut Part| part.voids.as_slice().len() >= VOIDS_MAX || part.next + length > ORDINAL_MAX;
        if let Some(part) = self.current.take_if(full) {
            self.epoch += 1;
            self.ended.push(part);
        }
        let id = || source_id(now_minutes, self.start, self.incarnation, self.epoch);
        let part = self.current.get_or_insert_with(|| Part::new(id()));
        let range = Range::new(part.next, part.next + length);
        part.next = range.end;
        part.in_flight += 1;
        (part.source, range)
    }

    /// Notes the outcome of an allotted range and returns what is to be stated of its source.
    pub fn settle(&mut self, stream: &StreamId, source: SourceId, range: Range, stored: bool) -> Option<SourceFact> {
        let at = self.ended.iter().position(|part| part.source == source);
        let part = match at {
            Some(at) => &mut self.ended[at],
            None => self.current.as_mut().filter(|part| part.source == source)?,
        };
        part.in_flight -= 1;
        part.settled.insert(range);
        if !stored {
            part.voids.insert(range);
        }
        let finished = at.filter(|_| part.in_flight == 0);
        let fact = part.fact(stream, self.incarnation, finished.is_some());
        if let Some(at) = finished {
            self.ended.swap_remove(at);
        }
        Some(fact)
    }

    /// What is to be stated when nothing more will come: nothing, if there was no request.
    pub fn end(&self, stream: &StreamId) -> Option<SourceFact> {
        self.current.as_ref().map(|part| part.fact(stream, self.incarnation, true))
    }
}

impl Part {
    fn new(source: SourceId) -> Self {
        Self { source, next: 0, settled: Ranges::default(), voids: Ranges::default(), in_flight: 0 }
    }

    /// Whoever reports it signs it.
    fn fact(&self, stream: &StreamId, incarnation: Incarnation, finished: bool) -> SourceFact {
        let set_apart = |range: &Range| SetApart { range: *range, cause: VOID_CAUSE.to_owned() };
        SourceFact {
            stream: stream.clone(),
            incarnation,
            source: self.source,
            collector: String::new(),
            name: "http".to_owned(),
            seen: self.next,
            acknowledged: self.settled.contiguous_end(),
            finished,
            set_apart: self.voids.as_slice().iter().map(set_apart).collect(),
            cuts: Vec::new(),
        }
    }
}

fn source_id(birth_minutes: u32, start: Start, incarnation: Incarnation, epoch: u64) -> SourceId {
    let parts: [&[u8]; 4] = [b"http", &start.nonce.to_be_bytes(), &incarnation.0.to_be_bytes(), &epoch.to_be_bytes()];
    SourceId::derive(birth_minutes, &parts)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn running() -> RunningSource {
        RunningSource::new(Start { nonce: 2 }, Incarnation(3))
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(128))]
        #[test]
        fn ranges_join_and_each_is_acknowledged_or_void(
            outcomes in proptest::collection::vec((1..50_u64, any::<bool>()), 1..60), late in 0..60_usize,
        ) {
            let stream = "a.b.c".parse().unwrap();
            let mut source = running();
            let mut allotted: Vec<_> =
                outcomes.iter().map(|(length, stored)| (source.allot(*length, 1), *stored)).collect();
            prop_assert!(allotted.windows(2).all(|pair| pair[0].0.1.end == pair[1].0.1.start));
            let turn = late % allotted.len();
            allotted.rotate_left(turn);
            let mut last = None;
            for ((id, range), stored) in &allotted {
                last = source.settle(&stream, *id, *range, *stored);
            }
            let fact = last.unwrap();
            let total: u64 = outcomes.iter().map(|(length, _)| length).sum();
            let void: u64 = outcomes.iter().filter(|(_, stored)| !stored).map(|(length, _)| length).sum();
            prop_assert_eq!((fact.seen, fact.acknowledged), (total, total));
            prop_assert_eq!(fact.set_apart.iter().map(|apart| apart.range.len()).sum::<u64>(), void);
        }
    }

    #[test]
    fn a_source_with_too_many_voids_ends_and_the_next_begins() {
        let stream = "a.b.c".parse().unwrap();
        let mut source = running();
        let (first, slow) = source.allot(1, 1);
        for _ in 0..VOIDS_MAX {
            let (id, range) = source.allot(1, 1);
            source.settle(&stream, id, range, true);
            let (id, range) = source.allot(1, 1);
            source.settle(&stream, id, range, false);
        }
        let (second, range) = source.allot(5, 1);
        assert_ne!(first, second);
        assert_eq!(range, Range::new(0, 5));
        let fact = source.settle(&stream, first, slow, true).unwrap();
        assert!(fact.finished && fact.acknowledged == fact.seen);
        assert_eq!(source.settle(&stream, first, slow, true), None);
        assert!(!source.settle(&stream, second, range, true).unwrap().finished);
    }
}
