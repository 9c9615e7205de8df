//! On Kafka: the gateway at half of what it can take, HTTP and gRPC apart, and legs from a topic to a topic and to Parquet.
//! The brokers are the same for limit and ours, and their CPU counts for neither. Each part has brokers of its own, which
//! keep what every round wrote: together they would fill a disk.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use harness::http::Client;
use harness::kafka::Clusters;
use stream::Batch;
use stream::config::{Compression, KafkaFormat, KafkaTarget, SinkKind, SinkSpec, StreamConfig, StreamSpec};
use stream::limits::CHECKPOINT_UP;
use tempfile::TempDir;
use tokio::runtime::Handle;

use super::Plan;
use crate::child::{Door, LimitLeg, LimitLog, Order};
use crate::load::{self, CONNECTIONS, GrpcCall};
use crate::measure::{Sample, alternate};
use crate::pace::{self, Paced};
use crate::report::{Half, Report};
use crate::stage::{Child, Stage};

/// Partitions of each topic: one for each broker.
pub(super) const PARTITIONS: u32 = 3;
/// How long a leg may take over what is there.
const RUN_WITHIN: Duration = Duration::from_secs(300);
/// Load before what is measured, for a process that has just begun.
const WARM: Duration = Duration::from_secs(3);
const POLL: Duration = Duration::from_millis(100);
/// A job that hands its records on, as they are.
pub(super) const SQL_RAW: &str = "CREATE TABLE records (line STRING) WITH ('format' = 'raw'); \
    INSERT INTO target SELECT line FROM records;";
/// The job of the case `query`.
pub(super) const SQL_JSON: &str = "
    CREATE TABLE records (lane INT, number BIGINT, made_ms BIGINT, text STRING) WITH ('format' = 'json');
    INSERT INTO target SELECT number, made_ms, text FROM records WHERE lane <> 3;";

/// Real clusters, with nothing in them yet.
pub(super) struct Ground {
    clusters: Clusters,
    _dir: TempDir,
}

impl Ground {
    /// Starts the clusters below `dir`.
    pub(super) fn start(dir: &std::path::Path) -> Result<Self> {
        let scratch = tempfile::tempdir_in(dir)?;
        let clusters = tokio::task::block_in_place(|| Clusters::start_steady(scratch.path()))?;
        Ok(Self { clusters, _dir: scratch })
    }

    /// Where the cluster is.
    pub(super) fn bootstrap(&self) -> String {
        self.clusters.normal_bootstrap()
    }

    fn journal(&self) -> String {
        format!("kafka={}", self.bootstrap())
    }
}

/// Runs the case for records of `size` bytes.
pub async fn run(plan: &Plan, size: usize, report: &mut Report) -> Result<()> {
    let groups = load::groups(size, plan.bytes);
    for (door, name) in [(Door::Http, "gateway HTTP → Kafka"), (Door::Grpc, "gateway gRPC → Kafka")] {
        eprintln!("== {name}, {size} B");
        doors(plan, &Ground::start(&plan.dir)?, door, size, &groups, name, report).await?;
    }
    for (job, name) in [(Job::Topic, "leg Kafka → Kafka"), (Job::Parquet, "leg Kafka → Parquet")] {
        eprintln!("== {name}, {size} B");
        legs(plan, &Ground::start(&plan.dir)?, job, size, &groups, name, report).await?;
    }
    Ok(())
}

/// The topic of a stream in Kafka.
pub(super) fn topic_of(config: &StreamConfig) -> String {
    config.topic_key().replace('@', ".")
}

async fn doors(
    plan: &Plan,
    ground: &Ground,
    door: Door,
    size: usize,
    groups: &[Vec<u8>],
    name: &'static str,
    report: &mut Report,
) -> Result<()> {
    let stage = Stage::on(&plan.dir, Some(ground.journal())).await?;
    let id = format!("bench.kafka.door-{}-{size}", if door == Door::Http { "http" } else { "grpc" });
    let spec = StreamSpec { partitions: Some(PARTITIONS), ..StreamSpec::new(id.parse()?) };
    let config = stage.create(&spec).await?;
    let topics = [(id, topic_of(&config).into())].into();
    let to = LimitLog::Kafka { bootstrap: ground.bootstrap(), topics, partitions: PARTITIONS };
    let most = most(&stage.gateway(ground.journal()).await?, &config, groups)?;
    eprintln!("   most: {most:.0} requests/s");
    let offer = |address, offered| match door {
        Door::Http => over_http(offered, address, &config, groups, most / 2.0),
        Door::Grpc => over_grpc(offered, address, &config, groups, most / 2.0),
    };
    // Brokers, clients and both sides share the cores, so that a round says little: more of them than elsewhere. Each has
    // processes of its own, because one start of a process costs more than another all its life.
    for _ in 0..2 * plan.rounds - 1 {
        for side in ["limit", "ours"] {
            let (child, address) = match (side, door) {
                ("limit", _) => (Child::start(&Order::LimitDoor { door, to: to.clone() }).await?, 0),
                (_, Door::Http) => (stage.gateway(ground.journal()).await?, 0),
                (_, Door::Grpc) => (stage.gateway(ground.journal()).await?, 1),
            };
            let address = child.address(address)?;
            offer(address, WARM)?;
            let before = child.cpu()?;
            let paced = offer(address, plan.offered[0])?;
            let cpu = child.cpu()?.saturating_sub(before);
            report.add_half(Half { case: name, side, record_bytes: size, bytes: groups[0].len(), paced, cpu });
        }
    }
    Ok(())
}

/// The door's most in requests a second, in a closed loop; the brokers get warm meanwhile.
fn most(gateway: &Child, config: &StreamConfig, groups: &[Vec<u8>]) -> Result<f64> {
    let mut most = 0.0_f64;
    for _ in 0..2 {
        let began = Instant::now();
        tokio::task::block_in_place(|| load::post_all(gateway.address(0)?, config.spec.id.as_str(), groups))?;
        most = most.max(groups.len() as f64 / began.elapsed().as_secs_f64());
    }
    Ok(most)
}

fn over_http(
    offered: Duration,
    door: SocketAddr,
    config: &StreamConfig,
    groups: &[Vec<u8>],
    per_second: f64,
) -> Result<Paced> {
    let path = format!("/v1/streams/{}/records", config.spec.id);
    let run: u64 = rand::random();
    let send = |client: &mut Client, request: u64| {
        let key = format!("{run}-{request}");
        let body = &groups[request as usize % groups.len()];
        let answer = client.exchange("POST", &path, &[("idempotency-key", &key)], body)?;
        ensure!(matches!(answer.status, 200 | 429 | 503), "{}", String::from_utf8_lossy(&answer.body));
        Ok(answer.status == 200)
    };
    let offer = || pace::offer(2 * CONNECTIONS, per_second, offered, || Ok(Client::new(door)), send);
    tokio::task::block_in_place(offer)
}

fn over_grpc(
    offered: Duration,
    door: SocketAddr,
    config: &StreamConfig,
    groups: &[Vec<u8>],
    per_second: f64,
) -> Result<Paced> {
    // Each run has sources of its own: what is sent again would cost a gateway as much, but not a reader.
    let batches: Vec<_> = load::batches(config, groups).iter().flatten().map(Batch::to_wire).collect();
    let runtime = Handle::current();
    let connect = || runtime.block_on(GrpcCall::open(door));
    let send = |call: &mut GrpcCall, request: u64| {
        runtime.block_on(call.send(batches[request as usize % batches.len()].clone()))
    };
    tokio::task::block_in_place(|| pace::offer(2 * CONNECTIONS, per_second, offered, connect, send))
}

/// What a leg writes.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Job {
    /// A topic, by [`SQL_RAW`].
    Topic,
    /// Parquet, by [`SQL_JSON`].
    Parquet,
}

impl Job {
    /// For names.
    pub(super) fn kind(self) -> &'static str {
        if self == Self::Topic { "topic" } else { "parquet" }
    }
}

/// A stream whose topic is filled.
pub(super) struct Filled {
    stage: Stage,
    /// The stream.
    pub(super) config: StreamConfig,
    /// Records in its topic.
    pub(super) records: u64,
    size: usize,
    job: Job,
}

impl Filled {
    /// Fills a topic with `groups` of records of `size` bytes.
    pub(super) async fn new(plan: &Plan, ground: &Ground, job: Job, size: usize, groups: &[Vec<u8>]) -> Result<Self> {
        let records = (groups.iter().map(Vec::len).sum::<usize>() / size) as u64;
        let stage = Stage::on(&plan.dir, Some(ground.journal())).await?;
        let id = format!("bench.kafka.{}-{size}", job.kind());
        let config = stage.create(&leg_spec(ground, job, &id, "unused")?).await?;
        let gateway = stage.gateway(ground.journal()).await?;
        tokio::task::block_in_place(|| load::post_all(gateway.address(0)?, config.spec.id.as_str(), groups))?;
        Ok(Self { stage, config, records, size, job })
    }

    /// A run over all of it.
    pub(super) fn sample(&self, wall: Duration, cpu: Duration, parts: Vec<(&'static str, Duration)>) -> Sample {
        Sample { records: self.records, bytes: self.records * self.size as u64, wall, cpu, parts }
    }

    /// A real query process that reads the topic from its beginning: each time with a leg of another name, which is another
    /// reader. Answers what it took, and its CPU.
    pub(super) async fn ours(&self, plan: &Plan, ground: &Ground) -> Result<(Duration, Duration)> {
        let id = &self.config.spec.id;
        let name = format!("target_{}", rand::random::<u32>());
        let mut spec = leg_spec(ground, self.job, id.as_str(), &format!("{id}.{name}"))?;
        spec.sinks[0].name = name.clone();
        spec.sql = spec.sql.map(|sql| sql.replace("INTO target", &format!("INTO `{name}`")));
        self.stage.change(&spec).await?;
        let out = tempfile::tempdir_in(&plan.dir)?;
        let began = Instant::now();
        let query = self.stage.query_into(ground.journal(), CHECKPOINT_UP, out.path()).await?;
        loop {
            let legs = self.stage.ledger(id).await?.legs;
            let leg = legs.into_iter().find(|leg| leg.leg == name).context("no such leg")?;
            if let Some(failure) = leg.failure {
                bail!("the leg failed: {failure}");
            }
            ensure!(leg.fates.quarantined == 0, "{:?}", leg.fates);
            if leg.fates.total() >= self.records {
                return Ok((began.elapsed(), query.cpu()?));
            }
            ensure!(began.elapsed() < RUN_WITHIN, "{} of {} records", leg.fates.total(), self.records);
            tokio::time::sleep(POLL).await;
        }
    }
}

async fn legs(
    plan: &Plan,
    ground: &Ground,
    job: Job,
    size: usize,
    groups: &[Vec<u8>],
    name: &'static str,
    report: &mut Report,
) -> Result<()> {
    let filled = Filled::new(plan, ground, job, size, groups).await?;
    let records = filled.records;
    let (mut round, kind) = (0, job.kind());
    let pair = alternate(
        plan.rounds,
        async || {
            round += 1;
            let scratch = tempfile::tempdir_in(&plan.dir)?;
            let to = match job {
                Job::Topic => LimitLeg::Topic(format!("limit.{kind}-{size}.{round}")),
                Job::Parquet => LimitLeg::Parquet(scratch.path().join("limit.parquet")),
            };
            let (from, partitions) = (topic_of(&filled.config), PARTITIONS);
            let began = Instant::now();
            let order = Order::LimitLeg { bootstrap: ground.bootstrap(), from, partitions, records, to };
            let child = Child::start(&order).await?;
            Ok(filled.sample(began.elapsed(), child.cpu()?, Vec::new()))
        },
        async || filled.ours(plan, ground).await.map(|(wall, cpu)| filled.sample(wall, cpu, Vec::new())),
    );
    report.add(name, size, pair.await?);
    Ok(())
}

/// The stream's configuration, for a Kafka sink with the topic `topic`.
pub(super) fn leg_spec(ground: &Ground, job: Job, id: &str, topic: &str) -> Result<StreamSpec> {
    let kind = match job {
        Job::Parquet => SinkKind::FILES,
        Job::Topic => SinkKind::Kafka(KafkaTarget {
            brokers: ground.bootstrap(),
            topic: topic.to_owned(),
            partitions: PARTITIONS,
            key: None,
            headers: Vec::new(),
            format: KafkaFormat::Raw,
            compression: Compression::None,
        }),
    };
    let sql = if job == Job::Topic { SQL_RAW } else { SQL_JSON };
    let sinks = vec![SinkSpec { name: "target".to_owned(), replay_ms: 0, begin_from: None, kind }];
    let (partitions, sql) = (Some(PARTITIONS), Some(sql.to_owned()));
    Ok(StreamSpec { partitions, sinks, sql, ..StreamSpec::new(id.parse()?) })
}
