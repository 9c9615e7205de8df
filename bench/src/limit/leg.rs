//! The limits of a leg that reads Kafka: a consumer and a producer, or a consumer, Arrow's JSON reader and a Parquet file.
//! They commit nothing, and would lose or double records at the first fault.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result};
use bytes::{Bytes, BytesMut};
use kafka::Cluster;
use kafka::batch::{BatchWriter, Record};
use kafka::fetch::{Fetcher, Isolation};
use kafka::produce::{Producer, Records};
use kafka::topics::{Wanted, ensure};
use tokio::sync::mpsc;

use super::kafka::PRODUCE;
use crate::child::LimitLeg;

/// How long a fetch waits for more.
const WAIT: Duration = Duration::from_millis(500);
/// Fetches that wait for the loop.
const FETCHED_MAX: usize = 4;

/// Takes `records` records from `from` to where they belong.
pub async fn run(bootstrap: &str, from: &str, partitions: u32, records: u64, to: LimitLeg) -> Result<()> {
    let cluster = Cluster::new(bootstrap)?;
    let (sender, mut fetched) = mpsc::channel(FETCHED_MAX);
    for partition in 0..partitions as i32 {
        tokio::spawn(consume(cluster.clone(), from.to_owned(), partition, sender.clone()));
    }
    match to {
        LimitLeg::Topic(topic) => produce(&cluster, &topic, partitions, records, &mut fetched).await,
        LimitLeg::Parquet(path) => write(&path, records, &mut fetched).await,
    }
}

async fn consume(cluster: Cluster, topic: String, partition: i32, out: mpsc::Sender<(i32, Vec<Record>)>) {
    let mut fetcher = Fetcher::new(cluster, &topic, partition, 0, Isolation::Committed);
    loop {
        match fetcher.next(WAIT).await {
            Ok(fetched) if fetched.records.is_empty() => {}
            Ok(fetched) => {
                if out.send((partition, fetched.records)).await.is_err() {
                    return;
                }
            }
            Err(error) => eprintln!("   the limit's consumer: {error}"),
        }
    }
}

async fn produce(
    cluster: &Cluster,
    topic: &str,
    partitions: u32,
    mut records: u64,
    fetched: &mut mpsc::Receiver<(i32, Vec<Record>)>,
) -> Result<()> {
    let replication = cluster.brokers().await?.min(3) as i16;
    let settings = Default::default();
    ensure(cluster, &[Wanted { topic: topic.to_owned(), partitions: partitions as i32, replication, settings }])
        .await?;
    let (producer, topic): (_, Arc<str>) = (Producer::new(cluster.clone(), PRODUCE), topic.into());
    let mut under_way = tokio::task::JoinSet::new();
    while records > 0 {
        let (partition, some) = fetched.recv().await.context("the consumers have ended")?;
        records = records.saturating_sub(some.len() as u64);
        let (producer, topic) = (producer.clone(), topic.clone());
        under_way.spawn(async move { producer.append(&topic, partition, Box::new(Copied(some))).await });
        // The producer bounds the bytes; this bounds the tasks.
        while under_way.len() > FETCHED_MAX || (records == 0 && !under_way.is_empty()) {
            under_way.join_next().await.context("nothing is under way")???;
        }
    }
    Ok(())
}

/// Records as they were read.
struct Copied(Vec<Record>);

impl Records for Copied {
    fn count(&self) -> usize {
        self.0.len()
    }

    fn bytes(&self) -> usize {
        self.0.iter().filter_map(|record| record.value.as_ref()).map(Bytes::len).sum()
    }

    fn write(&self, batch: &mut BatchWriter) {
        for record in &self.0 {
            let headers: Vec<(&[u8], &[u8])> =
                record.headers.iter().map(|(name, value)| (&name[..], &value[..])).collect();
            batch.push(record.time_ms, record.key.as_deref(), record.value.as_deref(), &headers);
        }
    }
}

async fn write(path: &Path, records: u64, fetched: &mut mpsc::Receiver<(i32, Vec<Record>)>) -> Result<()> {
    let (lines, chunks) = std::sync::mpsc::sync_channel(FETCHED_MAX);
    let path = path.to_owned();
    let writing = tokio::task::spawn_blocking(move || super::query::run(chunks.into_iter(), records, &path).map(drop));
    let mut left = records;
    while left > 0 {
        let (_, some) = fetched.recv().await.context("the consumers have ended")?;
        left = left.saturating_sub(some.len() as u64);
        let mut text = BytesMut::new();
        for value in some.iter().filter_map(|record| record.value.as_ref()) {
            text.extend_from_slice(value);
            text.extend_from_slice(b"\n");
        }
        lines.send(text.freeze()).context("the writer has ended")?;
    }
    drop(lines);
    writing.await?
}
