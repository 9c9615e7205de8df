//! Parquet files, partitioned by event time, with the leg's state in a manifest beside them.
//!
//! Commit, in this order, because a rename without a directory sync is undone by a power loss, and a file that was shown
//! before its manifest record would be doubled after one:
//!
//! ```text
//! close the files in flight, sync each      sink.file.written, sink.file.synced
//! sync their folders                        their names must outlive the record that lists them
//! append ONE record to the manifest, sync   sink.manifest.written, sink.manifest.synced   <- committed
//! rename without overwriting                sink.file.renamed
//! sync the folders                          sink.commit.published
//! ```
//!
//! States of a [`FilesSink`]: *not recovered* (new, or after any error), and *live*. An error in between loses what was
//! written since the last commit, on purpose: the leg reads it again.
//!
//! Limits: [`OPEN_BYTES_MAX`] and [`OPEN_FILES_MAX`]; beyond the first [`Sink::is_full`] asks for a commit, beyond the
//! second the largest open file is closed.

pub mod layout;
pub mod part;
pub mod quarantine;
pub mod apart;
pub mod manifest;
pub mod publish;
mod recover;
pub mod verify;
pub mod hand_over;
pub mod footers;
pub mod hidden;
#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Instant;

use arrow_array::{RecordBatch, UInt32Array};
use arrow_schema::SchemaRef;
use arrow_select::take::take_record_batch;
use serde::{Deserialize, Serialize};
use stream::crash;
use stream::disk::SharedDisk;
use stream::{Incarnation, StreamId};

use self::manifest::{CommitRecord, Manifest, Snapshot};
use self::part::{Content, FileEntry, Part};
use crate::error::SinkError;
use crate::metrics;
use crate::seam::{Apart, ApartEnd, Origin, Rows, SetApart, Sink};
use crate::state::{ApartPosition, Commit, LegState};

/// Bytes open before the sink asks for a commit: bounds memory, and what is read again after a crash.
pub const OPEN_BYTES_MAX: usize = 64 << 20;
/// Files open at once: old logs spread over many hours, and descriptors are shared with every other leg.
pub const OPEN_FILES_MAX: usize = 32;

/// Whose folder it is.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Identity {
    /// The stream.
    pub stream: StreamId,
    /// The stream's life.
    pub incarnation: Incarnation,
    /// The sink's name in the job.
    pub leg: String,
}

/// The files of one leg.
pub struct FilesSink {
    disk: SharedDisk,
    dir: PathBuf,
    identity: Identity,
    live: Option<Live>,
}

/// A recovered folder and what is open in it.
struct Live {
    manifest: Manifest,
    state: LegState,
    open: BTreeMap<Shelf, Part>,
    /// Files closed before the commit, to make room.
    closed: Vec<FileEntry>,
    parts: usize,
    reading: apart::Reading,
}

/// Which open file a row belongs to.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Shelf {
    Hour(i64),
    Quarantine,
}

impl FilesSink {
    /// The sink of a leg that writes below `dir`. Nothing is touched before [`Sink::recover`].
    pub fn new(disk: SharedDisk, dir: PathBuf, identity: Identity) -> Self {
        Self { disk, dir, identity, live: None }
    }

    /// Runs `step` on the live folder; after an error the folder is not live any more.
    fn step<T>(&mut self, step: impl FnOnce(&Self, &mut Live) -> Result<T, SinkError>) -> Result<T, SinkError> {
        let mut live = self.live.take().ok_or(SinkError::NotRecovered)?;
        let done = step(self, &mut live)?;
        self.live = Some(live);
        Ok(done)
    }

    /// The open file of a shelf.
    fn open<'a>(&self, live: &'a mut Live, shelf: Shelf, schema: &SchemaRef) -> Result<&'a mut Part, SinkError> {
        if !live.open.contains_key(&shelf) && live.open.len() >= OPEN_FILES_MAX {
            self.close_largest(live)?;
        }
        match live.open.entry(shelf) {
            std::collections::btree_map::Entry::Occupied(open) => Ok(open.into_mut()),
            std::collections::btree_map::Entry::Vacant(place) => {
                let (folder, content) = match shelf {
                    Shelf::Hour(hour) => (layout::folder_of(hour), Content::Rows),
                    Shelf::Quarantine => (layout::QUARANTINE.to_owned(), Content::SetApart),
                };
                let name = (live.state.commit + 1, live.parts);
                live.parts += 1;
                let kind = (content, schema.clone());
                Ok(place.insert(Part::create(self.disk.as_ref(), &self.dir, &folder, name, kind)?))
            }
        }
    }

    fn close_largest(&self, live: &mut Live) -> Result<(), SinkError> {
        let largest = live.open.iter().max_by_key(|(_, part)| part.bytes()).map(|(shelf, _)| *shelf);
        if let Some(part) = largest.and_then(|shelf| live.open.remove(&shelf)) {
            live.closed.push(part.finish(&self.identity, live.state.commit + 1)?);
        }
        Ok(())
    }

    fn write_rows(&self, live: &mut Live, rows: &Rows) -> Result<(), SinkError> {
        let schema = rows.batch.schema();
        for (hour, indices) in by_hour(&rows.event_times_ms) {
            let part = self.open(live, Shelf::Hour(hour), &schema)?;
            if indices.len() == rows.batch.num_rows() {
                part.write(&rows.batch, rows.origins.iter().copied())?;
                continue;
            }
            let origins: Vec<Origin> = indices.iter().map(|i| rows.origins[*i as usize]).collect();
            let some: RecordBatch = take_record_batch(&rows.batch, &UInt32Array::from(indices))
                .map_err(|error| SinkError::Parquet { path: part.path().to_owned(), cause: error.to_string() })?;
            part.write(&some, origins.into_iter())?;
        }
        Ok(())
    }

    /// Closes everything, appends the record, shows the files: the order is told at the top of this file.
    fn commit_all(&self, live: &mut Live, update: &Commit) -> Result<u64, SinkError> {
        let (started, commit) = (Instant::now(), live.state.commit + 1);
        for (_, part) in std::mem::take(&mut live.open) {
            live.closed.push(part.finish(&self.identity, commit)?);
        }
        crash::point("sink.file.synced");
        let files = std::mem::take(&mut live.closed);
        live.parts = 0;
        self.check(&files, update)?;
        publish::sync_folders(self.disk.as_ref(), &self.dir, &files)?;
        let record = CommitRecord { commit, files, update: update.clone() };
        live.manifest.append(&record)?;
        publish::publish(self.disk.as_ref(), &self.dir, &record)?;
        crash::point("sink.commit.published");
        live.state.apply(commit, update);
        let bytes = record.files.iter().map(|file| file.length).sum();
        metrics::committed(self.identity.stream.as_str(), record.files.len(), bytes, started.elapsed().as_secs_f64());
        if live.manifest.is_long() {
            let snapshot = Snapshot::new(&self.identity, live.state.clone(), Some(record));
            live.manifest = live.manifest.follow(&snapshot)?;
        }
        Ok(commit)
    }

    /// What is written must be what the fates say, before it becomes durable.
    fn check(&self, files: &[FileEntry], update: &Commit) -> Result<(), SinkError> {
        let fates = &update.fates;
        for (what, content, stated) in [
            ("rows", Content::Rows, fates.delivered),
            ("records set apart", Content::SetApart, fates.quarantined + fates.late),
        ] {
            let written = files.iter().filter(|file| file.content == content).map(|file| file.rows).sum();
            if stated != written {
                return Err(SinkError::Contradiction { dir: self.dir.clone(), what, stated, written });
            }
        }
        Ok(())
    }
}

impl Sink for FilesSink {
    fn recover(&mut self) -> Result<LegState, SinkError> {
        self.live = None;
        let (manifest, state) = recover::recover(&self.disk, &self.dir, &self.identity)?;
        let (open, closed, reading) = (BTreeMap::new(), Vec::new(), apart::Reading::default());
        self.live = Some(Live { manifest, state: state.clone(), open, closed, parts: 0, reading });
        Ok(state)
    }

    fn write(&mut self, rows: Rows) -> Result<(), SinkError> {
        self.step(|sink, live| sink.write_rows(live, &rows))
    }

    fn set_apart(&mut self, records: &[SetApart]) -> Result<(), SinkError> {
        if records.is_empty() {
            return Ok(());
        }
        let origin = |record: &SetApart| Origin { source: record.header.source, range: record.header.range };
        self.step(|sink, live| {
            let part = sink.open(live, Shelf::Quarantine, &quarantine::schema())?;
            part.write(&quarantine::batch(records), records.iter().map(origin))
        })
    }

    fn apart_end(&mut self) -> Result<ApartEnd, SinkError> {
        let live = self.live.as_ref().ok_or(SinkError::NotRecovered)?;
        Ok(ApartEnd { log: 0, end: ApartPosition { commit: live.state.commit + 1, record: 0 } })
    }

    fn read_apart(&mut self, from: ApartPosition, end: ApartPosition) -> Result<Apart, SinkError> {
        let live = self.live.as_mut().ok_or(SinkError::NotRecovered)?;
        live.reading.read(self.disk.as_ref(), &self.dir, from, end)
    }

    fn is_full(&self) -> bool {
        let open = self.live.iter().flat_map(|live| live.open.values()).map(Part::bytes).sum::<usize>();
        let closed = self.live.iter().flat_map(|live| &live.closed).map(|file| file.length as usize).sum::<usize>();
        open + closed > OPEN_BYTES_MAX
    }

    fn commit(&mut self, commit: &Commit) -> Result<u64, SinkError> {
        self.step(|sink, live| sink.commit_all(live, commit))
    }
}

/// Row numbers by hour of event time.
fn by_hour(event_times_ms: &[i64]) -> BTreeMap<i64, Vec<u32>> {
    let mut hours: BTreeMap<i64, Vec<u32>> = BTreeMap::new();
    for (row, event_time_ms) in (0_u32..).zip(event_times_ms) {
        hours.entry(layout::hour_of(*event_time_ms)).or_default().push(row);
    }
    hours
}
