//! The quarantine's files, read: by a leg that takes them again, and by a person.

use std::collections::VecDeque;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};

use bytes::Bytes;
use parquet::arrow::arrow_reader::{ParquetRecordBatchReader, ParquetRecordBatchReaderBuilder};
use stream::disk::{Disk, read_all};

use super::{layout, manifest, quarantine};
use crate::error::SinkError;
use crate::seam::{Apart, SetApart};
use crate::state::ApartPosition;

/// Bytes read at a time, give or take [`ROWS`] records.
pub(super) const BYTES_MAX: usize = 1 << 20;
/// What a record costs beside its body and its cause, about; so a step is some thousands of records at most.
const RECORD_BYTES: usize = 200;
/// Rows decoded at a time: a few, since each may be as long as a record may be.
const ROWS: usize = 16;

/// A reading in progress: the files that are left, and the one that is open.
#[derive(Default)]
pub(super) struct Reading {
    at: ApartPosition,
    files: VecDeque<(u64, PathBuf)>,
    open: Option<ParquetRecordBatchReader>,
    /// Records of the commit at hand in files that have been passed.
    passed: u64,
    has_begun: bool,
}

impl Reading {
    /// Some records from `from` on and before `end`; where it goes on if `from` is where the last call ended.
    pub(super) fn read(
        &mut self,
        disk: &dyn Disk,
        dir: &Path,
        from: ApartPosition,
        end: ApartPosition,
    ) -> Result<Apart, SinkError> {
        if !self.has_begun || self.at != from {
            let mut files = files(disk, dir)?;
            files.retain(|(commit, _)| *commit >= from.commit);
            *self = Self { at: from, files, open: None, passed: 0, has_begun: true };
        }
        let read = self.step(disk, end);
        self.has_begun = read.is_ok();
        read
    }

    fn step(&mut self, disk: &dyn Disk, end: ApartPosition) -> Result<Apart, SinkError> {
        let (mut records, mut bytes) = (Vec::new(), 0);
        while bytes < BYTES_MAX {
            let Some((commit, path)) = self.files.front().filter(|(commit, _)| *commit < end.commit).cloned() else {
                self.at = end;
                break;
            };
            if commit > self.at.commit {
                (self.at, self.passed) = (ApartPosition { commit, record: 0 }, 0);
            }
            let damaged = |cause: String| SinkError::Parquet { path: path.clone(), cause };
            let open = match &mut self.open {
                Some(open) => open,
                None => match open(disk, &path, self.at.record - self.passed)? {
                    Opened::Behind(rows) => {
                        self.passed += rows;
                        self.files.pop_front();
                        continue;
                    }
                    Opened::Reader(reader) => self.open.insert(*reader),
                },
            };
            match open.next().transpose().map_err(|error| damaged(error.to_string()))? {
                Some(rows) => {
                    let some: Vec<SetApart> = quarantine::records(&rows).map_err(damaged)?;
                    self.at.record += some.len() as u64;
                    bytes +=
                        some.iter().map(|record| record.body.len() + record.cause.len() + RECORD_BYTES).sum::<usize>();
                    records.extend(some);
                }
                None => {
                    (self.open, self.passed) = (None, self.at.record);
                    self.files.pop_front();
                }
            }
        }
        Ok(Apart { records, next: self.at })
    }
}

enum Opened {
    /// All of its rows, so many, lie before what is wanted.
    Behind(u64),
    Reader(Box<ParquetRecordBatchReader>),
}

/// Opens a file behind its first `skip` rows.
fn open(disk: &dyn Disk, path: &Path, skip: u64) -> Result<Opened, SinkError> {
    let bytes = Bytes::from(read_all(disk, path).map_err(SinkError::disk(path))?);
    let damaged = |cause: String| SinkError::Parquet { path: path.to_owned(), cause };
    let file = ParquetRecordBatchReaderBuilder::try_new(bytes).map_err(|error| damaged(error.to_string()))?;
    let rows = u64::try_from(file.metadata().file_metadata().num_rows()).unwrap_or(0);
    if rows <= skip {
        return Ok(Opened::Behind(rows));
    }
    let reader = file.with_offset(skip as usize).with_batch_size(ROWS).build();
    reader.map(|reader| Opened::Reader(Box::new(reader))).map_err(|error| damaged(error.to_string()))
}

/// Files of the quarantine by their commits, in order.
fn files(disk: &dyn Disk, dir: &Path) -> Result<VecDeque<(u64, PathBuf)>, SinkError> {
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

/// A leg's quarantine, for a person to look at.
pub struct Quarantine<'a> {
    disk: &'a dyn Disk,
    dir: PathBuf,
    at: ApartPosition,
    end: ApartPosition,
    reading: Reading,
}

impl<'a> Quarantine<'a> {
    /// The quarantine in a leg's folder, from the first record that has not been replayed on.
    pub fn open(disk: &'a dyn Disk, dir: PathBuf) -> Result<Self, SinkError> {
        let newest = manifest::segments(disk, &dir)?.pop();
        let state = match newest {
            Some(number) => manifest::read(disk, &dir, number)?.end().0,
            None => Default::default(),
        };
        let end = ApartPosition { commit: state.commit + 1, record: 0 };
        Ok(Self { disk, dir, at: state.replay.next, end, reading: Reading::default() })
    }

    /// Some more records; none at the end.
    pub fn more(&mut self) -> Result<Vec<SetApart>, SinkError> {
        let Apart { records, next } = self.reading.read(self.disk, &self.dir, self.at, self.end)?;
        self.at = next;
        Ok(records)
    }
}
