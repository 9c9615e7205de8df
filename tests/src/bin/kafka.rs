//! Two Kafka clusters for a person: starts them, says where they are, and ends them with itself.
//! `cargo xtask services up kafka` runs it.

use std::path::PathBuf;

use anyhow::Result;
use clap::Parser;
use harness::kafka::Clusters;
use tokio::runtime::Builder;
use tokio::signal::unix::{SignalKind, signal};

/// Runs a normal and a failover cluster until it is interrupted.
#[derive(Parser)]
struct Args {
    /// Keep data and logs here, and go on with what is there. Default: a folder that is removed at the end.
    #[arg(long)]
    dir: Option<PathBuf>,
}

fn main() -> Result<()> {
    let runtime = Builder::new_current_thread().enable_all().build()?;
    let result = runtime.block_on(run(Args::parse()));
    // An interrupt does not wait for clusters that are still starting; their nodes end with this process.
    runtime.shutdown_background();
    result
}

async fn run(args: Args) -> Result<()> {
    let (mut interrupt, mut terminate) = (signal(SignalKind::interrupt())?, signal(SignalKind::terminate())?);
    let scratch = tempfile::tempdir()?;
    let dir = args.dir.unwrap_or_else(|| scratch.path().to_owned());
    println!("starting five nodes in {}", dir.display());
    let starting = dir.clone();
    let clusters = tokio::select! {
        clusters = tokio::task::spawn_blocking(move || Clusters::start(&starting)) => clusters??,
        _ = interrupt.recv() => return Ok(()),
        _ = terminate.recv() => return Ok(()),
    };
    println!("normal    {}\nfailover  {}", clusters.normal_bootstrap(), clusters.failover_bootstrap());
    println!("Logs are beside the nodes' folders. Ctrl-C ends both clusters.");
    tokio::select! {
        _ = interrupt.recv() => {}
        _ = terminate.recv() => {}
    }
    Ok(())
}
