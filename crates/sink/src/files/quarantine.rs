//! Records set apart, as Parquet: `il` STRING (the header: where it came from), `cause` STRING, `append_time`
//! TIMESTAMP, `body` BINARY (the record's own bytes, so that it can be replayed).

use std::sync::{Arc, LazyLock};

use arrow_array::{ArrayRef, BinaryArray, RecordBatch, StringArray, TimestampMillisecondArray};
use arrow_schema::{DataType, Field, Schema, SchemaRef, TimeUnit};

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
