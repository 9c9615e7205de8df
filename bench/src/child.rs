//! What runs in child processes: the real roles and the limits, each told by JSON on standard input. A child writes `ready`
//! and its addresses on one line of standard output, works until it is killed, and dies with its parent.

use std::collections::HashMap;
use std::future::pending;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result};
use journal::AnyJournal;
use metrics_exporter_prometheus::PrometheusBuilder;
use rustix::process::{Signal, set_parent_process_death_signal};
use serde::{Deserialize, Serialize};
use stream::clock::SystemClock;
use stream::control::{AdminClient, ConfigWatch, watch_config};
use stream::disk::{Disk, RealDisk, SharedDisk};
use tokio::net::TcpListener;
use tokio::runtime::Builder;
use tracing_subscriber::EnvFilter;

use crate::limit;
use crate::noise::{self, Noise};

/// The first argument of a child.
pub const COMMAND: &str = "child";
/// How often the metrics are folded, as a reader of `/metrics` would.
const METRICS_EVERY: Duration = Duration::from_secs(5);

/// What a child is to do.
#[derive(Debug, Serialize, Deserialize)]
pub enum Order {
    /// Admin.
    Admin {
        /// Its folder.
        dir: PathBuf,
        /// The journal whose topics it makes, if that is Kafka.
        journal: Option<String>,
    },
    /// The journal.
    Journal {
        /// Its folder.
        dir: PathBuf,
        /// Admin's URL.
        admin: String,
    },
    /// A gateway; answers with its HTTP and its gRPC address.
    Gateway {
        /// Its folder.
        dir: PathBuf,
        /// The journal's `host:port`.
        journal: String,
        /// Admin's URL.
        admin: String,
        /// Bytes of all streams together, if not the default.
        bytes_max: Option<usize>,
        /// Whether senders must show anything.
        access: gateway::Access,
    },
    /// The jobs.
    Query {
        /// The folder of its copy of the configuration.
        dir: PathBuf,
        /// The folder below which it publishes.
        out: PathBuf,
        /// The journal's `host:port`.
        journal: String,
        /// Admin's URL.
        admin: String,
        /// How often it commits.
        checkpoint: Duration,
    },
    /// An agent's worker.
    Worker(Box<agent::WorkerSettings>),
    /// A noisy client, which ends by itself.
    Noise(Noise),
    /// The limit of an agent.
    LimitAgent {
        /// What it reads.
        file: PathBuf,
        /// Who acknowledges.
        sink: SocketAddr,
    },
    /// The limit of a gateway and its journal.
    LimitDoor {
        /// Which door.
        door: Door,
        /// Where it appends.
        to: LimitLog,
    },
    /// The limit of a leg that reads Kafka. It is ready when it is done.
    LimitLeg {
        /// The cluster's `bootstrap.servers`.
        bootstrap: String,
        /// The topic that it reads.
        from: String,
        /// The topic's partitions.
        partitions: u32,
        /// The topic's records.
        records: u64,
        /// Where they go.
        to: LimitLeg,
    },
}

/// Where the limit of a leg writes.
#[derive(Debug, Serialize, Deserialize)]
pub enum LimitLeg {
    /// To this topic, which it makes.
    Topic(String),
    /// To this Parquet file.
    Parquet(PathBuf),
}

/// A door of a gateway.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Door {
    /// HTTP, newline-delimited.
    Http,
    /// gRPC, as agents come.
    Grpc,
}

/// Where the limit of a door appends.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub enum LimitLog {
    /// To the bare log in this file.
    File(PathBuf),
    /// To Kafka.
    Kafka {
        /// Its `bootstrap.servers`.
        bootstrap: String,
        /// Topics by their streams.
        topics: HashMap<String, Arc<str>>,
        /// Of each.
        partitions: u32,
    },
}

/// The child's whole life.
pub fn main() -> Result<()> {
    set_parent_process_death_signal(Some(Signal::KILL))?;
    start_logs();
    let order = serde_json::from_reader(std::io::stdin().lock());
    let order: Order = order.context("a child is told what to do by its parent")?;
    let mut runtime = match &order {
        Order::Noise(noise) => {
            // Before there is any other thread.
            noise.take_place()?;
            Builder::new_current_thread()
        }
        _ => Builder::new_multi_thread(),
    };
    runtime.enable_all().build()?.block_on(obey(order))
}

/// Logs on standard error; `ISOLANE_LOG` sets the level (default `error`: the load ends without taking leave).
pub fn start_logs() {
    let level = EnvFilter::try_from_env("ISOLANE_LOG").unwrap_or_else(|_| EnvFilter::new("error"));
    tracing_subscriber::fmt().with_env_filter(level).with_writer(std::io::stderr).init();
}

async fn obey(order: Order) -> Result<()> {
    match order {
        Order::Admin { dir, journal } => admin(dir, journal).await,
        Order::Journal { dir, admin } => journal(dir, &admin).await,
        Order::Gateway { dir, journal, admin, bytes_max, access } => {
            let (_, admin, watch) = begin(&dir, &admin).await?;
            let mut settings = gateway::GatewaySettings::new("bench", journal, admin);
            settings.gateway_bytes_max = bytes_max.unwrap_or(settings.gateway_bytes_max);
            settings.access = access;
            gateway(settings, watch).await
        }
        Order::Query { dir, out, journal, admin, checkpoint } => query(&dir, out, &journal, &admin, checkpoint).await,
        Order::Worker(settings) => worker(*settings).await,
        Order::Noise(noise) => noise::run(noise).await,
        Order::LimitAgent { file, sink } => {
            ready(&[]);
            tokio::task::block_in_place(|| limit::agent::send_file(&file, sink))?;
            pending().await
        }
        Order::LimitLeg { bootstrap, from, partitions, records, to } => {
            limit::leg::run(&bootstrap, &from, partitions, records, to).await?;
            ready(&[]);
            pending().await
        }
        Order::LimitDoor { door, to: LimitLog::File(file) } => open(door, limit::log::BareLog::create(&file)?).await,
        Order::LimitDoor { door, to: LimitLog::Kafka { bootstrap, topics, partitions } } => {
            open(door, limit::kafka::BareKafka::new(&bootstrap, topics, partitions)?).await
        }
    }
}

async fn open(door: Door, log: impl limit::door::Append) -> Result<()> {
    let (listener, at) = listen().await?;
    ready(&[at]);
    match door {
        Door::Http => limit::door::http(listener, log).await,
        Door::Grpc => limit::door::grpc(listener, log).await,
    }
}

async fn admin(dir: PathBuf, journal_addr: Option<String>) -> Result<()> {
    let (listener, at) = listen().await?;
    let sql_check: admin::SqlCheck = Arc::new(|_| Ok(Vec::new()));
    let settings = admin::AdminSettings { dir, journal_addr, sql_check, clock: Arc::new(SystemClock) };
    ready(&[at]);
    Ok(admin::serve(settings, listener, pending()).await?)
}

async fn journal(dir: PathBuf, admin: &str) -> Result<()> {
    let (_, _, watch) = begin(&dir, admin).await?;
    let (listener, at) = listen().await?;
    let settings = journal::JournalSettings { dir, log: journal::LogSettings::default() };
    ready(&[at]);
    Ok(journal::serve(settings, listener, watch, pending()).await?)
}

async fn gateway(settings: gateway::GatewaySettings, watch: ConfigWatch) -> Result<()> {
    let (http, http_at) = listen().await?;
    let (grpc, grpc_at) = listen().await?;
    ready(&[http_at, grpc_at]);
    Ok(gateway::serve(settings, http, grpc, watch, pending()).await?)
}

async fn query(dir: &Path, out_root: PathBuf, journal: &str, admin: &str, checkpoint: Duration) -> Result<()> {
    let (disk, admin, watch) = begin(dir, admin).await?;
    let journal = AnyJournal::connect(journal)?;
    let settings = query::QuerySettings { journal, admin, out_root, disk, checkpoint: Some(checkpoint) };
    ready(&[]);
    query::serve(settings, watch, pending()).await;
    Ok(())
}

async fn worker(settings: agent::WorkerSettings) -> Result<()> {
    let (disk, _, watch) = begin(&settings.state_dir, &settings.admin).await?;
    ready(&[]);
    Ok(agent::work(settings, disk, watch, pending()).await?)
}

/// What all roles have: metrics, a folder, the configuration.
async fn begin(dir: &Path, admin: &str) -> Result<(SharedDisk, AdminClient, ConfigWatch)> {
    let metrics = PrometheusBuilder::new().install_recorder().context("starting metrics")?;
    tokio::spawn(async move {
        let mut ticks = tokio::time::interval(METRICS_EVERY);
        loop {
            ticks.tick().await;
            metrics.run_upkeep();
        }
    });
    RealDisk.create_dir_all(dir).with_context(|| format!("cannot write {}", dir.display()))?;
    let disk: SharedDisk = Arc::new(RealDisk);
    let admin = AdminClient::new(admin);
    let watch = watch_config(admin.clone(), disk.clone(), dir.join("config.json")).await?;
    Ok((disk, admin, watch))
}

/// A free loopback port.
pub async fn listen() -> Result<(TcpListener, SocketAddr)> {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await?;
    let at = listener.local_addr()?;
    Ok((listener, at))
}

/// Says that this child has begun, and where it listens.
pub fn ready(addresses: &[SocketAddr]) {
    let addresses: Vec<String> = addresses.iter().map(SocketAddr::to_string).collect();
    println!("ready {}", addresses.join(" "));
}
