//! The process killer: finds the processes of one deployment by their descent, picks one of a wanted kind by a seed,
//! ends it by its id.

use std::collections::BTreeMap;
use std::fs;

use anyhow::{Context, Result};
use rand::rngs::ChaCha8Rng;
use rand::seq::IndexedRandom;
use rustix::process::{Pid, Signal, kill_process};

/// The kinds of processes of one deployment, by the first argument of their command line.
pub const KINDS: [&str; 7] = ["up", "admin", "journal", "gateway", "query", "agent", "worker"];

/// One process.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Process {
    /// Its id.
    pub pid: i32,
    /// Its kind, one of [`KINDS`].
    pub kind: String,
}

/// All living processes that descend from `root`, itself included.
pub fn descendants(root: i32) -> Vec<Process> {
    let table = process_table();
    let mut found = Vec::new();
    let mut to_visit = vec![root];
    while let Some(pid) = to_visit.pop() {
        if let Some(kind) = kind_of(pid) {
            found.push(Process { pid, kind });
        }
        to_visit.extend(table.iter().filter(|(_, parent)| **parent == pid).map(|(child, _)| *child));
    }
    found.sort_by_key(|process| process.pid);
    found
}

/// Ends one of `kind` below `root` at once (SIGKILL); `None` if there is none now.
pub fn kill_one(root: i32, kind: &str, dice: &mut ChaCha8Rng) -> Result<Option<i32>> {
    let candidates: Vec<i32> = descendants(root).into_iter().filter(|p| p.kind == kind).map(|p| p.pid).collect();
    let Some(pid) = candidates.choose(dice).copied() else { return Ok(None) };
    signal(pid, Signal::KILL)?;
    Ok(Some(pid))
}

/// Sends a signal to one process.
pub fn signal(pid: i32, signal: Signal) -> Result<()> {
    let pid = Pid::from_raw(pid).context("no such process id")?;
    kill_process(pid, signal).with_context(|| format!("signalling {pid:?}"))
}

/// Whether the process lives (a zombie does not).
pub fn lives(pid: i32) -> bool {
    stat(pid).is_some_and(|(state, _)| state != 'Z' && state != 'X')
}

fn process_table() -> BTreeMap<i32, i32> {
    let entries = fs::read_dir("/proc").into_iter().flatten().flatten();
    let pids = entries.filter_map(|entry| entry.file_name().to_str()?.parse().ok());
    pids.filter_map(|pid| stat(pid).filter(|(state, _)| *state != 'Z').map(|(_, parent)| (pid, parent))).collect()
}

/// State and parent of a process. The name in parentheses may hold anything, so the last one counts.
fn stat(pid: i32) -> Option<(char, i32)> {
    let text = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    let mut fields = text.rsplit_once(") ")?.1.split(' ');
    Some((fields.next()?.chars().next()?, fields.next()?.parse().ok()?))
}

fn kind_of(pid: i32) -> Option<String> {
    let command = fs::read(format!("/proc/{pid}/cmdline")).ok()?;
    let first = command.split(|byte| *byte == 0).nth(1)?;
    let kind = String::from_utf8_lossy(first).into_owned();
    KINDS.contains(&kind.as_str()).then_some(kind)
}
