//! Reads a Kafka topic with a foreign client, kcat, as a careful reader does: only what is committed.

use std::process::{Command, Stdio};

use anyhow::{Context, Result, ensure};

/// The values of all committed records of `topic`, a line each. None if there is no such topic yet.
pub fn committed_lines(bootstrap: &str, topic: &str) -> Result<Vec<String>> {
    let mut kcat = Command::new("kcat");
    kcat.args(["-C", "-q", "-e", "-o", "beginning", "-X", "isolation.level=read_committed"]);
    // A broker that is not there yet is asked again; one that the harness has killed is not waited for.
    kcat.args(["-X", "topic.metadata.refresh.interval.ms=1000", "-b", bootstrap, "-t", topic]);
    let output = kcat.stdin(Stdio::null()).output().context("kcat (apt-get install -y kcat)")?;
    ensure!(output.status.success(), "kcat on {topic}: {}", String::from_utf8_lossy(&output.stderr).trim());
    Ok(String::from_utf8_lossy(&output.stdout).lines().map(str::to_owned).collect())
}
