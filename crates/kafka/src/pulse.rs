//! Linger that follows the rate: when what was handed over for a broker is sent.
//!
//! Each append wakes the broker's followers, and a follower's fetch looks at every partition it follows there: with
//! hundreds of partitions that costs a broker more than the append (measured: decision 0008). So where much is handed
//! over, it goes in beats, and all producers of a process keep the same beat: a follower's one fetch then brings what
//! all of them have sent. Where little is handed over, nobody waits.

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
    outstanding: AtomicUsize,
}

/// Something that was handed over and is not answered yet; dropped, it is.
#[derive(Debug)]
pub struct Turn {
    pulse: Arc<Pulse>,
    /// When it should be sent.
    pub due: Instant,
}

impl Drop for Turn {
    fn drop(&mut self) {
        self.pulse.outstanding.fetch_sub(1, Ordering::Relaxed);
    }
}

/// Hand-overs of this window, and of the one before.
#[derive(Clone, Copy, Debug, Default)]
struct Counted {
    window: u128,
    now: u32,
    before: u32,
}

impl Pulse {
    /// Nothing was handed over yet; nobody ever waits longer than `linger_max`.
    pub fn new(linger_max: Duration) -> Self {
        Self { linger_max, started: Instant::now(), counted: Mutex::default(), outstanding: AtomicUsize::new(0) }
    }

    /// Something is handed over. Who has nobody beside it at the broker waits for nobody: a client that sends one thing
    /// after the other would wait for itself.
    pub fn turn(self: &Arc<Self>, now: Instant) -> Turn {
        let due = self.due(now);
        let is_alone = self.outstanding.fetch_add(1, Ordering::Relaxed) == 0;
        Turn { pulse: Arc::clone(self), due: if is_alone { now } else { due } }
    }

    fn due(&self, now: Instant) -> Instant {
        let since = now.saturating_duration_since(self.started);
        let window = since.as_nanos() / WINDOW.as_nanos();
        let in_window = {
            let mut counted = self.counted.lock().unwrap_or_else(PoisonError::into_inner);
            *counted = counted.at(window);
            counted.now += 1;
            counted.now.max(counted.before)
        };
        next_beat(since, linger(in_window, self.linger_max)).map_or(now, |beat| self.started + beat)
    }
}

impl Counted {
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

    #[tokio::test(start_paused = true)]
    async fn who_is_alone_waits_for_nobody() {
        let (pulse, mut now) = (Arc::new(Pulse::new(MAX)), Instant::now());
        for _ in 0..400 {
            now += Duration::from_millis(2);
            assert_eq!(pulse.turn(now).due, now, "the one before it was answered");
        }
        let before = pulse.turn(now);
        assert!(pulse.turn(now).due > now, "it goes with others");
        drop(before);
        assert_eq!(pulse.turn(now).due, now);
    }

    #[tokio::test(start_paused = true)]
    async fn all_that_come_often_enough_leave_at_the_same_moments() {
        let pulse = Pulse::new(MAX);
        let mut now = Instant::now();
        assert_eq!(pulse.due(now), now, "the first one at once");
        for _ in 0..400 {
            now += Duration::from_millis(2);
            let due = pulse.due(now);
            assert!(due >= now && due <= now + MAX);
        }
        let beats: Vec<Instant> = (0..8).map(|ms| pulse.due(now + Duration::from_millis(ms))).collect();
        assert!(beats.windows(2).filter(|two| two[0] != two[1]).count() <= 1, "{beats:?}");
        assert_eq!(pulse.due(now), pulse.due(now), "a clock that was read earlier changes nothing");
        assert_eq!(pulse.due(now + Duration::from_secs(5)), now + Duration::from_secs(5), "a pause ends it");
    }
}
