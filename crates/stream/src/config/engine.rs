//! What runs a stream's job, and in how many jobs where that is Flink.

use std::fmt;

use serde::{Deserialize, Serialize};

/// What runs a stream's job.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Engine {
    /// The query roles: a leg per INSERT.
    #[default]
    Embedded,
    /// Apache Flink, through an engine role. Needs a Kafka journal.
    Flink,
}

impl Engine {
    /// Whether it is the embedded one.
    pub fn is_embedded(&self) -> bool {
        *self == Self::Embedded
    }
}

impl fmt::Display for Engine {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Embedded => "embedded",
            Self::Flink => "flink",
        })
    }
}

/// How many jobs a stream has on Flink. On the embedded engine legs are always apart.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Legs {
    /// One job for all INSERTs: a record is read and decoded once, and a sink that cannot commit holds up the others.
    #[default]
    Together,
    /// A job for each INSERT: sinks do not wait for each other, and each begins where its own leg stood.
    Separate,
}

impl Legs {
    /// Whether all share a job.
    pub fn are_together(&self) -> bool {
        *self == Self::Together
    }
}
