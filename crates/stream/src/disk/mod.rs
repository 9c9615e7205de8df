//! The disk, as a seam: durable code (journal, positions, manifest, file commit) sees only this, so that the very same
//! code runs on a simulated disk that forgets what was not synced.
//!
//! What counts as durable, measured on ext4: bytes after [`DiskFile::sync`]; a created, renamed or removed name after
//! [`Disk::sync_dir`] of its directory. A failed sync is final for that file: its pages may be marked clean although they
//! are not on disk, so nobody syncs again and goes on; the file is closed, opened again and verified.

pub mod real;
pub mod sim;

use std::io;
use std::path::Path;
use std::sync::Arc;

pub use real::RealDisk;
pub use sim::SimDisk;

/// A shared disk.
pub type SharedDisk = Arc<dyn Disk>;

/// Names and directories.
pub trait Disk: Send + Sync + 'static {
    /// Creates an empty file. Fails with `AlreadyExists` if the name is taken.
    fn create(&self, path: &Path) -> io::Result<Box<dyn DiskFile>>;
    /// Opens a file for reading and appending. Fails with `NotFound` if there is none.
    fn open(&self, path: &Path) -> io::Result<Box<dyn DiskFile>>;
    /// Renames a file. Fails with `AlreadyExists` if `to` is taken, with `NotFound` if `from` is not there.
    fn rename(&self, from: &Path, to: &Path) -> io::Result<()>;
    /// Renames a file over whatever `to` was.
    fn replace(&self, from: &Path, to: &Path) -> io::Result<()>;
    /// Removes a file.
    fn remove(&self, path: &Path) -> io::Result<()>;
    /// Names of the files and directories in a directory, sorted. Fails with `NotFound` if there is none.
    fn list(&self, dir: &Path) -> io::Result<Vec<String>>;
    /// Creates a directory and its parents durably.
    fn create_dir_all(&self, dir: &Path) -> io::Result<()>;
    /// Removes an empty directory.
    fn remove_dir(&self, dir: &Path) -> io::Result<()>;
    /// Makes the names in a directory durable.
    fn sync_dir(&self, dir: &Path) -> io::Result<()>;
    /// Whether the name is there.
    fn exists(&self, path: &Path) -> bool;
}

/// One file: read anywhere, written at its end.
pub trait DiskFile: Send + Sync {
    /// Appends at the end. After an error the end is unknown: truncate or reopen.
    fn append(&mut self, bytes: &[u8]) -> io::Result<()>;
    /// Reads at `offset`; fewer bytes than asked for only at the end.
    fn read_at(&self, offset: u64, buffer: &mut [u8]) -> io::Result<usize>;
    /// Makes content and length durable.
    fn sync(&mut self) -> io::Result<()>;
    /// Cuts the file to `length`.
    fn truncate(&mut self, length: u64) -> io::Result<()>;
    /// Bytes in the file.
    fn len(&self) -> u64;
    /// Whether there are none.
    fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

/// Reads a whole file.
pub fn read_all(disk: &dyn Disk, path: &Path) -> io::Result<Vec<u8>> {
    let file = disk.open(path)?;
    let mut bytes = vec![0; file.len() as usize];
    let mut filled = 0;
    while filled < bytes.len() {
        match file.read_at(filled as u64, &mut bytes[filled..])? {
            0 => break,
            n => filled += n,
        }
    }
    bytes.truncate(filled);
    Ok(bytes)
}

/// Replaces a small file's content at once: either the old or the new content is there after a power loss.
/// `visit` is told "written" and "renamed", for crash points.
pub fn write_atomically(disk: &dyn Disk, path: &Path, bytes: &[u8], visit: impl Fn(&str)) -> io::Result<()> {
    let dir = path.parent().unwrap_or(Path::new("/"));
    let name = path.file_name().and_then(|name| name.to_str()).unwrap_or("state");
    let draft = dir.join(format!(".{name}.draft"));
    if disk.exists(&draft) {
        disk.remove(&draft)?;
    }
    let mut file = disk.create(&draft)?;
    file.append(bytes)?;
    file.sync()?;
    visit("written");
    disk.replace(&draft, path)?;
    visit("renamed");
    disk.sync_dir(dir)
}

/// Lets a writer of the standard library's kind (Parquet's) append to a file.
pub struct Appender(pub Box<dyn DiskFile>);

impl io::Write for Appender {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.append(bytes).map(|()| bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
