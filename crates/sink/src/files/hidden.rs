//! Files that a job on Flink has committed and left hidden: those of a checkpoint are to be put together into larger ones
//! ([`HIDDEN`] to `compacted-`), and which are still to be, Flink's state alone knows. When nobody goes on from that state
//! they are shown as they are.
//!
//! A file that was put together says in its footer of which ones ([`FILES_KEY`]), or has the name of its only one. Those are
//! in it and go away; all others are in no other file. After a crash in between the rest is done by the next call.

use std::collections::BTreeSet;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};

use stream::disk::Disk;
use tracing::info;

use super::footers::footer;
use crate::error::SinkError;

/// What Flink begins the names of files with that are still to be put together.
pub const HIDDEN: &str = ".uncompacted-";
/// And those of files that it has put together.
const COMPACTED: &str = "compacted-";
/// Footer key of the names of the files that were put together: a JSON array.
pub const FILES_KEY: &str = "isolane.files";

/// Shows what is hidden in `dir` and its folders; no job may write there meanwhile. A folder that is not there has
/// nothing: Flink makes it with its first file.
///
/// # Errors
/// The disk fails, or a file that was put together cannot be read:
/// then nobody knows what is in it, and nothing is shown.
pub fn show(disk: &dyn Disk, dir: &Path) -> Result<(), SinkError> {
    let mut folders = vec![dir.to_owned()];
    while let Some(folder) = folders.pop() {
        let names = match disk.list(&folder) {
            Err(error) if error.kind() == ErrorKind::NotFound => continue,
            names => names.map_err(SinkError::disk(&folder))?,
        };
        let hidden: Vec<&str> = names.iter().filter_map(|name| name.strip_prefix(HIDDEN)).collect();
        if !hidden.is_empty() {
            show_in(disk, &folder, &hidden, &parts(&folder, &names)?)?;
        }
        let plain = names.iter().filter(|name| !name.starts_with(['.', '_']));
        // Not through links, which may lead in circles.
        let is_folder = |path: &PathBuf| path.symlink_metadata().is_ok_and(|found| found.is_dir());
        folders.extend(plain.map(|name| folder.join(name)).filter(is_folder));
    }
    Ok(())
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

fn show_in(disk: &dyn Disk, folder: &Path, hidden: &[&str], parts: &BTreeSet<String>) -> Result<(), SinkError> {
    for name in hidden {
        let path = folder.join(format!("{HIDDEN}{name}"));
        match parts.contains(*name) {
            true => disk.remove(&path),
            false => disk.rename(&path, &folder.join(name)),
        }
        .map_err(SinkError::disk(&path))?;
    }
    disk.sync_dir(folder).map_err(SinkError::disk(folder))?;
    info!(folder = %folder.display(), files = hidden.len(), "files that a job on Flink had left hidden are shown");
    Ok(())
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

    #[test]
    fn what_is_in_no_other_file_is_shown_and_what_is_goes_away() {
        let root = tempfile::tempdir().unwrap();
        show(&RealDisk, &root.path().join("not-there-yet")).unwrap();
        fs::write(root.path().join("no-folder"), "").unwrap();
        let error = show(&RealDisk, &root.path().join("no-folder")).unwrap_err().to_string();
        assert!(error.contains("no-folder"), "{error}");
        let hour = root.path().join("dt=2026-01-01/hour=00");
        fs::create_dir_all(&hour).unwrap();
        for hidden in ["part-x-0-0", "part-x-1-0", "part-x-0-1", "part-x-0-2"] {
            write_with(&hour.join(format!("{HIDDEN}{hidden}")), 1, &[]);
        }
        // Of two, of one, and of one whose name is in the other's only: Flink names the first.
        write_with(&hour.join("compacted-part-x-0-0"), 2, &[(FILES_KEY, r#"["part-x-0-0", "part-x-1-0"]"#)]);
        write_with(&hour.join("compacted-part-x-0-1"), 1, &[]);
        write_with(&hour.join(".compacted-part-x-0-2.inprogress.7"), 1, &[]);
        write_with(&hour.join("..uncompacted-part-x-1-1.inprogress.8"), 1, &[]);
        for _ in 0..2 {
            show(&RealDisk, root.path()).unwrap();
            let left = [
                "..uncompacted-part-x-1-1.inprogress.8",
                ".compacted-part-x-0-2.inprogress.7",
                "compacted-part-x-0-0",
                "compacted-part-x-0-1",
                "part-x-0-2",
            ];
            assert_eq!(names(&hour), left);
        }
    }

    #[test]
    fn what_cannot_be_read_lets_nothing_be_shown() {
        let root = tempfile::tempdir().unwrap();
        let hidden = format!("{HIDDEN}part-x-1-0");
        write_with(&root.path().join(&hidden), 1, &[]);
        fs::write(root.path().join("compacted-part-x-0-0"), "nonsense").unwrap();
        let error = show(&RealDisk, root.path()).unwrap_err().to_string();
        assert!(error.contains("compacted-part-x-0-0 is damaged"), "{error}");
        assert_eq!(names(root.path()), [hidden.as_str(), "compacted-part-x-0-0"]);
    }
}
