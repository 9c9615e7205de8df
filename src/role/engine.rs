//! Role: engine, which keeps the jobs of streams with `engine = "flink"` on Apache Flink, and tells admin what they have taken
//! and delivered. Jobs go on when the role ends; when it comes back it finds them.

mod account;
mod board;
mod jobs;

use std::collections::BTreeSet;
use std::io;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use flink::{Cluster, Gateway, Places, Rest};
use journal::{Address, AnyJournal};
use stream::clock::SystemClock;
use stream::control::ConfigWatch;
use stream::disk::RealDisk;
use tokio::sync::watch;

use crate::args::RoleFile;
use crate::config::EngineConfig;
use crate::ops;
use board::Board;
use jobs::{Jobs, Place};

/// How often each job is looked at.
const EVERY: Duration = Duration::from_millis(500);

/// Runs until asked to end.
pub async fn run(file: RoleFile) -> Result<()> {
    let config: EngineConfig = super::begin(&file)?;
    let clusters = clusters(&config)?;
    let disk = super::disk(&config.state_dir)?;
    super::disk(&config.checkpoint_dir)?;
    super::serve_ops(config.ops_listen).await?;
    let (admin, mut watch) = super::watch(&config.admin, &disk, &config.state_dir).await?;
    let places = Places::new(config.checkpoint_dir);
    let board = Arc::new(Board::new(admin, places.clone()));
    let teller = board.clone();
    let settings = flink::Settings {
        gateway: Gateway::new(Rest::new(config.sql_gateway.parse().context("sql_gateway")?)),
        cluster: Cluster::new(Rest::new(config.job_manager.parse().context("job_manager")?)),
        places,
        disk: disk.clone(),
        state_dir: config.state_dir.join("jobs"),
        clock: Arc::new(SystemClock),
        every: EVERY,
        told: Arc::new(move |key, standing| teller.tell(key, standing)),
        shows: Arc::new(|mark| sink::files::hidden::show(&RealDisk, mark).map_err(io::Error::other)),
    };
    super::disk(&settings.state_dir)?;
    let remembered = flink::remembered(&disk, &settings.state_dir)?.into_iter().collect();
    let mut jobs = Jobs::new(Place { clusters, out_dir: config.out_dir }, remembered);
    // Known before the host begins: a job that nobody names is removed.
    jobs.follow(&watch.borrow_and_update().clone());
    let (sender, wanted) = watch::channel(Arc::new(jobs.wanted()));
    board.follow(jobs.legs());
    ops::say_ready();
    tokio::select! {
        served = flink::serve(settings, wanted, ops::asked_to_end()) => Ok(served?),
        () = follow(watch, jobs, &board, &sender) => bail!("the configuration is no longer watched"),
    }
}

/// Makes the wanted jobs those of the configuration, for as long as it is watched.
async fn follow(
    mut config: ConfigWatch,
    mut jobs: Jobs,
    board: &Board,
    sender: &watch::Sender<Arc<flink::WantedJobs>>,
) {
    while config.changed().await.is_ok() {
        let snapshot = config.borrow_and_update().clone();
        jobs.follow(&snapshot);
        board.follow(jobs.legs());
        sender.send_replace(Arc::new(jobs.wanted()));
    }
}

/// The journal's clusters, as the connector takes them.
fn clusters(config: &EngineConfig) -> Result<String> {
    AnyJournal::connect(&config.journal)?;
    match config.journal.parse()? {
        Address::Embedded(address) => bail!(
            "the journal at {address} is the embedded one, and jobs on Flink read from Kafka: name a Kafka journal, \
             kafka=HOST:PORT,...; without one streams run on the embedded engine, in a query role"
        ),
        Address::Kafka(clusters) => {
            let named = ["normal", "failover"].into_iter().zip(clusters);
            let named = named.map(|(name, brokers)| format!("{name}={brokers}")).collect::<Vec<_>>().join(";");
            Ok(config.clusters.clone().unwrap_or(named))
        }
    }
}

/// Jobs by their keys.
type Keys = BTreeSet<flink::JobKey>;
