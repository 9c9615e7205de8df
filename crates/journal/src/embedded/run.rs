//! A run: what one write-ahead segment held, sorted by partition and offset, so that each partition is read in one go.
//!
//! ```text
//! header   frame, see format.rs
//! entries  frames, byte for byte those of the segment
//! footer   frame: 0 u8 kind 4, 1 u8[3] 0, then per partition
//!                 u16 bytes of the topic key, key, u32 partition, u32 pieces, then per piece
//!                 u32 position, u32 bytes, u64 first offset, u64 end offset, i64 last append time
//! trailer  frame: 0 u8 kind 5, 1 u8[7] 0, 8 u64 position of the footer
//! ```
//!
//! A run is written under a draft's name, synced, renamed, and its directory synced; only then may what it replaces go.
//! A later generation of a run holds fewer pieces and stands in for the earlier ones. A run whose footer cannot be read
//! is scanned instead: footer and trailer only save time.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use stream::crash;
use stream::disk::{Disk, DiskFile};
use stream::frame::{self, Parsed};

use super::LogSettings;
use super::format::{
    Entry, FileName, Header, KIND_FOOTER, KIND_RUN, KIND_TRAILER, OFFSET_MAX, PAYLOAD_BYTES_MAX, VERSION, u32_at,
    u64_at,
};
use super::index::{Key, Piece, Run};
use super::scan::{Found, frames};

const TRAILER_PAYLOAD_BYTES: usize = 16;
const TRAILER_BYTES: usize = frame::FRAME_HEADER_BYTES + TRAILER_PAYLOAD_BYTES;

/// The pieces of a run, by partition.
pub type Pieces = Vec<(Key, Vec<Piece>)>;

/// A run being written.
pub struct RunWriter<'a> {
    disk: &'a dyn Disk,
    dir: &'a Path,
    number: u64,
    generation: u32,
    piece_bytes: u64,
    step_bytes: u64,
    draft: PathBuf,
    file: Box<dyn DiskFile>,
    buffer: Vec<u8>,
    written: u64,
    pieces: Pieces,
}

impl<'a> RunWriter<'a> {
    /// Begins a run under a draft's name.
    pub fn create(
        disk: &'a dyn Disk,
        dir: &'a Path,
        number: u64,
        generation: u32,
        settings: &LogSettings,
    ) -> io::Result<Self> {
        let (piece_bytes, step_bytes) = (settings.piece_bytes, settings.keeper_step_bytes);
        let draft = draft_path(dir, number, generation);
        if disk.exists(&draft) {
            disk.remove(&draft)?;
        }
        let file = disk.create(&draft)?;
        let mut buffer = Vec::with_capacity(2 * step_bytes as usize);
        Header { kind: KIND_RUN, version: VERSION, number, previous: 0, previous_bytes: 0 }.write(&mut buffer);
        let (written, pieces) = (0, Vec::new());
        Ok(Self { disk, dir, number, generation, piece_bytes, step_bytes, draft, file, buffer, written, pieces })
    }

    /// Adds an entry's whole frame. Entries come sorted by partition and offset.
    pub fn push(&mut self, key: &Key, entry: &Entry<'_>, frame: &[u8]) -> io::Result<()> {
        let position = self.written + self.buffer.len() as u64;
        if self.pieces.last().is_none_or(|(last, _)| last != key) {
            self.pieces.push((key.clone(), Vec::new()));
        }
        let piece = Piece {
            run: self.number,
            position: u32::try_from(position).map_err(io::Error::other)?,
            bytes: frame.len() as u32,
            first: entry.offset,
            end: entry.end(),
            last_time_ms: entry.append_time_ms,
        };
        if let Some((_, pieces)) = self.pieces.last_mut() {
            extend(pieces, piece, self.piece_bytes);
        }
        self.buffer.extend_from_slice(frame);
        if self.buffer.len() as u64 >= self.step_bytes { self.flush() } else { Ok(()) }
    }

    /// Synced as it goes: a commit whose sync comes in between waits behind one step, not behind a whole segment.
    fn flush(&mut self) -> io::Result<()> {
        self.file.append(&self.buffer)?;
        self.file.sync()?;
        self.written += self.buffer.len() as u64;
        self.buffer.clear();
        Ok(())
    }

    /// Makes the run durable under its name. A crash before leaves a draft, which recovery removes.
    pub fn finish(mut self) -> io::Result<(Run, Pieces)> {
        let footer_at = self.written + self.buffer.len() as u64;
        frame::write(&mut self.buffer, &footer(&self.pieces));
        let mut trailer = [0; TRAILER_PAYLOAD_BYTES];
        trailer[0] = KIND_TRAILER;
        trailer[8..].copy_from_slice(&footer_at.to_le_bytes());
        frame::write(&mut self.buffer, &trailer);
        self.flush()?;
        crash::point("journal.segment.copied");
        self.disk.replace(&self.draft, &FileName::Run(self.number, self.generation).path(self.dir))?;
        crash::point("journal.segment.renamed");
        self.disk.sync_dir(self.dir)?;
        Ok((Run { generation: self.generation, bytes: bytes_of(&self.pieces) }, self.pieces))
    }
}

/// The name of a run while it is being written.
pub fn draft_path(dir: &Path, number: u64, generation: u32) -> PathBuf {
    dir.join(format!("{}.draft", FileName::Run(number, generation).text()))
}

/// The bytes of all pieces.
pub fn bytes_of(pieces: &Pieces) -> u64 {
    pieces.iter().flat_map(|(_, pieces)| pieces).map(|piece| u64::from(piece.bytes)).sum()
}

/// Adds a frame to the pieces of its partition: to the last one while that is contiguous and below the grain.
fn extend(pieces: &mut Vec<Piece>, next: Piece, piece_bytes: u64) {
    match pieces.last_mut() {
        Some(last)
            if last.position + last.bytes == next.position
                && u64::from(last.bytes) + u64::from(next.bytes) <= piece_bytes =>
        {
            last.bytes += next.bytes;
            last.end = next.end;
            last.last_time_ms = last.last_time_ms.max(next.last_time_ms);
        }
        _ => pieces.push(next),
    }
}

fn footer(pieces: &Pieces) -> Vec<u8> {
    let mut out = vec![KIND_FOOTER, 0, 0, 0];
    for ((topic, partition), pieces) in pieces {
        out.extend_from_slice(&(topic.len() as u16).to_le_bytes());
        out.extend_from_slice(topic.as_bytes());
        out.extend_from_slice(&partition.to_le_bytes());
        out.extend_from_slice(&(pieces.len() as u32).to_le_bytes());
        for piece in pieces {
            out.extend_from_slice(&piece.position.to_le_bytes());
            out.extend_from_slice(&piece.bytes.to_le_bytes());
            out.extend_from_slice(&piece.first.to_le_bytes());
            out.extend_from_slice(&piece.end.to_le_bytes());
            out.extend_from_slice(&piece.last_time_ms.to_le_bytes());
        }
    }
    out
}

/// The pieces that the footer of a run names, if header, footer and trailer are whole and fit the file.
pub fn read_footer(file: &dyn DiskFile, number: u64) -> io::Result<Option<Pieces>> {
    let length = file.len();
    let Some(trailer_at) = length.checked_sub(TRAILER_BYTES as u64) else { return Ok(None) };
    let trailer = read_exactly(file, trailer_at, TRAILER_BYTES)?;
    let Parsed::Frame(trailer, _) = frame::parse(&trailer, TRAILER_PAYLOAD_BYTES) else { return Ok(None) };
    let footer_at = u64_at(trailer, 8).filter(|at| *at < trailer_at && trailer[0] == KIND_TRAILER);
    let Some(footer_at) = footer_at else { return Ok(None) };
    let footer_bytes = trailer_at - footer_at;
    if footer_bytes > (PAYLOAD_BYTES_MAX + frame::FRAME_HEADER_BYTES) as u64 {
        return Ok(None);
    }
    let bytes = read_exactly(file, footer_at, footer_bytes as usize)?;
    let Parsed::Frame(payload, _) = frame::parse(&bytes, PAYLOAD_BYTES_MAX) else { return Ok(None) };
    Ok(parse_footer(payload, number, footer_at))
}

fn parse_footer(payload: &[u8], run: u64, footer_at: u64) -> Option<Pieces> {
    if *payload.first()? != KIND_FOOTER {
        return None;
    }
    let (mut at, mut all) = (4, Vec::new());
    while at < payload.len() {
        let topic_bytes = u16::from_le_bytes(payload.get(at..at + 2)?.try_into().ok()?) as usize;
        let topic = std::str::from_utf8(payload.get(at + 2..at + 2 + topic_bytes)?).ok()?;
        at += 2 + topic_bytes;
        let (partition, count) = (u32_at(payload, at)?, u32_at(payload, at + 4)?);
        at += 8;
        let mut pieces = Vec::new();
        for _ in 0..count {
            let (position, bytes) = (u32_at(payload, at)?, u32_at(payload, at + 4)?);
            let (first, end) = (u64_at(payload, at + 8)?, u64_at(payload, at + 16)?);
            if first > end || end > OFFSET_MAX {
                return None;
            }
            let last_time_ms = u64_at(payload, at + 24)? as i64;
            pieces.push(Piece { run, position, bytes, first, end, last_time_ms });
            at += 32;
        }
        all.push(((Arc::from(topic), partition), pieces));
    }
    let last_end = |pieces: &Pieces| pieces.last()?.1.last().map(|p| u64::from(p.position) + u64::from(p.bytes));
    (last_end(&all) == Some(footer_at)).then_some(all)
}

/// The pieces found by scanning a run's bytes, and the parts that are damaged.
pub fn scan_pieces(bytes: &[u8], number: u64, piece_bytes: u64) -> (Pieces, Vec<(usize, usize)>) {
    let (mut all, mut damaged): (Pieces, Vec<(usize, usize)>) = (Vec::new(), Vec::new());
    for found in frames(bytes, 0) {
        let (position, taken, payload) = match found {
            Found::Frame { position, bytes, payload } => (position, bytes, payload),
            Found::Damaged { from, to } => {
                damaged.push((from, to));
                continue;
            }
            Found::Tail { from } => {
                damaged.push((from, bytes.len()));
                continue;
            }
        };
        let Some(entry) = Entry::read(payload) else { continue };
        let piece = Piece {
            run: number,
            position: position as u32,
            bytes: taken as u32,
            first: entry.offset,
            end: entry.end(),
            last_time_ms: entry.append_time_ms,
        };
        match all.last_mut() {
            Some(((topic, partition), pieces)) if **topic == *entry.topic && *partition == entry.partition => {
                extend(pieces, piece, piece_bytes);
            }
            _ => all.push(((Arc::from(entry.topic), entry.partition), vec![piece])),
        }
    }
    (all, damaged)
}

/// Reads `bytes` bytes at `position`; fewer are an error.
pub fn read_exactly(file: &dyn DiskFile, position: u64, bytes: usize) -> io::Result<Vec<u8>> {
    let mut buffer = vec![0; bytes];
    let mut filled = 0;
    while filled < bytes {
        match file.read_at(position + filled as u64, &mut buffer[filled..])? {
            0 => return Err(io::ErrorKind::UnexpectedEof.into()),
            n => filled += n,
        }
    }
    Ok(buffer)
}

#[cfg(test)]
mod tests {
    use super::*;
    use stream::SourceId;
    use stream::disk::{SimDisk, read_all};

    #[test]
    fn footer_and_scan_name_the_same_pieces() {
        let (disk, dir) = (SimDisk::new(), Path::new("/d"));
        disk.create_dir_all(dir).unwrap();
        let settings = LogSettings { piece_bytes: 300, ..LogSettings::default() };
        let mut writer = RunWriter::create(&disk, dir, 5, 0, &settings).unwrap();
        let source = SourceId::derive(1, &[]);
        for topic in ["a.b.c@1", "a.b.d@1"] {
            for offset in 0..10 {
                let (time, batch) = (offset as i64, source.as_bytes());
                let entry = Entry { topic, partition: 0, offset, append_time_ms: time, records: 1, batch };
                let mut frame = Vec::new();
                entry.write(&mut frame);
                writer.push(&(Arc::from(topic), 0), &entry, &frame).unwrap();
            }
        }
        let (run, pieces) = writer.finish().unwrap();
        assert!(pieces[0].1.len() > 1 && pieces.len() == 2, "{pieces:?}");
        let path = FileName::Run(5, 0).path(dir);
        let bytes = read_all(&disk, &path).unwrap();
        assert_eq!(run, Run { generation: 0, bytes: bytes_of(&pieces) });
        let file = disk.open(&path).unwrap();
        assert_eq!(read_footer(file.as_ref(), 5).unwrap(), Some(pieces.clone()));
        assert_eq!(scan_pieces(&bytes, 5, 300), (pieces, vec![]));

        disk.flip_bit(&path, bytes.len() - 30, 3).unwrap();
        assert_eq!(read_footer(file.as_ref(), 5).unwrap(), None, "a damaged footer was believed");
    }
}
