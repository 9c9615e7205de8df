//! What a job on Flink has delivered to a Kafka topic: each of its transactions also has records of the ranges of its rows, in a
//! topic of one partition (decision 0018). And the topic itself, which Flink's sink wants to be there.
//!
//! State of a [`Delivered`]: what was read. Bytes: 16 a range.

use std::time::Duration;

use kafka::fetch::{Fetcher, Isolation};
use kafka::offsets::{self, At};
use kafka::topics::ensure;
use kafka::{Cluster, KafkaError};
use serde::Deserialize;
use stream::Ranges;
use stream::config::KafkaTarget;

use super::topic_of;
use crate::error::SinkError;
use crate::files::part::FileRanges;

/// The format of a record of ranges.
const FORMAT: &str = "isolane.delivered.1";

/// A record of ranges.
#[derive(Deserialize)]
struct Told {
    format: String,
    rows: u64,
    ranges: FileRanges,
}

/// What lies in a ranges topic, as far as it was read.
pub struct Delivered {
    brokers: String,
    topic: String,
    fetcher: Option<Fetcher>,
    rows: u64,
    ranges: FileRanges,
}

impl Delivered {
    /// Of the ranges topic `topic` in the cluster at `brokers`; nothing is read yet.
    pub fn new(brokers: &str, topic: String) -> Self {
        Self { brokers: brokers.to_owned(), topic, fetcher: None, rows: 0, ranges: FileRanges::new() }
    }

    /// Reads on to where committed records end now. A topic that is not there has none yet.
    pub async fn read_on(&mut self) -> Result<(), SinkError> {
        let told = match self.fetch_all().await {
            Err(error) if error.is_unknown_topic() => Ok(()),
            Err(error) => Err(self.failed(error.to_string())),
            Ok(values) => values.iter().try_for_each(|value| self.take(value)),
        };
        if told.is_err() {
            self.fetcher = None;
        }
        told
    }

    async fn fetch_all(&mut self) -> Result<Vec<Vec<u8>>, KafkaError> {
        let mut fetcher = match self.fetcher.take() {
            Some(fetcher) => fetcher,
            None => {
                // Read anew from the beginning: what was counted of it before is not counted twice.
                (self.rows, self.ranges) = (0, FileRanges::new());
                let cluster = Cluster::new(&self.brokers)?;
                let start = offsets::of(&cluster, &self.topic, 0, At::Start).await?;
                Fetcher::new(cluster, &self.topic, 0, start, Isolation::Committed)
            }
        };
        let mut values = Vec::new();
        loop {
            let fetched = fetcher.next(Duration::ZERO).await?;
            values.extend(fetched.records.into_iter().filter_map(|record| record.value).map(|value| value.to_vec()));
            if fetched.next_offset >= fetched.end_offset {
                self.fetcher = Some(fetcher);
                return Ok(values);
            }
        }
    }

    fn take(&mut self, value: &[u8]) -> Result<(), SinkError> {
        let told: Told = serde_json::from_slice(value).map_err(|error| self.failed(error.to_string()))?;
        if told.format != FORMAT {
            return Err(self.failed(format!("a record of format {:?}, this version reads {FORMAT}", told.format)));
        }
        self.rows += told.rows;
        for (source, ranges) in told.ranges {
            self.ranges.entry(source).or_default().union(&ranges);
        }
        Ok(())
    }

    /// Rows of all transactions.
    pub fn rows(&self) -> u64 {
        self.rows
    }

    /// Ordinals that they cover.
    pub fn ordinals(&self) -> u64 {
        self.ranges.values().map(Ranges::total).sum()
    }

    fn failed(&self, cause: String) -> SinkError {
        SinkError::Kafka { topic: self.topic.clone(), cause }
    }
}

/// Makes the topic that a sink names, if it is not there.
pub async fn prepare(target: &KafkaTarget) -> Result<(), SinkError> {
    let prepared = async {
        let cluster = Cluster::new(&target.brokers)?;
        match topic_of(&cluster, target).await? {
            Some(wanted) => ensure(&cluster, &[wanted]).await,
            None => Ok(()),
        }
    };
    let prepared: Result<(), KafkaError> = prepared.await;
    prepared.map_err(|error| SinkError::Kafka { topic: target.topic.clone(), cause: error.to_string() })
}
