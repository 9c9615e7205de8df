//! A gateway beside a deployment's own, before the same journal, with settings that `up` does not offer.

use std::fs::{self, File};
use std::net::SocketAddr;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use anyhow::{Context, Result, ensure};

use crate::deployment::{Deployment, binary, free_ports};
use crate::http::Client;
use crate::poll;

/// How long it may take to come up.
const START: Duration = Duration::from_secs(60);

/// A gateway of its own; ends when this is dropped, or with this process.
pub struct Gateway {
    /// Its HTTP address.
    pub http: SocketAddr,
    child: Child,
}

impl Gateway {
    /// Starts one with `more` lines in its configuration, and waits until it answers.
    pub fn start(deployment: &Deployment, more: &str) -> Result<Self> {
        let [http, grpc, ops] = free_ports()?;
        let dir = deployment.dir.join(format!("gateway-{}", http.port()));
        fs::create_dir_all(&dir)?;
        let config = dir.join("gateway.toml");
        let known = known(&deployment.dir.join("run").join("gateway.toml"))?;
        let text = format!(
            "http_listen = \"{http}\"\ngrpc_listen = \"{grpc}\"\nops_listen = \"{ops}\"\nstate_dir = {dir:?}\n{known}{more}\n"
        );
        fs::write(&config, text)?;
        let log = File::create(dir.join("gateway.log"))?;
        let child = Command::new(binary()?)
            .arg("gateway")
            .arg("--config")
            .arg(&config)
            .args(["--parent", &std::process::id().to_string()])
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(log)
            .spawn()
            .context("starting a gateway")?;
        let mut gateway = Self { http, child };
        poll::until("the gateway answers", START, || {
            let ended = gateway.child.try_wait()?;
            ensure!(ended.is_none(), "it ended: {}", fs::read_to_string(dir.join("gateway.log"))?);
            Ok((Client::new(http).get("/health")?.status == 200).then_some(()))
        })?;
        Ok(gateway)
    }

    /// Memory that it holds, and the most that it held since it began.
    pub fn resident_bytes(&self) -> Result<(u64, u64)> {
        let text = fs::read_to_string(format!("/proc/{}/status", self.child.id()))?;
        let of = |name: &str| {
            let line = text.lines().find_map(|line| line.strip_prefix(name)).with_context(|| format!("no {name}"))?;
            let kib: u64 = line.trim().trim_end_matches(" kB").parse()?;
            anyhow::Ok(kib * 1024)
        };
        Ok((of("VmRSS:")?, of("VmHWM:")?))
    }
}

impl Drop for Gateway {
    fn drop(&mut self) {
        // It may have ended by itself.
        drop(self.child.kill());
        drop(self.child.wait());
    }
}

/// What the deployment's own gateway is told of journal and admin.
fn known(config: &Path) -> Result<String> {
    let text = fs::read_to_string(config).with_context(|| config.display().to_string())?;
    let is_wanted = |line: &&str| ["journal = ", "admin = "].iter().any(|key| line.starts_with(key));
    let mut known: Vec<&str> = text.lines().filter(is_wanted).collect();
    ensure!(known.len() == 2, "{}: {text}", config.display());
    known.push("");
    Ok(known.join("\n"))
}
