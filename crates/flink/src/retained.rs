//! What Flink has kept of a job: checkpoints, savepoints and hand-over objects, in folders that are the job's own. That a
//! checkpoint is there means that its `_metadata` is: Flink writes that last, and renames it into its place.
//!
//! ```text
//! ROOT/JOB/EPOCH/ID/chk-N/_metadata                  checkpoints of an attempt
//! ROOT/JOB/EPOCH/savepoints/savepoint-X/_metadata    where it was stopped
//! ROOT/JOB/hand-over/ID-N.json                       positions and ranges of the same moments
//! ```

use std::fs::{self, File};
use std::io::{self, Read};
use std::path::{Path, PathBuf};

use crate::job::{Attempt, Checkpoint, Id, JobKey};
use crate::lifecycle::Retained;

/// The first bytes of `_metadata`: a magic number, a version, and the checkpoint's number.
const HEAD_BYTES: usize = 16;
const MAGIC: [u8; 4] = 0x4960_672d_u32.to_be_bytes();

/// The folder that Flink and the engine share.
#[derive(Clone, Debug)]
pub struct Places {
    root: PathBuf,
}

impl Places {
    /// Below this folder, an absolute path that the cluster's machines have too.
    pub fn new(root: PathBuf) -> Self {
        Self { root }
    }

    fn epoch(&self, key: &JobKey, epoch: u32) -> PathBuf {
        self.root.join(key.to_string()).join(epoch.to_string())
    }

    /// Where attempts of an epoch keep their checkpoints, as a URL.
    pub fn checkpoints(&self, key: &JobKey, epoch: u32) -> String {
        url(&self.epoch(key, epoch))
    }

    /// Where a job that stops leaves its savepoint, as a URL.
    pub fn savepoints(&self, key: &JobKey, epoch: u32) -> String {
        url(&self.epoch(key, epoch).join("savepoints"))
    }

    fn hand_over(&self, key: &JobKey) -> PathBuf {
        self.root.join(key.to_string()).join("hand-over")
    }

    /// Where a job leaves its hand-over objects, as a URL.
    pub fn hand_overs(&self, key: &JobKey) -> String {
        url(&self.hand_over(key))
    }

    /// The newest hand-over object that an attempt has left, or if it has left none the newest of earlier attempts; with whose
    /// it is and its checkpoint's number.
    ///
    /// # Errors
    /// The storage cannot be read.
    pub fn newest_object(&self, key: &JobKey, attempt: Id) -> io::Result<Option<(Id, u64, PathBuf)>> {
        // A folder that is not mounted must not look like one without objects.
        fs::metadata(&self.root)?;
        let entries = match fs::read_dir(self.hand_over(key)) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            entries => entries?,
        };
        let mut newest = None;
        for entry in entries {
            let entry = entry?;
            let name = entry.file_name();
            let parts = name.to_str().and_then(|name| name.strip_suffix(".json")?.rsplit_once('-'));
            let known =
                parts.and_then(|(job, number)| Some((Id::try_from(job.to_owned()).ok()?, number.parse().ok()?)));
            let Some((job, number)) = known else { continue };
            // Gone again: newer ones have come.
            let Ok(modified) = entry.metadata().and_then(|metadata| metadata.modified()) else { continue };
            newest = newest.max(Some((job == attempt, modified, number, job, entry.path())));
        }
        Ok(newest.map(|(_, _, number, job, path)| (job, number, path)))
    }

    /// The path of a `file:` URL.
    pub fn path(url: &str) -> PathBuf {
        PathBuf::from(plain(url))
    }

    /// The newest checkpoint of the last attempt's epoch, or the one that is known if that is newer and still there.
    ///
    /// # Errors
    /// The storage cannot be read: then nothing is known.
    pub fn newest(
        &self,
        key: &JobKey,
        last: Option<&Attempt>,
        known: Option<&Checkpoint>,
    ) -> io::Result<Option<Retained>> {
        // A folder that is not mounted must not look like one without checkpoints.
        fs::metadata(&self.root)?;
        let mut newest = None;
        for folder in folders(&self.epoch(key, last.map_or(0, |last| last.epoch)))? {
            for snapshot in folders(&folder)? {
                newest = newest.max(number(&snapshot)?.map(|number| (number, snapshot)));
            }
        }
        if let Some(known) = known {
            let path = Self::path(&known.path);
            newest = newest.max(number(&path)?.filter(|found| *found == known.number).map(|number| (number, path)));
        }
        let Some((number, path)) = newest else { return Ok(None) };
        let object = last.map(|last| self.hand_over(key).join(object_name(last.job, number)));
        let hand_over = match object {
            Some(object) if object.try_exists()? => Some(url(&object)),
            _ => None,
        };
        Ok(Some(Retained { checkpoint: Checkpoint { number, path: url(&path) }, hand_over }))
    }
}

/// As the connector names its objects.
fn object_name(job: Id, number: u64) -> String {
    format!("{job}-{number:019}.json")
}

/// A `file:` URL.
pub fn url(path: &Path) -> String {
    format!("file://{}", path.display())
}

/// The path of a `file:` URL, which Flink writes with one slash or with three.
fn plain(url: &str) -> &str {
    url.strip_prefix("file://").or_else(|| url.strip_prefix("file:")).unwrap_or(url)
}

/// The folders in a folder; none if it is not there.
fn folders(of: &Path) -> io::Result<Vec<PathBuf>> {
    let entries = match fs::read_dir(of) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        entries => entries?,
    };
    let mut folders = Vec::new();
    for entry in entries {
        let entry = entry?;
        if entry.file_type()?.is_dir() {
            folders.push(entry.path());
        }
    }
    Ok(folders)
}

/// The number of a complete checkpoint; `None` if it is none, or has just been removed.
fn number(snapshot: &Path) -> io::Result<Option<u64>> {
    let mut head = [0; HEAD_BYTES];
    let read = File::open(snapshot.join("_metadata")).and_then(|mut file| file.read_exact(&mut head));
    match read {
        Ok(()) if head.starts_with(&MAGIC) => {}
        Err(error) if !matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::UnexpectedEof) => {
            return Err(error);
        }
        _ => return Ok(None),
    }
    let number = head[8..].iter().fold(0, |number, byte| number << 8 | u64::from(*byte));
    Ok(Some(number))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::job::{Begin, Text};

    fn snapshot(path: &Path, number: u64) {
        fs::create_dir_all(path).unwrap();
        let bytes = [&MAGIC[..], &[0, 0, 0, 4], &number.to_be_bytes(), &[0; 40]].concat();
        fs::write(path.join("_metadata"), bytes).unwrap();
    }

    #[test]
    fn the_newest_is_found_by_its_number_wherever_it_lies() {
        let root = tempfile::tempdir().unwrap();
        let places = Places::new(root.path().to_owned());
        let key: JobKey = "a.b.c@000000000000001f".parse().unwrap();
        let job = Id::try_from("000000000000000000000000000000aa".to_owned()).unwrap();
        let text = Text { source: String::new(), tables: vec![], legs: vec![], settings: vec![] };
        let last = Attempt { job, text, begin: Begin::Anew, epoch: 0 };
        let newest = |known: Option<&Checkpoint>| places.newest(&key, Some(&last), known).unwrap();
        assert_eq!(newest(None), None);
        let own = root.path().join(key.to_string());
        snapshot(&own.join("0/aa/chk-9"), 9);
        snapshot(&own.join("0/bb/chk-10"), 10);
        fs::create_dir_all(own.join("0/bb/chk-11")).unwrap();
        snapshot(&own.join("1/cc/chk-99"), 99);
        assert_eq!(newest(None).unwrap().checkpoint.number, 10);
        snapshot(&own.join("0/savepoints/savepoint-1"), 12);
        fs::create_dir_all(own.join("hand-over")).unwrap();
        fs::write(own.join(format!("hand-over/{job}-0000000000000000012.json")), "{}").unwrap();
        let found = newest(None).unwrap();
        assert_eq!(found.checkpoint.number, 12);
        assert!(found.hand_over.unwrap().ends_with("12.json"));
        let other = Id::try_from("000000000000000000000000000000bb".to_owned()).unwrap();
        let object = |job: Id, number| own.join("hand-over").join(object_name(job, number));
        fs::write(object(other, 13), "{}").unwrap();
        assert_eq!(places.newest_object(&key, job).unwrap(), Some((job, 12, object(job, 12))));
        let unknown = Id::random(&mut rand::rng());
        assert_eq!(places.newest_object(&key, unknown).unwrap(), Some((other, 13, object(other, 13))));

        let elsewhere = root.path().join("by-hand");
        snapshot(&elsewhere, 13);
        let known = Checkpoint { number: 13, path: format!("file:{}", elsewhere.display()) };
        let found = newest(Some(&known)).unwrap().checkpoint;
        assert_eq!(found, Checkpoint { number: 13, path: url(&elsewhere) });
        assert_eq!(newest(Some(&found)).unwrap().checkpoint, found, "its URL leads to it again");
        fs::remove_dir_all(&elsewhere).unwrap();
        assert_eq!(newest(Some(&known)).unwrap().checkpoint.number, 12);
        let elsewhere = Places::new(root.path().join("not-mounted"));
        assert!(elsewhere.newest(&key, Some(&last), None).is_err() && elsewhere.newest_object(&key, job).is_err());
    }
}
