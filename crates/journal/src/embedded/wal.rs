//! The open write-ahead segment: every commit is one append and one sync, whatever topics it holds.
//!
//! States: *open* (commits are appended), *sealed* (full, or given up after a failure; the keeper copies and removes
//! it). A segment is never written again after a failed append or sync: the kernel may have dropped the pages. What was
//! durable before counts; the next segment's header states how many bytes that is, so that recovery ignores whatever
//! the failed commit left behind.
//!
//! Segments number upwards from 1 and are removed from the oldest on. Only the last one may end in a torn tail.

use std::io;
use std::path::{Path, PathBuf};

use stream::crash;
use stream::disk::{Disk, DiskFile};

use super::format::{FileName, HEADER_FRAME_BYTES, Header, KIND_WAL, VERSION};

/// The segment before: its number, and its valid bytes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Previous {
    /// The number; 0: there is none.
    pub number: u64,
    /// The valid bytes.
    pub bytes: u64,
}

/// The open segment.
pub struct Wal {
    number: u64,
    path: PathBuf,
    file: Box<dyn DiskFile>,
    durable_bytes: u64,
}

impl Wal {
    /// Creates segment `number`, durably. What a failure leaves behind is removed if the disk lets us; recovery removes
    /// it too.
    pub fn create(disk: &dyn Disk, dir: &Path, number: u64, previous: Previous) -> io::Result<Self> {
        let path = FileName::Wal(number).path(dir);
        let mut file = disk.create(&path)?;
        let mut header = Vec::with_capacity(HEADER_FRAME_BYTES);
        let (previous, previous_bytes) = (previous.number, previous.bytes);
        Header { kind: KIND_WAL, version: VERSION, number, previous, previous_bytes }.write(&mut header);
        let made = file.append(&header).and_then(|()| file.sync()).and_then(|()| disk.sync_dir(dir));
        match made {
            Ok(()) => Ok(Self { number, path, file, durable_bytes: HEADER_FRAME_BYTES as u64 }),
            Err(error) => {
                drop(disk.remove(&path));
                Err(error)
            }
        }
    }

    /// Its number.
    pub fn number(&self) -> u64 {
        self.number
    }

    /// Bytes that are durable: where the next commit begins.
    pub fn durable_bytes(&self) -> u64 {
        self.durable_bytes
    }

    /// Writes a commit and makes it durable. After an error the segment must be given up.
    pub fn commit(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.file.append(bytes)?;
        crash::point("journal.commit.written");
        self.file.sync()?;
        crash::point("journal.commit.synced");
        self.durable_bytes += bytes.len() as u64;
        Ok(())
    }

    /// Ends the segment after a failure: cuts what was not durable, or removes the file if nothing was, so that failing
    /// again and again on a full disk takes no room. Either may fail; recovery does not rely on it. Returns whether the
    /// segment holds entries.
    pub fn give_up(mut self, disk: &dyn Disk, dir: &Path) -> Option<Previous> {
        if self.durable_bytes > HEADER_FRAME_BYTES as u64 {
            drop(self.file.truncate(self.durable_bytes));
            return Some(Previous { number: self.number, bytes: self.durable_bytes });
        }
        drop(self.file);
        drop(disk.remove(&self.path).and_then(|()| disk.sync_dir(dir)));
        None
    }
}
