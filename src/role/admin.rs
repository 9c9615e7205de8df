//! Role: admin.

use std::sync::Arc;

use anyhow::Result;
use stream::clock::SystemClock;
use stream::config::{KafkaFormat, KafkaTarget, SinkKind, StreamSpec};
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

/// Whether key and headers are columns that the leg has, beside those of the value.
fn check_columns(sink: &str, target: &KafkaTarget, schema: &arrow_schema::Schema) -> Result<(), String> {
    let taken: Vec<&String> = target.key.iter().chain(&target.headers).collect();
    let missing = taken.iter().find(|name| schema.index_of(name).is_err());
    if let Some(name) = missing {
        return Err(format!("sink {sink}: its key or header {name:?} is no column of its INSERT"));
    }
    if target.headers.iter().any(|name| name == stream::provenance::HEADER_NAME) {
        return Err(format!("sink {sink}: header {:?} is isolane's own", stream::provenance::HEADER_NAME));
    }
    let left = schema.fields().iter().filter(|field| !taken.contains(&field.name())).count();
    match target.format {
        KafkaFormat::Raw if left != 1 => {
            Err(format!("sink {sink}: format raw takes one column beside key and headers, there are {left}"))
        }
        _ => Ok(()),
    }
}

/// Whether the stream's job runs on the embedded engine.
pub fn check_sql(spec: &StreamSpec) -> Result<(), String> {
    let config = stream::config::StreamConfig { incarnation: stream::Incarnation(0), version: 0, spec: spec.clone() };
    let sinks: Vec<&str> = spec.sinks.iter().map(|sink| sink.name.as_str()).collect();
    let job = query::sql::check(&config.sql(), &sinks).map_err(|error| error.to_string())?;
    for leg in &job.legs {
        let sink = spec.sinks.iter().find(|sink| sink.name == leg.sink);
        if let Some(SinkKind::Kafka(target)) = sink.map(|sink| &sink.kind) {
            check_columns(&leg.sink, target, &leg.schema)?;
        }
    }
    Ok(())
}
