//! How fast a stream, a token or a connection may bring: what it brings is a debt, which time pays. Pure but for a lock.
//!
//! The generic cell rate algorithm (ITU-T I.371): what is taken moves the moment at which all is paid on by its size over
//! the rate; while that moment lies more than [`BURST`] ahead, nothing more is taken. So a second's worth may come at
//! once, a single batch larger than that is taken too and paid for afterwards, and in any time `t` at most
//! `rate * (t + BURST)` and one batch pass.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use stream::token::Rate;
use stream::wire::{Refusal, RefusalReason};
use tokio::time::Instant;

/// How much may come at once, as time at the rate.
const BURST: Duration = Duration::from_secs(1);
/// The same of what is refused.
const REFUSED_BURST: Duration = Duration::from_millis(200);

/// The rates of one payer.
#[derive(Debug)]
pub struct Rates {
    scope: String,
    limit: Rate,
    debts: Mutex<Debts>,
}

#[derive(Clone, Copy, Debug, Default)]
struct Debts {
    bytes: Debt,
    requests: Debt,
}

/// When all that was taken is paid.
#[derive(Clone, Copy, Debug, Default)]
struct Debt(Option<Instant>);

impl Debt {
    fn wait(self, now: Instant, burst: Duration) -> Duration {
        self.0.map_or(Duration::ZERO, |paid| paid.saturating_duration_since(now + burst))
    }

    fn charge(&mut self, now: Instant, amount: u64, per_second: u64) {
        if per_second > 0 {
            let from = self.0.map_or(now, |paid| paid.max(now));
            self.0 = Some(from + Duration::from_secs_f64(amount as f64 / per_second as f64));
        }
    }
}

impl Rates {
    /// The rates of whom refusals call `scope`.
    pub fn new(scope: impl Into<String>, limit: Rate) -> Self {
        Self { scope: scope.into(), limit, debts: Mutex::default() }
    }

    /// What they are.
    pub fn limit(&self) -> Rate {
        self.limit
    }

    /// Whether a request may come now.
    fn check(&self, now: Instant) -> Result<(), Refusal> {
        if !self.limit.is_limited() {
            return Ok(());
        }
        let Debts { bytes, requests } = *self.lock();
        let (debt, max, what) = match bytes.wait(now, BURST) >= requests.wait(now, BURST) {
            true => (bytes, self.limit.bytes_per_second_max, "bytes"),
            false => (requests, self.limit.requests_per_second_max, "requests"),
        };
        let wait = debt.wait(now, BURST);
        if wait.is_zero() {
            return Ok(());
        }
        let message = format!("more than {max} {what} a second; send again later, or ask for a higher rate");
        let mut refusal = Refusal::new(RefusalReason::RateLimited, self.scope.clone(), message);
        refusal.retry_after = wait;
        Err(refusal)
    }

    fn charge(&self, now: Instant, requests: u64, bytes: u64) {
        if self.limit.is_limited() {
            let mut debts = self.lock();
            debts.requests.charge(now, requests, self.limit.requests_per_second_max);
            debts.bytes.charge(now, bytes, self.limit.bytes_per_second_max);
        }
    }

    fn lock(&self) -> MutexGuard<'_, Debts> {
        self.debts.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Lets a request of about `bytes` in, charged to all `payers`, or to none of them.
pub fn enter(payers: &[&Rates], now: Instant, bytes: usize) -> Result<(), Refusal> {
    payers.iter().try_for_each(|payer| payer.check(now))?;
    payers.iter().for_each(|payer| payer.charge(now, 1, bytes as u64));
    Ok(())
}

/// Charges what a request had beyond what was known of it.
pub fn charge(payers: &[&Rates], now: Instant, bytes: usize) {
    payers.iter().for_each(|payer| payer.charge(now, 0, bytes as u64));
}

/// What is spent on refusing one stream's requests, as bytes a second: about a tenth of a core.
const REFUSED_BYTES_PER_SECOND: u64 = 10 << 20;
/// How long an answer is held back at most, and how many of one stream at a time.
const HELD_MAX: Duration = Duration::from_secs(2);
const HELD_ANSWERS_MAX: usize = 256;

/// Holds back the answers to who is refused more than so much: to refuse a request takes reading it, and a client that
/// sends nothing else, as fast as it hears of it, would have all that is there for the others.
#[derive(Debug, Default)]
pub struct Tarpit {
    debt: Mutex<Debt>,
    held: AtomicUsize,
}

/// An answer that is held back.
#[derive(Debug)]
pub struct Held<'a> {
    tarpit: &'a Tarpit,
    /// For how long.
    pub wait: Duration,
}

impl Tarpit {
    /// Whether answers are held back now.
    pub fn is_in_debt(&self, now: Instant) -> bool {
        !self.lock().wait(now, REFUSED_BURST).is_zero()
    }

    /// Charges a refused request; says for how long its answer is held.
    pub fn hold(&self, now: Instant, bytes: usize) -> Option<Held<'_>> {
        let wait = {
            let mut debt = self.lock();
            debt.charge(now, bytes as u64, REFUSED_BYTES_PER_SECOND);
            // What nobody waits for is not owed.
            debt.0 = debt.0.map(|paid| paid.min(now + REFUSED_BURST + HELD_MAX));
            debt.wait(now, REFUSED_BURST)
        };
        if wait.is_zero() {
            return None;
        }
        self.held.fetch_add(1, Ordering::Relaxed);
        let held = Held { tarpit: self, wait };
        (self.held.load(Ordering::Relaxed) <= HELD_ANSWERS_MAX).then_some(held)
    }

    fn lock(&self) -> MutexGuard<'_, Debt> {
        self.debt.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Held<'_> {
    fn drop(&mut self) {
        self.tarpit.held.fetch_sub(1, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn rates(bytes_per_second_max: u64, requests_per_second_max: u64) -> Rates {
        Rates::new("stream a", Rate { bytes_per_second_max, requests_per_second_max })
    }

    #[test]
    fn a_debt_is_paid_by_time_and_a_refused_request_is_charged_to_nobody() {
        let (rich, poor, now) = (rates(0, 1_000), rates(100, 0), Instant::now());
        let payers = [&rich, &poor];
        // Larger than a second's worth, and taken: at 100 bytes a second it is paid after 5 s, 1 s of them is free.
        assert_eq!(enter(&payers, now, 500), Ok(()));
        let refusal = enter(&payers, now, 1).unwrap_err();
        assert_eq!((refusal.reason, refusal.retry_after), (RefusalReason::RateLimited, Duration::from_secs(4)));
        assert_eq!(rich.lock().requests.0, Some(now + Duration::from_millis(1)));
        assert!(enter(&payers, now + Duration::from_millis(3_999), 1).is_err());
        assert_eq!(enter(&payers, now + Duration::from_secs(4), 1), Ok(()));
    }

    #[test]
    fn without_a_rate_all_may_come() {
        let (free, now) = (rates(0, 0), Instant::now());
        (0..1_000).for_each(|_| assert_eq!(enter(&[&free], now, 1 << 20), Ok(())));
    }

    proptest! {
        #[test]
        fn no_more_than_the_rate_and_a_burst_passes(
            steps in proptest::collection::vec((0..400_u64, 1..2_000_usize), 1..200),
            bytes_max in 500..5_000_u64, requests_max in 1..20_u64,
        ) {
            let (rates, began) = (rates(bytes_max, requests_max), Instant::now());
            let (mut now, mut bytes, mut requests) = (began, 0, 0);
            for (pause_ms, size) in steps {
                now += Duration::from_millis(pause_ms);
                if enter(&[&rates], now, size).is_ok() {
                    (bytes, requests) = (bytes + size, requests + 1);
                }
                let seconds = (now - began + BURST).as_secs_f64();
                prop_assert!(bytes as f64 <= seconds * bytes_max as f64 + 2_000.0 + 1.0);
                prop_assert!(f64::from(requests) <= seconds * requests_max as f64 + 1.0 + 1e-6);
            }
        }
    }

    #[tokio::test(start_paused = true)]
    async fn who_is_refused_much_waits_for_it_and_not_for_ever() {
        let (tarpit, now) = (Tarpit::default(), Instant::now());
        let at_once = (0..1_000).take_while(|_| tarpit.hold(now, 100 << 10).is_none()).count();
        assert_eq!(at_once, 20, "a fifth of a second's worth");
        let mut held: Vec<Held<'_>> = (0..1_000).filter_map(|_| tarpit.hold(now, 1 << 20)).collect();
        assert_eq!(held.len(), HELD_ANSWERS_MAX);
        assert!(held.is_sorted_by_key(|held| held.wait) && held.iter().all(|held| held.wait <= HELD_MAX));
        held.clear();
        let later = now + HELD_MAX + BURST;
        assert!(tarpit.is_in_debt(now) && !tarpit.is_in_debt(later));
        assert!(tarpit.hold(later, 0).is_none(), "all is paid");
        assert_eq!(tarpit.held.load(Ordering::Relaxed), 0);
    }
}
