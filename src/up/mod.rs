//! `up`: every role on this machine, as a process of its own, under one supervisor, on one data directory.
//!
//! Start order is admin, journal, gateway, query, agent, each waited for; a role that cannot start ends it all with the
//! role's own last words. A role that dies later is started again with back-off. The end goes the other way round.

mod ports;
mod child;
mod first_stream;
mod progress;

use std::fs::File;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result};
use gateway::Access;
use rustix::fs::{FlockOperation, flock};
use serde::Serialize;
use stream::control::AdminClient;
use stream::disk::{Disk, RealDisk};
use stream::token::Rate;

use crate::args::Up;
use crate::config::{AdminConfig, AgentConfig, GatewayConfig, JournalConfig, QueryConfig, memory_bytes_max};
use crate::ops;
use child::Role;
use ports::Ports;

/// Runs everything until Ctrl-C.
pub async fn run(args: Up) -> Result<()> {
    let dir = prepare(&args.data_dir)?;
    let _lock = lock(&dir)?;
    let ports = Ports::choose(&args)?;
    let roles = write_configs(&dir, &ports, args.journal.as_deref())?;
    let mut running = Vec::new();
    let worked = tokio::select! {
        worked = work(&args, &dir, &ports, roles, &mut running) => worked,
        () = ops::asked_to_end() => Ok(()),
    };
    eprintln!("stopping");
    stop(running).await;
    worked
}

/// Starts every role, then shows progress for as long as it lasts.
async fn work(args: &Up, dir: &Path, ports: &Ports, roles: Vec<Role>, running: &mut Vec<child::Running>) -> Result<()> {
    for role in roles {
        running.push(child::start(role).await?);
    }
    let admin = AdminClient::new(format!("http://{}", ports.ui));
    first_stream::create(args, &admin).await?;
    say_where(dir, ports);
    progress::show(&admin).await;
    Ok(())
}

/// Asks every role to end, the last started first, and waits.
async fn stop(running: Vec<child::Running>) {
    for child in running.into_iter().rev() {
        child.stop().await;
    }
}

fn prepare(dir: &Path) -> Result<PathBuf> {
    let writable = || -> std::io::Result<PathBuf> {
        let dir = std::path::absolute(dir)?;
        RealDisk.create_dir_all(&dir.join("run"))?;
        RealDisk.create_dir_all(&dir.join("log"))?;
        Ok(dir)
    };
    writable()
        .with_context(|| format!("the data directory {} is not writable; choose one with --data-dir", dir.display()))
}

/// Two supervisors on one directory would disturb each other.
fn lock(dir: &Path) -> Result<File> {
    let file = File::options().create(true).write(true).truncate(false).open(dir.join("lock"))?;
    flock(&file, FlockOperation::NonBlockingLockExclusive)
        .with_context(|| format!("another isolane runs on {}; stop it, or choose another --data-dir", dir.display()))?;
    Ok(file)
}

fn write_configs(dir: &Path, ports: &Ports, other_journal: Option<&str>) -> Result<Vec<Role>> {
    let admin = format!("http://{}", ports.ui);
    let journal = other_journal.map_or_else(|| ports.journal.to_string(), str::to_owned);
    journal::AnyJournal::connect(&journal).map(drop).context("--journal")?;
    let state = |name: &str| dir.join(name);
    let admin_config = AdminConfig {
        listen: ports.ui,
        ops_listen: ports.admin_ops,
        state_dir: state("admin"),
        journal: journal.clone(),
    };
    let journal_config = JournalConfig {
        listen: ports.journal,
        ops_listen: ports.journal_ops,
        state_dir: state("journal"),
        admin: admin.clone(),
    };
    let gateway_config = GatewayConfig {
        http_listen: ports.http,
        grpc_listen: ports.grpc,
        ops_listen: ports.gateway_ops,
        state_dir: state("gateway"),
        journal: journal.clone(),
        admin: admin.clone(),
        memory_bytes_max: memory_bytes_max(),
        access: Access::Open,
        plaintext: false,
        connection_rate: Rate::default(),
        connection_age_seconds_max: None,
        tls: None,
    };
    let query_config = QueryConfig {
        ops_listen: ports.query_ops,
        state_dir: state("query"),
        out_dir: state("out"),
        journal,
        admin: admin.clone(),
    };
    let agent_config = AgentConfig {
        ops_listen: ports.agent_ops,
        state_dir: state("agent"),
        gateway: format!("http://{}", ports.grpc),
        admin,
        gateway_token_file: None,
        gateway_tls: None,
    };
    let mut roles = vec![write_config(dir, "admin", &admin_config)?];
    if other_journal.is_none() {
        roles.push(write_config(dir, "journal", &journal_config)?);
    }
    roles.push(write_config(dir, "gateway", &gateway_config)?);
    roles.push(write_config(dir, "query", &query_config)?);
    roles.push(write_config(dir, "agent", &agent_config)?);
    Ok(roles)
}

fn write_config(dir: &Path, name: &'static str, config: &impl Serialize) -> Result<Role> {
    let path = dir.join("run").join(format!("{name}.toml"));
    std::fs::write(&path, toml::to_string(config)?).with_context(|| format!("writing {}", path.display()))?;
    let log = dir.join("log").join(format!("{name}.log"));
    Ok(Role { name, config: path, log: Arc::new(log) })
}

fn say_where(dir: &Path, ports: &Ports) {
    println!("isolane is up. Data directory: {}", dir.display());
    println!("  UI and admin API   http://{}", ports.ui);
    println!("  HTTP ingest        http://{}/v1/streams/{{id}}/records", ports.http);
    println!("  gRPC ingest        http://{}", ports.grpc);
    println!("  Parquet files      {}", dir.join("out").display());
    println!("  logs               {}", dir.join("log").display());
}

/// How long a role may take to say that it serves: a journal may have a long log to read.
const READY_WITHIN: Duration = Duration::from_secs(120);
/// How long a role may take to end when asked.
const END_WITHIN: Duration = Duration::from_secs(15);
