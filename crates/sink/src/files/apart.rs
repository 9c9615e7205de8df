//! The quarantine's files, read: by a leg that takes them again, and by a person.

use std::io::ErrorKind;
use std::path::{Path, PathBuf};

use bytes::Bytes;
use parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder;
use stream::disk::{Disk, read_all};

use super::{layout, manifest, quarantine};
use crate::error::SinkError;
use crate::seam::{Apart, SetApart};
use crate::state::ApartPosition;

/// Records read at a time.
const RECORDS_MAX: usize = 1_000;

/// Some records from `from` on and before `end`, of one commit at most.
pub(super) fn read(disk: &dyn Disk, dir: &Path, from: ApartPosition, end: ApartPosition) -> Result<Apart, SinkError> {
    let files = files(disk, dir)?;
    let Some((commit, _)) = files.iter().find(|(commit, _)| *commit >= from.commit && *commit < end.commit) else {
        return Ok(Apart { records: Vec::new(), next: end });
    };
    let passed = if *commit == from.commit { from.record } else { 0 };
    let (mut records, mut skip) = (Vec::new(), passed as usize);
    for (_, path) in files.iter().filter(|(of, _)| of == commit) {
        take(disk, path, &mut skip, &mut records)?;
    }
    let next = match records.len() < RECORDS_MAX {
        true => ApartPosition { commit: commit + 1, record: 0 },
        false => ApartPosition { commit: *commit, record: passed + records.len() as u64 },
    };
    Ok(Apart { records, next })
}

/// Files of the quarantine by their commits, in order.
fn files(disk: &dyn Disk, dir: &Path) -> Result<Vec<(u64, PathBuf)>, SinkError> {
    let folder = dir.join(layout::QUARANTINE);
    let names = match disk.list(&folder) {
        Err(error) if error.kind() == ErrorKind::NotFound => Vec::new(),
        listed => listed.map_err(SinkError::disk(&folder))?,
    };
    let numbers = |name: String| Some((layout::commit_of(&name)?, layout::part_of(&name)?, folder.join(name)));
    let mut files: Vec<(u64, u64, PathBuf)> = names.into_iter().filter_map(numbers).collect();
    files.sort_unstable();
    Ok(files.into_iter().map(|(commit, _, path)| (commit, path)).collect())
}

/// Adds the file's records behind the first `skip` until there are enough.
fn take(disk: &dyn Disk, path: &Path, skip: &mut usize, out: &mut Vec<SetApart>) -> Result<(), SinkError> {
    let bytes = Bytes::from(read_all(disk, path).map_err(SinkError::disk(path))?);
    let damaged = |cause: String| SinkError::Parquet { path: path.to_owned(), cause };
    let file = ParquetRecordBatchReaderBuilder::try_new(bytes).map_err(|error| damaged(error.to_string()))?;
    let rows = file.metadata().file_metadata().num_rows() as usize;
    let (passed, wanted) = ((*skip).min(rows), RECORDS_MAX - out.len());
    *skip -= passed;
    let reader = file.with_offset(passed).with_limit(wanted).build().map_err(|error| damaged(error.to_string()))?;
    for batch in reader {
        let batch = batch.map_err(|error| damaged(error.to_string()))?;
        out.extend(quarantine::records(&batch).map_err(damaged)?);
    }
    Ok(())
}

/// A leg's quarantine, for a person to look at.
pub struct Quarantine<'a> {
    disk: &'a dyn Disk,
    dir: PathBuf,
    start: ApartPosition,
    end: ApartPosition,
}

impl<'a> Quarantine<'a> {
    /// The quarantine in a leg's folder. One that is not there is empty.
    pub fn open(disk: &'a dyn Disk, dir: PathBuf) -> Result<Self, SinkError> {
        let newest = manifest::segments(disk, &dir)?.pop();
        let state = match newest {
            Some(number) => manifest::read(disk, &dir, number)?.end().0,
            None => Default::default(),
        };
        let end = ApartPosition { commit: state.commit + 1, record: 0 };
        Ok(Self { disk, dir, start: state.replay.next, end })
    }

    /// Where what has not been replayed begins.
    pub fn start(&self) -> ApartPosition {
        self.start
    }

    /// Some records from `from` on; none at the end.
    pub fn read(&self, from: ApartPosition) -> Result<Apart, SinkError> {
        read(self.disk, &self.dir, from, self.end)
    }
}
