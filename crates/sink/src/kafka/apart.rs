//! The quarantine's topic, read: by a leg that takes it again, and by a person.

use std::time::{Duration, Instant};

use kafka::fetch::{Fetched, Fetcher, Isolation};
use kafka::offsets::{self, At};
use kafka::transaction::Place;
use kafka::{Cluster, KafkaError, log_of};
use stream::config::KafkaTarget;

use super::{STATE_TOPIC, name_of, quarantine_of, read_state, rows, state_place};
use crate::error::SinkError;
use crate::files::Identity;
use crate::seam::{Apart, ApartEnd, SetApart};
use crate::state::ApartPosition;

/// How long a step may take, its waits included: shorter than a transaction may stay open.
const STEP: Duration = Duration::from_secs(20);
/// How long a fetch waits for what is not there yet.
const WAIT: Duration = Duration::from_millis(500);

/// Where readers of committed records end now.
pub(super) async fn end(cluster: &Cluster, (topic, partition): &Place) -> Result<ApartEnd, KafkaError> {
    let start = offsets::of(cluster, topic, *partition, At::Start).await?;
    let mut fetcher = Fetcher::new(cluster.clone(), topic, *partition, start, Isolation::Committed);
    let fetched = patiently(&mut fetcher, Duration::ZERO, Instant::now() + STEP).await?;
    let end = ApartPosition { commit: 0, record: fetched.end_offset as u64 };
    Ok(ApartEnd { log: log_of(fetched.topic_id), end })
}

/// A reader of the quarantine from `from` on.
pub(super) fn reader(cluster: Cluster, (topic, partition): &Place, from: ApartPosition) -> Fetcher {
    Fetcher::new(cluster, topic, *partition, from.record as i64, Isolation::Committed)
}

/// Some records before `end`, from where the reader stands.
pub(super) async fn read(fetcher: &mut Fetcher, topic: &str, end: ApartPosition) -> Result<Apart, KafkaError> {
    let wanted = end.record as i64;
    let (mut records, deadline) = (Vec::new(), Instant::now() + STEP);
    // What was aborted is passed over here, so that each step of a reader is a step.
    while records.is_empty() && fetcher.offset() < wanted {
        let fetched = patiently(fetcher, WAIT, deadline).await?;
        if fetched.is_cut {
            return Err(KafkaError::out_of_range(format!("the records of {topic}, which was deleted or cut")));
        }
        if fetched.records.is_empty() && Instant::now() > deadline {
            // A broker that has just taken over may not know of them yet: nothing is passed over.
            return Err(KafkaError::Silent {
                broker: topic.to_owned(),
                what: "the quarantine's records",
                within: STEP,
            });
        }
        let before_end = fetched.records.into_iter().filter(|record| record.offset < wanted);
        records.extend(before_end.filter_map(rows::read_apart));
    }
    let next = ApartPosition { commit: 0, record: fetcher.offset().min(wanted) as u64 };
    Ok(Apart { records, next })
}

/// The next records, tried again until `deadline` while a leader moves.
async fn patiently(fetcher: &mut Fetcher, wait: Duration, deadline: Instant) -> Result<Fetched, KafkaError> {
    loop {
        match fetcher.next(wait).await {
            Err(error) if error.passes() && Instant::now() < deadline => tokio::time::sleep(WAIT).await,
            fetched => return fetched,
        }
    }
}

/// A leg's quarantine, for a person to look at.
pub struct Quarantine {
    topic: String,
    fetcher: Fetcher,
    end: ApartPosition,
}

impl Quarantine {
    /// The quarantine of the leg `identity` that writes to `target`, from the first record that has not been replayed on.
    pub async fn open(target: &KafkaTarget, identity: &Identity) -> Result<Self, SinkError> {
        let failed = |cause: String| SinkError::Kafka { topic: target.topic.clone(), cause };
        let (leg, place) = (name_of(identity), quarantine_of(identity));
        let open = async {
            let cluster = Cluster::new(&target.brokers)?;
            let folded = read_state(&cluster, &state_place(&leg), &leg).await?;
            let ApartEnd { end, .. } = end(&cluster, &place).await?;
            Ok::<_, KafkaError>((cluster, folded, end))
        };
        let (cluster, folded, end) = open.await.map_err(|error| failed(error.to_string()))?;
        let unreadable = |cause| SinkError::Kafka { topic: STATE_TOPIC.to_owned(), cause };
        let (state, _) = folded.finish().map_err(unreadable)?;
        let fetcher = reader(cluster, &place, state.replay.next);
        Ok(Self { topic: place.0, fetcher, end })
    }

    /// Some more records; none at the end.
    pub async fn more(&mut self) -> Result<Vec<SetApart>, SinkError> {
        let read = read(&mut self.fetcher, &self.topic, self.end).await;
        let failed = |error: KafkaError| SinkError::Kafka { topic: self.topic.clone(), cause: error.to_string() };
        let Apart { records, .. } = read.map_err(failed)?;
        Ok(records)
    }
}
