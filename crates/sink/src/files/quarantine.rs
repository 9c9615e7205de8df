//! Records set apart, as Parquet and back: `il` STRING (the header: where it came from), `cause` STRING, `append_time`
//! TIMESTAMP, `body` BINARY (the record's own bytes, so that it can be replayed).

use std::sync::{Arc, LazyLock};

use arrow_array::cast::AsArray;
use arrow_array::types::TimestampMillisecondType;
use arrow_array::{ArrayRef, BinaryArray, RecordBatch, StringArray, TimestampMillisecondArray};
use arrow_schema::{DataType, Field, Schema, SchemaRef, TimeUnit};
use bytes::Bytes;
use stream::provenance::HeaderError;

use crate::seam::SetApart;

static SCHEMA: LazyLock<SchemaRef> = LazyLock::new(|| {
    let time = DataType::Timestamp(TimeUnit::Millisecond, Some("UTC".into()));
    Arc::new(Schema::new(vec![
        Field::new("il", DataType::Utf8, false),
        Field::new("cause", DataType::Utf8, false),
        Field::new("append_time", time, false),
        Field::new("body", DataType::Binary, false),
    ]))
});

/// The columns.
pub fn schema() -> SchemaRef {
    SCHEMA.clone()
}

/// The records that rows are; the error says what is wrong with them.
pub fn records(rows: &RecordBatch) -> Result<Vec<SetApart>, String> {
    let column = |name: &str| rows.column_by_name(name).ok_or_else(|| format!("there is no column {name}"));
    let (headers, causes) = (column("il")?.as_string_opt::<i32>(), column("cause")?.as_string_opt::<i32>());
    let times = column("append_time")?.as_primitive_opt::<TimestampMillisecondType>();
    let bodies = column("body")?.as_binary_opt::<i32>();
    let (Some(headers), Some(causes), Some(times), Some(bodies)) = (headers, causes, times, bodies) else {
        return Err("its columns are of other types than the quarantine's".to_owned());
    };
    let record = |row: usize| {
        let header = headers.value(row).parse().map_err(|error: HeaderError| error.to_string())?;
        let (cause, body) = (causes.value(row).to_owned(), Bytes::copy_from_slice(bodies.value(row)));
        Ok(SetApart { header, cause, append_time_ms: times.value(row), body })
    };
    (0..rows.num_rows()).map(record).collect()
}

/// The records as rows.
pub fn batch(records: &[SetApart]) -> RecordBatch {
    let times = records.iter().map(|record| record.append_time_ms);
    let columns: Vec<ArrayRef> = vec![
        Arc::new(StringArray::from_iter_values(records.iter().map(|record| record.header.to_string()))),
        Arc::new(StringArray::from_iter_values(records.iter().map(|record| &record.cause))),
        Arc::new(TimestampMillisecondArray::from_iter_values(times).with_timezone("UTC")),
        Arc::new(BinaryArray::from_iter_values(records.iter().map(|record| &record.body))),
    ];
    RecordBatch::try_new(schema(), columns).expect("the columns are built after the schema, one value a record")
}
