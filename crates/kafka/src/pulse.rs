//! Linger that follows the rate: when what was handed over for a broker is sent.
//!
//! Each append wakes the broker's followers, and a follower's fetch looks at every partition it follows there: with
//! hundreds of partitions that costs a broker more than the append (measured: decision 0008). So where much is handed
//! over, it goes in beats, and all producers of a process keep the same beat: a follower's one fetch then brings what
//! all of them have sent. Where little is handed over, nobody waits.
//!
//! A topic that comes often enough for a beat of its own is *hot*. The others do not notice it: how long they wait is
//! asked of them alone, or one stream that floods would make all others wait for each other.

use std::collections::HashMap;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::time::Instant;

/// Hand-overs that one beat should bring together.
const TOGETHER: u32 = 8;
/// Over how long hand-overs are counted.
const WINDOW: Duration = Duration::from_millis(200);
/// The shortest beat: what the timer can tell apart, about.
const BEAT_MIN: Duration = Duration::from_millis(1);

/// The rate at which one broker is handed something, by all producers together.
#[derive(Debug)]
pub struct Pulse {
    linger_max: Duration,
    started: Instant,
    counted: Mutex<Counted>,
    /// What is not answered yet.
    outstanding: AtomicUsize,
    /// Of it, what is of topics that are not hot.
    outstanding_cool: AtomicUsize,
}

/// Something that was handed over and is not answered yet; dropped, it is.
#[derive(Debug)]
pub struct Turn {
    pulse: Arc<Pulse>,
    is_hot: bool,
    /// When it should be sent.
    pub due: Instant,
}

impl Drop for Turn {
    fn drop(&mut self) {
        self.pulse.outstanding.fetch_sub(1, Ordering::Relaxed);
        if !self.is_hot {
            self.pulse.outstanding_cool.fetch_sub(1, Ordering::Relaxed);
        }
    }
}

/// Hand-overs, by whom they make wait.
#[derive(Debug, Default)]
struct Counted {
    all: Count,
    cool: Count,
    /// Those of this window and of the one before.
    topics: HashMap<Arc<str>, OfTopic>,
}

#[derive(Debug, Default)]
struct OfTopic {
    count: Count,
    is_hot: bool,
}

/// Hand-overs of this window, and of the one before.
#[derive(Clone, Copy, Debug, Default)]
struct Count {
    window: u128,
    now: u32,
    before: u32,
}

impl Pulse {
    /// Nothing was handed over yet; nobody ever waits longer than `linger_max`.
    pub fn new(linger_max: Duration) -> Self {
        Self {
            linger_max,
            started: Instant::now(),
            counted: Mutex::default(),
            outstanding: AtomicUsize::new(0),
            outstanding_cool: AtomicUsize::new(0),
        }
    }

    /// Something of `topic` is handed over. Who has nobody beside it at the broker that it notices waits for nobody: a client
    /// that sends one thing after the other would wait for itself.
    pub fn turn(self: &Arc<Self>, topic: &Arc<str>, now: Instant) -> Turn {
        let (due, is_hot) = self.due(topic, now);
        let others = self.outstanding.fetch_add(1, Ordering::Relaxed);
        let others_noticed = if is_hot { others } else { self.outstanding_cool.fetch_add(1, Ordering::Relaxed) };
        Turn { pulse: Arc::clone(self), is_hot, due: if others_noticed == 0 { now } else { due } }
    }

    /// When to send it, and whether its topic is hot.
    fn due(&self, topic: &Arc<str>, now: Instant) -> (Instant, bool) {
        let since = now.saturating_duration_since(self.started);
        let window = since.as_nanos() / WINDOW.as_nanos();
        let (linger, is_hot) = {
            let mut counted = self.counted.lock().unwrap_or_else(PoisonError::into_inner);
            counted.linger(topic, window, self.linger_max)
        };
        (next_beat(since, linger).map_or(now, |beat| self.started + beat), is_hot)
    }
}

impl Counted {
    /// Counts one of `topic`: how long a beat it has, and whether its topic is hot.
    fn linger(&mut self, topic: &Arc<str>, window: u128, linger_max: Duration) -> (Duration, bool) {
        if self.all.window < window {
            self.topics.retain(|_, topic| topic.count.window + 1 >= window);
        }
        let all = self.all.one_more(window);
        let OfTopic { count, is_hot } = self.topics.entry(Arc::clone(topic)).or_default();
        let was_hot = std::mem::replace(is_hot, linger(count.one_more(window), linger_max) > Duration::ZERO);
        self.cool = self.cool.at(window);
        match (was_hot, *is_hot) {
            (_, false) => return (linger(self.cool.one_more(window), linger_max), false),
            // What it has handed over before it was known to be hot makes nobody wait either.
            (false, true) => self.cool.forget(count),
            (true, true) => {}
        }
        (linger(all, linger_max), true)
    }
}

impl Count {
    /// Counts one more; answers how many there are, of this window or the one before.
    fn one_more(&mut self, window: u128) -> u32 {
        *self = self.at(window);
        self.now += 1;
        self.now.max(self.before)
    }

    /// Takes out what `other` has counted, of the same windows, before its last one.
    fn forget(&mut self, other: &Self) {
        self.now = self.now.saturating_sub(other.now - 1);
        self.before = self.before.saturating_sub(other.before);
    }

    fn at(self, window: u128) -> Self {
        match window.saturating_sub(self.window) {
            // Whoever read the clock first may come second.
            0 => self,
            1 => Self { window, now: 0, before: self.now },
            _ => Self { window, now: 0, before: 0 },
        }
    }
}

/// How long a beat is where `in_window` hand-overs come within [`WINDOW`]: [`TOGETHER`] of them, at most `linger_max`;
/// nothing where less than two would meet in that.
fn linger(in_window: u32, linger_max: Duration) -> Duration {
    let apart = WINDOW / in_window.max(1);
    if apart * 2 > linger_max {
        return Duration::ZERO;
    }
    // Beats of a few lengths only, each twice the other, so that producers which see different rates still meet.
    let mut beat = linger_max;
    while beat / 2 >= apart * TOGETHER && beat / 2 >= BEAT_MIN {
        beat /= 2;
    }
    beat
}

/// The next beat after `since`; none without a linger.
fn next_beat(since: Duration, linger: Duration) -> Option<Duration> {
    let beat = since.as_nanos().checked_div(linger.as_nanos())? + 1;
    u64::try_from(beat * linger.as_nanos()).ok().map(Duration::from_nanos)
}

#[cfg(test)]
mod tests {
    use std::collections::VecDeque;

    use super::*;

    const MAX: Duration = Duration::from_millis(16);

    #[test]
    fn the_beat_follows_the_rate() {
        let at = |per_second: u32| linger(per_second / 5, MAX).as_millis();
        assert_eq!([5, 50, 100].map(at), [0, 0, 0], "nobody to wait for");
        assert_eq!([200, 400, 900].map(at), [16, 16, 16], "as long as is allowed");
        assert_eq!([1_000, 2_000, 4_000, 8_000, 1_000_000].map(at), [8, 4, 2, 1, 1], "shorter where more comes");
        assert_eq!(linger(1_000, Duration::ZERO), Duration::ZERO, "not where it is not wanted");
    }

    fn topic(i: usize) -> Arc<str> {
        format!("t{i}").into()
    }

    #[tokio::test(start_paused = true)]
    async fn who_is_alone_waits_for_nobody() {
        let (pulse, mut now, topic) = (Arc::new(Pulse::new(MAX)), Instant::now(), topic(0));
        for _ in 0..400 {
            now += Duration::from_millis(2);
            assert_eq!(pulse.turn(&topic, now).due, now, "the one before it was answered");
        }
        let before = pulse.turn(&topic, now);
        assert!(pulse.turn(&topic, now).due > now, "it goes with others");
        drop(before);
        assert_eq!(pulse.turn(&topic, now).due, now);
    }

    #[tokio::test(start_paused = true)]
    async fn all_that_come_often_enough_leave_at_the_same_moments() {
        let topics: Vec<_> = (0..100).map(topic).collect();
        for topics in [&topics[..1], &topics] {
            let pulse = Pulse::new(MAX);
            let mut now = Instant::now();
            let due = |i: usize, now| pulse.due(&topics[i % topics.len()], now).0;
            assert_eq!(due(0, now), now, "the first one at once");
            for i in 0..400 {
                now += Duration::from_millis(2);
                let due = due(i, now);
                assert!(due >= now && due <= now + MAX);
            }
            let beats: Vec<Instant> = (0..8).map(|ms| due(ms, now + Duration::from_millis(ms as u64))).collect();
            assert!(beats.iter().any(|beat| *beat > now + Duration::from_millis(8)), "nobody waits: {beats:?}");
            assert!(beats.windows(2).filter(|two| two[0] != two[1]).count() <= 1, "{beats:?}");
            assert_eq!(due(0, now), due(0, now), "a clock that was read earlier changes nothing");
            assert_eq!(due(0, now + Duration::from_secs(5)), now + Duration::from_secs(5), "a pause ends it");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_topic_that_floods_makes_nobody_else_wait() {
        let (pulse, mut now, flood) = (Arc::new(Pulse::new(MAX)), Instant::now(), topic(0));
        let mut under_way = VecDeque::new();
        // A quiet one is always at the broker: nobody is alone there.
        let mut quiet = pulse.turn(&topic(9), now);
        for ms in 0..1_000 {
            now += Duration::from_millis(1);
            under_way.push_back(pulse.turn(&flood, now));
            if under_way.len() > 20 {
                under_way.pop_front();
            }
            // 50 a second, of several topics.
            if ms > 200 && ms % 20 == 0 {
                quiet = pulse.turn(&topic(1 + ms % 3), now);
                assert_eq!(quiet.due, now, "a quiet one waits beside the flood after {ms} ms");
            }
        }
        drop(quiet);
        assert!(under_way.iter().any(|of_flood| of_flood.due > now), "the flood goes in beats");
        drop(under_way);
        assert_eq!(pulse.outstanding.load(Ordering::Relaxed), 0);
        assert_eq!(pulse.outstanding_cool.load(Ordering::Relaxed), 0);
    }

    #[tokio::test(start_paused = true)]
    async fn topics_that_are_gone_are_forgotten() {
        let (pulse, now) = (Pulse::new(MAX), Instant::now());
        for i in 0..1_000 {
            pulse.due(&topic(i), now);
        }
        pulse.due(&topic(0), now + 3 * WINDOW);
        assert_eq!(pulse.counted.lock().unwrap().topics.len(), 1);
    }
}
