//! One node: its ports, its configuration, and its process, which is formatted, started, frozen and ended here and
//! nowhere else.

use std::fs::{self, File};
use std::net::{Ipv4Addr, SocketAddr, SocketAddrV4};
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::Duration;

use anyhow::{Context, Result, anyhow, ensure};
use rustix::net::{AddressFamily, SocketFlags, SocketType, bind, getsockname, socket_with, sockopt};
use rustix::process::{Pid, Signal, WaitId, WaitIdOptions, waitid};

use super::replies::{self, Holds};
use super::software::{Software, spawn_for_life};
use super::{FAILOVER, metadata};
use crate::killer;
use crate::poll;

/// How long a node may take to hand over and end.
const STOP: Duration = Duration::from_secs(60);
/// How long the kernel may take to stop all threads of a node.
const PAUSE: Duration = Duration::from_secs(10);
/// Lines of a node's log in an error.
const TAIL_LINES: usize = 12;

/// The same on all nodes.
const SETTINGS: &str = "\
controller.listener.names=CONTROLLER
inter.broker.listener.name=PLAINTEXT
listener.security.protocol.map=CONTROLLER:PLAINTEXT,PLAINTEXT:PLAINTEXT,PROXIED:PLAINTEXT
auto.create.topics.enable=false
message.max.bytes=4194304
replica.fetch.max.bytes=4194304
offsets.topic.num.partitions=4
transaction.state.log.num.partitions=4
transaction.max.timeout.ms=900000
# A test's consumer starts at once; nobody else is going to join.
group.initial.rebalance.delay.ms=0
# How soon the controller takes the leaderships of a dead or frozen broker away.
broker.session.timeout.ms=6000
# The cleaner's buffer is 128 MiB of heap by default.
log.cleaner.dedupe.buffer.size=8388608
num.network.threads=2
num.io.threads=4
background.threads=2
group.coordinator.threads=1
";

/// What a node is.
#[derive(Clone, Copy)]
pub struct Plan {
    /// Its cluster's name.
    pub cluster: &'static str,
    /// Its id in the cluster.
    pub id: i32,
    /// `process.roles`.
    pub roles: &'static str,
}

impl Plan {
    /// The node's name.
    pub fn name(&self) -> String {
        format!("{}-{}", self.cluster, self.id)
    }
}

/// A port of the loopback address that stays ours while its node is away: a bound socket that never listens. The node
/// binds over it, since Java too sets SO_REUSEADDR on what listens; the kernel gives it to nobody who asks for any port.
struct Port {
    address: SocketAddrV4,
    _held: OwnedFd,
}

impl Port {
    fn reserve() -> Result<Self> {
        let held = socket_with(AddressFamily::INET, SocketType::STREAM, SocketFlags::CLOEXEC, None)?;
        sockopt::set_socket_reuseaddr(&held, true)?;
        bind(&held, &SocketAddrV4::new(Ipv4Addr::LOCALHOST, 0))?;
        Ok(Self { address: getsockname(&held)?.try_into()?, _held: held })
    }
}

/// A node.
pub struct Node {
    /// What it is.
    pub plan: Plan,
    /// Its name.
    pub name: String,
    dir: PathBuf,
    broker: Option<Port>,
    controller: Option<Port>,
    /// A second door of a broker, and the proxy that stands before it.
    proxied: Option<(Port, SocketAddr)>,
    child: Option<Child>,
}

impl Node {
    /// A node with its folder and its ports, not yet formatted.
    pub fn new(plan: Plan, dir: &Path) -> Result<Self> {
        let name = plan.name();
        let dir = dir.join(&name);
        fs::create_dir_all(&dir)?;
        let port = |role| plan.roles.contains(role).then(Port::reserve).transpose();
        let (broker, controller) = (port("broker")?, port("controller")?);
        Ok(Self { plan, name, dir, broker, controller, proxied: None, child: None })
    }

    /// Gives it a second door with a proxy before it, if it is a broker.
    pub fn stand_behind(&mut self, holds: &Holds) -> Result<()> {
        if self.broker.is_some() {
            let port = Port::reserve()?;
            let proxy = replies::start(port.address, holds.clone())?;
            self.proxied = Some((port, proxy));
        }
        Ok(())
    }

    /// Where clients reach it through its proxy, if it has one.
    pub fn proxy_address(&self) -> Option<SocketAddr> {
        self.proxied.as_ref().map(|(_, proxy)| *proxy)
    }

    /// Where clients reach it, if it is a broker.
    pub fn broker_address(&self) -> Option<SocketAddr> {
        self.broker.as_ref().map(|port| port.address.into())
    }

    /// Its cluster and its entry in `controller.quorum.voters`, if it is a controller.
    pub fn voter(&self) -> Option<(&'static str, String)> {
        let port = self.controller.as_ref()?;
        Some((self.plan.cluster, format!("{}@{}", self.plan.id, port.address)))
    }

    /// Writes its configuration.
    pub fn configure(&self, voters: &str) -> Result<()> {
        let listener = |name: &str, port: &Option<Port>| port.as_ref().map(|port| format!("{name}://{}", port.address));
        let broker = listener("PLAINTEXT", &self.broker);
        let second = self.proxied.as_ref().map(|(port, proxy)| [port.address.to_string(), proxy.to_string()]);
        let [second, proxy] = second.map_or([None, None], |both| both.map(|at| Some(format!("PROXIED://{at}"))));
        let listeners: Vec<_> =
            [broker.clone(), second, listener("CONTROLLER", &self.controller)].into_iter().flatten().collect();
        let (replicas, in_sync) = if self.plan.cluster == FAILOVER { (1, 1) } else { (3, 2) };
        let mut text = format!(
            "process.roles={}\nnode.id={}\ncontroller.quorum.voters={voters}\nlisteners={}\nlog.dirs={}\n\
             min.insync.replicas={in_sync}\noffsets.topic.replication.factor={replicas}\n\
             transaction.state.log.replication.factor={replicas}\ntransaction.state.log.min.isr={in_sync}\n{SETTINGS}",
            self.plan.roles,
            self.plan.id,
            listeners.join(","),
            self.dir.join("data").display(),
        );
        if self.controller.is_some() {
            // Whoever makes topics; a mere broker warns of them, over and over.
            text += &format!("num.partitions=4\ndefault.replication.factor={replicas}\n");
        }
        if let Some(broker) = broker {
            let advertised: Vec<_> = [Some(broker), proxy].into_iter().flatten().collect();
            text += &format!("advertised.listeners={}\n", advertised.join(","));
        }
        Ok(fs::write(self.configuration(), text)?)
    }

    /// Begins to format its storage, unless that was done at an earlier start.
    pub fn start_format(&mut self, software: &Software) -> Result<()> {
        let mut command = software.command("kafka.tools.StorageTool");
        command.args(["format", "--ignore-formatted", "--cluster-id", cluster_id(self.plan.cluster), "--config"]);
        self.spawn(command)
    }

    /// Waits until it is formatted.
    pub fn wait_format(&mut self, within: Duration) -> Result<()> {
        let ended = poll::until(&format!("{} is formatted", self.name), within, || self.ended());
        self.with_log(ended.and_then(|status| {
            ensure!(status.success(), "formatting {} ended with {status}", self.name);
            Ok(())
        }))
    }

    /// Starts it.
    pub fn start(&mut self, software: &Software) -> Result<()> {
        self.spawn(software.command("kafka.Kafka"))
    }

    /// Waits until it answers. A broker answers once its controller lets it serve.
    pub fn wait_answer(&mut self, within: Duration) -> Result<()> {
        let answered = poll::until(&format!("{} answers", self.name), within, || {
            if let Some(status) = self.ended()? {
                return Ok(Some(Err(anyhow!("{} ended with {status}", self.name))));
            }
            self.ask()?;
            Ok(Some(Ok(())))
        });
        self.with_log(answered.and_then(|answer| answer))
    }

    fn ask(&self) -> Result<()> {
        match (&self.broker, &self.controller) {
            (Some(port), _) => {
                let seen = metadata::brokers(port.address.into())?;
                ensure!(seen.contains(&self.plan.id), "it sees the brokers {seen:?}, not itself");
                Ok(())
            }
            (None, Some(port)) => metadata::answers(port.address.into()),
            (None, None) => Ok(()),
        }
    }

    /// Whether its process lives, frozen or not.
    pub fn runs(&mut self) -> bool {
        matches!(self.ended(), Ok(None))
    }

    /// Ends it at once.
    pub fn kill(&mut self) -> Result<()> {
        ensure!(self.runs(), "{} does not run", self.name);
        self.signal_kill();
        self.reap();
        Ok(())
    }

    /// Asks it to end and waits. A frozen one must hear it.
    pub fn stop_cleanly(&mut self) -> Result<()> {
        killer::signal(self.pid()?, Signal::TERM)?;
        self.resume()?;
        let ended = poll::until(&format!("{} ends", self.name), STOP, || self.ended());
        self.with_log(ended.map(drop))
    }

    /// Freezes it, and waits until the kernel says so.
    pub fn pause(&self) -> Result<()> {
        let pid = self.pid()?;
        killer::signal(pid, Signal::STOP)?;
        let pid = Pid::from_raw(pid).context("no such process id")?;
        poll::until(&format!("{} is frozen", self.name), PAUSE, || {
            let stopped = WaitIdOptions::STOPPED | WaitIdOptions::NOHANG | WaitIdOptions::NOWAIT;
            Ok(waitid(WaitId::Pid(pid), stopped)?)
        })?;
        Ok(())
    }

    /// Lets it go on.
    pub fn resume(&self) -> Result<()> {
        killer::signal(self.pid()?, Signal::CONT)
    }

    /// Signals the end, for [`Node::reap`] to see it.
    pub fn signal_kill(&mut self) {
        if let Some(child) = &mut self.child {
            // It may have ended by itself.
            drop(child.kill());
        }
    }

    /// Waits for the end that was signalled.
    pub fn reap(&mut self) {
        if let Some(mut child) = self.child.take() {
            drop(child.wait());
        }
    }

    /// Adds the last lines that it wrote to an error.
    pub fn with_log<T>(&self, result: Result<T>) -> Result<T> {
        result.with_context(|| {
            let text = fs::read(self.log()).unwrap_or_default();
            let text = String::from_utf8_lossy(&text);
            let lines: Vec<&str> = text.lines().collect();
            let tail = lines[lines.len().saturating_sub(TAIL_LINES)..].join("\n");
            format!("the log of {} ends with:\n{tail}\n", self.name)
        })
    }

    fn spawn(&mut self, mut command: Command) -> Result<()> {
        ensure!(self.child.is_none(), "{} runs already", self.name);
        let log = File::options().create(true).append(true).open(self.log())?;
        command.arg(self.configuration()).stdin(Stdio::null()).stdout(log.try_clone()?).stderr(log);
        self.child = Some(spawn_for_life(command).context("starting setpriv, of util-linux")?);
        Ok(())
    }

    fn ended(&mut self) -> Result<Option<ExitStatus>> {
        let status = self.child.as_mut().with_context(|| format!("{} does not run", self.name))?.try_wait()?;
        if status.is_some() {
            self.child = None;
        }
        Ok(status)
    }

    /// Its process, while it runs.
    pub fn pid(&self) -> Result<i32> {
        Ok(self.child.as_ref().with_context(|| format!("{} does not run", self.name))?.id() as i32)
    }

    fn configuration(&self) -> PathBuf {
        self.dir.join("server.properties")
    }

    /// Beside the folders of the nodes, where a reader looks first.
    fn log(&self) -> PathBuf {
        self.dir.with_extension("log")
    }
}

/// Any 16 bytes in base64, other ones for each cluster.
fn cluster_id(cluster: &str) -> &'static str {
    if cluster == FAILOVER { "ZmFpbG92ZXItY2x1c3RlcjA" } else { "bm9ybWFsLWNsdXN0ZXItMA" }
}
