//! Breaks: how long an agent's records stand still when its gateway is killed (`isolane up` starts it anew), is drained, or
//! is gone behind a connection that says nothing. A line every few milliseconds carries the moment of its making; a
//! reader of the journal notes when those come that were made after the break.

use std::fs::File;
use std::io::Write;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use harness::deployment::Deployment;
use harness::proxy::{Fault, Proxy};
use harness::roles::{Extra, Roles};
use harness::{killer, poll};
use journal::{Journal, JournalClient, Topic};
use rand::SeedableRng;
use rand::rngs::ChaCha8Rng;
use serde_json::json;
use stream::clock::{Clock, SystemClock};
use stream::config::StreamConfig;
use stream::facts::{Place, Position};
use tokio::task::JoinHandle;

use super::Plan;
use crate::report::{Break, Report};

const STREAM: &str = "bench.breaks.tailed";
/// Between two lines.
const LINE_EVERY: Duration = Duration::from_millis(5);
/// How long the records may stand still at most.
const AGAIN: Duration = Duration::from_secs(60);
/// How long all is well between two breaks.
const CALM: Duration = Duration::from_secs(2);

/// Runs the case.
pub async fn run(plan: &Plan, report: &mut Report) -> Result<()> {
    let times = if plan.quick { 2 } else { 10 };
    eprintln!("== breaks");
    let scratch = tempfile::tempdir_in(&plan.dir)?;
    let kills = tokio::task::block_in_place(|| kills(&scratch.path().join("up"), times))?;
    report.add_break(Break { name: "gateway killed, started anew by `up`", waits_ms: kills });
    let dir = scratch.path().join("roles");
    let (drains, silences) = tokio::task::block_in_place(|| drains_and_silences(&dir, times))?;
    report.add_break(Break { name: "gateway drained and started anew", waits_ms: drains });
    report.add_break(Break { name: "connection half-open, the next one good", waits_ms: silences });
    Ok(())
}

fn kills(dir: &Path, times: usize) -> Result<Vec<i64>> {
    let deployment = Deployment::start_bare(dir)?;
    let lines = Lines::start(dir.join("tailed.log"))?;
    deployment.create_stream(&spec(&lines))?;
    let config = deployment.api("GET", &format!("/api/v1/streams/{STREAM}"), None)?;
    let appended = Appended::start(&address(&dir.join("run/gateway.toml"))?, &serde_json::from_slice(&config.body)?)?;
    let mut dice = ChaCha8Rng::seed_from_u64(1);
    appended.waits(times, || {
        let killed = killer::kill_one(deployment.pid()?, "gateway", &mut dice)?;
        killed.map(drop).context("there is no gateway to kill")
    })
}

fn drains_and_silences(dir: &Path, times: usize) -> Result<(Vec<i64>, Vec<i64>)> {
    let mut proxy = None;
    let mut through = |grpc: SocketAddr| {
        let started = Proxy::start(grpc)?;
        let url = format!("http://{}", started.address);
        proxy = Some(started);
        Ok(url)
    };
    let extra = Extra { gateway: "", agent: "", agent_to: &mut through };
    let mut roles = Roles::start(dir, extra)?;
    let proxy = proxy.context("no proxy")?;
    let lines = Lines::start(dir.join("tailed.log"))?;
    let created = roles.api("POST", "/api/v1/streams", &spec(&lines).to_string())?;
    ensure!(created.status == 201, "{}", String::from_utf8_lossy(&created.body));
    let config = roles.api("GET", &format!("/api/v1/streams/{STREAM}"), "")?;
    let appended = Appended::start(&address(&dir.join("gateway.toml"))?, &serde_json::from_slice(&config.body)?)?;
    let drains = appended.waits(times, || roles.restart("gateway"))?;
    let silences = appended.waits(times.div_ceil(3), || {
        proxy.set(Fault::Abandon);
        Ok(())
    })?;
    Ok((drains, silences))
}

fn spec(lines: &Lines) -> serde_json::Value {
    json!({"id": STREAM, "inputs": [{"kind": "file", "paths": [lines.path]}]})
}

/// The journal that a gateway's configuration names.
fn address(config: &Path) -> Result<String> {
    let text = std::fs::read_to_string(config)?;
    let named = text.lines().find_map(|line| line.strip_prefix("journal = \"")?.strip_suffix('"'));
    named.map(str::to_owned).context("the gateway's configuration names no journal")
}

/// A file that grows for as long as this lives.
struct Lines {
    path: PathBuf,
    ended: Arc<AtomicBool>,
}

impl Lines {
    fn start(path: PathBuf) -> Result<Self> {
        let mut file = File::create(&path)?;
        let ended = Arc::new(AtomicBool::new(false));
        let end = Arc::clone(&ended);
        thread::spawn(move || {
            while !end.load(Ordering::Relaxed) && writeln!(file, "{}", SystemClock.now_ms()).is_ok() {
                thread::sleep(LINE_EVERY);
            }
        });
        Ok(Self { path, ended })
    }
}

impl Drop for Lines {
    fn drop(&mut self) {
        self.ended.store(true, Ordering::Relaxed);
    }
}

/// When records were made and appended, in ms since 1970.
struct Appended {
    seen: Arc<Mutex<Vec<(i64, i64)>>>,
    reading: JoinHandle<()>,
}

impl Appended {
    fn start(journal: &str, config: &StreamConfig) -> Result<Self> {
        let client = JournalClient::connect(journal.to_owned())?;
        let seen: Arc<Mutex<Vec<(i64, i64)>>> = Arc::default();
        let (noted, topic) = (Arc::clone(&seen), Topic::of(config));
        let reading = tokio::spawn(async move {
            let mut reader = client.read(&topic, Position::at(Place { cluster: 0, partition: 0 }, 0));
            loop {
                // After a refusal the reader goes on by itself.
                let Ok(chunk) = reader.next().await else { continue };
                let mut noted = noted.lock().unwrap_or_else(PoisonError::into_inner);
                for entry in chunk.entries {
                    let made = entry.batch.views().filter_map(|view| str::from_utf8(view.body).ok()?.parse().ok());
                    noted.extend(made.map(|made: i64| (made, entry.append_time_ms)));
                }
            }
        });
        Ok(Self { seen, reading })
    }

    /// Breaks so often; answers how long after each the first record was appended that was made after it.
    fn waits(&self, times: usize, mut breaks: impl FnMut() -> Result<()>) -> Result<Vec<i64>> {
        let mut waits = Vec::new();
        for _ in 0..times {
            thread::sleep(CALM);
            self.next_after(SystemClock.now_ms())?;
            let at = SystemClock.now_ms();
            breaks()?;
            waits.push(self.next_after(at)? - at);
        }
        Ok(waits)
    }

    /// When the first record was appended that was made after `at`.
    fn next_after(&self, at: i64) -> Result<i64> {
        poll::until("records flow", AGAIN, || {
            let seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
            Ok(seen.iter().filter(|(made, _)| *made > at).map(|(_, appended)| *appended).min())
        })
    }
}

impl Drop for Appended {
    fn drop(&mut self) {
        self.reading.abort();
    }
}
