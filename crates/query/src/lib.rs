//! A job: one Flink SQL text whose INSERTs (legs) turn the records of one topic into rows of sinks.
//!
//! The path of a record: [`leg::read`] takes it from the journal, [`leg::dedup`] drops it if the leg has taken it
//! before, [`leg::convert`] runs the leg's SELECT ([`sql`]) over it, so that it becomes a row, or is filtered, or is set
//! apart with its cause; [`leg::run`] hands rows to the sink and commits them together with positions, ranges and fates;
//! [`leg::report`] tells admin and the journal. [`host`] starts, stops and restarts legs as the configuration says, each
//! on a thread of its own, so that what one leg does holds up no other.

pub mod sql;
pub mod leg;
pub mod host;
pub mod error;
pub mod metrics;
#[cfg(test)]
mod fuzz;

pub use error::LegError;
pub use host::{QuerySettings, serve};
