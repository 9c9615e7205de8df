//! Isolation: 20 streams that together ask for 30 % of what the gateway and its journal can do of such requests, each at
//! its moment, measured in the same run.
//! One of them becomes noisy, in one way after the other; what counts is what the other 19 notice: whether any of their
//! requests is refused, and how long one takes from its moment to its acknowledgement, against the time just before. On
//! the embedded journal, then on Kafka.
//!
//! The noisy client is a process with a quota of CPU on the first core; the other 19's threads run on the last core and
//! go before others, so that they note when the gateway answered and not when they were let run. Gateway, journal and
//! brokers use all cores, with what the clients leave them.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use harness::http::Client;
use harness::kafka::Clusters;
use harness::poll;
use journal::{AnyJournal, Journal};
use kafka::Cluster;
use kafka::topics::Wanted;
use stream::clock::{Clock, SystemClock};
use stream::config::{Snapshot, StreamConfig, StreamSpec};
use stream::limits::BATCH_DEADLINE;
use tempfile::TempDir;

use super::{Plan, lanes};
use crate::child::Order;
use crate::load::Lines;
use crate::matrix::{Capacity, Matrix, Memory, Row};
use crate::measure::percentile;
use crate::noise::{Heard, Kind, Noise, RECORD_BYTES, RECORDS};
use crate::pace::{self, Paced};
use crate::place::{self, Quota};
use crate::report::Report;
use crate::stage::{Child, Stage};

/// Streams; the last one is the noisy one.
const STREAMS: usize = 20;
const QUIET: usize = STREAMS - 1;
/// What all of them ask for while none is noisy, of what there is.
const CALM_SHARE: f64 = 0.3;
/// How many times as much the noisy one asks for, and of what there is for one that sends as fast as it is answered.
const SURGE: f64 = 100.0;
const BEYOND: f64 = 1.5;
/// Connections of the noisy client, and of the one that looks for what there is.
const CONNECTIONS: usize = 128;
/// Connections of the noisy client while it is calm, and of each other one: more than ever wait at a time.
const CALM_CONNECTIONS: usize = 8;
/// Of all cores, what the noisy client may use at most.
const QUOTA_SHARE: f64 = 0.25;
/// Runs that look for what there is. Of a crowd's the last ones count, because brokers need a while to get warm; of what
/// comes each at its moment the middle one, because steps of a second say little: twice as much was found in one run as in
/// another (decision 0014).
const LOOKS: usize = 3;
/// How long each rate is tried that looks for what there is.
const STEP: Duration = Duration::from_secs(1);
/// What the gateway may hold for all streams together: little enough for a leak to show.
const BYTES_MAX: usize = 64 << 20;
/// What the journal keeps of a stream, so that giant lines do not fill the disk.
const RETENTION_BYTES: u64 = 256 << 20;
/// How much longer than a phase the noise lasts.
const MARGIN: Duration = Duration::from_millis(500);
/// How long a noisy client may take to end.
const ENDED_WITHIN: Duration = Duration::from_secs(15);
/// How long the roles may go on working after the noise; less than a tenth of a core is rest.
const SETTLED: Duration = Duration::from_secs(15);
const REST: Duration = Duration::from_millis(200);
/// How long brokers may take to give a dead one's leaderships to others.
const LED_WITHIN: Duration = Duration::from_secs(60);

/// A noise: its name, what the client does, whether its topic has lost its leader.
struct Way {
    name: &'static str,
    kind: Kind,
    is_leaderless: bool,
}

const fn way(name: &'static str, kind: Kind) -> Way {
    Way { name, kind, is_leaderless: false }
}

/// The noises; the one that takes a broker away is the last.
const WAYS: [Way; 7] = [
    way("surges", Kind::Plain),
    way("surges, each request with a key", Kind::Keyed),
    way("sends what is broken", Kind::Broken),
    way("sends giant lines and bombs", Kind::Giant),
    way("reads its answers slowly", Kind::Slow),
    way("has a foreign token", Kind::Foreign),
    Way { name: "has no leader", kind: Kind::Bulky, is_leaderless: true },
];

/// Runs the case.
pub async fn run(plan: &Plan, report: &mut Report) -> Result<()> {
    for name in ["embedded journal", "Kafka"] {
        eprintln!("== isolation, {name}");
        let mut ground = if name == "Kafka" { Ground::kafka(plan).await? } else { Ground::embedded(plan).await? };
        let capacity = ground.capacity(plan).await?;
        let mut matrix = Matrix { journal: name, capacity, how: ground.how(plan), rows: Vec::new() };
        let ended = ground.rows(plan, &mut matrix).await;
        report.add_matrix(matrix);
        ended?;
    }
    Ok(())
}

/// The roles, and where the clients run.
struct Ground {
    configs: Vec<StreamConfig>,
    /// Ours, whose CPU says when they rest.
    roles: Vec<Child>,
    gateway: Child,
    door: SocketAddr,
    idle_bytes: u64,
    /// What senders show, but the one with a foreign token.
    shown: String,
    quota: Option<Quota>,
    quota_cores: f64,
    /// The noisy client's core, and the others'.
    cores: (usize, usize),
    goes_before: bool,
    kafka: Option<Brokers>,
    stage: Stage,
}

/// Kafka, in which the noisy stream's topic has one copy only.
struct Brokers {
    clusters: Clusters,
    /// The broker that has it.
    leader: i32,
    _dir: TempDir,
}

impl Ground {
    async fn embedded(plan: &Plan) -> Result<Self> {
        let stage = Stage::new(&plan.dir).await?;
        let configs = create(&stage).await?;
        let journal = stage.journal().await?;
        let address = journal.address(0)?.to_string();
        Self::start(stage, configs, vec![journal], address, None).await
    }

    async fn kafka(plan: &Plan) -> Result<Self> {
        let dir = tempfile::tempdir_in(&plan.dir)?;
        let clusters = tokio::task::block_in_place(|| Clusters::start_steady(dir.path()))?;
        let journal = format!("kafka={}", clusters.normal_bootstrap());
        // Admin knows of no Kafka: it would make the noisy one's topic as safe as the others'.
        let stage = Stage::new(&plan.dir).await?;
        let configs = create(&stage).await?;
        let leader = make_topics(&clusters, &journal, &configs).await?;
        let kafka = Brokers { clusters, leader, _dir: dir };
        Self::start(stage, configs, Vec::new(), journal, Some(kafka)).await
    }

    async fn start(
        stage: Stage,
        configs: Vec<StreamConfig>,
        roles: Vec<Child>,
        journal: String,
        kafka: Option<Brokers>,
    ) -> Result<Self> {
        let shown = format!("Bearer {}", stage.create_token("bench.isolation").await?);
        let gateway = stage.guarded_gateway(journal, BYTES_MAX).await?;
        tokio::task::block_in_place(|| lanes::ready(&gateway, &configs, &[("authorization", &shown)]))?;
        let cores = place::first_and_last()?;
        let quota_cores = (QUOTA_SHARE * std::thread::available_parallelism()?.get() as f64).min(1.0);
        let goes_before = std::thread::spawn(place::go_before_others).join().unwrap_or(false);
        Ok(Self {
            door: gateway.address(0)?,
            idle_bytes: gateway.resident_bytes()?,
            shown,
            configs,
            roles,
            gateway,
            quota: Quota::new(quota_cores),
            quota_cores,
            cores,
            goes_before,
            kafka,
            stage,
        })
    }

    /// What was done, for the report.
    fn how(&self, plan: &Plan) -> String {
        let Self { cores, quota_cores, .. } = self;
        let (noisy, others) = cores;
        let quota = match &self.quota {
            Some(_) => format!("a quota of {quota_cores:.2} cores (control group)"),
            None => "**no quota** (control groups are not ours)".to_owned(),
        };
        let before = if self.goes_before { "before others" } else { "**not before others** (not permitted)" };
        format!(
            "{STREAMS} streams ask for {:.0} % of it, requests of {RECORDS} records of {RECORD_BYTES} B; one becomes \
             noisy, {CONNECTIONS} connections, a process on core {noisy} with {quota}; the others' threads on core \
             {others}, {before}; {} x {:.0} s before and during, medians (least-most).",
            CALM_SHARE * 100.0,
            plan.alternations,
            plan.phase.as_secs_f64()
        )
    }

    /// What there is, by both measures.
    async fn capacity(&self, plan: &Plan) -> Result<Capacity> {
        let crowded = self.crowded(plan).await?;
        let mut found = Vec::new();
        for _ in 0..LOOKS {
            found.push(tokio::task::block_in_place(|| self.paced(crowded))?);
            self.settle().await?;
        }
        found.sort_unstable_by(f64::total_cmp);
        Ok(Capacity { paced: found[LOOKS / 2], crowded })
    }

    /// The highest rate, in steps of a fifth, at which none of the other 19's requests is refused and their median does
    /// not show a queue that grows.
    fn paced(&self, crowded: f64) -> Result<f64> {
        let (mut per_second, mut held, mut calm_us) = (crowded * CALM_SHARE / 3.0, 0.0, None);
        while per_second < crowded {
            let paced = self.offer(STEP, per_second)?;
            let median_us = percentile(&paced.delays_us, 50);
            let in_time_us = 3 * *calm_us.get_or_insert(median_us) + 5_000;
            if paced.refused > 0 || median_us > in_time_us {
                break;
            }
            held = per_second;
            per_second *= 1.2;
        }
        eprintln!("   at most {held:.0} requests/s, each at its moment");
        ensure!(held > 0.0, "a tenth of the closed loop's rate is too much");
        Ok(held)
    }

    /// Requests a second, closed loop over all streams, by a client without a bound of its own.
    async fn crowded(&self, plan: &Plan) -> Result<f64> {
        let mut most = 0.0_f64;
        for look in 0..LOOKS {
            let streams = self.configs.iter().map(|config| config.spec.id.to_string()).collect();
            let noise = Noise {
                door: self.door,
                kind: Kind::Plain,
                shown: self.shown.clone(),
                streams,
                connections: CONNECTIONS,
                per_second: None,
                lasting: plan.phase,
                group: None,
                core: None,
            };
            let heard = heard(Child::start(&Order::Noise(noise)).await?, plan.phase).await?;
            let per_second = heard.taken as f64 / heard.wall.as_secs_f64();
            eprintln!("   at most {per_second:.0} requests/s, client {:.2} s CPU", heard.cpu.as_secs_f64());
            if look > 0 {
                most = most.max(per_second);
            }
            self.settle().await?;
        }
        Ok(most)
    }

    async fn rows(&mut self, plan: &Plan, matrix: &mut Matrix) -> Result<()> {
        let calm = matrix.capacity.paced * CALM_SHARE / STREAMS as f64;
        let asked = (SURGE * calm).max(BEYOND * matrix.capacity.crowded);
        for way in WAYS {
            match (way.is_leaderless, &mut self.kafka) {
                (true, None) => continue,
                (true, Some(kafka)) => {
                    kafka.clusters.kill(&format!("normal-{}", kafka.leader))?;
                    tokio::task::block_in_place(|| self.others_are_led())?;
                }
                (false, _) => {}
            }
            let row = self.row(plan, &way, calm, asked).await.with_context(|| way.name)?;
            eprintln!("   {row}");
            matrix.rows.push(row);
        }
        Ok(())
    }

    async fn row(&self, plan: &Plan, way: &Way, calm: f64, asked: f64) -> Result<Row> {
        self.gateway.forget_peak()?;
        let (mut before, mut during, mut all_heard) = (Vec::new(), Vec::new(), Vec::new());
        for _ in 0..plan.alternations {
            // A stream without a leader has nothing to be calm with.
            let noise = (!way.is_leaderless).then(|| self.noise(plan, Kind::Plain, CALM_CONNECTIONS, calm));
            before.push(self.phase(plan, noise, calm).await?.0);
            let noise = self.noise(plan, way.kind, CONNECTIONS, asked);
            let used = self.used()?;
            let (paced, heard) = self.phase(plan, Some(noise), calm).await?;
            self.show_used(&used, &paced)?;
            during.push(paced);
            all_heard.extend(heard);
            if way.is_leaderless {
                // What it left in the gateway waits for its deadline.
                tokio::time::sleep(BATCH_DEADLINE).await;
            }
            self.settle().await?;
        }
        let peak = self.gateway.resident_bytes_peak()?;
        let memory = Memory { idle: self.idle_bytes, peak, budget: BYTES_MAX as u64 };
        Ok(Row { name: way.name, before, during, asked_per_second: asked, heard: all_heard, memory })
    }

    /// The other 19's load, beside this noise.
    async fn phase(&self, plan: &Plan, noise: Option<Noise>, calm: f64) -> Result<(Paced, Option<Heard>)> {
        let client = match noise {
            Some(noise) => Some(Child::start(&Order::Noise(noise)).await?),
            None => None,
        };
        let paced = tokio::task::block_in_place(|| self.offer(plan.phase, calm * QUIET as f64))?;
        let heard = match client {
            Some(client) => Some(heard(client, MARGIN).await?),
            None => None,
        };
        Ok((paced, heard))
    }

    fn noise(&self, plan: &Plan, kind: Kind, connections: usize, per_second: f64) -> Noise {
        Noise {
            door: self.door,
            kind,
            shown: self.shown.clone(),
            streams: self.configs.last().map(|config| config.spec.id.to_string()).into_iter().collect(),
            connections,
            per_second: Some(per_second),
            lasting: plan.phase + MARGIN,
            group: self.quota.as_ref().map(|quota| quota.dir().to_owned()),
            core: Some(self.cores.0),
        }
    }

    /// Offers requests of the other 19 in turn.
    fn offer(&self, offered: Duration, per_second: f64) -> Result<Paced> {
        let paths: Vec<String> = self.configs[..QUIET].iter().map(lanes::path).collect();
        let mut body = Vec::new();
        let mut lines = Lines::new(RECORD_BYTES, 0);
        (0..RECORDS).for_each(|_| lines.push(&mut body, SystemClock.now_ms()));
        let connect = || {
            place::pin(self.cores.1)?;
            place::go_before_others();
            Ok(Client::new(self.door))
        };
        let send = |client: &mut Client, request: u64| {
            let path = &paths[request as usize % paths.len()];
            // A connection that broke is a refusal too.
            let answer = client.exchange("POST", path, &[("authorization", &self.shown)], &body);
            Ok(answer.is_ok_and(|answer| answer.status == 200))
        };
        pace::offer(QUIET * CALM_CONNECTIONS, per_second, offered, connect, send)
    }

    /// CPU of ours so far: gateway, admin, journal.
    fn used(&self) -> Result<Vec<Duration>> {
        [&self.gateway, self.stage.admin()].into_iter().chain(&self.roles).map(Child::cpu).collect()
    }

    /// Shows how many cores each of ours had since `before`, for who looks for what a noise costs.
    fn show_used(&self, before: &[Duration], paced: &Paced) -> Result<()> {
        let names = ["gateway", "admin", "journal"];
        let cores = |(now, before): (&Duration, &Duration)| (*now - *before).as_secs_f64() / paced.wall.as_secs_f64();
        let now = self.used()?;
        let shown =
            names.iter().zip(now.iter().zip(before).map(cores)).map(|(name, cores)| format!("{name} {cores:.2}"));
        eprintln!("   cores: {}", shown.collect::<Vec<_>>().join(", "));
        Ok(())
    }

    /// Waits until gateway and journal rest.
    async fn settle(&self) -> Result<()> {
        let deadline = Instant::now() + SETTLED;
        let used = || self.roles.iter().chain([&self.gateway]).map(Child::cpu).sum::<Result<Duration>>();
        let mut last = used()?;
        while Instant::now() < deadline {
            tokio::time::sleep(REST).await;
            let now = used()?;
            if now.saturating_sub(last) < REST / 10 {
                break;
            }
            last = now;
        }
        Ok(())
    }

    /// Waits until every other stream takes records again.
    fn others_are_led(&self) -> Result<()> {
        poll::until("the other streams are led", LED_WITHIN, || {
            let paced = self.offer(Duration::from_secs(1), 10.0 * QUIET as f64)?;
            ensure!(paced.refused == 0, "{} refused", paced.refused);
            let slowest = paced.delays_us.last().copied().unwrap_or_default();
            ensure!(slowest < 500_000, "one took {slowest} us");
            Ok(Some(()))
        })
    }
}

async fn create(stage: &Stage) -> Result<Vec<StreamConfig>> {
    let mut configs = Vec::new();
    for number in 0..STREAMS {
        let mut spec = StreamSpec::new(format!("bench.isolation.s{number}").parse()?);
        (spec.limits.retention_bytes, spec.limits.retention_waits) = (RETENTION_BYTES, false);
        configs.push(stage.create(&spec).await?);
    }
    Ok(configs)
}

/// Makes the noisy stream's topic, of one copy, and then, as admin would, whatever is missing. Answers which broker
/// leads the noisy one's.
async fn make_topics(clusters: &Clusters, journal: &str, configs: &[StreamConfig]) -> Result<i32> {
    let cluster = Cluster::new(&clusters.normal_bootstrap())?;
    let noisy = configs.last().context("no stream")?;
    let topic = noisy.topic_key().replace('@', ".");
    let wanted = Wanted { topic: topic.clone(), partitions: 1, replication: 1, settings: Default::default() };
    kafka::topics::ensure(&cluster, &[wanted]).await?;
    let streams = configs.iter().map(|config| (config.spec.id.clone(), config.clone())).collect();
    let prepared =
        AnyJournal::connect(journal)?.prepare(&Snapshot { version: 1, streams, ..Snapshot::default() }).await;
    ensure!(prepared.is_ok(), "making topics: {prepared:?}");
    Ok(cluster.leader(&topic, 0).await?.broker)
}

/// What a noisy client heard, once it has ended: at the latest so long after its `left`.
async fn heard(client: Child, left: Duration) -> Result<Heard> {
    let words = client.last_words(left + ENDED_WITHIN).await?;
    serde_json::from_str(&words).with_context(|| format!("a noisy client said {words:?}"))
}
