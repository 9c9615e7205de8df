//! Siblings: three legs of one job, to files, to a topic of the journal's cluster and to a topic of another cluster. That one
//! dies, stays dead and comes back; what counts is whether the other two notice: their records a second, and how long a
//! record takes from its making to where a reader sees it.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use harness::http::Client;
use harness::kafka::Clusters;
use kafka::Cluster;
use kafka::fetch::{Fetcher, Isolation};
use stream::clock::{Clock, SystemClock};
use stream::config::{Compression, KafkaFormat, KafkaTarget, SinkKind, SinkSpec, StreamConfig, StreamSpec};
use tokio::task::JoinSet;

use super::{Plan, delay};
use crate::load::Lines;
use crate::measure::percentile;
use crate::pace;
use crate::report::{Phase, Report};
use crate::stage::{Child, Stage};

const STREAM: &str = "bench.siblings.job";
/// Requests a second, records of one, and bytes of one: some 2,000 records a second.
const PER_SECOND: f64 = 20.0;
const RECORDS: usize = 100;
const RECORD_BYTES: usize = 200;
const CONNECTIONS: usize = 8;
const PARTITIONS: u32 = 2;
const CHECKPOINT: Duration = Duration::from_secs(1);
/// How long the dead one may take to have everything.
const CAUGHT_UP_WITHIN: Duration = Duration::from_secs(600);
const POLL: Duration = Duration::from_millis(200);
const SQL: &str = "
    CREATE TABLE records (number BIGINT, made_ms BIGINT) WITH ('format' = 'json');
    INSERT INTO files SELECT number, made_ms FROM records;
    INSERT INTO near SELECT number, made_ms FROM records;
    INSERT INTO far SELECT number, made_ms FROM records;";

/// When each phase began and ended, in ms since 1970.
type Phases = Vec<(&'static str, i64, i64)>;

/// Runs the case.
pub async fn run(plan: &Plan, report: &mut Report) -> Result<()> {
    eprintln!("== siblings: one of three sinks is dead for {} s", plan.dead.as_secs());
    let scratch = tempfile::tempdir_in(&plan.dir)?;
    let mut clusters = tokio::task::block_in_place(|| Clusters::start_steady(scratch.path()))?;
    let (near, far) = (clusters.normal_bootstrap(), clusters.failover_bootstrap());
    let journal = format!("kafka={near}");
    let stage = Stage::on(&plan.dir, Some(journal.clone())).await?;
    let config = stage.create(&spec(&near, &far)?).await?;
    let gateway = stage.gateway(journal.clone()).await?;
    let _query = stage.query(journal, CHECKPOINT).await?;
    tokio::task::block_in_place(|| offer(&gateway, plan.offered[0]))?;
    caught_up(&stage, &config).await?;

    let probe = Probe::start(&near).await?;
    let mut phases: Phases = Vec::new();
    let mut phase = |name, work: &mut dyn FnMut() -> Result<()>| -> Result<()> {
        let began = SystemClock.now_ms();
        tokio::task::block_in_place(work)?;
        phases.push((name, began, SystemClock.now_ms()));
        Ok(())
    };
    phase("before", &mut || offer(&gateway, plan.offered[1]))?;
    clusters.kill("failover-201")?;
    phase("dead", &mut || offer(&gateway, plan.dead))?;
    ensure!(delivered(&stage, &config, "far").await? < delivered(&stage, &config, "near").await?, "it was not dead");
    tokio::task::block_in_place(|| clusters.restart("failover-201"))?;
    let back = Instant::now();
    phase("back", &mut || offer(&gateway, plan.offered[1]))?;
    caught_up(&stage, &config).await?;
    report.caught_up_after = Some(back.elapsed());

    let files = delay::made_delays(&stage.path("out").join(STREAM).join("files"))?;
    for (leg, mut delays) in [("files", files), ("topic", probe.stop())] {
        // What was made to get warm is nobody's.
        delays.retain(|(made_ms, _)| phases.first().is_some_and(|(_, began, _)| made_ms >= began));
        for (name, began, ended) in &phases {
            report.add_phase(measured(leg, name, &delays, *began, *ended));
        }
    }
    Ok(())
}

fn spec(near: &str, far: &str) -> Result<StreamSpec> {
    let topic = |name: &str, brokers: &str| {
        let (brokers, topic) = (brokers.to_owned(), format!("siblings.{name}"));
        let (key, headers, format) = (None, Vec::new(), KafkaFormat::Json);
        let target = KafkaTarget {
            brokers,
            topic,
            partitions: PARTITIONS,
            key,
            headers,
            format,
            compression: Compression::None,
        };
        SinkSpec { name: name.to_owned(), replay_ms: 0, begin_from: None, kind: SinkKind::Kafka(target) }
    };
    let files = SinkSpec { name: "files".to_owned(), replay_ms: 0, begin_from: None, kind: SinkKind::FILES };
    let sinks = vec![files, topic("near", near), topic("far", far)];
    Ok(StreamSpec {
        sinks,
        sql: Some(SQL.to_owned()),
        partitions: Some(PARTITIONS),
        ..StreamSpec::new(STREAM.parse()?)
    })
}

/// Posts for as long as `offered`; nothing is to be refused.
fn offer(gateway: &Child, offered: Duration) -> Result<()> {
    let door = gateway.address(0)?;
    let path = format!("/v1/streams/{STREAM}/records");
    let run: u64 = rand::random();
    let send = |client: &mut Client, request: u64| {
        let (mut body, mut lines) = (Vec::new(), Lines::new(RECORD_BYTES, request << 20));
        (0..RECORDS).for_each(|_| lines.push(&mut body, SystemClock.now_ms()));
        let answer = client.exchange("POST", &path, &[("idempotency-key", &format!("{run}-{request}"))], &body)?;
        // While the stream's topic is being made.
        Ok(answer.status == 200)
    };
    pace::offer(CONNECTIONS, PER_SECOND, offered, || Ok(Client::new(door)), send).map(drop)
}

async fn delivered(stage: &Stage, config: &StreamConfig, leg: &str) -> Result<u64> {
    let legs = stage.ledger(&config.spec.id).await?.legs;
    let leg = legs.into_iter().find(|found| found.leg == leg).context("no such leg")?;
    Ok(leg.fates.delivered)
}

/// Waits until all three have delivered the same.
async fn caught_up(stage: &Stage, config: &StreamConfig) -> Result<()> {
    let began = Instant::now();
    loop {
        let legs = stage.ledger(&config.spec.id).await?.legs;
        let counts: Vec<u64> = legs.iter().map(|leg| leg.fates.delivered).collect();
        if counts.len() == 3 && counts[0] > 0 && counts.iter().all(|count| *count == counts[0]) {
            return Ok(());
        }
        ensure!(began.elapsed() < CAUGHT_UP_WITHIN, "delivered: {counts:?}");
        tokio::time::sleep(POLL).await;
    }
}

/// What one leg did with the records made in a phase.
fn measured(leg: &'static str, name: &'static str, delays: &[(i64, i64)], began: i64, ended: i64) -> Phase {
    let of_phase = delays.iter().filter(|(made_ms, _)| (began..ended).contains(made_ms)).map(|(_, delay)| *delay);
    let mut of_phase: Vec<i64> = of_phase.collect();
    of_phase.sort_unstable();
    // By when they were seen, for a leg that stands still delivers nothing of what is made meanwhile.
    let seen = delays.iter().filter(|(made_ms, delay)| (began..ended).contains(&(made_ms + delay))).count();
    let per_second = seen as f64 * 1e3 / (ended - began) as f64;
    let [p50, p99] = [50, 99].map(|percent| percentile(&of_phase, percent));
    Phase { leg, name, seconds: (ended - began) as f64 / 1e3, per_second, p50, p99 }
}

/// Reads the near topic as a careful reader does, and notes when each record is seen.
struct Probe {
    seen: Arc<Mutex<Vec<(i64, i64)>>>,
    _readers: JoinSet<()>,
}

impl Probe {
    async fn start(bootstrap: &str) -> Result<Self> {
        let (cluster, seen) = (Cluster::new(bootstrap)?, Arc::<Mutex<Vec<(i64, i64)>>>::default());
        let mut readers = JoinSet::new();
        for partition in 0..PARTITIONS as i32 {
            let fetcher = Fetcher::new(cluster.clone(), "siblings.near", partition, 0, Isolation::Committed);
            readers.spawn(read(fetcher, Arc::clone(&seen)));
        }
        Ok(Self { seen, _readers: readers })
    }

    fn stop(self) -> Vec<(i64, i64)> {
        std::mem::take(&mut self.seen.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

async fn read(mut fetcher: Fetcher, seen: Arc<Mutex<Vec<(i64, i64)>>>) {
    loop {
        let Ok(fetched) = fetcher.next(Duration::from_millis(500)).await else { continue };
        let now_ms = SystemClock.now_ms();
        let made = |value: &[u8]| -> Option<i64> {
            serde_json::from_slice::<BTreeMap<String, i64>>(value).ok()?.get("made_ms").copied()
        };
        let made = fetched.records.iter().filter_map(|record| made(record.value.as_deref()?));
        seen.lock().unwrap_or_else(PoisonError::into_inner).extend(made.map(|made_ms| (made_ms, now_ms - made_ms)));
    }
}
