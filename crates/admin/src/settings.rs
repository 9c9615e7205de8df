//! What admin is started with.

use std::path::PathBuf;
use std::sync::Arc;

use stream::clock::Clock;
use stream::config::StreamSpec;

/// Checks a stream's job text (and whether it fits the stream's format and sinks) before it takes effect; the error is
/// shown to the user, and so are the warnings about one that is taken. Passed in, because only `query` knows SQL. May take long and may panic: it runs on a thread of
/// its own.
pub type SqlCheck = Arc<dyn Fn(&StreamSpec) -> Result<Vec<String>, String> + Send + Sync>;

/// What admin is started with.
#[derive(Clone)]
pub struct AdminSettings {
    /// The directory of the metadata database; made if it is not there. One admin at a time uses it.
    pub dir: PathBuf,
    /// Which journal, as text (see `journal::address`): asked for the ends of topics, and told of the streams so that
    /// their topics are there. Without it nothing is ever called missing: what is acknowledged and not taken counts as in flight.
    pub journal_addr: Option<String>,
    /// Checks a job's SQL.
    pub sql_check: SqlCheck,
    /// The wall clock.
    pub clock: Arc<dyn Clock>,
}
