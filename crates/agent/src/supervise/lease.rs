//! The agent's id, and its lease: no two machines may collect under one id, or their sources would be confused.
//!
//! A new id is kept only once admin has leased it. A known one goes on while admin is away. A lease that another holder
//! has is waited for (this machine may have restarted a moment ago), then refused.

use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use serde::Serialize;
use stream::control::{AdminClient, ControlError};
use stream::disk::{SharedDisk, read_all, write_atomically};
use stream::retry::Backoff;
use tracing::{info, warn};

use super::SuperviseError;
use crate::settings::AgentSettings;

/// HTTP 409.
const CONFLICT: u16 = 409;
/// A lease held by another is waited for this many renewals.
const PATIENCE_RENEWALS: u32 = 4;

/// The agent's right to its id.
#[derive(Clone)]
pub struct Lease {
    /// The id.
    pub agent_id: String,
    boot_nonce: String,
    admin: AdminClient,
    every: Duration,
}

#[derive(Serialize)]
struct LeaseRequest<'a> {
    boot_nonce: &'a str,
}

/// Finds or makes the agent's id and leases it.
pub async fn acquire(settings: &AgentSettings, disk: &SharedDisk, admin: AdminClient) -> Result<Lease, SuperviseError> {
    let path = settings.state_dir.join("agent-id");
    let kept = kept(disk, &path)?;
    let made = || format!("{:016x}", rand::random::<u64>());
    let agent_id = settings.agent_id.clone().or_else(|| kept.clone()).unwrap_or_else(made);
    let known = kept.as_ref() == Some(&agent_id);
    let lease = Lease { agent_id, boot_nonce: boot_nonce(&settings.state_dir), admin, every: settings.pace.lease };
    lease.first(known).await?;
    if !known {
        write_atomically(disk.as_ref(), &path, lease.agent_id.as_bytes(), |_| ())
            .map_err(|cause| SuperviseError::State { path, cause })?;
    }
    info!(agent = lease.agent_id, "agent id leased");
    Ok(lease)
}

impl Lease {
    async fn first(&self, known: bool) -> Result<(), SuperviseError> {
        let until = Instant::now() + self.every * PATIENCE_RENEWALS;
        let mut backoff = Backoff::default();
        loop {
            match self.renew().await {
                Ok(()) => return Ok(()),
                Err(ControlError::Refused { status: CONFLICT, message }) if Instant::now() >= until => {
                    return Err(self.taken(message));
                }
                Err(ControlError::Refused { status: CONFLICT, message }) => {
                    warn!(agent = self.agent_id, message, "another holder has the lease; waiting for its end");
                }
                Err(error) if known => {
                    warn!(agent = self.agent_id, %error, "the lease is not renewed; a known agent goes on");
                    return Ok(());
                }
                Err(error) => {
                    warn!(agent = self.agent_id, %error, "a new agent needs a lease; trying again");
                }
            }
            let wait = backoff.next_wait(Duration::from_millis(50), &mut rand::rng()).min(self.every);
            tokio::time::sleep(wait).await;
        }
    }

    /// Renews the lease until another holder has it.
    pub async fn keep(&self) -> SuperviseError {
        loop {
            tokio::time::sleep(self.every).await;
            match self.renew().await {
                Ok(()) => {}
                Err(ControlError::Refused { status: CONFLICT, message }) => return self.taken(message),
                Err(error) => warn!(agent = self.agent_id, %error, "the lease is not renewed; trying again"),
            }
        }
    }

    async fn renew(&self) -> Result<(), ControlError> {
        let path = format!("/api/v1/agents/{}/lease", self.agent_id);
        let request = LeaseRequest { boot_nonce: &self.boot_nonce };
        self.admin.send::<serde_json::Value>(http::Method::POST, &path, &request).await.map(drop)
    }

    fn taken(&self, message: String) -> SuperviseError {
        SuperviseError::IdTaken { agent_id: self.agent_id.clone(), message }
    }
}

fn kept(disk: &SharedDisk, path: &Path) -> Result<Option<String>, SuperviseError> {
    let fail = |cause| SuperviseError::State { path: path.to_owned(), cause };
    if !disk.exists(path) {
        return Ok(None);
    }
    let bytes = read_all(disk.as_ref(), path).map_err(fail)?;
    let id = String::from_utf8_lossy(&bytes).trim().to_owned();
    let plain = (1..=64).contains(&id.len()) && id.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-');
    let damaged = || SuperviseError::DamagedId(PathBuf::from(path));
    if plain { Ok(Some(id)) } else { Err(damaged()) }
}

/// What tells this agent from its clone: the machine's boot and the state folder's inode. The same agent restarted on
/// the same machine has the same one.
fn boot_nonce(state_dir: &Path) -> String {
    let mut hasher = blake3::Hasher::new();
    hasher.update(&std::fs::read("/proc/sys/kernel/random/boot_id").unwrap_or_default());
    if let Ok(metadata) = std::fs::metadata(state_dir) {
        hasher.update(&metadata.dev().to_le_bytes()).update(&metadata.ino().to_le_bytes());
    }
    hasher.finalize().to_hex()[..16].to_owned()
}
