//! The words that all rooms share: what a stream, a record, a batch, a provenance and a fate are, how they travel,
//! and the seams (clock, disk) behind which durable code is tested.
//!
//! A record through this crate: it is named by [`provenance`], travels in a [`batch`], is cut to size by [`limits`],
//! and ends in one [`fate`]. [`config`] says what the user wants of its stream, [`token`] who may send to it, [`facts`] what the roles state of it.
//! This crate depends on no room.

pub mod id;
pub mod provenance;
pub mod ranges;
pub mod batch;
pub mod fate;
pub mod config;
pub mod token;
pub mod policy;
pub mod facts;
pub mod limits;
pub mod wire;
pub mod control;
pub mod clock;
pub mod background;
pub mod memory;
pub mod disk;
pub mod frame;
pub mod retry;
pub mod crash;
#[cfg(test)]
mod fuzz;
#[cfg(test)]
mod vectors;

pub use batch::{Batch, BatchBuilder, Kind, Record, View};
pub use id::{Incarnation, StreamId, TopicName};
pub use provenance::{Header, Range, SourceId};
pub use ranges::Ranges;
