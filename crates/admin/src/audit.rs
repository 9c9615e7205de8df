//! Makes ledgers. The order of its reads is what makes "missing" a proof (see `ledger`): facts, then ends, then legs.
//! The marks that legs have passed are kept in memory; after a start they are made anew within seconds.
//!
//! Besides answering who asks, it audits by itself: once a second every stream whose facts or reports have changed, so
//! that status and metrics name what is in flight and missing. A stream that could not be audited, because the journal
//! did not answer, stays due. So does one whose audit is long, because it has very many sources: it rests long enough for
//! its audits to take no more than a twentieth of a core.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use stream::Incarnation;
use stream::config::{SinkSpec, StreamConfig};
use tokio::time::{MissedTickBehavior, interval};
use tracing::warn;

use crate::api::Shared;
use crate::ledger::{self, Accounts, Ledger, LegBalance, Mark};
use crate::live::Standing;
use crate::metrics;
use crate::status::Role;

/// How often changed streams are audited.
const EVERY: Duration = Duration::from_secs(1);
/// After how many quiet rounds the journal is asked all the same, to know that it is there.
const QUIET_ROUNDS_MAX: u32 = 5;
/// Streams whose facts are held, and whose ends are asked for, at a time.
const STREAMS_AT_ONCE_MAX: usize = 256;
/// An audit is followed by so many times its length without one of the same stream.
const REST_TIMES: u32 = 19;

/// Until when streams rest.
#[derive(Debug, Default)]
struct Rests(HashMap<Incarnation, Instant>);

impl Rests {
    /// An audit of this stream ended at `now`.
    fn note(&mut self, stream: Incarnation, took: Duration, now: Instant) {
        self.0.retain(|_, until| *until > now);
        // A shorter rest is over when the next round comes.
        if took * REST_TIMES > EVERY / 2 {
            self.0.insert(stream, now + took * REST_TIMES);
        }
    }

    fn rests(&self, stream: Incarnation, now: Instant) -> bool {
        self.0.get(&stream).is_some_and(|until| *until > now)
    }
}

/// The ledger of one stream.
pub async fn ledger(shared: &Shared, config: &StreamConfig) -> Ledger {
    let accounts = Arc::new(ledger::accounts(&shared.store.book().entry(config.incarnation).facts));
    let (now, ends_unknown) = match shared.ends.ends(vec![config.topic_key()]).await {
        Ok(mut ends) => {
            let ends = ends.remove(&config.topic_key()).unwrap_or_default();
            (Some(Mark { accounts: accounts.clone(), ends }), None)
        }
        Err(cause) => (None, Some(cause)),
    };
    Ledger {
        stream: config.spec.id.clone(),
        incarnation: config.incarnation,
        version: config.version,
        collected: ledger::collected(&accounts),
        legs: balances(shared, config, &accounts, now.as_ref()),
        ends_unknown,
    }
}

/// Reads the legs, last, and goes on to the mark just made.
fn balances(shared: &Shared, config: &StreamConfig, accounts: &Accounts, now: Option<&Mark>) -> Vec<LegBalance> {
    let legs = shared.store.book().entry(config.incarnation).legs;
    let ends = now.map_or(&[][..], |mark| &mark.ends);
    let one = |sink: &SinkSpec| {
        let report = legs.get(&sink.name).map(|leg| &leg.report);
        let mut live = shared.live();
        let passed = live.marks(config.incarnation, &sink.name).advance(now, report).cloned();
        drop(live);
        ledger::balance(accounts, &sink.name, report, passed.as_ref(), ends)
    };
    config.spec.sinks.iter().map(one).collect()
}

/// Audits what has changed, once a second, until the task is dropped.
pub async fn run(shared: Arc<Shared>) {
    let mut ticks = interval(EVERY);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let (mut quiet_rounds, mut answers, mut rests) = (0, true, Rests::default());
    loop {
        ticks.tick().await;
        let due = due(&shared, &rests, quiet_rounds >= QUIET_ROUNDS_MAX);
        quiet_rounds = if due.is_empty() { quiet_rounds + 1 } else { 0 };
        for streams in due.chunks(STREAMS_AT_ONCE_MAX) {
            let outcome = round(&shared, streams, &mut rests).await;
            match &outcome {
                Err(cause) if answers => {
                    warn!(%cause, "the journal's ends are unknown; nothing is called missing until it answers");
                }
                _ => (),
            }
            answers = outcome.is_ok();
        }
    }
}

/// The living streams that have changed and do not rest; one of them all if `at_least_one` is wanted.
fn due(shared: &Shared, rests: &Rests, at_least_one: bool) -> Vec<StreamConfig> {
    let published = shared.published.borrow().clone();
    let streams = &published.snapshot.streams;
    let (mut book, now) = (shared.store.book(), Instant::now());
    let changed = book.take_changed();
    let living = changed.iter().filter_map(|id| streams.get(id)).cloned();
    let (resting, mut due): (Vec<_>, Vec<_>) = living.partition(|config| rests.rests(config.incarnation, now));
    resting.into_iter().for_each(|config| book.still_changed(config.spec.id));
    drop(book);
    if due.is_empty() && at_least_one {
        due.extend(streams.values().min_by_key(|config| rests.rests(config.incarnation, now)).cloned());
    }
    due
}

/// Audits some streams. The error is why the ends are unknown.
async fn round(shared: &Shared, streams: &[StreamConfig], rests: &mut Rests) -> Result<(), String> {
    let facts: Vec<_> = {
        let book = shared.store.book();
        streams.iter().map(|config| book.entry(config.incarnation).facts).collect()
    };
    let topics = streams.iter().map(StreamConfig::topic_key).collect();
    let ends = shared.ends.ends(topics).await;
    match &ends {
        Ok(_) => shared.live().heard(Role::Journal, "", shared.clock.now_ms()),
        Err(_) => metrics::ends_unknown(),
    }
    for (config, facts) in streams.iter().zip(facts) {
        let began = Instant::now();
        let accounts = Arc::new(ledger::accounts(&facts));
        let now = ends.as_ref().ok().map(|ends| Mark {
            accounts: accounts.clone(),
            ends: ends.get(&config.topic_key()).cloned().unwrap_or_default(),
        });
        let standing = standing(&accounts, &balances(shared, config, &accounts, now.as_ref()));
        metrics::audited(&config.spec.id, standing.in_flight, standing.missing);
        shared.live().audited(config.incarnation, standing);
        rests.note(config.incarnation, began.elapsed(), Instant::now());
        if ends.is_err() {
            shared.store.book().still_changed(config.spec.id.clone());
        }
    }
    ends.map(drop)
}

/// The leg that is furthest behind stands for the stream.
fn standing(accounts: &Accounts, legs: &[LegBalance]) -> Standing {
    Standing {
        in_flight: legs.iter().map(|leg| leg.in_flight).max().unwrap_or(0),
        missing: legs.iter().map(|leg| leg.missing).max().unwrap_or(0),
        set_apart: accounts.values().map(|account| account.apart().total()).sum(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_long_audit_is_a_twentieth_of_the_time_and_others_do_not_rest() {
        let (mut rests, now) = (Rests::default(), Instant::now());
        rests.note(Incarnation(1), Duration::from_millis(100), now);
        rests.note(Incarnation(2), Duration::from_millis(1), now);
        assert!(rests.rests(Incarnation(1), now + Duration::from_millis(1_899)));
        assert!(!rests.rests(Incarnation(1), now + Duration::from_millis(1_900)));
        assert!(!rests.rests(Incarnation(2), now));
        rests.note(Incarnation(3), Duration::ZERO, now + Duration::from_secs(2));
        assert!(rests.0.is_empty(), "what is over is forgotten");
    }
}
