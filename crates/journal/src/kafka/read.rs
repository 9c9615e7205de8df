//! The task behind a [`Reader`] on Kafka: it fetches, gathers entries and hands them on, and after a loss resumes where
//! it was.

use std::time::Duration;

use kafka::fetch::{Fetched, Fetcher, Isolation};
use kafka::{Cluster, log_of};
use stream::facts::Position;
use stream::retry::Backoff;
use stream::wire::Refusal;
use tokio::sync::mpsc;
use tracing::error;

use super::{records, refusal};
use crate::seam::{Chunk, Reader, Topic};

/// Chunks read ahead of the caller, of about 1 MiB each.
const CHUNKS_AHEAD: usize = 2;
/// A reading says this often where the partition starts and ends; where nothing comes, less and less often: thousands of
/// quiet streams must not keep the brokers busy. What does come is told at once all the same.
const SPEAK: Duration = Duration::from_secs(1);
const SPEAK_QUIET: Duration = Duration::from_secs(5);
/// Longest wait before another try.
const WAIT_MAX: Duration = Duration::from_secs(1);

/// Starts reading at a position.
pub fn start(cluster: Result<Cluster, Refusal>, topic: Topic, from: Position) -> Reader {
    let (sender, receiver) = mpsc::channel(CHUNKS_AHEAD);
    let task = tokio::spawn(async move {
        match cluster {
            Ok(cluster) => {
                let name = topic.name();
                let partition = from.place.partition as i32;
                let fetcher = Fetcher::new(cluster, &name, partition, from.offset as i64, Isolation::Uncommitted);
                run(fetcher, topic, from.log, sender).await;
            }
            Err(refusal) => drop(sender.send(Err(refusal)).await),
        }
    });
    Reader::new(receiver, task)
}

async fn run(mut fetcher: Fetcher, topic: Topic, mut log: u64, chunks: mpsc::Sender<Result<Chunk, Refusal>>) {
    let (mut backoff, mut wait) = (Backoff::default(), SPEAK);
    loop {
        let said = match fetcher.next(wait).await {
            Ok(fetched) => {
                backoff.reset();
                wait = if fetched.records.is_empty() { (2 * wait).min(SPEAK_QUIET) } else { SPEAK };
                Ok(chunk(&topic, &mut log, fetched, &mut fetcher))
            }
            Err(error) => Err(refusal(&format!("topic {}", topic.key), &error)),
        };
        let failed = said.is_err();
        if chunks.send(said).await.is_err() {
            return;
        }
        if failed {
            let wait = backoff.next_wait(Duration::ZERO, &mut rand::rng()).min(WAIT_MAX);
            tokio::time::sleep(wait).await;
        }
    }
}

/// What was fetched as a chunk. A topic with another id than `log` was deleted and made again, and one that ends before
/// what was read was cut: either way what was not yet read is gone, and all that is there is read from its beginning.
fn chunk(topic: &Topic, log: &mut u64, fetched: Fetched, fetcher: &mut Fetcher) -> Chunk {
    let Fetched { records, next_offset, start_offset, end_offset, topic_id, is_cut } = fetched;
    let known = std::mem::replace(log, log_of(topic_id));
    let is_anew = is_cut || (known != 0 && known != *log);
    let (start, end) = (start_offset.max(0) as u64, end_offset.max(0) as u64);
    let bounds = Chunk { start_offset: start, end_offset: end, log: *log, is_anew, ..Chunk::default() };
    if is_anew {
        error!(topic = topic.key, end_offset, "the topic was deleted and made again, or cut: it is read anew");
        fetcher.seek(start_offset);
        return bounds;
    }
    Chunk { entries: records::entries(topic, &records), next_offset: Some(next_offset.max(0) as u64), ..bounds }
}
