//! A batch: records of exactly one source of exactly one stream, in the order of their ranges. It is what an agent sends,
//! a gateway queues, the journal stores and a leg reads; bodies lie in one buffer so that nobody copies records. Ranges
//! join without a gap, but where the records of a batch were parted over partitions by their keys ([`Batch::part`]).

use std::collections::BTreeMap;
use std::ops;
use std::sync::Arc;

use bytes::{Bytes, BytesMut};

use crate::id::{Incarnation, StreamId};
use crate::provenance::{ORDINAL_MAX, Range, SourceId};
use crate::ranges::Ranges;
use crate::wire;

/// What a journal record is. All but events and pressed-back ones have an empty body, and readers skip them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// An event.
    Event,
    /// A mark of bytes that the agent dropped by the stream's own policy.
    Mark,
    /// The end of a source: nothing will follow this ordinal.
    End,
    /// A heartbeat: time goes on although nothing is sent.
    Heartbeat,
    /// An event that was pressed back into its topic.
    PressedBack,
}

impl Kind {
    /// The letter that stands for it in headers and batches.
    pub fn letter(self) -> u8 {
        match self {
            Kind::Event => b'e',
            Kind::Mark => b'm',
            Kind::End => b'z',
            Kind::Heartbeat => b'h',
            Kind::PressedBack => b'p',
        }
    }

    /// The kind of a letter.
    pub fn from_letter(letter: u8) -> Option<Self> {
        match letter {
            b'e' => Some(Kind::Event),
            b'm' => Some(Kind::Mark),
            b'z' => Some(Kind::End),
            b'h' => Some(Kind::Heartbeat),
            b'p' => Some(Kind::PressedBack),
            _ => None,
        }
    }
}

/// One record of a batch.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Record {
    /// What it is.
    pub kind: Kind,
    /// Which part of the batch's source it is.
    pub range: Range,
    /// Event time in ms since 1970, where a protocol or producer states one.
    pub event_time_ms: Option<i64>,
    /// The event's own bytes.
    pub body: Bytes,
}

/// One record of a batch as it lies there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct View<'a> {
    /// What it is.
    pub kind: Kind,
    /// Which part of the batch's source it is.
    pub range: Range,
    /// Event time in ms since 1970, where a protocol or producer states one.
    pub event_time_ms: Option<i64>,
    /// The event's own bytes.
    pub body: &'a [u8],
}

/// A batch that has been checked: its columns agree with one another. Cheap to clone.
#[derive(Clone, Debug, PartialEq)]
pub struct Batch {
    /// The stream of all records.
    pub stream: StreamId,
    /// The stream's life.
    pub incarnation: Incarnation,
    /// The source of all records.
    pub source: SourceId,
    /// From the beginning of the first record's range to the end of the last one's.
    pub range: Range,
    columns: Arc<Columns>,
}

#[derive(Clone, Debug, Default, PartialEq)]
struct Columns {
    skips: Vec<u64>,
    range_lengths: Vec<u32>,
    body_lengths: Vec<u32>,
    kinds: Bytes,
    bodies: Bytes,
    event_times_ms: Vec<i64>,
}

/// Why a wire batch is none.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum BatchError {
    /// The stream's id is malformed.
    #[error(transparent)]
    Stream(#[from] crate::id::NameError),
    /// The source is not 12 bytes.
    #[error("source has {0} bytes, not 12")]
    Source(usize),
    /// A column's length is not the number of records.
    #[error("column {column} has {found} entries for {records} records")]
    Column {
        /// The column's name.
        column: &'static str,
        /// Its entries.
        found: usize,
        /// Records in the batch.
        records: usize,
    },
    /// Body lengths do not add up to the bodies.
    #[error("body lengths add up to {stated} bytes, {found} are there")]
    Bodies {
        /// The sum of the lengths.
        stated: u64,
        /// Bytes in the batch.
        found: u64,
    },
    /// An unknown kind.
    #[error("record {0} has an unknown kind")]
    Kind(usize),
    /// A range past the bound of ordinals.
    #[error("ranges end at {0}, past the bound of 2^48")]
    Ordinal(u64),
    /// No record at all.
    #[error("the batch is empty")]
    Empty,
}

impl Batch {
    /// Records, marks included.
    pub fn len(&self) -> usize {
        self.columns.range_lengths.len()
    }

    /// Never true of a checked batch; here because `len` is.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Whether its records leave ordinals out between them.
    pub fn has_gaps(&self) -> bool {
        !self.columns.skips.is_empty()
    }

    /// Bytes of all bodies: what limits on bytes count.
    pub fn body_bytes(&self) -> usize {
        self.columns.bodies.len()
    }

    /// Length of the longest body.
    pub fn body_bytes_longest(&self) -> usize {
        self.columns.body_lengths.iter().copied().max().unwrap_or(0) as usize
    }

    /// The records in order, to keep: bodies share the batch's buffer.
    pub fn records(&self) -> impl Iterator<Item = Record> + '_ {
        self.columns.lines(self.range.start).map(|Line { kind, range, event_time_ms, body }| Record {
            kind,
            range,
            event_time_ms,
            body: self.columns.bodies.slice(body),
        })
    }

    /// The records in order, to look at.
    pub fn views(&self) -> impl Iterator<Item = View<'_>> {
        self.columns.lines(self.range.start).map(|Line { kind, range, event_time_ms, body }| View {
            kind,
            range,
            event_time_ms,
            body: &self.columns.bodies[body],
        })
    }

    /// What all records together cover.
    pub fn covered(&self) -> Ranges {
        match self.has_gaps() {
            false => Ranges::from(vec![self.range]),
            true => self.views().map(|record| record.range).collect(),
        }
    }

    /// The batch's records parted: a batch for each number that `part_of` says, in the order that they have here.
    pub fn part(&self, part_of: impl Fn(&View<'_>) -> u32) -> BTreeMap<u32, Batch> {
        let mut parts: BTreeMap<u32, BatchBuilder> = BTreeMap::new();
        for record in self.views() {
            let builder = parts.entry(part_of(&record)).or_default();
            builder.skip_to(record.range.start);
            builder.push(record.kind, record.range.end, record.event_time_ms, record.body);
        }
        let batch = |(part, mut builder): (u32, BatchBuilder)| {
            Some((part, builder.take(&self.stream, self.incarnation, self.source)?))
        };
        parts.into_iter().filter_map(batch).collect()
    }

    /// The batch as it travels.
    pub fn to_wire(&self) -> wire::v1::Batch {
        let columns = Columns::clone(&self.columns);
        wire::v1::Batch {
            stream: self.stream.to_string(),
            incarnation: self.incarnation.0,
            source: Bytes::copy_from_slice(self.source.as_bytes()),
            start: self.range.start,
            skips: columns.skips,
            range_lengths: columns.range_lengths,
            body_lengths: columns.body_lengths,
            kinds: columns.kinds,
            bodies: columns.bodies,
            event_times_ms: columns.event_times_ms,
        }
    }

    /// Checks a batch that has travelled. Work is bounded by the message's own size.
    pub fn from_wire(wire: wire::v1::Batch) -> Result<Self, BatchError> {
        let stream = wire.stream.parse()?;
        let source = SourceId::from_bytes(&wire.source).ok_or(BatchError::Source(wire.source.len()))?;
        let mut columns = Columns {
            skips: wire.skips,
            range_lengths: wire.range_lengths,
            body_lengths: wire.body_lengths,
            kinds: wire.kinds,
            bodies: wire.bodies,
            event_times_ms: wire.event_times_ms,
        };
        columns.check()?;
        // What is skipped before the first record is where the batch begins.
        let first = wire.start.saturating_add(columns.skips.first_mut().map(std::mem::take).unwrap_or(0));
        let lengths = columns.range_lengths.iter().copied().map(u64::from);
        let end = lengths.chain(columns.skips.iter().copied()).fold(first, u64::saturating_add);
        if end > ORDINAL_MAX {
            return Err(BatchError::Ordinal(end));
        }
        let range = Range::new(first, end);
        Ok(Self { stream, incarnation: Incarnation(wire.incarnation), source, range, columns: Arc::new(columns) })
    }
}

/// A line of the columns.
struct Line {
    kind: Kind,
    range: Range,
    event_time_ms: Option<i64>,
    body: ops::Range<usize>,
}

impl Columns {
    /// The lines in order, the first one's range from `start` on.
    fn lines(&self, start: u64) -> impl Iterator<Item = Line> + '_ {
        let (mut start, mut body) = (start, 0);
        (0..self.range_lengths.len()).map(move |i| {
            start += self.skips.get(i).copied().unwrap_or(0);
            let range = Range::new(start, start + u64::from(self.range_lengths[i]));
            let body_end = body + self.body_lengths[i] as usize;
            let line = Line {
                kind: self.kinds.get(i).copied().and_then(Kind::from_letter).unwrap_or(Kind::Event),
                range,
                event_time_ms: self.event_times_ms.get(i).copied().filter(|ms| *ms != 0),
                body: body..body_end,
            };
            (start, body) = (range.end, body_end);
            line
        })
    }

    fn check(&self) -> Result<(), BatchError> {
        let records = self.range_lengths.len();
        if records == 0 {
            return Err(BatchError::Empty);
        }
        let fits = |column, found: usize, may_be_absent: bool| match found {
            0 if may_be_absent => Ok(()),
            found if found == records => Ok(()),
            found => Err(BatchError::Column { column, found, records }),
        };
        fits("skips", self.skips.len(), true)?;
        fits("body_lengths", self.body_lengths.len(), false)?;
        fits("kinds", self.kinds.len(), true)?;
        fits("event_times_ms", self.event_times_ms.len(), true)?;
        if let Some(unknown) = self.kinds.iter().position(|letter| Kind::from_letter(*letter).is_none()) {
            return Err(BatchError::Kind(unknown));
        }
        let stated: u64 = self.body_lengths.iter().copied().map(u64::from).sum();
        let found = self.bodies.len() as u64;
        if stated == found { Ok(()) } else { Err(BatchError::Bodies { stated, found }) }
    }
}

/// Gathers records of one source into a batch.
#[derive(Debug, Default)]
pub struct BatchBuilder {
    start: u64,
    end: u64,
    skipped: u64,
    skips: Vec<u64>,
    range_lengths: Vec<u32>,
    body_lengths: Vec<u32>,
    kinds: BytesMut,
    bodies: BytesMut,
    event_times_ms: Vec<i64>,
}

impl BatchBuilder {
    /// A builder whose first record's range begins at `start`.
    pub fn new(start: u64) -> Self {
        Self { start, end: start, ..Self::default() }
    }

    /// A builder with room for so many records and bytes of bodies: one that has to grow copies.
    pub fn with_room(start: u64, records: usize, body_bytes: usize) -> Self {
        let (range_lengths, body_lengths) = (Vec::with_capacity(records), Vec::with_capacity(records));
        let bodies = BytesMut::with_capacity(body_bytes);
        Self { range_lengths, body_lengths, bodies, ..Self::new(start) }
    }

    /// Makes room for so many more records and bytes of bodies.
    pub fn reserve(&mut self, records: usize, body_bytes: usize) {
        self.range_lengths.reserve_exact(records);
        self.body_lengths.reserve_exact(records);
        self.bodies.reserve(body_bytes);
    }

    /// The next record's range begins at `start`, at or behind [`BatchBuilder::end`].
    pub fn skip_to(&mut self, start: u64) {
        debug_assert!(start >= self.end);
        match self.is_empty() {
            true => self.start = start,
            false => self.skipped += start - self.end,
        }
        self.end = start;
    }

    /// Adds a record whose range runs from the end of the previous one, or what was skipped to, to `range_end`.
    pub fn push(&mut self, kind: Kind, range_end: u64, event_time_ms: Option<i64>, body: &[u8]) {
        self.push_length(kind, range_end, event_time_ms, body.len());
        self.bodies.extend_from_slice(body);
    }

    /// Adds a record of so many bytes, whose body [`BatchBuilder::set_bodies`] brings.
    pub fn push_length(&mut self, kind: Kind, range_end: u64, event_time_ms: Option<i64>, body_bytes: usize) {
        debug_assert!(range_end >= self.end);
        let records = self.range_lengths.len();
        if self.skipped > 0 && self.skips.is_empty() {
            self.skips.resize(records, 0);
        }
        if self.skipped > 0 || !self.skips.is_empty() {
            self.skips.push(std::mem::take(&mut self.skipped));
        }
        if kind != Kind::Event && self.kinds.is_empty() {
            self.kinds.resize(records, Kind::Event.letter());
        }
        if kind != Kind::Event || !self.kinds.is_empty() {
            self.kinds.extend_from_slice(&[kind.letter()]);
        }
        if event_time_ms.is_some() && self.event_times_ms.is_empty() {
            self.event_times_ms.resize(records, 0);
        }
        if event_time_ms.is_some() || !self.event_times_ms.is_empty() {
            self.event_times_ms.push(event_time_ms.unwrap_or(0));
        }
        self.range_lengths.push((range_end - self.end) as u32);
        self.body_lengths.push(body_bytes as u32);
        self.end = range_end;
    }

    /// The bodies of all records, one behind another, in a buffer that is taken as it is.
    pub fn set_bodies(&mut self, bodies: BytesMut) {
        debug_assert_eq!(bodies.len(), self.body_lengths.iter().map(|bytes| *bytes as usize).sum::<usize>());
        self.bodies = bodies;
    }

    /// Gives back room for bodies, if more than half of it was not needed.
    pub fn shrink(&mut self) {
        if self.bodies.capacity() > 2 * self.bodies.len() {
            self.bodies = BytesMut::from(&self.bodies[..]);
        }
    }

    /// Moves all ranges, so that the first one begins at `start`.
    pub fn begin_at(&mut self, start: u64) {
        self.end = start + (self.end - self.start);
        self.start = start;
    }

    /// Adds all of `other`'s records, their ranges moved to where the next one begins.
    pub fn absorb(&mut self, other: &BatchBuilder) {
        debug_assert!(other.skips.is_empty() && self.skips.is_empty());
        let (own, more) = (self.len(), other.len());
        let has_kinds = !self.kinds.is_empty() || !other.kinds.is_empty();
        let has_times = !self.event_times_ms.is_empty() || !other.event_times_ms.is_empty();
        self.range_lengths.extend_from_slice(&other.range_lengths);
        self.body_lengths.extend_from_slice(&other.body_lengths);
        self.bodies.extend_from_slice(&other.bodies);
        if has_kinds {
            self.kinds.resize(own, Kind::Event.letter());
            self.kinds.extend_from_slice(&other.kinds);
            self.kinds.resize(own + more, Kind::Event.letter());
        }
        if has_times {
            self.event_times_ms.resize(own, 0);
            self.event_times_ms.extend_from_slice(&other.event_times_ms);
            self.event_times_ms.resize(own + more, 0);
        }
        self.end += other.end - other.start;
    }

    /// Records so far.
    pub fn len(&self) -> usize {
        self.range_lengths.len()
    }

    /// Whether there is no record yet.
    pub fn is_empty(&self) -> bool {
        self.range_lengths.is_empty()
    }

    /// Bytes of bodies so far.
    pub fn body_bytes(&self) -> usize {
        self.bodies.len()
    }

    /// Where the next record's range begins if nothing is skipped.
    pub fn end(&self) -> u64 {
        self.end
    }

    /// The batch, and a builder that goes on where it ends. `None` if no record was added.
    pub fn take(&mut self, stream: &StreamId, incarnation: Incarnation, source: SourceId) -> Option<Batch> {
        if self.is_empty() {
            return None;
        }
        let next = Self::new(self.end);
        let done = std::mem::replace(self, next);
        let columns = Columns {
            skips: done.skips,
            range_lengths: done.range_lengths,
            body_lengths: done.body_lengths,
            kinds: done.kinds.freeze(),
            bodies: done.bodies.freeze(),
            event_times_ms: done.event_times_ms,
        };
        let range = Range::new(done.start, done.end);
        Some(Batch { stream: stream.clone(), incarnation, source, range, columns: Arc::new(columns) })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn batch() -> Batch {
        let mut builder = BatchBuilder::new(10);
        builder.push(Kind::Event, 14, None, b"abc");
        builder.push(Kind::Mark, 20, None, b"");
        builder.push(Kind::Event, 22, Some(-5), b"d");
        builder.take(&"a.b.c".parse().unwrap(), Incarnation(7), SourceId::derive(1, &[])).unwrap()
    }

    #[test]
    fn records_survive_the_wire() {
        let sent = batch();
        let taken = Batch::from_wire(sent.to_wire()).unwrap();
        assert_eq!(taken, sent);
        let records: Vec<_> = taken.records().collect();
        let expected = |kind, start, end, event_time_ms, body: &'static str| Record {
            kind,
            range: Range::new(start, end),
            event_time_ms,
            body: body.into(),
        };
        assert_eq!(
            records,
            [
                expected(Kind::Event, 10, 14, None, "abc"),
                expected(Kind::Mark, 14, 20, None, ""),
                expected(Kind::Event, 20, 22, Some(-5), "d"),
            ]
        );
    }

    #[test]
    fn builders_join_as_if_they_were_one() {
        let push = |builder: &mut BatchBuilder, times: &[Option<i64>], kind| {
            times.iter().for_each(|time| builder.push(kind, builder.end() + 3, *time, b"ab"));
        };
        let sides = [(vec![None, None], Kind::Event), (vec![Some(5), None], Kind::Mark), (vec![None], Kind::Event)];
        for (first, second) in [(0, 1), (1, 0), (0, 2), (1, 1)] {
            let (mut joined, mut other, mut whole) = (BatchBuilder::new(0), BatchBuilder::new(0), BatchBuilder::new(7));
            push(&mut joined, &sides[first].0, sides[first].1);
            push(&mut other, &sides[second].0, sides[second].1);
            joined.absorb(&other);
            joined.begin_at(7);
            [first, second].into_iter().for_each(|side| push(&mut whole, &sides[side].0, sides[side].1));
            let mut taken = [joined, whole].into_iter().map(|mut builder| {
                builder.take(&"a.b.c".parse().unwrap(), Incarnation(7), SourceId::derive(1, &[])).unwrap()
            });
            let (joined, whole) = (taken.next().unwrap(), taken.next().unwrap());
            assert_eq!(Batch::from_wire(joined.to_wire()).as_ref(), Ok(&joined), "{first} {second}");
            assert_eq!(joined.records().collect::<Vec<_>>(), whole.records().collect::<Vec<_>>());
        }
    }

    #[test]
    fn parts_keep_their_ranges_over_the_wire_and_join_to_the_whole() {
        let whole = batch();
        let parts = whole.part(|record| (record.range.start / 4) as u32 % 2);
        let starts = |batch: &Batch| batch.records().map(|record| record.range.start).collect::<Vec<_>>();
        assert_eq!(parts.values().map(starts).collect::<Vec<_>>(), [vec![10], vec![14, 20]]);
        let apart = whole.part(|record| u32::from(record.kind == Kind::Mark));
        let events = &apart[&0];
        assert_eq!(Batch::from_wire(events.to_wire()).as_ref(), Ok(events));
        assert_eq!(events.range, whole.range);
        assert_eq!(events.covered(), Ranges::from(vec![Range::new(10, 14), Range::new(20, 22)]));
        let mut late = events.to_wire();
        late.start -= 4;
        late.skips[0] = 4;
        assert_eq!(Batch::from_wire(late).as_ref(), Ok(events));
        let mut all: Vec<_> = apart.values().flat_map(Batch::records).collect();
        all.sort_by_key(|record| record.range.start);
        assert_eq!(all, whole.records().collect::<Vec<_>>());
    }

    #[test]
    fn disagreeing_columns_are_refused() {
        type Damage = fn(&mut wire::v1::Batch);
        let damages: [(&str, Damage); 9] = [
            ("empty", |b| {
                *b = wire::v1::Batch { stream: "a.b.c".into(), source: b.source.clone(), ..Default::default() }
            }),
            ("stream", |b| b.stream = "../x".into()),
            ("source", |b| b.source = Bytes::from_static(b"short")),
            ("bodies", |b| b.body_lengths[0] = u32::MAX),
            ("column", |b| b.event_times_ms.push(1)),
            ("kind", |b| b.kinds = Bytes::from_static(b"e?e")),
            ("ordinal", |b| b.start = u64::MAX - 1),
            ("skips", |b| b.skips = vec![1]),
            ("far skips", |b| b.skips = vec![u64::MAX; 3]),
        ];
        for (name, damage) in damages {
            let mut wire = batch().to_wire();
            damage(&mut wire);
            assert!(Batch::from_wire(wire).is_err(), "{name} was taken");
        }
    }
}
