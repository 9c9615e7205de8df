//! Jobs on Apache Flink: the other engine beside the embedded one, for where one machine is not enough. What it is given is
//! a text in Flink SQL ([`job`]); what it keeps is that exactly one copy of it runs, begins where the last one ended, and
//! never at an older place.
//!
//! The way of a job: [`host`] looks at it, in the order that [`lifecycle`] asks for: its session in the SQL Gateway
//! ([`gateway`]), its checkpoints ([`retained`]), its cluster ([`cluster`]), both over [`rest`]; [`lifecycle`] decides; the
//! decision is made durable and then acted on, by [`statements`] or by a call to the cluster.

pub mod job;
pub mod lifecycle;
pub mod retained;
pub mod rest;
pub mod gateway;
pub mod cluster;
mod lag;
pub mod statements;
pub mod host;
#[cfg(test)]
mod fake;

pub use cluster::Cluster;
pub use gateway::Gateway;
pub use host::{Settings, Standing, WantedJobs, remembered, serve};
pub use job::{JobKey, Text};
pub use lifecycle::Wanted;
pub use rest::{Address, Rest};
pub use retained::Places;
