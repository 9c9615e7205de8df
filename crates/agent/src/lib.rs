//! The agent: collects records where they arise and keeps them until the journal has them.
//!
//! A record through this crate: its bytes lie in a file that `collect` found and identified; `process` says where
//! the record ends; `send` brings it to the gateway in a batch and waits for the acknowledgement; only then `position`
//! moves past it. `work` is the loop that turns all of that, one process per stream, and `supervise` starts those
//! processes and holds their open files. What is refused for good goes to `quarantine`; `facts` tell admin what was
//! collected.

pub mod settings;
pub mod supervise;
pub mod work;
pub mod collect;
pub mod process;
pub mod send;
pub mod position;
pub mod quarantine;
pub mod facts;
pub mod lock;
pub mod metrics;
#[cfg(test)]
mod fake;
#[cfg(test)]
mod fuzz;

pub use send::connect::Gateway;
pub use settings::{AgentSettings, Pace, WorkerSettings};
pub use supervise::{SuperviseError, supervise};
pub use work::{EXIT_UNKNOWN_STREAM, WorkError, work};
