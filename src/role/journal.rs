//! Role: the embedded journal; and its dump.

use std::io::{self, BufWriter, Write};

use anyhow::{Context, Result};
use journal::{Journal as _, JournalClient};

use crate::args::{Journal, JournalVerb, RoleFile};
use crate::config::JournalConfig;
use crate::ops;

/// Runs the role until asked to end, or a verb on the journal's files.
pub async fn run(journal: Journal) -> Result<()> {
    if let Some(JournalVerb::Dump { dir, topic }) = journal.verb {
        return dump(&dir, topic.as_deref());
    }
    let config = journal.config.context("name the configuration with --config FILE; see config/journal.toml")?;
    serve(RoleFile { config, parent: journal.parent }).await
}

async fn serve(file: RoleFile) -> Result<()> {
    let config: JournalConfig = super::begin(&file)?;
    let disk = super::disk(&config.state_dir)?;
    super::serve_ops(config.ops_listen).await?;
    let (_, watch) = super::watch(&config.admin, &disk, &config.state_dir).await?;
    let listener = ops::listen(config.listen, "append and read").await?;
    let settings = journal::JournalSettings { dir: config.state_dir, log: journal::LogSettings::default() };
    let own = JournalClient::connect(listener.local_addr()?.to_string())?;
    let answers = async || own.bounds(&[]).await.is_ok();
    Ok(ops::say_ready_once(journal::serve(settings, listener, watch, ops::asked_to_end()), answers).await?)
}

fn dump(dir: &std::path::Path, topic: Option<&str>) -> Result<()> {
    let mut out = BufWriter::new(io::stdout().lock());
    for line in journal::Dump::open(dir, topic)? {
        writeln!(out, "{}", line?)?;
    }
    Ok(out.flush()?)
}
