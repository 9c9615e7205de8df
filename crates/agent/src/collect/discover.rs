//! Which files a stream's patterns name now.

use std::collections::BTreeSet;
use std::fs::Metadata;
use std::path::{Path, PathBuf};

use stream::config::{Input, StreamSpec};
use tracing::warn;

/// Files that one worker reads at most: each costs a descriptor here and one in the supervisor.
pub const FILES_MAX: usize = 1024;

/// Entries of a folder that are looked at for a file that was moved.
const FOLDER_ENTRIES_MAX: usize = 100_000;

/// The paths that the stream's file inputs name, sorted, at most [`FILES_MAX`].
pub fn discover(spec: &StreamSpec) -> Vec<PathBuf> {
    let patterns = spec.inputs.iter().flat_map(|Input::File { paths }| paths);
    let mut found = BTreeSet::new();
    for pattern in patterns {
        match glob::glob(pattern) {
            Ok(paths) => found.extend(paths.flatten().take(FILES_MAX + 1)),
            Err(error) => warn!(stream = %spec.id, pattern, %error, "not a glob pattern; nothing is read for it"),
        }
    }
    if found.len() > FILES_MAX {
        warn!(stream = %spec.id, found = found.len(), files_max = FILES_MAX, "too many files; the first ones are read");
    }
    found.into_iter().take(FILES_MAX).collect()
}

/// Where the file that was once at `path` lies now, if it still is in the same folder.
pub fn find_moved(path: &Path, is_it: impl Fn(&Metadata) -> bool) -> Option<PathBuf> {
    let entries = std::fs::read_dir(path.parent()?).ok()?.take(FOLDER_ENTRIES_MAX).flatten();
    let mut files = entries.filter_map(|entry| Some((entry.path(), entry.metadata().ok()?)));
    files.find(|(_, metadata)| metadata.is_file() && is_it(metadata)).map(|(path, _)| path)
}

/// Whether one of the stream's patterns names `path`, be the file there or not.
pub fn names(spec: &StreamSpec, path: &Path) -> bool {
    let options = glob::MatchOptions { require_literal_separator: true, ..glob::MatchOptions::default() };
    let mut patterns = spec.inputs.iter().flat_map(|Input::File { paths }| paths);
    patterns.any(|text| glob::Pattern::new(text).is_ok_and(|pattern| pattern.matches_path_with(path, options)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn patterns_are_joined_without_doubles() {
        let dir = tempfile::tempdir().unwrap();
        for name in ["a.log", "a.log.1", "b.txt"] {
            std::fs::write(dir.path().join(name), "x").unwrap();
        }
        let mut spec = StreamSpec::new("a.b.c".parse().unwrap());
        let pattern = |name: &str| dir.path().join(name).display().to_string();
        spec.inputs = vec![Input::File { paths: vec![pattern("a.log*"), pattern("*.log"), pattern("[bad")] }];
        assert_eq!(discover(&spec), [dir.path().join("a.log"), dir.path().join("a.log.1")]);
        assert!(names(&spec, &dir.path().join("a.log.9")) && !names(&spec, &dir.path().join("x/a.log")));
        spec.inputs = vec![];
        assert!(discover(&spec).is_empty());
    }
}
