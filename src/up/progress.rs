//! What a person sees while `up` runs: one line that is written over on a terminal, plain lines when piped.

use std::io::{self, IsTerminal, Write};
use std::time::Duration;

use stream::control::AdminClient;
use tokio::time::interval;

/// How often a terminal's line is written over.
const TERMINAL_EVERY: u64 = 1;
/// How often a line is written into a pipe, if anything moved.
const PIPE_EVERY: u64 = 10;

/// Shows progress until dropped.
pub async fn show(admin: &AdminClient) {
    let terminal = io::stdout().is_terminal();
    let every = if terminal { TERMINAL_EVERY } else { PIPE_EVERY };
    let mut ticks = interval(Duration::from_secs(every));
    let mut shown = String::new();
    loop {
        ticks.tick().await;
        let line = match admin.get::<admin::status::Status>("/api/v1/status").await {
            Ok(status) => line(&status),
            Err(error) => error.to_string(),
        };
        if terminal {
            print!("\r\x1b[2K{line}");
            drop(io::stdout().flush());
        } else if line != shown {
            println!("{line}");
        }
        shown = line;
    }
}

fn line(status: &admin::status::Status) -> String {
    let sum = |of: fn(&admin::status::StreamStatus) -> u64| status.streams.iter().map(of).sum::<u64>();
    let rate: f64 = status.streams.iter().map(|stream| stream.received_records_per_s).sum();
    let delay = status.streams.iter().filter_map(|stream| stream.delay_ms_p99).max();
    let delay = delay.map_or_else(|| "-".to_owned(), |ms| format!("{ms} ms"));
    let missing = sum(|stream| stream.missing.unwrap_or(0));
    let mut line = format!(
        "{} streams  {rate:.0} records/s  received {}  delivered {}  quarantined {}  delay p99 {delay}",
        status.streams.len(),
        sum(|stream| stream.received_records),
        sum(|stream| stream.fates.delivered),
        sum(|stream| stream.fates.in_quarantine()),
    );
    if missing > 0 {
        line.push_str(&format!("  MISSING {missing} bytes: see `isolane ledger`"));
    }
    line
}
