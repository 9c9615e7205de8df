//! Role: agent, the supervisor of the collecting workers.

use anyhow::{Context, Result};

use crate::args::RoleFile;
use crate::config::AgentConfig;
use crate::ops;

/// Runs until asked to end.
pub async fn run(file: RoleFile) -> Result<()> {
    let config: AgentConfig = super::begin(&file)?;
    let disk = super::disk(&config.state_dir)?;
    super::serve_ops(config.ops_listen).await?;
    let (_, watch) = super::watch(&config.admin, &disk, &config.state_dir).await?;
    let program = std::env::current_exe().context("finding this program's own file")?;
    let settings = agent::AgentSettings {
        agent_id: None,
        state_dir: config.state_dir,
        gateway: config.gateway,
        admin: config.admin,
        worker_command: vec![program.to_string_lossy().into_owned(), "worker".to_owned()],
        pace: agent::Pace::default(),
    };
    ops::say_ready();
    Ok(agent::supervise(settings, disk, watch, ops::asked_to_end()).await?)
}
