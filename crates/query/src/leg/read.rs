//! Reading: one task per place feeds the leg through one bounded channel, from the committed positions on. While the
//! leg's range sets are over their budget, [`gate`] decides who may still read; who may not only tells the journal's
//! bounds, so that the leg learns what it may forget.
//!
//! Limit: [`ARRIVALS_MAX`] chunks between readers and leg, each about 1 MiB.

use std::collections::BTreeMap;
use std::time::Duration;

use journal::{Chunk, Journal, Topic};
use stream::facts::{Place, Position};
use stream::limits;
use tokio::sync::{mpsc, watch};
use tokio::task::JoinSet;
use tokio::time::{Instant, MissedTickBehavior};
use tracing::warn;

/// Chunks that wait for the leg: one at work, one ready.
pub const ARRIVALS_MAX: usize = 2;
/// How often a held reader asks for the bounds.
const BOUNDS: Duration = Duration::from_secs(1);

/// What a reader brings.
#[derive(Clone, Debug, PartialEq)]
pub struct Arrival {
    /// From where.
    pub place: Place,
    /// Entries, and the bounds when they were read.
    pub chunk: Chunk,
}

/// Who may read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Gate {
    /// Everybody.
    All,
    /// The place furthest behind: what it brings joins ranges.
    Only(Place),
    /// Nobody, until the journal's retention lets sources be forgotten.
    Nobody,
}

impl Gate {
    fn lets(self, place: Place) -> bool {
        self == Gate::All || self == Gate::Only(place)
    }
}

/// Who may read while the range sets take `bytes` and have `gaps`: over the budget of either only the place furthest
/// behind, by the append time that each place has reached; over twice the budget of bytes nobody. A lone place has none
/// ahead of it: it stops at the budget of bytes.
pub fn gate(bytes: usize, gaps: usize, reached_ms: &BTreeMap<Place, i64>) -> Gate {
    let (is_full, is_scattered) = (bytes > limits::RANGE_SET_BYTES_MAX, gaps > limits::RANGE_SET_GAPS_MAX);
    let behind = reached_ms.iter().min_by_key(|(_, ms)| **ms).map(|(place, _)| *place);
    match behind {
        Some(place)
            if reached_ms.len() > 1 && (is_full || is_scattered) && bytes <= 2 * limits::RANGE_SET_BYTES_MAX =>
        {
            Gate::Only(place)
        }
        _ if is_full => Gate::Nobody,
        _ => Gate::All,
    }
}

/// Starts a reader per position. They end when the set is dropped.
pub fn start(
    journal: &impl Journal,
    topic: &Topic,
    positions: &[Position],
    gate: &watch::Receiver<Gate>,
) -> (mpsc::Receiver<Arrival>, JoinSet<()>) {
    let (sender, arrivals) = mpsc::channel(ARRIVALS_MAX);
    let mut readers = JoinSet::new();
    for position in positions {
        readers.spawn(follow(journal.clone(), topic.clone(), *position, gate.clone(), sender.clone()));
    }
    (arrivals, readers)
}

async fn follow(
    journal: impl Journal,
    topic: Topic,
    from: Position,
    mut gate: watch::Receiver<Gate>,
    arrivals: mpsc::Sender<Arrival>,
) {
    let place = from.place;
    let mut reader = journal.read(&topic, from);
    loop {
        let chunk = match reader.next().await {
            Ok(chunk) => chunk,
            Err(refusal) => {
                warn!(topic = topic.key, cluster = place.cluster, partition = place.partition, %refusal, "cannot read the journal; trying again");
                continue;
            }
        };
        if !chunk.entries.is_empty() && !gate.borrow_and_update().lets(place) {
            // That there is something to read decides who may read.
            let (start_offset, end_offset) = (chunk.start_offset, chunk.end_offset);
            let bounds = Chunk { entries: Vec::new(), start_offset, end_offset, ..Chunk::default() };
            if arrivals.send(Arrival { place, chunk: bounds }).await.is_err() {
                return;
            }
            hold(&journal, &topic.key, place, &mut gate, &arrivals).await;
        }
        if arrivals.send(Arrival { place, chunk }).await.is_err() {
            return;
        }
    }
}

/// Waits until the gate lets this place read, telling the bounds meanwhile.
async fn hold(
    journal: &impl Journal,
    topic: &str,
    place: Place,
    gate: &mut watch::Receiver<Gate>,
    arrivals: &mpsc::Sender<Arrival>,
) {
    let mut ask = tokio::time::interval_at(Instant::now() + BOUNDS, BOUNDS);
    ask.set_missed_tick_behavior(MissedTickBehavior::Delay);
    while !gate.borrow_and_update().lets(place) {
        tokio::select! {
            changed = gate.changed() => match changed {
                Ok(()) => continue,
                Err(_) => return,
            },
            _ = ask.tick() => {}
        }
        let bounds = journal.bounds(&[topic.to_owned()]).await.unwrap_or_default();
        for bounds in bounds.into_iter().filter(|bounds| bounds.place == place) {
            let (start_offset, end_offset) = (bounds.start_offset, bounds.end_offset);
            let chunk = Chunk { entries: Vec::new(), start_offset, end_offset, ..Chunk::default() };
            if arrivals.send(Arrival { place, chunk }).await.is_err() {
                return;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn over_the_budget_only_the_place_furthest_behind_reads() {
        let place = |partition| Place { cluster: 0, partition };
        let two = BTreeMap::from([(place(0), 9), (place(1), 5)]);
        let one = BTreeMap::from([(place(0), 9)]);
        let (budget, most) = (limits::RANGE_SET_BYTES_MAX, limits::RANGE_SET_GAPS_MAX);
        for (bytes, gaps, reached, expected) in [
            (budget, most, &two, Gate::All),
            (budget + 1, 0, &two, Gate::Only(place(1))),
            (0, most + 1, &two, Gate::Only(place(1))),
            (2 * budget + 1, most + 1, &two, Gate::Nobody),
            (budget, most + 1, &one, Gate::All),
            (budget + 1, 0, &one, Gate::Nobody),
        ] {
            assert_eq!(gate(bytes, gaps, reached), expected);
        }
    }
}
