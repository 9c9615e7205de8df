//! Agents, gateways, the journal and legs, all in one thread and in a time of their own: what a seed decides happens to
//! them, and the same seed lets the same happen again (decision 0012).
//!
//! What runs is the project's own code: collector, positions and sender of the agents, door, dispatcher and queues of the
//! gateways, the embedded log with its recovery, a leg's de-duplication. Replaced are the network's bytes ([`link`]), the
//! clock ([`world`]) and the disk ([`stream::disk::SimDisk`]). [`chaos`] breaks what a seed says; then everything must
//! come to rest, and [`oracle`] counts.
//!
//! `ISOLANE_SIM_SEEDS` seeds run (default 50) from `ISOLANE_SIM_FIRST` on; `cargo xtask sim` runs many. With `ISOLANE_SIM_TRACE` set
//! a run tells what happens.

#![allow(clippy::unwrap_used, reason = "all of this is a test")]

mod world;
mod link;
mod admin;
mod files;
mod agent;
mod worker;
mod gateway;
mod writer;
mod journal;
mod client;
mod leg;
mod chaos;
mod oracle;
mod run;

use run::{Ended, run};

/// Findings that are listed before a run of seeds is given up.
const FINDINGS_MAX: usize = 10;

fn setting(name: &str, default: u64) -> u64 {
    std::env::var(name).ok().and_then(|text| text.parse().ok()).unwrap_or(default)
}

#[test]
fn no_seed_finds_anything() {
    let (first, seeds) = (setting("ISOLANE_SIM_FIRST", 0), setting("ISOLANE_SIM_SEEDS", 50));
    let mut findings = Vec::new();
    let mut sum = Ended::default();
    for seed in first..first + seeds {
        let ended = run(seed);
        findings.extend(ended.findings.iter().map(|finding| format!("seed {seed}: {finding}")));
        if findings.len() >= FINDINGS_MAX {
            break;
        }
        sum.add(&ended);
    }
    println!("seeds {first}..{}: {sum}", first + seeds);
    assert!(findings.is_empty(), "\n{}", findings.join("\n"));
}

#[test]
fn a_seed_repeats() {
    for seed in 0..5 {
        let (once, again) = (run(seed), run(seed));
        assert_eq!(once.trace, again.trace, "seed {seed} did not repeat");
    }
    assert_ne!(run(1).trace, run(2).trace, "the trace tells nothing");
}
