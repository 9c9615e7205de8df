//! Role: query, the host of the jobs.

use anyhow::Result;

use crate::args::RoleFile;
use crate::config::QueryConfig;
use crate::ops;

/// Runs until asked to end.
pub async fn run(file: RoleFile) -> Result<()> {
    let config: QueryConfig = super::begin(&file)?;
    let disk = super::disk(&config.state_dir)?;
    super::disk(&config.out_dir)?;
    super::serve_ops(config.ops_listen).await?;
    let (admin, watch) = super::watch(&config.admin, &disk, &config.state_dir).await?;
    let settings = query::QuerySettings {
        journal: journal::AnyJournal::connect(&config.journal)?,
        admin,
        out_root: config.out_dir,
        disk,
        checkpoint: None,
    };
    ops::say_ready();
    query::serve(settings, watch, ops::asked_to_end()).await;
    Ok(())
}
