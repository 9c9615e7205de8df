//! What the roles state of a stream, for the ledger: facts of the collecting side, fates of the delivering side.
//! Both are merged by maximum or by replacement, so that saying something twice changes nothing.

use std::collections::BTreeMap;
use std::fmt;
use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use crate::fate::FateCounts;
use crate::id::{Incarnation, StreamId};
use crate::provenance::{Range, SourceId};
use crate::ranges::Ranges;

/// What a collector states of one source. Merged by maximum.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SourceFact {
    /// The stream it is read for.
    pub stream: StreamId,
    /// The stream's life.
    pub incarnation: Incarnation,
    /// The source.
    pub source: SourceId,
    /// Who reads it: an agent's id, or a gateway's.
    pub collector: String,
    /// What a person knows it by: a path, an idempotency key's first characters. Not part of its identity.
    pub name: String,
    /// Ordinals seen: the length of the file so far.
    pub seen: u64,
    /// Everything before it is acknowledged by the journal. Sources here are read in order.
    pub acknowledged: u64,
    /// Whether the source has ended at `seen`.
    pub finished: bool,
    /// Ranges set apart by the agent, with their cause: refused for good.
    #[serde(default)]
    pub set_apart: Vec<SetApart>,
    /// Cuts that a worker without state must make again.
    #[serde(default)]
    pub cuts: Vec<Cut>,
}

/// A range that the gateway refused for good.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SetApart {
    /// What was refused.
    pub range: Range,
    /// Why.
    pub cause: String,
}

/// A decision about record boundaries that depends on time or configuration, written before the first send.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Cut {
    /// The ordinal.
    pub at: u64,
    /// Why there.
    pub kind: CutKind,
    /// The configuration version from there on.
    pub config_version: u64,
}

/// Why a cut was made.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum CutKind {
    /// A new configuration starts here.
    Config,
    /// The file ended without a newline and will not go on.
    EndOfFile,
}

/// A place in the journal: clusters and partitions number from 0.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Place {
    /// 0: the normal cluster, 1: the failover cluster.
    pub cluster: u8,
    /// The partition of the stream's topic.
    pub partition: u32,
}

/// A leg's committed position in one partition.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Position {
    /// Where.
    pub place: Place,
    /// Everything before this offset has been read and committed.
    pub offset: u64,
    /// Which log it is: a topic that was deleted and made again under the same name is another. 0: not said.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub log: u64,
}

impl Position {
    /// A position in a place that has only ever one log.
    pub fn at(place: Place, offset: u64) -> Self {
        Self { place, offset, log: 0 }
    }
}

fn is_zero(log: &u64) -> bool {
    *log == 0
}

/// What a leg states after each commit. `taken` holds the sources changed since the last report that was answered, or
/// all of them when `whole` is set; each replaces what was known of it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct LegReport {
    /// The stream.
    pub stream: StreamId,
    /// The stream's life.
    pub incarnation: Incarnation,
    /// The sink's name.
    pub leg: String,
    /// Counts the leg's commits, from 1.
    pub commit: u64,
    /// Committed positions.
    pub positions: Vec<Position>,
    /// Fates since the leg's beginning.
    pub fates: FateCounts,
    /// Bytes of bodies delivered since the leg's beginning.
    pub delivered_bytes: u64,
    /// Time between append and commit of the records of this commit, in ms: median and 99th percentile.
    pub delay_ms_p50: u64,
    /// See `delay_ms_p50`.
    pub delay_ms_p99: u64,
    /// Whether `taken` names every source.
    pub whole: bool,
    /// What has been taken, per source.
    pub taken: BTreeMap<SourceId, Ranges>,
    /// Why the leg stands still, if it does.
    #[serde(default)]
    pub failure: Option<String>,
    /// The job on Flink that the leg is part of; none on the embedded engine.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub job: Option<FlinkJob>,
}

/// How a job on Flink stands.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct FlinkJob {
    /// The one leg that it runs, where each has a job of its own.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub leg: Option<String>,
    /// Where it stands.
    pub state: JobState,
    /// Its id in Flink, of the attempt that is under way or was last.
    pub attempt: Option<String>,
    /// The newest checkpoint of which it has said what was taken.
    pub checkpoint: Option<u64>,
    /// The hand-over object that says so; before the first the one that it began from.
    #[serde(default)]
    pub object: Option<PathBuf>,
    /// Records that it is behind the journal, while it runs and knows.
    #[serde(default)]
    pub lag_records: Option<u64>,
}

/// Where a job on Flink stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum JobState {
    /// Nothing of it was ever submitted.
    Fresh,
    /// It was, or is just being, submitted.
    Submitting,
    /// Flink has it.
    Running,
    /// It was asked to stop with a savepoint.
    Stopping,
    /// It may be there or turn up yet.
    Unsettled,
    /// It was there, and is not any more; what it did last may not be committed.
    Gone,
    /// It stopped with a savepoint, and all its sinks have committed.
    Idle,
}

impl fmt::Display for JobState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Fresh => "fresh",
            Self::Submitting => "submitting",
            Self::Running => "running",
            Self::Stopping => "stopping",
            Self::Unsettled => "unsettled",
            Self::Gone => "gone",
            Self::Idle => "idle",
        })
    }
}

impl FlinkJob {
    /// Whether nothing comes of it any more beyond what its object says, unless it is submitted again. One that stopped with a savepoint
    /// has left an object: if none is seen, it is not where it is looked for. Of one that has completed no checkpoint nothing is to be seen.
    pub fn is_settled(&self) -> bool {
        match self.state {
            JobState::Fresh => true,
            JobState::Idle => self.checkpoint.is_some(),
            JobState::Gone => self.checkpoint.is_none(),
            JobState::Submitting | JobState::Running | JobState::Stopping | JobState::Unsettled => false,
        }
    }
}

/// Admin's answer to reports.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ReportReply {
    /// Admin lost what it knew of this leg: the next report must be whole.
    pub send_whole: bool,
}

/// What a gateway or journal measures of a stream, for status and chart; replaced by each report.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct FlowReport {
    /// The stream.
    pub stream: StreamId,
    /// The stream's life.
    pub incarnation: Incarnation,
    /// Who measured.
    pub reporter: String,
    /// Records made durable since the reporter started.
    pub records: u64,
    /// Bytes of bodies made durable since the reporter started.
    pub bytes: u64,
    /// Batches refused since the reporter started, by reason.
    pub refusals: BTreeMap<String, u64>,
    /// Bytes queued now.
    pub queue_bytes: u64,
    /// The producers that the stream's queue is bound to in this slice.
    #[serde(default)]
    pub producers: Vec<usize>,
    /// The newest refusal.
    #[serde(default)]
    pub refused_last: Option<RefusedLast>,
}

/// Why a batch was refused.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RefusedLast {
    /// When, in ms since 1970.
    pub at_ms: i64,
    /// The refusal in the words that its sender heard.
    pub message: String,
}
