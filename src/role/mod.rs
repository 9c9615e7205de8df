//! The roles: each file turns one configuration file into its crate's settings, listens, and serves until asked to end.

pub mod admin;
pub mod journal;
pub mod gateway;
pub mod query;
pub mod engine;
pub mod agent;
pub mod worker;

use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;

use anyhow::{Context, Result};
use serde::de::DeserializeOwned;
use stream::control::{AdminClient, ConfigWatch, watch_config};
use stream::disk::{Disk, RealDisk, SharedDisk};

use crate::args::RoleFile;
use crate::{config, ops};

/// What all roles do first: logs, the bond to the parent, their configuration.
fn begin<T: DeserializeOwned>(file: &RoleFile) -> Result<T> {
    ops::start_logs();
    ops::die_with(file.parent)?;
    config::read(&file.config)
}

/// Serves health and metrics beside the role's work.
async fn serve_ops(address: SocketAddr) -> Result<()> {
    let metrics = ops::start_metrics()?;
    let listener = ops::listen(address, "health and metrics").await?;
    tokio::spawn(ops::serve(listener, metrics));
    Ok(())
}

/// The machine's disk, with the role's folder on it.
fn disk(state_dir: &Path) -> Result<SharedDisk> {
    RealDisk.create_dir_all(state_dir).with_context(|| format!("cannot write {}", state_dir.display()))?;
    Ok(Arc::new(RealDisk))
}

/// Watches the configuration, with the last good copy in the role's folder.
async fn watch(admin: &str, disk: &SharedDisk, state_dir: &Path) -> Result<(AdminClient, ConfigWatch)> {
    let client = AdminClient::new(admin);
    let watch = watch_config(client.clone(), disk.clone(), state_dir.join("config.json")).await?;
    Ok((client, watch))
}
