//! What everybody in a simulation shares: the dice, the time, the trace of what happened, and what was found.

use std::collections::hash_map::DefaultHasher;
use std::fmt::Display;
use std::hash::{Hash, Hasher};
use std::ops::Range;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use rand::rngs::ChaCha8Rng;
use rand::{RngExt, SeedableRng};
use stream::clock::Clock;
use tokio::time::{Instant, sleep};

/// When a simulation begins, in ms since 1970.
const EPOCH_MS: i64 = 1_800_000_000_000;

/// See the module. Clones share it.
#[derive(Clone)]
pub struct World(Arc<Inner>);

struct Inner {
    dice: Mutex<ChaCha8Rng>,
    began: Instant,
    is_calm: AtomicBool,
    tells: bool,
    trace: Mutex<Trace>,
    findings: Mutex<Vec<String>>,
}

#[derive(Default)]
struct Trace {
    hasher: DefaultHasher,
    events: u64,
}

impl World {
    /// The world of a seed, from now on.
    pub fn new(seed: u64) -> Self {
        Self(Arc::new(Inner {
            dice: Mutex::new(ChaCha8Rng::seed_from_u64(seed)),
            began: Instant::now(),
            is_calm: AtomicBool::new(false),
            tells: std::env::var_os("ISOLANE_SIM_TRACE").is_some(),
            trace: Mutex::default(),
            findings: Mutex::default(),
        }))
    }

    /// Rolls.
    pub fn roll<T>(&self, roll: impl FnOnce(&mut ChaCha8Rng) -> T) -> T {
        roll(&mut self.0.dice.lock().unwrap())
    }

    /// One of these numbers.
    pub fn pick(&self, of: Range<u64>) -> u64 {
        self.roll(|dice| dice.random_range(of))
    }

    /// One of these things.
    pub fn one_of<'a, T>(&self, of: &'a [T]) -> Option<&'a T> {
        if of.is_empty() { None } else { of.get(self.pick(0..of.len() as u64) as usize) }
    }

    /// True with this probability.
    pub fn chance(&self, p: f64) -> bool {
        self.roll(|dice| dice.random_bool(p))
    }

    /// A time of so many ms.
    pub fn ms(&self, of: Range<u64>) -> Duration {
        Duration::from_millis(self.pick(of))
    }

    /// Waits so many ms.
    pub async fn pause(&self, ms: Range<u64>) {
        sleep(self.ms(ms)).await;
    }

    /// Dice of one's own.
    pub fn fork(&self) -> ChaCha8Rng {
        self.roll(|dice| ChaCha8Rng::seed_from_u64(dice.random()))
    }

    /// From now on nothing breaks.
    pub fn calm_down(&self) {
        self.0.is_calm.store(true, Ordering::Relaxed);
    }

    /// Whether nothing breaks any more.
    pub fn is_calm(&self) -> bool {
        self.0.is_calm.load(Ordering::Relaxed)
    }

    /// Notes what happened.
    pub fn note(&self, what: impl Display) {
        let (at, what) = (self.elapsed_ms(), what.to_string());
        if self.0.tells {
            println!("{at:>7} {what}");
        }
        let mut trace = self.0.trace.lock().unwrap();
        (at, what).hash(&mut trace.hasher);
        trace.events += 1;
    }

    /// Something is wrong.
    pub fn found(&self, what: impl Display) {
        self.note(format!("FOUND {what}"));
        self.0.findings.lock().unwrap().push(what.to_string());
    }

    /// What was found.
    pub fn findings(&self) -> Vec<String> {
        self.0.findings.lock().unwrap().clone()
    }

    /// A hash of all that happened, and of how much that was.
    pub fn trace(&self) -> (u64, u64) {
        let trace = self.0.trace.lock().unwrap();
        (trace.hasher.finish(), trace.events)
    }

    /// Time since the beginning.
    pub fn elapsed_ms(&self) -> u64 {
        self.0.began.elapsed().as_millis() as u64
    }
}

impl Clock for World {
    fn now_ms(&self) -> i64 {
        EPOCH_MS + self.elapsed_ms() as i64
    }
}
