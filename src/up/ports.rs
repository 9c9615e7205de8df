//! The ports of one `up`: those that a person chose, and free ones for what the roles say among themselves. The latter lie
//! below those that the kernel gives to outgoing connections: one of these could be taken by a connection before the role
//! listens, or while it is started again.

use std::net::{Ipv4Addr, SocketAddr, TcpListener};

use anyhow::{Context, Result};

use crate::args::Up;

/// Every address that a role listens on.
pub struct Ports {
    pub ui: SocketAddr,
    pub http: SocketAddr,
    pub grpc: SocketAddr,
    pub admin_ops: SocketAddr,
    pub journal: SocketAddr,
    pub journal_ops: SocketAddr,
    pub gateway_ops: SocketAddr,
    pub query_ops: SocketAddr,
    pub agent_ops: SocketAddr,
}

impl Ports {
    /// Chooses. All are held until the last is chosen, so that they differ; a port in use is named at once.
    pub fn choose(args: &Up) -> Result<Self> {
        let mut held = Vec::new();
        let mut hold = |listener: TcpListener| -> Result<SocketAddr> {
            let address = listener.local_addr()?;
            held.push(listener);
            Ok(address)
        };
        let mut choose = |port: u16, what: &str| match port {
            0 => hold(free().with_context(|| format!("no free port for {what}"))?),
            port => hold(TcpListener::bind((Ipv4Addr::LOCALHOST, port)).with_context(|| {
                format!(
                    "port {port} for {what} cannot be used; end what uses it, or choose another (0 picks a free one)"
                )
            })?),
        };
        Ok(Self {
            ui: choose(args.ui_port, "UI and API (--ui-port)")?,
            http: choose(args.http_port, "records over HTTP (--http-port)")?,
            grpc: choose(args.grpc_port, "records over gRPC (--grpc-port)")?,
            admin_ops: choose(0, "admin's metrics")?,
            journal: choose(0, "the journal")?,
            journal_ops: choose(0, "the journal's metrics")?,
            gateway_ops: choose(0, "the gateway's metrics")?,
            query_ops: choose(0, "the jobs' metrics")?,
            agent_ops: choose(0, "the agent's metrics")?,
        })
    }
}

/// Ports that are tried, one after the other.
const TRIES: usize = 64;
/// How many ports below the outgoing ones are free to choose from.
const SPAN: u16 = 8_192;
/// Where Linux begins with outgoing connections if it is not told otherwise.
const OUTGOING_DEFAULT: u16 = 32_768;

/// A free port below those of outgoing connections; any, if there is none among those tried.
fn free() -> std::io::Result<TcpListener> {
    let range = std::fs::read_to_string("/proc/sys/net/ipv4/ip_local_port_range").unwrap_or_default();
    let outgoing = range.split_whitespace().next().and_then(|first| first.parse().ok()).unwrap_or(OUTGOING_DEFAULT);
    let lowest = outgoing.saturating_sub(SPAN).max(1_024);
    let mut below = (0..TRIES).filter(|_| lowest < outgoing).map(|_| rand::random_range(lowest..outgoing));
    let found = below.find_map(|port| TcpListener::bind((Ipv4Addr::LOCALHOST, port)).ok());
    found.map_or_else(|| TcpListener::bind((Ipv4Addr::LOCALHOST, 0)), Ok)
}
