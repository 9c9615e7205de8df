//! Runs of a leg over the files sink on the simulated disk: re-sends, restarts, power loss, retention that overtakes.

use std::path::{Path, PathBuf};

use arrow_array::cast::AsArray;
use arrow_array::{RecordBatch, StringArray};
use arrow_schema::{DataType, Field, Schema};
use journal::{Chunk, Entry};
use rand::rngs::ChaCha8Rng;
use rand::{RngExt, SeedableRng};
use sink::files::verify::verify;
use sink::{FilesSink, Identity};
use stream::clock::HeldClock;
use stream::disk::SimDisk;
use stream::provenance::SourceId;
use stream::{BatchBuilder, Incarnation, Kind};

use super::*;
use crate::sql::{InputRow, Output, RowFate};

mod hand_over;

/// The topic's name in Kafka.
const TOPIC: &str = "a.b.c.0000000000000001";
const HERE: Place = Place { cluster: 0, partition: 0 };

/// Delivers the body as text; filters what begins with `f`, fails on what begins with `x` and ends with none of `mended`.
struct Lines {
    mended: &'static [u8],
}

impl Convert for Lines {
    fn convert(&self, rows: &[InputRow<'_>]) -> Output {
        let fate = |row: &InputRow<'_>| match row.body.first() {
            Some(b'f') => RowFate::Filtered,
            Some(b'x') if !row.body.last().is_some_and(|last| self.mended.contains(last)) => {
                RowFate::Failed("bad".to_owned())
            }
            _ => RowFate::Delivered,
        };
        let fates: Vec<RowFate> = rows.iter().map(fate).collect();
        let origin: Vec<u32> = (0..).zip(&fates).filter(|(_, f)| **f == RowFate::Delivered).map(|(i, _)| i).collect();
        let lines = origin.iter().map(|i| std::str::from_utf8(rows[*i as usize].body).unwrap());
        let column = Arc::new(StringArray::from_iter_values(lines));
        let schema = Arc::new(Schema::new(vec![Field::new("line", DataType::Utf8, false)]));
        let batch = RecordBatch::try_new(schema, vec![column]).unwrap();
        let event_times_ms = origin.iter().map(|i| rows[*i as usize].append_time_ms).collect();
        Output { batch, origin, event_times_ms, fates }
    }
}

fn dir() -> PathBuf {
    PathBuf::from("/out/a.b.c/files")
}

fn key() -> LegKey {
    LegKey { stream: "a.b.c".parse().unwrap(), incarnation: Incarnation(1), sink: "files".to_owned() }
}

fn leg(disk: &SimDisk, mailbox: &Arc<Mailbox>) -> Result<Leg, LegError> {
    leg_with(disk, mailbox, b"", 0)
}

/// A leg whose job has been mended, and which was ordered at `replay_ms` to take its quarantine again.
fn leg_with(disk: &SimDisk, mailbox: &Arc<Mailbox>, mended: &'static [u8], replay_ms: u64) -> Result<Leg, LegError> {
    leg_from(disk, mailbox, mended, replay_ms, None)
}

fn leg_from(
    disk: &SimDisk,
    mailbox: &Arc<Mailbox>,
    mended: &'static [u8],
    replay_ms: u64,
    begin: Option<&Path>,
) -> Result<Leg, LegError> {
    let begin = begin.map(|path| Begin {
        disk: Arc::new(stream::disk::RealDisk),
        path: path.to_owned(),
        topic: TOPIC.to_owned(),
    });
    let LegKey { stream, incarnation, sink } = key();
    let sink = FilesSink::new(Arc::new(disk.clone()), dir(), Identity { stream, incarnation, leg: sink });
    let clock = Arc::new(HeldClock::at(10_000_000));
    let mailbox = mailbox.clone();
    let places = vec![HERE];
    let plan = Box::new(Lines { mended });
    Leg::recover(Parts { key: key(), places, plan, sink: Box::new(sink), clock, mailbox, replay_ms, begin })
}

/// The body of the `n`-th record of a source: some are filtered, some fail.
fn body(source: u64, n: u64) -> String {
    let kind = match (source + n) % 9 {
        4 => 'f',
        7 => 'x',
        _ => 'd',
    };
    format!("{kind}-{source}-{n}")
}

/// Records `from..to` of a source, ten ordinals each; every eleventh is a mark.
fn batch(source: u64, from: u64, to: u64) -> stream::Batch {
    let mut builder = BatchBuilder::new(from * 10);
    for n in from..to {
        match n % 11 {
            5 => builder.push(Kind::Mark, (n + 1) * 10, None, b""),
            _ => builder.push(Kind::Event, (n + 1) * 10, None, body(source, n).as_bytes()),
        }
    }
    let id = SourceId::derive(100, &[&source.to_le_bytes()]);
    builder.take(&"a.b.c".parse().unwrap(), Incarnation(1), id).unwrap()
}

/// A journal: three sources of 40 records, sent in batches of a few, some again, some out of order.
fn journal(dice: &mut ChaCha8Rng) -> Vec<Entry> {
    let (mut entries, mut offset): (Vec<Entry>, u64) = (Vec::new(), 0);
    let mut next = [0_u64; 3];
    while next.iter().any(|n| *n < 40) {
        let source = dice.random_range(0..3_usize);
        let again = dice.random_bool(0.3);
        let from = if again { dice.random_range(0..=next[source]) } else { next[source] };
        let to = (from + dice.random_range(1..8)).min(40);
        if from >= to {
            continue;
        }
        next[source] = next[source].max(to);
        let entry = Entry { offset, append_time_ms: 9_000_000 + offset as i64, batch: batch(source as u64, from, to) };
        offset = entry.end_offset();
        entries.push(entry);
    }
    entries
}

fn arrival(entries: &[Entry], start_offset: u64) -> Arrival {
    let end_offset = entries.last().map_or(start_offset, Entry::end_offset);
    let chunk = Chunk { entries: entries.to_vec(), start_offset, end_offset, ..Chunk::default() };
    Arrival { place: HERE, chunk }
}

fn lines(disk: &dyn stream::disk::Disk, folder: &Path) -> Vec<String> {
    let mut found = Vec::new();
    for name in disk.list(folder).unwrap() {
        let path = folder.join(&name);
        if name.starts_with("dt=") || name.starts_with("hour=") {
            found.extend(lines(disk, &path));
        } else if name.ends_with(".parquet") {
            let bytes = bytes::Bytes::from(stream::disk::read_all(disk, &path).unwrap());
            let reader = parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder::try_new(bytes).unwrap();
            for batch in reader.build().unwrap() {
                let batch = batch.unwrap();
                found.extend(batch.column(0).as_string::<i32>().iter().flatten().map(str::to_owned));
            }
        }
    }
    found
}

/// What a reader of the whole journal without doubles would find, and the fates.
fn expected() -> (Vec<String>, FateCounts) {
    let (mut lines, mut fates) = (Vec::new(), FateCounts::default());
    for (source, n) in (0..3).flat_map(|source| (0..40).map(move |n| (source, n))) {
        match (n % 11, body(source, n).as_bytes()[0]) {
            (5, _) => fates.dropped += 1,
            (_, b'f') => fates.filtered += 1,
            (_, b'x') => fates.quarantined += 1,
            _ => lines.push(body(source, n)),
        }
    }
    lines.sort_unstable();
    fates.delivered = lines.len() as u64;
    (lines, fates)
}

/// Feeds the leg from its own positions to the end, committing now and then.
fn feed(leg: &mut Leg, entries: &[Entry], dice: &mut ChaCha8Rng) -> Result<(), LegError> {
    let from = leg.positions()[0].offset;
    let rest: Vec<Entry> = entries.iter().filter(|entry| entry.end_offset() > from).cloned().collect();
    for some in rest.chunks(3) {
        leg.take(arrival(some, 0))?;
        if dice.random_bool(0.4) {
            leg.commit()?;
        }
    }
    leg.commit()
}

/// Takes the quarantine again to the replay's end, committing now and then.
fn replay(leg: &mut Leg, dice: &mut ChaCha8Rng) -> Result<(), LegError> {
    while leg.replay.is_under_way() {
        leg.replay_some()?;
        if dice.random_bool(0.4) {
            leg.commit()?;
        }
    }
    leg.commit()
}

#[test]
fn a_quarantine_taken_again_delivers_each_record_once_whatever_happens_meanwhile() {
    for seed in 0..60 {
        let mut dice = ChaCha8Rng::seed_from_u64(seed);
        let (disk, mailbox, entries) = (SimDisk::new(), Mailbox::new(&key()), journal(&mut dice));
        feed(&mut leg(&disk, &mailbox).unwrap(), &entries, &mut dice).unwrap();
        // A first mending of some, then of the rest, each with losses of power.
        for (order_ms, mended) in [(5, &b"0246"[..]), (9, &b"0123456789"[..])] {
            for _ in 0..2 {
                disk.lose_power_after(dice.random_range(0..60));
                let ran = leg_with(&disk, &mailbox, mended, order_ms).and_then(|mut leg| replay(&mut leg, &mut dice));
                assert!(ran.is_ok() || disk.power_is_gone(), "{ran:?}");
                disk.power_loss(&mut dice);
            }
            replay(&mut leg_with(&disk, &mailbox, mended, order_ms).unwrap(), &mut dice).unwrap();
            let mut found = lines(&disk, &dir());
            found.sort_unstable();
            let is_good = |text: &str| !text.starts_with('x') || mended.contains(text.as_bytes().last().unwrap());
            let all = (0..3).flat_map(|source| (0..40).filter(|n| n % 11 != 5).map(move |n| body(source, n)));
            let mut expected: Vec<String> = all.filter(|text| !text.starts_with('f') && is_good(text)).collect();
            expected.sort_unstable();
            assert_eq!(found, expected, "seed {seed}, order {order_ms}");
            let report = verify(&disk, &dir()).unwrap();
            let fates = report.state.fates;
            let all = (0..3).flat_map(|source| (0..40).filter(|n| n % 11 != 5).map(move |n| body(source, n)));
            let left = all.filter(|text| !is_good(text)).count();
            assert_eq!(
                (report.findings, fates.in_quarantine()),
                (vec![], left as u64),
                "seed {seed}, order {order_ms}"
            );
            assert_eq!(fates.total(), 120, "seed {seed}: each record has one fate");
        }
        let same = leg_with(&disk, &mailbox, b"", 9).unwrap();
        assert!(!same.replay.is_under_way(), "an order is obeyed once");
    }
}

#[test]
fn power_loss_and_restarts_lose_and_double_nothing() {
    let seeds = std::env::var("ISOLANE_SEEDS").ok().and_then(|text| text.parse().ok()).unwrap_or(60);
    for seed in 0..seeds {
        let mut dice = ChaCha8Rng::seed_from_u64(seed);
        let (disk, mailbox, entries) = (SimDisk::new(), Mailbox::new(&key()), journal(&mut dice));
        for _ in 0..3 {
            disk.lose_power_after(dice.random_range(0..120));
            let ran = leg(&disk, &mailbox).and_then(|mut leg| feed(&mut leg, &entries, &mut dice));
            assert!(ran.is_ok() || disk.power_is_gone(), "{ran:?}");
            disk.power_loss(&mut dice);
        }
        let mut last = leg(&disk, &mailbox).unwrap();
        feed(&mut last, &entries, &mut dice).unwrap();

        let (lines_expected, fates) = expected();
        let mut found = lines(&disk, &dir());
        found.sort_unstable();
        assert_eq!(found, lines_expected, "seed {seed}");
        let report = verify(&disk, &dir()).unwrap();
        let records: u64 = entries.iter().map(|entry| entry.batch.len() as u64).sum();
        let doubles = records - fates.total();
        assert_eq!((report.findings, report.state.fates), (vec![], FateCounts { doubles, ..fates }), "seed {seed}");
    }
}

#[tokio::test(start_paused = true)]
async fn it_commits_on_the_checkpoint_and_when_stopped_and_only_what_is_new() {
    let mut dice = ChaCha8Rng::seed_from_u64(1);
    let (disk, mailbox, entries) = (SimDisk::new(), Mailbox::new(&key()), journal(&mut dice));
    let mut leg = leg(&disk, &mailbox).unwrap();
    let (sender, arrivals) = mpsc::channel(2);
    let (stop, stopped) = watch::channel(false);
    let half = entries.len() / 2;
    let feeding = async {
        let commits = || mailbox.last().commit;
        sender.send(arrival(&entries[..half], 0)).await.unwrap();
        tokio::time::sleep(Duration::from_millis(900)).await;
        assert_eq!(commits(), 0);
        tokio::time::sleep(Duration::from_millis(2_000)).await;
        assert_eq!(commits(), 1, "nothing new came after the first checkpoint");
        sender.send(arrival(&entries[half..], 0)).await.unwrap();
        tokio::time::sleep(Duration::from_millis(1)).await;
        stop.send_replace(true);
    };
    let (ran, ()) = tokio::join!(leg.run(arrivals, Duration::from_secs(1), stopped), feeding);
    ran.unwrap();
    let report = mailbox.last();
    assert_eq!((report.commit, report.fates.total()), (2, expected().1.total()));
    assert_eq!(report.positions[0].offset, entries.last().unwrap().end_offset());
    assert!(report.delay_ms_p50 > 0 && report.delay_ms_p50 <= report.delay_ms_p99);
}

#[test]
fn retention_that_overtakes_is_named_and_the_leg_goes_on() {
    let mut dice = ChaCha8Rng::seed_from_u64(2);
    let (disk, mailbox, entries) = (SimDisk::new(), Mailbox::new(&key()), journal(&mut dice));
    let mut leg = leg(&disk, &mailbox).unwrap();
    leg.take(arrival(&entries[..2], 0)).unwrap();
    leg.commit().unwrap();
    let (from, start) = (entries[2].offset, entries[5].offset);
    leg.take(arrival(&entries[5..], start)).unwrap();
    leg.commit().unwrap();
    let report = mailbox.last();
    assert_eq!(report.positions[0].offset, entries.last().unwrap().end_offset());
    assert!(report.failure.unwrap().contains(&format!("offsets {from}..{start} of partition 0")));
}

#[test]
fn a_place_that_has_never_held_anything_is_read_up_to_now() {
    let unheard = Progress::default();
    let empty = Progress { end: Some(0), ..Progress::default() };
    let behind = Progress { offset: 3, end: Some(4), reached_ms: 7, ..Progress::default() };
    assert_eq!([unheard, empty, behind].map(|progress| progress.read_up_to_ms(100)), [None, Some(100), Some(7)]);
}

#[test]
fn scattered_ranges_hold_who_is_ahead_but_nobody_waits_for_a_place_that_never_spoke() {
    let (disk, mailbox) = (SimDisk::new(), Mailbox::new(&key()));
    let mut leg = leg(&disk, &mailbox).unwrap();
    let [there, away] = [Place { cluster: 0, partition: 1 }, Place { cluster: 1, partition: 0 }];
    leg.places.extend([there, away].map(|place| (place, Progress::default())));
    let gate = leg.gate();
    let (mut offset, mut from) = (0, 0);
    while leg.taken.gaps() <= limits::RANGE_SET_GAPS_MAX {
        assert_eq!(*gate.borrow(), Gate::All);
        let half = batch(1, from, from + 1_000).part(|one| (one.range.start / 10 % 2) as u32).remove(&0).unwrap();
        let entry = Entry { offset, append_time_ms: 9_000_000, batch: half };
        (offset, from) = (entry.end_offset(), from + 1_000);
        let chunk = Chunk { end_offset: offset + 1, entries: vec![entry], ..Chunk::default() };
        leg.take(Arrival { place: HERE, chunk }).unwrap();
    }
    assert_eq!(*gate.borrow(), Gate::All, "nobody else has spoken");
    let bounds = |end_offset| Chunk { end_offset, ..Chunk::default() };
    leg.take(Arrival { place: there, chunk: bounds(0) }).unwrap();
    assert_eq!(*gate.borrow(), Gate::Only(HERE), "the other is at its end");
    leg.take(Arrival { place: there, chunk: bounds(5) }).unwrap();
    assert_eq!(*gate.borrow(), Gate::Only(there), "it has something, and is further behind");
}

#[test]
fn a_log_made_anew_is_read_from_its_beginning_and_remembered() {
    let mut dice = ChaCha8Rng::seed_from_u64(3);
    let (disk, mailbox, entries) = (SimDisk::new(), Mailbox::new(&key()), journal(&mut dice));
    let chunk = |entries: &[Entry], log, is_anew| {
        let Arrival { place, chunk } = arrival(entries, 0);
        Arrival { place, chunk: Chunk { log, is_anew, ..chunk } }
    };
    let mut first = leg(&disk, &mailbox).unwrap();
    first.take(chunk(&entries[..3], 5, false)).unwrap();
    first.take(chunk(&[], 0, false)).unwrap();
    first.commit().unwrap();
    assert_eq!(first.positions()[0].log, 5);
    drop(first);
    let mut second = leg(&disk, &mailbox).unwrap();
    assert_eq!(second.positions()[0], Position { place: HERE, offset: entries[2].end_offset(), log: 5 });
    second.take(chunk(&[], 6, true)).unwrap();
    assert_eq!(second.positions()[0], Position { place: HERE, offset: 0, log: 6 });
    second.take(chunk(&entries, 6, false)).unwrap();
    second.commit().unwrap();
    let report = mailbox.last();
    assert_eq!(report.fates.total(), expected().1.total(), "what was taken from the other log is taken again");
    assert!(report.failure.unwrap().contains("made again"));
}

#[test]
fn percentiles_are_of_records_not_of_entries() {
    for (appended, expected) in [
        (vec![], [0, 0]),
        (vec![(90, 1)], [10, 10]),
        (vec![(50, 1), (90, 99)], [10, 10]),
        (vec![(50, 2), (90, 98)], [10, 50]),
        (vec![(200, 1)], [0, 0]),
    ] {
        assert_eq!(percentiles(appended.clone(), 100), expected, "{appended:?}");
    }
}
