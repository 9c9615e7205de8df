//! What lies in a folder whose files nobody lists but themselves: Parquet files of a job on Flink, each of which says in its
//! footer which ranges its rows cover. A name that does not begin with a dot or underscore is committed.
//!
//! State of a [`Footers`]: what has been read; a file never changes, so each is read once. Bytes: some 100 a file, and 16 a range.

use std::collections::BTreeSet;
use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use parquet::file::metadata::FileMetaData;
use parquet::file::reader::{FileReader, SerializedFileReader};
use stream::Ranges;
use stream::ranges::Relation;

use super::part::{FileRanges, RANGES_KEY};
use super::verify::{Fault, Finding};
use crate::error::SinkError;

/// The committed files of a folder, by their footers.
#[derive(Debug)]
pub struct Footers {
    dir: PathBuf,
    since: SystemTime,
    /// Files that need not be looked at again, those of an earlier life too.
    known: BTreeSet<PathBuf>,
    files: u64,
    rows: u64,
    ranges: FileRanges,
    findings: Vec<Finding>,
}

impl Footers {
    /// Of those files in `dir` that were written `since` then: the others are of an earlier life of the stream. Nothing is read yet.
    pub fn new(dir: PathBuf, since: SystemTime) -> Self {
        Self { dir, since, known: BTreeSet::new(), files: 0, rows: 0, ranges: FileRanges::new(), findings: Vec::new() }
    }

    /// Reads the files that are new. A folder that is not there has none yet.
    pub fn read_on(&mut self) -> Result<(), SinkError> {
        let mut folders = vec![self.dir.clone()];
        while let Some(folder) = folders.pop() {
            let entries = match fs::read_dir(&folder) {
                Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
                entries => entries.map_err(SinkError::disk(&folder))?,
            };
            for entry in entries {
                let entry = entry.map_err(SinkError::disk(&folder))?;
                if entry.file_name().as_encoded_bytes().first().is_some_and(|first| b"._".contains(first)) {
                    continue;
                }
                let path = entry.path();
                match entry.file_type().map_err(SinkError::disk(&path))? {
                    kind if kind.is_dir() => folders.push(path),
                    _ if self.known.contains(&path) => (),
                    _ => self.take(path)?,
                }
            }
        }
        Ok(())
    }

    /// Files read.
    pub fn files(&self) -> u64 {
        self.files
    }

    /// Rows in them.
    pub fn rows(&self) -> u64 {
        self.rows
    }

    /// The ranges that they cover.
    pub fn ranges(&self) -> &FileRanges {
        &self.ranges
    }

    /// What is wrong with them.
    pub fn findings(&self) -> &[Finding] {
        &self.findings
    }

    fn take(&mut self, path: PathBuf) -> Result<(), SinkError> {
        let file = match File::open(&path) {
            // Somebody's retention was faster.
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
            file => file.map_err(SinkError::disk(&path))?,
        };
        let modified = file.metadata().and_then(|metadata| metadata.modified()).map_err(SinkError::disk(&path))?;
        if modified < self.since {
            self.known.insert(path);
            return Ok(());
        }
        match footer(file).and_then(|footer| Ok((footer.rows()?, footer.ranges()?))) {
            Ok((rows, ranges)) => {
                self.rows += rows;
                ranges.into_iter().for_each(|(source, ranges)| self.cover(&path, source, &ranges));
            }
            Err(cause) => {
                let file = self.name(&path);
                self.findings.push(Finding { file, fault: Fault::Changed, source: None, range: None, message: cause });
            }
        }
        self.files += 1;
        self.known.insert(path);
        Ok(())
    }

    fn cover(&mut self, path: &Path, source: stream::SourceId, ranges: &Ranges) {
        let (file, known) = (self.name(path), self.ranges.entry(source).or_default());
        for range in ranges.as_slice() {
            if known.relation(*range) != Relation::Disjoint {
                let message = "a range that also lies in another file".to_owned();
                let (source, range) = (Some(source), Some(*range));
                self.findings.push(Finding { file: file.clone(), fault: Fault::Doubled, source, range, message });
            }
            known.insert(*range);
        }
    }

    fn name(&self, path: &Path) -> String {
        path.strip_prefix(&self.dir).unwrap_or(path).display().to_string()
    }
}

/// What a Parquet file says at its end.
pub(super) struct Footer(FileMetaData);

/// Reads a file's end; the error says why it has none.
pub(super) fn footer(file: File) -> Result<Footer, String> {
    let reader = SerializedFileReader::new(file).map_err(|error| error.to_string())?;
    Ok(Footer(reader.metadata().file_metadata().clone()))
}

impl Footer {
    /// The text under a key.
    pub(super) fn value(&self, key: &str) -> Option<&str> {
        let keys = self.0.key_value_metadata().into_iter().flatten();
        keys.filter(|pair| pair.key == key).find_map(|pair| pair.value.as_deref())
    }

    fn rows(&self) -> Result<u64, String> {
        u64::try_from(self.0.num_rows()).map_err(|_| "a negative number of rows".to_owned())
    }

    /// The ranges that its rows cover.
    fn ranges(&self) -> Result<FileRanges, String> {
        let text = self.value(RANGES_KEY).ok_or_else(|| format!("a file without {RANGES_KEY} in its footer"))?;
        serde_json::from_str(text).map_err(|error| format!("{RANGES_KEY}: {error}"))
    }
}

#[cfg(test)]
pub(super) mod tests {
    use std::sync::Arc;
    use std::time::Duration;

    use arrow_array::{Int32Array, RecordBatch};
    use parquet::arrow::ArrowWriter;
    use parquet::file::metadata::KeyValue;
    use stream::{Range, SourceId};

    use super::super::part::ranges_json;
    use super::*;

    fn write(path: &Path, rows: i32, ranges: Option<(u64, u64)>) {
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        let ranges = ranges.map(|(start, end)| {
            let ranges: FileRanges = [(SourceId::derive(1, &[]), vec![Range::new(start, end)].into())].into();
            ranges_json(&ranges)
        });
        write_with(path, rows, &ranges.iter().map(|ranges| (RANGES_KEY, ranges.as_str())).collect::<Vec<_>>());
    }

    pub(in super::super) fn write_with(path: &Path, rows: i32, footer: &[(&str, &str)]) {
        let column = Arc::new(Int32Array::from_iter_values(0..rows)) as _;
        let batch = RecordBatch::try_from_iter([("id", column)]).unwrap();
        let mut writer = ArrowWriter::try_new(File::create(path).unwrap(), batch.schema(), None).unwrap();
        writer.write(&batch).unwrap();
        for (key, value) in footer {
            writer.append_key_value_metadata(KeyValue::new((*key).to_owned(), (*value).to_owned()));
        }
        writer.close().unwrap();
    }

    #[test]
    fn committed_files_are_read_once_and_a_range_in_two_is_found() {
        let folder = tempfile::tempdir().unwrap();
        let hour = folder.path().join("dt=2026-01-01/hour=00");
        let mut footers = Footers::new(folder.path().join("not-there-yet"), SystemTime::UNIX_EPOCH);
        footers.read_on().unwrap();
        let mut footers = Footers { dir: folder.path().to_owned(), ..footers };
        write(&hour.join("part-a-0"), 3, Some((0, 30)));
        write(&hour.join(".part-b-0.inprogress.1"), 5, Some((0, 50)));
        footers.read_on().unwrap();
        assert_eq!((footers.files(), footers.rows(), footers.findings().len()), (1, 3, 0));
        write(&hour.join("part-c-0"), 2, Some((30, 50)));
        footers.read_on().unwrap();
        footers.read_on().unwrap();
        assert_eq!((footers.files(), footers.rows()), (2, 5));
        assert_eq!(footers.ranges().values().map(Ranges::total).sum::<u64>(), 50);
        write(&hour.join("part-d-0"), 1, Some((40, 60)));
        write(&hour.join("part-e-0"), 1, None);
        footers.read_on().unwrap();
        let mut later = Footers::new(folder.path().to_owned(), SystemTime::now() + Duration::from_secs(60));
        later.read_on().unwrap();
        assert_eq!(later.files(), 0, "of an earlier life");
        let mut faults: Vec<_> =
            footers.findings().iter().map(|finding| (finding.file.as_str(), finding.fault)).collect();
        faults.sort_unstable_by_key(|(file, _)| *file);
        assert_eq!(
            faults,
            [("dt=2026-01-01/hour=00/part-d-0", Fault::Doubled), ("dt=2026-01-01/hour=00/part-e-0", Fault::Changed)]
        );
    }
}
