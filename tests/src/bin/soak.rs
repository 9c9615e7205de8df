//! The soak: offered load that is never paused, processes killed at random by a seed, every named crash point and one
//! more kill during its recovery, then a fault-free end that drains, passes a fresh record a stream, and counts.
//!
//! With `--journal kafka` the journal is a real Kafka of three brokers and a failover cluster, every stream delivers to
//! Parquet and to a topic, and brokers are killed and restarted too.

use std::collections::BTreeMap;
use std::fs;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use clap::Parser;
use harness::deployment::Deployment;
use harness::kafka::Clusters;
use harness::killer::{self, KINDS};
use harness::load::{Load, Producer};
use harness::oracle::Verdict;
use harness::{parquet_rows, poll, topic};
use rand::rngs::ChaCha8Rng;
use rand::seq::SliceRandom;
use rand::{RngExt, SeedableRng};
use serde_json::{Value, json};

/// Kills processes under load and counts what comes out.
#[derive(Parser)]
struct Args {
    /// Kills of processes at random times.
    #[arg(long, default_value_t = 100)]
    kills: usize,
    /// Chooses what is killed when.
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// Least number of records offered. Default: 20,000 a kill.
    #[arg(long)]
    records: Option<u64>,
    /// Streams; every second one is fed over HTTP, the others by files.
    #[arg(long, default_value_t = 10)]
    streams: u32,
    /// Records a second, all streams together.
    #[arg(long, default_value_t = 12_000)]
    rate: u64,
    /// Keep acknowledged records in the embedded log or in Kafka.
    #[arg(long, value_enum, default_value_t = JournalKind::Embedded)]
    journal: JournalKind,
    /// Leave out the named crash points.
    #[arg(long)]
    no_crash_points: bool,
    /// Keep the data directory.
    #[arg(long)]
    keep: Option<PathBuf>,
}

#[derive(Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
enum JournalKind {
    Embedded,
    Kafka,
}

/// What order a stream keeps.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Order {
    Source,
    Key,
}

impl Order {
    /// What tells the key in a line: its padding, one of 26.
    fn key_of(self) -> fn(&str) -> &str {
        match self {
            Order::Source => |_| "",
            Order::Key => |line| line.splitn(5, ' ').nth(4).unwrap_or(""),
        }
    }
}

/// The kind of a broker among what is killed.
const BROKER: &str = "broker";
/// The brokers that are killed: with two of three in sync an append is acknowledged.
const BROKERS: [&str; 3] = ["normal-1", "normal-2", "normal-3"];
/// Two legs: every record as it is, to files and to a topic.
const TWO_SINKS: &str = "CREATE TABLE records (line STRING) WITH ('format' = 'raw'); \
    INSERT INTO files SELECT line FROM records; INSERT INTO topic SELECT line FROM records;";
const BACK: Duration = Duration::from_secs(60);
const DRAINED: Duration = Duration::from_secs(300);
const POINT: Duration = Duration::from_secs(90);
const LINE_BYTES: usize = 120;
/// Lines in a file before it is rotated.
const ROTATE_RECORDS: u64 = 20_000;

/// Fields in the order in which they must be dropped: processes before the clusters that they use.
struct Soak {
    deployment: Deployment,
    clusters: Option<Clusters>,
    load: Load,
    dice: ChaCha8Rng,
    streams: Vec<String>,
    /// Those that must stay in order.
    ordered: BTreeMap<String, Order>,
    killed: BTreeMap<&'static str, u64>,
    killed_unacknowledged: u64,
}

fn main() -> Result<()> {
    let args = Args::parse();
    let scratch = tempfile::tempdir()?;
    let dir = args.keep.clone().unwrap_or_else(|| scratch.path().to_owned());
    let began = Instant::now();
    let mut soak = Soak::start(&args, dir)?;
    soak.kill_at_random(args.kills)?;
    if !args.no_crash_points {
        soak.visit_crash_points()?;
    }
    let records = args.records.unwrap_or(args.kills as u64 * 20_000);
    poll::until("the offered records", BACK.max(Duration::from_secs(records / args.rate * 2)), || {
        ensure!(soak.load.records() >= records, "{} offered", soak.load.records());
        Ok(Some(()))
    })?;
    soak.roll_brokers()?;
    let verdict = soak.finish()?;
    println!("kills: {:?}, {} of them with requests unacknowledged", soak.killed, soak.killed_unacknowledged);
    println!("files: {verdict}");
    println!("{} s in all", began.elapsed().as_secs());
    soak.check_faults_fired(args.kills)?;
    verdict.exactly_once(records)?;
    if let Some(verdict) = soak.count_topics()? {
        println!("topics, read_committed: {verdict}");
        verdict.exactly_once(records)?;
    }
    soak.check_ledgers(&verdict)?;
    println!("soak passed: 0 lost, 0 doubled, the ledger agrees");
    Ok(())
}

impl Soak {
    fn start(args: &Args, dir: PathBuf) -> Result<Self> {
        let clusters = match args.journal {
            JournalKind::Embedded => None,
            JournalKind::Kafka => Some(Clusters::start(&dir.join("kafka"))?),
        };
        let mut deployment = Deployment::new(&dir, &["--no-first-stream"])?;
        if let Some(clusters) = &clusters {
            let journal = format!("kafka={};failover={}", clusters.normal_bootstrap(), clusters.failover_bootstrap());
            deployment = Deployment::new(&dir, &["--no-first-stream", "--journal", &journal])?;
        }
        deployment.start()?;
        let mut load = Load::default();
        let streams: Vec<String> = (0..args.streams).map(|n| format!("soak.load.s{n}")).collect();
        let logs = dir.join("logs");
        fs::create_dir_all(&logs)?;
        let mut ordered = BTreeMap::new();
        for (number, stream) in (0..).zip(&streams) {
            let producer = Producer {
                stream: stream.clone(),
                number,
                rate: args.rate / u64::from(args.streams),
                line_bytes: LINE_BYTES,
                records: u64::MAX / 2,
            };
            let path = logs.join(format!("{stream}.log"));
            let tailed = number % 2 == 0;
            let inputs = if tailed { json!([{"kind": "file", "paths": [path]}]) } else { json!([]) };
            let mut spec = json!({"id": stream, "inputs": inputs, "limits": {"checkpoint_ms": 1000}});
            if let Some(clusters) = &clusters {
                spec["partitions"] = json!(3);
                spec["compression"] = json!(["none", "lz4", "zstd"][number as usize % 3]);
                let order = tailed.then_some(if number % 4 == 0 { Order::Source } else { Order::Key });
                match order {
                    None => spec["order"] = json!("none"),
                    Some(Order::Source) => spec["order"] = json!("source"),
                    Some(Order::Key) => {
                        spec["order"] = json!("key");
                        spec["order_key"] = json!({"kind": "column", "number": 5, "by": " "});
                    }
                }
                ordered.extend(order.map(|order| (stream.clone(), order)));
                spec["sql"] = json!(TWO_SINKS);
                spec["sinks"] = json!([{"name": "files", "kind": "files"}, topic_sink(clusters, stream)]);
            }
            deployment.create_stream(&spec)?;
            if tailed {
                load.write_file(producer, path, ROTATE_RECORDS);
            } else {
                load.post(producer, deployment.http);
            }
        }
        let dice = ChaCha8Rng::seed_from_u64(args.seed);
        Ok(Self {
            deployment,
            clusters,
            load,
            dice,
            streams,
            ordered,
            killed: BTreeMap::new(),
            killed_unacknowledged: 0,
        })
    }

    /// Every kind in turn, in an order and at times that the seed chooses.
    fn kill_at_random(&mut self, kills: usize) -> Result<()> {
        let mut kinds: Vec<&'static str> = self.kinds().into_iter().cycle().take(kills).collect();
        kinds.shuffle(&mut self.dice);
        for (n, kind) in kinds.into_iter().enumerate() {
            let pause = Duration::from_millis(self.dice.random_range(200..2500));
            self.let_flow(pause);
            if kind != BROKER {
                self.wait_for(kind)?;
            }
            if n % 3 != 0 {
                self.load.wait_until_unacknowledged();
            }
            self.kill(kind).with_context(|| format!("kill {n}, of {kind}"))?;
            eprintln!("kill {n}: {kind}; {} records offered", self.load.records());
        }
        Ok(())
    }

    fn kill(&mut self, kind: &'static str) -> Result<()> {
        self.killed_unacknowledged += u64::from(self.load.unacknowledged_requests() > 0);
        *self.killed.entry(kind).or_default() += 1;
        if kind == "up" {
            self.deployment.kill()?;
            return self.deployment.start();
        }
        if let (BROKER, Some(clusters)) = (kind, &mut self.clusters) {
            let broker = BROKERS[self.dice.random_range(0..BROKERS.len())];
            clusters.kill(broker)?;
            return clusters.restart(broker);
        }
        let root = self.deployment.pid()?;
        killer::kill_one(root, kind, &mut self.dice)?.with_context(|| format!("no {kind} to kill"))?;
        Ok(())
    }

    /// What is killed in this run.
    fn kinds(&self) -> Vec<&'static str> {
        let on_kafka = self.clusters.is_some();
        let own = KINDS.iter().copied().filter(|kind| !on_kafka || *kind != "journal");
        own.chain(on_kafka.then_some(BROKER)).collect()
    }

    /// A rolling restart: every broker once, so that every partition changes its leader.
    fn roll_brokers(&mut self) -> Result<()> {
        let Some(clusters) = &mut self.clusters else { return Ok(()) };
        for broker in BROKERS {
            clusters.stop_cleanly(broker)?;
            clusters.restart(broker)?;
            eprintln!("rolling restart: {broker}; {} records offered", self.load.records());
        }
        Ok(())
    }

    /// Waits until a process of this kind lives.
    fn wait_for(&self, kind: &str) -> Result<()> {
        let root = self.deployment.pid()?;
        poll::until(&format!("a living {kind}"), BACK, || {
            Ok(killer::descendants(root).iter().any(|process| process.kind == kind).then_some(()))
        })
    }

    /// Lets the load flow for a while: the one place where time, not a condition, is waited for.
    fn let_flow(&self, time: Duration) {
        let until = Instant::now() + time;
        drop(poll::until("time", time + BACK, || Ok((Instant::now() >= until).then_some(()))));
    }

    /// Each named point aborts its process once; the process that takes its place is killed once more while it recovers.
    fn visit_crash_points(&mut self) -> Result<()> {
        let on_kafka = self.clusters.is_some();
        let own = stream::crash::POINTS.iter().filter(|point| !on_kafka || !point.starts_with("journal."));
        let kafka = stream::crash::KAFKA_POINTS.iter().filter(|_| on_kafka);
        for point in own.chain(kafka) {
            let kind = kind_of(point)?;
            self.wait_for(kind)?;
            let before: Vec<i32> = self.pids(kind)?;
            fs::write(self.deployment.crash_file(), point)?;
            let crash_file = self.deployment.crash_file();
            poll::until(&format!("crash point {point}"), POINT, || {
                self.provoke(point)?;
                Ok((!crash_file.exists()).then_some(()))
            })?;
            // One that is gone before the signal reaches it was the process that aborted: its successor is still to come.
            poll::until("its successor", BACK, || {
                let Some(fresh) = self.pids(kind)?.into_iter().find(|pid| !before.contains(pid)) else {
                    return Ok(None);
                };
                killer::signal(fresh, rustix::process::Signal::KILL).map(Some)
            })?;
            eprintln!("crash point {point}: reached, and {kind} killed once more while it recovered");
        }
        Ok(())
    }

    /// Some points need a change of configuration to be reached.
    fn provoke(&self, point: &str) -> Result<()> {
        if !matches!(point, "admin.stream.stored" | "agent.cut.synced") {
            return Ok(());
        }
        let path = format!("/api/v1/streams/{}", self.streams[0]);
        let Ok(answer) = self.deployment.api("GET", &path, None) else { return Ok(()) };
        let mut spec = answer.json()?["spec"].clone();
        let checkpoint_ms = spec["limits"]["checkpoint_ms"].as_u64().unwrap_or(1000);
        spec["limits"]["checkpoint_ms"] = json!(1000 + (checkpoint_ms + 1) % 10);
        // The answer is lost when the point is reached.
        drop(self.deployment.api("PUT", &path, Some(&spec)));
        Ok(())
    }

    fn pids(&self, kind: &str) -> Result<Vec<i32>> {
        let root = self.deployment.pid()?;
        Ok(killer::descendants(root).into_iter().filter(|p| p.kind == kind).map(|p| p.pid).collect())
    }

    /// The fault-free end: the load ends, a fresh record passes through every stream, everything drains.
    fn finish(&mut self) -> Result<Verdict> {
        self.load.end()?;
        let mut fresh = Load::default();
        for stream in &self.streams {
            let producer =
                Producer { stream: stream.clone(), number: 1_000_000, rate: 1, line_bytes: LINE_BYTES, records: 1 };
            fresh.post(producer, self.deployment.http);
        }
        poll::until("the fresh records' acknowledgement", DRAINED, || Ok(fresh.is_done().then_some(())))?;
        fresh.end()?;
        for stream in &self.streams {
            self.load.oracle().offered(stream, 1_000_000, 0, true);
        }
        let expected = self.load.oracle().verdict().acknowledged;
        let drained = poll::until("everything drained", DRAINED, || {
            for leg in 0..self.legs() {
                let delivered = self.delivered(leg)?;
                ensure!(delivered >= expected, "{delivered} of {expected} delivered by leg {leg}");
            }
            Ok(Some(()))
        });
        let verdict = self.count()?;
        match drained {
            Ok(()) => Ok(verdict),
            Err(error) => bail!("{error:#}; the oracle says: {verdict}"),
        }
    }

    /// Legs of each stream.
    fn legs(&self) -> usize {
        if self.clusters.is_some() { 2 } else { 1 }
    }

    fn delivered(&self, leg: usize) -> Result<u64> {
        let of = |stream: &String| leg_number(&self.deployment.ledger(stream)?, leg, "/fates/delivered");
        self.streams.iter().map(of).sum()
    }

    /// What came out of the topics, if there are any.
    fn count_topics(&mut self) -> Result<Option<Verdict>> {
        let Some(clusters) = &self.clusters else { return Ok(None) };
        let mut oracle = self.load.oracle();
        oracle.forget_seen();
        for stream in &self.streams {
            let rows = topic::committed(&clusters.normal_bootstrap(), &topic_of(stream))?;
            rows.iter().for_each(|row| oracle.saw(stream, &row.line));
            let Some(order) = self.ordered.get(stream) else { continue };
            topic::in_order(&rows, order.key_of()).with_context(|| format!("{stream} keeps its order"))?;
            if *order == Order::Key {
                let rows = topic::committed(&clusters.normal_bootstrap(), &self.deployment.journal_topic(stream)?)?;
                topic::keys_apart(&rows, order.key_of()).with_context(|| format!("the journal of {stream}"))?;
            }
        }
        Ok(Some(oracle.verdict()))
    }

    fn count(&mut self) -> Result<Verdict> {
        let mut oracle = self.load.oracle();
        oracle.forget_seen();
        for stream in &self.streams {
            for file in parquet_rows::published(&self.deployment.out(stream))? {
                parquet_rows::each_text(&file, "line", |line| oracle.saw(stream, line))?;
            }
        }
        Ok(oracle.verdict())
    }

    /// A run in which nothing broke proves nothing.
    fn check_faults_fired(&self, kills: usize) -> Result<()> {
        let total: u64 = self.killed.values().sum();
        ensure!(total == kills as u64, "{total} of {kills} kills fired");
        let kinds = self.kinds();
        let least = kills / kinds.len();
        for kind in kinds {
            let fired = self.killed.get(kind).copied().unwrap_or(0);
            ensure!(fired >= least as u64, "only {fired} kills of {kind}, {least} wanted");
        }
        ensure!(
            self.killed_unacknowledged * 2 >= total,
            "only {} kills met requests unacknowledged",
            self.killed_unacknowledged
        );
        Ok(())
    }

    /// The ledger must come to the oracle's numbers by its own way, and the files must verify.
    fn check_ledgers(&self, verdict: &Verdict) -> Result<()> {
        let mut sums = vec![(0, 0); self.legs()];
        for stream in &self.streams {
            let ledger = poll::until(&format!("the ledger of {stream}"), DRAINED, || {
                let ledger = self.deployment.ledger(stream)?;
                for leg in 0..self.legs() {
                    let open = leg_number(&ledger, leg, "/in_flight")? + leg_number(&ledger, leg, "/missing")?;
                    ensure!(open == 0, "{open} bytes open: {}", ledger["legs"]);
                }
                Ok(Some(ledger))
            })?;
            for (leg, (delivered, doubles)) in sums.iter_mut().enumerate() {
                *delivered += leg_number(&ledger, leg, "/fates/delivered")?;
                *doubles += leg_number(&ledger, leg, "/fates/doubles")?;
            }
            let verified = self.deployment.verb(&["ledger", stream, "--verify"])?;
            ensure!(verified.status.success(), "ledger --verify: {}", String::from_utf8_lossy(&verified.stdout));
        }
        for (leg, (delivered, doubles)) in sums.into_iter().enumerate() {
            println!("ledger, leg {leg}: {delivered} delivered, {doubles} doubles removed");
            ensure!(delivered == verdict.delivered, "the ledger says {delivered}, the oracle {}", verdict.delivered);
        }
        Ok(())
    }
}

/// The topic that a stream's second leg writes to.
fn topic_of(stream: &str) -> String {
    format!("out.{stream}")
}

fn topic_sink(clusters: &Clusters, stream: &str) -> Value {
    let brokers = clusters.normal_bootstrap();
    json!({"name": "topic", "kind": "kafka", "brokers": brokers, "topic": topic_of(stream), "partitions": 3,
        "format": "raw", "compression": "lz4"})
}

/// A number of one of the stream's legs.
fn leg_number(ledger: &Value, leg: usize, pointer: &str) -> Result<u64> {
    let leg = ledger["legs"].get(leg).context("the ledger has no such leg")?;
    leg.pointer(pointer).and_then(Value::as_u64).with_context(|| format!("the ledger has no {pointer}: {leg}"))
}

/// Which process reaches a crash point.
fn kind_of(point: &str) -> Result<&'static str> {
    match point.split('.').next() {
        Some("agent") => Ok("worker"),
        Some("gateway") => Ok("gateway"),
        Some("journal") => Ok("journal"),
        Some("sink" | "query" | "kafka") => Ok("query"),
        Some("admin") => Ok("admin"),
        _ => bail!("{point}: no process is known to reach it"),
    }
}
