//! The verbs for people: thin callers of the admin API, the gateway and the rooms' own checks.

pub mod stream;
pub mod status;
pub mod send;
pub mod sql;
pub mod ledger;
pub mod table;
