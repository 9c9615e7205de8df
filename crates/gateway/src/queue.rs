//! One stream's queue: parcels in the order in which they came. Its bytes are bounded by the permits that the parcels
//! hold; a parcel that could not be produced goes back to its old place.
//!
//! A parcel's cargo goes from `Parts` (HTTP requests without a range yet; neighbours may be packed together) to `Unbuilt`
//! (they have their range, for good) to `Batch` (built once, the same at every try). What has a key, or comes over
//! gRPC, is a `Batch` from the start.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;

use stream::wire::Refusal;
use stream::{Batch, BatchBuilder, Range, SourceId};
use tokio::sync::oneshot;
use tokio::time::Instant;

use crate::budget::Permit;
use crate::key::Key;
use crate::pack;
use crate::produce::Appended;
use crate::turns::Turn;

/// What a sender hears when its batch is durable.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Stored {
    /// The partition that has it.
    pub partition: u32,
    /// The sender's own records.
    pub records: u64,
    /// The partition's end just after them.
    pub offset_end: u64,
}

/// Stored, or refused whole.
pub type Outcome = Result<Stored, Refusal>;

/// What is produced in one append.
#[derive(Debug)]
pub struct Parcel {
    /// Its place in the order of the queue.
    pub seq: u64,
    /// The records.
    pub cargo: Cargo,
    /// Who sent them, in the order of the records.
    pub riders: Vec<Rider>,
    /// The range of the stream's running source that it was allotted, if it was.
    pub allotted: Option<(SourceId, Range)>,
    /// Parts of a batch spread by key that are durable already, by partition.
    pub durable: BTreeMap<u32, Appended>,
    /// Memory it is charged for; see [`crate::admit::cost`].
    pub bytes: usize,
    /// When it is refused if it is not durable by then.
    pub deadline: Instant,
}

/// The records of a parcel.
#[derive(Debug)]
pub enum Cargo {
    /// The records of requests, each counted from 0.
    Parts(Vec<BatchBuilder>),
    /// The same, with their range.
    Unbuilt {
        /// Their source.
        source: SourceId,
        /// Where their range begins.
        start: u64,
        /// The records of requests.
        parts: Vec<BatchBuilder>,
    },
    /// The batch as it is produced.
    Batch(Arc<Batch>),
}

/// One request within a parcel.
#[derive(Debug)]
pub struct Rider {
    /// Its records.
    pub records: u64,
    /// Its bytes in the budget, given back with the rider.
    pub permit: Permit,
    /// Its place among the requests under way, given back with the rider, whether its client still listens or not.
    pub _place: Option<Turn>,
    /// Who is told.
    pub answer: Answer,
}

/// Who is told of an outcome.
#[derive(Debug)]
pub enum Answer {
    /// One sender.
    Sender(oneshot::Sender<Outcome>),
    /// All who wait for this key.
    Key {
        /// The key.
        key: Key,
        /// Its source.
        source: SourceId,
        /// The source's length.
        length: u64,
    },
}

/// A queue.
#[derive(Debug, Default)]
pub struct Queue {
    parcels: VecDeque<Parcel>,
    next_seq: u64,
}

impl Queue {
    /// Puts new cargo at the end.
    pub fn push(&mut self, cargo: Cargo, rider: Rider, bytes: usize, deadline: Instant) {
        let seq = self.next_seq;
        self.next_seq += 1;
        self.parcels.push_back(Parcel {
            seq,
            cargo,
            riders: vec![rider],
            allotted: None,
            durable: BTreeMap::new(),
            bytes,
            deadline,
        });
    }

    /// Puts a parcel that was taken back to where it was.
    pub fn put_back(&mut self, parcel: Parcel) {
        let at = self.parcels.partition_point(|queued| queued.seq < parcel.seq);
        self.parcels.insert(at, parcel);
    }

    /// Memory of the parcel at the front.
    pub fn head_bytes(&self) -> Option<usize> {
        self.parcels.front().map(|parcel| parcel.bytes)
    }

    /// The parcel at the front, with the requests behind it packed in as far as one batch holds them.
    pub fn take(&mut self) -> Option<Parcel> {
        let mut first = self.parcels.pop_front()?;
        if let Cargo::Parts(parts) = &mut first.cargo {
            let (mut bytes, mut records) = (pack::bytes(parts), first.riders.iter().map(|rider| rider.records).sum());
            while let Some(next) = self.parcels.front_mut() {
                let Cargo::Parts(more) = &mut next.cargo else { break };
                let more_records: u64 = next.riders.iter().map(|rider| rider.records).sum();
                if !pack::fits(bytes, records, pack::bytes(more), more_records) {
                    break;
                }
                bytes += pack::bytes(more);
                records += more_records;
                parts.append(more);
                first.riders.append(&mut next.riders);
                first.bytes += next.bytes;
                self.parcels.pop_front();
            }
        }
        Some(first)
    }

    /// Takes out every parcel whose deadline has passed.
    pub fn take_overdue(&mut self, now: Instant) -> Vec<Parcel> {
        if self.parcels.iter().all(|parcel| parcel.deadline > now) {
            return Vec::new();
        }
        let (overdue, left) = std::mem::take(&mut self.parcels).into_iter().partition(|parcel| parcel.deadline <= now);
        self.parcels = left;
        Vec::from(overdue as VecDeque<Parcel>)
    }

    /// Parcels queued.
    pub fn len(&self) -> usize {
        self.parcels.len()
    }

    /// Whether nothing is queued.
    pub fn is_empty(&self) -> bool {
        self.parcels.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::budget::Budget;
    use std::time::Duration;
    use stream::Kind;

    fn request(queue: &mut Queue, body: &'static str, deadline: Instant) {
        let budget = Budget::new(1 << 20, 1 << 20);
        budget.open(1, "q".into(), 1 << 20);
        let answer = Answer::Sender(oneshot::channel().0);
        let rider = Rider { records: 1, permit: budget.reserve(1, body.len()).unwrap(), _place: None, answer };
        let mut part = BatchBuilder::new(0);
        part.push(Kind::Event, body.len() as u64, None, body.as_bytes());
        queue.push(Cargo::Parts(vec![part]), rider, body.len(), deadline);
    }

    #[test]
    fn requests_are_packed_and_go_back_to_their_place() {
        let (mut queue, now) = (Queue::default(), Instant::now());
        ["a\n", "b\n"].into_iter().for_each(|body| request(&mut queue, body, now));
        let first = queue.take().unwrap();
        assert!(matches!(&first.cargo, Cargo::Parts(parts) if parts.len() == 2));
        assert_eq!((first.riders.len(), first.bytes, queue.len()), (2, 4, 0));
        request(&mut queue, "c\n", now);
        queue.put_back(first);
        let heads: Vec<u64> = queue.parcels.iter().map(|parcel| parcel.seq).collect();
        assert_eq!(heads, [0, 2]);
    }

    #[test]
    fn only_the_overdue_are_taken_out() {
        let (mut queue, now) = (Queue::default(), Instant::now());
        request(&mut queue, "a\n", now + Duration::from_secs(9));
        request(&mut queue, "b\n", now);
        assert!(queue.take_overdue(now - Duration::from_millis(1)).is_empty());
        let overdue = queue.take_overdue(now);
        assert_eq!(overdue.iter().map(|parcel| parcel.seq).collect::<Vec<_>>(), [1]);
        assert_eq!(queue.len(), 1);
    }
}
