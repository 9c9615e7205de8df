//! A leg that writes to Kafka is handed over while it runs and records flow: it is shut out, stands still, and goes on only
//! when an object says from where.

use std::fs;
use std::path::Path;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use harness::deployment::Deployment;
use harness::kafka::Clusters;
use harness::load::{Load, Producer};
use harness::{poll, topic};
use serde_json::{Value, json};

const STREAM: &str = "test.kafka.over";
/// More than are offered before the load is ended.
const RECORDS: u64 = 1_000_000;
/// Records that come while the leg stands still.
const MORE: u64 = 1_000;
/// A leg that runs may take itself back once before it is handed over, and waits after each refusal.
const HANDED_OVER: Duration = Duration::from_secs(60);

fn leg(deployment: &Deployment) -> Result<Value> {
    let ledger = deployment.ledger(STREAM)?;
    ledger.pointer("/legs/0").cloned().with_context(|| format!("no leg in {ledger}"))
}

fn delivered(deployment: &Deployment) -> Result<u64> {
    leg(deployment)?.pointer("/fates/delivered").and_then(Value::as_u64).context("nothing was delivered")
}

fn spec(brokers: &str, begin_from: Option<&Path>) -> Value {
    let sink = json!({"name": "topic", "kind": "kafka", "brokers": brokers, "topic": "over.rows", "partitions": 2,
        "format": "raw", "begin_from": begin_from});
    let sql = "CREATE TABLE r (line STRING) WITH ('format' = 'raw'); INSERT INTO topic SELECT line FROM r;";
    json!({"id": STREAM, "sql": sql, "sinks": [sink], "limits": {"checkpoint_ms": 500}})
}

#[test]
fn a_kafka_leg_that_was_handed_over_stands_still_and_goes_on_from_an_object() -> Result<()> {
    let scratch = tempfile::tempdir()?;
    let clusters = Clusters::start(&scratch.path().join("kafka"))?;
    let brokers = clusters.normal_bootstrap();
    let deployment = Deployment::start_bare(&scratch.path().join("data"))?;
    deployment.create_stream(&spec(&brokers, None))?;
    let mut load = Load::default();
    load.post(
        Producer { stream: STREAM.to_owned(), number: 1, rate: 500, line_bytes: 100, records: RECORDS },
        deployment.http,
    );
    poll::until("the first rows", HANDED_OVER, || Ok((delivered(&deployment)? > 500).then_some(())))?;

    let name = format!("{}.topic", deployment.journal_topic(STREAM)?);
    let object = poll::until("the hand-over", HANDED_OVER, || {
        let printed = deployment.verb(&["hand-over", &name, "--brokers", &brokers])?;
        ensure!(printed.status.success(), "{}", String::from_utf8_lossy(&printed.stderr));
        Ok(Some(printed.stdout))
    })?;
    poll::until("the leg stands still", HANDED_OVER, || {
        let leg = leg(&deployment)?;
        Ok(leg["failure"].as_str().is_some_and(|failure| failure.contains("was handed over")).then_some(()))
    })?;
    let before = load.records();
    poll::until("more records", HANDED_OVER, || Ok((load.records() >= before + MORE).then_some(())))?;
    load.end()?;
    let (offered, stood) = (load.records(), topic::committed(&brokers, "over.rows")?.len() as u64);
    ensure!(stood + MORE <= offered, "{stood} of {offered} were delivered although the leg stands still");
    let again = deployment.verb(&["hand-over", &name, "--brokers", &brokers])?;
    assert_eq!(again.stdout, object, "said again it says the same");

    let path = scratch.path().join("object.json");
    fs::write(&path, object)?;
    let put = deployment.api("PUT", &format!("/api/v1/streams/{STREAM}"), Some(&spec(&brokers, Some(&path))))?;
    assert_eq!(put.status, 200);
    poll::until("the rest", HANDED_OVER, || Ok((delivered(&deployment)? >= offered).then_some(())))?;
    let mut oracle = load.oracle();
    topic::committed(&brokers, "over.rows")?.iter().for_each(|row| oracle.saw(STREAM, &row.line));
    oracle.verdict().exactly_once(offered)
}
