//! The whole log against a model, on a disk that loses its power. Steps are taken one by one instead of by threads, so
//! that a seed tells the whole story. `ISOLANE_SEEDS` sets how many seeds run (default 200).

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use rand::rngs::ChaCha8Rng;
use rand::{RngExt, SeedableRng};
use stream::clock::HeldClock;
use stream::disk::{Disk, SimDisk};
use stream::wire::{Refusal, RefusalReason};
use stream::{Batch, BatchBuilder, Incarnation, Kind, SourceId};

use super::format::FileName;
use super::log::EmbeddedLog;
use super::writer::Step;
use super::*;
use crate::seam::{Appended, KeptPosition, here};

const DIR: &str = "/journal";
const TOPICS: usize = 5;

fn seeds() -> u64 {
    std::env::var("ISOLANE_SEEDS").ok().and_then(|text| text.parse().ok()).unwrap_or(200)
}

fn small() -> LogSettings {
    LogSettings {
        wal_bytes: 1_500,
        sealed_max: 2,
        quantum_bytes: 400,
        commit_bytes_max: 1_000,
        topic_pending_bytes_max: 4_000,
        topic_pending_bytes_floor: 500,
        pending_bytes_max: 10_000,
        keeper_step_bytes: 600,
        piece_bytes: 400,
        removed_grace: Duration::ZERO,
        tend_every: Duration::ZERO,
    }
}

fn topic(i: usize) -> String {
    format!("a.b.t{i}@0000000000000001")
}

fn topics(settings: TopicSettings) -> Topics {
    (0..TOPICS).map(|i| (Arc::from(topic(i)), settings)).collect()
}

fn keep_all() -> TopicSettings {
    TopicSettings { retention: Duration::from_secs(1 << 30), retention_bytes: u64::MAX, retention_waits: true }
}

/// What is due at once, but waits for the reader.
fn keep_little() -> TopicSettings {
    TopicSettings { retention: Duration::from_secs(1), retention_bytes: 300, retention_waits: true }
}

fn batch(identity: u64, records: u64, body_bytes: usize) -> Batch {
    let mut builder = BatchBuilder::new(identity * 1_000_000);
    for i in 0..records {
        let body = vec![b'a' + (identity % 26) as u8; body_bytes];
        builder.push(Kind::Event, identity * 1_000_000 + (i + 1) * 1_000, None, &body);
    }
    builder.take(&"a.b.c".parse().unwrap(), Incarnation(1), SourceId::derive(1, &[])).unwrap()
}

type Outcome = Arc<Mutex<Option<Result<Appended, Refusal>>>>;

struct Bench {
    disk: SimDisk,
    clock: HeldClock,
    log: Arc<EmbeddedLog>,
    settings: TopicSettings,
}

impl Bench {
    fn new(disk: SimDisk, settings: TopicSettings) -> Result<Self, OpenError> {
        let clock = HeldClock::at(1_000_000);
        let log = EmbeddedLog::open(Arc::new(disk.clone()), Path::new(DIR).into(), Arc::new(clock.clone()), small())?;
        log.configure(topics(settings));
        Ok(Self { disk, clock, log, settings })
    }

    fn reopen(self) -> Self {
        Self::new(self.disk, self.settings).unwrap()
    }

    fn append(&self, topic: &str, batch: &Batch) -> Outcome {
        let outcome = Outcome::default();
        let reply = Arc::clone(&outcome);
        self.log.append(topic, 0, batch, Box::new(move |result| *reply.lock().unwrap() = Some(result)));
        outcome
    }

    /// Appends and commits, copying when that is what the writer waits for.
    fn append_now(&self, topic: &str, batch: &Batch) -> Result<Appended, Refusal> {
        let outcome = self.append(topic, batch);
        for _ in 0..10 {
            match self.log.commit_once() {
                Step::Idle => break,
                Step::Blocked => self.log.copy_sealed(),
                Step::Worked => {}
            }
        }
        outcome.lock().unwrap().take().expect("the append was never answered")
    }

    fn read_all(&self, topic: &str, from: u64) -> Vec<(u64, Batch)> {
        let (mut offset, mut all) = (from, Vec::new());
        loop {
            let chunk = self.log.read(topic, 0, offset, 600).unwrap();
            if chunk.next_offset == offset {
                assert!(chunk.entries.is_empty());
                return all;
            }
            offset = chunk.next_offset;
            all.extend(chunk.entries.into_iter().map(|entry| {
                let wire = stream::wire::v1::Batch::from_bytes(entry.batch).unwrap();
                (entry.offset, Batch::from_wire(wire).unwrap())
            }));
        }
    }

    fn files(&self) -> Vec<String> {
        self.disk.list(Path::new(DIR)).unwrap()
    }

    fn keep(&self, topic: &str, offset: u64) {
        let (topic, reader) = (topic.to_owned(), "files".to_owned());
        self.log.keep(&KeptPosition { topic, place: here(0), reader, offset, gone: false }).unwrap();
    }
}

/// What the log has promised, per topic: acknowledged entries, and those that may be there.
#[derive(Default)]
struct Model {
    acknowledged: BTreeMap<String, BTreeMap<u64, Batch>>,
    sent: BTreeMap<String, Vec<Batch>>,
    waiting: Vec<(String, Batch, Outcome)>,
    /// Up to where the topic's one reader has committed: what is before it may go.
    kept: BTreeMap<String, u64>,
    next_identity: u64,
}

impl Model {
    fn append(&mut self, bench: &Bench, dice: &mut ChaCha8Rng) {
        let topic = topic(dice.random_range(0..TOPICS));
        let batch = batch(self.next_identity, dice.random_range(1..4), dice.random_range(0..120));
        self.next_identity += 1;
        self.sent.entry(topic.clone()).or_default().push(batch.clone());
        let outcome = bench.append(&topic, &batch);
        self.waiting.push((topic, batch, outcome));
    }

    fn keep(&mut self, bench: &Bench, dice: &mut ChaCha8Rng) {
        let topic = topic(dice.random_range(0..TOPICS));
        let end = bench.log.bounds(std::slice::from_ref(&topic)).remove(0).end_offset;
        let kept = self.kept.entry(topic.clone()).or_default();
        *kept = dice.random_range(*kept..=end.max(*kept));
        bench.keep(&topic, *kept);
    }

    fn collect(&mut self) {
        let acknowledged = &mut self.acknowledged;
        self.waiting.retain(|(topic, batch, outcome)| {
            let Some(result) = outcome.lock().unwrap().take() else { return true };
            if let Ok(Appended { offset, end_offset, .. }) = result {
                assert_eq!(end_offset - offset, batch.len() as u64);
                let taken = acknowledged.entry(topic.clone()).or_default().insert(offset, batch.clone());
                assert!(taken.is_none(), "offset {offset} of {topic} was acknowledged twice");
            }
            false
        });
    }

    /// Every acknowledged entry is there, in order, with its bytes and offset; whatever else is there was sent.
    fn check(&self, bench: &Bench) {
        for i in 0..TOPICS {
            let topic = topic(i);
            let read = bench.read_all(&topic, 0);
            assert!(read.windows(2).all(|pair| pair[0].0 + pair[0].1.len() as u64 <= pair[1].0), "out of order");
            let found: BTreeMap<u64, &Batch> = read.iter().map(|(offset, batch)| (*offset, batch)).collect();
            let kept = self.kept.get(&topic).copied().unwrap_or(0);
            let acknowledged = self.acknowledged.get(&topic).into_iter().flatten();
            for (offset, batch) in acknowledged.filter(|(offset, batch)| **offset + batch.len() as u64 > kept) {
                assert_eq!(found.get(offset), Some(&batch), "{topic}: the entry at {offset} is lost or another");
            }
            let sent = self.sent.get(&topic).map_or(&[][..], Vec::as_slice);
            assert!(found.values().all(|batch| sent.contains(batch)), "{topic}: entries from nowhere");
        }
    }
}

fn step(model: &mut Model, bench: &Bench, dice: &mut ChaCha8Rng) {
    match dice.random_range(0..13) {
        0..6 => model.append(bench, dice),
        6..9 => drop(bench.log.commit_once()),
        9 => bench.log.copy_sealed(),
        10 => bench.log.tend(),
        11 => model.keep(bench, dice),
        _ => bench.clock.advance(dice.random_range(0..3_000)),
    }
    model.collect();
}

#[test]
fn what_was_acknowledged_survives_any_power_loss() {
    let mut losses = BTreeSet::new();
    for seed in 0..seeds() {
        let mut dice = ChaCha8Rng::seed_from_u64(seed);
        let mut model = Model::default();
        let settings = if seed % 3 == 0 { keep_all() } else { keep_little() };
        let mut bench = Bench::new(SimDisk::new(), settings).unwrap();
        for round in 0..4_u64 {
            // Every small count in turn, and larger ones by chance.
            let operations = if seed % 2 == 0 { seed / 2 % 60 + round } else { dice.random_range(0..400) };
            bench.disk.lose_power_after(operations);
            let failing = dice.random_bool(0.2);
            if failing {
                bench.disk.fail_sync_after(dice.random_range(0..20));
            }
            for _ in 0..300 {
                step(&mut model, &bench, &mut dice);
                if bench.disk.power_is_gone() {
                    break;
                }
            }
            losses.insert((operations, bench.disk.power_is_gone()));
            bench.disk.fail_sync_after(u64::MAX);
            bench.disk.power_loss(&mut dice);
            model.waiting.clear();
            // The power may go again while the log is being opened.
            bench.disk.lose_power_after(dice.random_range(0..6));
            let again = Bench::new(bench.disk.clone(), settings);
            bench.disk.power_loss(&mut dice);
            drop(again);
            bench = bench.reopen();
            model.check(&bench);
        }
    }
    assert!(losses.iter().filter(|(_, gone)| *gone).count() > 20, "the power hardly ever went: {losses:?}");
}

#[test]
fn a_failed_sync_loses_nothing_acknowledged() {
    for seed in 0..seeds() {
        let mut dice = ChaCha8Rng::seed_from_u64(seed);
        let mut model = Model::default();
        let mut bench = Bench::new(SimDisk::new(), keep_all()).unwrap();
        for _ in 0..8 {
            bench.disk.fail_sync_after(dice.random_range(0..12));
            for _ in 0..40 {
                step(&mut model, &bench, &mut dice);
            }
            model.check(&bench);
        }
        bench.disk.fail_sync_after(u64::MAX);
        bench.disk.power_loss(&mut dice);
        bench = bench.reopen();
        model.check(&bench);
    }
}

#[test]
fn what_a_failed_commit_left_behind_does_not_take_the_place_of_another() {
    let bench = Bench::new(SimDisk::new(), keep_all()).unwrap();
    let (first, refused, second) = (batch(1, 1, 10), batch(2, 1, 10), batch(3, 1, 10));
    bench.append_now(&topic(0), &first).unwrap();
    bench.disk.fail_sync_after(0);
    assert_eq!(bench.append_now(&topic(0), &refused).unwrap_err().reason, RefusalReason::Unavailable);
    // As if the segment could not be cut: the refused entry stands whole behind what was durable.
    let (key, encoded) = (topic(0), refused.to_wire().to_bytes());
    let mut left = Vec::new();
    let (offset, batch) = (1, encoded.as_slice());
    format::Entry { topic: &key, partition: 0, offset, append_time_ms: 0, records: 1, batch }.write(&mut left);
    let mut segment = bench.disk.open(&FileName::Wal(1).path(Path::new(DIR))).unwrap();
    segment.append(&left).unwrap();
    bench.clock.advance(10_000);
    assert_eq!(bench.append_now(&topic(0), &second).unwrap().offset, 1);
    let bench = bench.reopen();
    assert_eq!(bench.read_all(&topic(0), 0), [(0, first), (1, second)]);
}

#[test]
fn a_full_disk_refuses_and_goes_on_by_itself() {
    for seed in 0..seeds() / 4 {
        let mut dice = ChaCha8Rng::seed_from_u64(seed);
        let mut model = Model::default();
        let mut bench = Bench::new(SimDisk::new(), keep_all()).unwrap();
        for _ in 0..30 {
            step(&mut model, &bench, &mut dice);
        }
        bench.disk.set_room(Some(bench.disk.bytes() + dice.random_range(0..2_000)));
        let mut refused = None;
        for identity in 0..200 {
            bench.clock.advance(10_000);
            refused = bench.append_now(&topic(0), &batch(1_000_000 + identity, 1, 100)).err();
            if refused.is_some() {
                break;
            }
            let taken = bench.read_all(&topic(0), 0);
            let (offset, found) = taken.last().unwrap();
            model.acknowledged.entry(topic(0)).or_default().insert(*offset, found.clone());
            model.sent.entry(topic(0)).or_default().push(found.clone());
        }
        assert_eq!(refused.map(|refusal| refusal.reason), Some(RefusalReason::DiskFull), "seed {seed}");
        let used = bench.disk.bytes();
        for identity in 0..20 {
            bench.clock.advance(10_000);
            assert!(bench.append_now(&topic(0), &batch(2_000_000 + identity, 1, 8_000)).is_err());
        }
        assert!(bench.disk.bytes() <= used + 200, "refused batches took room: {used}, {}", bench.disk.bytes());
        model.collect();
        model.check(&bench);
        bench.disk.set_room(None);
        bench.clock.advance(10_000);
        let sent = batch(3_000_000, 2, 50);
        bench.log.copy_sealed();
        let Appended { offset, .. } = bench.append_now(&topic(0), &sent).expect("there is room again");
        model.acknowledged.entry(topic(0)).or_default().insert(offset, sent.clone());
        model.sent.entry(topic(0)).or_default().push(sent);
        model.check(&bench);
        bench.disk.power_loss(&mut dice);
        bench = bench.reopen();
        model.check(&bench);
    }
}

#[test]
fn retention_waits_for_readers_and_frees_the_disk() {
    let limits = TopicSettings { retention: Duration::from_secs(60), retention_bytes: 3_000, retention_waits: true };
    let mut bench = Bench::new(SimDisk::new(), limits).unwrap();
    let fill = |bench: &Bench, i: usize, from: u64, to: u64| {
        for identity in from..to {
            bench.append_now(&topic(i), &batch(identity, 2, 100)).unwrap();
        }
        bench.log.copy_sealed();
    };
    fill(&bench, 0, 0, 60);
    fill(&bench, 1, 100, 101);
    bench.log.tend();
    assert_eq!(bench.read_all(&topic(0), 0).len(), 60, "removed before anybody had taken it");

    bench.keep(&topic(0), 40);
    bench.log.tend();
    let bounds = bench.log.bounds(&[topic(0)]).remove(0);
    assert!(bounds.start_offset > 20 && bounds.start_offset <= 40, "{bounds:?}");
    assert_eq!(bench.read_all(&topic(0), 0).first().unwrap().0, bounds.start_offset);

    bench.keep(&topic(0), 120);
    bench.clock.advance(61_000);
    fill(&bench, 1, 101, 131);
    bench.log.tend();
    bench.log.tend();
    let used = bench.disk.bytes();
    assert!(used < 12_000, "{used} bytes are kept in {:?}", bench.files());
    assert_eq!(bench.read_all(&topic(1), 0).len(), 31, "a topic nobody reads yet lost something");
    let end = bench.log.bounds(&[topic(0)]).remove(0).end_offset;
    bench = bench.reopen();
    let again = bench.log.bounds(&[topic(0)]).remove(0);
    assert_eq!(again.end_offset, end, "offsets begin again");
    assert!(again.start_offset >= bounds.start_offset);
    assert_eq!(bench.append_now(&topic(0), &batch(500, 1, 1)).unwrap().offset, end);
    assert_eq!(bench.read_all(&topic(1), 0).len(), 31);
}

#[test]
fn a_topic_whose_last_piece_went_keeps_its_offsets() {
    let limits = TopicSettings { retention: Duration::from_secs(1), retention_bytes: 1 << 20, retention_waits: false };
    let mut bench = Bench::new(SimDisk::new(), limits).unwrap();
    for identity in 0..40 {
        bench.append_now(&topic(0), &batch(identity, 1, 100)).unwrap();
    }
    bench.keep(&topic(0), 10);
    let mut others = 100;
    while bench.log.index.lock().unwrap().partitions.values().any(|p| p.end() == 40 && !p.frames.is_empty()) {
        bench.append_now(&topic(1), &batch(others, 1, 100)).unwrap();
        bench.log.copy_sealed();
        others += 1;
    }
    bench.clock.advance(10_000);
    bench.log.tend();
    let bounds = bench.log.bounds(&[topic(0)]).remove(0);
    assert_eq!((bounds.start_offset, bounds.end_offset, bounds.overtaken_records), (40, 40, 30), "{bounds:?}");
    bench.log.tend();
    bench = bench.reopen();
    assert_eq!(bench.append_now(&topic(0), &batch(1_000, 1, 1)).unwrap().offset, 40);
    assert_eq!(bench.log.bounds(&[topic(0)]).remove(0).overtaken_records, 30);
}

#[test]
fn a_topic_that_left_the_configuration_is_refused_and_dropped() {
    let bench = Bench::new(SimDisk::new(), keep_all()).unwrap();
    for identity in 0..60 {
        bench.append_now(&topic(identity as usize % 3), &batch(identity, 1, 100)).unwrap();
    }
    bench.log.copy_sealed();
    let before = bench.disk.bytes();
    bench.log.configure([(Arc::from(topic(1)), keep_all())].into());
    let refusal = bench.append_now(&topic(0), &batch(99, 1, 1)).unwrap_err();
    assert_eq!(refusal.reason, RefusalReason::UnknownStream);
    bench.log.tend();
    bench.log.tend();
    assert!(bench.disk.bytes() < before * 2 / 3, "{} of {before} bytes are left", bench.disk.bytes());
    let bench = bench.reopen();
    assert_eq!(bench.read_all(&topic(1), 0).len(), 20);
}

#[test]
fn a_flipped_bit_costs_its_own_frame_only() {
    for seed in 0..seeds() {
        let mut dice = ChaCha8Rng::seed_from_u64(seed);
        let bench = Bench::new(SimDisk::new(), keep_all()).unwrap();
        let records: u64 = dice.random_range(20..60);
        for identity in 0..records {
            bench.append_now(&topic(0), &batch(identity, 1, 60)).unwrap();
        }
        bench.log.copy_sealed();
        let files: Vec<String> = bench.files().into_iter().filter(|name| FileName::parse(name).is_some()).collect();
        let path = Path::new(DIR).join(&files[dice.random_range(0..files.len())]);
        let length = bench.disk.open(&path).unwrap().len() as usize;
        // The last segment's tail may be torn, so damage to its last frame is none.
        let at = dice.random_range(format::HEADER_FRAME_BYTES..length);
        bench.disk.flip_bit(&path, at, dice.random_range(0..8)).unwrap();
        let live = bench.read_all(&topic(0), 0).len() as u64;
        assert!(live + 1 >= records, "{} of {records} are read", live);
        let bench = bench.reopen();
        let read = bench.read_all(&topic(0), 0);
        assert!(read.len() as u64 + 1 >= records, "seed {seed}: {} of {records} are read again", read.len());
        let appended = bench.append_now(&topic(0), &batch(1_000, 1, 1)).unwrap();
        assert!(appended.offset + 1 >= records, "an offset is given again");
    }
}

#[test]
fn a_cut_out_entry_with_mended_footer_or_none_is_a_hole() {
    let bench = Bench::new(SimDisk::new(), keep_all()).unwrap();
    for identity in 0..20 {
        bench.append_now(&topic(0), &batch(identity, 2, 60)).unwrap();
    }
    bench.log.copy_sealed();
    let run = bench.files().into_iter().find(|name| name.starts_with("run-")).unwrap();
    let path = Path::new(DIR).join(run);
    let bytes = stream::disk::read_all(&bench.disk, &path).unwrap();
    let entries: Vec<(usize, usize)> = scan::frames(&bytes, 0)
        .filter_map(|found| match found {
            scan::Found::Frame { position, bytes, payload } if payload[0] == format::KIND_ENTRY => {
                Some((position, bytes))
            }
            _ => None,
        })
        .collect();
    let (position, length) = entries[2];
    let mut cut = bytes[..position].to_vec();
    cut.extend_from_slice(&bytes[position + length..]);
    bench.disk.remove(&path).unwrap();
    let mut file = bench.disk.create(&path).unwrap();
    file.append(&cut).unwrap();
    file.sync().unwrap();
    bench.disk.sync_dir(Path::new(DIR)).unwrap();
    let bench = bench.reopen();
    let offsets: Vec<u64> = bench.read_all(&topic(0), 0).into_iter().map(|(offset, _)| offset).collect();
    let expected: Vec<u64> = (0..20).map(|i| i * 2).filter(|offset| *offset != 4).collect();
    assert_eq!(offsets, expected);
}

#[test]
fn a_foreign_version_and_a_damaged_state_stop_the_start() {
    let bench = Bench::new(SimDisk::new(), keep_all()).unwrap();
    bench.append_now(&topic(0), &batch(0, 1, 10)).unwrap();
    bench.keep(&topic(0), 0);
    bench.log.tend();
    let state = Path::new(DIR).join("state");
    bench.disk.flip_bit(&state, 12, 0).unwrap();
    let error = Bench::new(bench.disk.clone(), keep_all()).map(drop).unwrap_err();
    assert!(matches!(&error, OpenError::Damaged { path, .. } if *path == state), "{error}");
    bench.disk.flip_bit(&state, 12, 0).unwrap();

    let path = FileName::Wal(99).path(Path::new(DIR));
    let mut header = Vec::new();
    format::Header { kind: format::KIND_WAL, version: 7, number: 99, previous: 1, previous_bytes: 0 }
        .write(&mut header);
    let mut file = bench.disk.create(&path).unwrap();
    file.append(&header).unwrap();
    let error = Bench::new(bench.disk.clone(), keep_all()).map(drop).unwrap_err();
    assert!(matches!(error, OpenError::Version { found: 7, .. }), "{error}");
}
