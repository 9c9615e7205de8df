//! Lanes: many streams on one Kafka cluster from one gateway, each with a topic of its own and little to say. What counts
//! is how long a request takes from its moment to its acknowledgement, beside the same door in front of a bare producer,
//! at rates up to what the brokers on this machine bear.

use std::collections::HashMap;
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Result, bail, ensure};
use harness::http::Client;
use harness::kafka::Clusters;
use harness::poll;
use stream::clock::{Clock, SystemClock};
use stream::config::{StreamConfig, StreamSpec};
use stream::limits::CHECKPOINT_UP;

use super::Plan;
use crate::child::{Door, LimitLog, Order};
use crate::load::Lines;
use crate::measure;
use crate::pace::{self, Paced};
use crate::report::{Laned, Report, Standing};
use crate::stage::{Child, Stage};

/// Requests a second over all streams. The first is not shown: brokers need a while to get warm.
const RATES: [f64; 4] = [100.0, 100.0, 250.0, 500.0];
/// Records of one request, and their bytes.
const RECORDS: usize = 10;
const RECORD_BYTES: usize = 200;
/// Clients: more than ever wait at a time.
const CONNECTIONS: usize = 64;
/// How long topics may take to be made.
const TOPICS_WITHIN: Duration = Duration::from_secs(1_200);
/// How long a process that has nothing to do is looked at.
const STAND: Duration = Duration::from_secs(20);

/// Runs the case with so many streams.
pub async fn run(plan: &Plan, streams: usize, report: &mut Report) -> Result<()> {
    eprintln!("== lanes, {streams} streams");
    let scratch = tempfile::tempdir_in(&plan.dir)?;
    let clusters = tokio::task::block_in_place(|| Clusters::start_steady(scratch.path()))?;
    let journal = format!("kafka={}", clusters.normal_bootstrap());
    let stage = Stage::on(&plan.dir, Some(journal.clone())).await?;
    let mut configs = Vec::new();
    let began = Instant::now();
    for number in 0..streams {
        configs.push(stage.create(&StreamSpec::new(format!("bench.lanes.s{number}").parse()?)).await?);
    }
    let gateway = stage.gateway(journal.clone()).await?;
    tokio::task::block_in_place(|| ready(&gateway, &configs, &[]))?;
    eprintln!("   {streams} streams with topics after {:.0} s", began.elapsed().as_secs_f64());
    stand("gateway", streams, &gateway, &clusters, report)?;
    let limit = limit(&clusters, &configs).await?;
    for (number, per_second) in RATES.into_iter().enumerate() {
        for (side, child) in [("limit", &limit), ("ours", &gateway)] {
            let (before, brokers) = (child.cpu()?, brokers_cpu(&clusters)?);
            let paced = offer(plan, child, &configs, per_second)?;
            let cpu = child.cpu()?.saturating_sub(before);
            let behind_cpu = brokers_cpu(&clusters)?.saturating_sub(brokers);
            if number > 0 {
                report.add_laned(Laned { side, streams, paced, cpu, behind_cpu });
            }
        }
    }
    let query = stage.query(journal, CHECKPOINT_UP).await?;
    tokio::task::block_in_place(|| thread::sleep(STAND));
    stand("query", streams, &query, &clusters, report)
}

/// What a process takes while nothing flows.
fn stand(role: &'static str, streams: usize, child: &Child, clusters: &Clusters, report: &mut Report) -> Result<()> {
    let (before, brokers) = (child.cpu()?, brokers_cpu(clusters)?);
    tokio::task::block_in_place(|| thread::sleep(STAND));
    let share = |used: Duration| used.as_secs_f64() / STAND.as_secs_f64();
    let cores = share(child.cpu()?.saturating_sub(before));
    let brokers_cores = share(brokers_cpu(clusters)?.saturating_sub(brokers));
    report.add_standing(Standing { role, streams, resident_bytes: child.resident_bytes()?, cores, brokers_cores });
    Ok(())
}

/// The door in front of a bare producer.
async fn limit(clusters: &Clusters, configs: &[StreamConfig]) -> Result<Child> {
    let topic = |config: &StreamConfig| (config.spec.id.to_string(), config.topic_key().replace('@', ".").into());
    let topics: HashMap<String, Arc<str>> = configs.iter().map(topic).collect();
    let to = LimitLog::Kafka { bootstrap: clusters.normal_bootstrap(), topics, partitions: 1 };
    Child::start(&Order::LimitDoor { door: Door::Http, to }).await
}

/// Waits until every stream takes a record.
pub fn ready(gateway: &Child, configs: &[StreamConfig], headers: &[(&str, &str)]) -> Result<()> {
    let door = gateway.address(0)?;
    let some_are_ready = |configs: &[StreamConfig]| {
        let mut client = Client::new(door);
        configs.iter().try_for_each(|config| is_ready(&mut client, config, headers))
    };
    thread::scope(|scope| {
        let share = configs.len().div_ceil(CONNECTIONS);
        let waiting: Vec<_> = configs.chunks(share).map(|some| scope.spawn(move || some_are_ready(some))).collect();
        waiting.into_iter().try_for_each(|one| one.join().unwrap_or_else(|_| bail!("a client panicked")))
    })
}

fn is_ready(client: &mut Client, config: &StreamConfig, headers: &[(&str, &str)]) -> Result<()> {
    poll::until(&format!("{} takes records", config.spec.id), TOPICS_WITHIN, || {
        let answer = client.exchange("POST", &path(config), headers, b"{}\n")?;
        ensure!(answer.status == 200, "{}", String::from_utf8_lossy(&answer.body));
        Ok(Some(()))
    })
}

/// Where a stream's lines are posted to.
pub fn path(config: &StreamConfig) -> String {
    format!("/v1/streams/{}/records", config.spec.id)
}

/// Offers requests to the streams in turn.
pub fn offer(plan: &Plan, child: &Child, configs: &[StreamConfig], per_second: f64) -> Result<Paced> {
    let door = child.address(0)?;
    let paths: Vec<String> = configs.iter().map(path).collect();
    let mut body = Vec::new();
    let mut lines = Lines::new(RECORD_BYTES, 0);
    (0..RECORDS).for_each(|_| lines.push(&mut body, SystemClock.now_ms()));
    let send = |client: &mut Client, request: u64| {
        let answer = client.exchange("POST", &paths[request as usize % paths.len()], &[], &body)?;
        ensure!(matches!(answer.status, 200 | 429 | 503), "{}", String::from_utf8_lossy(&answer.body));
        Ok(answer.status == 200)
    };
    let offer = || pace::offer(CONNECTIONS, per_second, plan.offered[1], || Ok(Client::new(door)), send);
    tokio::task::block_in_place(offer)
}

fn brokers_cpu(clusters: &Clusters) -> Result<Duration> {
    clusters.normal_pids().into_iter().map(measure::process_cpu).sum()
}
