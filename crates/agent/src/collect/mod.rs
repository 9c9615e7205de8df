//! Collects records from files: finds them, says which source each is, reads it, and hands out batches.
//!
//! The collector owns the open files; what must be remembered of them it tells `position` first. A file that left its
//! watched path is read to its end and, when it has stayed unchanged for a while, ended; one that is replaced under its
//! descriptor ends where it was read to, and what lies in it now is another source.

pub mod discover;
pub mod identity;
pub mod lines;
pub mod tail;

use std::collections::BTreeSet;
use std::fs::{File, Metadata};
use std::io;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use stream::batch::BatchBuilder;
use stream::clock::Clock;
use stream::config::{StreamConfig, StreamSpec};
use stream::facts::SetApart;
use stream::{Batch, Kind, Range, SourceId, crash, limits};
use tracing::{info, warn};

use crate::metrics;
use crate::position::{Outgoing, Positions, SourceState, State, StoreError, before_hash};
use crate::settings::Pace;
use crate::supervise::hold::HeldBySupervisor;
use identity::{FileIdentity, Fingerprint, Identity, Reader, identify};
use tail::{Look, Tail};

/// A batch, and the number by which `position` knows it.
pub type Collected = (u64, Batch);

/// See the module.
pub struct Collector {
    reader: Reader,
    config: Arc<StreamConfig>,
    pace: Pace,
    clock: Arc<dyn Clock>,
    held: HeldBySupervisor,
    tails: Vec<Tail>,
    /// Nothing was remembered at the start: sources in files that were there already are born with the files.
    without_state: bool,
}

impl Collector {
    /// A collector that goes on with the files that the supervisor held.
    pub fn new(
        reader: Reader,
        config: Arc<StreamConfig>,
        pace: Pace,
        clock: Arc<dyn Clock>,
        held: HeldBySupervisor,
        files: Vec<File>,
        without_state: bool,
    ) -> Self {
        let mut collector = Self { reader, config, pace, clock, held, tails: Vec::new(), without_state };
        let now = Instant::now();
        for file in files {
            match Tail::from_file(file, PathBuf::from("(held)"), now, &collector.reader, without_state) {
                Ok(tail) => collector.tails.extend(tail),
                Err(error) => warn!(%error, "a held file cannot be read"),
            }
        }
        collector
    }

    /// Looks for new files and for ones that moved.
    pub fn discover(&mut self, now: Instant) {
        let paths = discover::discover(&self.config.spec);
        self.tails.iter_mut().for_each(|tail| tail.watched = false);
        for path in paths {
            let Ok(metadata) = std::fs::metadata(&path) else { continue };
            let identity = (self.reader.identity_of)(&metadata);
            if let Some(tail) = self.tails.iter_mut().find(|tail| tail.identity == identity) {
                (tail.path, tail.watched) = (path, true);
            } else if metadata.is_file() && self.tails.len() < discover::FILES_MAX {
                self.open(path, true, now);
            }
        }
        let spec = &self.config.spec;
        let identity_of = self.reader.identity_of;
        let unseen = self.tails.iter_mut().filter(|tail| !tail.watched);
        unseen.for_each(|tail| tail.watched = may_be_there(tail, spec, identity_of));
        self.without_state = false;
        metrics::files(&self.config.spec.id, self.tails.len());
    }

    /// Looks once, at the start, for files that were moved while nobody held them: a rotation between two lives of the
    /// agent gives a file a name that no pattern names, but leaves it in its folder, with its inode.
    pub fn find_moved(&mut self, positions: &Positions, now: Instant) {
        for source in positions.state().sources.values().filter(|source| !source.finished) {
            if self.tails.iter().any(|tail| source.is_of(&tail.identity)) {
                continue;
            }
            if let Some(path) =
                discover::find_moved(&source.path, |file| source.is_of(&(self.reader.identity_of)(file)))
            {
                info!(stream = %self.config.spec.id, from = %source.path.display(), to = %path.display(), "found a moved file");
                self.open(path, false, now);
            }
        }
    }

    /// Sources that must not be forgotten: their files are open, named already or not.
    pub fn sources(&self, state: &State) -> BTreeSet<SourceId> {
        let unnamed: Vec<&Tail> = self.tails.iter().filter(|tail| tail.source.is_none()).collect();
        let may_be = |source: &SourceState| unnamed.iter().any(|tail| source.is_of(&tail.identity));
        let named_later = state.sources.iter().filter(|(_, source)| may_be(source)).map(|(id, _)| *id);
        self.tails.iter().filter_map(|tail| tail.source).chain(named_later).collect()
    }

    /// Takes a new configuration into force: of each source at an ordinal past everything ever sent.
    pub fn configure(&mut self, config: Arc<StreamConfig>, positions: &mut Positions) -> Result<(), StoreError> {
        let from: Vec<(SourceId, u64)> = self
            .tails
            .iter()
            .filter(|tail| tail.stop_at.is_none())
            .filter_map(|tail| Some((tail.source?, tail.unsent_from.max(tail.lines.position()))))
            .collect();
        info!(stream = %config.spec.id, version = config.version, sources = from.len(), "configuration in force");
        positions.configure(config.version, config.spec.limits.record_bytes_max, &from)?;
        self.tails.iter_mut().for_each(|tail| tail.record_bytes_max = (0, 0));
        self.config = config;
        Ok(())
    }

    /// Lets each file have its turn, as long as there is room; says whether any had something.
    pub fn turn(
        &mut self,
        positions: &mut Positions,
        now: Instant,
        out: &mut dyn FnMut(Collected),
    ) -> Result<bool, StoreError> {
        let (mut any, mut kept) = (false, Vec::with_capacity(self.tails.len()));
        for mut tail in std::mem::take(&mut self.tails) {
            if !positions.has_room() || self.advance(&mut tail, positions, now, &mut any, out)? {
                kept.push(tail);
            }
        }
        self.tails = kept;
        let first = usize::from(self.tails.len() > 1);
        self.tails.rotate_left(first);
        Ok(any)
    }

    /// Sends the ends of sources that need nothing else, after a restart.
    pub fn send_ends(&mut self, positions: &mut Positions, out: &mut dyn FnMut(Collected)) {
        let ended = |source: &SourceState| !source.finished && source.end() == Some(source.position);
        let ended: Vec<(SourceId, u64)> = positions
            .state()
            .sources
            .iter()
            .filter(|(_, source)| ended(source))
            .map(|(id, source)| (*id, source.position))
            .collect();
        for (id, position) in ended {
            let mut builder = BatchBuilder::new(position);
            builder.push(Kind::End, position, None, b"");
            self.hand_out(&mut builder, id, None, true, positions, out);
        }
    }

    /// One turn of one file; false: it needs no more.
    fn advance(
        &self,
        tail: &mut Tail,
        positions: &mut Positions,
        now: Instant,
        any: &mut bool,
        out: &mut dyn FnMut(Collected),
    ) -> Result<bool, StoreError> {
        let look = match tail.look(now) {
            Ok(look) => look,
            Err(error) => {
                self.mention_failure(tail, &error);
                return Ok(true);
            }
        };
        *any |= look != Look::Nothing;
        match look {
            Look::Replaced(unread) => return self.replace(tail, unread, positions, now, out).map(|()| true),
            Look::Nothing => tail.lines.shrink(),
            Look::Bytes => tail.failing = false,
        }
        if tail.ended {
            return Ok(self.awaits_its_end(tail, positions, now));
        }
        let due = look == Look::Bytes || tail.stop_at.is_some() || tail.is_over(now, self.pace.finish_after);
        if due { self.read_on(tail, positions, now, out) } else { Ok(true) }
    }

    /// Names the file if need be, emits its records, and ends it if it is over; false: it needs no more.
    fn read_on(
        &self,
        tail: &mut Tail,
        positions: &mut Positions,
        now: Instant,
        out: &mut dyn FnMut(Collected),
    ) -> Result<bool, StoreError> {
        let over = tail.is_over(now, self.pace.finish_after);
        if tail.source.is_none() && !self.name(tail, over, positions, now)? {
            let empty = over && tail.lines.unread().is_empty();
            if empty {
                self.held.release(&tail.identity);
            }
            return Ok(!empty);
        }
        let Some(id) = tail.source else { return Ok(true) };
        positions.saw(id, &tail.path, tail.stop_at.unwrap_or(tail.length()));
        self.emit(tail, id, positions, out);
        if tail.stop_at.is_none() && tail.is_over(now, self.pace.finish_after) {
            self.end(tail, id, None, positions)?;
        }
        if tail.stop_at == Some(tail.lines.end()) {
            self.emit_end(tail, id, positions, out);
        }
        Ok(true)
    }

    /// Says which source the file is; false as long as that cannot be said.
    fn name(&self, tail: &mut Tail, over: bool, positions: &mut Positions, now: Instant) -> Result<bool, StoreError> {
        if tail.lines.unread().starts_with(&[0x1f, 0x8b]) {
            self.mention_failure(tail, &io::Error::other("compressed files are not read; name the plain ones only"));
            (tail.stop_at, tail.ended) = (Some(tail.lines.end()), true);
            return Ok(false);
        }
        let Some(fingerprint) = Fingerprint::of(tail.lines.unread(), over) else { return Ok(false) };
        let state = positions.state();
        let birth = tail.birth_minutes.unwrap_or_else(|| self.clock.now_minutes());
        let found = identify(&self.reader, &tail.identity, fingerprint, tail.generation_min, birth, state);
        let (id, source) = match found {
            Identity::New(id, generation) => {
                let source = SourceState::new(tail.path.clone(), &tail.identity, fingerprint, generation);
                positions.mint(id, source, self.config.version)?;
                tail.source = Some(id);
                return Ok(true);
            }
            Identity::Known(id) => (id, state.sources.get(&id).cloned()),
            Identity::Recovered(fact, generation) => {
                let mut source = SourceState::new(tail.path.clone(), &tail.identity, fingerprint, generation);
                (source.position, source.seen, source.finished) = (fact.acknowledged, fact.seen, fact.finished);
                (source.set_apart, source.cuts) = (fact.set_apart, fact.cuts);
                positions.mint(fact.source, source.clone(), self.config.version)?;
                (fact.source, Some(source))
            }
        };
        match source {
            Some(source) => self.resume(tail, id, &source, positions, now),
            None => Ok(false),
        }
    }

    /// Goes on with a source where it is acknowledged, if the file still has what was before.
    fn resume(
        &self,
        tail: &mut Tail,
        id: SourceId,
        source: &SourceState,
        positions: &mut Positions,
        now: Instant,
    ) -> Result<bool, StoreError> {
        let before = match tail.read_before(source.position) {
            Ok(before) => before,
            Err(error) => {
                self.mention_failure(tail, &error);
                return Ok(false);
            }
        };
        let same = |before: &Vec<u8>| source.before.is_none_or(|hash| hash == before_hash(before));
        let Some(before) = before.filter(same) else {
            info!(source = %id, path = %tail.path.display(), "the file was replaced; its content is another source");
            metrics::generation(&self.config.spec.id);
            tail.start_over(source.generation + 1, now);
            return Ok(false);
        };
        info!(source = %id, path = %tail.path.display(), position = source.position, "going on");
        (tail.source, tail.stop_at, tail.ended) = (Some(id), source.end(), source.finished);
        if !tail.watched {
            tail.path.clone_from(&source.path);
        }
        tail.unsent_from = tail.length().max(source.cuts.last().map_or(0, |cut| cut.at));
        // Ends that need nothing else were sent at the start.
        tail.ended |= source.end() == Some(source.position);
        tail.lines = lines::Lines::at(source.position, &before);
        let version = source.cuts.last().map(|cut| cut.config_version);
        if source.end().is_none() && version != Some(self.config.version) {
            let record_bytes_max = self.config.spec.limits.record_bytes_max;
            positions.configure(self.config.version, record_bytes_max, &[(id, tail.unsent_from)])?;
        }
        Ok(true)
    }

    /// Hands out every record that is complete.
    fn emit(&self, tail: &mut Tail, id: SourceId, positions: &mut Positions, out: &mut dyn FnMut(Collected)) {
        let mut builder = BatchBuilder::new(tail.lines.position());
        loop {
            if tail.lines.position() >= tail.record_bytes_max.1 {
                tail.record_bytes_max = self.record_bytes_max(id, tail.lines.position(), positions);
            }
            let Some(line) = tail.lines.next(tail.record_bytes_max.0) else { break };
            self.push(tail, &line, &mut builder, id, positions, out);
        }
        let before = Some(before_hash(tail.lines.before(builder.end())));
        self.hand_out(&mut builder, id, before, false, positions, out);
    }

    /// Adds a record to a batch; a batch that is full goes out first.
    fn push(
        &self,
        tail: &Tail,
        line: &lines::Line,
        builder: &mut BatchBuilder,
        id: SourceId,
        positions: &mut Positions,
        out: &mut dyn FnMut(Collected),
    ) {
        let full = builder.len() >= limits::BATCH_RECORDS_MAX
            || builder.body_bytes() + line.body_bytes > limits::BATCH_BYTES_MAX;
        if full {
            let before = Some(before_hash(tail.lines.before(builder.end())));
            self.hand_out(builder, id, before, false, positions, out);
        }
        builder.push(Kind::Event, line.end, None, tail.lines.body(line));
    }

    fn hand_out(
        &self,
        builder: &mut BatchBuilder,
        id: SourceId,
        before: Option<u64>,
        last: bool,
        positions: &mut Positions,
        out: &mut dyn FnMut(Collected),
    ) {
        let spec = &self.config.spec;
        let Some(batch) = builder.take(&spec.id, self.reader.incarnation, id) else { return };
        metrics::collected(&spec.id, batch.len(), batch.body_bytes());
        let (records, body_bytes) = (batch.len(), batch.body_bytes());
        let outgoing = Outgoing { source: id, end: batch.range.end, before, last, records, body_bytes };
        out((positions.begin(outgoing), batch));
    }

    /// Decides that the source ends where it was read to; nothing after that is sent before this is durable.
    fn end(
        &self,
        tail: &mut Tail,
        id: SourceId,
        lost: Option<SetApart>,
        positions: &mut Positions,
    ) -> Result<(), StoreError> {
        let at = tail.lines.end();
        positions.end(id, at, self.config.version, lost)?;
        crash::point("agent.cut.synced");
        tail.stop_at = Some(at);
        Ok(())
    }

    /// Hands out what is left of an ended source, and its end.
    fn emit_end(&self, tail: &mut Tail, id: SourceId, positions: &mut Positions, out: &mut dyn FnMut(Collected)) {
        let mut builder = BatchBuilder::new(tail.lines.position());
        if let Some(line) = tail.lines.rest() {
            builder.push(Kind::Event, line.end, None, tail.lines.body(&line));
        }
        builder.push(Kind::End, tail.lines.end(), None, b"");
        let before = Some(before_hash(tail.lines.before(builder.end())));
        self.hand_out(&mut builder, id, before, true, positions, out);
        tail.ended = true;
    }

    /// The file was replaced under its descriptor: its source ends, and what lies in it now is another one.
    fn replace(
        &self,
        tail: &mut Tail,
        unread: u64,
        positions: &mut Positions,
        now: Instant,
        out: &mut dyn FnMut(Collected),
    ) -> Result<(), StoreError> {
        info!(path = %tail.path.display(), unread, "the file was replaced; its content is another source");
        metrics::generation(&self.config.spec.id);
        let Some(id) = tail.source else {
            tail.start_over(tail.generation_min, now);
            return Ok(());
        };
        let generation = positions.source(id).map_or(tail.generation_min, |source| source.generation);
        if tail.stop_at.is_none() {
            let at = tail.lines.end();
            let lost = (unread > 0).then(|| SetApart {
                range: Range::new(at, at + unread),
                cause: "the file was replaced before this was read".into(),
            });
            metrics::lost_bytes(&self.config.spec.id, unread);
            self.end(tail, id, lost, positions)?;
            self.emit_end(tail, id, positions, out);
        }
        tail.start_over(generation + 1, now);
        Ok(())
    }

    /// An ended file stays open until its end is acknowledged and no pattern names it; false: it needs no more.
    fn awaits_its_end(&self, tail: &mut Tail, positions: &Positions, now: Instant) -> bool {
        let late_bytes = tail.take_late_bytes();
        if late_bytes > 0 {
            metrics::late_bytes(&self.config.spec.id, late_bytes);
            warn!(path = %tail.path.display(), late_bytes, "written after the file had ended; not read");
        }
        let finished = tail.source.and_then(|id| positions.source(id)).is_none_or(|source| source.finished);
        if finished && tail.is_over(now, Duration::ZERO) {
            self.held.release(&tail.identity);
            return false;
        }
        true
    }

    /// The longest record at `ordinal` of a source, and the ordinal up to which that holds.
    fn record_bytes_max(&self, id: SourceId, ordinal: u64, positions: &Positions) -> (usize, u64) {
        let current = self.config.spec.limits.record_bytes_max;
        let Some(source) = positions.source(id) else { return (current, u64::MAX) };
        let (version, until) = source.version_at(ordinal);
        let known = version.and_then(|version| positions.state().record_bytes_max.get(&version));
        (known.copied().unwrap_or(current), until)
    }

    fn open(&mut self, path: PathBuf, watched: bool, now: Instant) {
        // Without a state a source is born with its file, else when it gets its name: one born long before its first
        // record would be taken for a forgotten one.
        match Tail::open(&path, now, &self.reader, self.without_state) {
            Ok(Some(mut tail)) => {
                tail.watched = watched;
                self.held.hold(tail.file(), &tail.identity);
                self.tails.push(tail);
            }
            Ok(None) => {}
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => {
                metrics::read_failure(&self.config.spec.id);
                warn!(path = %path.display(), %error, "cannot open a file; trying again");
            }
        }
    }

    fn mention_failure(&self, tail: &mut Tail, error: &io::Error) {
        if !std::mem::replace(&mut tail.failing, true) {
            metrics::read_failure(&self.config.spec.id);
            warn!(path = %tail.path.display(), %error, "cannot read a file; trying again");
        }
    }
}

/// Whether a file that was not found may still be at its path. A folder that cannot be read for a while must not end
/// the files in it: only one that is not there, is another one, or is not wanted any more has left.
fn may_be_there(tail: &Tail, spec: &StreamSpec, identity_of: fn(&Metadata) -> FileIdentity) -> bool {
    let same = match std::fs::metadata(&tail.path) {
        Ok(metadata) => identity_of(&metadata) == tail.identity,
        Err(error) => error.kind() != io::ErrorKind::NotFound,
    };
    same && discover::names(spec, &tail.path)
}
