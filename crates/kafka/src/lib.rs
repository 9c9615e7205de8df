//! A Kafka client for what isolane needs and nothing else: many partitions on few connections, no retry that its caller
//! has not asked for, no byte outstanding without a bound, and a fate for every record handed over.
//!
//! The path of a record: [`produce`] gathers what is due for each broker into one request, [`batch`] lays it out,
//! [`connection`] carries it, [`cluster`] knows where it goes. [`fetch`] brings it back. [`transaction`] makes several
//! partitions one commit, [`open`] shows and ends those left open. [`topics`] makes topics and [`offsets`] says where they
//! begin and end.
//!
//! Decision 0001 measured why the producer is our own, 0007 why the rest is; messages and their encoding are the crate
//! `kafka-protocol`'s.

pub mod error;
pub mod batch;
pub mod unpack;
pub mod call;
pub mod connection;
pub mod cluster;
pub mod pulse;
pub mod produce;
pub mod fetch;
pub mod offsets;
pub mod topics;
pub mod transaction;
pub mod open;
#[cfg(test)]
mod fuzz;

pub use cluster::{Cluster, TopicId, log_of};
pub use error::KafkaError;
