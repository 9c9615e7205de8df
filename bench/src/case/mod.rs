//! The cases, and how much each of them does.

pub mod agent;
pub mod gateway;
pub mod query;
pub mod delay;
pub mod kafka;
pub mod flink;
pub mod lanes;
pub mod siblings;
pub mod breaks;
pub mod swarm;
pub mod isolation;

use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context, Result};

use crate::load::SIZES;
use crate::report::Report;

/// The cases in the order in which they run.
pub const NAMES: [&str; 12] = [
    "agent",
    "gateway",
    "query",
    "delay",
    "breaks",
    "swarm",
    "kafka",
    "flink",
    "lanes",
    "crowd",
    "siblings",
    "isolation",
];
/// Streams of the case lanes.
const LANES: usize = 500;
/// Streams of the cases crowd and swarm: the mission's.
const CROWD: usize = 4_000;

/// How much is done.
pub struct Plan {
    /// Where files are written.
    pub dir: PathBuf,
    /// Whether the figures are rough.
    pub quick: bool,
    /// Bytes of a record, one after the other.
    pub sizes: Vec<usize>,
    /// Times that limit and ours run in turn.
    pub rounds: usize,
    /// Bytes of records of one run.
    pub bytes: usize,
    /// How long load is offered where delays are measured: as fast as it goes, then at half of that.
    pub offered: [Duration; 2],
    /// How long a sink is dead.
    pub dead: Duration,
    /// How often quiet and noise take turns, and how long each lasts.
    pub alternations: usize,
    /// See `alternations`.
    pub phase: Duration,
}

impl Plan {
    /// For the README's figures: some ten minutes.
    pub fn whole(dir: PathBuf) -> Self {
        let offered = [Duration::from_secs(15), Duration::from_secs(40)];
        let sizes = SIZES.to_vec();
        let (dead, phase) = (Duration::from_secs(600), Duration::from_secs(4));
        Self { dir, quick: false, sizes, rounds: 3, bytes: 400_000_000, offered, dead, alternations: 5, phase }
    }

    /// Short rounds. Many topics (lanes, crowd) still take minutes to be made.
    pub fn quick(dir: PathBuf) -> Self {
        let offered = [Duration::from_secs(4), Duration::from_secs(8)];
        let sizes = SIZES.to_vec();
        let (dead, phase) = (Duration::from_secs(20), Duration::from_secs(2));
        Self { dir, quick: true, sizes, rounds: 1, bytes: 100_000_000, offered, dead, alternations: 2, phase }
    }
}

/// Runs the wanted cases.
pub async fn run(plan: &Plan, is_wanted: &impl Fn(&str) -> bool, report: &mut Report) -> Result<()> {
    for &size in &plan.sizes {
        if is_wanted("agent") {
            agent::run(plan, size, report).await.with_context(|| format!("case agent, {size} B"))?;
        }
        if is_wanted("gateway") {
            gateway::run(plan, size, report).await.with_context(|| format!("case gateway, {size} B"))?;
        }
        if is_wanted("query") {
            query::run(plan, size, report).await.with_context(|| format!("case query, {size} B"))?;
        }
    }
    if is_wanted("delay") {
        delay::run(plan, report).await.context("case delay")?;
    }
    if is_wanted("breaks") {
        breaks::run(plan, report).await.context("case breaks")?;
    }
    if is_wanted("swarm") {
        swarm::run(plan, CROWD, report).await.context("case swarm")?;
    }
    if is_wanted("kafka") {
        for &size in &plan.sizes {
            kafka::run(plan, size, report).await.with_context(|| format!("case kafka, {size} B"))?;
        }
    }
    if is_wanted("flink") {
        for &size in &plan.sizes {
            flink::run(plan, size, report).await.with_context(|| format!("case flink, {size} B"))?;
        }
    }
    if is_wanted("lanes") {
        lanes::run(plan, LANES, report).await.context("case lanes")?;
    }
    if is_wanted("crowd") {
        lanes::run(plan, CROWD, report).await.context("case crowd")?;
    }
    if is_wanted("siblings") {
        siblings::run(plan, report).await.context("case siblings")?;
    }
    if is_wanted("isolation") {
        isolation::run(plan, report).await.context("case isolation")?;
    }
    Ok(())
}
