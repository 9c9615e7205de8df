//! A leg of each life of a stream: reads the log, drops doubles with the real de-duplication, commits what it took with
//! its state as one, keeps its positions, and is killed now and then: what it has not committed it takes again.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};

use bytes::Bytes;
use journal::KeptPosition;
use query::leg::dedup::{Taken, Verdict};
use sink::{Commit, LegState, Seen};
use stream::config::StreamConfig;
use stream::facts::{Place, Position};
use stream::{Batch, Kind, Range, Record, SourceId};

use crate::agent::Life;
use crate::journal::JournalHost;
use crate::world::World;

/// Bytes of one reading.
const READ_BYTES: usize = 2_000;

/// A record as it was delivered.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Row {
    /// Its partition.
    pub partition: u32,
    /// Its source.
    pub source: SourceId,
    /// The record.
    pub record: Record,
}

/// See the module.
pub struct Leg {
    world: World,
    /// Whose.
    pub life: Life,
    topic: String,
    places: Vec<Place>,
    journal: Arc<JournalHost>,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    committed: LegState,
    /// Rows of the commits.
    rows: Vec<Row>,
    taken: Taken,
    next: BTreeMap<Place, u64>,
    /// Rows not committed yet.
    fresh: Vec<Row>,
    /// Every identity that was read, with its bytes.
    seen: BTreeMap<(SourceId, Range, u8), Bytes>,
    /// Records read, doubles among them.
    read: (u64, u64),
}

impl Leg {
    /// A leg that has taken nothing.
    pub fn new(world: &World, config: &StreamConfig, journal: &Arc<JournalHost>) -> Arc<Self> {
        let place = |partition| Place { cluster: 0, partition };
        Arc::new(Self {
            world: world.clone(),
            life: (config.spec.id.clone(), config.incarnation),
            topic: config.topic_key(),
            places: (0..config.spec.partitions()).map(place).collect(),
            journal: Arc::clone(journal),
            state: Mutex::default(),
        })
    }

    /// Reads and commits for good.
    pub async fn run(self: Arc<Self>) {
        let mut turns = 0_u64;
        loop {
            self.world.pause(50..400).await;
            self.read();
            turns += 1;
            if turns.is_multiple_of(4) {
                self.commit();
            }
        }
    }

    /// Is killed: goes on from its last commit.
    pub fn kill(&self) {
        let mut state = self.state.lock().unwrap();
        self.world.note(format!("leg of {}: is killed", self.topic));
        state.fresh.clear();
        state.taken = Taken::from_state(&state.committed);
        state.next = self.places.iter().map(|place| (*place, state.committed.position(*place).offset)).collect();
    }

    /// What it has delivered, the last rows not yet committed.
    pub fn rows(&self) -> Vec<Row> {
        let state = self.state.lock().unwrap();
        [state.rows.as_slice(), state.fresh.as_slice()].concat()
    }

    /// Records read, and doubles among them.
    pub fn read_so_far(&self) -> (u64, u64) {
        self.state.lock().unwrap().read
    }

    /// What is taken of a source.
    pub fn taken_of(&self, source: SourceId) -> stream::Ranges {
        self.state.lock().unwrap().taken.of(&source).cloned().unwrap_or_default()
    }

    fn read(&self) {
        let Some(log) = self.journal.log() else { return };
        let mut state = self.state.lock().unwrap();
        for place in &self.places {
            let offset = state.next.get(place).copied().unwrap_or(0);
            // Unknown before the journal hears of the stream, and after it heard that it is gone.
            let Ok(chunk) = log.read(&self.topic, place.partition, offset, READ_BYTES) else { continue };
            if chunk.end_offset < offset && chunk.end_offset > 0 {
                let (end, topic) = (chunk.end_offset, &self.topic);
                self.world.found(format!("{topic}: read up to {offset}, and the log now ends at {end}"));
            }
            for entry in chunk.entries {
                let wire = stream::wire::v1::Batch::from_bytes(entry.batch).expect("an entry is a batch");
                let batch = Batch::from_wire(wire).expect("a batch was checked before it was appended");
                let last = entry.offset + batch.len() as u64 - 1;
                let seen = Seen { place: *place, offset: last, append_time_ms: entry.append_time_ms };
                self.take(&mut state, &batch, seen);
            }
            state.next.insert(*place, chunk.next_offset.max(offset));
        }
    }

    fn take(&self, state: &mut State, batch: &Batch, seen: Seen) {
        for record in batch.records() {
            let identity = (batch.source, record.range, record.kind.letter());
            let known = state.seen.entry(identity).or_insert_with(|| record.body.clone());
            if *known != record.body {
                self.world.found(format!("{}: one identity, two contents: {identity:?}", self.topic));
            }
        }
        let verdicts = state.taken.take(batch, seen);
        let (source, range, Seen { place, offset, .. }) = (batch.source, batch.range, seen);
        self.world.note(format!("leg of {}: {source} {range:?} at {}/{offset}", self.topic, place.partition));
        for (record, verdict) in batch.records().zip(verdicts) {
            state.read.0 += 1;
            match verdict {
                Verdict::New if record.kind == Kind::Event => {
                    let partition = seen.place.partition;
                    state.fresh.push(Row { partition, source: batch.source, record });
                }
                Verdict::New | Verdict::Silent => {}
                Verdict::Double => state.read.1 += 1,
                Verdict::Apart(cause) => {
                    self.world.found(format!("{}: {:?} is set apart: {cause}", self.topic, record.range));
                }
            }
        }
    }

    fn commit(&self) {
        let mut guard = self.state.lock().unwrap();
        let state = &mut *guard;
        let changes = state.taken.changes();
        let positions: Vec<Position> = state.next.iter().map(|(place, next)| Position::at(*place, *next)).collect();
        let commit = Commit { positions, sources: changes.sources, forgotten: changes.forgotten, ..Commit::default() };
        state.committed.apply(state.committed.commit + 1, &commit);
        state.rows.append(&mut state.fresh);
        let Some(log) = self.journal.log() else { return };
        for Position { place, offset, .. } in commit.positions {
            let (topic, reader) = (self.topic.clone(), "leg".to_owned());
            drop(log.keep(&KeptPosition { topic, place, reader, offset, gone: false }));
        }
    }
}
