//! A real Kafka as the journal and as a sink. The clusters can be broken node by node, and say so themselves; a sink that
//! is dead holds up nobody; a job that was frozen past its transaction's time commits nothing.

use std::collections::{BTreeMap, BTreeSet};
use std::process::Command;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use harness::deployment::{Deployment, binary};
use harness::kafka::Clusters;
use harness::kafka::replies::{Api, Holds};
use harness::killer;
use harness::load::{Load, Producer};
use harness::{parquet_rows, poll, topic};
use kafka::batch::BatchWriter;
use kafka::topics::Wanted;
use kafka::transaction::{Settings, TransactionalProducer};
use rustix::process::Signal;
use serde_json::{Value, json};

/// The controller waits for the end of a broker's session, 6 s, and the machine is shared.
const NOTICED: Duration = Duration::from_secs(60);

fn wait_seen(clusters: &Clusters, by: &[&str], brokers: &[i32]) -> Result<()> {
    let expected: BTreeSet<i32> = brokers.iter().copied().collect();
    for node in by {
        poll::until(&format!("{node} sees {brokers:?}"), NOTICED, || {
            let seen = clusters.brokers_seen_by(node)?;
            ensure!(seen == expected, "it sees {seen:?}");
            Ok(Some(()))
        })?;
    }
    Ok(())
}

#[test]
fn a_broker_dies_freezes_and_comes_back_and_the_other_cluster_notices_nothing() -> Result<()> {
    let scratch = tempfile::tempdir()?;
    let mut clusters = Clusters::start(scratch.path())?;
    let bootstrap = clusters.normal_bootstrap();
    ensure!(bootstrap.split(',').count() == 3 && clusters.failover_bootstrap().split(',').count() == 1, "{bootstrap}");

    clusters.kill("normal-2")?;
    ensure!(clusters.brokers_seen_by("normal-2").is_err(), "a dead broker answers");
    ensure!(clusters.kill("normal-2").is_err(), "it was killed twice");
    wait_seen(&clusters, &["normal-1", "normal-3"], &[1, 3])?;
    wait_seen(&clusters, &["failover-201"], &[201])?;

    clusters.restart("normal-2")?;
    wait_seen(&clusters, &["normal-1", "normal-2", "normal-3"], &[1, 2, 3])?;
    ensure!(clusters.normal_bootstrap() == bootstrap, "it came back on another port");

    clusters.pause("normal-3")?;
    ensure!(clusters.brokers_seen_by("normal-3").is_err(), "a frozen broker answers");
    clusters.resume("normal-3")?;
    wait_seen(&clusters, &["normal-3"], &[1, 2, 3])?;

    clusters.stop_cleanly("normal-1")?;
    wait_seen(&clusters, &["normal-2", "normal-3"], &[2, 3])?;
    wait_seen(&clusters, &["failover-201"], &[201])
}

pub const DELIVERED: Duration = Duration::from_secs(120);
/// Longer than a leg's transaction may stay open: two checkpoints of 1 s, 90 s, and the 10 s in which a cluster looks.
const PAST_THE_TRANSACTION: Duration = Duration::from_secs(105);

fn producer(stream: &str, records: u64) -> Producer {
    Producer { stream: stream.to_owned(), number: 1, rate: 1_000, line_bytes: 100, records }
}

fn kafka_sink(name: &str, brokers: &str, topic: &str) -> Value {
    json!({"name": name, "kind": "kafka", "brokers": brokers, "topic": topic, "partitions": 2, "format": "raw"})
}

fn delivered(deployment: &Deployment, stream: &str, leg: usize) -> Result<u64> {
    let ledger = deployment.ledger(stream)?;
    let pointer = format!("/legs/{leg}/fates/delivered");
    ledger.pointer(&pointer).and_then(Value::as_u64).with_context(|| format!("no {pointer} in {ledger}"))
}

pub fn wait_delivered(deployment: &Deployment, stream: &str, leg: usize, records: u64) -> Result<()> {
    poll::until(&format!("{records} records of leg {leg}"), DELIVERED, || {
        let delivered = delivered(deployment, stream, leg)?;
        ensure!(delivered >= records, "{delivered} delivered");
        Ok(Some(()))
    })
}

/// What came out of a topic, against what was offered.
fn exactly_once(load: &Load, stream: &str, bootstrap: &str, topic: &str, records: u64) -> Result<()> {
    let mut oracle = load.oracle();
    oracle.forget_seen();
    topic::committed(bootstrap, topic)?.iter().for_each(|row| oracle.saw(stream, &row.line));
    oracle.verdict().exactly_once(records)
}

#[test]
fn a_dead_sink_holds_up_nobody_and_catches_up() -> Result<()> {
    const STREAM: &str = "test.kafka.legs";
    let scratch = tempfile::tempdir()?;
    let mut clusters = Clusters::start(&scratch.path().join("kafka"))?;
    let deployment = Deployment::start_bare(&scratch.path().join("data"))?;
    let sql = "CREATE TABLE r (line STRING) WITH ('format' = 'raw'); INSERT INTO files SELECT line FROM r; \
               INSERT INTO near SELECT line FROM r; INSERT INTO far SELECT line FROM r;";
    let (near, far) = (clusters.normal_bootstrap(), clusters.failover_bootstrap());
    let files = json!({"name": "files", "kind": "files"});
    let sinks = json!([files, kafka_sink("near", &near, "near.rows"), kafka_sink("far", &far, "far.rows")]);
    deployment.create_stream(&json!({"id": STREAM, "sql": sql, "sinks": sinks, "limits": {"checkpoint_ms": 500}}))?;
    let mut load = Load::default();
    load.post(producer(STREAM, 20_000), deployment.http);
    for leg in 0..3 {
        wait_delivered(&deployment, STREAM, leg, 1_000)?;
    }

    clusters.kill("failover-201")?;
    let stuck = delivered(&deployment, STREAM, 2)?;
    for leg in 0..2 {
        wait_delivered(&deployment, STREAM, leg, 20_000)?;
    }
    ensure!(delivered(&deployment, STREAM, 2)? < 20_000, "the dead sink delivered all, {stuck} when it died");

    clusters.restart("failover-201")?;
    wait_delivered(&deployment, STREAM, 2, 20_000)?;
    load.end()?;
    exactly_once(&load, STREAM, &near, "near.rows", 20_000)?;
    exactly_once(&load, STREAM, &far, "far.rows", 20_000)?;
    assert_eq!(parquet_rows::rows(&deployment.out(STREAM))?, 20_000);
    Ok(())
}

#[test]
fn a_job_that_was_frozen_past_its_transaction_commits_nothing_twice() -> Result<()> {
    const STREAM: &str = "test.kafka.frozen";
    let scratch = tempfile::tempdir()?;
    let clusters = Clusters::start(&scratch.path().join("kafka"))?;
    let (normal, failover) = (clusters.normal_bootstrap(), clusters.failover_bootstrap());
    let journal = format!("kafka={normal};failover={failover}");
    let mut deployment = Deployment::new(&scratch.path().join("data"), &["--no-first-stream", "--journal", &journal])?;
    deployment.start()?;
    let sql = "CREATE TABLE r (line STRING) WITH ('format' = 'raw'); INSERT INTO target SELECT line FROM r;";
    let sinks = json!([kafka_sink("target", &normal, "frozen.rows")]);
    let limits = json!({"checkpoint_ms": 1000});
    deployment.create_stream(&json!({"id": STREAM, "sql": sql, "sinks": sinks, "partitions": 2, "limits": limits}))?;
    let mut load = Load::default();
    load.post(producer(STREAM, u64::MAX / 2), deployment.http);
    wait_delivered(&deployment, STREAM, 0, 2_000)?;

    let processes = killer::descendants(deployment.pid()?);
    let query = processes.iter().find(|process| process.kind == "query").context("no query")?.pid;
    killer::signal(query, Signal::STOP)?;
    let until = Instant::now() + PAST_THE_TRANSACTION;
    poll::until("time", PAST_THE_TRANSACTION * 2, || Ok((Instant::now() >= until).then_some(())))?;
    killer::signal(query, Signal::CONT)?;

    load.end()?;
    let offered = load.records();
    wait_delivered(&deployment, STREAM, 0, offered)?;
    exactly_once(&load, STREAM, &normal, "frozen.rows", offered)
}

/// The broker has done it and says so, and nobody hears it for a minute: an append, a transaction's begin and its end.
#[test]
fn single_replies_held_for_a_minute_lose_and_double_nothing() -> Result<()> {
    const STREAM: &str = "test.kafka.held";
    const HELD: Duration = Duration::from_secs(62);
    const KINDS: [Api; 3] = [Api::Produce, Api::AddPartitionsToTxn, Api::EndTxn];
    let (scratch, holds) = (tempfile::tempdir()?, Holds::default());
    let clusters = Clusters::start_behind(&holds, &scratch.path().join("kafka"))?;
    let proxied = clusters.proxied_bootstrap();
    let journal = format!("kafka={proxied}");
    let mut deployment = Deployment::new(&scratch.path().join("data"), &["--no-first-stream", "--journal", &journal])?;
    deployment.start()?;
    let sql = "CREATE TABLE r (line STRING) WITH ('format' = 'raw'); INSERT INTO near SELECT line FROM r; \
               INSERT INTO far SELECT line FROM r;";
    let sinks = json!([kafka_sink("near", &proxied, "held.near"), kafka_sink("far", &proxied, "held.far")]);
    let limits = json!({"checkpoint_ms": 500});
    deployment.create_stream(&json!({"id": STREAM, "sql": sql, "sinks": sinks, "partitions": 2, "limits": limits}))?;
    let mut load = Load::default();
    load.post(producer(STREAM, u64::MAX / 2), deployment.http);
    for leg in 0..2 {
        wait_delivered(&deployment, STREAM, leg, 2_000)?;
    }

    KINDS.iter().for_each(|api| holds.hold_next(*api, HELD));
    poll::until("every kind of reply was held", HELD * 3, || {
        let waiting: Vec<Api> = KINDS.into_iter().filter(|api| holds.released(*api) == 0).collect();
        ensure!(waiting.is_empty(), "not yet: {waiting:?}");
        Ok(Some(()))
    })?;

    load.end()?;
    let offered = load.records();
    for (leg, topic) in ["held.near", "held.far"].into_iter().enumerate() {
        wait_delivered(&deployment, STREAM, leg, offered)?;
        exactly_once(&load, STREAM, &clusters.normal_bootstrap(), topic, offered)?;
    }
    Ok(())
}

/// A producer that is gone has left its transaction open, for longer than anybody wants to wait.
#[test]
fn a_transaction_that_was_left_open_is_shown_and_ended_by_a_person() -> Result<()> {
    const ID: &str = "test.kafka.left.1.target";
    let scratch = tempfile::tempdir()?;
    let clusters = Clusters::start(&scratch.path().join("kafka"))?;
    let normal = clusters.normal_bootstrap();
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    runtime.block_on(async {
        let cluster = kafka::Cluster::new(&normal)?;
        let (topic, settings) = ("left.open".to_owned(), BTreeMap::new());
        let wanted = Wanted { topic: topic.clone(), partitions: 1, replication: 3, settings };
        kafka::topics::ensure(&cluster, &[wanted]).await?;
        let (timeout, within) = (Duration::from_secs(600), Duration::from_secs(60));
        let settings = Settings { id: ID.to_owned(), transaction_timeout: timeout, step_within: within };
        let mut left = TransactionalProducer::start(cluster, settings).await?;
        let mut batch = BatchWriter::new(0, 0);
        batch.push(0, None, Some(b"never seen"), &[]);
        left.append(vec![((topic, 0), batch)]).await
    })?;
    let run = |arguments: &[&str]| -> Result<String> {
        let mut command = Command::new(binary()?);
        let output = command.arg("transactions").args(arguments).args(["--brokers", &normal]).output()?;
        ensure!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        Ok(String::from_utf8(output.stdout)?)
    };
    let shown = run(&["list"])?;
    ensure!(shown.contains(ID) && shown.contains("600"), "not shown: {shown}");
    run(&["abort", ID])?;
    poll::until("it is open no longer", DELIVERED, || Ok((!run(&["list"])?.contains(ID)).then_some(())))?;
    let again = run(&["abort", ID]).err().map(|error| error.to_string()).unwrap_or_default();
    ensure!(again.contains("has no open transaction"), "what is not open: {again:?}");
    Ok(())
}

/// Somebody deletes a stream's topic; admin makes it again, and the leg notices that its position is of another log.
#[test]
fn a_topic_that_was_deleted_and_made_again_is_noticed_and_read_from_its_beginning() -> Result<()> {
    const STREAM: &str = "test.kafka.anew";
    let scratch = tempfile::tempdir()?;
    let clusters = Clusters::start(&scratch.path().join("kafka"))?;
    let normal = clusters.normal_bootstrap();
    let journal = format!("kafka={normal}");
    let mut deployment = Deployment::new(&scratch.path().join("data"), &["--no-first-stream", "--journal", &journal])?;
    deployment.start()?;
    deployment.create_stream(&json!({"id": STREAM, "limits": {"checkpoint_ms": 500}}))?;
    let mut load = Load::default();
    load.post(producer(STREAM, 3_000), deployment.http);
    wait_delivered(&deployment, STREAM, 0, 3_000)?;

    let topic = deployment.journal_topic(STREAM)?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(async {
        let cluster = kafka::Cluster::new(&normal)?;
        kafka::topics::delete(&cluster, &topic).await
    })?;

    load.post(Producer { number: 2, ..producer(STREAM, 3_000) }, deployment.http);
    wait_delivered(&deployment, STREAM, 0, 6_000)?;
    load.end()?;
    let mut oracle = load.oracle();
    for file in parquet_rows::published(&deployment.out(STREAM))? {
        parquet_rows::each_text(&file, "line", |line| oracle.saw(STREAM, line))?;
    }
    oracle.verdict().exactly_once(6_000)?;
    let ledger = deployment.ledger(STREAM)?;
    let failure = ledger.pointer("/legs/0/failure").and_then(Value::as_str).unwrap_or_default();
    ensure!(failure.contains("made again"), "nobody was told: {ledger}");
    Ok(())
}
