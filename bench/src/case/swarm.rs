//! A swarm: the mission's number of streams on one machine, on the embedded journal. First what a stream costs that has
//! nothing to say, in each process; then one stream in a hundred speaks, then all of them do. Jobs commit as often as a stream
//! that says nothing of it has them commit.

use std::thread;
use std::time::{Duration, Instant};

use anyhow::Result;
use stream::config::{StreamConfig, StreamSpec};
use stream::limits::CHECKPOINT;

use super::{Plan, lanes};
use crate::report::{Idle, Laned, Report};
use crate::stage::{Child, Stage};

/// Requests of [`lanes::RECORDS`] records that a stream sends in a second when it speaks.
const REQUESTS_PER_SECOND: f64 = 1.0;
/// One stream of so many speaks at first.
const ACTIVE_ONE_OF: usize = 100;
/// How long a process that has nothing to do is looked at.
const STAND: Duration = Duration::from_secs(30);

/// The processes, by role.
struct Roles {
    all: Vec<(&'static str, Child)>,
}

/// Runs the case with so many streams.
pub async fn run(plan: &Plan, streams: usize, report: &mut Report) -> Result<()> {
    eprintln!("== swarm, {streams} streams");
    let stage = Stage::new(&plan.dir).await?;
    let journal = stage.journal().await?;
    let address = journal.address(0)?.to_string();
    let (gateway, query) = (stage.gateway(address.clone()).await?, stage.query(address, CHECKPOINT).await?);
    let roles = Roles { all: vec![("journal", journal), ("gateway", gateway), ("query", query)] };
    let empty = roles.stand(&stage)?;
    let began = Instant::now();
    let mut configs: Vec<StreamConfig> = Vec::new();
    for number in 0..streams {
        configs.push(stage.create(&StreamSpec::new(format!("bench.swarm.s{number}").parse()?)).await?);
    }
    tokio::task::block_in_place(|| lanes::ready(roles.gateway(), &configs, &[]))?;
    eprintln!("   {streams} streams after {:.0} s", began.elapsed().as_secs_f64());
    let full = roles.stand(&stage)?;
    for ((role, bytes, cores), (_, bytes_empty, cores_empty)) in full.into_iter().zip(empty) {
        let bytes_each = bytes.saturating_sub(bytes_empty) / streams as u64;
        let cpu_us_each = (cores - cores_empty).max(0.0) * 1e6 / streams as f64;
        report.add_idle(Idle { role, streams, bytes, bytes_each, cores, cpu_us_each });
    }
    let few = &configs[..streams.div_ceil(ACTIVE_ONE_OF)];
    for (side, some) in [("one in a hundred speaks", few), ("all speak", &configs)] {
        let before = roles.cpu()?;
        let paced = lanes::offer(plan, roles.gateway(), some, some.len() as f64 * REQUESTS_PER_SECOND)?;
        let used: Vec<Duration> = roles.cpu()?.into_iter().zip(before).map(|(now, then)| now - then).collect();
        let (cpu, behind) = (used[1], used[0] + used[2]);
        report.add_laned(Laned { side, streams: some.len(), paced, cpu, behind_cpu: behind });
    }
    Ok(())
}

impl Roles {
    fn gateway(&self) -> &Child {
        &self.all[1].1
    }

    fn cpu(&self) -> Result<Vec<Duration>> {
        self.all.iter().map(|(_, child)| child.cpu()).collect()
    }

    /// What each process holds, and the cores that it uses, while nothing flows.
    fn stand(&self, stage: &Stage) -> Result<Vec<(&'static str, u64, f64)>> {
        let all = || self.all.iter().map(|(role, child)| (*role, child)).chain([("admin", stage.admin())]);
        let before: Vec<Duration> = all().map(|(_, child)| child.cpu()).collect::<Result<_>>()?;
        tokio::task::block_in_place(|| thread::sleep(STAND));
        let now = all().zip(before).map(|((role, child), before)| {
            let used = child.cpu()?.saturating_sub(before);
            Ok((role, child.resident_bytes()?, used.as_secs_f64() / STAND.as_secs_f64()))
        });
        now.collect()
    }
}
