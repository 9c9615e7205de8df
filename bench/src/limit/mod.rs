//! The limits: bare loops that do only what nobody can leave out, on the same bytes. They keep no provenance, remember
//! nothing, and would lose or double records at the first fault: what isolane costs beyond them is what it promises.

pub mod agent;
pub mod log;
pub mod door;
pub mod kafka;
pub mod query;
pub mod leg;
