//! One `isolane up` with its own data directory and ports, started, stopped and started again by the tests.

use std::fs::{self, File};
use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use anyhow::{Context, Result, anyhow, bail, ensure};
use rustix::process::Signal;
use serde_json::Value;

use crate::http::{Answer, Client};
use crate::killer;
use crate::poll;

/// How long a deployment may take to come up: seconds when idle, more beside a build.
const START: Duration = Duration::from_secs(60);
/// Where deployments listen; outgoing connections begin at 32,768.
const PORTS: std::ops::Range<u16> = 12_000..30_000;
/// Ports tried before it is given up.
const PORT_TRIES: usize = 100;
/// How long it may take to stop after being asked to.
const STOP: Duration = Duration::from_secs(30);

/// A deployment on this machine.
pub struct Deployment {
    /// Its data directory.
    pub dir: PathBuf,
    /// Admin's address: UI and API.
    pub ui: SocketAddr,
    /// The gateway's HTTP address.
    pub http: SocketAddr,
    /// The gateway's gRPC address.
    pub grpc: SocketAddr,
    arguments: Vec<String>,
    child: Option<Child>,
}

impl Deployment {
    /// Prepares a deployment in `dir` with free ports; `arguments` are added to `up`.
    pub fn new(dir: &Path, arguments: &[&str]) -> Result<Self> {
        let [ui, http, grpc] = free_ports()?;
        let arguments = arguments.iter().map(|argument| (*argument).to_owned()).collect();
        Ok(Self { dir: dir.to_owned(), ui, http, grpc, arguments, child: None })
    }

    /// A running deployment without a first stream.
    pub fn start_bare(dir: &Path) -> Result<Self> {
        let mut deployment = Self::new(dir, &["--no-first-stream"])?;
        deployment.start()?;
        Ok(deployment)
    }

    /// Starts it and waits until it answers.
    pub fn start(&mut self) -> Result<()> {
        ensure!(self.child.is_none(), "it runs already");
        fs::create_dir_all(&self.dir)?;
        let output = File::options().create(true).append(true).open(self.dir.join("up.out"))?;
        let child = Command::new(binary()?)
            .arg("up")
            .args(["--data-dir".as_ref(), self.dir.as_os_str()])
            .args(["--ui-port", &self.ui.port().to_string()])
            .args(["--http-port", &self.http.port().to_string()])
            .args(["--grpc-port", &self.grpc.port().to_string()])
            .args(&self.arguments)
            .env("ISOLANE_CRASH_FILE", self.crash_file())
            .stdin(Stdio::null())
            .stdout(output.try_clone()?)
            .stderr(output)
            .spawn()
            .context("starting isolane up")?;
        self.child = Some(child);
        poll::until("the deployment answers", START, || self.answers())?
    }

    /// Whether it answers; that it has ended is an answer too.
    fn answers(&mut self) -> Result<Option<Result<()>>> {
        if let Some(status) = self.child.as_mut().map(Child::try_wait).transpose()?.flatten() {
            self.child = None;
            return Ok(Some(Err(anyhow!("isolane up ended with {status}: {}", self.output_tail()))));
        }
        for address in [self.ui, self.http] {
            ensure!(Client::new(address).get("/health")?.status == 200, "{address} is not healthy");
        }
        Ok(Some(Ok(())))
    }

    /// Process id of the supervisor.
    pub fn pid(&self) -> Result<i32> {
        Ok(self.child.as_ref().context("it does not run")?.id() as i32)
    }

    /// Asks it to stop (SIGINT) and waits until no process of it is left.
    pub fn stop(&mut self) -> Result<()> {
        let pid = self.pid()?;
        let family = killer::descendants(pid);
        killer::signal(pid, Signal::INT)?;
        let mut child = self.child.take().context("it does not run")?;
        let status = poll::until("a clean stop", STOP, || Ok(child.try_wait()?))?;
        ensure!(status.success(), "isolane up ended with {status}: {}", self.output_tail());
        none_left(&family)
    }

    /// Ends the supervisor at once and checks that it leaves no orphan.
    pub fn kill(&mut self) -> Result<()> {
        let pid = self.pid()?;
        let family = killer::descendants(pid);
        killer::signal(pid, Signal::KILL)?;
        self.child.take().context("it does not run")?.wait()?;
        none_left(&family)
    }

    /// Whether the supervisor lives.
    pub fn runs(&mut self) -> bool {
        self.child.as_mut().is_some_and(|child| matches!(child.try_wait(), Ok(None)))
    }

    /// The file that chooses a crash point.
    pub fn crash_file(&self) -> PathBuf {
        self.dir.join("crash-point")
    }

    /// The folder that a stream's files sink publishes into.
    pub fn out(&self, stream: &str) -> PathBuf {
        self.dir.join("out").join(stream).join("files")
    }

    /// Creates a stream from its JSON spec.
    pub fn create_stream(&self, spec: &Value) -> Result<()> {
        let answer = self.api("POST", "/api/v1/streams", Some(spec))?;
        ensure!(
            answer.status == 201,
            "creating the stream: {} {}",
            answer.status,
            String::from_utf8_lossy(&answer.body)
        );
        Ok(())
    }

    /// Calls the admin API.
    pub fn api(&self, method: &str, path: &str, body: Option<&Value>) -> Result<Answer> {
        let body = body.map(Value::to_string).unwrap_or_default();
        Client::new(self.ui).exchange(method, path, &[("content-type", "application/json")], body.as_bytes())
    }

    /// A stream's ledger.
    pub fn ledger(&self, stream: &str) -> Result<Value> {
        let answer = self.api("GET", &format!("/api/v1/ledger/{stream}"), None)?;
        ensure!(answer.status == 200, "the ledger of {stream}: {}", answer.status);
        answer.json()
    }

    /// The name of a stream's topic in Kafka, where that is the journal.
    pub fn journal_topic(&self, stream: &str) -> Result<String> {
        let config = self.api("GET", &format!("/api/v1/streams/{stream}"), None)?.json()?;
        Ok(format!("{stream}.{}", config["incarnation"].as_str().context("no incarnation")?))
    }

    /// Runs a verb of the command line against this deployment and gives what it printed.
    pub fn verb(&self, arguments: &[&str]) -> Result<std::process::Output> {
        let mut command = Command::new(binary()?);
        command.args(arguments).env("ISOLANE_ADMIN", format!("http://{}", self.ui));
        command.env("ISOLANE_GATEWAY", format!("http://{}", self.http)).env("ISOLANE_DATA_DIR", &self.dir);
        Ok(command.output()?)
    }

    fn output_tail(&self) -> String {
        let text = fs::read_to_string(self.dir.join("up.out")).unwrap_or_default();
        let lines: Vec<&str> = text.lines().rev().take(12).collect();
        lines.into_iter().rev().collect::<Vec<_>>().join("\n")
    }
}

impl Drop for Deployment {
    fn drop(&mut self) {
        if let Some(mut child) = self.child.take() {
            // The roles die with their parent.
            drop(child.kill());
            drop(child.wait());
        }
    }
}

fn none_left(family: &[killer::Process]) -> Result<()> {
    poll::until("every process is gone", STOP, || {
        let left: Vec<_> = family.iter().filter(|process| killer::lives(process.pid)).collect();
        ensure!(left.is_empty(), "still there: {left:?}");
        Ok(Some(()))
    })
}

/// Three free loopback ports below those that the kernel gives to outgoing connections: one of these would be taken by a
/// client sooner or later, while the deployment is down. Held until all are chosen, so that they differ.
pub(crate) fn free_ports() -> Result<[SocketAddr; 3]> {
    let mut held = Vec::new();
    for _ in 0..PORT_TRIES {
        held.extend(TcpListener::bind((Ipv4Addr::LOCALHOST, rand::random_range(PORTS))));
        if let [ui, http, grpc] = &held[..] {
            return Ok([ui.local_addr()?, http.local_addr()?, grpc.local_addr()?]);
        }
    }
    bail!("no three free ports in {PORTS:?}")
}

/// The binary under test: `ISOLANE_BIN`, or the one beside this test's own.
pub fn binary() -> Result<PathBuf> {
    if let Some(path) = std::env::var_os("ISOLANE_BIN") {
        return Ok(path.into());
    }
    let own = std::env::current_exe()?;
    let found = own.ancestors().map(|dir| dir.join("isolane")).find(|path| path.is_file());
    found.context("no isolane binary: run `cargo build --features crash-points`, or set ISOLANE_BIN")
}
