//! One Parquet file while it is written. Its footer lists the ranges of its rows, so that the file itself says what it
//! holds: keys `isolane.stream`, `isolane.incarnation`, `isolane.leg`, `isolane.commit`, `isolane.ranges` (JSON:
//! `{source: [[start, end], ...]}`).

use std::collections::BTreeMap;
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use arrow_array::RecordBatch;
use arrow_schema::SchemaRef;
use parquet::arrow::ArrowWriter;
use parquet::basic::{Compression, ZstdLevel};
use parquet::file::metadata::KeyValue;
use parquet::file::properties::WriterProperties;
use serde::{Deserialize, Serialize};
use stream::crash;
use stream::disk::{Disk, DiskFile};
use stream::provenance::SourceId;
use stream::ranges::Ranges;

use super::Identity;
use super::layout;
use crate::error::SinkError;
use crate::seam::Origin;

/// Footer key of a file's ranges.
pub const RANGES_KEY: &str = "isolane.ranges";
/// Fast, and within a few percent of the higher levels on log lines.
const ZSTD_LEVEL: i32 = 1;
/// Bytes a row group gathers in memory before it goes to the file.
const ROW_GROUP_BYTES_MAX: usize = 16 << 20;

/// A file's ranges per source.
pub type FileRanges = BTreeMap<SourceId, Ranges>;

/// What a file holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Content {
    /// Rows of the leg's output.
    Rows,
    /// Records set apart.
    SetApart,
}

/// A closed file, as the manifest lists it: what it takes to prove that it is there.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct FileEntry {
    /// Its folder, relative to the leg's.
    pub folder: String,
    /// Counts the files of the commit, from 0; with the commit it makes the name.
    pub part: usize,
    /// What it holds.
    pub content: Content,
    /// Bytes.
    pub length: u64,
    /// CRC-32C of all bytes.
    pub crc32c: u32,
    /// Rows.
    pub rows: u64,
    /// Ranges of the rows.
    pub ranges: FileRanges,
}

impl FileEntry {
    /// The final path, relative to the leg's folder.
    pub fn path(&self, commit: u64) -> PathBuf {
        Path::new(&self.folder).join(layout::final_name(commit, self.part))
    }

    /// The path before the commit, relative to the leg's folder.
    pub fn inflight_path(&self, commit: u64) -> PathBuf {
        Path::new(&self.folder).join(layout::inflight_name(commit, self.part))
    }
}

/// A file being written.
pub struct Part {
    path: PathBuf,
    folder: String,
    part: usize,
    content: Content,
    writer: ArrowWriter<Summed>,
    rows: u64,
    ranges: FileRanges,
}

impl Part {
    /// Creates the file, and its folder, under its in-flight name.
    pub fn create(
        disk: &dyn Disk,
        dir: &Path,
        folder: &str,
        (commit, part): (u64, usize),
        (content, schema): (Content, SchemaRef),
    ) -> Result<Self, SinkError> {
        let absolute = dir.join(folder);
        disk.create_dir_all(&absolute).map_err(SinkError::disk(&absolute))?;
        let path = absolute.join(layout::inflight_name(commit, part));
        let file = disk.create(&path).map_err(SinkError::disk(&path))?;
        let summed = Summed { file, length: 0, crc32c: 0, failure: None };
        let writer = ArrowWriter::try_new(summed, schema, Some(properties())).map_err(|e| parquet(&path, &e))?;
        Ok(Self { path, folder: folder.to_owned(), part, content, writer, rows: 0, ranges: BTreeMap::new() })
    }

    /// Adds rows with their origins.
    pub fn write(&mut self, batch: &RecordBatch, origins: impl Iterator<Item = Origin>) -> Result<(), SinkError> {
        for origin in origins {
            self.ranges.entry(origin.source).or_default().insert(origin.range);
        }
        self.rows += batch.num_rows() as u64;
        let written = self.writer.write(batch);
        written.map_err(|error| self.failed(&error))
    }

    /// Bytes it holds, in memory and on disk.
    pub fn bytes(&self) -> usize {
        self.writer.bytes_written() + self.writer.in_progress_size()
    }

    /// Where it is written.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Writes the footer and makes the content durable. The name is not durable yet.
    pub fn finish(mut self, identity: &Identity, commit: u64) -> Result<FileEntry, SinkError> {
        for (key, value) in self.footer(identity, commit) {
            self.writer.append_key_value_metadata(KeyValue::new(key.to_owned(), value));
        }
        let finished = self.writer.finish();
        finished.map_err(|error| self.failed(&error))?;
        crash::point("sink.file.written");
        let summed = self.writer.inner_mut();
        summed.file.sync().map_err(SinkError::disk(&self.path))?;
        Ok(FileEntry {
            folder: self.folder,
            part: self.part,
            content: self.content,
            length: summed.length,
            crc32c: summed.crc32c,
            rows: self.rows,
            ranges: self.ranges,
        })
    }

    fn footer(&self, identity: &Identity, commit: u64) -> [(&'static str, String); 5] {
        [
            ("isolane.stream", identity.stream.to_string()),
            ("isolane.incarnation", identity.incarnation.to_string()),
            ("isolane.leg", identity.leg.clone()),
            ("isolane.commit", commit.to_string()),
            (RANGES_KEY, ranges_json(&self.ranges)),
        ]
    }

    /// The disk's own error if there was one: Parquet's hides its kind, and a full disk is to be known as such.
    fn failed(&mut self, error: &parquet::errors::ParquetError) -> SinkError {
        match self.writer.inner_mut().failure.take() {
            Some(cause) => SinkError::Disk { path: self.path.clone(), cause },
            None => parquet(&self.path, error),
        }
    }
}

/// Ranges as they stand in a footer.
pub fn ranges_json(ranges: &FileRanges) -> String {
    serde_json::to_string(ranges).expect("a map with text keys and numbers is JSON")
}

fn properties() -> WriterProperties {
    let level = ZstdLevel::try_new(ZSTD_LEVEL).expect("level 1 is within zstd's bounds");
    WriterProperties::builder()
        .set_created_by("isolane".to_owned())
        .set_compression(Compression::ZSTD(level))
        .set_dictionary_enabled(true)
        .set_max_row_group_bytes(Some(ROW_GROUP_BYTES_MAX))
        .build()
}

fn parquet(path: &Path, error: &parquet::errors::ParquetError) -> SinkError {
    SinkError::Parquet { path: path.to_owned(), cause: error.to_string() }
}

/// Appends to a file and sums what it appends.
struct Summed {
    file: Box<dyn DiskFile>,
    length: u64,
    crc32c: u32,
    failure: Option<io::Error>,
}

impl Write for Summed {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        if let Err(error) = self.file.append(bytes) {
            let kind = error.kind();
            self.failure = Some(error);
            return Err(kind.into());
        }
        self.length += bytes.len() as u64;
        self.crc32c = crc32c::crc32c_append(self.crc32c, bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
