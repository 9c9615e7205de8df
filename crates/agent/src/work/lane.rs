//! The loop of one worker: read, hand to `send`, take its verdicts, remember, state facts. It owns all of the worker's
//! state, and everything reaches it as an [`Event`].
//!
//! A [`Lane`] is driven from outside: turn, wait as long as it says, hand it what came meanwhile. [`drive`] does so on a
//! thread of its own, because reading files blocks; the simulation does it in its own time.

use std::cell::Cell;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, RecvTimeoutError};
use std::time::{Duration, Instant};

use stream::config::StreamConfig;
use stream::disk::SharedDisk;
use stream::facts::SetApart;
use stream::{Batch, Record, SourceId, memory};
use tokio::sync::mpsc;
use tracing::{error, info};

use super::WorkError;
use crate::collect::{Collected, Collector};
use crate::facts::{self, Outbox};
use crate::position::Positions;
use crate::send::flight::Verdict;
use crate::settings::Pace;
use crate::{metrics, quarantine};

/// How long an orderly stop waits for answers still to come; what is missing then is sent again at the next start.
pub const SETTLE: Duration = Duration::from_secs(1);

/// All that happens to a worker.
pub enum Event {
    /// An answer of the gateway.
    Verdict(Verdict),
    /// A new configuration of the same life of the stream.
    Config(Arc<StreamConfig>),
    /// Stop in an orderly way.
    Stop,
}

/// Whether to go on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Next {
    /// With the next turn.
    Continue,
    /// No: settle, then remember.
    Stop,
}

/// What a lane is made of.
pub struct Parts {
    /// What files give.
    pub collector: Collector,
    /// What is remembered.
    pub positions: Positions,
    /// The configuration at the start.
    pub config: Arc<StreamConfig>,
    /// What is stated to admin.
    pub outbox: Outbox,
    /// Who states it.
    pub facts: facts::Collector,
    /// Where the quarantine lies.
    pub disk: SharedDisk,
    /// The quarantine file.
    pub quarantine: PathBuf,
    /// How often what is done.
    pub pace: Pace,
}

/// See the module.
pub struct Lane {
    parts: Parts,
    due: Timetable,
    /// How long to wait when there is nothing to read: longer each time.
    idle: Duration,
    /// Whether the last turn found anything.
    found: bool,
}

/// When what is done next.
struct Timetable {
    discover: Instant,
    positions: Instant,
    facts: Instant,
}

/// Drives a lane on this thread until it is told to stop, cannot go on, or everybody else is gone, as in a crash.
/// `batches` is never full for long: `position` lets fewer be outstanding.
pub fn drive(parts: Parts, batches: &mpsc::Sender<(u64, Batch)>, events: &Receiver<Event>) -> Result<(), WorkError> {
    let sent_bytes = Cell::new(0_usize);
    let mut out = |(entry, batch): Collected| {
        sent_bytes.set(sent_bytes.get().saturating_add(batch.body_bytes()));
        // Fails only when the sender is gone, and then nothing is remembered as sent.
        drop(batches.blocking_send((entry, batch)));
    };
    let mut lane = Lane::begin(parts, Instant::now(), &mut out)?;
    loop {
        let wait = lane.turn(Instant::now(), &mut out)?;
        let mut event = match events.recv_timeout(wait) {
            Ok(event) => Some(event),
            Err(RecvTimeoutError::Timeout) => {
                if lane.rested() && lane.is_settled() && sent_bytes.get() >= memory::LARGE_BYTES {
                    sent_bytes.set(0);
                    memory::give_back();
                }
                None
            }
            Err(RecvTimeoutError::Disconnected) => return Ok(()),
        };
        while let Some(happened) = event {
            if lane.take(happened)? == Next::Stop {
                return settle(lane, events);
            }
            event = events.try_recv().ok();
        }
    }
}

/// Waits a little for answers to come, so that the next start sends little again; then remembers.
fn settle(mut lane: Lane, events: &Receiver<Event>) -> Result<(), WorkError> {
    let until = Instant::now() + SETTLE;
    while !lane.is_settled() && Instant::now() < until {
        match events.recv_timeout(lane.parts.pace.poll_min) {
            Ok(event) => drop(lane.take(event)?),
            Err(RecvTimeoutError::Timeout) => {}
            Err(RecvTimeoutError::Disconnected) => break,
        }
    }
    lane.remember();
    Ok(())
}

impl Lane {
    /// Finds the files and sends the ends of sources that need nothing else.
    pub fn begin(mut parts: Parts, now: Instant, out: &mut dyn FnMut(Collected)) -> Result<Self, WorkError> {
        if !parts.positions.state().record_bytes_max.contains_key(&parts.config.version) {
            let record_bytes_max = parts.config.spec.limits.record_bytes_max;
            parts.positions.configure(parts.config.version, record_bytes_max, &[])?;
        }
        parts.collector.discover(now);
        parts.collector.find_moved(&parts.positions, now);
        parts.collector.send_ends(&mut parts.positions, out);
        let due = Timetable { discover: now, positions: now, facts: now };
        Ok(Self { idle: parts.pace.poll_min, found: false, parts, due })
    }

    /// Does what is due, hands out what files have, and says how long to wait for events before the next turn.
    pub fn turn(&mut self, now: Instant, out: &mut dyn FnMut(Collected)) -> Result<Duration, WorkError> {
        self.keep_timetable(now);
        let Parts { collector, positions, facts, pace, .. } = &mut self.parts;
        self.found = collector.turn(positions, now, out)?;
        metrics::outstanding(&facts.stream, positions.outstanding_bytes());
        if self.found {
            self.idle = pace.poll_min;
        }
        Ok(match (self.found, positions.has_room()) {
            (true, true) => Duration::ZERO,
            (_, false) => pace.poll_max,
            (false, true) => self.idle,
        })
    }

    /// Nothing came as long as the last turn said. Answers whether that is as long as it ever waits: all is quiet.
    pub fn rested(&mut self) -> bool {
        let is_quiet = !self.found && self.idle == self.parts.pace.poll_max;
        if !self.found {
            self.idle = (self.idle * 2).min(self.parts.pace.poll_max);
        }
        is_quiet
    }

    /// Takes an event.
    pub fn take(&mut self, event: Event) -> Result<Next, WorkError> {
        match event {
            Event::Stop => return Ok(Next::Stop),
            Event::Config(config) => self.parts.collector.configure(config, &mut self.parts.positions)?,
            Event::Verdict(verdict) => self.judge(verdict)?,
        }
        Ok(Next::Continue)
    }

    /// Whether everything sent is answered.
    pub fn is_settled(&self) -> bool {
        self.parts.positions.is_settled()
    }

    /// Remembers and states how far everything has come: at the end.
    pub fn remember(&mut self) {
        self.write_positions();
        self.state_facts();
    }

    fn keep_timetable(&mut self, now: Instant) {
        if now >= self.due.discover {
            self.parts.collector.discover(now);
            self.due.discover = now + self.parts.pace.discover;
        }
        if now >= self.due.positions {
            self.write_positions();
            self.due.positions = now + self.parts.pace.positions;
        }
        if now >= self.due.facts {
            self.state_facts();
            self.due.facts = now + self.parts.pace.facts;
        }
    }

    fn write_positions(&mut self) {
        let Parts { collector, positions, .. } = &mut self.parts;
        let read_now = collector.sources(positions.state());
        positions.write(&read_now);
    }

    fn state_facts(&mut self) {
        let Parts { positions, outbox, facts, .. } = &mut self.parts;
        for (source, state) in positions.take_changed() {
            outbox.put(facts.fact(source, &state));
        }
    }

    fn judge(&mut self, verdict: Verdict) -> Result<(), WorkError> {
        match verdict {
            Verdict::Done(entry) => {
                if let Some(source) = self.parts.positions.done(entry) {
                    info!(%source, "source finished");
                }
                Ok(())
            }
            Verdict::SetApart { source, record, cause } => self.set_apart(source, &record, cause),
            Verdict::UnknownStream(cause) => {
                let stream = self.parts.facts.stream.clone();
                metrics::unknown_stream(&stream);
                error!(%stream, cause, "the gateway does not know this stream; its worker stops");
                Err(WorkError::UnknownStream { stream, cause })
            }
        }
    }

    fn set_apart(&mut self, source: SourceId, record: &Record, cause: String) -> Result<(), WorkError> {
        error!(%source, range = ?record.range, cause, "a record was refused for good; it goes to the quarantine");
        let Parts { positions, facts, disk, quarantine, .. } = &mut self.parts;
        quarantine::set_apart(disk, quarantine, source, record, &cause)?;
        metrics::quarantined(&facts.stream);
        positions.set_apart(source, SetApart { range: record.range, cause });
        Ok(())
    }
}
