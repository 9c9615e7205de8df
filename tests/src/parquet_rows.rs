//! Reads what a files sink has published with a foreign Parquet reader: every `*.parquet`, or `part-*` of Flink's, whose
//! path has no part that starts with `_` or `.`, as any reader of such a folder does.

use std::fs::{self, File};
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use arrow_array::{Array, BinaryArray, Int32Array, RecordBatch, StringArray};
use parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder;

/// The published files under `dir`, sorted. None if the directory is not there yet.
pub fn published(dir: &Path) -> Result<Vec<PathBuf>> {
    let mut files = Vec::new();
    if dir.is_dir() {
        gather(dir, &mut files)?;
    }
    files.sort();
    Ok(files)
}

fn gather(dir: &Path, files: &mut Vec<PathBuf>) -> Result<()> {
    for entry in fs::read_dir(dir)? {
        let path = entry?.path();
        let name = path.file_name().and_then(|name| name.to_str()).unwrap_or_default();
        if name.starts_with(['_', '.']) {
            continue;
        }
        if path.is_dir() {
            gather(&path, files)?;
        } else if name.ends_with(".parquet") || name.starts_with("part-") {
            // Flink's have no ending.
            files.push(path);
        }
    }
    Ok(())
}

/// Calls `row` with the text in `column` of every row in `file`.
pub fn each_text(file: &Path, column: &str, mut row: impl FnMut(&str)) -> Result<()> {
    for batch in batches(file)? {
        let batch = batch.with_context(|| format!("reading {}", file.display()))?;
        let texts = batch.column_by_name(column).and_then(|column| column.as_any().downcast_ref::<StringArray>());
        let texts = texts.with_context(|| format!("{}: no text column {column:?}", file.display()))?;
        texts.iter().for_each(|text| row(text.unwrap_or("NULL")));
    }
    Ok(())
}

/// Calls `row` with the number in the INT column `column` of every row in `file` that has one.
pub fn each_int(file: &Path, column: &str, mut row: impl FnMut(i32)) -> Result<()> {
    for batch in batches(file)? {
        let batch = batch.with_context(|| format!("reading {}", file.display()))?;
        let numbers = batch.column_by_name(column).and_then(|column| column.as_any().downcast_ref::<Int32Array>());
        let numbers = numbers.with_context(|| format!("{}: no INT column {column:?}", file.display()))?;
        numbers.iter().flatten().for_each(&mut row);
    }
    Ok(())
}

/// Calls `row` with the bytes in `column` of every row in `file`.
pub fn each_bytes(file: &Path, column: &str, mut row: impl FnMut(&[u8])) -> Result<()> {
    for batch in batches(file)? {
        let batch = batch.with_context(|| format!("reading {}", file.display()))?;
        let bytes = batch.column_by_name(column).and_then(|column| column.as_any().downcast_ref::<BinaryArray>());
        let bytes = bytes.with_context(|| format!("{}: no bytes column {column:?}", file.display()))?;
        bytes.iter().flatten().for_each(&mut row);
    }
    Ok(())
}

/// Rows in all published files under `dir`.
pub fn rows(dir: &Path) -> Result<u64> {
    let mut rows = 0;
    for file in published(dir)? {
        for batch in batches(&file)? {
            rows += batch?.num_rows() as u64;
        }
    }
    Ok(rows)
}

fn batches(file: &Path) -> Result<impl Iterator<Item = Result<RecordBatch, arrow_schema::ArrowError>>> {
    let open = || -> Result<_> { Ok(ParquetRecordBatchReaderBuilder::try_new(File::open(file)?)?.build()?) };
    open().with_context(|| format!("opening {}", file.display()))
}
