//! Role: agent, the supervisor of the collecting workers.

use std::path::PathBuf;

use agent::Gateway;
use anyhow::{Context, Result, bail};

use crate::args::RoleFile;
use crate::config::{AgentConfig, GatewayTls};
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
        gateway: gateway_of(config.gateway, config.gateway_token_file, config.gateway_tls)?,
        admin: config.admin,
        worker_command: vec![program.to_string_lossy().into_owned(), "worker".to_owned()],
        pace: agent::Pace::default(),
    };
    ops::say_ready();
    Ok(agent::supervise(settings, disk, watch, ops::asked_to_end()).await?)
}

/// The gateway, and what is shown to it.
fn gateway_of(url: String, token_file: Option<PathBuf>, tls: Option<GatewayTls>) -> Result<Gateway> {
    let (ca, certificate, key) = tls.map_or((None, None, None), |tls| (tls.ca, tls.certificate, tls.key));
    let identity = match (certificate, key) {
        (Some(certificate), Some(key)) => Some((certificate, key)),
        (None, None) => None,
        _ => bail!("gateway_tls: certificate and key belong together"),
    };
    Ok(Gateway { url, token_file, ca, identity })
}
