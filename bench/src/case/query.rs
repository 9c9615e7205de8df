//! Query and sink: JSON records held in memory, to committed Parquet files. Ours is what a leg does with what it has
//! read (de-duplicate, decode, filter and project, write, commit), on one thread without a journal. `decode` of ours is
//! measured by a second job that only decodes; the rest of the conversion is its `transform`.

use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use bytes::Bytes;
use journal::Entry;
use query::leg::convert::{Converted, convert};
use query::leg::dedup::{Changes, Taken};
use query::sql::{self, LegPlan};
use sink::{Commit, FilesSink, Identity, Sink};
use stream::clock::{Clock, SystemClock};
use stream::config::{StreamConfig, StreamSpec};
use stream::disk::RealDisk;
use stream::facts::{Place, Position};
use stream::fate::FateCounts;
use stream::{Batch, Incarnation};

use super::Plan;
use crate::load;
use crate::measure::{Laps, Sample, alternate};
use crate::report::Report;

/// The job; its filter leaves out every tenth record.
const SQL: &str = "
    CREATE TABLE records (lane INT, number BIGINT, made_ms BIGINT, text STRING) WITH ('format' = 'json');
    INSERT INTO files SELECT number, made_ms, text FROM records WHERE lane <> 3;";
/// The same without filter and projection.
pub(super) const SQL_DECODE: &str = "
    CREATE TABLE records (lane INT, number BIGINT, made_ms BIGINT, text STRING) WITH ('format' = 'json');
    INSERT INTO files SELECT * FROM records;";
/// What a leg takes at a time: about 1 MiB, as the journal hands it over.
const CHUNK_GROUPS: usize = 10;
const PLACE: Place = Place { cluster: 0, partition: 0 };

/// Runs the case for records of `size` bytes.
pub async fn run(plan: &Plan, size: usize, report: &mut Report) -> Result<()> {
    eprintln!("== query, {size} B");
    let groups = load::groups(size, plan.bytes);
    let lines: Arc<[Bytes]> = groups.chunks(CHUNK_GROUPS).map(|groups| groups.concat().into()).collect();
    let records = (groups.iter().map(Vec::len).sum::<usize>() / size) as u64;
    let read = as_read(&groups)?;
    let pair = alternate(
        plan.rounds,
        async || {
            let (scratch, lines) = (tempfile::tempdir_in(&plan.dir)?, lines.clone());
            let path = scratch.path().join("limit.parquet");
            on_a_thread(move || crate::limit::query::run(lines.iter().cloned(), records, &path)).await
        },
        async || in_memory(plan, size, &read).await,
    );
    report.add("query → Parquet", size, pair.await?);
    Ok(())
}

/// The same records as a leg has them when it has read them.
pub(super) fn as_read(groups: &[Vec<u8>]) -> Result<Arc<[Vec<Entry>]>> {
    let spec = StreamSpec::new("bench.query.json".parse()?);
    let config = StreamConfig { incarnation: Incarnation(1), version: 1, spec };
    Ok(entries(&load::batches(&config, groups)).into())
}

/// What ours does with records of `size` bytes that it has read.
pub(super) async fn in_memory(plan: &Plan, size: usize, read: &Arc<[Vec<Entry>]>) -> Result<Sample> {
    let (scratch, read) = (tempfile::tempdir_in(&plan.dir)?, Arc::clone(read));
    let dir = scratch.path().join("files");
    let records = read.iter().flatten().map(|entry| entry.batch.len() as u64).sum();
    on_a_thread(move || ours(&read, records, size, &dir)).await
}

async fn on_a_thread(run: impl FnOnce() -> Result<Sample> + Send + 'static) -> Result<Sample> {
    tokio::task::spawn_blocking(run).await?
}

/// The batches as a journal hands them over.
fn entries(lists: &[Vec<Batch>]) -> Vec<Vec<Entry>> {
    let append_time_ms = SystemClock.now_ms();
    let mut offset = 0;
    let mut entry = |batch: &Batch| {
        let entry = Entry { offset, append_time_ms, batch: batch.clone() };
        offset = entry.end_offset();
        entry
    };
    let entries: Vec<Entry> = lists.iter().flatten().map(&mut entry).collect();
    entries.chunks(CHUNK_GROUPS).map(<[Entry]>::to_vec).collect()
}

fn ours(chunks: &[Vec<Entry>], records: u64, size: usize, dir: &Path) -> Result<Sample> {
    let decode = decode(chunks)?;
    let mut leg = Leg::new(dir)?;
    let [mut converting, mut writing] = [Duration::ZERO; 2];
    let (began, mut laps) = (Instant::now(), Laps::start()?);
    for chunk in chunks {
        let converted = convert(&leg.plan, &mut leg.taken, PLACE, chunk);
        laps.add_to(&mut converting)?;
        leg.write(chunk, converted)?;
        laps.add_to(&mut writing)?;
    }
    leg.commit()?;
    laps.add_to(&mut writing)?;
    let wall = began.elapsed();
    ensure!(leg.all.total() == records && leg.all.quarantined == 0, "{records} records became {:?}", leg.all);
    let transform = converting.saturating_sub(decode);
    let parts = vec![("decode", decode), ("transform", transform), ("write", writing)];
    Ok(Sample { records, bytes: records * size as u64, wall, cpu: converting + writing, parts })
}

/// CPU of a job that only decodes.
fn decode(chunks: &[Vec<Entry>]) -> Result<Duration> {
    let (plan, mut taken, mut cpu) = (plan(SQL_DECODE)?, Taken::default(), Duration::ZERO);
    let mut laps = Laps::start()?;
    for chunk in chunks {
        drop(convert(&plan, &mut taken, PLACE, chunk));
    }
    laps.add_to(&mut cpu)?;
    Ok(cpu)
}

fn plan(sql: &str) -> Result<LegPlan> {
    let job = sql::check(sql, &["files"])?;
    job.legs.first().cloned().context("the job has no leg")
}

/// What a running leg holds between two commits.
struct Leg {
    plan: LegPlan,
    taken: Taken,
    sink: FilesSink,
    offset: u64,
    fates: FateCounts,
    delivered_bytes: u64,
    all: FateCounts,
}

impl Leg {
    fn new(dir: &Path) -> Result<Self> {
        let identity =
            Identity { stream: "bench.query.json".parse()?, incarnation: Incarnation(1), leg: "files".to_owned() };
        let mut sink = FilesSink::new(Arc::new(RealDisk), dir.to_owned(), identity);
        sink.recover()?;
        let (fates, all) = (FateCounts::default(), FateCounts::default());
        Ok(Self { plan: plan(SQL)?, taken: Taken::default(), sink, offset: 0, fates, delivered_bytes: 0, all })
    }

    fn write(&mut self, chunk: &[Entry], converted: Converted) -> Result<()> {
        self.offset = chunk.last().map_or(self.offset, Entry::end_offset);
        self.fates.add(&converted.fates);
        self.delivered_bytes += converted.delivered_bytes;
        if let Some(rows) = converted.rows {
            self.sink.write(rows)?;
        }
        self.sink.set_apart(&converted.apart)?;
        if self.sink.is_full() { self.commit() } else { Ok(()) }
    }

    fn commit(&mut self) -> Result<()> {
        let Changes { sources, forgotten } = self.taken.changes();
        let positions = vec![Position::at(PLACE, self.offset)];
        let fates = std::mem::take(&mut self.fates);
        let delivered_bytes = std::mem::take(&mut self.delivered_bytes);
        let horizon_minutes = self.taken.horizon_minutes();
        let commit =
            Commit { positions, sources, forgotten, horizon_minutes, fates, delivered_bytes, ..Commit::default() };
        self.sink.commit(&commit)?;
        self.all.add(&fates);
        Ok(())
    }
}
