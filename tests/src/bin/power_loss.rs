//! Power loss under load: the filesystem below a deployment loses everything that was not synced, again and again; then a
//! fault-free end that drains and counts. Producers, the files that are tailed and the oracle stand on another disk.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use clap::Parser;
use harness::deployment::Deployment;
use harness::load::{Load, Producer};
use harness::oracle::Verdict;
use harness::power::{self, LossyDisk, Unsynced};
use harness::{parquet_rows, poll};
use rand::rngs::ChaCha8Rng;
use rand::{RngExt, SeedableRng};
use serde_json::{Value, json};

/// Takes the disk's power away under load and counts what comes out. Needs root, for a loop mount.
#[derive(Parser)]
struct Args {
    /// Power losses.
    #[arg(long, default_value_t = 5)]
    cycles: u64,
    /// Chooses their moments.
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// Streams; every second one is fed over HTTP, the others by files.
    #[arg(long, default_value_t = 6)]
    streams: u32,
    /// Records a second, all streams together.
    #[arg(long, default_value_t = 4_000)]
    rate: u64,
    /// Keep the image, the tailed files and the output here.
    #[arg(long)]
    keep: Option<PathBuf>,
}

const COMMITTED: Duration = Duration::from_secs(90);
const DRAINED: Duration = Duration::from_secs(180);
const LINE_BYTES: usize = 120;
/// Lines in a file before it is rotated.
const ROTATE_RECORDS: u64 = 10_000;
/// Longest flow of load between a fresh commit and the loss.
const FLOW_MS_MAX: u64 = 1500;
/// Longest life of the processes on the dead disk: none may acknowledge there.
const DEAD_DISK_MS_MAX: u64 = 400;

/// Fields in the order in which they must be dropped: processes before the disk that they use.
struct Run {
    deployment: Deployment,
    disk: LossyDisk,
    load: Load,
    dice: ChaCha8Rng,
    streams: Vec<String>,
    delivered: u64,
    lost_unacknowledged: u64,
    controls: BTreeMap<Unsynced, u64>,
}

fn main() -> Result<()> {
    let args = Args::parse();
    power::enter_own_mounts()?;
    let scratch = tempfile::tempdir()?;
    let began = Instant::now();
    let dir = args.keep.as_deref().unwrap_or(scratch.path());
    let mut run = Run::start(&args, dir)?;
    for cycle in 0..args.cycles {
        run.lose_power().with_context(|| format!("power loss {cycle}"))?;
        eprintln!("power loss {cycle}: {} records offered, {} delivered before it", run.load.records(), run.delivered);
    }
    run.wait_committed().context("after the last power loss")?;
    let verdict = run.finish()?;
    println!("power losses: {}, {} with requests unacknowledged", args.cycles, run.lost_unacknowledged);
    println!("files not synced before them: {:?}", run.controls);
    println!("{verdict}");
    println!("{} s in all", began.elapsed().as_secs());
    run.check_losses(args.cycles)?;
    verdict.exactly_once(args.cycles * args.rate)?;
    run.verify_ledgers()?;
    println!("power loss passed: 0 lost, 0 doubled, the ledger's files verify");
    Ok(())
}

impl Run {
    fn start(args: &Args, scratch: &Path) -> Result<Self> {
        let disk = LossyDisk::make(scratch)?;
        let deployment = Deployment::start_bare(&disk.path().join("data"))?;
        let streams: Vec<String> = (0..args.streams).map(|n| format!("power.load.s{n}")).collect();
        let dice = ChaCha8Rng::seed_from_u64(args.seed);
        let (load, controls) = (Load::default(), BTreeMap::new());
        let mut run = Self { deployment, disk, load, dice, streams, delivered: 0, lost_unacknowledged: 0, controls };
        run.offer(args, &scratch.join("logs"))?;
        Ok(run)
    }

    fn offer(&mut self, args: &Args, logs: &Path) -> Result<()> {
        fs::create_dir_all(logs)?;
        for (number, stream) in (0..).zip(&self.streams) {
            let rate = args.rate / u64::from(args.streams);
            let records = u64::MAX / 2;
            let producer = Producer { stream: stream.clone(), number, rate, line_bytes: LINE_BYTES, records };
            let path = logs.join(format!("{stream}.log"));
            let tailed = number % 2 == 0;
            let inputs = if tailed { json!([{"kind": "file", "paths": [path]}]) } else { json!([]) };
            let spec = json!({"id": stream, "inputs": inputs, "limits": {"checkpoint_ms": 1000}});
            self.deployment.create_stream(&spec)?;
            if tailed {
                self.load.write_file(producer, path, ROTATE_RECORDS);
            } else {
                self.load.post(producer, self.deployment.http);
            }
        }
        Ok(())
    }

    /// One loss, some time after a commit, in most cases while a request waits for its answer.
    fn lose_power(&mut self) -> Result<()> {
        self.wait_committed()?;
        let flow = Duration::from_millis(self.dice.random_range(0..FLOW_MS_MAX));
        let (load, mut unacknowledged) = (&self.load, 0);
        self.disk.lose_power(|| {
            pass(flow);
            load.wait_until_unacknowledged();
            unacknowledged = load.unacknowledged_requests();
            load.power_goes();
        })?;
        load.power_went();
        self.lost_unacknowledged += u64::from(unacknowledged > 0);
        pass(Duration::from_millis(self.dice.random_range(0..DEAD_DISK_MS_MAX)));
        self.deployment.kill()?;
        *self.controls.entry(self.disk.restore()?).or_default() += 1;
        self.load.power_is_back();
        self.deployment.start()
    }

    /// Waits until the ledger shows records delivered since the last look. What it showed once must stay.
    fn wait_committed(&mut self) -> Result<()> {
        let before = self.delivered;
        self.delivered = poll::until("a commit", COMMITTED, || {
            let now = self.delivered_now()?;
            ensure!(now > before, "{now} delivered, {before} before");
            Ok(Some(now))
        })?;
        Ok(())
    }

    fn delivered_now(&self) -> Result<u64> {
        let delivered = |stream: &String| {
            let ledger = self.deployment.ledger(stream)?;
            let delivered = ledger.pointer("/legs/0/fates/delivered").and_then(Value::as_u64);
            delivered.with_context(|| format!("the ledger of {stream} says no delivered: {ledger}"))
        };
        self.streams.iter().map(delivered).sum()
    }

    /// The fault-free end: the load ends, everything drains.
    fn finish(&mut self) -> Result<Verdict> {
        self.load.end()?;
        let expected = self.load.oracle().verdict().acknowledged;
        let drained = poll::until("everything drained", DRAINED, || {
            let delivered = self.delivered_now()?;
            ensure!(delivered >= expected, "{delivered} of {expected} delivered");
            Ok(Some(()))
        });
        let verdict = self.count()?;
        match drained {
            Ok(()) => Ok(verdict),
            Err(error) => bail!("{error:#}; the oracle says: {verdict}"),
        }
    }

    fn count(&self) -> Result<Verdict> {
        let mut oracle = self.load.oracle();
        for stream in &self.streams {
            for file in parquet_rows::published(&self.deployment.out(stream))? {
                parquet_rows::each_text(&file, "line", |line| oracle.saw(stream, line))?;
            }
        }
        Ok(oracle.verdict())
    }

    /// A run in which nothing was lost proves nothing.
    fn check_losses(&self, cycles: u64) -> Result<()> {
        let survived = self.controls.get(&Unsynced::Survived).copied().unwrap_or(0);
        ensure!(
            survived < cycles,
            "the file that was not synced survived all {cycles} shutdowns: they are no power losses on this machine"
        );
        ensure!(
            self.lost_unacknowledged * 2 >= cycles,
            "only {} of {cycles} power losses met requests unacknowledged",
            self.lost_unacknowledged
        );
        Ok(())
    }

    fn verify_ledgers(&self) -> Result<()> {
        for stream in &self.streams {
            let verified = self.deployment.verb(&["ledger", stream, "--verify"])?;
            ensure!(verified.status.success(), "ledger --verify: {}", String::from_utf8_lossy(&verified.stdout));
        }
        Ok(())
    }
}

/// Lets time pass on purpose: the load flows, or the processes live on a dead disk.
fn pass(time: Duration) {
    std::thread::sleep(time);
}
