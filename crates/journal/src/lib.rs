//! The journal: where acknowledged records are durable: the embedded log of one machine, or Kafka (feature `kafka`).
//! [`AnyJournal`] is whichever an [`address`] names. One process owns the embedded log; everybody else speaks to it
//! through [`JournalClient`].
//!
//! The path of a record: a gateway calls [`Journal::append`] on a [`client`], [`service`] checks the batch and hands it
//! to the log, [`embedded::commit`] queues it per topic, [`embedded::writer`] writes it to the shared write-ahead log
//! ([`embedded::wal`]), syncs, and answers. A leg's [`Journal::read`] finds it by [`embedded::index`] and
//! [`embedded::read`]. When a write-ahead segment is full, [`embedded::keeper`] copies it into a run sorted by topic
//! ([`embedded::run`]) and removes it; [`embedded::retention`] decides what goes. After a stop [`embedded::recover`]
//! finds everything again. [`dump`] reads the same files without any of this.

pub mod seam;
pub mod address;
pub mod any;
pub mod partitions;
mod order_key;
pub mod client;
pub mod serve;
pub mod service;
pub mod embedded;
pub mod dump;
#[cfg(feature = "kafka")]
pub mod kafka;
pub mod metrics;
#[cfg(test)]
mod tests;
#[cfg(test)]
mod fuzz;

pub use address::{Address, AddressError};
pub use any::AnyJournal;
pub use client::JournalClient;
pub use dump::{Dump, DumpError};
pub use embedded::{EmbeddedLog, LogSettings, OpenError, TopicSettings};
pub use seam::{Appended, Bounds, Capabilities, Chunk, Entry, Journal, KeptPosition, Reader, Topic};
pub use serve::{JournalSettings, ServeError, serve};
