//! Role: gateway.

use std::time::Duration;

use anyhow::Result;
use tracing::info;

use crate::args::RoleFile;
use crate::config::GatewayConfig;
use crate::ops;

/// Open files for everything else: producers' connections, the state, whoever asks for metrics.
const OTHER_FILES: u64 = 256;

/// Runs until asked to end.
pub async fn run(file: RoleFile) -> Result<()> {
    let config: GatewayConfig = super::begin(&file)?;
    let disk = super::disk(&config.state_dir)?;
    super::serve_ops(config.ops_listen).await?;
    let (admin, watch) = super::watch(&config.admin, &disk, &config.state_dir).await?;
    let mut settings = gateway::GatewaySettings::new(format!("gateway-{}", config.http_listen), config.journal, admin);
    settings.connections_max = settings.connections_max.min(connections_max(ops::raise_open_files()));
    info!(each_door = settings.connections_max, "connections are bounded");
    settings.gateway_bytes_max = config.memory_bytes_max;
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

/// Connections of each of the two doors that `open_files` leave room for.
fn connections_max(open_files: u64) -> usize {
    let left = open_files.saturating_sub(OTHER_FILES) / 2;
    usize::try_from(left).unwrap_or(usize::MAX).max(1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_doors_share_what_may_be_open() {
        assert_eq!([0, 1_024, 20_000].map(connections_max), [1, 384, 9_872]);
    }
}
