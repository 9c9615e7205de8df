//! The limit of a job: Arrow's own JSON reader, a filter and a projection, and a Parquet file as the files sink writes
//! them (zstd 1, row groups of 16 MiB, synced).

use std::fs::File;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use arrow_array::cast::AsArray;
use arrow_array::types::Int32Type;
use arrow_array::{BooleanArray, RecordBatch};
use arrow_json::ReaderBuilder;
use arrow_json::reader::Decoder;
use arrow_schema::{DataType, Field, Schema};
use arrow_select::filter::filter_record_batch;
use bytes::Bytes;
use parquet::arrow::ArrowWriter;
use parquet::basic::{Compression, ZstdLevel};
use parquet::file::properties::WriterProperties;

use crate::measure::{Laps, Sample};

/// Rows of one decoded batch: more than a chunk has.
const BATCH_ROWS_MAX: usize = 16 * 1024;
/// As the files sink has it.
const ROW_GROUP_BYTES_MAX: usize = 16 << 20;

/// Decodes, transforms and writes `chunks` of `records` lines in all to `path`.
pub fn run(chunks: impl Iterator<Item = Bytes>, records: u64, path: &Path) -> Result<Sample> {
    let began = Instant::now();
    let mut decoder = decoder()?;
    let [mut decode, mut transform, mut write] = [Duration::ZERO; 3];
    let mut laps = Laps::start()?;
    let mut writer: Option<ArrowWriter<File>> = None;
    let mut bytes = 0;
    for chunk in chunks {
        bytes += chunk.len() as u64;
        let taken = decoder.decode(&chunk)?;
        ensure!(taken == chunk.len(), "the decoder took {taken} of {} bytes", chunk.len());
        let rows = decoder.flush()?.context("the decoder found no row")?;
        laps.add_to(&mut decode)?;
        let rows = select(&rows)?;
        laps.add_to(&mut transform)?;
        if writer.is_none() {
            writer = Some(ArrowWriter::try_new(File::create_new(path)?, rows.schema(), Some(properties()?))?);
        }
        writer.as_mut().context("no writer")?.write(&rows)?;
        laps.add_to(&mut write)?;
    }
    writer.context("nothing to write")?.into_inner()?.sync_data()?;
    laps.add_to(&mut write)?;
    let parts = vec![("decode", decode), ("transform", transform), ("write", write)];
    Ok(Sample { records, bytes, wall: began.elapsed(), cpu: decode + transform + write, parts })
}

fn decoder() -> Result<Decoder> {
    let field = |name, kind| Field::new(name, kind, true);
    let schema = Schema::new(vec![
        field("lane", DataType::Int32),
        field("number", DataType::Int64),
        field("made_ms", DataType::Int64),
        field("text", DataType::Utf8),
    ]);
    Ok(ReaderBuilder::new(Arc::new(schema)).with_batch_size(BATCH_ROWS_MAX).build_decoder()?)
}

/// `SELECT number, made_ms, text WHERE lane <> 3`.
fn select(rows: &RecordBatch) -> Result<RecordBatch> {
    let lane = rows.column(0).as_primitive::<Int32Type>();
    let keep = BooleanArray::from_unary(lane, |lane| lane != 3);
    Ok(filter_record_batch(&rows.project(&[1, 2, 3])?, &keep)?)
}

fn properties() -> Result<WriterProperties> {
    Ok(WriterProperties::builder()
        .set_compression(Compression::ZSTD(ZstdLevel::try_new(1)?))
        .set_max_row_group_bytes(Some(ROW_GROUP_BYTES_MAX))
        .build())
}
