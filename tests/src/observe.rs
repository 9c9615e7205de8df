//! What a process of a deployment says of itself: its counters at `/metrics`, and its memory in `/proc`.

use std::fs;
use std::net::SocketAddr;

use anyhow::{Context, Result};

use crate::deployment::Deployment;
use crate::http::Client;
use crate::killer;

/// One role of a deployment.
#[derive(Clone, Copy, Debug)]
pub struct Role {
    /// Its process.
    pub pid: i32,
    ops: SocketAddr,
}

/// Bytes of memory that a process has in use.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Memory {
    /// Now (VmRSS).
    pub now: u64,
    /// At most so far (VmHWM).
    pub peak: u64,
}

impl Role {
    /// The role of this kind, one of [`killer::KINDS`].
    pub fn of(deployment: &Deployment, kind: &str) -> Result<Self> {
        let family = killer::descendants(deployment.pid()?);
        let process = family.iter().find(|process| process.kind == kind).with_context(|| format!("no {kind} runs"))?;
        let config = fs::read_to_string(deployment.dir.join("run").join(format!("{kind}.toml")))?;
        let listen = config.lines().find_map(|line| line.strip_prefix("ops_listen = ")).context("no ops_listen")?;
        Ok(Self { pid: process.pid, ops: listen.trim_matches('"').parse()? })
    }

    /// The sum of a counter's values in all lines whose labels contain every one of `labels` (`name="value"`).
    pub fn counter(&self, name: &str, labels: &[&str]) -> Result<f64> {
        let body = Client::new(self.ops).get("/metrics")?.body;
        let text = String::from_utf8(body)?;
        let values = text.lines().filter_map(|line| {
            let (series, value) = line.rsplit_once(' ')?;
            let (found, stated) = series.split_once('{').unwrap_or((series, ""));
            (found == name && labels.iter().all(|label| stated.contains(label))).then(|| value.parse::<f64>())
        });
        Ok(values.sum::<Result<f64, _>>()?)
    }

    /// Its memory.
    pub fn memory(&self) -> Result<Memory> {
        let status = fs::read_to_string(format!("/proc/{}/status", self.pid))?;
        let bytes = |field: &str| -> Result<u64> {
            let line = status.lines().find_map(|line| line.strip_prefix(field)).context("no such field")?;
            let kib: u64 = line.trim_start_matches(':').trim().trim_end_matches(" kB").parse()?;
            Ok(kib * 1024)
        };
        Ok(Memory { now: bytes("VmRSS")?, peak: bytes("VmHWM")? })
    }
}
