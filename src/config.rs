//! The roles' configuration files: read raw, unknown keys refused, checked once. A commented example of each lies in
//! `config/`; the tests here keep the examples true.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, ensure};
use gateway::{Access, TlsFiles};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use stream::token::Rate;

/// `config/admin.toml`.
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct AdminConfig {
    /// UI and API.
    pub listen: SocketAddr,
    /// Health and metrics.
    pub ops_listen: SocketAddr,
    /// The database's folder.
    pub state_dir: PathBuf,
    /// Which journal: `host:port` of the embedded one, or `kafka=...`; the ledger asks it for the topics' ends.
    pub journal: String,
}

/// `config/journal.toml`.
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct JournalConfig {
    /// gRPC: append and read.
    pub listen: SocketAddr,
    /// Health and metrics.
    pub ops_listen: SocketAddr,
    /// The log's folder.
    pub state_dir: PathBuf,
    /// Where streams are configured.
    pub admin: String,
}

/// `config/gateway.toml`.
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct GatewayConfig {
    /// Records over HTTP.
    pub http_listen: SocketAddr,
    /// Records over gRPC.
    pub grpc_listen: SocketAddr,
    /// Health and metrics.
    pub ops_listen: SocketAddr,
    /// Where the last good copy of the configuration lies.
    pub state_dir: PathBuf,
    /// Which journal: `host:port` of the embedded one, or `kafka=HOST:PORT,...[;failover=HOST:PORT,...]`.
    pub journal: String,
    /// Where streams are configured.
    pub admin: String,
    /// Bytes of all streams together: being read, queued and in flight.
    #[serde(default = "memory_bytes_max")]
    pub memory_bytes_max: usize,
    /// What senders must show.
    #[serde(default)]
    pub access: Access,
    /// Doors beyond loopback without TLS: a balancer before them ends it.
    #[serde(default)]
    pub plaintext: bool,
    /// What one connection may bring.
    #[serde(default)]
    pub connection_rate: Rate,
    /// How old a connection gets, in seconds, before its client is asked to come again.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub connection_age_seconds_max: Option<u64>,
    /// TLS at both doors.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tls: Option<TlsFiles>,
}

/// An agent's `[gateway_tls]`: PEM files, read for each connection.
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct GatewayTls {
    /// The authority of the gateway's certificate; none: those that the system trusts.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ca: Option<PathBuf>,
    /// The agent's own certificate; with `key`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub certificate: Option<PathBuf>,
    /// Its private key.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub key: Option<PathBuf>,
}

/// Of a gateway that is not told.
pub fn memory_bytes_max() -> usize {
    stream::limits::GATEWAY_BYTES_MAX
}

/// `config/query.toml`.
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct QueryConfig {
    /// Health and metrics.
    pub ops_listen: SocketAddr,
    /// Where the last good copy of the configuration lies.
    pub state_dir: PathBuf,
    /// Where files sinks without a path of their own publish: `<out_dir>/<stream>/<sink>`.
    pub out_dir: PathBuf,
    /// Which journal: `host:port` of the embedded one, or `kafka=HOST:PORT,...[;failover=HOST:PORT,...]`.
    pub journal: String,
    /// Where streams are configured.
    pub admin: String,
}

/// `config/engine.toml`.
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct EngineConfig {
    /// Health and metrics.
    pub ops_listen: SocketAddr,
    /// What is remembered of each job, and the last good copy of the configuration.
    pub state_dir: PathBuf,
    /// Flink's checkpoints and hand-over objects: the same path here and on all machines of the cluster.
    pub checkpoint_dir: PathBuf,
    /// Where files sinks without a path of their own publish: `<out_dir>/<stream>/<sink>`; the same path here and there.
    pub out_dir: PathBuf,
    /// `host:port` of Flink's SQL Gateway.
    pub sql_gateway: String,
    /// `host:port` of the JobManager's REST API.
    pub job_manager: String,
    /// The journal: `kafka=HOST:PORT,...[;failover=HOST:PORT,...]`.
    pub journal: String,
    /// The journal's clusters as Flink reaches them, if by other addresses: `normal=HOST:PORT,...[;failover=HOST:PORT,...]`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub clusters: Option<String>,
    /// Where streams are configured.
    pub admin: String,
}

/// `config/agent.toml`.
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct AgentConfig {
    /// Health and metrics.
    pub ops_listen: SocketAddr,
    /// Positions, cuts and quarantine of every stream.
    pub state_dir: PathBuf,
    /// The gateway's gRPC door, e.g. `http://127.0.0.1:7702`, or `https://gateway.example:7702`.
    pub gateway: String,
    /// Where streams are configured.
    pub admin: String,
    /// The file that holds the write token to show to the gateway.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub gateway_token_file: Option<PathBuf>,
    /// TLS to the gateway.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub gateway_tls: Option<GatewayTls>,
}

/// Reads a role's file.
pub fn read<T: DeserializeOwned>(path: &Path) -> Result<T> {
    let text = std::fs::read_to_string(path).with_context(|| format!("reading {}", path.display()))?;
    toml::from_str(&text).with_context(|| format!("{}: see config/ for a commented example", path.display()))
}

/// Listening beyond this machine needs authentication, which only a gateway's doors have.
pub fn on_loopback(address: SocketAddr) -> Result<SocketAddr> {
    ensure!(
        address.ip().is_loopback(),
        "{address} is not a loopback address: without authentication isolane listens on 127.0.0.1 only"
    );
    Ok(address)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn example<T: DeserializeOwned>(name: &str) -> T {
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("config").join(name);
        read(&path).unwrap_or_else(|error| panic!("{error:#}"))
    }

    #[test]
    fn the_examples_are_true() {
        let addresses = [
            example::<AdminConfig>("admin.toml").listen,
            example::<JournalConfig>("journal.toml").listen,
            example::<GatewayConfig>("gateway.toml").http_listen,
            example::<QueryConfig>("query.toml").ops_listen,
            example::<EngineConfig>("engine.toml").ops_listen,
            example::<AgentConfig>("agent.toml").ops_listen,
        ];
        addresses.into_iter().for_each(|address| assert!(on_loopback(address).is_ok()));
        let stream: stream::config::StreamSpec = example("stream.toml");
        assert_eq!(stream.check(), Ok(()));
    }

    #[test]
    fn an_open_door_is_refused() {
        assert!(on_loopback("0.0.0.0:7700".parse().unwrap()).is_err());
    }
}
