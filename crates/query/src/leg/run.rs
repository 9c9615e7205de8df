//! The run of a leg: entries come in, rows go to the sink, and on every checkpoint data, positions, ranges and fates are
//! committed as one.
//!
//! State between two commits: what is open in the sink, [`Pending`], and the changes in [`Taken`]. An error or a panic
//! throws all of it away; the next run begins from what the sink recovers. Nothing new since the last commit: no commit.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use sink::{Apart, ApartEnd, ApartPosition, Commit, Replay, Sink, SinkError};
use stream::clock::Clock;
use stream::facts::{LegReport, Place, Position};
use stream::fate::FateCounts;
use stream::limits;
use tokio::sync::{mpsc, watch};
use tokio::time::{MissedTickBehavior, interval};
use tracing::{error, info, warn};

use super::LegKey;
use super::begin::{Begin, begin};
use super::convert::{Convert, Converted, convert, convert_again};
use super::dedup::{Changes, Taken};
use super::fit::Fitted;
use super::read::{Arrival, Gate, gate};
use super::report::Mailbox;
use crate::error::LegError;
use crate::metrics;

/// A leg, recovered.
pub struct Leg {
    key: LegKey,
    plan: Box<dyn Convert + Send>,
    sink: Box<dyn Sink>,
    clock: Arc<dyn Clock>,
    mailbox: Arc<Mailbox>,
    gate: watch::Sender<Gate>,
    taken: Taken,
    places: BTreeMap<Place, Progress>,
    commit: u64,
    fates: FateCounts,
    delivered_bytes: u64,
    pending: Pending,
    replay: Replay,
    /// The quarantine cannot be read: the rest of the job goes on.
    is_replay_held: bool,
    /// What a person must know although the leg goes on.
    alarm: Option<String>,
}

/// How far a place has been read.
#[derive(Clone, Copy, Debug, Default)]
struct Progress {
    offset: u64,
    /// The oldest offset that the journal keeps.
    start: u64,
    /// The durable end, as last heard.
    end: Option<u64>,
    /// Which log it is.
    log: u64,
    /// Append time of the last entry read, in ms since 1970.
    reached_ms: i64,
}

impl Progress {
    /// Up to which append time everything has been read: now, at the end, even of a place that has never held anything;
    /// none before its first word.
    fn read_up_to_ms(&self, now_ms: i64) -> Option<i64> {
        self.end.map(|end| if self.offset >= end { now_ms } else { self.reached_ms })
    }
}

/// What the next commit will hold beside the sink's rows and the changed ranges.
#[derive(Debug, Default)]
struct Pending {
    is_dirty: bool,
    fates: FateCounts,
    delivered_bytes: u64,
    /// Append time and number of records.
    appended: Vec<(i64, u64)>,
}

/// What a leg is made of.
pub struct Parts {
    /// Which leg.
    pub key: LegKey,
    /// Everywhere that it reads.
    pub places: Vec<Place>,
    /// Its SELECT.
    pub plan: Box<dyn Convert + Send>,
    /// Its destination.
    pub sink: Box<dyn Sink>,
    /// Wall-clock time, for delays and for forgetting.
    pub clock: Arc<dyn Clock>,
    /// Where it leaves its reports.
    pub mailbox: Arc<Mailbox>,
    /// When it was last ordered to take its quarantine again, in ms since 1970; 0: never.
    pub replay_ms: u64,
    /// What it begins from if it has never committed.
    pub begin: Option<Begin>,
}

impl Leg {
    /// Recovers the sink, reports the committed state whole, and is ready to go on from it.
    pub fn recover(parts: Parts) -> Result<Self, LegError> {
        let Parts { key, places, plan, mut sink, clock, mailbox, replay_ms, begin: from } = parts;
        let state = sink.recover()?;
        let state = begin(from.as_ref(), &key, &places, sink.as_mut(), state)?;
        let progress = |place: Place| {
            let Position { offset, log, .. } = state.position(place);
            Progress { offset, log, ..Progress::default() }
        };
        let mut leg = Self {
            plan,
            sink,
            clock,
            mailbox,
            gate: watch::channel(Gate::All).0,
            taken: Taken::from_state(&state),
            places: places.into_iter().map(|place| (place, progress(place))).collect(),
            commit: state.commit,
            fates: state.fates,
            delivered_bytes: state.delivered_bytes,
            pending: Pending::default(),
            replay: state.replay,
            is_replay_held: false,
            alarm: None,
            key,
        };
        leg.report_whole();
        leg.begin_replay(replay_ms);
        Ok(leg)
    }

    /// Where reading goes on.
    pub fn positions(&self) -> Vec<Position> {
        let position = |(place, progress): (&Place, &Progress)| Position {
            place: *place,
            offset: progress.offset,
            log: progress.log,
        };
        self.places.iter().map(position).collect()
    }

    /// Tells the readers who may read.
    pub fn gate(&self) -> watch::Receiver<Gate> {
        self.gate.subscribe()
    }

    /// Runs until `stop` is true (then commits what it has) or something fails.
    pub async fn run(
        &mut self,
        mut arrivals: mpsc::Receiver<Arrival>,
        checkpoint: Duration,
        mut stop: watch::Receiver<bool>,
    ) -> Result<(), LegError> {
        let mailbox = self.mailbox.clone();
        let mut ticks = interval(checkpoint);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            tokio::select! {
                biased;
                _ = stop.wait_for(|stopped| *stopped) => return self.commit(),
                _ = ticks.tick() => self.commit()?,
                () = mailbox.whole_wanted() => {
                    // Only what is committed may be told.
                    self.commit()?;
                    self.report_whole();
                }
                arrival = arrivals.recv() => match arrival {
                    Some(arrival) => self.take(arrival)?,
                    None => return self.commit(),
                },
                () = std::future::ready(()), if self.replays() => {}
            }
            // A step beside each arrival: neither waits for the other's end.
            if self.replays() {
                self.replay_some()?;
            }
            if self.sink.is_full() {
                self.commit()?;
            }
        }
    }

    /// Takes what is new in a chunk.
    fn take(&mut self, Arrival { place, chunk }: Arrival) -> Result<(), LegError> {
        if chunk.is_anew {
            self.begin_anew(place, chunk.start_offset);
        }
        self.notice_overtaken(place, chunk.start_offset);
        let progress = self.places.entry(place).or_default();
        progress.start = progress.start.max(chunk.start_offset);
        progress.end = progress.end.max(Some(chunk.end_offset));
        if chunk.log != 0 {
            // A held reader tells the bounds only.
            progress.log = chunk.log;
        }
        let from = progress.offset;
        let mut entries = chunk.entries;
        entries.retain(|entry| entry.end_offset() > from);
        let (Some(first), Some(last)) = (entries.first(), entries.last()) else {
            // What stands there is nobody's record: known to be read, and worth no commit.
            progress.offset = progress.offset.max(chunk.next_offset.unwrap_or(0));
            self.set_gate();
            return Ok(());
        };
        if first.offset > from {
            let records = first.offset - from;
            metrics::hole(self.key.stream.as_str(), &self.key.sink, records);
            warn!(stream = %self.key.stream, from, to = first.offset, "the journal passed over offsets");
        }
        let next = chunk.next_offset.unwrap_or(0).max(last.end_offset());
        (progress.offset, progress.reached_ms) = (next, last.append_time_ms);
        let plan = Fitted { plan: self.plan.as_ref(), sink: self.sink.as_ref() };
        let converted = convert(&plan, &mut self.taken, place, &entries);
        self.write(converted)?;
        self.set_gate();
        Ok(())
    }

    /// Begins a replay that was ordered after the last one: of all that is in the quarantine now.
    fn begin_replay(&mut self, order_ms: u64) {
        if order_ms <= self.replay.order_ms {
            return;
        }
        match self.sink.apart_end() {
            Ok(ApartEnd { log, end }) => {
                let is_other = self.replay.log != 0 && self.replay.log != log;
                let next = if is_other { ApartPosition::default() } else { self.replay.next };
                // A broker that has just taken over may know of less than was seen: never backwards.
                self.replay = Replay { order_ms, log, next, end: end.max(next) };
                self.pending.is_dirty = true;
                info!(stream = %self.key.stream, leg = self.key.sink, "the quarantine is taken again");
            }
            Err(error) => self.hold_replay(&error),
        }
    }

    fn replays(&self) -> bool {
        self.replay.is_under_way() && !self.is_replay_held
    }

    fn replay_some(&mut self) -> Result<(), LegError> {
        let Apart { records, next } = match self.sink.read_apart(self.replay.next, self.replay.end) {
            Ok(apart) => apart,
            Err(error) => {
                self.hold_replay(&error);
                return Ok(());
            }
        };
        self.replay.next = next;
        self.pending.is_dirty = true;
        let plan = Fitted { plan: self.plan.as_ref(), sink: self.sink.as_ref() };
        let converted = convert_again(&plan, &records);
        self.write(converted)
    }

    /// What is old must not hold up what is new.
    fn hold_replay(&mut self, error: &SinkError) {
        let alarm =
            format!("the quarantine cannot be taken again: {error}; it is tried again when the leg starts anew");
        error!(stream = %self.key.stream, leg = self.key.sink, "{alarm}");
        self.is_replay_held = true;
        self.alarm = Some(alarm);
        self.pending.is_dirty = true;
    }

    fn write(&mut self, converted: Converted) -> Result<(), LegError> {
        let Converted { rows, apart, fates, delivered_bytes, appended } = converted;
        self.pending.is_dirty = true;
        self.pending.fates.add(&fates);
        self.pending.delivered_bytes += delivered_bytes;
        self.pending.appended.extend(appended);
        if let Some(rows) = rows {
            self.sink.write(rows)?;
        }
        Ok(self.sink.set_apart(&apart)?)
    }

    /// The log at a place is not the one that was read before: says so, and reads all of it. What was taken before is
    /// known by its identity.
    fn begin_anew(&mut self, place: Place, start: u64) {
        let alarm = format!(
            "partition {} of the topic in cluster {} was deleted and made again, or cut: what stood there unread is \
             gone (see `isolane ledger`); it is read anew",
            place.partition, place.cluster
        );
        error!(stream = %self.key.stream, leg = self.key.sink, "{alarm}");
        self.places.insert(place, Progress { offset: start, start, ..Progress::default() });
        self.pending.is_dirty = true;
        self.alarm = Some(alarm);
    }

    /// Retention has removed records before this leg read them: says which, and goes on behind them.
    fn notice_overtaken(&mut self, place: Place, start: u64) {
        let progress = self.places.entry(place).or_default();
        if start <= progress.offset {
            return;
        }
        let records = start - progress.offset;
        let alarm = format!(
            "retention removed offsets {}..{start} of partition {} in cluster {} before this leg had read them: \
             {records} records; raise limits.retention_seconds or limits.retention_bytes, or set \
             limits.retention_waits",
            progress.offset, place.partition, place.cluster
        );
        error!(stream = %self.key.stream, leg = self.key.sink, "{alarm}");
        metrics::overtaken(self.key.stream.as_str(), &self.key.sink, records);
        progress.offset = start;
        self.pending.is_dirty = true;
        self.alarm = Some(alarm);
    }

    fn set_gate(&self) {
        let now_ms = self.clock.now_ms();
        // A place that has never spoken may belong to a cluster that is away: nobody can wait for it.
        let reached = |(place, progress): (&Place, &Progress)| Some((*place, progress.read_up_to_ms(now_ms)?));
        let reached_ms = self.places.iter().filter_map(reached).collect();
        let now = gate(self.taken.bytes(), self.taken.gaps(), &reached_ms);
        let is_news = |open: &mut Gate| std::mem::replace(open, now) != now;
        let is_full = self.taken.bytes() > limits::RANGE_SET_BYTES_MAX;
        if self.gate.send_if_modified(is_news) && now != Gate::All && is_full {
            warn!(stream = %self.key.stream, leg = self.key.sink, "range sets over their budget: readers are held");
        }
    }

    /// Commits, if anything is new, and reports.
    fn commit(&mut self) -> Result<(), LegError> {
        let starts = self.places.iter().map(|(place, progress)| (*place, progress.start)).collect();
        let now_ms = self.clock.now_ms();
        let read_up_to = self.places.values().map(|progress| progress.read_up_to_ms(now_ms).unwrap_or(0)).min();
        self.taken.forget(&starts, read_up_to.unwrap_or(0));
        self.set_gate();
        if !self.pending.is_dirty {
            return Ok(());
        }
        let Pending { fates, delivered_bytes, appended, .. } = std::mem::take(&mut self.pending);
        let Changes { sources, forgotten } = self.taken.changes();
        let (horizon_minutes, replay) = (self.taken.horizon_minutes(), self.replay);
        let commit = Commit {
            positions: self.positions(),
            sources,
            forgotten,
            horizon_minutes,
            fates,
            delivered_bytes,
            replay,
            is_handed_over: false,
        };
        self.commit = self.sink.commit(&commit)?;
        self.fates.add(&fates);
        self.delivered_bytes += delivered_bytes;
        let last = self.mailbox.last();
        // A commit of replayed records alone says nothing of delays.
        let [delay_ms_p50, delay_ms_p99] = match appended.is_empty() {
            true => [last.delay_ms_p50, last.delay_ms_p99],
            false => percentiles(appended, self.clock.now_ms()),
        };
        self.observe(&fates, delay_ms_p50, delay_ms_p99);
        let changed = commit.sources.into_keys();
        let taken = changed.filter_map(|source| Some((source, self.taken.of(&source)?.clone()))).collect();
        self.mailbox.put(LegReport { delay_ms_p50, delay_ms_p99, taken, ..self.report() });
        Ok(())
    }

    fn observe(&self, fates: &FateCounts, p50_ms: u64, p99_ms: u64) {
        let (stream, leg) = (self.key.stream.as_str(), &self.key.sink);
        metrics::committed(stream, leg, fates);
        metrics::delays(stream, p50_ms, p99_ms);
        metrics::range_set_bytes(stream, leg, self.taken.bytes());
    }

    fn report_whole(&self) {
        self.mailbox.put(LegReport { whole: true, taken: self.taken.all(), ..self.report() });
    }

    /// Where the leg stands, without sources; called only while nothing is pending, so that all of it is committed.
    fn report(&self) -> LegReport {
        LegReport {
            commit: self.commit,
            positions: self.positions(),
            fates: self.fates,
            delivered_bytes: self.delivered_bytes,
            failure: self.alarm.clone(),
            job: None,
            whole: false,
            taken: BTreeMap::new(),
            ..self.mailbox.last()
        }
    }
}

/// The median and the 99th percentile of the time from append to `now_ms`, in ms.
fn percentiles(mut appended: Vec<(i64, u64)>, now_ms: i64) -> [u64; 2] {
    appended.sort_unstable_by_key(|(append_time_ms, _)| std::cmp::Reverse(*append_time_ms));
    let total: u64 = appended.iter().map(|(_, records)| records).sum();
    [50, 99].map(|percent| {
        let rank = (total * percent).div_ceil(100).max(1);
        let mut passed = 0;
        let reached = appended.iter().find(|(_, records)| {
            passed += records;
            passed >= rank
        });
        reached.map_or(0, |(append_time_ms, _)| u64::try_from(now_ms - append_time_ms).unwrap_or(0))
    })
}

#[cfg(test)]
mod tests;
