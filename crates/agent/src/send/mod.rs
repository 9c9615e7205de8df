//! Sends batches to the gateway and waits for their answers: the one connection of a worker.
//!
//! The task owns the [`flight`]; the connection comes and goes. Whatever was not answered when it went is sent again,
//! record boundaries unchanged, over the next one. How it connects and what it rolls its waits with are passed in, and
//! its time is the runtime's: the simulation drives this very code.

pub mod connect;
pub mod flight;

use std::time::{Duration, Instant};

use rand::rngs::ChaCha8Rng;
use stream::config::StreamConfig;
use stream::retry::Backoff;
use stream::wire::v1::send_reply::Outcome;
use stream::wire::v1::{SendReply, SendRequest};
use stream::wire::{Refusal, RefusalReason};
use stream::{Batch, StreamId, crash, limits};
use tokio::sync::mpsc;
use tokio::time::sleep_until;
use tokio_stream::StreamExt;
use tracing::{debug, info, warn};

use connect::Connect;
use flight::{Flight, Verdict};

/// How long a batch may lie on the wire without an answer before the connection is given up: a gateway answers within
/// its batch deadline, and a second one for the way.
const ANSWER: Duration = Duration::from_secs(2 * limits::BATCH_DEADLINE.as_secs());

/// The sender of one stream's batches.
pub struct Sender<F, C> {
    stream: StreamId,
    gateway: C,
    batches: mpsc::Receiver<(u64, Batch)>,
    verdict: F,
    flight: Flight,
    known: Box<dyn Fn() -> Known + Send>,
    dice: ChaCha8Rng,
}

/// What is known of the stream's configuration now.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Known {
    /// Its version: a gateway that knows an older one must not refuse for good what this one allows.
    pub version: u64,
    /// Whether the stream's records must stay in order.
    pub is_ordered: bool,
}

impl Known {
    /// Of `config`; of a stream that is not in the configuration, nothing.
    pub fn of(config: Option<&StreamConfig>) -> Self {
        let known =
            |config: &StreamConfig| Self { version: config.version, is_ordered: config.spec.order.is_one_at_a_time() };
        config.map(known).unwrap_or_default()
    }
}

/// Why the exchange over one connection ended.
enum Ended {
    /// Nobody hands in batches any more.
    Closed,
    /// The gateway has answered and then ended the call, as it does with every old one: there will be another one.
    Asked,
    /// The connection is gone.
    Lost(String),
}

impl<F: Fn(Verdict) + Send, C: Connect> Sender<F, C> {
    /// A sender that takes batches with their entries' numbers and hands out verdicts.
    pub fn new(
        stream: StreamId,
        gateway: C,
        batches: mpsc::Receiver<(u64, Batch)>,
        unknown_for_max: Duration,
        known: Box<dyn Fn() -> Known + Send>,
        dice: ChaCha8Rng,
        verdict: F,
    ) -> Self {
        Self { stream, gateway, batches, verdict, flight: Flight::new(unknown_for_max), known, dice }
    }

    /// Runs until nobody hands in batches any more.
    pub async fn run(mut self) {
        let mut backoff = Backoff::default();
        loop {
            // Without anything to send there is no connection: an idle stream costs the gateway nothing.
            if self.flight.is_empty() {
                match self.batches.recv().await {
                    Some((entry, batch)) => self.flight.push(entry, batch),
                    None => return,
                }
            }
            let cause = match self.gateway.connect().await {
                Ok((requests, replies)) => match self.exchange(&requests, replies, &mut backoff).await {
                    Ended::Closed => return,
                    Ended::Asked => {
                        debug!(stream = %self.stream, "the gateway ends an old connection; opening another one");
                        self.flight.disconnected();
                        continue;
                    }
                    Ended::Lost(cause) => cause,
                },
                Err(error) => error.to_string(),
            };
            self.flight.disconnected();
            crate::metrics::disconnected(&self.stream);
            let wait = backoff.next_wait(Duration::ZERO, &mut self.dice);
            warn!(stream = %self.stream, cause, ?wait, "no connection to the gateway; trying again");
            if self.batches.is_closed() {
                return;
            }
            tokio::time::sleep(wait).await;
        }
    }

    /// Sends and takes answers over one connection.
    async fn exchange(
        &mut self,
        requests: &mpsc::Sender<SendRequest>,
        mut replies: C::Replies,
        backoff: &mut Backoff,
    ) -> Ended {
        let mut answers = 0_u64;
        loop {
            let now = now();
            let known = (self.known)();
            self.flight.set_ordered(known.is_ordered);
            self.send_waiting(requests, known.version, now);
            let may_send = self.flight.may_send(now);
            let pause = self.flight.paused_until().filter(|until| *until > now);
            let deadline = self.flight.waits_since().map(|since| since + ANSWER);
            tokio::select! {
                // A fixed order, so that a seed repeats: answers and batches are few, whatever is behind gets its turn.
                biased;
                reply = replies.next() => match reply {
                    Some(Ok(reply)) => {
                        backoff.reset();
                        answers += 1;
                        self.take(reply);
                    }
                    None if answers > 0 => return Ended::Asked,
                    None => return Ended::Lost("the gateway ended the call".into()),
                    Some(Err(status)) => return Ended::Lost(status.to_string()),
                },
                batch = self.batches.recv() => match batch {
                    Some((entry, batch)) => self.flight.push(entry, batch),
                    None => return Ended::Closed,
                },
                room = requests.reserve(), if may_send => match room {
                    Ok(room) => drop(room),
                    Err(_) => return Ended::Lost("the call has ended".into()),
                },
                () = sleep_until(pause.unwrap_or(now).into()), if pause.is_some() => {}
                () = sleep_until(deadline.unwrap_or(now).into()), if deadline.is_some() => {
                    return Ended::Lost(format!("no answer within {} s", ANSWER.as_secs()));
                }
            }
        }
    }

    fn send_waiting(&mut self, requests: &mpsc::Sender<SendRequest>, config_version: u64, now: Instant) {
        while let Ok(room) = requests.try_reserve() {
            let Some((id, batch)) = self.flight.send(now) else { return };
            room.send(SendRequest { id, batch: Some(batch.to_wire()), config_version });
            crash::point("agent.batch.sent");
        }
    }

    fn take(&mut self, reply: SendReply) {
        match reply.outcome {
            Some(Outcome::Ack(_)) => {
                debug!(stream = %self.stream, part = reply.id, "acknowledged");
                crash::point("agent.batch.acknowledged");
                self.flight.acknowledged(reply.id, reply.credit_bytes).into_iter().for_each(&self.verdict);
            }
            outcome => {
                let unclear = || Refusal::new(RefusalReason::Unavailable, "gateway", "it answered without an outcome");
                let refusal = match outcome {
                    Some(Outcome::Refusal(refusal)) => Refusal::from(refusal),
                    _ => unclear(),
                };
                info!(stream = %self.stream, part = reply.id, reason = refusal.reason.name(), %refusal, "refused");
                crate::metrics::refused(&self.stream, refusal.reason.name());
                let verdicts = self.flight.refused(reply.id, &refusal, now(), &mut self.dice);
                verdicts.into_iter().for_each(&self.verdict);
            }
        }
    }
}

/// The runtime's time, which a simulation holds.
fn now() -> Instant {
    tokio::time::Instant::now().into_std()
}
