//! What is sent: JSON lines of an exact length, and the clients that send them in a closed loop.
//!
//! A line is `{"lane":3,"number":13,"made_ms":1795420800000,"text":"..."}` and a newline. The text is cut at a random
//! place from a bank of random words, long enough that compressing it finds words but no repeated lines. Everything
//! random comes from a fixed seed: limit and ours get the same bytes.

use std::net::SocketAddr;
use std::sync::LazyLock;
use std::thread;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use harness::http::Client;
use rand::rngs::ChaCha8Rng;
use rand::{RngExt, SeedableRng};
use stream::clock::{Clock, SystemClock};
use stream::config::StreamConfig;
use stream::wire::v1::gateway_client::GatewayClient;
use stream::wire::v1::{self, SendReply, SendRequest, send_reply};
use stream::{BatchBuilder, Kind, SourceId};
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::Streaming;

/// Lengths of the records measured, newline included.
pub const SIZES: [usize; 2] = [200, 1024];
/// Clients of a door at a time, each with one request under way.
pub const CONNECTIONS: usize = 8;
/// Values of the column `lane`.
const LANES: u64 = 10;
/// How long a refused client waits.
const REFUSED: Duration = Duration::from_millis(5);

/// The words that texts are cut from.
static BANK: LazyLock<Vec<u8>> = LazyLock::new(|| bank(4 << 20));

fn bank(bytes: usize) -> Vec<u8> {
    let mut dice = ChaCha8Rng::seed_from_u64(1);
    let mut word = || (0..dice.random_range(3..10)).map(|_| dice.random_range(b'a'..=b'z')).collect::<Vec<u8>>();
    let words: Vec<Vec<u8>> = (0..2048).map(|_| word()).collect();
    let mut bank = Vec::with_capacity(bytes + 16);
    while bank.len() < bytes {
        bank.extend_from_slice(&words[dice.random_range(0..words.len())]);
        bank.push(b' ');
    }
    bank
}

/// Makes lines, numbered on from the first.
pub struct Lines {
    bytes: usize,
    number: u64,
    dice: ChaCha8Rng,
}

impl Lines {
    /// Lines of `bytes` each, the first with this number.
    pub fn new(bytes: usize, number: u64) -> Self {
        Self { bytes, number, dice: ChaCha8Rng::seed_from_u64(number) }
    }

    /// Adds the next line.
    pub fn push(&mut self, out: &mut Vec<u8>, made_ms: i64) {
        let end = out.len() + self.bytes;
        let (lane, number) = (self.number % LANES, self.number);
        out.extend_from_slice(format!(r#"{{"lane":{lane},"number":{number},"made_ms":{made_ms},"text":""#).as_bytes());
        let text = end - out.len() - 3;
        let from = self.dice.random_range(0..BANK.len() - text);
        out.extend_from_slice(&BANK[from..from + text]);
        out.extend_from_slice(b"\"}\n");
        self.number += 1;
    }

    /// The lines of one request.
    pub fn group(&mut self, made_ms: i64) -> Vec<u8> {
        let mut group = Vec::with_capacity(group_records(self.bytes) * self.bytes);
        (0..group_records(self.bytes)).for_each(|_| self.push(&mut group, made_ms));
        group
    }
}

/// Lines of one request: about 100 kB.
pub fn group_records(record_bytes: usize) -> usize {
    if record_bytes < 512 { 500 } else { 100 }
}

/// Requests of about `bytes_total` in all.
pub fn groups(record_bytes: usize, bytes_total: usize) -> Vec<Vec<u8>> {
    let mut lines = Lines::new(record_bytes, 0);
    let count = bytes_total.div_ceil(record_bytes * group_records(record_bytes)).max(CONNECTIONS);
    let now_ms = SystemClock.now_ms();
    (0..count).map(|_| lines.group(now_ms)).collect()
}

/// Posts every group once, over [`CONNECTIONS`] connections, with keys that no other call uses.
pub fn post_all(door: SocketAddr, stream: &str, groups: &[Vec<u8>]) -> Result<()> {
    let run: u64 = rand::random();
    let path = format!("/v1/streams/{stream}/records");
    let share = |connection: usize| -> Result<()> {
        let mut client = Client::new(door);
        for (i, group) in groups.iter().enumerate().skip(connection).step_by(CONNECTIONS) {
            post(&mut client, &path, &format!("{run}-{i}"), group)?;
        }
        Ok(())
    };
    on_every_connection(share)
}

/// Runs `work` on a thread for each connection; the first failure is told.
pub fn on_every_connection(work: impl Fn(usize) -> Result<()> + Sync) -> Result<()> {
    thread::scope(|scope| {
        let work = &work;
        let threads: Vec<_> = (0..CONNECTIONS).map(|connection| scope.spawn(move || work(connection))).collect();
        threads.into_iter().try_for_each(|thread| match thread.join() {
            Ok(ended) => ended,
            Err(_) => bail!("a client panicked"),
        })
    })
}

/// Posts a group until it is acknowledged.
pub fn post(client: &mut Client, path: &str, key: &str, group: &[u8]) -> Result<()> {
    loop {
        let answer = client.exchange("POST", path, &[("idempotency-key", key)], group)?;
        match answer.status {
            200 => return Ok(()),
            429 | 503 => thread::sleep(REFUSED),
            status => bail!("the door answered {status}: {}", String::from_utf8_lossy(&answer.body)),
        }
    }
}

/// The same groups as batches, a list for each connection, each list of one source.
pub fn batches(config: &StreamConfig, groups: &[Vec<u8>]) -> Vec<Vec<stream::Batch>> {
    let source = |connection: usize| SourceId::derive(SystemClock.now_minutes(), &[&connection.to_be_bytes()]);
    let share = |connection: usize| {
        let mut builder = BatchBuilder::new(0);
        let batch = |group: &Vec<u8>| {
            for line in group.split_inclusive(|byte| *byte == b'\n') {
                builder.push(Kind::Event, builder.end() + line.len() as u64, None, &line[..line.len() - 1]);
            }
            builder.take(&config.spec.id, config.incarnation, source(connection))
        };
        groups.iter().skip(connection).step_by(CONNECTIONS).filter_map(batch).collect()
    };
    (0..CONNECTIONS).map(share).collect()
}

/// Sends every list over a connection of its own, one batch under way on each.
pub async fn send_all(door: SocketAddr, lists: Vec<Vec<v1::Batch>>) -> Result<()> {
    let calls: Vec<_> = lists.into_iter().map(|list| tokio::spawn(send_list(door, list))).collect();
    for call in calls {
        call.await??;
    }
    Ok(())
}

async fn send_list(door: SocketAddr, list: Vec<v1::Batch>) -> Result<()> {
    let mut call = GrpcCall::open(door).await?;
    for batch in list {
        while !call.send(batch.clone()).await? {
            tokio::time::sleep(REFUSED).await;
        }
    }
    Ok(())
}

/// A call to the gRPC door, with one batch under way at a time.
pub struct GrpcCall {
    requests: mpsc::Sender<SendRequest>,
    replies: Streaming<SendReply>,
    id: u64,
}

impl GrpcCall {
    /// Opens a call over a connection of its own.
    pub async fn open(door: SocketAddr) -> Result<Self> {
        let mut client = GatewayClient::connect(format!("http://{door}")).await?;
        let (requests, receiver) = mpsc::channel(1);
        let replies = client.send(ReceiverStream::new(receiver)).await?.into_inner();
        Ok(Self { requests, replies, id: 0 })
    }

    /// Sends a batch; answers whether it was acknowledged, or refused for the moment.
    pub async fn send(&mut self, batch: v1::Batch) -> Result<bool> {
        self.id += 1;
        self.requests
            .send(SendRequest { id: self.id, batch: Some(batch), config_version: 0 })
            .await
            .context("the call ended")?;
        let reply = self.replies.message().await?.context("the door hung up")?;
        match reply.outcome {
            Some(send_reply::Outcome::Ack(_)) => Ok(true),
            Some(send_reply::Outcome::Refusal(refusal)) if refusal.retry_after_ms > 0 => Ok(false),
            other => bail!("the door answered {other:?}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_are_json_of_the_exact_length() {
        for bytes in SIZES {
            let group = Lines::new(bytes, 998).group(1_795_420_800_000);
            assert_eq!(group.len(), bytes * group_records(bytes));
            let lines = group.split_inclusive(|byte| *byte == b'\n');
            for (number, line) in (998..).zip(lines) {
                assert_eq!(line.len(), bytes);
                let value: serde_json::Value = serde_json::from_slice(line).unwrap();
                assert_eq!((value["number"].as_u64(), value["lane"].as_u64()), (Some(number), Some(number % LANES)));
            }
        }
    }
}
