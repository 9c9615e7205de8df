//! Reading: the index tells which parts of which files, the files are read without any lock, and every frame is checked.
//!
//! A file may be replaced or removed between the two steps (the keeper copied or rewrote it): the index then knows the
//! entries at their new place, and it is asked again. The keeper cuts off what has lost its name once no reading has it open. A damaged frame is passed over aloud: it costs itself, and the
//! ledger names what it held.

use std::io;
use std::sync::PoisonError;

use bytes::Bytes;
use stream::frame::FRAME_HEADER_BYTES;
use stream::wire::Refusal;
use tracing::error;

use super::format::Entry;
use super::index::{Extent, Key, Located};
use super::log::{EmbeddedLog, lock};
use super::run::read_exactly;
use super::scan::{Found, frames};
use super::writer::refusal_of;
use crate::metrics;

/// How often the index is asked again when files go away under a reading: each time the keeper has just made progress.
const TRIES: usize = 5;

/// An entry as it is stored.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StoredEntry {
    /// Offset of the first record.
    pub offset: u64,
    /// When it was taken, in ms since 1970.
    pub append_time_ms: i64,
    /// The encoded `wire::v1::Batch`.
    pub batch: Bytes,
}

/// What one reading found.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct StoredChunk {
    /// In the order of offsets.
    pub entries: Vec<StoredEntry>,
    /// Where reading goes on.
    pub next_offset: u64,
    /// The oldest offset kept.
    pub start_offset: u64,
    /// The durable end.
    pub end_offset: u64,
}

impl EmbeddedLog {
    /// Reads entries from `offset` on: about `bytes_max` bytes, at least one entry if there is one. Blocks on the disk.
    pub fn read(&self, topic: &str, partition: u32, offset: u64, bytes_max: usize) -> Result<StoredChunk, Refusal> {
        let key = self.known(topic, partition)?;
        let mut tries = 0;
        loop {
            tries += 1;
            let located = lock(&self.index).locate(&key, offset, bytes_max);
            match self.read_located(&key, &located, offset, bytes_max) {
                Ok(chunk) => return Ok(chunk),
                Err(error) if error.kind() == io::ErrorKind::NotFound && tries < TRIES => {}
                Err(error) => return Err(refusal_of("read", &error)),
            }
        }
    }

    fn read_located(&self, key: &Key, located: &Located, offset: u64, bytes_max: usize) -> io::Result<StoredChunk> {
        let (start_offset, end_offset) = (located.start, located.end);
        let mut chunk = StoredChunk { next_offset: offset, start_offset, end_offset, ..StoredChunk::default() };
        let mut bytes = 0;
        for extent in &located.extents {
            for entry in self.read_extent(key, extent)? {
                if entry.0 <= chunk.next_offset {
                    continue;
                }
                if bytes > 0 && bytes + entry.1.batch.len() > bytes_max {
                    return Ok(chunk);
                }
                bytes += entry.1.batch.len();
                chunk.next_offset = entry.0;
                chunk.entries.push(entry.1);
            }
            // Also past what was damaged.
            chunk.next_offset = chunk.next_offset.max(extent.end);
        }
        Ok(chunk)
    }

    /// The entries of one part of a file, with the offsets after them. One that is not what the index says is damaged: if it
    /// were believed, it would hide all that lie behind it.
    fn read_extent(&self, (topic, partition): &Key, extent: &Extent) -> io::Result<Vec<(u64, StoredEntry)>> {
        let bytes = {
            let _reading = self.reading.read().unwrap_or_else(PoisonError::into_inner);
            let file = self.disk.open(&extent.file.path(&self.dir))?;
            Bytes::from(read_exactly(file.as_ref(), extent.position, extent.bytes as usize)?)
        };
        let mut entries = Vec::new();
        for found in frames(&bytes, 0) {
            match found {
                Found::Frame { position, bytes: taken, payload } => {
                    let is_own = |entry: &Entry<'_>| {
                        *entry.topic == **topic && entry.partition == *partition && entry.end() <= extent.end
                    };
                    let Some(entry) = Entry::read(payload).filter(is_own) else {
                        self.report_damage(extent, position, position + taken);
                        continue;
                    };
                    let batch_at = position + FRAME_HEADER_BYTES + payload.len() - entry.batch.len();
                    let stored = StoredEntry {
                        offset: entry.offset,
                        append_time_ms: entry.append_time_ms,
                        batch: bytes.slice(batch_at..position + taken),
                    };
                    entries.push((entry.end(), stored));
                }
                Found::Damaged { from, to } => self.report_damage(extent, from, to),
                Found::Tail { from } => self.report_damage(extent, from, bytes.len()),
            }
        }
        Ok(entries)
    }

    fn report_damage(&self, extent: &Extent, from: usize, to: usize) {
        let file = extent.file.text();
        let at = |within: usize| extent.position + within as u64;
        metrics::damaged(to - from);
        error!(file, from = at(from), to = at(to), "damaged bytes in the journal are passed over");
    }
}
