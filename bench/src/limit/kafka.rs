//! The bare producer: each record with a header like ours to its stream's topic, answered when all in-sync replicas have
//! it. It is our own client (decision 0001 holds it against librdkafka); what a gateway does beyond it is queues,
//! identities, turns and answers.

use std::collections::HashMap;
use std::fmt::Write;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use anyhow::{Context, Result};
use bytes::Bytes;
use kafka::Cluster;
use kafka::batch::BatchWriter;
use kafka::produce::{Producer, Records, Settings};
use stream::clock::{Clock, SystemClock};
use stream::limits;
use stream::provenance::HEADER_NAME;
use stream::{Header, Kind, Range, SourceId};

use super::door::{Append, Received};

/// What a gateway's producers have.
pub const PRODUCE: Settings = Settings {
    outstanding_bytes_max: limits::PRODUCERS * limits::PRODUCER_OUTSTANDING_BYTES_MAX,
    ack_timeout: Duration::from_secs(1),
    penalty_ack_timeout: limits::BATCH_DEADLINE,
    linger_max: Duration::ZERO,
};

/// Bytes that go to one partition before the next: as a gateway has it.
const STICK_BYTES: u64 = 512 << 10;

/// A producer and where each stream's records go.
#[derive(Clone)]
pub struct BareKafka {
    producer: Producer,
    topics: Arc<HashMap<String, Arc<str>>>,
    partitions: u32,
    source: SourceId,
    position: Arc<AtomicU64>,
}

impl BareKafka {
    /// A producer to the cluster at `bootstrap`; `topics` by their streams, each of so many partitions.
    pub fn new(bootstrap: &str, topics: HashMap<String, Arc<str>>, partitions: u32) -> Result<Self> {
        let producer = Producer::new(Cluster::new(bootstrap)?, PRODUCE);
        let source = SourceId::derive(SystemClock.now_minutes(), &[b"limit"]);
        Ok(Self { producer, topics: topics.into(), partitions, source, position: Arc::default() })
    }
}

impl Append for BareKafka {
    async fn append(&self, received: Received) -> Result<()> {
        let topic = self.topics.get(&received.stream).context("an unknown stream")?;
        let start = self.position.fetch_add(received.bodies.len() as u64, Ordering::Relaxed);
        let partition = (start / STICK_BYTES % u64::from(self.partitions)) as i32;
        let records = Lines { bodies: bodies(received), source: self.source, start };
        self.producer.append(topic, partition, Box::new(records)).await?;
        Ok(())
    }
}

fn bodies(Received { mut bodies, lengths, .. }: Received) -> Vec<Bytes> {
    match lengths {
        Some(lengths) => lengths.iter().map(|length| bodies.split_to(*length as usize)).collect(),
        None => {
            let ends = memchr::memchr_iter(b'\n', &bodies);
            let starts = std::iter::once(0).chain(ends.clone().map(|end| end + 1));
            ends.zip(starts).map(|(end, start)| bodies.slice(start..end)).collect()
        }
    }
}

struct Lines {
    bodies: Vec<Bytes>,
    source: SourceId,
    start: u64,
}

impl Records for Lines {
    fn count(&self) -> usize {
        self.bodies.len()
    }

    fn bytes(&self) -> usize {
        self.bodies.iter().map(Bytes::len).sum()
    }

    fn write(&self, batch: &mut BatchWriter) {
        let (mut header, mut start) = (String::new(), self.start);
        for body in &self.bodies {
            let range = Range { start, end: start + body.len() as u64 };
            start = range.end;
            header.clear();
            // Writing to a string cannot fail.
            let _ = write!(
                header,
                "{}",
                Header { kind: Kind::Event, source: self.source, range, lap: 0, event_time_ms: None }
            );
            batch.push(0, None, Some(body), &[(HEADER_NAME.as_bytes(), header.as_bytes())]);
        }
    }
}
