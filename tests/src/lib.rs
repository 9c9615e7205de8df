//! The harness: what offers load, breaks things and counts, for the tests of the whole way.
//!
//! It shares no code with isolane: records carry an identity in their own text, the oracle counts what comes out of the
//! Parquet files with a foreign reader, processes are found in `/proc` and ended by their id.

pub mod identity;
pub mod http;
pub mod poison;
pub mod raw;
pub mod observe;
pub mod load;
pub mod deployment;
pub mod roles;
pub mod gateway;
pub mod kafka;
pub mod killer;
pub mod tamper;
pub mod power;
pub mod proxy;
pub mod parquet_rows;
pub mod oracle;
pub mod poll;
pub mod real_data;
pub mod topic;
pub mod whole_jobs;
