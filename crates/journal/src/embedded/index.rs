//! Where everything lies: per partition the pieces in runs, then the frames in write-ahead segments, in the order of
//! their offsets. Small: 40 bytes a piece (256 KiB of data), 32 bytes a frame of a segment not yet copied.
//!
//! Offsets may have holes (a damaged frame that was passed over): a reader goes on at the next entry.

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::sync::Arc;

use tokio::sync::watch;

use super::format::FileName;
use super::{TopicSettings, Topics};
use crate::seam::{Bounds, here};

/// A topic's key and a partition.
pub type Key = (Arc<str>, u32);

/// Contiguous frames of one partition in a run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Piece {
    /// The run's number.
    pub run: u64,
    /// Where its first frame begins.
    pub position: u32,
    /// The bytes of its frames.
    pub bytes: u32,
    /// Offset of its first record.
    pub first: u64,
    /// One past the offset of its last.
    pub end: u64,
    /// When its last entry was appended, in ms since 1970.
    pub last_time_ms: i64,
}

/// One entry's frame in a write-ahead segment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct WalFrame {
    /// The segment's number.
    pub wal: u64,
    /// Where it begins.
    pub position: u32,
    /// The bytes it takes.
    pub bytes: u32,
    /// Offset of its first record.
    pub first: u64,
    /// One past the offset of its last.
    pub end: u64,
}

/// What is known of one partition.
#[derive(Debug)]
pub struct Partition {
    /// The oldest offset kept.
    pub start: u64,
    /// The durable end, and whoever waits for it.
    pub end: watch::Sender<u64>,
    /// What is in runs.
    pub pieces: VecDeque<Piece>,
    /// What is only in write-ahead segments.
    pub frames: VecDeque<WalFrame>,
    /// Records that a limit removed before a live reader had taken them.
    pub overtaken_records: u64,
    /// A reader that stands still holds more than the topic may keep: nothing more is taken until it goes on.
    pub is_over: bool,
    /// Committed positions of the live readers.
    pub readers: BTreeMap<String, u64>,
}

/// A run on the disk.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Run {
    /// How often it was rewritten.
    pub generation: u32,
    /// Bytes of its entries when it was written.
    pub bytes: u64,
}

/// A part of a file to read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Extent {
    /// The file.
    pub file: FileName,
    /// Where the part begins.
    pub position: u64,
    /// Its length.
    pub bytes: u64,
    /// One past the offset of its last record.
    pub end: u64,
}

/// Where to read on, and the bounds.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Located {
    /// In the order of offsets.
    pub extents: Vec<Extent>,
    /// The oldest offset kept.
    pub start: u64,
    /// The durable end.
    pub end: u64,
}

/// The whole index.
#[derive(Debug, Default)]
pub struct Index {
    /// What the configuration says.
    pub topics: Topics,
    /// By topic and partition.
    pub partitions: HashMap<Key, Partition>,
    /// The runs by number.
    pub runs: BTreeMap<u64, Run>,
    /// Sealed write-ahead segments that wait for the keeper, oldest first.
    pub sealed: VecDeque<u64>,
    /// When a topic was first seen to be gone from the configuration, in ms since 1970.
    pub gone_since_ms: HashMap<Arc<str>, i64>,
}

impl Default for Partition {
    fn default() -> Self {
        Self {
            start: 0,
            end: watch::Sender::new(0),
            pieces: VecDeque::new(),
            frames: VecDeque::new(),
            overtaken_records: 0,
            is_over: false,
            readers: BTreeMap::new(),
        }
    }
}

impl Partition {
    /// The durable end.
    pub fn end(&self) -> u64 {
        *self.end.borrow()
    }

    /// Bytes on disk.
    pub fn bytes(&self) -> u64 {
        let pieces: u64 = self.pieces.iter().map(|piece| u64::from(piece.bytes)).sum();
        let frames: u64 = self.frames.iter().map(|frame| u64::from(frame.bytes)).sum();
        pieces + frames
    }

    /// Adds an entry that is durable in a write-ahead segment.
    pub fn push_frame(&mut self, frame: WalFrame) {
        self.frames.push_back(frame);
        self.end.send_replace(frame.end);
    }

    /// The position of the slowest live reader; none: no reader has kept one yet.
    pub fn slowest(&self) -> Option<u64> {
        self.readers.values().min().copied()
    }

    /// Drops the first `count` pieces.
    pub fn drop_pieces(&mut self, count: usize) {
        self.pieces.drain(..count);
        let next = self.pieces.front().map(|piece| piece.first).or(self.frames.front().map(|frame| frame.first));
        self.start = self.start.max(next.unwrap_or_else(|| self.end()));
    }
}

impl Index {
    /// Adopts a configuration: partition 0 of every topic is there from the beginning.
    pub fn configure(&mut self, topics: Topics) {
        for topic in topics.keys() {
            self.partitions.entry((Arc::clone(topic), 0)).or_default();
            self.gone_since_ms.remove(topic);
        }
        self.topics = topics;
    }

    /// A topic's settings and shared key, if it is configured.
    pub fn topic(&self, topic: &str) -> Option<(Arc<str>, TopicSettings)> {
        self.topics.get_key_value(topic).map(|(key, settings)| (Arc::clone(key), *settings))
    }

    /// What to read from `offset` on: about `bytes_max` bytes, at least one part if there is any.
    pub fn locate(&self, key: &Key, offset: u64, bytes_max: usize) -> Located {
        let Some(partition) = self.partitions.get(key) else { return Located::default() };
        let piece_at = partition.pieces.partition_point(|piece| piece.end <= offset);
        let frame_at = partition.frames.partition_point(|frame| frame.end <= offset);
        let in_runs = partition.pieces.range(piece_at..).filter_map(|piece| {
            let generation = self.runs.get(&piece.run)?.generation;
            let file = FileName::Run(piece.run, generation);
            Some(Extent { file, position: piece.position.into(), bytes: piece.bytes.into(), end: piece.end })
        });
        let in_wal = partition.frames.range(frame_at..).map(|frame| {
            let file = FileName::Wal(frame.wal);
            Extent { file, position: frame.position.into(), bytes: frame.bytes.into(), end: frame.end }
        });
        let (mut extents, mut bytes): (Vec<Extent>, u64) = (Vec::new(), 0);
        for extent in in_runs.chain(in_wal) {
            if bytes > 0 && bytes + extent.bytes > bytes_max as u64 {
                break;
            }
            bytes += extent.bytes;
            match extents.last_mut() {
                // Neighbours are read at once.
                Some(last) if last.file == extent.file && last.position + last.bytes == extent.position => {
                    (last.bytes, last.end) = (last.bytes + extent.bytes, extent.end);
                }
                _ => extents.push(extent),
            }
        }
        Located { extents, start: partition.start, end: partition.end() }
    }

    /// The frames of a write-ahead segment, sorted by partition and offset.
    pub fn frames_of(&self, wal: u64) -> Vec<(Key, Vec<WalFrame>)> {
        let of = |partition: &Partition| partition.frames.iter().filter(|f| f.wal == wal).copied().collect::<Vec<_>>();
        let mut frames: Vec<_> = self.partitions.iter().map(|(key, partition)| (key.clone(), of(partition))).collect();
        frames.retain(|(_, frames)| !frames.is_empty());
        frames.sort_unstable_by(|(a, _), (b, _)| a.cmp(b));
        frames
    }

    /// The pieces of a run, sorted by partition and offset.
    pub fn pieces_of(&self, run: u64) -> Vec<(Key, Vec<Piece>)> {
        let of = |partition: &Partition| partition.pieces.iter().filter(|p| p.run == run).copied().collect::<Vec<_>>();
        let mut pieces: Vec<_> = self.partitions.iter().map(|(key, partition)| (key.clone(), of(partition))).collect();
        pieces.retain(|(_, pieces)| !pieces.is_empty());
        pieces.sort_unstable_by(|(a, _), (b, _)| a.cmp(b));
        pieces
    }

    /// The live bytes of every run.
    pub fn live_bytes(&self) -> BTreeMap<u64, u64> {
        let mut live: BTreeMap<u64, u64> = self.runs.keys().map(|run| (*run, 0)).collect();
        for piece in self.partitions.values().flat_map(|partition| &partition.pieces) {
            *live.entry(piece.run).or_default() += u64::from(piece.bytes);
        }
        live
    }

    /// Replaces the frames of segment `wal` by the pieces they were copied to.
    pub fn adopt_copy(&mut self, wal: u64, run: Option<Run>, pieces: Vec<(Key, Vec<Piece>)>) {
        if let Some(run) = run {
            self.runs.insert(wal, run);
        }
        for partition in self.partitions.values_mut() {
            partition.frames.retain(|frame| frame.wal != wal);
        }
        for (key, pieces) in pieces {
            if let Some(partition) = self.partitions.get_mut(&key) {
                partition.pieces.extend(pieces);
            }
        }
    }

    /// Replaces the pieces of run `number` by those of its next generation.
    pub fn adopt_rewrite(&mut self, number: u64, run: Run, pieces: Vec<(Key, Vec<Piece>)>) {
        self.runs.insert(number, run);
        let mut pieces: HashMap<Key, Vec<Piece>> = pieces.into_iter().collect();
        for (key, partition) in &mut self.partitions {
            let from = partition.pieces.partition_point(|piece| piece.run < number);
            let to = partition.pieces.partition_point(|piece| piece.run <= number);
            let after = partition.pieces.split_off(to);
            partition.pieces.truncate(from);
            partition.pieces.extend(pieces.remove(key).unwrap_or_default());
            partition.pieces.extend(after);
        }
    }

    /// The bounds of `topics`, or of all if none is named.
    pub fn bounds(&self, topics: &[String]) -> Vec<Bounds> {
        let wanted = |key: &Key| {
            self.topics.contains_key(&key.0) && (topics.is_empty() || topics.iter().any(|topic| **topic == *key.0))
        };
        let mut bounds: Vec<Bounds> = self
            .partitions
            .iter()
            .filter(|(key, _)| wanted(key))
            .map(|((topic, partition), held)| Bounds {
                topic: topic.to_string(),
                place: here(*partition),
                start_offset: held.start,
                end_offset: held.end(),
                bytes: held.bytes(),
                overtaken_records: held.overtaken_records,
            })
            .collect();
        bounds.sort_unstable_by(|a, b| (&a.topic, a.place).cmp(&(&b.topic, b.place)));
        bounds
    }
}
