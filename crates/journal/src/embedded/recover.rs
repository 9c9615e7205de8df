//! Finds the log again after a stop, a crash or a power loss.
//!
//! Rules: drafts go; of a run's generations the last stands; a write-ahead segment whose run exists was copied and
//! goes; a segment without a whole header and no longer than one was never used and goes. In the last segment whatever
//! follows the last whole frame is a torn tail: no acknowledged commit was in it. In any other segment the next one's
//! header says how far it is valid; damage that reaches that end stops the start with file and byte. Damage with a whole
//! frame after it is passed over aloud, wherever it is. Nothing is written but removals: the writer goes on in a new
//! segment, whose header states how much of the last one counts.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::sync::Arc;

use stream::disk::{Disk, read_all};
use tracing::{error, info, warn};

use super::format::{Entry, FileName, HEADER_FRAME_BYTES, Header, KIND_RUN, KIND_WAL, VERSION};
use super::index::{Index, Run, WalFrame};
use super::run::{Pieces, bytes_of, read_exactly, read_footer, scan_pieces};
use super::scan::{Found, frames};
use super::state::State;
use super::wal::Previous;
use super::{LogSettings, OpenError};
use crate::metrics;

/// What the log goes on with.
#[derive(Debug)]
pub struct Recovered {
    /// Everything found.
    pub index: Index,
    /// The number of the next write-ahead segment.
    pub next_number: u64,
    /// The last segment, and how much of it counts.
    pub previous: Previous,
}

/// Reads `dir`, creating it if it is not there.
pub fn recover(disk: &dyn Disk, dir: &Path, settings: &LogSettings) -> Result<Recovered, OpenError> {
    disk.create_dir_all(dir).map_err(OpenError::io("create", dir))?;
    let (wals, runs) = tidy(disk, dir)?;
    let mut index = Index::default();
    for (number, generation) in &runs {
        adopt_run(disk, dir, *number, *generation, settings, &mut index)?;
    }
    let segments = live_segments(disk, dir, &wals, &runs)?;
    let mut previous = Previous::default();
    for segment in &segments {
        previous = adopt_segment(disk, dir, segment, &mut index)?;
    }
    for partition in index.partitions.values_mut() {
        // Sets where the partition starts.
        partition.drop_pieces(0);
    }
    if let Some(state) = State::read(disk, dir)? {
        state.apply(&mut index);
    }
    let last = wals.last().copied().max(runs.keys().next_back().copied()).unwrap_or(0);
    info!(runs = runs.len(), segments = segments.len(), partitions = index.partitions.len(), "the journal is open");
    Ok(Recovered { index, next_number: last + 1, previous })
}

/// Removes drafts and outdated generations. Returns the segments and the runs with their generations.
fn tidy(disk: &dyn Disk, dir: &Path) -> Result<(BTreeSet<u64>, BTreeMap<u64, u32>), OpenError> {
    let (mut wals, mut runs) = (BTreeSet::new(), BTreeMap::new());
    let remove = |name: &str| disk.remove(&dir.join(name)).map_err(OpenError::io("remove", dir.join(name)));
    for name in disk.list(dir).map_err(OpenError::io("list", dir))? {
        match FileName::parse(&name) {
            Some(FileName::Wal(number)) => drop(wals.insert(number)),
            // Names are sorted, so a later generation comes later.
            Some(FileName::Run(number, generation)) => {
                if let Some(old) = runs.insert(number, generation) {
                    remove(&FileName::Run(number, old).text())?;
                }
            }
            None if name.ends_with(".draft") => remove(&name)?,
            None => {}
        }
    }
    Ok((wals, runs))
}

fn adopt_run(
    disk: &dyn Disk,
    dir: &Path,
    number: u64,
    generation: u32,
    settings: &LogSettings,
    index: &mut Index,
) -> Result<(), OpenError> {
    let path = FileName::Run(number, generation).path(dir);
    let file = disk.open(&path).map_err(OpenError::io("open", &path))?;
    let head = read_exactly(file.as_ref(), 0, HEADER_FRAME_BYTES.min(file.len() as usize));
    match Header::read(&head.map_err(OpenError::io("read", &path))?, KIND_RUN) {
        Some(header) if header.version != VERSION => return Err(OpenError::Version { path, found: header.version }),
        Some(_) => {}
        None => warn!(path = %path.display(), "a run's header is damaged; its entries are read all the same"),
    }
    let pieces = match read_footer(file.as_ref(), number).map_err(OpenError::io("read", &path))? {
        Some(pieces) => pieces,
        None => scanned(disk, &path, number, settings)?,
    };
    index.runs.insert(number, Run { generation, bytes: bytes_of(&pieces) });
    for (key, pieces) in pieces {
        let partition = index.partitions.entry(key).or_default();
        for piece in pieces {
            // A reader must never go back: what is wholly before the end was seen before.
            if piece.end > partition.end() {
                partition.end.send_replace(piece.end);
                partition.pieces.push_back(piece);
            }
        }
    }
    Ok(())
}

fn scanned(disk: &dyn Disk, path: &Path, number: u64, settings: &LogSettings) -> Result<Pieces, OpenError> {
    let bytes = read_all(disk, path).map_err(OpenError::io("read", path))?;
    let (pieces, damaged) = scan_pieces(&bytes, number, settings.piece_bytes);
    warn!(path = %path.display(), "a run's footer cannot be read; the run was scanned");
    for (from, to) in damaged {
        metrics::damaged(to - from);
        error!(path = %path.display(), from, to, "damaged bytes in the journal are passed over");
    }
    Ok(pieces)
}

/// A write-ahead segment that was not copied.
#[derive(Debug)]
struct Segment {
    number: u64,
    /// The valid bytes that the next segment states; none: it is the last one.
    bytes: Option<u64>,
}

/// Removes what was never used or is copied. Headers are read before anything goes, because each speaks of the segment
/// before it.
fn live_segments(
    disk: &dyn Disk,
    dir: &Path,
    wals: &BTreeSet<u64>,
    runs: &BTreeMap<u64, u32>,
) -> Result<Vec<Segment>, OpenError> {
    let mut segments: Vec<Segment> = Vec::new();
    let mut outdated = Vec::new();
    for number in wals {
        let Some(header) = segment_header(disk, dir, *number)? else {
            outdated.push(*number);
            continue;
        };
        if let Some(before) = segments.last_mut().filter(|before| before.number == header.previous) {
            before.bytes = Some(header.previous_bytes);
        }
        segments.push(Segment { number: *number, bytes: None });
    }
    outdated.extend(segments.iter().map(|segment| segment.number).filter(|number| runs.contains_key(number)));
    segments.retain(|segment| !runs.contains_key(&segment.number));
    for number in &outdated {
        let path = FileName::Wal(*number).path(dir);
        disk.remove(&path).map_err(OpenError::io("remove", path))?;
    }
    if !outdated.is_empty() {
        disk.sync_dir(dir).map_err(OpenError::io("sync", dir))?;
    }
    Ok(segments)
}

/// A segment's header; none if the segment was never used.
fn segment_header(disk: &dyn Disk, dir: &Path, number: u64) -> Result<Option<Header>, OpenError> {
    let path = FileName::Wal(number).path(dir);
    let file = disk.open(&path).map_err(OpenError::io("open", &path))?;
    let bytes = HEADER_FRAME_BYTES.min(file.len() as usize);
    let head = read_exactly(file.as_ref(), 0, bytes).map_err(OpenError::io("read", &path))?;
    match Header::read(&head, KIND_WAL) {
        Some(header) if header.version != VERSION => Err(OpenError::Version { path, found: header.version }),
        Some(header) => Ok(Some(header)),
        None if file.len() <= HEADER_FRAME_BYTES as u64 => Ok(None),
        None => Err(OpenError::Damaged { path, byte: 0, what: "the header is no header" }),
    }
}

/// Adds a segment's entries to the index. Returns how much of it counts.
fn adopt_segment(disk: &dyn Disk, dir: &Path, segment: &Segment, index: &mut Index) -> Result<Previous, OpenError> {
    let path = FileName::Wal(segment.number).path(dir);
    let mut bytes = read_all(disk, &path).map_err(OpenError::io("read", &path))?;
    if let Some(valid) = segment.bytes {
        if (bytes.len() as u64) < valid {
            let what = "the file is shorter than what was durable in it";
            return Err(OpenError::Damaged { path, byte: bytes.len() as u64, what });
        }
        bytes.truncate(valid as usize);
    } else {
        // Written but perhaps not synced when the process died: durable before any reader sees it.
        let mut file = disk.open(&path).map_err(OpenError::io("open", &path))?;
        file.sync().map_err(OpenError::io("sync", &path))?;
    }
    let mut valid = bytes.len();
    for found in frames(&bytes, HEADER_FRAME_BYTES) {
        match found {
            Found::Frame { position, bytes, payload } => {
                if let Some(entry) = Entry::read(payload) {
                    adopt_frame(segment.number, position, bytes, &entry, index);
                }
            }
            Found::Damaged { from, to } => {
                metrics::damaged(to - from);
                error!(path = %path.display(), from, to, "damaged bytes in the journal are passed over");
            }
            Found::Tail { from } if segment.bytes.is_none() => {
                info!(path = %path.display(), from, bytes = bytes.len() - from, "a torn tail was cut off");
                valid = from;
            }
            Found::Tail { from } => {
                let what = "no whole entry follows, although more was durable";
                return Err(OpenError::Damaged { path, byte: from as u64, what });
            }
        }
    }
    index.sealed.push_back(segment.number);
    Ok(Previous { number: segment.number, bytes: valid as u64 })
}

fn adopt_frame(wal: u64, position: usize, bytes: usize, entry: &Entry<'_>, index: &mut Index) {
    let key = (Arc::from(entry.topic), entry.partition);
    let partition = index.partitions.entry(key).or_default();
    // Left behind by a commit that was refused, and given again to one that was not.
    if entry.offset < partition.end() {
        return;
    }
    let (position, bytes) = (position as u32, bytes as u32);
    partition.push_frame(WalFrame { wal, position, bytes, first: entry.offset, end: entry.end() });
}
