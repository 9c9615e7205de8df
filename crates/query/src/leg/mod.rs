//! A leg: one INSERT of a job, with its own reader, range sets, checkpoint and commit.
//!
//! Modules in the order in which they meet a record: [`read`] ▸ [`dedup`] ▸ [`convert`] ([`fit`]) ▸ [`run`] ▸ [`report`]; [`tap`] is for
//! people who look on. Before the first of them [`begin`] may take over from another engine, by its [`hand_over`] object.

pub mod hand_over;
pub mod begin;
pub mod read;
pub mod dedup;
pub mod convert;
pub mod fit;
pub mod run;
pub mod report;
pub mod tap;
#[cfg(test)]
mod vectors;

use std::path::PathBuf;
use std::time::Duration;

use journal::Topic;
use stream::config::KafkaTarget;
use stream::facts::Place;
use stream::{Incarnation, StreamId};

/// Which leg.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct LegKey {
    /// The stream.
    pub stream: StreamId,
    /// The stream's life.
    pub incarnation: Incarnation,
    /// The sink's name in the job.
    pub sink: String,
}

/// Where a leg writes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Destination {
    /// Files below a folder.
    Files(PathBuf),
    /// A Kafka topic.
    Kafka(KafkaTarget),
}

/// What a leg is to do. If it changes, the leg commits and starts anew at its committed position.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LegSpec {
    /// The topic.
    pub topic: Topic,
    /// Everywhere that its records may lie.
    pub places: Vec<Place>,
    /// The job's text.
    pub sql: String,
    /// The names of all sinks of the job.
    pub sinks: Vec<String>,
    /// Where the leg writes.
    pub destination: Destination,
    /// How often it commits.
    pub checkpoint: Duration,
    /// When it was last ordered to take its quarantine again, in ms since 1970; 0: never.
    pub replay_ms: u64,
    /// The hand-over object from which it begins if it has never committed.
    pub begin_from: Option<PathBuf>,
}
