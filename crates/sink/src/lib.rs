//! Sinks: where a leg's records end, together with the leg's own state.
//!
//! A record through this crate: a leg hands it over as a row of [`Rows`] (or, if it could not be converted, as a
//! [`SetApart`]); the sink writes it where no reader looks yet; [`Sink::commit`] makes rows, positions and the ranges
//! taken durable in one atomic step, then shows the rows. After a crash [`Sink::recover`] finishes or forgets what was
//! under way and answers with the state from which the leg reads on.
//!
//! The sink decides where a leg's state lives, because only it can make the state atomic with the data. [`files`] keeps
//! it in a manifest beside the Parquet files, and [`files::verify`] proves a folder from that manifest; `kafka` keeps it in
//! a compacted topic, in the transaction that shows the rows.

pub mod seam;
pub mod state;
pub mod error;
pub mod metrics;
pub mod files;
#[cfg(feature = "kafka")]
pub mod kafka;
#[cfg(test)]
mod fuzz;

pub use error::SinkError;
pub use files::{FilesSink, Identity};
#[cfg(feature = "kafka")]
pub use kafka::KafkaSink;
pub use seam::{Apart, ApartEnd, Origin, Rows, SetApart, Sink};
pub use state::{ApartPosition, Commit, LegState, Replay, Seen, SourceState};
