//! Role: admin.

use std::sync::Arc;

use anyhow::Result;
use stream::clock::SystemClock;
use stream::config::StreamSpec;
use stream::control::AdminClient;

use crate::args::RoleFile;
use crate::config::AdminConfig;
use crate::ops;

/// Runs until asked to end.
pub async fn run(file: RoleFile) -> Result<()> {
    let config: AdminConfig = super::begin(&file)?;
    super::disk(&config.state_dir)?;
    super::serve_ops(config.ops_listen).await?;
    let listener = ops::listen(config.listen, "UI and API").await?;
    let settings = admin::AdminSettings {
        dir: config.state_dir,
        journal_addr: Some(config.journal),
        sql_check: Arc::new(check_sql),
        clock: Arc::new(SystemClock),
    };
    let own = AdminClient::new(format!("http://{}", listener.local_addr()?));
    let answers = async || own.get::<serde_json::Value>("/api/v1/streams").await.is_ok();
    Ok(ops::say_ready_once(admin::serve(settings, listener, ops::asked_to_end()), answers).await?)
}

/// Whether the stream's job runs on the embedded engine.
pub fn check_sql(spec: &StreamSpec) -> Result<(), String> {
    let config = stream::config::StreamConfig { incarnation: stream::Incarnation(0), version: 0, spec: spec.clone() };
    let sinks: Vec<&str> = spec.sinks.iter().map(|sink| sink.name.as_str()).collect();
    query::sql::check(&config.sql(), &sinks).map(drop).map_err(|error| error.to_string())
}
