//! Waiting for a condition: polled, with a deadline, never a bare sleep.

use std::time::{Duration, Instant};

use anyhow::{Result, bail};

/// How often a condition is looked at.
const STEP: Duration = Duration::from_millis(50);

/// Polls until `look` gives a value; after `within` fails with `what` and the last thing seen.
pub fn until<T>(what: &str, within: Duration, mut look: impl FnMut() -> Result<Option<T>>) -> Result<T> {
    let deadline = Instant::now() + within;
    let mut last = String::from("nothing yet");
    loop {
        match look() {
            Ok(Some(value)) => return Ok(value),
            Ok(None) => {}
            Err(error) => last = format!("{error:#}"),
        }
        if Instant::now() >= deadline {
            bail!("{what}: not within {} s; last: {last}", within.as_secs());
        }
        std::thread::sleep(STEP);
    }
}
