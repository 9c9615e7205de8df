//! Recovery of a leg's folder: read the newest segment, finish its last commit, begin the next segment (which shuts out
//! an older writer), and remove what was never committed.

use std::io::ErrorKind;
use std::path::{Path, PathBuf};

use stream::disk::{Disk, SharedDisk};
use tracing::{info, warn};

use super::Identity;
use super::layout::{self, META, QUARANTINE};
use super::manifest::{self, Manifest, Segment, Snapshot};
use super::publish;
use crate::error::SinkError;
use crate::metrics;
use crate::state::{ApartPosition, LegState, Replay};

/// Recovers the folder; answers with its manifest and the committed state.
pub fn recover(disk: &SharedDisk, dir: &Path, identity: &Identity) -> Result<(Manifest, LegState), SinkError> {
    let meta = dir.join(META);
    disk.create_dir_all(&meta).map_err(SinkError::disk(&meta))?;
    let newest = match manifest::segments(disk.as_ref(), dir)?.last() {
        Some(number) => Some(manifest::read(disk.as_ref(), dir, *number)?),
        None => None,
    };
    let before = newest.as_ref().map(|segment| Before {
        number: segment.number,
        length: segment.length,
        is_bare: segment.commits.is_empty(),
    });
    let snapshot = snapshot(dir, identity, newest)?;
    if let Some(last) = &snapshot.last {
        publish::finish(disk.as_ref(), dir, last)?;
    }
    let number = before.as_ref().map_or(1, |before| before.number + 1);
    let manifest = begin(disk, dir, number, &snapshot)?;
    if let Some(before) = &before {
        take_over(disk.as_ref(), dir, before, number)?;
    }
    let state = snapshot.state;
    remove_uncommitted(disk.as_ref(), dir, state.commit)?;
    manifest::remove_drafts(disk.as_ref(), dir)?;
    metrics::recovered(identity.stream.as_str(), before.map_or(0, |before| before.length));
    info!(stream = %identity.stream, leg = %identity.leg, commit = state.commit, "recovered");
    Ok((manifest, state))
}

/// The segment from which the state was read.
struct Before {
    number: u64,
    length: u64,
    is_bare: bool,
}

/// What the next segment begins with.
fn snapshot(dir: &Path, identity: &Identity, newest: Option<Segment>) -> Result<Snapshot, SinkError> {
    let Some(segment) = newest else { return Ok(Snapshot::new(identity, LegState::default(), None)) };
    let owner = segment.snapshot.identity.clone();
    if (&owner.stream, &owner.leg) != (&identity.stream, &identity.leg) {
        let name = |identity: &Identity| format!("{} {}", identity.stream, identity.leg);
        return Err(SinkError::Foreign { dir: dir.to_owned(), owner: name(&owner), wanted: name(identity) });
    }
    let (mut state, last) = segment.end();
    if owner.incarnation != identity.incarnation {
        // Another life of the stream: of the old one it knows the number that names files, and that what was set apart
        // by then is not its own.
        let next = ApartPosition { commit: state.commit + 1, record: 0 };
        let replay = Replay { next, end: next, ..Replay::default() };
        state = LegState { commit: state.commit, replay, ..LegState::default() };
    }
    Ok(Snapshot::new(identity, state, last))
}

/// Begins the next segment. If the disk has no room, what was never committed makes it.
fn begin(disk: &SharedDisk, dir: &Path, number: u64, snapshot: &Snapshot) -> Result<Manifest, SinkError> {
    match Manifest::begin(disk.clone(), dir, number, snapshot) {
        Err(SinkError::Disk { cause, .. }) if cause.kind() == ErrorKind::StorageFull => {
            remove_uncommitted(disk.as_ref(), dir, snapshot.state.commit)?;
            Manifest::begin(disk.clone(), dir, number, snapshot)
        }
        begun => begun,
    }
}

/// After the new segment is there, an older writer shows nothing more; but it may have committed after its segment was
/// read. Then the new segment is wrong: it goes, and the next recovery reads again.
fn take_over(disk: &dyn Disk, dir: &Path, before: &Before, number: u64) -> Result<(), SinkError> {
    if manifest::length(disk, dir, before.number)? != before.length {
        manifest::remove(disk, dir, number)?;
        return Err(SinkError::Fenced { dir: dir.to_owned() });
    }
    if before.is_bare { manifest::remove(disk, dir, before.number) } else { Ok(()) }
}

/// Removes files in flight. A final file of a commit that the manifest does not know stops the leg: the manifest has
/// lost its end, or was taken away.
fn remove_uncommitted(disk: &dyn Disk, dir: &Path, commit: u64) -> Result<(), SinkError> {
    let folders = data_folders(disk, dir)?;
    for folder in folders {
        for name in disk.list(&folder).map_err(SinkError::disk(&folder))? {
            let path = folder.join(&name);
            if layout::is_inflight(&name) {
                warn!(file = %path.display(), "removing a file that was never committed");
                disk.remove(&path).map_err(SinkError::disk(&path))?;
            }
            match layout::commit_of(&name) {
                Some(unknown) if unknown > commit => {
                    return Err(SinkError::Unknown { file: path, commit: unknown, known: commit });
                }
                _ => {}
            }
        }
    }
    Ok(())
}

/// The folders in which parts lie.
fn data_folders(disk: &dyn Disk, dir: &Path) -> Result<Vec<PathBuf>, SinkError> {
    let apart = dir.join(QUARANTINE);
    let mut folders = hour_folders(disk, dir)?;
    folders.extend(disk.exists(&apart).then_some(apart));
    Ok(folders)
}

/// The folders of the hours in a leg's folder.
pub(super) fn hour_folders(disk: &dyn Disk, dir: &Path) -> Result<Vec<PathBuf>, SinkError> {
    let mut folders = Vec::new();
    for day in disk.list(dir).map_err(SinkError::disk(dir))?.iter().filter(|day| day.starts_with("dt=")) {
        let day = dir.join(day);
        let hours = disk.list(&day).map_err(SinkError::disk(&day))?;
        folders.extend(hours.iter().filter(|hour| hour.starts_with("hour=")).map(|hour| day.join(hour)));
    }
    Ok(folders)
}
