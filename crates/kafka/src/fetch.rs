//! Reads one partition from an offset on, over a connection of its own: a broker answers a connection's requests one
//! after the other, so a shared one would let a reader that waits for news hold up another that has much to read.

use std::collections::HashMap;
use std::time::Duration;

use bytes::Bytes;
use kafka_protocol::ResponseError;
use kafka_protocol::messages::fetch_request::{FetchPartition, FetchTopic};
use kafka_protocol::messages::fetch_response::{AbortedTransaction, PartitionData};
use kafka_protocol::messages::{BrokerId, FetchRequest};

use crate::batch::{Batch, Record, read_batches};
use crate::cluster::{Cluster, Leader, TopicId, name};
use crate::connection::Connection;
use crate::error::KafkaError;
use crate::offsets;

/// Bytes of one answer; a batch that is larger comes alone.
const ANSWER_BYTES: i32 = 1 << 20;
/// What an answer may take beyond the time that the broker waits for news.
const ANSWER_MARGIN: Duration = Duration::from_secs(10);

/// Which records are shown.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Isolation {
    /// All, as soon as the in-sync replicas have them.
    Uncommitted,
    /// Those outside transactions and of committed ones, as far as no transaction is open.
    Committed,
}

/// What one step of reading yields.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fetched {
    /// Records in order; none: nothing new.
    pub records: Vec<Record>,
    /// Where reading goes on.
    pub next_offset: i64,
    /// The oldest offset kept.
    pub start_offset: i64,
    /// Where readers with this isolation end now.
    pub end_offset: i64,
    /// The topic's id.
    pub topic_id: TopicId,
    /// The log ends before what was asked for: it was cut, or is another one. Reading goes on at its beginning.
    pub is_cut: bool,
}

/// A reader of one partition.
#[derive(Debug)]
pub struct Fetcher {
    cluster: Cluster,
    topic: String,
    partition: i32,
    offset: i64,
    isolation: Isolation,
    open: Option<(Leader, Connection)>,
}

impl Fetcher {
    /// A reader that begins at `offset`.
    pub fn new(cluster: Cluster, topic: &str, partition: i32, offset: i64, isolation: Isolation) -> Self {
        Self { cluster, topic: topic.to_owned(), partition, offset, isolation, open: None }
    }

    /// Where reading goes on.
    pub fn offset(&self) -> i64 {
        self.offset
    }

    /// Goes on somewhere else.
    pub fn seek(&mut self, offset: i64) {
        self.offset = offset;
    }

    /// The next records; without any at the latest after `wait`. After an error the same call may be made again. An
    /// offset that the partition no longer keeps, or does not have yet, is no error: the answer says where it begins and
    /// ends, and reading goes on at its beginning.
    pub async fn next(&mut self, wait: Duration) -> Result<Fetched, KafkaError> {
        match self.fetch(wait).await {
            Err(error) if error.code() == Some(ResponseError::OffsetOutOfRange) => self.find_again().await,
            Err(error) => {
                if error.is_about_leaders() {
                    self.cluster.doubt(&self.topic);
                }
                self.open = None;
                Err(error)
            }
            fetched => fetched,
        }
    }

    async fn connect(&mut self) -> Result<(Leader, Connection), KafkaError> {
        let leader = self.cluster.leader(&self.topic, self.partition).await?;
        if let Some((known, connection)) = self.open.take().filter(|(known, open)| *known == leader && !open.is_lost())
        {
            self.open = Some((known.clone(), connection.clone()));
            return Ok((known, connection));
        }
        let connection = Connection::open(&leader.address).await?;
        self.open = Some((leader.clone(), connection.clone()));
        Ok((leader, connection))
    }

    async fn fetch(&mut self, wait: Duration) -> Result<Fetched, KafkaError> {
        let (leader, connection) = self.connect().await?;
        let version = connection.version::<FetchRequest>()?;
        let partition = FetchPartition::default()
            .with_partition(self.partition)
            .with_fetch_offset(self.offset)
            .with_partition_max_bytes(ANSWER_BYTES);
        let topic = FetchTopic::default().with_partitions(vec![partition]);
        let by_id = version >= 13;
        let topic = if by_id { topic.with_topic_id(leader.topic_id) } else { topic.with_topic(name(&self.topic)) };
        let request = FetchRequest::default()
            .with_replica_id(BrokerId(-1))
            .with_max_wait_ms(wait.as_millis() as i32)
            .with_min_bytes(1)
            .with_max_bytes(ANSWER_BYTES)
            .with_isolation_level(i8::from(self.isolation == Isolation::Committed))
            .with_session_epoch(-1)
            .with_topics(vec![topic]);
        let answer = connection.call_at(&request, version, wait + ANSWER_MARGIN).await?;
        KafkaError::check(answer.error_code, || self.what())?;
        let data = answer.responses.into_iter().flat_map(|topic| topic.partitions).next();
        let data = data.ok_or_else(|| KafkaError::Protocol {
            broker: connection.broker().to_owned(),
            cause: "a fetch was answered with nothing".to_owned(),
        })?;
        KafkaError::check(data.error_code, || self.what())?;
        self.take(data, leader.topic_id, connection.broker())
    }

    fn take(&mut self, data: PartitionData, topic_id: TopicId, broker: &str) -> Result<Fetched, KafkaError> {
        let PartitionData {
            high_watermark, last_stable_offset, log_start_offset, aborted_transactions, records, ..
        } = data;
        let batches = read_batches(records.unwrap_or_else(Bytes::new))
            .map_err(|error| KafkaError::Protocol { broker: broker.to_owned(), cause: error.to_string() })?;
        let from = self.offset;
        self.offset = batches.last().map_or(from, |last| last.end_offset.max(from));
        let aborted = aborted_transactions.unwrap_or_default();
        let mut records = committed(batches, aborted);
        records.retain(|record| record.offset >= from);
        let end_offset = match self.isolation {
            Isolation::Uncommitted => high_watermark,
            Isolation::Committed => last_stable_offset,
        };
        Ok(Fetched {
            records,
            next_offset: self.offset,
            start_offset: log_start_offset,
            end_offset,
            topic_id,
            is_cut: false,
        })
    }

    /// The partition does not have this offset: says what it has. What is behind its end was there once, so the log was
    /// cut or is another one: everything is read again, and whoever reads by identity takes nothing twice.
    async fn find_again(&mut self) -> Result<Fetched, KafkaError> {
        let topic_id = self.cluster.topic(&self.topic).await?.id;
        let start_offset = offsets::of(&self.cluster, &self.topic, self.partition, offsets::At::Start).await?;
        let end_offset = offsets::of(&self.cluster, &self.topic, self.partition, offsets::At::End).await?;
        let is_cut = end_offset < self.offset;
        self.offset = start_offset;
        let records = Vec::new();
        Ok(Fetched { records, next_offset: start_offset, start_offset, end_offset, topic_id, is_cut })
    }

    fn what(&self) -> String {
        format!("a fetch from partition {} of topic {} at offset {}", self.partition, self.topic, self.offset)
    }
}

/// The records of `batches` without those of aborted transactions: from each one's first offset to its producer's next
/// control batch. Without isolation the broker names none.
fn committed(batches: Vec<Batch>, aborted: Vec<AbortedTransaction>) -> Vec<Record> {
    let mut aborts: HashMap<i64, Vec<i64>> = HashMap::new();
    for abort in aborted {
        aborts.entry(abort.producer_id.0).or_default().push(abort.first_offset);
    }
    aborts.values_mut().for_each(|offsets| offsets.sort_unstable_by(|a, b| b.cmp(a)));
    let mut records = Vec::new();
    for batch in batches {
        let Some(producer) = batch.transaction_of else {
            records.extend(batch.records);
            continue;
        };
        let offsets = aborts.entry(producer).or_default();
        let is_aborted = offsets.last().is_some_and(|first| *first <= batch.first_offset);
        match (batch.is_control, is_aborted) {
            (true, true) => drop(offsets.pop()),
            (true, false) | (false, true) => {}
            (false, false) => records.extend(batch.records),
        }
    }
    records
}

#[cfg(test)]
mod tests {
    use super::*;
    use kafka_protocol::messages::ProducerId;

    #[test]
    fn records_of_aborted_transactions_are_passed_over_and_no_others() {
        let batch = |offset, producer: Option<i64>, is_control| {
            let record = Record { offset, time_ms: 0, key: None, value: None, headers: Vec::new() };
            let records = if is_control { Vec::new() } else { vec![record] };
            Batch { first_offset: offset, end_offset: offset + 1, transaction_of: producer, is_control, records }
        };
        let batches = vec![
            batch(0, Some(1), false),
            batch(1, None, false),
            batch(2, Some(2), false),
            batch(3, Some(1), true),
            batch(4, Some(1), false),
            batch(5, Some(1), true),
            batch(6, Some(2), true),
            batch(7, Some(1), false),
        ];
        let abort = |producer, first| {
            AbortedTransaction::default().with_producer_id(ProducerId(producer)).with_first_offset(first)
        };
        let shown = committed(batches, vec![abort(1, 7), abort(1, 0)]);
        assert_eq!(shown.iter().map(|record| record.offset).collect::<Vec<_>>(), [1, 2, 4]);
    }
}
