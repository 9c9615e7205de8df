//! Idempotency keys of HTTP requests: a request with a key is one small finished source of its own, so that a retry is
//! the same records again and not new ones.
//!
//! The source is `derive(birth, "key", incarnation, key, body)`; its ordinals are bytes of the decompressed body, or
//! what else the request's protocol counts. Its birth must come out the same for every retry, also after this gateway,
//! which keeps nothing on disk, has started anew:
//!
//! - The birth is the **hour** in which the key was first seen, or the hour of the header `Idempotency-Time: <seconds
//!   since 1970>` (within 24 h of now) if the client says when it made the key.
//! - While the key is remembered (one hour from first sight, less if the stream's share of memory is full), so is its
//!   birth.
//! - So a retry is **new again**, and its records are doubled, only if it has no `Idempotency-Time`, comes in a later
//!   hour than the first try, and the gateway no longer remembers the key. With `Idempotency-Time` it is never new as
//!   long as the legs know the source.
//!
//! What a remembered key can be:
//!
//! ```text
//! unknown ─▶ in flight ─▶ done        the same body: the same answer again, nothing is produced
//!                │  ▲
//!                ▼  │ the same body again
//!              open                   refused, but perhaps stored: another body is refused, the birth stays
//! ```
//!
//! Limits: [`KEY_BYTES_MAX`], bytes per stream, [`WAITERS_MAX`] requests that wait for one key.

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;

use stream::wire::{Refusal, RefusalReason};
use stream::{Incarnation, SourceId};

/// Longest key, in visible ASCII characters.
pub const KEY_BYTES_MAX: usize = 128;
/// Requests that wait for the outcome of one key.
pub const WAITERS_MAX: usize = 64;
/// How far `Idempotency-Time` may be from now, in seconds.
pub const KEY_AGE_SECONDS_MAX: i64 = 24 * 3600;
/// Births are whole hours.
const BUCKET_MINUTES: u32 = 60;
/// What a remembered key costs beside its text: its entry, its place in the order of forgetting.
const ENTRY_BYTES: usize = 256;

/// A checked idempotency key.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Key(Arc<str>);

impl Key {
    /// The key in `text`: 1 to 128 visible ASCII characters.
    pub fn parse(text: &[u8]) -> Result<Self, Refusal> {
        let visible = text.iter().all(|byte| (0x21..=0x7e).contains(byte));
        match std::str::from_utf8(text) {
            Ok(text) if visible && (1..=KEY_BYTES_MAX).contains(&text.len()) => Ok(Self(text.into())),
            _ => {
                let message = format!("Idempotency-Key must be 1 to {KEY_BYTES_MAX} visible ASCII characters");
                Err(Refusal::new(RefusalReason::Malformed, "request", message))
            }
        }
    }

    /// The text.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The source that requests with this key and body are. The body counts, so that the same key with another body,
    /// once the key is no longer remembered, is another source and not a double that would be dropped.
    pub fn source(&self, birth_minutes: u32, incarnation: Incarnation, body_hash: &[u8; 32]) -> SourceId {
        SourceId::derive(birth_minutes, &[b"key", &incarnation.0.to_be_bytes(), self.0.as_bytes(), body_hash])
    }
}

/// The birth of a key that is not remembered: the hour of `made_seconds` if the client states it, else of now.
pub fn birth_minutes(made_seconds: Option<&[u8]>, now_ms: i64) -> Result<u32, Refusal> {
    let now = now_ms / 1000;
    let made = match made_seconds {
        None => now,
        Some(text) => std::str::from_utf8(text)
            .ok()
            .and_then(|text| text.parse::<i64>().ok())
            .filter(|made| now.abs_diff(*made) <= KEY_AGE_SECONDS_MAX as u64)
            .ok_or_else(|| {
                let message = "Idempotency-Time must be seconds since 1970, within 24 hours of now";
                Refusal::new(RefusalReason::Malformed, "request", message)
            })?,
    };
    let minutes = u32::try_from(made / 60).unwrap_or(0);
    Ok(minutes - minutes % BUCKET_MINUTES)
}

/// The keys of one stream; `W` is who waits for an outcome, `O` the outcome that is remembered.
#[derive(Debug)]
pub struct Keys<W, O> {
    window_ms: i64,
    bytes_max: usize,
    bytes: usize,
    entries: HashMap<Key, Entry<W, O>>,
    /// Keys in the order of first sight; one entry each.
    order: VecDeque<(i64, Key)>,
}

#[derive(Debug)]
struct Entry<W, O> {
    birth_minutes: u32,
    body_hash: [u8; 32],
    state: State<W, O>,
}

#[derive(Debug)]
enum State<W, O> {
    InFlight(Vec<W>),
    Open,
    Done(O),
}

/// What to do with a request.
#[derive(Debug, PartialEq, Eq)]
pub enum Look<W, O> {
    /// Produce it, with this birth; its waiter is kept until [`Keys::settle`].
    Produce(u32),
    /// The same is in flight: its waiter is kept and hears of that outcome.
    Joined,
    /// It has been done: tell the waiter.
    Done(W, O),
    /// The key was used with another body.
    OtherBody(W),
    /// Too many wait for this key.
    Crowded(W),
}

impl<W, O: Clone> Keys<W, O> {
    /// No keys yet; each is remembered for `window_ms`, all together within `bytes_max`.
    pub fn new(window_ms: i64, bytes_max: usize) -> Self {
        Self { window_ms, bytes_max, bytes: 0, entries: HashMap::new(), order: VecDeque::new() }
    }

    /// The stream's share of memory has changed.
    pub fn set_bytes_max(&mut self, bytes_max: usize) {
        self.bytes_max = bytes_max;
    }

    /// Decides about a request with `key` and a body of `body_hash`.
    pub fn look(&mut self, key: &Key, body_hash: [u8; 32], birth_minutes: u32, now_ms: i64, waiter: W) -> Look<W, O> {
        self.forget(now_ms);
        let Some(entry) = self.entries.get_mut(key) else {
            let state = State::InFlight(vec![waiter]);
            self.entries.insert(key.clone(), Entry { birth_minutes, body_hash, state });
            self.order.push_back((now_ms, key.clone()));
            self.bytes += bytes_of(key);
            return Look::Produce(birth_minutes);
        };
        if entry.body_hash != body_hash {
            return Look::OtherBody(waiter);
        }
        match &mut entry.state {
            State::Done(outcome) => Look::Done(waiter, outcome.clone()),
            State::InFlight(waiters) if waiters.len() >= WAITERS_MAX => Look::Crowded(waiter),
            State::InFlight(waiters) => {
                waiters.push(waiter);
                Look::Joined
            }
            State::Open => {
                entry.state = State::InFlight(vec![waiter]);
                Look::Produce(entry.birth_minutes)
            }
        }
    }

    /// Notes how the request of `key` ended (`None`: refused) and returns who waits to hear of it.
    pub fn settle(&mut self, key: &Key, outcome: Option<O>) -> Vec<W> {
        let Some(entry) = self.entries.get_mut(key) else { return Vec::new() };
        match std::mem::replace(&mut entry.state, outcome.map_or(State::Open, State::Done)) {
            State::InFlight(waiters) => waiters,
            State::Open | State::Done(_) => Vec::new(),
        }
    }

    /// Forgets keys older than the window, then the oldest until the rest fits. Keys in flight stay: they are young
    /// again, and bounded by the stream's queue.
    fn forget(&mut self, now_ms: i64) {
        let mut looked_at = self.order.len();
        while let Some((seen_ms, key)) = self.order.front() {
            let old = now_ms - seen_ms >= self.window_ms;
            if looked_at == 0 || !(old || self.bytes > self.bytes_max) {
                return;
            }
            looked_at -= 1;
            let key = key.clone();
            self.order.pop_front();
            if matches!(self.entries.get(&key), Some(Entry { state: State::InFlight(_), .. })) {
                self.order.push_back((now_ms, key));
            } else {
                self.remove(&key);
            }
        }
    }

    fn remove(&mut self, key: &Key) {
        if self.entries.remove(key).is_some() {
            self.bytes -= bytes_of(key);
        }
    }
}

fn bytes_of(key: &Key) -> usize {
    key.0.len() + ENTRY_BYTES
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const HOUR_MS: i64 = 3_600_000;

    fn key(text: &str) -> Key {
        Key::parse(text.as_bytes()).unwrap()
    }

    fn keys(bytes_max: usize) -> Keys<u32, u64> {
        Keys::new(HOUR_MS, bytes_max)
    }

    #[test]
    fn malformed_keys_and_times_are_refused() {
        for bad in [&b""[..], b"a b", b"\x7f", "ä".as_bytes(), &[b'x'; 129]] {
            assert_eq!(Key::parse(bad).unwrap_err().reason, RefusalReason::Malformed, "{bad:?}");
        }
        assert!(Key::parse(&[b'~'; 128]).is_ok());
        let now_ms = 1_700_000_000_000;
        for bad in ["", "x", "1.5", "0", "1700086401", "1699913599"] {
            assert!(birth_minutes(Some(bad.as_bytes()), now_ms).is_err(), "{bad:?}");
        }
        let hour = |minutes: u32| minutes / 60 * 60;
        assert_eq!(birth_minutes(None, now_ms), Ok(hour(28_333_333)));
        assert_eq!(birth_minutes(Some(b"1700000000"), now_ms + HOUR_MS), Ok(hour(28_333_333)));
    }

    #[test]
    fn a_key_goes_through_its_states() {
        let (mut keys, k) = (keys(10_000), key("k"));
        assert_eq!(keys.look(&k, [1; 32], 60, 0, 1), Look::Produce(60));
        assert_eq!(keys.look(&k, [1; 32], 60, 0, 2), Look::Joined);
        assert_eq!(keys.look(&k, [2; 32], 60, 0, 3), Look::OtherBody(3));
        assert_eq!(keys.settle(&k, None), [1, 2]);
        assert_eq!(keys.look(&k, [2; 32], 120, 1, 4), Look::OtherBody(4), "the first body may have been stored");
        assert_eq!(keys.look(&k, [1; 32], 120, 1, 5), Look::Produce(60), "the birth stays");
        assert_eq!(keys.settle(&k, Some(7)), [5]);
        assert_eq!(keys.look(&k, [1; 32], 120, HOUR_MS - 1, 6), Look::Done(6, 7));
        assert_eq!(keys.look(&k, [2; 32], 120, HOUR_MS, 8), Look::Produce(120), "an older key is new again");
        assert_eq!((keys.bytes, keys.order.len()), (bytes_of(&k), 1));
    }

    #[test]
    fn waiters_of_one_key_are_bounded() {
        let (mut keys, k) = (keys(10_000), key("k"));
        for waiter in 0..WAITERS_MAX as u32 {
            keys.look(&k, [1; 32], 60, 0, waiter);
        }
        assert_eq!(keys.look(&k, [1; 32], 60, 0, 99), Look::Crowded(99));
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(128))]
        #[test]
        fn memory_is_bounded_by_the_share_and_what_is_in_flight(
            steps in proptest::collection::vec((0..40_u32, 0..4_u8, 0..HOUR_MS), 1..200),
        ) {
            let bytes_max = 5 * (ENTRY_BYTES + 2);
            let mut keys = keys(bytes_max);
            let mut in_flight = std::collections::HashSet::new();
            let mut now_ms = 0;
            for (name, step, ms) in steps {
                let k = key(&format!("{name:02}"));
                now_ms += ms / 20;
                match step {
                    0 => { keys.settle(&k, Some(1)); in_flight.remove(&k); }
                    1 => { keys.settle(&k, None); in_flight.remove(&k); }
                    _ => {
                        if let Look::Produce(_) = keys.look(&k, [0; 32], 60, now_ms, 0) {
                            prop_assert!(in_flight.insert(k), "a key in flight was produced again");
                        }
                        prop_assert!(keys.entries.len() <= 6 + in_flight.len(), "{} keys", keys.entries.len());
                    }
                }
                prop_assert_eq!(keys.order.len(), keys.entries.len());
            }
        }
    }
}
