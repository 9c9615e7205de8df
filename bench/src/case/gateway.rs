//! Gateway and journal: HTTP and gRPC apart. Ours is a real gateway process before a real journal process, the CPU of
//! both; the load comes from this one: [`load::CONNECTIONS`] clients, each with one request of about 100 kB under way
//! (HTTP: keyed).

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use anyhow::Result;
use stream::config::{StreamConfig, StreamSpec};
use stream::{Batch, Incarnation};

use super::Plan;
use crate::child::{Door, LimitLog, Order};
use crate::load;
use crate::measure::{Sample, alternate};
use crate::report::Report;
use crate::stage::{Child, Stage};

/// How long the children may go on working after the load.
const SETTLED: Duration = Duration::from_secs(10);
/// Children that use less than a tenth of a core for so long are done.
const QUIET: Duration = Duration::from_millis(500);

/// Runs the case for records of `size` bytes.
pub async fn run(plan: &Plan, size: usize, report: &mut Report) -> Result<()> {
    let groups = load::groups(size, plan.bytes);
    for (door, name) in [(Door::Http, "gateway HTTP → journal"), (Door::Grpc, "gateway gRPC → journal")] {
        eprintln!("== {name}, {size} B");
        let pair = alternate(
            plan.rounds,
            async || limit(plan, door, size, &groups).await,
            async || ours(plan, door, size, &groups).await,
        );
        report.add(name, size, pair.await?);
    }
    Ok(())
}

async fn limit(plan: &Plan, door: Door, size: usize, groups: &[Vec<u8>]) -> Result<Sample> {
    let scratch = tempfile::tempdir_in(&plan.dir)?;
    let file = scratch.path().join("bare.log");
    let child = Child::start(&Order::LimitDoor { door, to: LimitLog::File(file) }).await?;
    let spec = StreamSpec::new("bench.gateway.limit".parse()?);
    let config = StreamConfig { incarnation: Incarnation(1), version: 1, spec };
    let children = [("door and log", &child)];
    load_up(door, child.address(0)?, &config, size, groups, &children).await
}

async fn ours(plan: &Plan, door: Door, size: usize, groups: &[Vec<u8>]) -> Result<Sample> {
    let stage = Stage::new(&plan.dir).await?;
    let config = stage.create(&StreamSpec::new("bench.gateway.door".parse()?)).await?;
    let journal = stage.journal().await?;
    let gateway = stage.gateway(journal.address(0)?.to_string()).await?;
    let address = gateway.address(match door {
        Door::Http => 0,
        Door::Grpc => 1,
    })?;
    load_up(door, address, &config, size, groups, &[("gateway", &gateway), ("journal", &journal)]).await
}

/// Sends every group and counts what the children use for it.
async fn load_up(
    door: Door,
    address: SocketAddr,
    config: &StreamConfig,
    size: usize,
    groups: &[Vec<u8>],
    children: &[(&'static str, &Child)],
) -> Result<Sample> {
    let lists = match door {
        Door::Http => Vec::new(),
        Door::Grpc => load::batches(config, groups),
    };
    let lists = lists.iter().map(|list| list.iter().map(Batch::to_wire).collect()).collect();
    let used = || children.iter().map(|(_, child)| child.cpu()).collect::<Result<Vec<Duration>>>();
    let (before, began) = (used()?, Instant::now());
    match door {
        Door::Http => tokio::task::block_in_place(|| load::post_all(address, config.spec.id.as_str(), groups))?,
        Door::Grpc => load::send_all(address, lists).await?,
    }
    let wall = began.elapsed();
    let used: Vec<Duration> =
        settled(used).await?.iter().zip(before).map(|(after, before)| after.saturating_sub(before)).collect();
    let parts = children.iter().zip(&used).map(|((name, _), cpu)| (*name, *cpu)).collect();
    let bytes = groups.iter().map(Vec::len).sum::<usize>() as u64;
    Ok(Sample { records: bytes / size as u64, bytes, wall, cpu: used.iter().sum(), parts })
}

/// What is used once nothing more is: work that was put off until after the acknowledgement counts too.
async fn settled(used: impl Fn() -> Result<Vec<Duration>>) -> Result<Vec<Duration>> {
    let deadline = Instant::now() + SETTLED;
    let mut last = used()?;
    loop {
        tokio::time::sleep(QUIET).await;
        let now = used()?;
        let grown: Duration = now.iter().zip(&last).map(|(now, last)| now.saturating_sub(*last)).sum();
        if grown < QUIET / 10 || Instant::now() >= deadline {
            return Ok(now);
        }
        last = now;
    }
}
