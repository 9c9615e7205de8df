//! Proof of a leg's folder from what lies in it: every committed file is there, whole, and says of itself what the
//! manifest says; no ordinal lies in two files; no file is there that nobody committed; the history adds up to the
//! state. It may run beside a live leg: it lists the folder before it reads the manifest, so that a file shown
//! meanwhile is no stray.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};

use bytes::Bytes;
use parquet::file::reader::{FileReader, SerializedFileReader};
use serde::Serialize;
use stream::disk::{Disk, read_all};
use stream::provenance::{Range, SourceId};
use stream::ranges::{Ranges, Relation};

use super::layout::META;
use super::manifest::{self, CommitRecord, Segment};
use super::part::{Content, FileEntry, FileRanges, RANGES_KEY};
use super::publish::contradiction;
use crate::error::SinkError;
use crate::state::LegState;

/// What was found.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct VerifyReport {
    /// The committed state.
    pub state: LegState,
    /// Commits looked at.
    pub commits: u64,
    /// Files of rows looked at.
    pub files: u64,
    /// Rows in them, by their footers.
    pub rows: u64,
    /// Records set apart, by their footers.
    pub set_apart: u64,
    /// What is wrong; nothing, if all is well.
    pub findings: Vec<Finding>,
}

/// One thing that is wrong.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Finding {
    /// The file, relative to the leg's folder.
    pub file: String,
    /// Which kind of wrong.
    pub fault: Fault,
    /// The source concerned, where one is.
    pub source: Option<SourceId>,
    /// The range concerned, where one is.
    pub range: Option<Range>,
    /// In words.
    pub message: String,
}

/// Kinds of wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Fault {
    /// A committed file is not there.
    Missing,
    /// A committed file's bytes are not those that were committed, or are no Parquet.
    Changed,
    /// Rows in the file and rows recorded differ.
    Rows,
    /// A range lies in two files.
    Doubled,
    /// A file that no manifest lists.
    Stray,
    /// A file holds a range that its commit did not take.
    Untaken,
    /// The history of commits has a gap, or does not add up to the state.
    History,
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.file, self.message)?;
        if let (Some(source), Some(range)) = (self.source, self.range) {
            write!(f, " (source {source}, range {}..{})", range.start, range.end)?;
        }
        Ok(())
    }
}

/// Verifies the folder of one leg. An error means that it could not be looked at.
pub fn verify(disk: &dyn Disk, dir: &Path) -> Result<VerifyReport, SinkError> {
    let present = parquet_files(disk, dir)?;
    let mut segments = Vec::new();
    for number in manifest::segments(disk, dir)? {
        segments.push(manifest::read(disk, dir, number)?);
    }
    let mut verifier =
        Verifier { disk, dir, report: VerifyReport::default(), listed: BTreeMap::new(), apart: BTreeMap::new() };
    let newest = segments.last().map(|segment| segment.snapshot.identity.incarnation);
    let lives = lives(segments);
    for (incarnation, life) in &lives {
        verifier.history(life, Some(*incarnation) == newest);
        verifier.apart.clear();
        let last = life.records.keys().last().copied();
        for record in life.records.values() {
            verifier.commit(record, Some(record.commit) == last)?;
        }
    }
    let known = |path: &Path| lives.iter().any(|(_, life)| life.paths.contains(path));
    for path in present.iter().filter(|path| !known(path)) {
        verifier.stray(path)?;
    }
    Ok(verifier.report)
}

/// The commits of one incarnation of the stream.
#[derive(Default)]
struct Life {
    /// The state before the first commit.
    start: LegState,
    records: BTreeMap<u64, CommitRecord>,
    /// The state that recovery would find.
    end: LegState,
    paths: BTreeSet<PathBuf>,
}

/// Puts the segments together. A record that the following segment's snapshot does not know was never shown: its writer
/// had been shut out.
fn lives(segments: Vec<Segment>) -> Vec<(stream::Incarnation, Life)> {
    let known: Vec<u64> = segments.iter().skip(1).map(|next| next.snapshot.state.commit).chain([u64::MAX]).collect();
    let mut lives: Vec<(stream::Incarnation, Life)> = Vec::new();
    for (segment, known) in segments.into_iter().zip(known) {
        let incarnation = segment.snapshot.identity.incarnation;
        if lives.last().is_none_or(|(of, _)| *of != incarnation) {
            // The commit repeated by a life's first snapshot is the life's before it.
            if let (Some((_, before)), Some(last)) = (lives.last_mut(), segment.snapshot.last.clone()) {
                before.add(last);
            }
            lives.push((incarnation, Life { start: segment.snapshot.state.clone(), ..Life::default() }));
        } else if let (Some((_, life)), Some(last)) = (lives.last_mut(), segment.snapshot.last.clone()) {
            life.add(last);
        }
        if let Some((_, life)) = lives.last_mut() {
            life.end = segment.snapshot.state;
            for record in segment.commits.into_iter().filter(|record| record.commit <= known) {
                life.end.apply(record.commit, &record.update);
                life.add(record);
            }
        }
    }
    lives
}

impl Life {
    fn add(&mut self, record: CommitRecord) {
        self.paths.extend(record.files.iter().map(|file| file.path(record.commit)));
        self.records.insert(record.commit, record);
    }
}

struct Verifier<'a> {
    disk: &'a dyn Disk,
    dir: &'a Path,
    report: VerifyReport,
    /// Ranges of rows seen so far, and for naming the other file of a double, which file listed them.
    listed: BTreeMap<SourceId, (Ranges, Vec<(Range, String)>)>,
    /// Ranges that commits before this one set apart: a replay may deliver them.
    apart: FileRanges,
}

impl Verifier<'_> {
    fn find(&mut self, file: &Path, fault: Fault, at: Option<(SourceId, Range)>, message: String) {
        let file = file.display().to_string();
        let (source, range) = at.unzip();
        self.report.findings.push(Finding { file, fault, source, range, message });
    }

    /// The commits must follow each other and add up to the state.
    fn history(&mut self, life: &Life, is_newest: bool) {
        let mut state = life.start.clone();
        for record in life.records.values() {
            if record.commit != state.commit + 1 {
                let message = format!("commit {} follows commit {}", record.commit, state.commit);
                self.find(Path::new(META), Fault::History, None, message);
            }
            state.apply(record.commit, &record.update);
        }
        if state != life.end {
            let message = "the commits do not add up to the state".to_owned();
            self.find(Path::new(META), Fault::History, None, message);
        }
        if is_newest {
            self.report.state = state;
        }
    }

    fn commit(&mut self, record: &CommitRecord, is_last: bool) -> Result<(), SinkError> {
        self.report.commits += 1;
        for file in &record.files {
            let path = file.path(record.commit);
            self.untaken(record, file, &path);
            if file.content == Content::Rows {
                self.report.files += 1;
                self.doubled(&path, &file.ranges);
            }
            // The newest commit may not have been shown yet.
            let bytes = match (self.read(&path)?, is_last) {
                (None, true) => self.read(&file.inflight_path(record.commit))?,
                (read, _) => read,
            };
            match bytes {
                None => self.find(&path, Fault::Missing, first(&file.ranges), "a committed file is missing".to_owned()),
                Some(bytes) => self.content(file, &path, bytes),
            }
        }
        for (source, ranges) in record.files.iter().filter(|f| f.content == Content::SetApart).flat_map(|f| &f.ranges) {
            self.apart.entry(*source).or_default().union(ranges);
        }
        Ok(())
    }

    fn read(&self, path: &Path) -> Result<Option<Vec<u8>>, SinkError> {
        let path = self.dir.join(path);
        match read_all(self.disk, &path) {
            Err(error) if error.kind() == ErrorKind::NotFound => Ok(None),
            read => read.map(Some).map_err(SinkError::disk(&path)),
        }
    }

    /// The file's bytes against what was recorded of them, and its own footer.
    fn content(&mut self, file: &FileEntry, path: &Path, bytes: Vec<u8>) {
        let at = first(&file.ranges);
        if let Some(cause) = contradiction(file, &bytes) {
            self.find(path, Fault::Changed, at, cause);
        }
        let footer = match Footer::read(bytes) {
            Ok(footer) => footer,
            Err(cause) => return self.find(path, Fault::Changed, at, cause),
        };
        match file.content {
            Content::Rows => self.report.rows += footer.rows,
            Content::SetApart => self.report.set_apart += footer.rows,
        }
        if footer.rows != file.rows {
            let message = format!("{} rows, {} were committed", footer.rows, file.rows);
            self.find(path, Fault::Rows, at, message);
        }
        if footer.ranges != file.ranges {
            self.find(path, Fault::Changed, at, "its footer lists other ranges than the manifest".to_owned());
        }
    }

    /// Every range of a file must have been taken by its commit, or been in the quarantine before it.
    fn untaken(&mut self, record: &CommitRecord, file: &FileEntry, path: &Path) {
        let nothing = Ranges::default();
        for (source, ranges) in &file.ranges {
            // A record of a stale source is set apart and leaves no trace in the state.
            let taken = record.update.sources.get(source).map(|change| &change.taken);
            if file.content == Content::SetApart {
                continue;
            }
            let untaken = ranges.difference(taken.unwrap_or(&nothing));
            for range in untaken.difference(self.apart.get(source).unwrap_or(&nothing)).as_slice() {
                let message = "a range that its commit did not take".to_owned();
                self.find(path, Fault::Untaken, Some((*source, *range)), message);
            }
        }
    }

    /// No ordinal may lie in two files of rows.
    fn doubled(&mut self, path: &Path, ranges: &FileRanges) {
        let mut doubles = Vec::new();
        for (source, ranges) in ranges {
            let (seen, files) = self.listed.entry(*source).or_default();
            for range in ranges.as_slice() {
                if seen.relation(*range) != Relation::Disjoint {
                    let touches = |(other, _): &&(Range, String)| other.start < range.end && range.start < other.end;
                    let (other, file) = files.iter().find(touches).cloned().unwrap_or((*range, String::new()));
                    let both = Range::new(range.start.max(other.start), range.end.min(other.end));
                    doubles.push((*source, both, format!("a range that also lies in {file}")));
                }
                seen.insert(*range);
                files.push((*range, path.display().to_string()));
            }
        }
        for (source, range, message) in doubles {
            self.find(path, Fault::Doubled, Some((source, range)), message);
        }
    }

    /// A file that nobody committed: what it doubles is named, else that it is there at all.
    fn stray(&mut self, path: &Path) -> Result<(), SinkError> {
        let Some(bytes) = self.read(path)? else { return Ok(()) };
        let ranges = Footer::read(bytes).map(|footer| footer.ranges).unwrap_or_default();
        self.find(path, Fault::Stray, first(&ranges), "a file that no commit lists".to_owned());
        self.doubled(path, &ranges);
        Ok(())
    }
}

fn first(ranges: &FileRanges) -> Option<(SourceId, Range)> {
    ranges.iter().find_map(|(source, ranges)| Some((*source, *ranges.as_slice().first()?)))
}

/// What a Parquet file says of itself.
struct Footer {
    rows: u64,
    ranges: FileRanges,
}

impl Footer {
    fn read(bytes: Vec<u8>) -> Result<Self, String> {
        let reader = SerializedFileReader::new(Bytes::from(bytes)).map_err(|error| error.to_string())?;
        let meta = reader.metadata().file_metadata();
        let rows = u64::try_from(meta.num_rows()).map_err(|_| "a negative number of rows".to_owned())?;
        let keys = meta.key_value_metadata().into_iter().flatten();
        let text = keys.filter(|pair| pair.key == RANGES_KEY).find_map(|pair| pair.value.as_deref());
        let ranges = text.map(serde_json::from_str).transpose().map_err(|error| format!("{RANGES_KEY}: {error}"))?;
        Ok(Self { rows, ranges: ranges.unwrap_or_default() })
    }
}

/// Every visible Parquet file below the folder, relative to it.
fn parquet_files(disk: &dyn Disk, dir: &Path) -> Result<Vec<PathBuf>, SinkError> {
    let (mut found, mut folders) = (Vec::new(), vec![PathBuf::new()]);
    while let Some(folder) = folders.pop() {
        let absolute = dir.join(&folder);
        for name in disk.list(&absolute).map_err(SinkError::disk(&absolute))? {
            let path = folder.join(&name);
            if name.ends_with(".parquet") {
                found.push(path);
            } else if !name.starts_with('.') && name != META && disk.list(&dir.join(&path)).is_ok() {
                folders.push(path);
            }
        }
    }
    found.sort_unstable();
    Ok(found)
}
