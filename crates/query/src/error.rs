//! Why a leg stopped.

use std::path::PathBuf;

use sink::SinkError;

use crate::leg::hand_over::HandOverError;
use crate::sql::SqlError;

/// Why a leg stopped. It is started again after a back-off, from its committed state.
#[derive(Debug, thiserror::Error)]
pub enum LegError {
    /// The stream's SQL cannot be run.
    #[error("the job's SQL is refused: {0}")]
    Sql(#[from] SqlError),
    /// The SQL does not write to this sink once.
    #[error("the job has {found} INSERT INTO {sink}; write exactly one")]
    Inserts {
        /// The sink's name.
        sink: String,
        /// INSERTs that name it.
        found: usize,
    },
    /// A Kafka sink, in a program without Kafka.
    #[error(
        "the sink is Kafka, and this isolane was built without it: build with `cargo build --release --features kafka`"
    )]
    WithoutKafka,
    /// What the leg is to begin from is not to be had.
    #[error("the leg does not begin: hand-over object {}: {cause}", .path.display())]
    HandOver {
        /// Where the object was looked for.
        path: PathBuf,
        /// What is wrong.
        cause: HandOverError,
    },
    /// The leg was handed over, and nothing says where it is to go on.
    #[error(
        "the leg was handed over by its commit {commit}: whoever took it delivers what comes; stop that one and name its \
         hand-over object in the sink's begin_from, or remove the leg"
    )]
    HandedOver {
        /// The leg's last commit.
        commit: u64,
    },
    /// The sink stopped.
    #[error(transparent)]
    Sink(#[from] SinkError),
    /// The leg panicked: a bug, which ends this leg's run only.
    #[error("the leg panicked: {0}")]
    Panicked(String),
    /// No thread could be started for the leg.
    #[error("no thread for the leg: {0}")]
    Thread(#[from] std::io::Error),
}
