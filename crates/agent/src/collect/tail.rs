//! One open file that is read as it grows.
//!
//! States: *unnamed* (its first record is not complete, so it has no source yet) → *read* → *ended* (its end is
//! decided: read up to there and no further). When the file is replaced under its descriptor the tail starts over,
//! unnamed, in the next generation. A descriptor is kept as long as the tail, so that an inode that is read is never
//! used again for another file.

use std::fs::{File, OpenOptions};
use std::io;
use std::os::unix::fs::{FileExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use stream::SourceId;

use super::identity::{FileIdentity, Reader, birth_minutes};
use super::lines::{BEFORE_BYTES, Filled, Lines};

/// See the module.
#[derive(Debug)]
pub struct Tail {
    file: File,
    /// What the file system says of it.
    pub identity: FileIdentity,
    /// Where it was last seen.
    pub path: PathBuf,
    /// Whether a pattern of the stream names it now.
    pub watched: bool,
    /// Its source, once it has one.
    pub source: Option<SourceId>,
    /// Generations before it are other sources.
    pub generation_min: u32,
    /// The birth of its source, in minutes since 1970, if that is not the moment at which it is named.
    pub birth_minutes: Option<u32>,
    /// What was read and not yet sent.
    pub lines: Lines,
    /// Where the source ends, once that is decided.
    pub stop_at: Option<u64>,
    /// Whether the end has been sent.
    pub ended: bool,
    /// The longest record, and the ordinal up to which that holds.
    pub record_bytes_max: (usize, u64),
    /// Nothing at or past it has been sent, by this process or one before it.
    pub unsent_from: u64,
    /// Whether its last read failed; said once.
    pub failing: bool,
    late_bytes: u64,
    length: u64,
    modified: (i64, i64),
    changed: Instant,
}

/// What a look at a file found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Look {
    /// Nothing new.
    Nothing,
    /// New bytes, now in the lines.
    Bytes,
    /// What was read before is not there any more; so many bytes had been seen and not read.
    Replaced(u64),
}

impl Tail {
    /// Opens a file; none if it is not a regular one. `is_old`: its source is born with it.
    pub fn open(path: &Path, now: Instant, reader: &Reader, is_old: bool) -> io::Result<Option<Self>> {
        let nonblocking = rustix::fs::OFlags::NONBLOCK.bits() as i32;
        let file = OpenOptions::new().read(true).custom_flags(nonblocking).open(path)?;
        Self::from_file(file, path.to_owned(), now, reader, is_old)
    }

    /// Takes over an open file.
    pub fn from_file(
        file: File,
        path: PathBuf,
        now: Instant,
        reader: &Reader,
        is_old: bool,
    ) -> io::Result<Option<Self>> {
        let metadata = file.metadata()?;
        let identity = (reader.identity_of)(&metadata);
        Ok(metadata.is_file().then(|| Self {
            file,
            identity,
            path,
            watched: false,
            source: None,
            generation_min: 0,
            birth_minutes: is_old.then(|| birth_minutes(&identity, &metadata)),
            lines: Lines::default(),
            stop_at: None,
            ended: false,
            record_bytes_max: (0, 0),
            unsent_from: 0,
            failing: false,
            late_bytes: 0,
            length: 0,
            modified: (0, 0),
            changed: now,
        }))
    }

    /// The descriptor, for the supervisor to hold.
    pub fn file(&self) -> &File {
        &self.file
    }

    /// The length last seen.
    pub fn length(&self) -> u64 {
        self.length
    }

    /// Reads what is new, a chunk at most.
    pub fn look(&mut self, now: Instant) -> io::Result<Look> {
        let metadata = self.file.metadata()?;
        let (length, modified) = (metadata.len(), (metadata.mtime(), metadata.mtime_nsec()));
        let end = self.lines.end();
        let changed = (length, modified) != (self.length, self.modified);
        let unread = self.length.saturating_sub(end);
        if changed {
            (self.modified, self.changed) = (modified, now);
        }
        if length < end {
            return Ok(Look::Replaced(unread));
        }
        self.length = length;
        let wanted = self.stop_at.map_or(length, |stop| stop.min(length)).saturating_sub(end);
        if !changed && wanted == 0 {
            return Ok(Look::Nothing);
        }
        let bytes_max = usize::try_from(wanted).unwrap_or(usize::MAX);
        match self.lines.fill(bytes_max, |at, into| read_fully(&self.file, at, into))? {
            Filled::Replaced => Ok(Look::Replaced(unread)),
            Filled::Bytes(0) => Ok(Look::Nothing),
            Filled::Bytes(_) => Ok(Look::Bytes),
        }
    }

    /// The bytes before `ordinal`, as the file has them now; none if it is shorter.
    pub fn read_before(&self, ordinal: u64) -> io::Result<Option<Vec<u8>>> {
        let mut before = vec![0; ordinal.min(BEFORE_BYTES as u64) as usize];
        let read = read_fully(&self.file, ordinal - before.len() as u64, &mut before)?;
        Ok((read == before.len()).then_some(before))
    }

    /// Whether all there is has been read.
    pub fn is_read(&self) -> bool {
        self.lines.end() >= self.stop_at.unwrap_or(self.length)
    }

    /// Whether the file will not go on: it left its path, is read to its end and has not changed for `grace`.
    pub fn is_over(&self, now: Instant, grace: Duration) -> bool {
        !self.watched && self.is_read() && now.duration_since(self.changed) >= grace
    }

    /// Bytes past the end of an ended file that were not counted yet.
    pub fn take_late_bytes(&mut self) -> u64 {
        let late = self.length.saturating_sub(self.stop_at.unwrap_or(self.length));
        late.saturating_sub(std::mem::replace(&mut self.late_bytes, late))
    }

    /// Starts over with what lies in the file now, as another source.
    pub fn start_over(&mut self, generation_min: u32, now: Instant) {
        (self.source, self.stop_at, self.ended) = (None, None, false);
        (self.generation_min, self.birth_minutes) = (generation_min, None);
        (self.lines, self.unsent_from, self.record_bytes_max) = (Lines::default(), 0, (0, 0));
        (self.late_bytes, self.length, self.modified, self.changed) = (0, 0, (0, 0), now);
    }
}

fn read_fully(file: &File, at: u64, into: &mut [u8]) -> io::Result<usize> {
    let mut filled = 0;
    while filled < into.len() {
        match file.read_at(&mut into[filled..], at + filled as u64) {
            Ok(0) => break,
            Ok(n) => filled += n,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(filled)
}
