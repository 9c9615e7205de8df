//! Files that a job on Flink has committed and left hidden: those of a checkpoint are to be put together into larger ones
//! ([`HIDDEN`] to `compacted-`), and which are still to be, Flink's state alone knows. When nobody goes on from that state
//! they are shown as they are.
//!
//! A file that was put together says in its footer of which ones ([`FILES_KEY`]), or has the name of its only one. Those are
//! in it and go away; all others are in no other file. After a crash in between the rest is done by the next call.

use std::collections::BTreeSet;
use std::io::{self, ErrorKind};
use std::path::{Path, PathBuf};

use stream::config::MARK;
use stream::disk::Disk;
use tracing::info;

use super::footers::footer;
use super::recover::hour_folders;
use crate::error::SinkError;

/// What Flink begins the names of files with that are still to be put together.
pub const HIDDEN: &str = ".uncompacted-";
/// And those of files that it has put together.
const COMPACTED: &str = "compacted-";
/// Footer key of the names of the files that were put together: a JSON array.
pub const FILES_KEY: &str = "isolane.files";

/// Shows what is hidden in the folder of `mark`, a file that the job has made there: so this is the folder in which it wrote. No job
/// may write there meanwhile.
///
/// # Errors
/// The mark is not there, or that of another job is too; the disk fails; or a file that was put together cannot be read:
/// then nobody knows what is in it, and nothing is shown.
pub fn show(disk: &dyn Disk, mark: &Path) -> Result<(), SinkError> {
    mark.symlink_metadata().map_err(|cause| match cause.kind() {
        ErrorKind::NotFound => SinkError::Unmarked(mark.to_owned()),
        _ => SinkError::Disk { path: mark.to_owned(), cause },
    })?;
    let root = mark.parent().unwrap_or(Path::new("/"));
    if let Some(other) = disk.list(root).map_err(SinkError::disk(root))?.iter().find(|name| is_of_another(name, mark)) {
        return Err(SinkError::Shared(root.join(other)));
    }
    hour_folders(disk, root)?.iter().try_for_each(|folder| show_in(disk, folder))
}

/// Whether a name is the mark of another job. A job's is removed when all that it has left is shown.
fn is_of_another(name: &str, mark: &Path) -> bool {
    name.starts_with(MARK) && mark.file_name() != Some(name.as_ref())
}

fn show_in(disk: &dyn Disk, folder: &Path) -> Result<(), SinkError> {
    let list = || disk.list(folder).map_err(SinkError::disk(folder));
    let before = list()?;
    if !before.iter().any(|name| name.starts_with(HIDDEN)) {
        return Ok(());
    }
    // A task that Flink has given up, and that only sleeps, must not finish what is shown here.
    for name in before.iter().filter(|name| is_unfinished(name)) {
        let path = folder.join(name);
        remove(disk, &path).map_err(SinkError::disk(&path))?;
    }
    let names = list()?;
    let parts = parts(folder, &names)?;
    let hidden: Vec<&str> = names.iter().filter_map(|name| name.strip_prefix(HIDDEN)).collect();
    for name in &hidden {
        let path = folder.join(format!("{HIDDEN}{name}"));
        let shown = match parts.contains(*name) {
            true => remove(disk, &path),
            false => rename(disk, &path, folder.join(name)),
        };
        shown.map_err(SinkError::disk(&path))?;
    }
    disk.sync_dir(folder).map_err(SinkError::disk(folder))?;
    info!(folder = %folder.display(), files = hidden.len(), "files that a job on Flink had left hidden are shown");
    Ok(())
}

/// Whether somebody was just putting files together into this one.
fn is_unfinished(name: &str) -> bool {
    name.strip_prefix('.').is_some_and(|name| name.starts_with(COMPACTED) && name.contains(".inprogress."))
}

fn remove(disk: &dyn Disk, path: &Path) -> io::Result<()> {
    match disk.remove(path) {
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(()),
        removed => removed,
    }
}

/// Nobody else writes here: so the name can be looked for first, as not every file system can refuse to overwrite (NFS).
fn rename(disk: &dyn Disk, from: &Path, to: PathBuf) -> io::Result<()> {
    match disk.exists(&to) {
        true => Err(io::Error::new(ErrorKind::AlreadyExists, format!("{} is there already", to.display()))),
        false => disk.replace(from, &to),
    }
}

/// The names of all files that are in others.
fn parts(folder: &Path, names: &[String]) -> Result<BTreeSet<String>, SinkError> {
    let mut parts = BTreeSet::new();
    for name in names {
        let Some(first) = name.strip_prefix(COMPACTED) else { continue };
        parts.extend(parts_of(&folder.join(name))?);
        parts.insert(first.to_owned());
    }
    Ok(parts)
}

fn parts_of(path: &PathBuf) -> Result<Vec<String>, SinkError> {
    let damaged = |cause| SinkError::Damaged { file: path.clone(), byte: 0, cause };
    let file = std::fs::File::open(path).map_err(SinkError::disk(path))?;
    match footer(file).map_err(damaged)?.value(FILES_KEY) {
        Some(text) => serde_json::from_str(text).map_err(|error| damaged(format!("{FILES_KEY}: {error}"))),
        None => Ok(Vec::new()),
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use stream::disk::RealDisk;

    use super::super::footers::tests::write_with;
    use super::*;

    fn names(folder: &Path) -> Vec<String> {
        let mut names = RealDisk.list(folder).unwrap();
        names.sort_unstable();
        names
    }

    /// A folder with a mark, and in it that of an hour.
    fn folder() -> (tempfile::TempDir, PathBuf, PathBuf) {
        let root = tempfile::tempdir().unwrap();
        let (mark, hour) = (root.path().join(".isolane-a.b.c@1"), root.path().join("dt=2026-01-01/hour=00"));
        fs::create_dir_all(&hour).unwrap();
        fs::write(&mark, "").unwrap();
        (root, mark, hour)
    }

    #[test]
    fn what_is_in_no_other_file_is_shown_and_what_is_goes_away() {
        let (root, mark, hour) = folder();
        for hidden in ["part-x-0-0", "part-x-1-0", "part-x-0-1", "part-x-0-2"] {
            write_with(&hour.join(format!("{HIDDEN}{hidden}")), 1, &[]);
        }
        // Of two, of one, and of one whose name is in the other's only: Flink names the first.
        write_with(&hour.join("compacted-part-x-0-0"), 2, &[(FILES_KEY, r#"["part-x-0-0", "part-x-1-0"]"#)]);
        write_with(&hour.join("compacted-part-x-0-1"), 1, &[]);
        write_with(&hour.join(".compacted-part-x-0-2.inprogress.7"), 1, &[]);
        write_with(&hour.join("..uncompacted-part-x-1-1.inprogress.8"), 1, &[]);
        // Somebody else's.
        let others = root.path().join("other/dt=2026-01-01/hour=00");
        fs::create_dir_all(&others).unwrap();
        write_with(&others.join(".uncompacted-part-y-0-0"), 1, &[]);
        for _ in 0..2 {
            show(&RealDisk, &mark).unwrap();
            let left =
                ["..uncompacted-part-x-1-1.inprogress.8", "compacted-part-x-0-0", "compacted-part-x-0-1", "part-x-0-2"];
            assert_eq!(names(&hour), left);
            assert_eq!(names(&others), [".uncompacted-part-y-0-0"]);
        }
    }

    #[test]
    fn a_folder_without_the_jobs_mark_is_not_its_own() {
        let (_root, mark, hour) = folder();
        fs::remove_file(&mark).unwrap();
        write_with(&hour.join(".uncompacted-part-x-0-0"), 1, &[]);
        let error = show(&RealDisk, &mark).unwrap_err().to_string();
        assert!(error.contains("mount the folder here"), "{error}");
        assert_eq!(names(&hour), [".uncompacted-part-x-0-0"]);
        fs::write(&mark, "").unwrap();
        let other = mark.with_file_name(".isolane-a.b.c@1.files");
        fs::write(&other, "").unwrap();
        let error = show(&RealDisk, &mark).unwrap_err().to_string();
        assert!(error.contains(".isolane-a.b.c@1.files says"), "{error}");
        fs::remove_file(&other).unwrap();
        show(&RealDisk, &mark).unwrap();
        assert_eq!(names(&hour), ["part-x-0-0"]);
    }

    #[test]
    fn what_cannot_be_read_or_would_overwrite_lets_nothing_be_shown() {
        let (_root, mark, hour) = folder();
        let hidden = format!("{HIDDEN}part-x-1-0");
        write_with(&hour.join(&hidden), 1, &[]);
        fs::write(hour.join("compacted-part-x-0-0"), "nonsense").unwrap();
        let error = show(&RealDisk, &mark).unwrap_err().to_string();
        assert!(error.contains("compacted-part-x-0-0 is damaged"), "{error}");
        assert_eq!(names(&hour), [hidden.as_str(), "compacted-part-x-0-0"]);

        fs::remove_file(hour.join("compacted-part-x-0-0")).unwrap();
        fs::write(hour.join("part-x-1-0"), "").unwrap();
        let error = show(&RealDisk, &mark).unwrap_err().to_string();
        assert!(error.contains("part-x-1-0 is there already"), "{error}");
        assert_eq!(names(&hour), [hidden.as_str(), "part-x-1-0"]);
    }
}
