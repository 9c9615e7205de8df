//! Clients that mean harm, or might as well: what they send is refused with a reason and counted, or their connection is
//! closed; the gateway's memory stays flat, and whoever sends meanwhile as one should is never refused.

mod requests;
mod slow;
mod floods;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use anyhow::{Result, anyhow, ensure};
use harness::deployment::Deployment;
use harness::http::Client;
use harness::observe::{Memory, Role};
use harness::poll;
use serde_json::json;

/// The stream that attacks aim at, and the one of well-meaning clients.
const TARGET: &str = "test.hostile.target";
const HEALTHY: &str = "test.hostile.healthy";
/// How long anything may take that is waited for.
const SOON: Duration = Duration::from_secs(60);
const REFUSED: &str = "isolane_gateway_refused_requests";

/// A deployment under attack, with a well-meaning client that never stops.
struct Scene {
    // Ends before what it talks to.
    healthy: Healthy,
    deployment: Deployment,
    gateway: Role,
    before: Memory,
    _scratch: tempfile::TempDir,
}

impl Scene {
    fn begin() -> Result<Self> {
        let scratch = tempfile::tempdir()?;
        let deployment = Deployment::start_bare(&scratch.path().join("data"))?;
        for id in [TARGET, HEALTHY] {
            deployment.create_stream(&json!({"id": id}))?;
            poll::until("the stream's queue", SOON, || {
                let answer = Client::new(deployment.http).exchange("POST", &path(id), &[], b"first\n")?;
                ensure!(answer.status == 200, "{}", answer.status);
                Ok(Some(()))
            })?;
        }
        let gateway = Role::of(&deployment, "gateway")?;
        let healthy = Healthy::start(&deployment);
        healthy.sends(20)?;
        Ok(Self { before: gateway.memory()?, deployment, gateway, healthy, _scratch: scratch })
    }

    /// Refused requests so far, for this reason.
    fn refused(&self, reason: &str) -> Result<u64> {
        Ok(self.gateway.counter(REFUSED, &[&format!("reason=\"{reason}\"")])? as u64)
    }

    /// Checks what must hold whatever was sent: memory grew by less than this, nobody who meant well was refused.
    fn end(mut self, grown_max: u64) -> Result<()> {
        self.healthy.sends(20)?;
        let memory = self.gateway.memory()?;
        let grown = memory.peak.saturating_sub(self.before.peak);
        ensure!(grown < grown_max, "the gateway grew by {grown} bytes: {:?}, then {memory:?}", self.before);
        let refused = self.gateway.counter("isolane_gateway_refused_batches", &[&format!("stream=\"{HEALTHY}\"")])?;
        ensure!(refused == 0.0, "{refused} batches of well-meaning clients were refused");
        self.healthy.stop()?;
        ensure!(Role::of(&self.deployment, "gateway")?.pid == self.gateway.pid, "the gateway was started again");
        self.deployment.stop()
    }
}

/// A client that sends without a pause: half of its requests over one connection, half over new ones.
struct Healthy {
    sent: Arc<AtomicU64>,
    ending: Arc<AtomicBool>,
    thread: Option<JoinHandle<Result<()>>>,
}

impl Healthy {
    fn start(deployment: &Deployment) -> Self {
        let (sent, ending) = (Arc::new(AtomicU64::new(0)), Arc::new(AtomicBool::new(false)));
        let (counted, end, address) = (Arc::clone(&sent), Arc::clone(&ending), deployment.http);
        let send = move || {
            let mut kept = Client::new(address);
            while !end.load(Ordering::SeqCst) {
                for client in [&mut kept, &mut Client::new(address)] {
                    let nth = counted.load(Ordering::SeqCst);
                    let body = format!("record {nth}\n");
                    let answer = client.exchange("POST", &path(HEALTHY), &[], body.as_bytes());
                    let answer = answer.map_err(|error| anyhow!("healthy request {nth}: {error:#}"))?;
                    ensure!(answer.status == 200, "healthy request {nth} was answered with {}", answer.status);
                    counted.fetch_add(1, Ordering::SeqCst);
                }
            }
            Ok(())
        };
        Self { sent, ending, thread: Some(thread::spawn(send)) }
    }

    /// Waits until so many more requests were answered.
    fn sends(&self, more: u64) -> Result<()> {
        let wanted = self.sent.load(Ordering::SeqCst) + more;
        poll::until("healthy clients are served", SOON, || {
            let ended = self.thread.as_ref().is_none_or(JoinHandle::is_finished);
            ensure!(!ended, "the healthy client gave up");
            Ok((self.sent.load(Ordering::SeqCst) >= wanted).then_some(()))
        })
    }

    /// Ends it; an error if any of its requests was not taken.
    fn stop(&mut self) -> Result<()> {
        self.ending.store(true, Ordering::SeqCst);
        let Some(thread) = self.thread.take() else { return Ok(()) };
        thread.join().map_err(|_| anyhow!("the healthy client panicked"))?
    }
}

impl Drop for Healthy {
    fn drop(&mut self) {
        if let Err(error) = self.stop() {
            eprintln!("{error:#}");
        }
    }
}

fn path(stream: &str) -> String {
    format!("/v1/streams/{stream}/records")
}
