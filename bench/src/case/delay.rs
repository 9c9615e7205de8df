//! Delay: how long a record takes on the whole way over HTTP, journal and job to a committed file, at half of the load
//! that this machine carries. The roles are processes of their own; a reader beside the job, the same client that the
//! job reads with, notes when each record arrives there. A file's change time is the moment of its commit: the rename.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::fs::File;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use arrow_array::cast::AsArray;
use arrow_array::types::Int64Type;
use arrow_cast::cast;
use arrow_schema::{DataType, TimeUnit};
use harness::http::Client;
use harness::{parquet_rows, poll};
use journal::{Journal, JournalClient, Topic};
use parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder;
use stream::clock::{Clock, SystemClock};
use stream::config::{StreamConfig, StreamSpec};
use stream::facts::{Place, Position};
use stream::limits::CHECKPOINT_UP;
use tokio::task::JoinHandle;

use super::Plan;
use crate::load::{self, CONNECTIONS, Lines};
use crate::measure::percentile;
use crate::report::{Delays, Report};
use crate::stage::{Child, Stage};

/// Bytes of a record.
const RECORD_BYTES: usize = 1024;
/// How long the rest may take once the load has ended.
const DRAINED: Duration = Duration::from_secs(120);
const SQL: &str = "
    CREATE TABLE records (number BIGINT, made_ms BIGINT, text STRING,
        appended TIMESTAMP_LTZ(3) METADATA FROM 'append_time') WITH ('format' = 'json');
    INSERT INTO files SELECT number, made_ms, appended, text FROM records;";

/// Runs the case.
pub async fn run(plan: &Plan, report: &mut Report) -> Result<()> {
    eprintln!("== delay, {RECORD_BYTES} B");
    let stage = Stage::new(&plan.dir).await?;
    let mut configs = Vec::new();
    for id in ["bench.delay.most", "bench.delay.half"] {
        let mut spec = StreamSpec::new(id.parse()?);
        spec.sql = Some(SQL.to_owned());
        configs.push(stage.create(&spec).await?);
    }
    let journal = stage.journal().await?;
    let gateway = stage.gateway(journal.address(0)?.to_string()).await?;
    let _query = stage.query(journal.address(0)?.to_string(), CHECKPOINT_UP).await?;
    let out = |config: &StreamConfig| stage.path("out").join(config.spec.id.as_str()).join("files");

    let began = SystemClock.now_ms();
    let sent = offer(&gateway, &configs[0], plan.offered[0], None)?;
    let ended = committed(&out(&configs[0]), sent)?;
    let most = sent as f64 * 1e3 / (ended - began) as f64;
    eprintln!("   most: {most:.0} records/s to committed files");

    let probe = Probe::start(&journal, &configs[1])?;
    let sent = offer(&gateway, &configs[1], plan.offered[1], Some(most / 2.0))?;
    committed(&out(&configs[1]), sent)?;
    let mut delays = delays(&out(&configs[1]))?;
    delays.append_to_read = percentiles(probe.stop());
    delays.checkpoint = CHECKPOINT_UP;
    (delays.records, delays.per_second, delays.record_bytes) = (sent, most / 2.0, RECORD_BYTES);
    report.add_delays(delays);
    Ok(())
}

/// Posts for as long as `offered`, as fast as it goes or at `rate` records a second; answers how many records.
fn offer(gateway: &Child, config: &StreamConfig, offered: Duration, rate: Option<f64>) -> Result<u64> {
    let door = gateway.address(0)?;
    let path = format!("/v1/streams/{}/records", config.spec.id);
    let pause =
        rate.map(|rate| Duration::from_secs_f64((CONNECTIONS * load::group_records(RECORD_BYTES)) as f64 / rate));
    let (sent, began) = (AtomicU64::new(0), Instant::now());
    let connection = |connection: usize| {
        let mut client = Client::new(door);
        let mut lines = Lines::new(RECORD_BYTES, (connection as u64) << 32);
        // Spread over the pause, so that the load is even.
        let mut due = began + pause.unwrap_or_default().mul_f64(connection as f64 / CONNECTIONS as f64);
        for request in 0_u64.. {
            if began.elapsed() >= offered {
                break;
            }
            thread::sleep(due.saturating_duration_since(Instant::now()));
            due += pause.unwrap_or_default();
            let group = lines.group(SystemClock.now_ms());
            load::post(&mut client, &path, &format!("{connection}-{request}"), &group)?;
            sent.fetch_add((group.len() / RECORD_BYTES) as u64, Ordering::Relaxed);
        }
        Ok(())
    };
    tokio::task::block_in_place(|| load::on_every_connection(connection))?;
    Ok(sent.into_inner())
}

/// Waits until `records` rows are committed below `dir`; answers when the last file was, in ms since 1970.
fn committed(dir: &Path, records: u64) -> Result<i64> {
    let mut known: HashMap<PathBuf, (u64, i64)> = HashMap::new();
    let closer = |path: &Path| -> Result<(u64, i64)> {
        Ok((open(path)?.metadata().file_metadata().num_rows() as u64, committed_ms(path)?))
    };
    let look = || {
        for path in parquet_rows::published(dir)? {
            if let Entry::Vacant(place) = known.entry(path) {
                let found = closer(place.key())?;
                place.insert(found);
            }
        }
        let rows: u64 = known.values().map(|(rows, _)| rows).sum();
        let last_ms = known.values().map(|(_, at_ms)| *at_ms).max();
        anyhow::ensure!(rows >= records, "{rows} of {records} rows");
        Ok(last_ms)
    };
    tokio::task::block_in_place(|| poll::until("every record in a committed file", DRAINED, look))
}

fn open(path: &Path) -> Result<ParquetRecordBatchReaderBuilder<File>> {
    Ok(ParquetRecordBatchReaderBuilder::try_new(File::open(path)?)?)
}

fn committed_ms(path: &Path) -> Result<i64> {
    let metadata = path.metadata()?;
    Ok(metadata.ctime() * 1000 + metadata.ctime_nsec() / 1_000_000)
}

/// The delays of all rows below `dir` to the commit of their files.
fn delays(dir: &Path) -> Result<Delays> {
    let (mut appended_ms, mut made_ms) = (Vec::new(), Vec::new());
    for path in parquet_rows::published(dir)? {
        let at_ms = committed_ms(&path)?;
        for batch in open(&path)?.build()? {
            let batch = batch?;
            let column = |name| batch.column_by_name(name).with_context(|| format!("no column {name}"));
            let appended = cast(column("appended")?, &DataType::Timestamp(TimeUnit::Millisecond, None))?;
            let appended = cast(&appended, &DataType::Int64)?;
            appended_ms.extend(appended.as_primitive::<Int64Type>().values().iter().map(|ms| at_ms - ms));
            made_ms.extend(column("made_ms")?.as_primitive::<Int64Type>().values().iter().map(|ms| at_ms - ms));
        }
    }
    let (append_to_commit, made_to_commit) = (percentiles(appended_ms), percentiles(made_ms));
    Ok(Delays { append_to_commit, made_to_commit, ..Delays::default() })
}

/// When each row below `dir` was made, and how long it took to the commit of its file; in ms.
pub fn made_delays(dir: &Path) -> Result<Vec<(i64, i64)>> {
    let mut all = Vec::new();
    for path in parquet_rows::published(dir)? {
        let at_ms = committed_ms(&path)?;
        for batch in open(&path)?.build()? {
            let batch = batch?;
            let made = batch.column_by_name("made_ms").context("no column made_ms")?;
            all.extend(made.as_primitive::<Int64Type>().values().iter().map(|ms| (*ms, at_ms - ms)));
        }
    }
    Ok(all)
}

/// Median and 99th percentile.
fn percentiles(mut values: Vec<i64>) -> [i64; 2] {
    values.sort_unstable();
    [50, 99].map(|percent| percentile(&values, percent))
}

/// Reads a topic as a job does, and notes how long after its append each record arrives, in ms.
struct Probe {
    delays_ms: Arc<Mutex<Vec<i64>>>,
    reading: JoinHandle<()>,
}

impl Probe {
    fn start(journal: &Child, config: &StreamConfig) -> Result<Self> {
        let client = JournalClient::connect(journal.address(0)?.to_string())?;
        let delays_ms: Arc<Mutex<Vec<i64>>> = Arc::default();
        let (noted, topic) = (delays_ms.clone(), Topic::of(config));
        let reading = tokio::spawn(async move {
            let mut reader = client.read(&topic, Position::at(Place { cluster: 0, partition: 0 }, 0));
            loop {
                // After a refusal the reader goes on by itself.
                let Ok(chunk) = reader.next().await else { continue };
                let now_ms = SystemClock.now_ms();
                let mut noted = noted.lock().unwrap_or_else(PoisonError::into_inner);
                for entry in chunk.entries {
                    noted.extend(std::iter::repeat_n(now_ms - entry.append_time_ms, entry.batch.len()));
                }
            }
        });
        Ok(Self { delays_ms, reading })
    }

    fn stop(self) -> Vec<i64> {
        self.reading.abort();
        std::mem::take(&mut self.delays_ms.lock().unwrap_or_else(PoisonError::into_inner))
    }
}
