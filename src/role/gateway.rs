//! Role: gateway.

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
    let http = ops::listen(config.http_listen, "records over HTTP").await?;
    let grpc = ops::listen(config.grpc_listen, "records over gRPC").await?;
    let mut settings = gateway::GatewaySettings::new(format!("gateway-{}", config.http_listen), config.journal, admin);
    settings.connections_max = settings.connections_max.min(connections_max(ops::raise_open_files()));
    info!(each_door = settings.connections_max, "connections are bounded");
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
