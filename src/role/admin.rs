//! Role: admin.

use std::sync::Arc;

use anyhow::Result;
use journal::Address;
use query::sql::{FlinkPlace, differences, for_flink};
use stream::Incarnation;
use stream::clock::SystemClock;
use stream::config::{Engine, KafkaFormat, KafkaTarget, SinkKind, StreamConfig, StreamSpec};
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
    let journal: Address = config.journal.parse()?;
    let settings = admin::AdminSettings {
        dir: config.state_dir,
        journal_addr: Some(config.journal),
        sql_check: Arc::new(move |spec| check_job(spec, &journal)),
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

/// Whether the stream's job runs on its engine. What its owner should know if it does.
fn check_job(spec: &StreamSpec, journal: &Address) -> Result<Vec<String>, String> {
    let config = StreamConfig { incarnation: Incarnation(0), version: 0, spec: spec.clone() };
    let sinks: Vec<&str> = spec.sinks.iter().map(|sink| sink.name.as_str()).collect();
    let job = query::sql::check(&config.sql(), &sinks).map_err(|error| error.to_string())?;
    for leg in &job.legs {
        let sink = spec.sinks.iter().find(|sink| sink.name == leg.sink);
        if let Some(SinkKind::Kafka(target)) = sink.map(|sink| &sink.kind) {
            check_columns(&leg.sink, target, &leg.schema)?;
        }
    }
    match (spec.engine, journal) {
        (Engine::Embedded, _) => Ok(job.warnings),
        (Engine::Flink, Address::Embedded(_)) => {
            Err("engine flink reads from Kafka, and the journal of this deployment is \
             the embedded one: take engine \"embedded\", or a Kafka journal"
                .to_owned())
        }
        (Engine::Flink, Address::Kafka(_)) => {
            // Where the job reads and writes is the engine role's to say, and no matter of the text.
            let differing = for_flink(&config.sql(), &spec.sinks, FlinkPlace::NONE)
                .and_then(|_| differences(&config.sql(), &sinks));
            let differing = differing.map_err(|error| format!("engine flink: {error}"))?;
            let differing = differing.iter().map(|differs| format!("the engines differ: {differs}"));
            let of_both = job.warnings.into_iter().filter(|warning| !warning.contains(query::sql::EMBEDDED_ONLY));
            Ok(of_both.chain(differing).collect())
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_job_is_checked_on_its_engine() {
        let sql = "CREATE TABLE r (line STRING) WITH ('format' = 'raw');\nINSERT INTO files SELECT 1 / CHAR_LENGTH(line) AS n FROM r";
        let mut spec = StreamSpec { sql: Some(sql.to_owned()), ..StreamSpec::new("a.b.c".parse().unwrap()) };
        let (embedded, kafka) = ("127.0.0.1:7703".parse().unwrap(), "kafka=k:1".parse().unwrap());
        assert_eq!((check_job(&spec, &embedded), check_job(&spec, &kafka)), (Ok(Vec::new()), Ok(Vec::new())));
        spec.engine = Engine::Flink;
        assert!(check_job(&spec, &embedded).unwrap_err().contains("Kafka journal"));
        let refused = check_job(&spec, &kafka).unwrap_err();
        assert!(refused.contains("line 2, column 28") && refused.contains("NULLIF"), "{refused}");
        spec.sql = Some(sql.replace("1 / CHAR_LENGTH(line)", "CAST(line AS INT)"));
        let warnings = check_job(&spec, &kafka).unwrap();
        assert!(warnings.len() == 1 && warnings[0].contains("raw-utf8"), "{warnings:?}");
    }
}
