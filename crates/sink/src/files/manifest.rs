//! The manifest: what is committed, in a chain of append-only segments `_isolane/manifest-<n>.log`.
//!
//! A segment is frames (`stream::frame`) of JSON: first one snapshot, then one record per commit. A record is appended
//! by one write and one sync, so a commit is durable whole or not at all.
//!
//! ```text
//! {"snapshot": {"format": 1, "stream", "incarnation", "leg", "state": LegState, "last": CommitRecord | null}}
//! {"commit": {"commit": 42, "files": [FileEntry], "update": Commit}}
//! ```
//!
//! Each recovery begins a new segment under the next number, created without overwriting: that shuts out an older
//! writer, which looks for a newer segment before and after each append, and it makes durable whatever the old segment
//! was read to say, so that nobody has to trust a file whose sync may have failed. `last` repeats the last commit for
//! the same reason. A segment that has grown long is followed by a new one in the same way. Old segments stay: they are
//! the history from which `verify` proves the folder; recovery reads only the newest.
//!
//! A torn tail (no whole frame after it) is what a power loss leaves of an append, and counts for nothing. Damage that
//! is followed by a whole frame is damage, and stops the leg.

use std::io::ErrorKind;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use stream::crash;
use stream::disk::{Disk, DiskFile, SharedDisk, read_all};
use stream::frame::{self, Parsed};

use super::Identity;
use super::layout::{self, META};
use super::part::FileEntry;
use crate::error::SinkError;
use crate::state::{Commit, LegState};

/// The format of segments that this version writes, and the only one it reads.
const FORMAT: u32 = 1;
/// Longest frame: a snapshot of range sets at their budget, as text.
const PAYLOAD_BYTES_MAX: usize = 512 << 20;
/// A segment shorter than this is never followed by another: recovery reads it in milliseconds.
const SEGMENT_BYTES_MIN: u64 = 4 << 20;
/// How many times its snapshot a segment may grow to, so that rewriting costs a fraction of writing.
const SEGMENT_PER_SNAPSHOT: u64 = 4;

/// One commit, as it is durable.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct CommitRecord {
    /// Its number.
    pub commit: u64,
    /// The files it shows.
    pub files: Vec<FileEntry>,
    /// What it changes of the leg's state.
    pub update: Commit,
}

/// The first frame of a segment.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Snapshot {
    format: u32,
    /// The leg.
    #[serde(flatten)]
    pub identity: Identity,
    /// The state before the segment's first record.
    pub state: LegState,
    /// The last commit of the segment before, if there was one.
    pub last: Option<CommitRecord>,
}

impl Snapshot {
    /// A snapshot in the present format.
    pub fn new(identity: &Identity, state: LegState, last: Option<CommitRecord>) -> Self {
        Self { format: FORMAT, identity: identity.clone(), state, last }
    }
}

#[derive(Deserialize)]
#[serde(rename_all = "snake_case")]
enum Entry {
    Snapshot(Box<Snapshot>),
    Commit(Box<CommitRecord>),
}

/// [`Entry`] as it is written, without owning what it states.
#[derive(Serialize)]
#[serde(rename_all = "snake_case")]
enum EntryRef<'a> {
    Snapshot(&'a Snapshot),
    Commit(&'a CommitRecord),
}

/// A segment as read.
pub struct Segment {
    /// Its number.
    pub number: u64,
    /// Its first frame.
    pub snapshot: Snapshot,
    /// Its records in order.
    pub commits: Vec<CommitRecord>,
    /// Bytes of the file, a torn tail included.
    pub length: u64,
}

impl Segment {
    /// The state after its last record, and that record, or the one repeated by the snapshot.
    pub fn end(self) -> (LegState, Option<CommitRecord>) {
        let (mut state, mut last) = (self.snapshot.state, self.snapshot.last);
        for record in self.commits {
            state.apply(record.commit, &record.update);
            last = Some(record);
        }
        (state, last)
    }
}

/// Numbers of the segments in a leg's folder, ascending.
pub fn segments(disk: &dyn Disk, dir: &Path) -> Result<Vec<u64>, SinkError> {
    let meta = dir.join(META);
    let names = match disk.list(&meta) {
        Err(error) if error.kind() == ErrorKind::NotFound => Vec::new(),
        listed => listed.map_err(SinkError::disk(&meta))?,
    };
    let mut numbers: Vec<u64> = names.iter().filter_map(|name| layout::segment_of(name)).collect();
    numbers.sort_unstable();
    Ok(numbers)
}

/// Whose folder it is, and the committed state, without touching anything; none if no leg has begun there.
pub fn state(disk: &dyn Disk, dir: &Path) -> Result<Option<(Identity, LegState)>, SinkError> {
    let Some(newest) = segments(disk, dir)?.pop() else { return Ok(None) };
    let segment = read(disk, dir, newest)?;
    Ok(Some((segment.snapshot.identity.clone(), segment.end().0)))
}

/// Reads one segment.
pub fn read(disk: &dyn Disk, dir: &Path, number: u64) -> Result<Segment, SinkError> {
    let path = path_of(dir, number);
    let bytes = read_all(disk, &path).map_err(SinkError::disk(&path))?;
    let damaged = |byte: usize, cause: String| SinkError::Damaged { file: path.clone(), byte: byte as u64, cause };
    let (mut at, mut snapshot, mut commits) = (0, None, Vec::new());
    while let Parsed::Frame(payload, taken) = frame::parse(&bytes[at..], PAYLOAD_BYTES_MAX) {
        match serde_json::from_slice(payload).map_err(|error| damaged(at, error.to_string()))? {
            Entry::Snapshot(first) if at == 0 => snapshot = Some(*first),
            Entry::Commit(record) if at > 0 => commits.push(*record),
            _ => return Err(damaged(at, "a frame out of its place".to_owned())),
        }
        at += taken;
    }
    if let Some(whole) = frame_after(&bytes, at) {
        return Err(damaged(at, format!("no frame here, but one at byte {whole}")));
    }
    let Some(snapshot) = snapshot else { return Err(damaged(0, "no snapshot".to_owned())) };
    match snapshot.format {
        FORMAT => Ok(Segment { number, snapshot, commits, length: bytes.len() as u64 }),
        other => Err(damaged(0, format!("format {other} is not one that this version reads ({FORMAT})"))),
    }
}

/// The first whole frame after a place where there is none. Every payload here is a JSON object, so that the search is
/// a look at each byte.
fn frame_after(bytes: &[u8], at: usize) -> Option<usize> {
    let starts = at + 1..bytes.len().saturating_sub(frame::FRAME_HEADER_BYTES);
    let like_a_frame = |start: &usize| bytes[start + frame::FRAME_HEADER_BYTES] == b'{';
    let whole = |start: &usize| matches!(frame::parse(&bytes[*start..], PAYLOAD_BYTES_MAX), Parsed::Frame(..));
    starts.filter(like_a_frame).find(whole)
}

fn path_of(dir: &Path, number: u64) -> PathBuf {
    dir.join(META).join(layout::segment_name(number))
}

/// Length of a segment now.
pub fn length(disk: &dyn Disk, dir: &Path, number: u64) -> Result<u64, SinkError> {
    let path = path_of(dir, number);
    Ok(disk.open(&path).map_err(SinkError::disk(&path))?.len())
}

/// Removes a segment that holds no record.
pub fn remove(disk: &dyn Disk, dir: &Path, number: u64) -> Result<(), SinkError> {
    let path = path_of(dir, number);
    disk.remove(&path).map_err(SinkError::disk(&path))
}

/// Removes drafts of segments that were never finished.
pub fn remove_drafts(disk: &dyn Disk, dir: &Path) -> Result<(), SinkError> {
    let meta = dir.join(META);
    for name in disk.list(&meta).map_err(SinkError::disk(&meta))?.iter().filter(|name| name.ends_with(".draft")) {
        let path = meta.join(name);
        disk.remove(&path).map_err(SinkError::disk(&path))?;
    }
    Ok(())
}

/// The newest segment, open for appending.
pub struct Manifest {
    disk: SharedDisk,
    dir: PathBuf,
    number: u64,
    file: Box<dyn DiskFile>,
    snapshot_bytes: u64,
}

impl Manifest {
    /// Begins the segment `number`. Fails with [`SinkError::Fenced`] if somebody else has begun it.
    pub fn begin(disk: SharedDisk, dir: &Path, number: u64, snapshot: &Snapshot) -> Result<Self, SinkError> {
        let path = path_of(dir, number);
        let meta = dir.join(META);
        let draft = meta.join(format!(".{}.{}.draft", layout::segment_name(number), std::process::id()));
        if disk.exists(&draft) {
            disk.remove(&draft).map_err(SinkError::disk(&draft))?;
        }
        let bytes = framed(&EntryRef::Snapshot(snapshot));
        let mut file = disk.create(&draft).map_err(SinkError::disk(&draft))?;
        file.append(&bytes).map_err(SinkError::disk(&draft))?;
        file.sync().map_err(SinkError::disk(&draft))?;
        match disk.rename(&draft, &path) {
            Err(error) if error.kind() == ErrorKind::AlreadyExists => {
                return Err(SinkError::Fenced { dir: dir.to_owned() });
            }
            renamed => renamed.map_err(SinkError::disk(&path))?,
        }
        disk.sync_dir(&meta).map_err(SinkError::disk(&meta))?;
        let begun = Self { disk, dir: dir.to_owned(), number, file, snapshot_bytes: bytes.len() as u64 };
        begun.check_newest()?;
        Ok(begun)
    }

    /// Makes a commit durable. After an error nobody knows whether it is; recovery finds out.
    pub fn append(&mut self, record: &CommitRecord) -> Result<(), SinkError> {
        self.check_newest()?;
        let path = path_of(&self.dir, self.number);
        self.file.append(&framed(&EntryRef::Commit(record))).map_err(SinkError::disk(&path))?;
        crash::point("sink.manifest.written");
        self.file.sync().map_err(SinkError::disk(&path))?;
        crash::point("sink.manifest.synced");
        // Either this sees the newer segment, or the newer segment's writer saw this record: see `FilesSink::recover`.
        self.check_newest()
    }

    /// Whether the segment has grown so long that another should follow.
    pub fn is_long(&self) -> bool {
        self.file.len() > SEGMENT_BYTES_MIN.max(SEGMENT_PER_SNAPSHOT * self.snapshot_bytes)
    }

    /// The segment that follows, with the state as it stands.
    pub fn follow(&self, snapshot: &Snapshot) -> Result<Self, SinkError> {
        Self::begin(self.disk.clone(), &self.dir, self.number + 1, snapshot)
    }

    fn check_newest(&self) -> Result<(), SinkError> {
        match segments(self.disk.as_ref(), &self.dir)?.last() {
            Some(newest) if *newest == self.number => Ok(()),
            _ => Err(SinkError::Fenced { dir: self.dir.clone() }),
        }
    }
}

fn framed(entry: &EntryRef<'_>) -> Vec<u8> {
    let payload = serde_json::to_vec(entry).expect("states are maps with text keys and numbers: always JSON");
    let mut bytes = Vec::with_capacity(payload.len() + frame::FRAME_HEADER_BYTES);
    frame::write(&mut bytes, &payload);
    bytes
}
