//! The bytes of the log's files. Every file is a row of frames (`stream::frame`: u32 length, u32 CRC-32C, payload); the
//! first byte of a payload says what it is. All numbers are little endian.
//!
//! ```text
//! wal-<20 digits>             header, then entries in the order of their commits      (see wal.rs)
//! run-<20 digits>-<6 digits>  header, entries sorted by partition and offset, footer  (see run.rs)
//! state                       one frame of JSON                                       (see state.rs)
//! lock                        empty, locked by the process that owns the directory
//!
//! header 1/2  0 u8  kind: 1 wal, 2 run       entry 3  0 u8  kind: 3
//!             1 u8  0                                 1 u8  0
//!             2 u16 0                                 2 u16 bytes of the topic key
//!             4 u32 format version                    4 u32 partition
//!             8 u64 number of the file               8 u64 offset of the first record
//!            16 u64 number of the wal before, or 0   16 i64 append time, ms since 1970
//!            24 u64 its valid bytes                  24 u32 records
//!                                                    28 topic key, then the batch (protobuf, wire::v1::Batch)
//! ```

use std::path::{Path, PathBuf};

use stream::frame;

/// The format that this version writes and reads.
pub const VERSION: u32 = 1;
/// Offsets end here, far behind what any journal comes to: whatever says that it ends beyond is damaged, and what is appended
/// behind all that was found has room for its numbers.
pub const OFFSET_MAX: u64 = 1 << 62;
/// Longest payload: a batch at the message limit and what wraps it; footers stay far below.
pub const PAYLOAD_BYTES_MAX: usize = 16 << 20;
/// First byte of a write-ahead segment's header.
pub const KIND_WAL: u8 = 1;
/// First byte of a run's header.
pub const KIND_RUN: u8 = 2;
/// First byte of an entry.
pub const KIND_ENTRY: u8 = 3;
/// First byte of a run's footer.
pub const KIND_FOOTER: u8 = 4;
/// First byte of a run's trailer.
pub const KIND_TRAILER: u8 = 5;
/// Bytes of a file's header with its frame.
pub const HEADER_FRAME_BYTES: usize = frame::FRAME_HEADER_BYTES + HEADER_BYTES;

const HEADER_BYTES: usize = 32;
const ENTRY_HEAD_BYTES: usize = 28;

/// A file of the log.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum FileName {
    /// A write-ahead segment.
    Wal(u64),
    /// A run: the number of the segment it was copied from, and how often it was rewritten since.
    Run(u64, u32),
}

impl FileName {
    /// The file's name.
    pub fn text(self) -> String {
        match self {
            FileName::Wal(number) => format!("wal-{number:020}"),
            FileName::Run(number, generation) => format!("run-{number:020}-{generation:06}"),
        }
    }

    /// Its path in `dir`.
    pub fn path(self, dir: &Path) -> PathBuf {
        dir.join(self.text())
    }

    /// The file of a name.
    pub fn parse(text: &str) -> Option<Self> {
        let name = match text.split_once('-')? {
            ("wal", number) => FileName::Wal(number.parse().ok()?),
            ("run", rest) => {
                let (number, generation) = rest.split_once('-')?;
                FileName::Run(number.parse().ok()?, generation.parse().ok()?)
            }
            _ => return None,
        };
        (name.text() == text).then_some(name)
    }
}

/// What a file's first frame says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Header {
    /// [`KIND_WAL`] or [`KIND_RUN`].
    pub kind: u8,
    /// The format.
    pub version: u32,
    /// The file's number.
    pub number: u64,
    /// The segment written before this one; 0: none.
    pub previous: u64,
    /// How many bytes of that segment are valid: what follows them was never acknowledged.
    pub previous_bytes: u64,
}

impl Header {
    /// Appends the header's frame.
    pub fn write(&self, out: &mut Vec<u8>) {
        let mut payload = Vec::with_capacity(HEADER_BYTES);
        payload.extend_from_slice(&[self.kind, 0, 0, 0]);
        payload.extend_from_slice(&self.version.to_le_bytes());
        payload.extend_from_slice(&self.number.to_le_bytes());
        payload.extend_from_slice(&self.previous.to_le_bytes());
        payload.extend_from_slice(&self.previous_bytes.to_le_bytes());
        frame::write(out, &payload);
    }

    /// The header at the start of a file, if it is whole and of `kind`.
    pub fn read(bytes: &[u8], kind: u8) -> Option<Self> {
        let frame::Parsed::Frame(payload, _) = frame::parse(bytes, HEADER_BYTES) else { return None };
        if payload.len() != HEADER_BYTES || payload[0] != kind {
            return None;
        }
        Some(Self {
            kind,
            version: u32_at(payload, 4)?,
            number: u64_at(payload, 8)?,
            previous: u64_at(payload, 16)?,
            previous_bytes: u64_at(payload, 24)?,
        })
    }
}

/// An entry as it lies in a frame's payload.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Entry<'a> {
    /// The topic's key.
    pub topic: &'a str,
    /// The partition.
    pub partition: u32,
    /// Offset of the first record.
    pub offset: u64,
    /// When it was taken, in ms since 1970.
    pub append_time_ms: i64,
    /// Records of the batch.
    pub records: u32,
    /// The encoded batch.
    pub batch: &'a [u8],
}

impl<'a> Entry<'a> {
    /// One past the offset of the last record.
    pub fn end(&self) -> u64 {
        // No entry that is read ends beyond `OFFSET_MAX`.
        self.offset + u64::from(self.records)
    }

    /// Bytes of the frame of an entry with this batch.
    pub fn frame_bytes(topic: &str, batch: &[u8]) -> usize {
        frame::FRAME_HEADER_BYTES + ENTRY_HEAD_BYTES + topic.len() + batch.len()
    }

    /// Appends the entry's frame.
    pub fn write(&self, out: &mut Vec<u8>) {
        let mut head = [0; ENTRY_HEAD_BYTES];
        head[0] = KIND_ENTRY;
        head[2..4].copy_from_slice(&(self.topic.len() as u16).to_le_bytes());
        head[4..8].copy_from_slice(&self.partition.to_le_bytes());
        head[8..16].copy_from_slice(&self.offset.to_le_bytes());
        head[16..24].copy_from_slice(&self.append_time_ms.to_le_bytes());
        head[24..].copy_from_slice(&self.records.to_le_bytes());
        frame::write_parts(out, &[&head, self.topic.as_bytes(), self.batch]);
    }

    /// The entry in a payload; none if it is something else.
    pub fn read(payload: &'a [u8]) -> Option<Self> {
        if *payload.first()? != KIND_ENTRY {
            return None;
        }
        let topic_bytes = u16::from_le_bytes(payload.get(2..4)?.try_into().ok()?) as usize;
        let batch_at = ENTRY_HEAD_BYTES + topic_bytes;
        let (offset, records) = (u64_at(payload, 8)?, u32_at(payload, 24)?);
        offset.checked_add(u64::from(records)).filter(|end| *end <= OFFSET_MAX)?;
        Some(Self {
            topic: std::str::from_utf8(payload.get(ENTRY_HEAD_BYTES..batch_at)?).ok()?,
            partition: u32_at(payload, 4)?,
            offset,
            append_time_ms: u64_at(payload, 16)? as i64,
            records,
            batch: payload.get(batch_at..)?,
        })
    }
}

/// The number at a place.
pub fn u32_at(bytes: &[u8], at: usize) -> Option<u32> {
    Some(u32::from_le_bytes(bytes.get(at..at + 4)?.try_into().ok()?))
}

/// The number at a place.
pub fn u64_at(bytes: &[u8], at: usize) -> Option<u64> {
    Some(u64::from_le_bytes(bytes.get(at..at + 8)?.try_into().ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_headers_and_entries_survive_their_bytes() {
        for name in [FileName::Wal(7), FileName::Run(u64::MAX, 3)] {
            assert_eq!(FileName::parse(&name.text()), Some(name));
        }
        for foreign in ["wal-7", "run-1", "state", "lock", ".state.draft", "run-00000000000000000001-000000.draft"] {
            assert_eq!(FileName::parse(foreign), None, "{foreign} was taken");
        }
        let header = Header { kind: KIND_WAL, version: VERSION, number: 9, previous: 8, previous_bytes: 77 };
        let mut bytes = Vec::new();
        header.write(&mut bytes);
        assert_eq!(bytes.len(), HEADER_FRAME_BYTES);
        assert_eq!(Header::read(&bytes, KIND_WAL), Some(header));
        assert_eq!(Header::read(&bytes, KIND_RUN), None);
        let entry =
            Entry { topic: "a.b.c@1", partition: 2, offset: 3, append_time_ms: -4, records: 5, batch: b"protobuf" };
        bytes.clear();
        entry.write(&mut bytes);
        let frame::Parsed::Frame(payload, _) = frame::parse(&bytes, PAYLOAD_BYTES_MAX) else { panic!("no frame") };
        assert_eq!(Entry::read(payload), Some(entry));
        for (offset, is_one) in [(OFFSET_MAX - 5, true), (OFFSET_MAX - 4, false), (u64::MAX - 4, false)] {
            bytes.clear();
            Entry { offset, ..entry }.write(&mut bytes);
            let frame::Parsed::Frame(payload, _) = frame::parse(&bytes, PAYLOAD_BYTES_MAX) else { panic!("no frame") };
            assert_eq!(Entry::read(payload).is_some(), is_one, "five records from {offset} on");
        }
    }
}
