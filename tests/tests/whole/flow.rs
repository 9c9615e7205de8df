//! Real log files, by tail and by HTTP, raw, split into columns, and as JSON; read with an independent reader.

use std::path::Path;
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use harness::deployment::Deployment;
use harness::{parquet_rows, poll, real_data};
use serde_json::{Value, json};

const DELIVERED: Duration = Duration::from_secs(60);
const ACCESS_SQL: &str = include_str!("../../../crates/query/tests/golden/jobs/access-log.sql");
const STATUS_SQL: &str = include_str!("../../../crates/query/tests/golden/jobs/nginx-status.sql");

/// Rows and hash of a column or of a file's lines, by pyarrow and plain Python.
fn multiset(arguments: &[&str]) -> Result<Value> {
    let python = std::env::var_os("ISOLANE_PYTHON").unwrap_or_else(|| "python3".into());
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("python/multiset.py");
    let output = Command::new(python).arg(script).args(arguments).output()?;
    ensure!(output.status.success(), "multiset.py: {}", String::from_utf8_lossy(&output.stderr));
    Ok(serde_json::from_slice(&output.stdout)?)
}

fn spec(id: &str, sql: Option<&str>, tail: Option<&Path>) -> Value {
    let inputs: Vec<Value> = tail.iter().map(|path| json!({"kind": "file", "paths": [path]})).collect();
    json!({"id": id, "sql": sql, "inputs": inputs, "limits": {"checkpoint_ms": 500, "retention_seconds": 3600}})
}

fn wait_for_rows(deployment: &Deployment, stream: &str, rows: u64) -> Result<()> {
    let out = deployment.out(stream);
    poll::until(&format!("{rows} rows of {stream}"), DELIVERED, || {
        let found = parquet_rows::rows(&out)?;
        ensure!(found >= rows, "{found} rows");
        Ok(Some(()))
    })
}

fn same_multiset(deployment: &Deployment, stream: &str, input: &Path) -> Result<()> {
    let published = deployment.out(stream);
    let output = multiset(&["parquet", &published.to_string_lossy(), "line"])?;
    assert_eq!(output, multiset(&["lines", &input.to_string_lossy()])?, "{stream}");
    Ok(())
}

#[test]
fn real_logs_arrive_exactly_once() -> Result<()> {
    let scratch = tempfile::tempdir()?;
    let access = real_data::access_log(scratch.path())?;
    let status = real_data::status_samples(scratch.path())?;
    let deployment = Deployment::start_bare(&scratch.path().join("data"))?;

    deployment.create_stream(&spec("test.raw.tailed", None, Some(&access)))?;
    deployment.create_stream(&spec("test.raw.posted", None, None))?;
    deployment.create_stream(&spec("test.split.tailed", Some(ACCESS_SQL), Some(&access)))?;
    deployment.create_stream(&spec("test.json.tailed", Some(STATUS_SQL), Some(&status)))?;
    let sent = deployment.verb(&["send", "test.raw.posted", &access.to_string_lossy()])?;
    ensure!(sent.status.success(), "send: {}", String::from_utf8_lossy(&sent.stderr));

    for stream in ["test.raw.tailed", "test.raw.posted"] {
        wait_for_rows(&deployment, stream, 10_000)?;
        same_multiset(&deployment, stream, &access)?;
    }
    wait_for_rows(&deployment, "test.json.tailed", 500)?;
    assert_eq!(parquet_rows::rows(&deployment.out("test.json.tailed"))?, 500);
    one_line_is_quarantined(&deployment, &access)?;
    ledgers_balance(&deployment)
}

/// The one line whose closing quote is missing: kept, with its bytes and a cause, and not delivered.
fn one_line_is_quarantined(deployment: &Deployment, access: &Path) -> Result<()> {
    let out = deployment.out("test.split.tailed");
    wait_for_rows(deployment, "test.split.tailed", 9_999)?;
    assert_eq!(parquet_rows::rows(&out)?, 9_999);
    let kept = poll::until("the quarantined line", DELIVERED, || Ok(quarantined(&out.join("_quarantine"))?.pop()))?;
    let text = std::fs::read_to_string(access)?;
    let broken: Vec<&str> = text.lines().filter(|line| !line.ends_with('"')).collect();
    assert_eq!(broken, [kept.as_str()]);
    Ok(())
}

fn quarantined(dir: &Path) -> Result<Vec<String>> {
    let mut lines = Vec::new();
    for file in parquet_rows::published(dir)? {
        parquet_rows::each_bytes(&file, "body", |body| lines.push(String::from_utf8_lossy(body).into_owned()))?;
    }
    Ok(lines)
}

fn ledgers_balance(deployment: &Deployment) -> Result<()> {
    for stream in ["test.raw.tailed", "test.raw.posted", "test.split.tailed", "test.json.tailed"] {
        let output = poll::until("a balanced ledger", DELIVERED, || {
            let output = deployment.verb(&["ledger", stream, "--verify"])?;
            let text = String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr);
            ensure!(output.status.success(), "{text}");
            Ok(Some(text))
        })?;
        ensure!(output.contains(stream), "the ledger does not name {stream}: {output}");
    }
    Ok(())
}

#[test]
fn a_stream_goes_on_where_it_stopped() -> Result<()> {
    let scratch = tempfile::tempdir()?;
    let log = scratch.path().join("app.log");
    std::fs::write(&log, "one\ntwo\n")?;
    let mut deployment = Deployment::start_bare(&scratch.path().join("data"))?;
    deployment.create_stream(&spec("test.stop.tailed", None, Some(&log)))?;
    wait_for_rows(&deployment, "test.stop.tailed", 2)?;
    deployment.stop()?;
    std::fs::write(&log, "one\ntwo\nthree\n").context("growing the log while nothing runs")?;
    deployment.start()?;
    wait_for_rows(&deployment, "test.stop.tailed", 3)?;
    deployment.kill()?;
    deployment.start()?;
    let mut file = std::fs::File::options().append(true).open(&log)?;
    std::io::Write::write_all(&mut file, b"four\n")?;
    wait_for_rows(&deployment, "test.stop.tailed", 4)?;
    same_multiset(&deployment, "test.stop.tailed", &log)?;
    deployment.stop()
}

#[test]
fn a_changed_job_takes_effect_and_loses_nothing() -> Result<()> {
    let scratch = tempfile::tempdir()?;
    let log = scratch.path().join("app.log");
    std::fs::write(&log, "alpha\n")?;
    let deployment = Deployment::start_bare(&scratch.path().join("data"))?;
    deployment.create_stream(&spec("test.change.tailed", None, Some(&log)))?;
    wait_for_rows(&deployment, "test.change.tailed", 1)?;
    let upper =
        "CREATE TABLE r (line STRING) WITH ('format' = 'raw'); INSERT INTO files SELECT UPPER(line) AS line FROM r;";
    let set = deployment.verb(&["stream", "set", "test.change.tailed", &format!("sql={upper}")])?;
    ensure!(set.status.success(), "set: {}", String::from_utf8_lossy(&set.stderr));
    poll::until("the new job's rows", DELIVERED, || {
        let mut file = std::fs::File::options().append(true).open(&log)?;
        std::io::Write::write_all(&mut file, b"beta\n")?;
        let mut lines = Vec::new();
        for file in parquet_rows::published(&deployment.out("test.change.tailed"))? {
            parquet_rows::each_text(&file, "line", |line| lines.push(line.to_owned()))?;
        }
        Ok(lines.contains(&"BETA".to_owned()).then_some(()))
    })?;
    let bad = deployment.verb(&["stream", "set", "test.change.tailed", "sql=SELECT nonsense"])?;
    ensure!(!bad.status.success(), "a job that cannot run was taken");
    Ok(())
}
