//! The last ten minutes, in steps of a second: what the chart draws and rates are made of.
//!
//! A ring per stream that has moved within them, and one for all together. Bytes: 20 a step, 12 KB a ring, 48 MB for
//! 4,000 streams that all flow.

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use stream::{Incarnation, StreamId};
use tokio::time::{MissedTickBehavior, interval};

use crate::api::Shared;
use crate::store::book::Entry;

/// One step.
const STEP: Duration = Duration::from_secs(1);
/// Steps kept: ten minutes.
pub const STEPS: usize = 600;
/// Steps that a rate is the mean of: a leg commits every 10 s at most by default, so shorter ones would jump.
const RATE_STEPS: usize = 10;
/// No leg has committed in the step.
const NONE: u32 = u32::MAX;

/// The answer of `GET /api/v1/history`: columns of equal length, oldest first; the last one ends at `end_ms`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct History {
    /// The stream; none: all together.
    pub stream: Option<StreamId>,
    /// Length of a step, in ms.
    pub step_ms: u64,
    /// End of the last step, in ms since 1970.
    pub end_ms: i64,
    /// Records made durable in each step.
    pub received: Vec<u32>,
    /// Records delivered in each step.
    pub delivered: Vec<u32>,
    /// Median delay of the commits of each step, in ms; the slowest leg's.
    pub delay_ms_p50: Vec<Option<u32>>,
    /// 99th percentile of the same.
    pub delay_ms_p99: Vec<Option<u32>>,
}

/// Means of the last 10 s.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Rates {
    /// Records made durable a second.
    pub received_records: f64,
    /// Bytes made durable a second.
    pub received_bytes: f64,
    /// Records delivered a second.
    pub delivered_records: f64,
}

/// Counters of a stream at one moment.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counters {
    /// Records made durable.
    pub records: u64,
    /// Bytes made durable.
    pub bytes: u64,
    /// Records delivered.
    pub delivered: u64,
    /// Commits of all legs: a change of it makes the delays those of this step.
    pub commits: u64,
    /// Median delay of the last commits, the slowest leg's.
    pub delay_ms_p50: u64,
    /// 99th percentile of the same.
    pub delay_ms_p99: u64,
}

/// All rings.
#[derive(Default)]
pub struct Rings {
    end_ms: i64,
    all: Ring,
    streams: HashMap<Incarnation, Ring>,
    last: Option<HashMap<Incarnation, Counters>>,
}

#[derive(Default)]
struct Ring {
    steps: VecDeque<Step>,
    still: usize,
}

#[derive(Clone, Copy)]
struct Step {
    received: u32,
    bytes: u32,
    delivered: u32,
    delay_ms_p50: u32,
    delay_ms_p99: u32,
}

impl Default for Step {
    fn default() -> Self {
        Self { received: 0, bytes: 0, delivered: 0, delay_ms_p50: NONE, delay_ms_p99: NONE }
    }
}

impl Rings {
    /// Ends a step: `now` are the counters of every living stream. The first call only remembers them.
    pub fn step(&mut self, now: HashMap<Incarnation, Counters>, now_ms: i64) {
        self.end_ms = now_ms;
        let Some(last) = self.last.replace(now) else { return };
        let now = self.last.as_ref().unwrap_or(&last);
        let mut all = Step::default();
        for (incarnation, counters) in now {
            let step = Step::between(last.get(incarnation).copied().unwrap_or_default(), *counters);
            all.add(step);
            if step.moves() || self.streams.contains_key(incarnation) {
                self.streams.entry(*incarnation).or_default().push(step);
            }
        }
        self.streams.retain(|incarnation, ring| now.contains_key(incarnation) && ring.still < STEPS);
        self.all.push(all);
    }

    /// The history of a stream, or of all together.
    pub fn history(&self, stream: Option<(StreamId, Incarnation)>) -> History {
        let ring = match &stream {
            Some((_, incarnation)) => self.streams.get(incarnation),
            None => Some(&self.all),
        };
        let steps = || ring.into_iter().flat_map(|ring| &ring.steps);
        let some = |ms: u32| (ms != NONE).then_some(ms);
        History {
            stream: stream.map(|(id, _)| id),
            step_ms: STEP.as_millis() as u64,
            end_ms: self.end_ms,
            received: steps().map(|step| step.received).collect(),
            delivered: steps().map(|step| step.delivered).collect(),
            delay_ms_p50: steps().map(|step| some(step.delay_ms_p50)).collect(),
            delay_ms_p99: steps().map(|step| some(step.delay_ms_p99)).collect(),
        }
    }

    /// The rates of a stream.
    pub fn rates(&self, incarnation: Incarnation) -> Rates {
        let Some(ring) = self.streams.get(&incarnation) else { return Rates::default() };
        let recent = || ring.steps.iter().rev().take(RATE_STEPS);
        let mean = |of: fn(&Step) -> u32| recent().map(|step| f64::from(of(step))).sum::<f64>() / RATE_STEPS as f64;
        Rates {
            received_records: mean(|step| step.received),
            received_bytes: mean(|step| step.bytes),
            delivered_records: mean(|step| step.delivered),
        }
    }
}

impl Ring {
    fn push(&mut self, step: Step) {
        if self.steps.len() == STEPS {
            self.steps.pop_front();
        }
        self.still = if step.moves() { 0 } else { self.still + 1 };
        self.steps.push_back(step);
    }
}

impl Step {
    fn between(last: Counters, now: Counters) -> Self {
        let grown = |last: u64, now: u64| u32::try_from(now.saturating_sub(last)).unwrap_or(u32::MAX);
        let delay = |ms: u64| if now.commits == last.commits { NONE } else { u32::try_from(ms).unwrap_or(NONE - 1) };
        Self {
            received: grown(last.records, now.records),
            bytes: grown(last.bytes, now.bytes),
            delivered: grown(last.delivered, now.delivered),
            delay_ms_p50: delay(now.delay_ms_p50),
            delay_ms_p99: delay(now.delay_ms_p99),
        }
    }

    fn moves(&self) -> bool {
        self.received > 0 || self.delivered > 0 || self.delay_ms_p50 != NONE
    }

    fn add(&mut self, other: Step) {
        let slower = |a: u32, b: u32| {
            if a == NONE {
                b
            } else if b == NONE {
                a
            } else {
                a.max(b)
            }
        };
        self.received = self.received.saturating_add(other.received);
        self.bytes = self.bytes.saturating_add(other.bytes);
        self.delivered = self.delivered.saturating_add(other.delivered);
        self.delay_ms_p50 = slower(self.delay_ms_p50, other.delay_ms_p50);
        self.delay_ms_p99 = slower(self.delay_ms_p99, other.delay_ms_p99);
    }
}

/// Ends a step every second, until the task is dropped.
pub async fn run(shared: Arc<Shared>) {
    let mut ticks = interval(STEP);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Skip);
    loop {
        ticks.tick().await;
        let published = shared.published.borrow().clone();
        let lives = || published.snapshot.streams.values().map(|config| config.incarnation);
        let mut now: HashMap<_, _> = {
            let book = shared.store.book();
            lives().map(|life| (life, book.look(life).map(delivered).unwrap_or_default())).collect()
        };
        {
            let mut live = shared.live();
            live.retain(|incarnation| now.contains_key(incarnation));
            for (life, counters) in &mut now {
                let counted = live.flow(*life).map(|flow| flow.counted).unwrap_or_default();
                (counters.records, counters.bytes) = (counted.records, counted.bytes);
            }
        }
        shared.rings().step(now, shared.clock.now_ms());
    }
}

/// The delivering half of a stream's counters.
fn delivered(entry: &Entry) -> Counters {
    let mut sum = Counters::default();
    for report in entry.legs.values().map(|leg| &leg.report) {
        sum.delivered += report.fates.delivered;
        sum.commits += report.commit;
        sum.delay_ms_p50 = sum.delay_ms_p50.max(report.delay_ms_p50);
        sum.delay_ms_p99 = sum.delay_ms_p99.max(report.delay_ms_p99);
    }
    sum
}

#[cfg(test)]
mod tests {
    use super::*;

    const LIFE: Incarnation = Incarnation(1);

    fn at(records: u64, delivered: u64, commits: u64) -> HashMap<Incarnation, Counters> {
        let counters = Counters { records, bytes: 10 * records, delivered, commits, delay_ms_p50: 4, delay_ms_p99: 9 };
        [(LIFE, counters)].into()
    }

    #[test]
    fn steps_are_what_counters_grew_by() {
        let mut rings = Rings::default();
        for (second, now) in [at(100, 90, 5), at(110, 90, 5), at(110, 120, 6)].into_iter().enumerate() {
            rings.step(now, second as i64 * 1_000);
        }
        let id: StreamId = "a.b.c".parse().unwrap();
        let own = rings.history(Some((id, LIFE)));
        assert_eq!((own.received.as_slice(), own.delivered.as_slice()), (&[10, 0][..], &[0, 30][..]));
        assert_eq!((own.delay_ms_p50.as_slice(), own.end_ms), (&[None, Some(4)][..], 2_000));
        assert_eq!(History { stream: None, ..own }, rings.history(None));
        assert_eq!(rings.rates(LIFE), Rates { received_records: 1.0, received_bytes: 10.0, delivered_records: 3.0 });
    }

    #[test]
    fn a_ring_is_bounded_and_goes_when_its_stream_stands_still() {
        let mut rings = Rings::default();
        rings.step(at(0, 0, 0), 0);
        (1..=700).for_each(|i| rings.step(at(i, 0, 0), 0));
        assert_eq!(rings.history(None).received.len(), STEPS);
        (0..STEPS).for_each(|_| rings.step(at(700, 0, 0), 0));
        assert!(rings.streams.is_empty());
        rings.step(at(701, 0, 0), 0);
        rings.step(HashMap::new(), 0);
        assert!(rings.streams.is_empty(), "the stream is gone");
    }
}
