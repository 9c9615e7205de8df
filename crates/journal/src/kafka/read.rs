//! The task behind a [`Reader`] on Kafka: it fetches, gathers entries and hands them on, and after a loss resumes where
//! it was.

use std::time::Duration;

use kafka::fetch::{Fetched, Fetcher, Isolation};
use kafka::{Cluster, TopicId};
use stream::facts::Place;
use stream::retry::Backoff;
use stream::wire::Refusal;
use tokio::sync::mpsc;
use tracing::error;

use super::{records, refusal, topics};
use crate::seam::{Chunk, Reader, Topic};

/// Chunks read ahead of the caller, of about 1 MiB each.
const CHUNKS_AHEAD: usize = 2;
/// A reading says at least this often where the partition starts and ends.
const SPEAK: Duration = Duration::from_secs(1);
/// Longest wait before another try.
const WAIT_MAX: Duration = Duration::from_secs(1);

/// Starts reading at `offset`.
pub fn start(cluster: Result<Cluster, Refusal>, topic: Topic, place: Place, offset: u64) -> Reader {
    let (sender, receiver) = mpsc::channel(CHUNKS_AHEAD);
    let task = tokio::spawn(async move {
        match cluster {
            Ok(cluster) => {
                let name = topics::name_of(&topic.key);
                let partition = place.partition as i32;
                let fetcher = Fetcher::new(cluster, &name, partition, offset as i64, Isolation::Uncommitted);
                run(fetcher, topic, sender).await;
            }
            Err(refusal) => drop(sender.send(Err(refusal)).await),
        }
    });
    Reader::new(receiver, task.abort_handle())
}

async fn run(mut fetcher: Fetcher, topic: Topic, chunks: mpsc::Sender<Result<Chunk, Refusal>>) {
    let (mut backoff, mut log): (Backoff, Option<TopicId>) = (Backoff::default(), None);
    loop {
        let before = fetcher.offset();
        let said = match fetcher.next(SPEAK).await {
            Ok(fetched) => {
                backoff.reset();
                Ok(chunk(&topic, before, &mut log, fetched, &mut fetcher))
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

/// What was fetched as a chunk. A topic with another id than before was deleted and made again, and one that ends before
/// `before` was cut: either way what was not yet read is gone, and everything that is there is read from its beginning.
fn chunk(topic: &Topic, before: i64, log: &mut Option<TopicId>, fetched: Fetched, fetcher: &mut Fetcher) -> Chunk {
    let Fetched { records, start_offset, end_offset, topic_id, .. } = fetched;
    let is_other = log.replace(topic_id).is_some_and(|known| known != topic_id);
    let is_anew = is_other || end_offset < before;
    let bounds = |entries| Chunk {
        entries,
        start_offset: start_offset.max(0) as u64,
        end_offset: end_offset.max(0) as u64,
        is_anew,
    };
    if !is_anew {
        return bounds(records::entries(topic, records));
    }
    error!(topic = topic.key, before, end_offset, "the topic was deleted and made again, or cut: it is read anew");
    fetcher.seek(start_offset);
    bounds(Vec::new())
}
