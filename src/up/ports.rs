//! The ports of one `up`: those that a person chose, and free ones for what the roles say among themselves.

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
        let mut choose = |port: u16, what: &str| -> Result<SocketAddr> {
            let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, port)).with_context(|| {
                format!(
                    "port {port} for {what} cannot be used; end what uses it, or choose another (0 picks a free one)"
                )
            })?;
            let address = listener.local_addr()?;
            held.push(listener);
            Ok(address)
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
