//! The bytes of one file that have been read and not yet made into records, and the few before them.
//!
//! ```text
//! buffer   [ up to 256 bytes before | the next record ... | read so far ]
//! ordinal    offset                   position()            end()
//! ```
//! The bytes before are read again with each read and compared: if they differ, the file was replaced under its
//! descriptor (copytruncate), even if it has grown past the old position since.

use std::io;

use crate::process::first_record;

/// Bytes before a position by which a file's content is recognised.
pub const BEFORE_BYTES: usize = 256;
/// Bytes of one read: large enough that the system call vanishes, small enough that files take turns.
pub const READ_BYTES: usize = 256 * 1024;

/// See the module.
#[derive(Debug, Default)]
pub struct Lines {
    buffer: Vec<u8>,
    offset: u64,
    start: usize,
    scanned: usize,
}

/// One record: where it lies. Its bytes are there until the next read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Line {
    at: usize,
    /// Bytes without the newline.
    pub body_bytes: usize,
    /// The ordinal at which its range begins.
    pub start: u64,
    /// The ordinal at which its range ends.
    pub end: u64,
}

/// What a read found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Filled {
    /// So many new bytes.
    Bytes(usize),
    /// What was read before is not there any more.
    Replaced,
}

impl Lines {
    /// Goes on at `position`, before which `before` lies.
    pub fn at(position: u64, before: &[u8]) -> Self {
        Self {
            buffer: before.to_vec(),
            offset: position - before.len() as u64,
            start: before.len(),
            scanned: before.len(),
        }
    }

    /// Where the next record begins.
    pub fn position(&self) -> u64 {
        self.offset + self.start as u64
    }

    /// Up to where the file has been read.
    pub fn end(&self) -> u64 {
        self.offset + self.buffer.len() as u64
    }

    /// The bytes just before `ordinal`, which was a position since the last read; at most [`BEFORE_BYTES`].
    pub fn before(&self, ordinal: u64) -> &[u8] {
        let at = (ordinal.saturating_sub(self.offset) as usize).min(self.buffer.len());
        &self.buffer[at.saturating_sub(BEFORE_BYTES)..at]
    }

    /// A record's bytes without the newline.
    pub fn body(&self, line: &Line) -> &[u8] {
        &self.buffer[line.at..line.at + line.body_bytes]
    }

    /// What has been read of records not yet taken.
    pub fn unread(&self) -> &[u8] {
        &self.buffer[self.start..]
    }

    /// Reads up to `bytes_max` more with `read_at` (ordinal, where to).
    pub fn fill(
        &mut self,
        bytes_max: usize,
        read_at: impl Fn(u64, &mut [u8]) -> io::Result<usize>,
    ) -> io::Result<Filled> {
        self.forget_taken();
        let had = self.buffer.len();
        let again = had.min(BEFORE_BYTES);
        let mut known = [0; BEFORE_BYTES];
        known[..again].copy_from_slice(&self.buffer[had - again..]);
        self.buffer.resize(had + bytes_max.min(READ_BYTES), 0);
        let read = read_at(self.offset + (had - again) as u64, &mut self.buffer[had - again..]);
        let same = matches!(read, Ok(n) if n >= again) && self.buffer[had - again..had] == known[..again];
        let new = if same { read.as_ref().map_or(0, |n| n - again) } else { 0 };
        self.buffer[had - again..had].copy_from_slice(&known[..again]);
        self.buffer.truncate(had + new);
        match read {
            Err(error) => Err(error),
            Ok(_) if same => Ok(Filled::Bytes(new)),
            Ok(_) => Ok(Filled::Replaced),
        }
    }

    /// The next record, if it ends in what was read.
    pub fn next(&mut self, record_bytes_max: usize) -> Option<Line> {
        let bytes = &self.buffer[self.start..];
        let scanned = self.scanned.saturating_sub(self.start);
        let Some(extent) = first_record(bytes, scanned, record_bytes_max) else {
            self.scanned = self.buffer.len();
            return None;
        };
        Some(self.take(extent.body_bytes, extent.range_bytes))
    }

    /// What is left, as a record without a newline; none if nothing is left.
    pub fn rest(&mut self) -> Option<Line> {
        let left = self.buffer.len() - self.start;
        (left > 0).then(|| self.take(left, left))
    }

    fn take(&mut self, body_bytes: usize, range_bytes: usize) -> Line {
        let (at, start) = (self.start, self.position());
        self.start += range_bytes;
        Line { at, body_bytes, start, end: self.position() }
    }

    /// Drops what was taken, but for the bytes by which the content is recognised.
    fn forget_taken(&mut self) {
        let taken = self.start.saturating_sub(BEFORE_BYTES);
        self.buffer.drain(..taken);
        self.offset += taken as u64;
        self.start -= taken;
        self.scanned = self.scanned.saturating_sub(taken);
    }

    /// Frees the memory that an idle file does not need.
    pub fn shrink(&mut self) {
        self.forget_taken();
        self.buffer.shrink_to_fit();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read_from(content: &[u8]) -> impl Fn(u64, &mut [u8]) -> io::Result<usize> + '_ {
        move |at, into| {
            let from = content.len().min(at as usize);
            let n = into.len().min(content.len() - from);
            into[..n].copy_from_slice(&content[from..from + n]);
            Ok(n)
        }
    }

    #[test]
    fn lines_come_with_their_ends_whatever_the_reads() {
        let content: Vec<u8> = (0..500).flat_map(|i| format!("line {i}\n").into_bytes()).collect();
        for size in [1, 7, 300, 100_000] {
            let (mut lines, mut joined) = (Lines::default(), Vec::new());
            while lines.fill(size, read_from(&content)).unwrap() != Filled::Bytes(0) {
                while let Some(line) = lines.next(100) {
                    joined.extend_from_slice(lines.body(&line));
                    joined.push(b'\n');
                    assert_eq!(line.end, joined.len() as u64);
                }
                assert!(content[..lines.position() as usize].ends_with(lines.before(lines.position())));
            }
            assert_eq!(joined, content);
            assert!(lines.buffer.len() <= BEFORE_BYTES + size + 9);
        }
    }

    #[test]
    fn a_replaced_file_is_noticed_although_it_grew() {
        let mut lines = Lines::default();
        assert_eq!(lines.fill(100, read_from(b"one\ntwo")).unwrap(), Filled::Bytes(7));
        let line = lines.next(100).unwrap();
        assert_eq!(lines.body(&line), b"one");
        assert_eq!(lines.fill(100, read_from(b"other and longer\n")).unwrap(), Filled::Replaced);
        assert_eq!(lines.fill(100, read_from(b"on")).unwrap(), Filled::Replaced);
        let rest = lines.rest().unwrap();
        assert_eq!((lines.body(&rest), rest.end), (&b"two"[..], 7), "what was read is kept");
        assert_eq!(lines.rest(), None);
    }
}
