//! One process per state folder: two writers of one state would each undo what the other remembers.

use std::fs::{File, OpenOptions, TryLockError};
use std::io;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

/// The folder is taken, or cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum LockError {
    /// Another process has it.
    #[error("{} is in use by another process; stop it first", .0.display())]
    Taken(PathBuf),
    /// The lock file cannot be made.
    #[error("{}: {cause}; see that the folder can be written", .path.display())]
    Io {
        /// The file.
        path: PathBuf,
        /// What happened.
        cause: io::Error,
    },
}

/// Takes the folder for as long as the file is open; waits up to `patience` for another process to leave it.
pub async fn acquire(dir: &Path, patience: Duration) -> Result<File, LockError> {
    let path = dir.join("lock");
    let fail = |cause| LockError::Io { path: path.clone(), cause };
    let file = OpenOptions::new().create(true).truncate(false).write(true).open(&path).map_err(fail)?;
    let until = Instant::now() + patience;
    loop {
        match file.try_lock() {
            Ok(()) => return Ok(file),
            Err(TryLockError::Error(cause)) => return Err(fail(cause)),
            Err(TryLockError::WouldBlock) if Instant::now() >= until => return Err(LockError::Taken(dir.to_owned())),
            Err(TryLockError::WouldBlock) => tokio::time::sleep(Duration::from_millis(20)).await,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_folder_has_one_owner_at_a_time() {
        let dir = tempfile::tempdir().unwrap();
        let first = acquire(dir.path(), Duration::ZERO).await.unwrap();
        assert!(matches!(acquire(dir.path(), Duration::ZERO).await, Err(LockError::Taken(_))));
        drop(first);
        acquire(dir.path(), Duration::ZERO).await.unwrap();
    }
}
