//! The verbs for people: thin callers of the admin API, the gateway and the rooms' own checks.

pub mod stream;
pub mod token;
pub mod gateways;
pub mod status;
pub mod send;
pub mod sql;
pub mod ledger;
pub mod quarantine;
pub mod hand_over;
pub mod tap;
#[cfg(feature = "kafka")]
pub mod transactions;
pub mod table;

use std::io::{ErrorKind, Write};
use std::path::{Path, PathBuf};

use ::stream::config::StreamConfig;
use anyhow::Result;
use chrono::DateTime;

/// Characters of a record's text that a line shows.
const EXCERPT_CHARS: usize = 160;

/// Where a leg's files lie: where its sink says, or where `up` puts them.
fn folder_of(config: &StreamConfig, leg: &str, path: Option<&Path>, data_dir: &Path) -> PathBuf {
    path.map_or_else(|| data_dir.join("out").join(config.spec.id.as_str()).join(leg), Path::to_owned)
}

/// Writes a line. Whoever reads no more (`| head`) ends the verb, quietly.
fn say(line: &str) -> Result<()> {
    match writeln!(std::io::stdout(), "{line}") {
        Err(error) if error.kind() == ErrorKind::BrokenPipe => std::process::exit(0),
        written => Ok(written?),
    }
}

/// A moment for people, in UTC.
fn time(ms: i64) -> String {
    let time = DateTime::from_timestamp_millis(ms).map(|time| time.format("%Y-%m-%d %H:%M:%S%.3f").to_string());
    time.unwrap_or_else(|| format!("{ms} ms"))
}

/// The beginning of a record's text, on one line and without what a terminal would obey.
fn excerpt(text: &str) -> String {
    let mut shown: String = text.chars().take(EXCERPT_CHARS).collect();
    if shown.len() < text.len() {
        shown.push('…');
    }
    shown.chars().map(|c| if c.is_control() { '·' } else { c }).collect()
}
