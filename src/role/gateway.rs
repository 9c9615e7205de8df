//! Role: gateway.

use std::time::Duration;

use anyhow::Result;

use crate::args::RoleFile;
use crate::config::GatewayConfig;
use crate::ops;

/// Runs until asked to end.
pub async fn run(file: RoleFile) -> Result<()> {
    let config: GatewayConfig = super::begin(&file)?;
    let disk = super::disk(&config.state_dir)?;
    super::serve_ops(config.ops_listen).await?;
    let (admin, watch) = super::watch(&config.admin, &disk, &config.state_dir).await?;
    let mut settings = gateway::GatewaySettings::new(format!("gateway-{}", config.http_listen), config.journal, admin);
    settings.access = config.access;
    settings.plaintext = config.plaintext;
    settings.connection_rate = config.connection_rate;
    if let Some(seconds) = config.connection_age_seconds_max {
        settings.connection_age_max = Duration::from_secs(seconds);
    }
    settings.tls = config.tls;
    settings.check_door(config.http_listen)?;
    settings.check_door(config.grpc_listen)?;
    let http = ops::listen_anywhere(config.http_listen, "records over HTTP").await?;
    let grpc = ops::listen_anywhere(config.grpc_listen, "records over gRPC").await?;
    ops::say_ready();
    Ok(gateway::serve(settings, http, grpc, watch, ops::asked_to_end()).await?)
}
