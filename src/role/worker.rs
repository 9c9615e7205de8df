//! Role: a worker of an agent, which collects for one stream.

use std::process::ExitCode;

use anyhow::{Context, Result};

use crate::ops;

/// Runs until asked to end. The exit code tells the supervisor how soon to try again.
pub async fn run(settings: &str) -> Result<ExitCode> {
    ops::start_logs();
    let settings: agent::WorkerSettings = settings.parse().context("a worker is started by its agent only")?;
    let disk = super::disk(&settings.state_dir)?;
    let (_, watch) = super::watch(&settings.admin, &disk, &settings.state_dir).await?;
    match agent::work(settings, disk, watch, ops::asked_to_end()).await {
        Ok(()) => Ok(ExitCode::SUCCESS),
        Err(error) => {
            eprintln!("error: {error}");
            Ok(ExitCode::from(error.exit_code()))
        }
    }
}
