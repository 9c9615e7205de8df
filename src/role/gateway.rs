//! Role: gateway.

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
    let http = ops::listen(config.http_listen, "records over HTTP").await?;
    let grpc = ops::listen(config.grpc_listen, "records over gRPC").await?;
    let mut settings = gateway::GatewaySettings::new(format!("gateway-{}", config.http_listen), config.journal, admin);
    settings.gateway_bytes_max = config.memory_bytes_max;
    ops::say_ready();
    Ok(gateway::serve(settings, http, grpc, watch, ops::asked_to_end()).await?)
}
