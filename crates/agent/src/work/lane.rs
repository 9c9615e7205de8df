//! The loop of one worker: read, hand to `send`, take its verdicts, remember, state facts. A thread of its own, because
//! reading files blocks; it owns all of the worker's state, and everything reaches it as an [`Event`].

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, RecvTimeoutError};
use std::time::{Duration, Instant};

use stream::config::StreamConfig;
use stream::disk::SharedDisk;
use stream::facts::SetApart;
use stream::{Batch, Record, SourceId};
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
const SETTLE: Duration = Duration::from_secs(1);

/// All that happens to a worker.
pub enum Event {
    /// An answer of the gateway.
    Verdict(Verdict),
    /// A new configuration of the same life of the stream.
    Config(Arc<StreamConfig>),
    /// Stop in an orderly way.
    Stop,
}

/// See the module.
pub struct Lane {
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
    /// Batches to send. Never full: `position` lets fewer be outstanding.
    pub batches: mpsc::Sender<(u64, Batch)>,
    /// What happens.
    pub events: Receiver<Event>,
    /// Where the quarantine lies.
    pub disk: SharedDisk,
    /// The quarantine file.
    pub quarantine: PathBuf,
    /// How often what is done.
    pub pace: Pace,
}

/// When what is done next.
struct Timetable {
    discover: Instant,
    positions: Instant,
    facts: Instant,
}

/// Whether to go on.
enum Next {
    Continue,
    Stop,
    /// Everybody else is gone, as in a crash.
    Abandoned,
}

impl Lane {
    /// Runs until it is told to stop, or cannot go on.
    pub fn run(mut self) -> Result<(), WorkError> {
        let now = Instant::now();
        let mut due = Timetable { discover: now, positions: now, facts: now };
        self.begin()?;
        let mut idle = self.pace.poll_min;
        loop {
            let now = Instant::now();
            self.keep_timetable(&mut due, now);
            let batches = self.batches.clone();
            let any = self.collector.turn(&mut self.positions, now, &mut |collected| hand_over(&batches, collected))?;
            metrics::outstanding(&self.facts.stream, self.positions.outstanding_bytes());
            let wait = match (any, self.positions.has_room()) {
                (true, true) => Duration::ZERO,
                (_, false) => self.pace.poll_max,
                (false, true) => idle,
            };
            let before = Instant::now();
            match self.take_events(wait)? {
                Next::Continue => {}
                Next::Stop => return self.settle(),
                Next::Abandoned => return Ok(()),
            }
            let waited_out = before.elapsed() >= wait;
            idle = match (any, waited_out) {
                (true, _) => self.pace.poll_min,
                (false, true) => (idle * 2).min(self.pace.poll_max),
                (false, false) => idle,
            };
        }
    }

    fn begin(&mut self) -> Result<(), WorkError> {
        if !self.positions.state().record_bytes_max.contains_key(&self.config.version) {
            let record_bytes_max = self.config.spec.limits.record_bytes_max;
            self.positions.configure(self.config.version, record_bytes_max, &[])?;
        }
        let now = Instant::now();
        self.collector.discover(now);
        self.collector.find_moved(&self.positions, now);
        let batches = self.batches.clone();
        self.collector.send_ends(&mut self.positions, &mut |collected| hand_over(&batches, collected));
        Ok(())
    }

    fn keep_timetable(&mut self, due: &mut Timetable, now: Instant) {
        if now >= due.discover {
            self.collector.discover(now);
            due.discover = now + self.pace.discover;
        }
        if now >= due.positions {
            let read_now = self.collector.sources(self.positions.state());
            self.positions.write(&read_now);
            due.positions = now + self.pace.positions;
        }
        if now >= due.facts {
            self.state_facts();
            due.facts = now + self.pace.facts;
        }
    }

    fn state_facts(&mut self) {
        for (source, state) in self.positions.take_changed() {
            self.outbox.put(self.facts.fact(source, &state));
        }
    }

    /// Takes every event that is there, waiting up to `wait` for the first.
    fn take_events(&mut self, wait: Duration) -> Result<Next, WorkError> {
        let mut event = match self.events.recv_timeout(wait) {
            Ok(event) => event,
            Err(RecvTimeoutError::Timeout) => return Ok(Next::Continue),
            Err(RecvTimeoutError::Disconnected) => return Ok(Next::Abandoned),
        };
        loop {
            match event {
                Event::Stop => return Ok(Next::Stop),
                Event::Config(config) => self.collector.configure(config, &mut self.positions)?,
                Event::Verdict(verdict) => self.judge(verdict)?,
            }
            match self.events.try_recv() {
                Ok(next) => event = next,
                Err(_) => return Ok(Next::Continue),
            }
        }
    }

    fn judge(&mut self, verdict: Verdict) -> Result<(), WorkError> {
        match verdict {
            Verdict::Done(entry) => {
                if let Some(source) = self.positions.done(entry) {
                    info!(%source, "source finished");
                }
                Ok(())
            }
            Verdict::SetApart { source, record, cause } => self.set_apart(source, &record, cause),
            Verdict::UnknownStream(cause) => {
                let stream = self.facts.stream.clone();
                metrics::unknown_stream(&stream);
                error!(%stream, cause, "the gateway does not know this stream; its worker stops");
                Err(WorkError::UnknownStream { stream, cause })
            }
        }
    }

    fn set_apart(&mut self, source: SourceId, record: &Record, cause: String) -> Result<(), WorkError> {
        error!(%source, range = ?record.range, cause, "a record was refused for good; it goes to the quarantine");
        quarantine::set_apart(&self.disk, &self.quarantine, source, record, &cause)?;
        metrics::quarantined(&self.facts.stream);
        self.positions.set_apart(source, SetApart { range: record.range, cause });
        Ok(())
    }

    /// Waits a little for answers to come, so that the next start sends little again; then remembers.
    fn settle(mut self) -> Result<(), WorkError> {
        let until = Instant::now() + SETTLE;
        while !self.positions.is_settled() && Instant::now() < until {
            if let Next::Abandoned = self.take_events(self.pace.poll_min)? {
                break;
            }
        }
        let read_now = self.collector.sources(self.positions.state());
        self.positions.write(&read_now);
        self.state_facts();
        Ok(())
    }
}

fn hand_over(batches: &mpsc::Sender<(u64, Batch)>, collected: Collected) {
    // Fails only when the sender is gone, and then nothing is remembered as sent.
    let _ = batches.blocking_send(collected);
}
