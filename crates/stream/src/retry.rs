//! Back-off with full jitter: the one way in which anything here is tried again.

use std::time::Duration;

use rand::{Rng, RngExt};

use crate::limits;

/// Waits of a growing bound, each drawn between zero and that bound ("full jitter": the senders of one outage do not
/// come back in step).
#[derive(Clone, Copy, Debug)]
pub struct Backoff {
    attempt: u32,
    base: Duration,
    cap: Duration,
}

impl Default for Backoff {
    fn default() -> Self {
        Self { attempt: 0, base: limits::RETRY_BASE, cap: limits::RETRY_CAP }
    }
}

impl Backoff {
    /// Starts over, after a success.
    pub fn reset(&mut self) {
        self.attempt = 0;
    }

    /// The next wait, at least `floor` (what the refusing side asked for).
    pub fn next_wait(&mut self, floor: Duration, dice: &mut impl Rng) -> Duration {
        let bound = self.base.saturating_mul(1 << self.attempt.min(16)).min(self.cap);
        self.attempt = self.attempt.saturating_add(1);
        floor + bound.mul_f64(dice.random::<f64>())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rand::SeedableRng;

    #[test]
    fn waits_grow_to_the_cap_and_respect_the_floor() {
        let mut dice = rand::rngs::ChaCha8Rng::seed_from_u64(1);
        let mut backoff = Backoff::default();
        let floor = Duration::from_millis(7);
        let longest = (0..200).map(|_| backoff.next_wait(floor, &mut dice)).max().unwrap_or_default();
        assert!(longest > limits::RETRY_CAP / 2 && longest <= limits::RETRY_CAP + floor, "{longest:?}");
        backoff.reset();
        assert!(backoff.next_wait(floor, &mut dice) <= limits::RETRY_BASE + floor);
    }
}
