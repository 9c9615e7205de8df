//! A disk in memory that can lose its power: what was not synced is then partly gone, as a seed decides.
//!
//! Per file it keeps the durable bytes and the written ones; per directory the durable names and the changes since the
//! last directory sync. [`SimDisk::power_loss`] keeps, of each file, the durable bytes and some prefix of what was
//! appended after them (its last bytes perhaps garbled), and of each directory some prefix of its changes, in order.
//! Handles opened before are dead afterwards. Room can be limited, and a sync can be made to fail.

use std::collections::{BTreeMap, BTreeSet};
use std::io::{self, ErrorKind};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard};

use rand::{Rng, RngExt};

use super::{Disk, DiskFile};

/// The simulated disk. Clones share it.
#[derive(Clone, Default)]
pub struct SimDisk(Arc<Mutex<State>>);

#[derive(Default)]
struct State {
    /// Losses so far; a handle of an earlier life is dead.
    life: u64,
    /// Operations that change something, and after how many of them the power goes.
    operations: u64,
    operations_until_loss: Option<u64>,
    /// Bytes that fit in all; none: no limit.
    room_bytes: Option<u64>,
    syncs_until_failure: Option<u64>,
    inodes: Vec<Inode>,
    names: BTreeMap<PathBuf, usize>,
    durable_names: BTreeMap<PathBuf, usize>,
    changes: BTreeMap<PathBuf, Vec<Change>>,
    dirs: BTreeSet<PathBuf>,
}

#[derive(Clone, Default)]
struct Inode {
    written: Vec<u8>,
    /// What a power loss leaves for certain.
    durable: Vec<u8>,
}

/// A change of names. A rename within one directory is one change: it happens whole or not at all.
#[derive(Clone)]
enum Change {
    Link(PathBuf, usize),
    Unlink(PathBuf),
    Rename(PathBuf, PathBuf, usize),
}

impl SimDisk {
    /// A new, empty disk.
    pub fn new() -> Self {
        Self::default()
    }

    /// Lets every operation after the next `operations` changing ones fail, as if the power had gone.
    pub fn lose_power_after(&self, operations: u64) {
        let mut state = self.lock();
        state.operations = 0;
        state.operations_until_loss = Some(operations);
    }

    /// Whether the power has gone by [`SimDisk::lose_power_after`].
    pub fn power_is_gone(&self) -> bool {
        self.lock().power_is_gone()
    }

    /// The power goes and comes back: what was not durable is kept or lost as `dice` decide.
    pub fn power_loss(&self, dice: &mut impl Rng) {
        let mut state = self.lock();
        state.life += 1;
        state.operations_until_loss = None;
        state.inodes.iter_mut().for_each(|inode| inode.lose(dice));
        let mut names = std::mem::take(&mut state.durable_names);
        for changes in std::mem::take(&mut state.changes).into_values() {
            let kept = dice.random_range(0..=changes.len());
            changes.iter().take(kept).for_each(|change| change.apply(&mut names));
        }
        state.names = names.clone();
        state.durable_names = names;
    }

    /// The process that wrote is gone, the machine is not: all that was written is there, and handles opened before are
    /// dead. Ends what [`SimDisk::lose_power_after`] began, as a kill in the midst of it.
    pub fn process_loss(&self) {
        let mut state = self.lock();
        state.life += 1;
        state.operations_until_loss = None;
    }

    /// Limits the disk's room; `None` lifts the limit.
    pub fn set_room(&self, bytes: Option<u64>) {
        self.lock().room_bytes = bytes;
    }

    /// Lets the sync after the next `syncs` fail once; the bytes it should have made durable may be lost.
    pub fn fail_sync_after(&self, syncs: u64) {
        self.lock().syncs_until_failure = Some(syncs);
    }

    /// Flips one bit of a file, durably.
    pub fn flip_bit(&self, path: &Path, byte: usize, bit: u8) -> io::Result<()> {
        let mut state = self.lock();
        let inode = state.inode_of(path)?;
        let inode = &mut state.inodes[inode];
        for bytes in [&mut inode.written, &mut inode.durable] {
            if let Some(byte) = bytes.get_mut(byte) {
                *byte ^= 1 << bit;
            }
        }
        Ok(())
    }

    /// Bytes written in all files.
    pub fn bytes(&self) -> u64 {
        self.lock().bytes()
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
    }

    fn handle(&self, state: &State, inode: usize) -> Box<dyn DiskFile> {
        Box::new(SimFile { disk: self.clone(), inode, life: state.life })
    }
}

impl State {
    fn power_is_gone(&self) -> bool {
        self.operations_until_loss.is_some_and(|until| self.operations > until)
    }

    /// Counts a changing operation; fails if the power has gone.
    fn operate(&mut self) -> io::Result<()> {
        self.operations += 1;
        self.powered()
    }

    fn powered(&self) -> io::Result<()> {
        if self.power_is_gone() { Err(io::Error::other("simulated disk: the power is gone")) } else { Ok(()) }
    }

    fn inode_of(&self, path: &Path) -> io::Result<usize> {
        let missing = || io::Error::new(ErrorKind::NotFound, format!("{}: no such file", path.display()));
        self.names.get(path).copied().ok_or_else(missing)
    }

    fn change(&mut self, dir: &Path, change: Change) {
        change.apply(&mut self.names);
        self.changes.entry(dir.to_owned()).or_default().push(change);
    }

    fn bytes(&self) -> u64 {
        let used: BTreeSet<usize> = self.names.values().copied().collect();
        used.into_iter().map(|inode| self.inodes[inode].written.len() as u64).sum()
    }

    fn move_name(&mut self, from: &Path, to: &Path, inode: usize) {
        let (from_dir, to_dir) = (parent(from), parent(to));
        if from_dir == to_dir {
            return self.change(&from_dir, Change::Rename(from.to_owned(), to.to_owned(), inode));
        }
        self.change(&to_dir, Change::Link(to.to_owned(), inode));
        self.change(&from_dir, Change::Unlink(from.to_owned()));
    }
}

impl Change {
    fn apply(&self, names: &mut BTreeMap<PathBuf, usize>) {
        match self {
            Change::Link(path, inode) => drop(names.insert(path.clone(), *inode)),
            Change::Unlink(path) => drop(names.remove(path)),
            Change::Rename(from, to, inode) => {
                names.remove(from);
                names.insert(to.clone(), *inode);
            }
        }
    }
}

impl Inode {
    /// Keeps the durable bytes and some prefix of what was written after them, the kept part's end perhaps garbled.
    fn lose(&mut self, dice: &mut impl Rng) {
        let common = self.durable.len().min(self.written.len());
        let appended = self.written[common..].to_vec();
        let kept = dice.random_range(0..=appended.len());
        let mut after = self.durable.clone();
        if self.written.starts_with(&self.durable) {
            after.extend_from_slice(&appended[..kept]);
            if kept > 0 && dice.random_bool(0.3) {
                let garbled = dice.random_range(0..kept.min(512));
                let end = after.len();
                after[end - garbled..].fill(0);
            }
        } else if dice.random_bool(0.5) {
            after = self.written.clone();
        }
        self.written = after.clone();
        self.durable = after;
    }
}

fn parent(path: &Path) -> PathBuf {
    path.parent().unwrap_or(Path::new("/")).to_owned()
}

fn taken(path: &Path) -> io::Error {
    io::Error::new(ErrorKind::AlreadyExists, format!("{}: the name is taken", path.display()))
}

impl Disk for SimDisk {
    fn create(&self, path: &Path) -> io::Result<Box<dyn DiskFile>> {
        let mut state = self.lock();
        state.operate()?;
        if state.names.contains_key(path) {
            return Err(taken(path));
        }
        if !state.dirs.contains(&parent(path)) {
            return Err(io::Error::new(ErrorKind::NotFound, format!("{}: no such directory", parent(path).display())));
        }
        state.inodes.push(Inode::default());
        let inode = state.inodes.len() - 1;
        state.change(&parent(path), Change::Link(path.to_owned(), inode));
        Ok(self.handle(&state, inode))
    }

    fn open(&self, path: &Path) -> io::Result<Box<dyn DiskFile>> {
        let state = self.lock();
        state.powered()?;
        let inode = state.inode_of(path)?;
        Ok(self.handle(&state, inode))
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        if self.exists(to) {
            return Err(taken(to));
        }
        self.replace(from, to)
    }

    fn replace(&self, from: &Path, to: &Path) -> io::Result<()> {
        let mut state = self.lock();
        state.operate()?;
        let inode = state.inode_of(from)?;
        state.move_name(from, to, inode);
        Ok(())
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        let mut state = self.lock();
        state.operate()?;
        state.inode_of(path)?;
        state.change(&parent(path), Change::Unlink(path.to_owned()));
        Ok(())
    }

    fn list(&self, dir: &Path) -> io::Result<Vec<String>> {
        let state = self.lock();
        state.powered()?;
        if !state.dirs.contains(dir) {
            return Err(io::Error::new(ErrorKind::NotFound, format!("{}: no such directory", dir.display())));
        }
        let children = state.names.keys().chain(&state.dirs).filter(|path| path.parent() == Some(dir));
        let names: BTreeSet<String> =
            children.filter_map(|path| path.file_name()?.to_str().map(str::to_owned)).collect();
        Ok(names.into_iter().collect())
    }

    fn create_dir_all(&self, dir: &Path) -> io::Result<()> {
        let mut state = self.lock();
        state.operate()?;
        state.dirs.extend(dir.ancestors().map(Path::to_owned));
        Ok(())
    }

    fn remove_dir(&self, dir: &Path) -> io::Result<()> {
        let mut state = self.lock();
        state.operate()?;
        if state.names.keys().chain(&state.dirs).any(|path| path.parent() == Some(dir)) {
            return Err(io::Error::new(ErrorKind::DirectoryNotEmpty, format!("{}: not empty", dir.display())));
        }
        state.dirs.remove(dir);
        Ok(())
    }

    fn sync_dir(&self, dir: &Path) -> io::Result<()> {
        let mut state = self.lock();
        state.operate()?;
        let changes = state.changes.remove(dir).unwrap_or_default();
        changes.iter().for_each(|change| change.apply(&mut state.durable_names));
        Ok(())
    }

    fn exists(&self, path: &Path) -> bool {
        let state = self.lock();
        state.names.contains_key(path) || state.dirs.contains(path)
    }
}

struct SimFile {
    disk: SimDisk,
    inode: usize,
    life: u64,
}

impl SimFile {
    /// The disk, if this handle is still of its life.
    fn state(&self) -> io::Result<MutexGuard<'_, State>> {
        let state = self.disk.lock();
        if state.life == self.life {
            Ok(state)
        } else {
            Err(io::Error::other("simulated disk: opened before the power loss"))
        }
    }
}

impl DiskFile for SimFile {
    fn append(&mut self, bytes: &[u8]) -> io::Result<()> {
        let mut state = self.state()?;
        state.operate()?;
        let left = state.room_bytes.map_or(u64::MAX, |room| room.saturating_sub(state.bytes()));
        let fits = bytes.len().min(usize::try_from(left).unwrap_or(usize::MAX));
        state.inodes[self.inode].written.extend_from_slice(&bytes[..fits]);
        if fits == bytes.len() {
            Ok(())
        } else {
            Err(io::Error::new(ErrorKind::StorageFull, "simulated disk: no room"))
        }
    }

    fn read_at(&self, offset: u64, buffer: &mut [u8]) -> io::Result<usize> {
        let state = self.state()?;
        state.powered()?;
        let written = &state.inodes[self.inode].written;
        let from = written.len().min(offset as usize);
        let n = buffer.len().min(written.len() - from);
        buffer[..n].copy_from_slice(&written[from..from + n]);
        Ok(n)
    }

    fn sync(&mut self) -> io::Result<()> {
        let mut state = self.state()?;
        state.operate()?;
        match state.syncs_until_failure {
            Some(0) => {
                state.syncs_until_failure = None;
                return Err(io::Error::other("simulated disk: the sync failed"));
            }
            Some(left) => state.syncs_until_failure = Some(left - 1),
            None => {}
        }
        let inode = &mut state.inodes[self.inode];
        inode.durable.clone_from(&inode.written);
        Ok(())
    }

    fn truncate(&mut self, length: u64) -> io::Result<()> {
        let mut state = self.state()?;
        state.operate()?;
        state.inodes[self.inode].written.resize(length as usize, 0);
        Ok(())
    }

    fn len(&self) -> u64 {
        self.state().map_or(0, |state| state.inodes[self.inode].written.len() as u64)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::disk::{read_all, write_atomically};
    use rand::SeedableRng;
    use rand::rngs::ChaCha8Rng;

    fn dir() -> &'static Path {
        Path::new("/d")
    }

    fn disk() -> SimDisk {
        let disk = SimDisk::new();
        disk.create_dir_all(dir()).unwrap();
        disk
    }

    #[test]
    fn what_was_synced_survives_and_the_rest_need_not() {
        let mut outcomes = BTreeSet::new();
        for seed in 0..200 {
            let disk = disk();
            let mut file = disk.create(&dir().join("f")).unwrap();
            disk.sync_dir(dir()).unwrap();
            file.append(b"durable").unwrap();
            file.sync().unwrap();
            file.append(b"+rest").unwrap();
            disk.create(&dir().join("unsynced")).unwrap();
            disk.power_loss(&mut ChaCha8Rng::seed_from_u64(seed));
            assert!(file.append(b"x").is_err(), "a handle outlived the power loss");
            let bytes = read_all(&disk, &dir().join("f")).unwrap();
            assert!(bytes.starts_with(b"durable") && bytes.len() <= 12);
            outcomes.insert((bytes.len(), disk.exists(&dir().join("unsynced"))));
        }
        assert!(outcomes.len() > 6, "the seeds explore little: {outcomes:?}");
    }

    #[test]
    fn an_atomic_write_leaves_the_old_or_the_new() {
        let mut seen = BTreeSet::new();
        for (seed, operations) in (0..400).map(|seed| (seed, seed % 8)) {
            let disk = disk();
            let path = dir().join("state");
            write_atomically(&disk, &path, b"old", |_| ()).unwrap();
            disk.lose_power_after(operations);
            let written = write_atomically(&disk, &path, b"newer", |_| ());
            disk.power_loss(&mut ChaCha8Rng::seed_from_u64(seed));
            let bytes = read_all(&disk, &path).unwrap();
            assert!(bytes == b"newer" || (bytes == b"old" && written.is_err()), "{bytes:?} after {written:?}");
            seen.insert(bytes);
        }
        assert_eq!(seen.len(), 2);
    }

    #[test]
    fn a_full_disk_and_a_failed_sync_say_so() {
        let disk = disk();
        let mut file = disk.create(&dir().join("f")).unwrap();
        disk.set_room(Some(4));
        assert_eq!(file.append(b"12345").unwrap_err().kind(), ErrorKind::StorageFull);
        disk.set_room(None);
        disk.fail_sync_after(0);
        assert!(file.sync().is_err());
        assert!(file.sync().is_ok());
        assert_eq!(disk.rename(&dir().join("f"), &dir().join("f")).unwrap_err().kind(), ErrorKind::AlreadyExists);
    }
}
