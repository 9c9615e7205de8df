//! The ledger's proof, by breaking what it speaks of: records taken out of the journal, rows doubled and files removed in
//! the sink, and its count of removed doubles beside a count of the journal's own dump.

use std::collections::BTreeSet;
use std::fs::{self, File};
use std::path::Path;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use arrow_array::RecordBatch;
use harness::deployment::Deployment;
use harness::http::Client;
use harness::load::{Load, Producer};
use harness::{killer, parquet_rows, poll, tamper};
use parquet::arrow::ArrowWriter;
use parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder;
use parquet::file::properties::WriterProperties;
use rustix::process::Signal;
use serde_json::{Value, json};

const SOON: Duration = Duration::from_secs(60);

/// An event as the dump shows it.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Event {
    offset: u64,
    source: String,
    start: u64,
    end: u64,
    body: String,
}

/// The events of a stream in the journal's files, in order, copies included.
fn dump(deployment: &Deployment, stream: &str) -> Result<Vec<Event>> {
    let journal = deployment.dir.join("journal");
    let output = deployment.verb(&["journal", "dump", &journal.to_string_lossy(), "--topic", stream])?;
    ensure!(output.status.success(), "dump: {}", String::from_utf8_lossy(&output.stderr));
    let mut events = Vec::new();
    for line in String::from_utf8(output.stdout)?.lines() {
        let line: Value = serde_json::from_str(line)?;
        let header = line["il"].as_str().context("no il")?;
        let Some(header) = header.strip_prefix('e') else { continue };
        let parts: Vec<&str> = header.split('.').collect();
        ensure!(parts.len() >= 4, "{header:?} is no provenance");
        let start = u64::from_str_radix(parts[1], 16)?;
        let end = start + u64::from_str_radix(parts[2], 16)?;
        let body = line["body"].as_str().context("no text")?.to_owned();
        let offset = line["offset"].as_u64().context("no offset")?;
        events.push(Event { offset, source: parts[0].to_owned(), start, end, body });
    }
    Ok(events)
}

fn create(deployment: &Deployment, stream: &str, tail: Option<&Path>) -> Result<()> {
    let inputs: Vec<Value> = tail.iter().map(|path| json!({"kind": "file", "paths": [path]})).collect();
    deployment.create_stream(&json!({"id": stream, "inputs": inputs, "limits": {"checkpoint_ms": 300}}))
}

/// Posts three lines under a key of their own, until they are acknowledged.
fn post(deployment: &Deployment, stream: &str, key: &str) -> Result<()> {
    let path = format!("/v1/streams/{stream}/records");
    let body = format!("{key} one\n{key} second\n{key} the third\n");
    poll::until("the acknowledgement", SOON, || {
        let answer =
            Client::new(deployment.http).exchange("POST", &path, &[("idempotency-key", key)], body.as_bytes())?;
        ensure!(answer.status == 200, "{} {}", answer.status, String::from_utf8_lossy(&answer.body));
        Ok(Some(()))
    })
}

/// All delivered lines, sorted, copies included.
fn delivered(deployment: &Deployment, stream: &str) -> Result<Vec<String>> {
    let mut lines = Vec::new();
    for file in parquet_rows::published(&deployment.out(stream))? {
        parquet_rows::each_text(&file, "line", |line| lines.push(line.to_owned()))?;
    }
    lines.sort();
    Ok(lines)
}

fn wait_for_rows(deployment: &Deployment, stream: &str, rows: u64) -> Result<()> {
    poll::until(&format!("{rows} rows"), SOON, || {
        let found = parquet_rows::rows(&deployment.out(stream))?;
        ensure!(found >= rows, "{found} rows");
        Ok(Some(()))
    })
}

/// What `ledger` prints, once it ends with the wanted verdict.
fn ledger_says(deployment: &Deployment, arguments: &[&str], good: bool) -> Result<String> {
    let wanted = if good { "a good ledger" } else { "a bad ledger" };
    poll::until(wanted, SOON, || {
        let output = deployment.verb(&[&["ledger"], arguments].concat())?;
        let text = String::from_utf8(output.stdout)? + &String::from_utf8_lossy(&output.stderr);
        ensure!(output.status.success() == good, "{text}");
        Ok(Some(text))
    })
}

#[test]
fn records_taken_out_of_the_journal_are_named() -> Result<()> {
    let (scratch, stream) = (tempfile::tempdir()?, "test.tamper.loss");
    let mut deployment = Deployment::start_bare(&scratch.path().join("data"))?;
    create(&deployment, stream, None)?;
    post(&deployment, stream, "before")?;
    wait_for_rows(&deployment, stream, 3)?;

    let keys = ["whole", "middle", "kept", "flipped", "last"];
    acknowledged_and_not_taken(&deployment, stream, &keys)?;
    deployment.kill()?;
    let events = dump(&deployment, stream)?;
    let lost = take_out(&deployment, stream, &events)?;
    deployment.start()?;
    post(&deployment, stream, "after")?;

    let mut expected: Vec<String> =
        events.iter().filter(|event| !is_in(event, &lost)).map(|e| e.body.clone()).collect();
    expected.extend(["after one", "after second", "after the third"].map(str::to_owned));
    expected.sort();
    assert_eq!(expected.len(), 11);
    wait_for_rows(&deployment, stream, 11)?;
    let text = ledger_says(&deployment, &[stream], false)?;
    for (source, start, end) in &lost {
        let named = text.lines().any(|line| {
            line.starts_with("MISSING in files")
                && line.contains(source)
                && line.ends_with(&format!(": {start}..{end}"))
        });
        ensure!(named, "{source} {start}..{end} is not named: {text}");
    }
    assert_eq!(missing(&deployment.ledger(stream)?)?, lost);
    assert_eq!(delivered(&deployment, stream)?, expected);
    deployment.stop()
}

/// Stops the job's process in its tracks, posts under each key, and waits until admin knows of the acknowledgements.
fn acknowledged_and_not_taken(deployment: &Deployment, stream: &str, keys: &[&str]) -> Result<()> {
    let family = killer::descendants(deployment.pid()?);
    let query = family.iter().find(|process| process.kind == "query").context("no query process")?;
    killer::signal(query.pid, Signal::STOP)?;
    keys.iter().try_for_each(|key| post(deployment, stream, key))?;
    poll::until("the facts of every request", SOON, || {
        let ledger = deployment.ledger(stream)?;
        let sources = ledger["collected"]["sources"].as_array().context("no sources")?;
        let acknowledged = sources.iter().filter(|source| source["acknowledged"].as_u64() > Some(0)).count();
        ensure!(acknowledged == keys.len() + 1, "{sources:?}");
        Ok(Some(()))
    })
}

/// Takes out a whole batch, one record within a batch and the journal's last batch, and damages one more. Returns what
/// that loses, as the dump named it before.
fn take_out(deployment: &Deployment, stream: &str, events: &[Event]) -> Result<BTreeSet<(String, u64, u64)>> {
    let journal = deployment.dir.join("journal");
    let of = |key: &str| events.iter().filter(|event| event.body.starts_with(key)).collect::<Vec<_>>();
    let mut lost = BTreeSet::new();
    for (key, records) in [("whole", 0..3), ("middle", 1..2), ("last", 0..3), ("flipped", 0..3)] {
        let records = of(key).get(records).with_context(|| format!("{key} is not in the journal"))?.to_vec();
        let (first, last) = (records[0], records[records.len() - 1]);
        match key {
            // Last, because what is read anew must be whole.
            "flipped" => tamper::flip_bit(&journal, &first.source)?,
            _ => tamper::cut(&journal, &first.source, first.start..last.end)?,
        }
        lost.insert((first.source.clone(), first.start, last.end));
    }
    let left = dump(deployment, stream)?;
    let expected: Vec<&Event> = events.iter().filter(|event| !is_in(event, &lost)).collect();
    assert_eq!(left.iter().collect::<Vec<_>>(), expected, "the journal does not read as it was tampered with");
    Ok(lost)
}

fn is_in(event: &Event, lost: &BTreeSet<(String, u64, u64)>) -> bool {
    lost.iter().any(|(source, start, end)| *source == event.source && *start <= event.start && event.end <= *end)
}

/// The missing ranges of the stream's one leg.
fn missing(ledger: &Value) -> Result<BTreeSet<(String, u64, u64)>> {
    let mut found = BTreeSet::new();
    for source in ledger["legs"][0]["missing_ranges"].as_array().context("no missing ranges")? {
        for range in source["ranges"].as_array().context("no ranges")? {
            let bound = |at: usize| range[at].as_u64().context("no bound");
            found.insert((source["source"].as_str().context("no source")?.to_owned(), bound(0)?, bound(1)?));
        }
    }
    Ok(found)
}

#[test]
fn doubled_rows_and_removed_files_are_named() -> Result<()> {
    let (scratch, stream) = (tempfile::tempdir()?, "test.tamper.doubled");
    let log = scratch.path().join("app.log");
    let mut deployment = Deployment::start_bare(&scratch.path().join("data"))?;
    fs::write(&log, "one\ntwo\n")?;
    create(&deployment, stream, Some(&log))?;
    wait_for_rows(&deployment, stream, 2)?;
    fs::write(&log, "one\ntwo\nthree\nfour\n")?;
    wait_for_rows(&deployment, stream, 4)?;
    let verify = [stream, "--verify"];
    ledger_says(&deployment, &verify, true)?;

    let files = parquet_rows::published(&deployment.out(stream))?;
    ensure!(files.len() == 2, "{files:?}");
    let file = &files[0];
    let whole = fs::read(file)?;
    let event = dump(&deployment, stream)?.into_iter().find(|event| event.body == "one").context("no first event")?;
    let place =
        format!("(source {}, range {}..{})", event.source, event.start, event.start + "one\ntwo\n".len() as u64);

    let copy = file.with_file_name("part-0000000099-0.parquet");
    fs::copy(file, &copy)?;
    let text = ledger_says(&deployment, &verify, false)?;
    is_named(&text, &copy, &["a range that also lies in", &name(file)?, &place])?;
    is_named(&text, &copy, &["a file that no commit lists"])?;
    fs::remove_file(&copy)?;
    ledger_says(&deployment, &verify, true)?;

    for (rows, causes) in [(&[0, 1, 1][..], &["3 rows, 2 were committed"][..]), (&[0, 0], &[])] {
        rewrite(file, rows)?;
        let text = ledger_says(&deployment, &verify, false)?;
        causes.iter().chain([&place.as_str()]).try_for_each(|cause| is_named(&text, file, &[cause]))?;
        fs::write(file, &whole)?;
        ledger_says(&deployment, &verify, true)?;
    }

    fs::remove_file(file)?;
    let text = ledger_says(&deployment, &verify, false)?;
    is_named(&text, file, &["a committed file is missing", &place])?;
    deployment.stop()
}

fn name(file: &Path) -> Result<String> {
    Ok(file.file_name().context("no name")?.to_string_lossy().into_owned())
}

/// Whether one line says that `file` is wrong, with every one of `words`.
fn is_named(text: &str, file: &Path, words: &[&str]) -> Result<()> {
    let name = format!("{}: ", name(file)?);
    let says = |line: &str| line.starts_with("WRONG in files") && line.contains(&name);
    let named = text.lines().any(|line| says(line) && words.iter().all(|word| line.contains(word)));
    ensure!(named, "{name} is not named with {words:?}: {text}");
    Ok(())
}

/// Writes `file` again with the rows whose numbers are given; all that its footer says of itself stays.
fn rewrite(file: &Path, rows: &[usize]) -> Result<()> {
    let reader = ParquetRecordBatchReaderBuilder::try_new(File::open(file)?)?;
    let words = reader.metadata().file_metadata().key_value_metadata().cloned();
    let words = words.map(|words| words.into_iter().filter(|word| word.key != "ARROW:schema").collect());
    let batches: Vec<RecordBatch> = reader.build()?.collect::<Result<_, _>>()?;
    ensure!(batches.len() == 1, "{} batches", batches.len());
    let properties = WriterProperties::builder().set_key_value_metadata(words).build();
    let mut writer = ArrowWriter::try_new(File::create(file)?, batches[0].schema(), Some(properties))?;
    rows.iter().try_for_each(|row| writer.write(&batches[0].slice(*row, 1)))?;
    writer.close()?;
    Ok(())
}

#[test]
fn removed_doubles_are_what_the_journal_holds_twice() -> Result<()> {
    let (scratch, stream) = (tempfile::tempdir()?, "test.tamper.doubles");
    let log = scratch.path().join("app.log");
    let mut deployment = Deployment::start_bare(&scratch.path().join("data"))?;
    create(&deployment, stream, Some(&log))?;
    let mut load = Load::default();
    let producer =
        |number| Producer { stream: stream.to_owned(), number, rate: 4_000, line_bytes: 80, records: u64::MAX / 2 };
    load.write_file(producer(1), log, u64::MAX);
    load.post(producer(2), deployment.http);
    let points = ["agent.batch.acknowledged", "gateway.batch.produced", "journal.commit.synced"];
    for point in points.iter().cycle().take(2 * points.len()) {
        fs::write(deployment.crash_file(), point)?;
        poll::until(point, SOON, || Ok((!deployment.crash_file().exists()).then_some(())))?;
    }
    load.end()?;
    let offered = load.oracle().verdict().acknowledged;

    let leg = poll::until("everything taken", SOON, || at_rest(&deployment, stream, offered))?;
    deployment.stop()?;
    // What came after the leg's last commit is not in its numbers.
    let read = leg["positions"][0]["offset"].as_u64().context("no position")?;
    let mut events = dump(&deployment, stream)?;
    events.retain(|event| event.offset < read);
    let distinct: BTreeSet<_> = events.iter().map(|event| (&event.source, event.start, event.end)).collect();
    let doubles = leg["fates"]["doubles"].as_u64().context("no doubles")?;
    ensure!(doubles > 0, "nothing was sent twice, so nothing is proven");
    assert_eq!(doubles, (events.len() - distinct.len()) as u64);
    assert_eq!(distinct.len() as u64, offered);
    assert_eq!(parquet_rows::rows(&deployment.out(stream))?, offered);
    Ok(())
}

/// The stream's one leg, once it has delivered all and has committed up to the journal's end.
fn at_rest(deployment: &Deployment, stream: &str, offered: u64) -> Result<Option<Value>> {
    let leg = deployment.ledger(stream)?["legs"][0].take();
    let open = leg["in_flight"].as_u64().unwrap_or(1) + leg["missing"].as_u64().unwrap_or(1);
    let position = &leg["positions"][0];
    let is_at_end = position["end"].is_u64() && position["offset"] == position["end"];
    ensure!(is_at_end && open == 0 && leg["fates"]["delivered"] == json!(offered), "{leg}");
    Ok(Some(leg))
}
