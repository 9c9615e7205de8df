//! Showing a commit that is durable: renaming its files to their final names, once or again. Each file is found in one
//! of three states: final (proven by length and checksum when it was not this process that renamed it), in flight, or
//! neither, which stops the leg.

use std::collections::BTreeSet;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};

use stream::crash;
use stream::disk::{Disk, read_all};

use super::manifest::CommitRecord;
use super::part::{FileEntry, ranges_json};
use crate::error::SinkError;

/// Renames the files of a commit whose record has just become durable.
pub fn publish(disk: &dyn Disk, dir: &Path, record: &CommitRecord) -> Result<(), SinkError> {
    for file in &record.files {
        rename(disk, dir, record.commit, file)?;
        crash::point("sink.file.renamed");
    }
    sync_folders(disk, dir, &record.files)
}

/// Finishes a commit that may have been cut short after its record became durable.
pub fn finish(disk: &dyn Disk, dir: &Path, record: &CommitRecord) -> Result<(), SinkError> {
    for file in &record.files {
        if is_whole(disk, &dir.join(file.path(record.commit)), file)? {
            continue;
        }
        if !is_whole(disk, &dir.join(file.inflight_path(record.commit)), file)? {
            return Err(SinkError::Missing {
                file: dir.join(file.path(record.commit)),
                ranges: ranges_json(&file.ranges),
            });
        }
        rename(disk, dir, record.commit, file)?;
    }
    sync_folders(disk, dir, &record.files)
}

/// Makes the names in the folders of `files` durable.
pub fn sync_folders(disk: &dyn Disk, dir: &Path, files: &[FileEntry]) -> Result<(), SinkError> {
    let folders: BTreeSet<PathBuf> = files.iter().map(|file| dir.join(&file.folder)).collect();
    folders.iter().try_for_each(|folder| disk.sync_dir(folder).map_err(SinkError::disk(folder)))
}

fn rename(disk: &dyn Disk, dir: &Path, commit: u64, file: &FileEntry) -> Result<(), SinkError> {
    let to = dir.join(file.path(commit));
    disk.rename(&dir.join(file.inflight_path(commit)), &to).map_err(SinkError::disk(&to))
}

/// Whether the file is there; an error if it is there and not what was recorded.
fn is_whole(disk: &dyn Disk, path: &Path, file: &FileEntry) -> Result<bool, SinkError> {
    let bytes = match read_all(disk, path) {
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(false),
        read => read.map_err(SinkError::disk(path))?,
    };
    match contradiction(file, &bytes) {
        None => Ok(true),
        Some(cause) => Err(SinkError::Damaged { file: path.to_owned(), byte: 0, cause }),
    }
}

/// How a file's bytes differ from what the manifest recorded.
pub fn contradiction(file: &FileEntry, bytes: &[u8]) -> Option<String> {
    let (length, crc32c) = (bytes.len() as u64, crc32c::crc32c(bytes));
    if length != file.length {
        return Some(format!("{length} bytes, {} were committed", file.length));
    }
    (crc32c != file.crc32c).then(|| format!("checksum {crc32c:08x}, {:08x} was committed", file.crc32c))
}
