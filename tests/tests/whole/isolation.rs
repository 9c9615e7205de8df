//! What the others notice of a stream that surges over many connections, and of one that sends poison and bombs: counted
//! in refusals, bytes and records, not in time. A gateway with little memory takes it all, so that a bound which does not
//! hold is seen.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use harness::deployment::Deployment;
use harness::gateway::Gateway;
use harness::http::Client;
use harness::identity::Identity;
use harness::oracle::Oracle;
use harness::{parquet_rows, poison, poll};
use serde_json::json;

const NOISY: &str = "test.isolation.noisy";
const OTHERS: [&str; 4] =
    ["test.isolation.first", "test.isolation.second", "test.isolation.third", "test.isolation.fourth"];
/// What the gateway may hold of all streams together, as its configuration says it.
const MEMORY_BYTES_MAX: u64 = 32 << 20;
/// What it holds in all: what it does when nothing flows, its budget, and a tenth of that.
const MARGIN: f64 = 1.1;
/// Requests of each other stream, ten records in each, and the pause behind one.
const REQUESTS_MIN: u64 = 50;
const RECORDS: u64 = 10;
const PAUSE: Duration = Duration::from_millis(20);
const LINE_BYTES: usize = 200;
/// No answer came.
const HUNG_UP: u16 = 0;
const DELIVERED: Duration = Duration::from_secs(60);
/// How long a surging client goes on trying.
const TAKEN: Duration = Duration::from_secs(60);

/// A deployment, a gateway with little memory, the streams, and what was sent.
struct Ground {
    deployment: Deployment,
    gateway: Gateway,
    idle_bytes: u64,
    oracle: Mutex<Oracle>,
    refused: Mutex<Vec<String>>,
    _scratch: tempfile::TempDir,
}

impl Ground {
    fn start() -> Result<Self> {
        let scratch = tempfile::tempdir()?;
        let deployment = Deployment::start_bare(&scratch.path().join("data"))?;
        for stream in OTHERS.into_iter().chain([NOISY]) {
            // A queue of one batch for each: 128 connections have more to say than that.
            let limits = json!({"checkpoint_ms": 500, "queue_bytes_max": 1 << 20});
            deployment.create_stream(&json!({"id": stream, "limits": limits}))?;
        }
        let gateway = Gateway::start(&deployment, &format!("memory_bytes_max = {MEMORY_BYTES_MAX}"))?;
        let ground = Self {
            deployment,
            gateway,
            idle_bytes: 0,
            oracle: Mutex::default(),
            refused: Mutex::default(),
            _scratch: scratch,
        };
        for stream in OTHERS.into_iter().chain([NOISY]) {
            poll::until(&format!("{stream} is known"), TAKEN, || {
                // Refused for its records once the stream is there.
                Ok((ground.post(&mut ground.client(), stream, "first", b"")?.0 == 400).then_some(()))
            })?;
        }
        let idle_bytes = ground.gateway.resident_bytes()?.0;
        Ok(Self { idle_bytes, ..ground })
    }

    fn client(&self) -> Client {
        Client::new(self.gateway.http)
    }

    fn post(&self, client: &mut Client, stream: &str, key: &str, body: &[u8]) -> Result<(u16, String)> {
        let path = format!("/v1/streams/{stream}/records");
        let answer = client.exchange("POST", &path, &[("idempotency-key", key)], body)?;
        Ok((answer.status, String::from_utf8_lossy(&answer.body).into_owned()))
    }

    /// Runs `noise` beside a client of each other stream. What is refused of theirs is noted.
    fn beside_the_others(&self, noise: impl FnOnce() -> Result<()>) -> Result<()> {
        let over = AtomicBool::new(false);
        thread::scope(|scope| {
            let over = &over;
            let others = OTHERS.map(|stream| scope.spawn(move || self.send_calmly(stream, over)));
            let ended = noise();
            over.store(true, Ordering::SeqCst);
            others.into_iter().try_for_each(joined)?;
            ended
        })
    }

    /// A request after the other, each once, until the noise is over.
    fn send_calmly(&self, stream: &str, over: &AtomicBool) -> Result<()> {
        let mut client = self.client();
        for request in 0_u64.. {
            if request >= REQUESTS_MIN && over.load(Ordering::SeqCst) {
                break;
            }
            let records = request * RECORDS..(request + 1) * RECORDS;
            let (status, said) = self.post(&mut client, stream, &request.to_string(), &lines(stream, 0, &records))?;
            if status == 200 {
                self.acknowledged(stream, 0, records);
            } else {
                self.refused.lock().unwrap_or_else(PoisonError::into_inner).push(format!("{stream}: {status} {said}"));
            }
            thread::sleep(PAUSE);
        }
        Ok(())
    }

    fn acknowledged(&self, stream: &str, producer: u32, records: std::ops::Range<u64>) {
        let mut oracle = self.oracle.lock().unwrap_or_else(PoisonError::into_inner);
        records.for_each(|sequence| oracle.offered(stream, producer, sequence, true));
    }

    /// None of the others' requests was refused; memory stayed within its bound; what was acknowledged came out once.
    fn nobody_noticed(&self, streams: &[&str]) -> Result<()> {
        let refused = self.refused.lock().unwrap_or_else(PoisonError::into_inner);
        ensure!(refused.is_empty(), "{} requests of the others were refused: {:?}", refused.len(), refused.first());
        let (_, peak) = self.gateway.resident_bytes()?;
        let allowed = self.idle_bytes + (MARGIN * MEMORY_BYTES_MAX as f64) as u64;
        ensure!(peak <= allowed, "the gateway held {peak} bytes, {allowed} are allowed, {} idle", self.idle_bytes);
        poll::until("what was acknowledged came out once", DELIVERED, || {
            let mut oracle = self.oracle.lock().unwrap_or_else(PoisonError::into_inner);
            oracle.forget_seen();
            for stream in streams {
                for file in parquet_rows::published(&self.deployment.out(stream))? {
                    parquet_rows::each_text(&file, "line", |line| oracle.saw(stream, line))?;
                }
            }
            oracle.verdict().exactly_once(REQUESTS_MIN * RECORDS * OTHERS.len() as u64)?;
            Ok(Some(()))
        })
    }
}

fn lines(stream: &str, producer: u32, records: &std::ops::Range<u64>) -> Vec<u8> {
    let line = |sequence| Identity { stream: stream.to_owned(), producer, sequence }.line(LINE_BYTES) + "\n";
    records.clone().map(line).collect::<String>().into_bytes()
}

fn joined(client: thread::ScopedJoinHandle<'_, Result<()>>) -> Result<()> {
    client.join().unwrap_or_else(|_| bail!("a client panicked"))
}

/// Runs `client` on a thread for each connection; answers what each of them counted, by status.
fn over_connections(
    connections: u32,
    client: impl Fn(u32, &Mutex<BTreeMap<u16, u64>>) -> Result<()> + Sync,
) -> Result<BTreeMap<u16, u64>> {
    let counts = Mutex::default();
    thread::scope(|scope| {
        let (client, counts) = (&client, &counts);
        let clients: Vec<_> = (0..connections).map(|number| scope.spawn(move || client(number, counts))).collect();
        clients.into_iter().try_for_each(joined)
    })?;
    Ok(counts.into_inner().unwrap_or_else(PoisonError::into_inner))
}

fn count(counts: &Mutex<BTreeMap<u16, u64>>, status: u16) {
    *counts.lock().unwrap_or_else(PoisonError::into_inner).entry(status).or_default() += 1;
}

#[test]
fn a_surge_over_128_connections_is_refused_in_part_and_noticed_by_nobody_else() -> Result<()> {
    const CONNECTIONS: u32 = 128;
    const REQUESTS: u64 = 3;
    const RECORDS: u64 = 100;
    let ground = Ground::start()?;
    let surge = |connection: u32, counts: &Mutex<BTreeMap<u16, u64>>| {
        let (mut client, deadline) = (ground.client(), Instant::now() + TAKEN);
        for request in 0..REQUESTS {
            let records = request * RECORDS..(request + 1) * RECORDS;
            let (key, body) = (format!("{connection}-{request}"), lines(NOISY, connection, &records));
            loop {
                let (status, said) = ground.post(&mut client, NOISY, &key, &body)?;
                count(counts, status);
                match status {
                    200 => break,
                    429 => ensure!(Instant::now() < deadline, "refused to the end: {said}"),
                    _ => bail!("{status} {said}"),
                }
                thread::sleep(PAUSE);
            }
            ground.acknowledged(NOISY, connection, records);
        }
        Ok(())
    };
    ground.beside_the_others(|| {
        let counts = over_connections(CONNECTIONS, surge)?;
        ensure!(counts.contains_key(&429), "there was no surge: {counts:?}");
        Ok(())
    })?;
    ground.nobody_noticed(&[&OTHERS[..], &[NOISY]].concat())
}

#[test]
fn poison_and_bombs_are_refused_and_noticed_by_nobody_else() -> Result<()> {
    const CONNECTIONS: u32 = 32;
    const ROUNDS: usize = 3;
    let ground = Ground::start()?;
    let door = ground.gateway.http;
    let (broken, giant) = (poison::broken()?, poison::giant()?);
    let requests: Vec<Vec<u8>> = broken.iter().chain(&giant).map(|request| request.to_bytes(door, NOISY)).collect();
    let send = |connection: u32, counts: &Mutex<BTreeMap<u16, u64>>| {
        let mut client = ground.client();
        for number in 0..ROUNDS * requests.len() {
            let at = (number + connection as usize) % requests.len();
            // A door that has refused does not read on for ever: some are hung up on before they have sent all.
            let status = client.send(&requests[at]).map_or(HUNG_UP, |answer| answer.status);
            let may_be_taken = at >= broken.len();
            ensure!(status == HUNG_UP || may_be_taken || (400..500).contains(&status), "{}: {status}", broken[at].name);
            count(counts, status);
        }
        Ok(())
    };
    let (mut taken, mut unknown) = (0, 0);
    ground.beside_the_others(|| {
        let counts = over_connections(CONNECTIONS, send)?;
        ensure!(counts.keys().all(|status| [HUNG_UP, 200, 400, 413, 415, 429].contains(status)), "{counts:?}");
        [taken, unknown] = [200, HUNG_UP].map(|status| counts.get(&status).copied().unwrap_or_default());
        Ok(())
    })?;
    // What was refused holds no room: in the end the stream itself has all that it had.
    let line = giant.first().context("no request")?.to_bytes(door, NOISY);
    poll::until("a line at the limit is taken", TAKEN, || {
        let answer = ground.client().send(&line)?;
        ensure!(answer.status == 200, "{}", answer.status);
        Ok(Some(()))
    })?;
    taken += 1;
    ground.nobody_noticed(&OTHERS)?;
    poll::until("the lines that were taken", DELIVERED, || {
        let rows = parquet_rows::rows(&ground.deployment.out(NOISY))?;
        ensure!((taken..=taken + unknown).contains(&rows), "{rows} rows of {taken}, or {unknown} more");
        Ok(Some(()))
    })
}
