//! What cannot be converted: kept with its cause in files and in a topic, shown, and delivered once after the job was
//! mended, whoever is killed meanwhile.

use std::collections::BTreeMap;

use anyhow::{Context, Result, ensure};
use harness::deployment::Deployment;
use harness::http::Client;
use harness::kafka::Clusters;
use harness::{killer, parquet_rows, poll, topic};
use kafka::topics::Wanted;
use rustix::process::Signal;
use serde_json::{Value, json};

use crate::kafka::{DELIVERED, wait_delivered};

const STREAM: &str = "test.quarantine.poison";
const RECORDS: u64 = 1_000;
/// The one that no job can convert.
const HOPELESS: u64 = 700;
const SQL: &str = "CREATE TABLE r (n INT) WITH ('format' = 'json'); INSERT INTO files SELECT n FROM r; \
    INSERT INTO target SELECT n FROM r;";
/// Takes the letter off that made the first one fail.
const MENDED: &str = "CREATE TABLE r (n STRING) WITH ('format' = 'json'); \
    INSERT INTO files SELECT CAST(REGEXP_EXTRACT(n, 'p?(.*)', 1) AS INT) AS n FROM r; \
    INSERT INTO target SELECT CAST(REGEXP_EXTRACT(n, 'p?(.*)', 1) AS INT) AS n FROM r;";

/// One in a hundred is poison.
fn line(n: u64) -> String {
    match n {
        HOPELESS => "{\"n\":\"hopeless\"}\n".to_owned(),
        n if n % 100 == 7 => format!("{{\"n\":\"p{n}\"}}\n"),
        n => format!("{{\"n\":{n}}}\n"),
    }
}

#[test]
fn what_cannot_be_converted_is_kept_with_its_cause_and_delivered_once_when_the_job_is_mended() -> Result<()> {
    let scratch = tempfile::tempdir()?;
    let clusters = Clusters::start(&scratch.path().join("kafka"))?;
    let deployment = Deployment::start_bare(&scratch.path().join("data"))?;
    let normal = clusters.normal_bootstrap();
    let target = json!({"name": "target", "kind": "kafka", "brokers": normal, "topic": "poison.rows"});
    let sinks = json!([{"name": "files", "kind": "files"}, target]);
    let limits = json!({"checkpoint_ms": 500});
    deployment.create_stream(&json!({"id": STREAM, "format": "json", "sql": SQL, "sinks": sinks, "limits": limits}))?;
    post(&deployment)?;
    for leg in 0..2 {
        wait_delivered(&deployment, STREAM, leg, RECORDS - 11)?;
    }
    assert_eq!(in_quarantine(&deployment)?, [11, 11]);
    let kept = topic::committed(&normal, &format!("{}.target.quarantine", deployment.journal_topic(STREAM)?))?;
    ensure!(kept.len() == 11 && kept.iter().all(|row| row.headers.contains("il-cause=")), "{kept:?}");
    let shown = said(&deployment, &["quarantine", "show", STREAM, "--json"])?;
    let shown: Vec<Value> = shown.lines().map(serde_json::from_str).collect::<Result<_, _>>()?;
    ensure!(shown.len() == 22 && shown.iter().all(|one| one["cause"].is_string()), "{shown:?}");

    said(&deployment, &["stream", "set", STREAM, &format!("sql={MENDED}")])?;
    said(&deployment, &["quarantine", "replay", STREAM])?;
    kill_query(&deployment)?;
    poll::until("ten of eleven are replayed", DELIVERED, || Ok((in_quarantine(&deployment)? == [1, 1]).then_some(())))?;
    each_once(&deployment, &normal)?;

    // Again with nothing mended: the hopeless one is tried, and set apart anew.
    said(&deployment, &["quarantine", "replay", STREAM, "--leg", "target"])?;
    poll::until("the hopeless one is tried again", DELIVERED, || {
        let replayed = deployment.ledger(STREAM)?.pointer("/legs/1/fates/replayed").and_then(Value::as_u64);
        Ok((replayed == Some(12)).then_some(()))
    })?;
    assert_eq!(in_quarantine(&deployment)?, [1, 1]);
    each_once(&deployment, &normal)?;
    a_row_that_the_topic_does_not_take_is_set_apart(&deployment, &normal)
}

fn a_row_that_the_topic_does_not_take_is_set_apart(deployment: &Deployment, bootstrap: &str) -> Result<()> {
    const LARGE: &str = "test.quarantine.large";
    tokio::runtime::Builder::new_multi_thread().enable_all().build()?.block_on(async {
        let (topic, settings) = ("small.rows".to_owned(), [("max.message.bytes", "2000".to_owned())].into());
        let wanted = Wanted { topic, partitions: 1, replication: 3, settings };
        kafka::topics::ensure(&kafka::Cluster::new(bootstrap)?, &[wanted]).await
    })?;
    let sql = "CREATE TABLE r (line STRING) WITH ('format' = 'raw'); INSERT INTO target SELECT line FROM r;";
    let target = json!({"name": "target", "kind": "kafka", "brokers": bootstrap, "topic": "small.rows"});
    let limits = json!({"checkpoint_ms": 500});
    deployment.create_stream(&json!({"id": LARGE, "sql": sql, "sinks": [target], "limits": limits}))?;
    let body = format!("before\n{}\nbehind\n", "x".repeat(3_000));
    let path = format!("/v1/streams/{LARGE}/records");
    poll::until("the records are taken", DELIVERED, || {
        let answer =
            Client::new(deployment.http).exchange("POST", &path, &[("idempotency-key", "k")], body.as_bytes())?;
        Ok((answer.status == 200).then_some(()))
    })?;
    wait_delivered(deployment, LARGE, 0, 2)?;
    let causes = said(deployment, &["quarantine", "show", LARGE, "--causes"])?;
    ensure!(causes.contains("more than topic small.rows takes"), "{causes}");
    Ok(())
}

fn post(deployment: &Deployment) -> Result<()> {
    let body: String = (0..RECORDS).map(line).collect();
    let path = format!("/v1/streams/{STREAM}/records");
    poll::until("the records are taken", DELIVERED, || {
        let answer =
            Client::new(deployment.http).exchange("POST", &path, &[("idempotency-key", "k")], body.as_bytes())?;
        ensure!(answer.status == 200, "{}", answer.status);
        Ok(Some(()))
    })
}

/// Runs a verb that must succeed.
fn said(deployment: &Deployment, arguments: &[&str]) -> Result<String> {
    let output = deployment.verb(arguments)?;
    ensure!(output.status.success(), "{arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
    Ok(String::from_utf8(output.stdout)?)
}

fn kill_query(deployment: &Deployment) -> Result<()> {
    let processes = killer::descendants(deployment.pid()?);
    let query = processes.iter().find(|process| process.kind == "query").context("no query")?;
    killer::signal(query.pid, Signal::KILL)
}

/// What `quarantine list` says of the two legs.
fn in_quarantine(deployment: &Deployment) -> Result<Vec<u64>> {
    let list = said(deployment, &["quarantine", "list", STREAM])?;
    let count = |line: &str| line.split_whitespace().nth(2)?.parse().ok();
    Ok(list.lines().skip(1).filter_map(count).collect())
}

/// Every record but the hopeless one is in the files once and in the topic once, and the files prove it.
fn each_once(deployment: &Deployment, bootstrap: &str) -> Result<()> {
    let expected: BTreeMap<u64, u64> = (0..RECORDS).filter(|n| *n != HOPELESS).map(|n| (n, 1)).collect();
    let mut found: BTreeMap<u64, u64> = BTreeMap::new();
    for row in topic::committed(bootstrap, "poison.rows")? {
        let n = serde_json::from_str::<Value>(&row.line)?["n"].as_u64().context("no number")?;
        *found.entry(n).or_default() += 1;
    }
    assert_eq!(found, expected, "in the topic");
    let mut found: BTreeMap<u64, u64> = BTreeMap::new();
    for file in parquet_rows::published(&deployment.out(STREAM))? {
        parquet_rows::each_int(&file, "n", |n| *found.entry(n as u64).or_default() += 1)?;
    }
    assert_eq!(found, expected, "in the files");
    said(deployment, &["ledger", STREAM, "--verify"]).map(drop)
}

#[test]
fn a_tap_shows_what_comes_and_what_becomes_of_it() -> Result<()> {
    const TAPPED: &str = "test.quarantine.tapped";
    let scratch = tempfile::tempdir()?;
    let deployment = Deployment::start_bare(&scratch.path().join("data"))?;
    let sql = "CREATE TABLE r (n INT) WITH ('format' = 'json'); INSERT INTO files SELECT n FROM r WHERE n < 2;";
    let limits = json!({"checkpoint_ms": 500});
    deployment.create_stream(&json!({"id": TAPPED, "format": "json", "sql": sql, "limits": limits}))?;
    let path = format!("/v1/streams/{TAPPED}/records");
    poll::until("the records are taken", DELIVERED, || {
        let answer = Client::new(deployment.http).exchange("POST", &path, &[], b"{\"n\":1}\n{\"n\":2}\nno JSON\n")?;
        ensure!(answer.status == 200, "{}", answer.status);
        Ok(Some(()))
    })?;
    let tapped = said(&deployment, &["stream", "tap", TAPPED, "--from-start", "--settled", "--limit", "3", "--json"])?;
    let lines: Vec<Value> = tapped.lines().map(serde_json::from_str).collect::<Result<_, _>>()?;
    let fates: Vec<(&str, bool)> = lines
        .iter()
        .filter_map(|line| {
            let leg = &line["legs"]["files"];
            Some((leg["fate"].as_str()?, leg["committed"].as_bool()?))
        })
        .collect();
    assert_eq!(fates, [("delivered", true), ("filtered", true), ("quarantined", true)], "{tapped}");
    Ok(())
}
