//! How a parcel ends: every rider is told, the stream's counts and the facts of its sources are brought up to date.

use stream::facts::SourceFact;
use stream::wire::Refusal;
use stream::{Range, SourceId};
use tokio::sync::oneshot;
use tracing::warn;

use crate::directory::StreamHandle;
use crate::facts::FactBook;
use crate::key::Key;
use crate::lane::Lane;
use crate::produce::Appended;
use crate::queue::{Answer, Cargo, Outcome, Parcel, Rider, Stored};

/// Tells every rider that its records are durable, and states so.
pub fn deliver(lane: &mut Lane, parcel: Parcel, appended: Appended, book: &FactBook) {
    let is_whole = parcel.riders.len() == 1 || appended.is_spread;
    let (mut offset, mut records) = (appended.offset, 0);
    let body_bytes = match &parcel.cargo {
        Cargo::Batch(batch) => batch.body_bytes() as u64,
        Cargo::Parts(_) | Cargo::Unbuilt { .. } => 0,
    };
    for rider in parcel.riders {
        offset += rider.records;
        records += rider.records;
        let offset_end = if is_whole { appended.offset_end } else { offset };
        let outcome = Ok(Stored { partition: appended.partition, records: rider.records, offset_end });
        if let Answer::Key { key, source, length } = &rider.answer {
            book.put(keyed_fact(&lane.handle, key, *source, *length));
        }
        answer(lane, rider, outcome);
    }
    lane.handle.stored(records, body_bytes);
    settle_range(lane, parcel.allotted, true, book);
}

/// Tells every rider that its records are refused.
pub fn refuse(lane: &mut Lane, parcel: Parcel, refusal: &Refusal, book: &FactBook) {
    warn!(stream = %lane.handle.id(), %refusal, batches = parcel.riders.len(), "refused");
    parcel.riders.into_iter().for_each(|rider| answer(lane, rider, Err(refusal.clone())));
    settle_range(lane, parcel.allotted, false, book);
}

fn answer(lane: &mut Lane, rider: Rider, outcome: Outcome) {
    drop(rider.permit);
    match rider.answer {
        Answer::Sender(sender) => tell(sender, outcome),
        Answer::Key { key, .. } => lane.settle_key(&key, &outcome),
    }
}

fn settle_range(lane: &mut Lane, allotted: Option<(SourceId, Range)>, stored: bool, book: &FactBook) {
    let Some((source, range)) = allotted else { return };
    let stream = lane.handle.id().clone();
    if let Some(fact) = lane.source.settle(&stream, source, range, stored) {
        book.put(fact);
    }
}

/// What is stated of a request with a key: a finished source, all of it acknowledged.
fn keyed_fact(handle: &StreamHandle, key: &Key, source: SourceId, length: u64) -> SourceFact {
    SourceFact {
        stream: handle.id().clone(),
        incarnation: handle.config.incarnation,
        source,
        collector: String::new(),
        name: key.as_str().chars().take(16).collect(),
        seen: length,
        acknowledged: length,
        finished: true,
        set_apart: Vec::new(),
        cuts: Vec::new(),
    }
}

/// Tells a sender, who may have gone.
pub fn tell(sender: oneshot::Sender<Outcome>, outcome: Outcome) {
    let _gone = sender.send(outcome);
}
