//! What a user wants of its stream: the one configuration that admin keeps and every role watches.

mod engine;
mod sink;

use std::collections::BTreeMap;
use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use crate::id::{Incarnation, StreamId, TopicName};
use crate::limits;
use crate::policy::GatewayPolicy;
use crate::token::{Rate, Token, TokenName};
pub use engine::{Engine, Legs};
use sink::is_topic;
pub use sink::{KafkaFormat, KafkaTarget, MARK, SinkKind, SinkSpec, SuccessFile};

/// A stream as its user writes it. The id names department, project and business.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct StreamSpec {
    /// `department.project.business`.
    pub id: StreamId,
    /// Who is served first when a producer is shared.
    #[serde(default)]
    pub priority: Level,
    /// How much depends on the stream; important ones get hosts and lanes of their own.
    #[serde(default)]
    pub importance: Level,
    /// What the data is worth to the business; kept for its owners and for retention decisions.
    #[serde(default)]
    pub value: Level,
    /// The stream's topic; no two streams share one. Default: the stream's id.
    #[serde(default)]
    pub topic: Option<TopicName>,
    /// Bytes a second that the stream brings when it is busiest, as its owner expects; 0: not said.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub throughput_bytes_per_second: u64,
    /// Partitions of the topic in each cluster of a Kafka journal. Default: what the throughput asks for, see
    /// [`StreamSpec::partitions`].
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub partitions: Option<u32>,
    /// Which records keep their order on the way.
    #[serde(default)]
    pub order: Order,
    /// What the key of a record is; said where `order` is `key`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub order_key: Option<OrderKey>,
    /// How records are packed on their way into a Kafka journal.
    #[serde(default, skip_serializing_if = "Compression::is_none")]
    pub compression: Compression,
    /// How the bytes of a record are read by the job.
    #[serde(default)]
    pub format: Format,
    /// What runs the job.
    #[serde(default, skip_serializing_if = "Engine::is_embedded")]
    pub engine: Engine,
    /// Whether its legs share a job where the engine is Flink.
    #[serde(default, skip_serializing_if = "Legs::are_together")]
    pub legs: Legs,
    /// Whether its jobs on Flink are to stand still, stopped with a savepoint; the journal takes records all the same.
    #[serde(default, skip_serializing_if = "is_false")]
    pub suspended: bool,
    /// Where records come from. HTTP and gRPC at the gateway are always open to a stream.
    #[serde(default)]
    pub inputs: Vec<Input>,
    /// Where the job delivers. Each `INSERT INTO` of the job names one.
    #[serde(default = "default_sinks")]
    pub sinks: Vec<SinkSpec>,
    /// The job in Flink SQL: source DDL and one or more `INSERT INTO ... SELECT`. Default: every record as it is.
    #[serde(default)]
    pub sql: Option<String>,
    /// The stream's limits.
    #[serde(default)]
    pub limits: StreamLimits,
}

/// Low, normal or high.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Level {
    /// Below the others.
    Low,
    /// As most.
    #[default]
    Normal,
    /// Above the others.
    High,
}

impl Level {
    /// Its share of a producer beside others: 1, 2 or 4.
    pub fn weight(self) -> u32 {
        match self {
            Level::Low => 1,
            Level::Normal => 2,
            Level::High => 4,
        }
    }
}

/// Which records keep their order from their source to the sink.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Order {
    /// None: whatever is fastest.
    #[default]
    None,
    /// Those of one source: it stays in one partition, one batch at a time is under way.
    Source,
    /// Those of one source with the same key: a key stays in one partition, one batch at a time is under way.
    Key,
}

impl Order {
    /// Whether one batch of the stream is under way at a time: a failed one is tried again before the next.
    pub fn is_one_at_a_time(self) -> bool {
        self != Order::None
    }
}

/// Where a record's key lies. A record without one goes where its source's records without a key go.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case", deny_unknown_fields)]
pub enum OrderKey {
    /// A field of the JSON object that the record is: a text, a number or a boolean.
    Json {
        /// Its name.
        field: String,
    },
    /// A column of a line.
    Column {
        /// Which one, from 1.
        number: u32,
        /// What stands between columns.
        by: String,
    },
}

/// How a batch of records is packed in Kafka; its readers unpack it by themselves.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Compression {
    /// As it is.
    #[default]
    None,
    /// LZ4: cheap.
    Lz4,
    /// Zstandard at its fastest: smaller.
    Zstd,
}

impl Compression {
    /// Whether nothing is packed.
    pub fn is_none(&self) -> bool {
        *self == Self::None
    }
}

/// How a record's bytes are read.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Format {
    /// One column: the bytes as text.
    #[default]
    Raw,
    /// A JSON object a record.
    Json,
}

/// Where an agent collects.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case", deny_unknown_fields)]
pub enum Input {
    /// Lines of growing files.
    File {
        /// Glob patterns of absolute paths.
        paths: Vec<String>,
    },
}

fn is_false(flag: &bool) -> bool {
    !flag
}

fn is_zero(number: &u64) -> bool {
    *number == 0
}

fn default_sinks() -> Vec<SinkSpec> {
    vec![SinkSpec::files("files")]
}

/// Limits of one stream.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct StreamLimits {
    /// Longest record.
    pub record_bytes_max: usize,
    /// Bytes queued in a gateway.
    pub queue_bytes_max: usize,
    /// How long the journal keeps records.
    pub retention_seconds: u64,
    /// How many bytes the journal keeps.
    pub retention_bytes: u64,
    /// Whether retention waits for live jobs. If not, what a job loses is counted and alarmed.
    pub retention_waits: bool,
    /// How often a leg commits.
    pub checkpoint_ms: u64,
    /// How much each gateway takes.
    #[serde(skip_serializing_if = "is_unlimited")]
    pub rate: Rate,
}

fn is_unlimited(rate: &Rate) -> bool {
    !rate.is_limited()
}

impl Default for StreamLimits {
    fn default() -> Self {
        Self {
            record_bytes_max: limits::RECORD_BYTES_MAX,
            queue_bytes_max: limits::QUEUE_BYTES_MAX,
            retention_seconds: limits::RETENTION.as_secs(),
            retention_bytes: limits::RETENTION_BYTES,
            retention_waits: true,
            checkpoint_ms: limits::CHECKPOINT.as_millis() as u64,
            rate: Rate::default(),
        }
    }
}

/// A stream as the roles see it: what the user wrote, checked, with the life and version that admin gave it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct StreamConfig {
    /// One life of the stream.
    pub incarnation: Incarnation,
    /// Counts the changes of this stream, from 1.
    pub version: u64,
    /// What the user wrote.
    pub spec: StreamSpec,
}

/// A stream as admin answers its creation or change: with what the check of its SQL says of it, though it took it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Checked {
    /// The stream.
    #[serde(flatten)]
    pub config: StreamConfig,
    /// What its owner should know.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub warnings: Vec<String>,
}

/// The table that a job without SQL reads, and its one column.
const DEFAULT_SQL_RAW: &str =
    "CREATE TABLE records (line STRING) WITH ('format' = 'raw');\nINSERT INTO {sink} SELECT line FROM records;\n";

impl StreamConfig {
    /// The topic's key in the journal: name and life, so that a stream created anew starts an empty topic.
    pub fn topic_key(&self) -> String {
        format!("{}@{}", self.topic(), self.incarnation)
    }

    /// The topic's name.
    pub fn topic(&self) -> TopicName {
        self.spec.topic.clone().unwrap_or_else(|| TopicName::from(&self.spec.id))
    }

    /// The job's text, the default written out.
    pub fn sql(&self) -> String {
        let each_line = |sink: &SinkSpec| DEFAULT_SQL_RAW.replace("{sink}", &sink.name);
        self.spec.sql.clone().unwrap_or_else(|| self.spec.sinks.first().map(each_line).unwrap_or_default())
    }
}

/// All streams and tokens at one version of the metadata: what a role watches and keeps as its last good copy.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Snapshot {
    /// Grows with every change of any stream or token.
    pub version: u64,
    /// The streams by id.
    pub streams: BTreeMap<StreamId, StreamConfig>,
    /// How gateways serve their queues.
    #[serde(default)]
    pub gateways: GatewayPolicy,
    /// The write tokens by name.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub tokens: BTreeMap<TokenName, Token>,
}

/// Why a spec was refused; each names the field and the mend.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SpecError {
    /// No sink.
    #[error("stream {0}: sinks is empty; name at least one")]
    NoSink(StreamId),
    /// A sink's name is no SQL identifier or stands twice.
    #[error("stream {0}: sink name {1:?} must be unique and of the form [a-z][a-z0-9_]*, 1 to 32 characters")]
    SinkName(StreamId, String),
    /// A path pattern is not absolute.
    #[error("stream {0}: input path {1:?} must be absolute")]
    Path(StreamId, String),
    /// A hand-over object's path is not absolute.
    #[error("stream {0}: begin_from {1:?} must be absolute")]
    BeginFrom(StreamId, PathBuf),
    /// Announced hours, where nobody announces them.
    #[error(
        "stream {0}: success_file of sink {1} needs engine = \"flink\": the embedded engine announces no hours yet"
    )]
    SuccessFile(StreamId, String),
    /// Files to be put together, where nobody does that.
    #[error(
        "stream {0}: compaction of sink {1} needs engine = \"flink\": the embedded engine writes one file an hour and commit"
    )]
    Compaction(StreamId, String),
    /// What stands still on Flink, where nothing is.
    #[error("stream {0}: suspended stops jobs on flink, and engine is embedded; say suspended = false")]
    Suspended(StreamId),
    /// One job has one beginning.
    #[error(
        "stream {0}: on flink one job writes to all sinks, so all of them begin from one hand-over object: name the same \
         begin_from at each, or none, or give each sink a job of its own with legs = \"separate\""
    )]
    Beginnings(StreamId),
    /// A limit outside its bounds.
    #[error("stream {0}: {1} must be between {2} and {3}")]
    Limit(StreamId, &'static str, u64, u64),
    /// A topic that Kafka would not take, or that is the journal's own.
    #[error(
        "stream {0}: the topic {1:?} of a Kafka sink must be 1 to 200 of a-z, A-Z, 0-9, '.', '_' and '-', and not isolane's own"
    )]
    SinkTopic(StreamId, String),
    /// `order` and `order_key` that do not belong together, or a key that no record can have.
    #[error("stream {0}: {1}")]
    Order(StreamId, &'static str),
    /// Text over its bound.
    #[error("stream {0}: sql is longer than {1} bytes")]
    SqlLength(StreamId, usize),
}

/// Longest job text.
pub const SQL_BYTES_MAX: usize = 64 * 1024;

impl StreamSpec {
    /// A spec with every default, for `id`.
    pub fn new(id: StreamId) -> Self {
        Self {
            id,
            priority: Level::default(),
            importance: Level::default(),
            value: Level::default(),
            topic: None,
            throughput_bytes_per_second: 0,
            partitions: None,
            order: Order::default(),
            order_key: None,
            compression: Compression::default(),
            format: Format::default(),
            engine: Engine::default(),
            legs: Legs::default(),
            suspended: false,
            inputs: Vec::new(),
            sinks: default_sinks(),
            sql: None,
            limits: StreamLimits::default(),
        }
    }

    /// Partitions of the topic in each cluster of a Kafka journal: as said, or one for each
    /// [`limits::PARTITION_BYTES_PER_SECOND`] of throughput. They can grow, not shrink; the embedded journal has one.
    pub fn partitions(&self) -> u32 {
        let asked_for = self.throughput_bytes_per_second.div_ceil(limits::PARTITION_BYTES_PER_SECOND);
        let by_throughput = u32::try_from(asked_for).unwrap_or(u32::MAX).clamp(1, limits::PARTITIONS_MAX);
        self.partitions.unwrap_or(by_throughput)
    }

    /// Checks all that can be checked without other streams or the SQL binder.
    pub fn check(&self) -> Result<(), SpecError> {
        self.check_sinks()?;
        self.check_inputs()?;
        self.check_order()?;
        self.check_limits()?;
        match &self.sql {
            Some(sql) if sql.len() > SQL_BYTES_MAX => Err(SpecError::SqlLength(self.id.clone(), SQL_BYTES_MAX)),
            _ => Ok(()),
        }
    }

    fn check_sinks(&self) -> Result<(), SpecError> {
        if self.suspended && self.engine.is_embedded() {
            return Err(SpecError::Suspended(self.id.clone()));
        }
        if self.sinks.is_empty() {
            return Err(SpecError::NoSink(self.id.clone()));
        }
        for (i, sink) in self.sinks.iter().enumerate() {
            let plain = sink.name.starts_with(|c: char| c.is_ascii_lowercase())
                && sink.name.len() <= 32
                && sink.name.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'_');
            if !plain || self.sinks[..i].iter().any(|other| other.name == sink.name) {
                return Err(SpecError::SinkName(self.id.clone(), sink.name.clone()));
            }
            if let SinkKind::Kafka(target) = &sink.kind
                && !is_topic(&target.topic)
            {
                return Err(SpecError::SinkTopic(self.id.clone(), target.topic.clone()));
            }
            if let Some(path) = sink.begin_from.as_ref().filter(|path| !path.is_absolute()) {
                return Err(SpecError::BeginFrom(self.id.clone(), path.clone()));
            }
            if let SinkKind::Files { success_file, compaction, .. } = &sink.kind
                && self.engine.is_embedded()
            {
                if success_file.is_some() {
                    return Err(SpecError::SuccessFile(self.id.clone(), sink.name.clone()));
                }
                if *compaction {
                    return Err(SpecError::Compaction(self.id.clone(), sink.name.clone()));
                }
            }
            let is_one_job = self.engine == Engine::Flink && self.legs.are_together();
            if is_one_job && sink.begin_from != self.sinks[0].begin_from {
                return Err(SpecError::Beginnings(self.id.clone()));
            }
        }
        Ok(())
    }

    fn check_inputs(&self) -> Result<(), SpecError> {
        let paths = self.inputs.iter().flat_map(|Input::File { paths }| paths);
        match paths.into_iter().find(|path| !path.starts_with('/')) {
            Some(path) => Err(SpecError::Path(self.id.clone(), path.clone())),
            None => Ok(()),
        }
    }

    fn check_order(&self) -> Result<(), SpecError> {
        let wrong = match (self.order, &self.order_key) {
            (Order::Key, None) => {
                r#"order "key" needs order_key: {kind = "json", field = "..."} or {kind = "column", number = 1, by = ","}"#
            }
            (Order::None | Order::Source, Some(_)) => r#"order_key is said, but order is not "key""#,
            (_, Some(OrderKey::Json { field })) if field.is_empty() => "order_key.field is empty",
            (_, Some(OrderKey::Column { number: 0, .. })) => "order_key.number counts from 1",
            (_, Some(OrderKey::Column { by, .. })) if by.is_empty() => "order_key.by is empty",
            _ => return Ok(()),
        };
        Err(SpecError::Order(self.id.clone(), wrong))
    }

    fn check_limits(&self) -> Result<(), SpecError> {
        let own = &self.limits;
        let bounds: [(&'static str, u64, u64, u64); 6] = [
            ("partitions", self.partitions().into(), 1, limits::PARTITIONS_MAX.into()),
            ("limits.record_bytes_max", own.record_bytes_max as u64, 1, limits::RECORD_BYTES_MAX as u64),
            (
                "limits.queue_bytes_max",
                own.queue_bytes_max as u64,
                limits::BATCH_BYTES_MAX as u64,
                limits::GATEWAY_BYTES_MAX as u64,
            ),
            ("limits.retention_seconds", own.retention_seconds, 1, 366 * 24 * 3600),
            ("limits.retention_bytes", own.retention_bytes, 1 << 20, 1 << 50),
            ("limits.checkpoint_ms", own.checkpoint_ms, 100, 3_600_000),
        ];
        match bounds.iter().find(|(_, value, min, max)| value < min || value > max) {
            Some((name, _, min, max)) => Err(SpecError::Limit(self.id.clone(), name, *min, *max)),
            None => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn spec(text: &str) -> Result<StreamSpec, serde_json::Error> {
        serde_json::from_str(text)
    }

    #[test]
    fn the_smallest_spec_gets_every_default() {
        let spec = spec(r#"{"id": "a.b.c"}"#).unwrap();
        assert_eq!(spec, StreamSpec::new("a.b.c".parse().unwrap()));
        assert_eq!(spec.check(), Ok(()));
        let config = StreamConfig { incarnation: Incarnation(1), version: 1, spec };
        assert_eq!(config.topic_key(), "a.b.c@0000000000000001");
        assert!(config.sql().contains("INSERT INTO files SELECT line"));
        let text = serde_json::to_string(&config).unwrap();
        assert_eq!(serde_json::from_str::<StreamConfig>(&text).unwrap(), config);
    }

    #[test]
    fn partitions_are_as_said_or_by_throughput() {
        let of = |text: &str| spec(text).unwrap().partitions();
        assert_eq!(of(r#"{"id": "a.b.c"}"#), 1);
        assert_eq!(of(r#"{"id": "a.b.c", "throughput_bytes_per_second": 40000000}"#), 5);
        assert_eq!(of(r#"{"id": "a.b.c", "throughput_bytes_per_second": 40000000, "partitions": 2}"#), 2);
        assert_eq!(
            of(&format!(r#"{{"id": "a.b.c", "throughput_bytes_per_second": {}}}"#, u64::MAX)),
            limits::PARTITIONS_MAX
        );
    }

    #[test]
    fn what_a_spec_may_not_say_is_refused() {
        for text in [r#"{"id": "a.b"}"#, r#"{"id": "a.b.c", "colour": 1}"#, r#"{"id": "a.b.c", "topic": "a/b"}"#] {
            assert!(spec(text).is_err(), "{text} was taken");
        }
        for text in [
            r#"{"id": "a.b.c", "sinks": []}"#,
            r#"{"id": "a.b.c", "sinks": [{"name": "x y", "kind": "files"}]}"#,
            r#"{"id": "a.b.c", "inputs": [{"kind": "file", "paths": ["relative/*"]}]}"#,
            r#"{"id": "a.b.c", "limits": {"checkpoint_ms": 1}}"#,
            r#"{"id": "a.b.c", "partitions": 0}"#,
            r#"{"id": "a.b.c", "order": "key"}"#,
            r#"{"id": "a.b.c", "order_key": {"kind": "json", "field": "user"}}"#,
            r#"{"id": "a.b.c", "order": "key", "order_key": {"kind": "column", "number": 0, "by": ","}}"#,
            r#"{"id": "a.b.c", "order": "key", "order_key": {"kind": "column", "number": 1, "by": ""}}"#,
            r#"{"id": "a.b.c", "sinks": [{"name": "k", "kind": "kafka", "brokers": "a:1", "topic": "a/b"}]}"#,
            r#"{"id": "a.b.c", "sinks": [{"name": "k", "kind": "kafka", "brokers": "a:1", "topic": "isolane.legs"}]}"#,
            r#"{"id": "a.b.c", "sinks": [{"name": "files", "kind": "files", "begin_from": "object.json"}]}"#,
            r#"{"id": "a.b.c", "suspended": true}"#,
            r#"{"id": "a.b.c", "sinks": [{"name": "files", "kind": "files", "success_file": "process_time"}]}"#,
            r#"{"id": "a.b.c", "sinks": [{"name": "files", "kind": "files", "compaction": true}]}"#,
            r#"{"id": "a.b.c", "engine": "flink", "sinks": [{"name": "a", "kind": "files"}, {"name": "b", "kind": "files", "begin_from": "/o"}]}"#,
        ] {
            assert!(spec(text).unwrap().check().is_err(), "{text} was taken");
        }
        let apart = r#"{"id": "a.b.c", "engine": "flink", "legs": "separate", "sinks": [{"name": "a", "kind": "files"}, {"name": "b", "kind": "files", "begin_from": "/o"}]}"#;
        assert_eq!(spec(apart).unwrap().check(), Ok(()), "each leg begins where its own stood");
    }
}
