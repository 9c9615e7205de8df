//! The roles started one by one, each with a configuration of its own, as on many machines.

use std::fs::{self, File};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use rustix::process::Signal;

use crate::deployment::{binary, free_ports};
use crate::http::{Answer, Client};
use crate::{killer, poll};

const START: Duration = Duration::from_secs(60);
const STOP: Duration = Duration::from_secs(30);

/// Every role, with a folder for all of them.
pub struct Roles {
    /// Admin's address.
    pub ui: SocketAddr,
    /// The gateway's HTTP door.
    pub http: SocketAddr,
    /// The gateway's gRPC door.
    pub grpc: SocketAddr,
    /// The gateway's metrics.
    pub gateway_ops: SocketAddr,
    dir: PathBuf,
    running: Vec<Role>,
}

struct Role {
    name: &'static str,
    ops: SocketAddr,
    child: Child,
}

/// What a gateway and an agent are told beside where everybody is.
pub struct Extra<'a> {
    /// TOML for the gateway.
    pub gateway: &'a str,
    /// TOML for the agent.
    pub agent: &'a str,
    /// How the agent names the gateway whose gRPC door is there.
    pub agent_to: &'a mut dyn FnMut(SocketAddr) -> Result<String>,
}

impl Roles {
    /// Starts admin, journal, gateway, query and agent in `dir`, and waits until each answers.
    pub fn start(dir: &Path, extra: Extra<'_>) -> Result<Self> {
        let [ui, journal, http, grpc, ops_admin, ops_journal, gateway_ops, ops_query, ops_agent] = free_ports()?;
        let (admin, state) = (format!("admin = \"http://{ui}\""), |name: &str| dir.join(name));
        let at_journal = format!("journal = \"{journal}\"");
        let mut roles = Self { ui, http, grpc, gateway_ops, dir: dir.to_owned(), running: Vec::new() };
        let out = state("out");
        let gateway_url = (extra.agent_to)(grpc)?;
        for (name, ops, text) in [
            ("admin", ops_admin, format!("listen = \"{ui}\"\n{at_journal}")),
            ("journal", ops_journal, format!("listen = \"{journal}\"\n{admin}")),
            (
                "gateway",
                gateway_ops,
                format!("http_listen = \"{http}\"\ngrpc_listen = \"{grpc}\"\n{at_journal}\n{admin}\n{}", extra.gateway),
            ),
            ("query", ops_query, format!("out_dir = {out:?}\n{at_journal}\n{admin}")),
            ("agent", ops_agent, format!("gateway = \"{gateway_url}\"\n{admin}\n{}", extra.agent)),
        ] {
            let head = format!("ops_listen = \"{ops}\"\nstate_dir = {:?}\n", state(name));
            fs::create_dir_all(dir)?;
            fs::write(roles.config(name), head + &text)?;
            roles.launch(name, ops)?;
        }
        Ok(roles)
    }

    /// Ends a role in an orderly way, and starts it again.
    pub fn restart(&mut self, name: &'static str) -> Result<()> {
        let at = self.running.iter().position(|role| role.name == name).context("no such role")?;
        let Role { ops, mut child, .. } = self.running.remove(at);
        killer::signal(child.id() as i32, Signal::TERM)?;
        let status = poll::until(&format!("the end of {name}"), STOP, || Ok(child.try_wait()?))?;
        ensure!(status.success(), "{name} ended with {status}");
        self.launch(name, ops)
    }

    /// Runs a verb of the command line against these roles.
    pub fn verb(&self, arguments: &[&str], environment: &[(&str, &str)]) -> Result<Output> {
        let mut command = Command::new(binary()?);
        command.args(arguments).env("ISOLANE_ADMIN", format!("http://{}", self.ui)).envs(environment.iter().copied());
        Ok(command.output()?)
    }

    /// Calls the admin API.
    pub fn api(&self, method: &str, path: &str, body: &str) -> Result<Answer> {
        Client::new(self.ui).exchange(method, path, &[("content-type", "application/json")], body.as_bytes())
    }

    /// The folder that a stream's files sink publishes into.
    pub fn out(&self, stream: &str) -> PathBuf {
        self.dir.join("out").join(stream).join("files")
    }

    fn config(&self, name: &str) -> PathBuf {
        self.dir.join(name).with_extension("toml")
    }

    fn launch(&mut self, name: &'static str, ops: SocketAddr) -> Result<()> {
        let log = File::options().create(true).append(true).open(self.dir.join(name).with_extension("log"))?;
        let mut child = Command::new(binary()?)
            .args([name, "--parent", &std::process::id().to_string(), "--config"])
            .arg(self.config(name))
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(log)
            .spawn()
            .with_context(|| format!("starting {name}"))?;
        poll::until(&format!("{name} answers"), START, || {
            ensure!(child.try_wait()?.is_none(), "{name} has ended; see {}", self.dir.join(name).display());
            ensure!(Client::new(ops).get("/health")?.status == 200, "{name} is not healthy");
            Ok(Some(()))
        })?;
        self.running.push(Role { name, ops, child });
        Ok(())
    }
}

impl Drop for Roles {
    fn drop(&mut self) {
        for role in &mut self.running {
            drop(role.child.kill());
            drop(role.child.wait());
        }
    }
}
