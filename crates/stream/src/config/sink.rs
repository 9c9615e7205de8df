//! Where a stream's job delivers: the sinks of its specification.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use super::Compression;

/// Where a leg delivers.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SinkSpec {
    /// The table name that the job inserts into.
    pub name: String,
    /// When it was last ordered to take its quarantine again, in ms since 1970; 0: never. `isolane quarantine replay`
    /// sets it.
    #[serde(default, skip_serializing_if = "super::is_zero")]
    pub replay_ms: u64,
    /// The hand-over object, a file where the leg runs, from which the leg begins if it has never committed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub begin_from: Option<PathBuf>,
    /// The destination.
    #[serde(flatten)]
    pub kind: SinkKind,
}

impl SinkSpec {
    /// One of files, with every default.
    pub fn files(name: &str) -> Self {
        Self { name: name.to_owned(), replay_ms: 0, begin_from: None, kind: SinkKind::FILES }
    }
}

/// The destinations.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub enum SinkKind {
    /// Parquet files, partitioned by event time (dt, hour).
    Files {
        /// The folder. Default: `out/<stream>/<sink>` under the data directory.
        #[serde(default)]
        path: Option<PathBuf>,
        /// When an hour's folder gets an empty file `_SUCCESS`, and again when more has come into it. Only where the job runs
        /// on Flink. Default: never.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        success_file: Option<SuccessFile>,
        /// Whether the files of a checkpoint, one for each writer and hour, are put together into one for each hour before they
        /// are seen. Only where the job runs on Flink; the folder must be this sink's alone.
        #[serde(default, skip_serializing_if = "std::ops::Not::not")]
        compaction: bool,
    },
    /// A Kafka topic, written in transactions; needs a build with `--features kafka`.
    Kafka(KafkaTarget),
}

impl SinkKind {
    /// Files with every default.
    pub const FILES: Self = Self::Files { path: None, success_file: None, compaction: false };
}

/// What the name of the empty file begins with that a job on Flink leaves in a folder in which its files are put together; the
/// job's key follows: the stream, `@`, its life.
pub const MARK: &str = ".isolane-";

/// When an hour of files is announced; Flink's own triggers.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum SuccessFile {
    /// When the watermark has passed its end. Of rows whose own time is older more may come all the same.
    PartitionTime,
    /// When its first file is an hour old, by the clock.
    ProcessTime,
}

/// A Kafka topic that a leg writes to.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct KafkaTarget {
    /// Some brokers of its cluster: `host:port[,host:port]...`.
    pub brokers: String,
    /// The topic; made if it is not there.
    pub topic: String,
    /// Partitions if it is made.
    #[serde(default = "one")]
    pub partitions: u32,
    /// The column whose text is the record's key; it is not part of the value then. Default: no key.
    #[serde(default)]
    pub key: Option<String>,
    /// Columns whose texts are headers of their names; they are not part of the value then. A NULL is no header.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub headers: Vec<String>,
    /// How a row becomes a value.
    #[serde(default)]
    pub format: KafkaFormat,
    /// How batches of rows are packed.
    #[serde(default, skip_serializing_if = "Compression::is_none")]
    pub compression: Compression,
}

/// How a row becomes a Kafka record's value.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum KafkaFormat {
    /// A JSON object with the columns.
    #[default]
    Json,
    /// The bytes of the one column.
    Raw,
}

/// Whether Kafka takes a topic of this name, and no role of ours keeps anything there.
pub(super) fn is_topic(topic: &str) -> bool {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'_' | b'-');
    (1..=200).contains(&topic.len())
        && topic.bytes().all(plain)
        && !topic.starts_with("isolane.")
        && topic != ".."
        && topic != "."
}

fn one() -> u32 {
    1
}
