//! The files sink on the simulated disk: power loss after every operation and at random ones, disk full, failed sync, a
//! second writer, damage; and what `verify` finds. `ISOLANE_SEEDS` sets the number of random runs.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use arrow_array::cast::AsArray;
use arrow_array::types::UInt64Type;
use arrow_array::{RecordBatch, UInt64Array};
use arrow_schema::{DataType, Field, Schema};
use bytes::Bytes;
use parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder;
use proptest::prelude::Rng as _;
use stream::disk::{Disk, RealDisk, SimDisk, read_all};
use stream::facts::{Place, Position};
use stream::fate::{Fate, FateCounts};
use stream::provenance::{Range, SourceId};
use stream::{Header, Kind};

use super::verify::{Fault, verify};
use super::*;
use crate::state::SourceState;

type Dice = proptest::test_runner::TestRng;

fn dice(seed: u64) -> Dice {
    let mut bytes = [0; 32];
    bytes[..8].copy_from_slice(&seed.to_le_bytes());
    Dice::from_seed(proptest::test_runner::RngAlgorithm::ChaCha, &bytes)
}

const PLACE: Place = Place { cluster: 0, partition: 0 };

fn dir() -> PathBuf {
    PathBuf::from("/out/a.b.c/files")
}

fn identity(incarnation: u64) -> Identity {
    Identity { stream: "a.b.c".parse().unwrap(), incarnation: Incarnation(incarnation), leg: "files".into() }
}

fn sink(disk: &SimDisk) -> FilesSink {
    FilesSink::new(Arc::new(disk.clone()), dir(), identity(1))
}

/// Record `n` of the journal: which source, range, hour and fate it has is a function of its number.
fn origin(n: u64) -> Origin {
    let source = SourceId::derive(100, &[&[(n % 2) as u8]]);
    Origin { source, range: Range::new(n / 2 * 10, n / 2 * 10 + 10) }
}

fn fate(n: u64) -> Fate {
    match n % 7 {
        3 => Fate::Filtered,
        5 => Fate::Quarantined,
        _ => Fate::Delivered,
    }
}

/// Writes the records `from..to` and commits them.
fn feed(sink: &mut FilesSink, from: u64, to: u64) -> Result<u64, SinkError> {
    let mut commit =
        Commit { positions: vec![Position::at(PLACE, to)], delivered_bytes: to - from, ..Commit::default() };
    for n in from..to {
        commit.fates.count(fate(n));
        let change = commit.sources.entry(origin(n).source).or_default();
        change.taken.insert(origin(n).range);
    }
    let delivered: Vec<u64> = (from..to).filter(|n| fate(*n) == Fate::Delivered).collect();
    let schema = Arc::new(Schema::new(vec![Field::new("n", DataType::UInt64, false)]));
    let batch = RecordBatch::try_new(schema, vec![Arc::new(UInt64Array::from(delivered.clone()))]).unwrap();
    let event_times_ms = delivered.iter().map(|n| (n % 3) as i64 * 3_600_000).collect();
    sink.write(Rows { batch, event_times_ms, origins: delivered.iter().copied().map(origin).collect() })?;
    let apart: Vec<SetApart> = (from..to).filter(|n| fate(*n) == Fate::Quarantined).map(set_apart).collect();
    sink.set_apart(&apart)?;
    sink.commit(&commit)
}

fn set_apart(n: u64) -> SetApart {
    let Origin { source, range } = origin(n);
    let header = Header { kind: Kind::Event, source, range, lap: 0, event_time_ms: None };
    SetApart { header, cause: "why".into(), append_time_ms: 1, body: Bytes::from(n.to_string()) }
}

/// Goes on from the committed position to `end`, in commits of `step` records.
fn run(disk: &SimDisk, end: u64, step: u64, committed: &mut u64) -> Result<(), SinkError> {
    let mut sink = sink(disk);
    let mut at = sink.recover()?.position(PLACE).offset;
    assert!(at >= *committed, "commit up to {committed} was answered, recovered {at}");
    while at < end {
        let to = end.min(at + step);
        feed(&mut sink, at, to)?;
        (at, *committed) = (to, to);
    }
    Ok(())
}

/// The values in all visible files, sorted, as a reader of the folder would find them.
fn delivered(disk: &dyn Disk) -> Vec<u64> {
    let mut values = Vec::new();
    for day in disk.list(&dir()).unwrap().iter().filter(|name| name.starts_with("dt=")) {
        for hour in disk.list(&dir().join(day)).unwrap() {
            let folder = dir().join(day).join(&hour);
            for file in disk.list(&folder).unwrap().iter().filter(|name| !name.starts_with('.')) {
                values.extend(values_of(disk, &folder.join(file)));
            }
        }
    }
    values.sort_unstable();
    values
}

fn values_of(disk: &dyn Disk, file: &Path) -> Vec<u64> {
    let bytes = Bytes::from(read_all(disk, file).unwrap());
    let batches = ParquetRecordBatchReaderBuilder::try_new(bytes).unwrap().build().unwrap();
    batches.flat_map(|batch| batch.unwrap().column(0).as_primitive::<UInt64Type>().values().to_vec()).collect()
}

fn assert_all(disk: &SimDisk, end: u64) {
    let expected: Vec<u64> = (0..end).filter(|n| fate(*n) == Fate::Delivered).collect();
    assert_eq!(delivered(disk), expected);
    let report = verify(disk, &dir()).unwrap();
    assert_eq!(report.findings, []);
    let mut fates = FateCounts::default();
    (0..end).for_each(|n| fates.count(fate(n)));
    assert_eq!((report.state.fates, report.rows, report.set_apart), (fates, fates.delivered, fates.quarantined));
    assert_eq!(report.state.delivered_bytes, end);
}

/// Runs to the end whatever happens, losing power after `operations`, then `more`, operations.
fn run_with_losses(seed: u64, end: u64, step: u64, losses: &[u64]) -> usize {
    let (disk, mut dice, mut committed, mut lost) = (SimDisk::new(), dice(seed), 0, 0);
    for operations in losses {
        disk.lose_power_after(*operations);
        let ran = run(&disk, end, step, &mut committed);
        if !disk.power_is_gone() {
            ran.unwrap();
        }
        lost += usize::from(disk.power_is_gone());
        disk.power_loss(&mut dice);
    }
    run(&disk, end, step, &mut committed).unwrap();
    assert_all(&disk, end);
    lost
}

#[test]
fn power_lost_after_any_operation_loses_and_doubles_nothing() {
    let lost: usize = (0..120).map(|operations| run_with_losses(operations, 24, 8, &[operations])).sum();
    assert!((60..120).contains(&lost), "{lost} of 120 runs lost power: the bound misses the scenario's length");
}

#[test]
fn power_lost_again_and_again_loses_and_doubles_nothing() {
    let seeds = std::env::var("ISOLANE_SEEDS").ok().and_then(|text| text.parse().ok()).unwrap_or(200);
    for seed in 0..seeds {
        let mut dice = dice(seed ^ 0x5eed);
        let losses: Vec<u64> = (0..3).map(|_| u64::from(dice.next_u32() % 70)).collect();
        run_with_losses(seed, 20 + seed % 9, 3 + seed % 7, &losses);
    }
}

#[test]
fn the_machines_disk_behaves_as_the_simulated_one() {
    let folder = tempfile::tempdir().unwrap();
    let dir = folder.path().join("a.b.c/files");
    for n in 0..3 {
        let mut sink = FilesSink::new(Arc::new(RealDisk), dir.clone(), identity(1));
        assert_eq!(sink.recover().unwrap().position(PLACE).offset, n * 14);
        feed(&mut sink, n * 14, n * 14 + 7).unwrap();
        feed(&mut sink, n * 14 + 7, n * 14 + 14).unwrap();
    }
    let report = verify(&RealDisk, &dir).unwrap();
    assert_eq!((report.findings, report.commits, report.rows), (vec![], 6, 30));
}

#[test]
fn a_full_disk_stops_the_leg_and_room_lets_it_go_on() {
    for room in (200..40_000).step_by(1_300) {
        let disk = SimDisk::new();
        let mut committed = 0;
        run(&disk, 14, 7, &mut committed).unwrap();
        disk.set_room(Some(disk.bytes() + room));
        for _ in 0..3 {
            if let Err(error) = run(&disk, 42, 7, &mut committed) {
                assert!(matches!(error, SinkError::Disk { .. }), "{error}");
            }
        }
        disk.set_room(None);
        run(&disk, 42, 7, &mut committed).unwrap();
        assert_all(&disk, 42);
    }
}

#[test]
fn a_failed_sync_is_not_trusted() {
    for syncs in 0..40 {
        let disk = SimDisk::new();
        let mut committed = 0;
        disk.fail_sync_after(syncs);
        let first = run(&disk, 21, 7, &mut committed);
        assert!(syncs > 12 || first.is_err(), "sync {syncs} did not count");
        // The failure that the first run did not reach stops the second.
        run(&disk, 21, 7, &mut committed).or_else(|_| run(&disk, 21, 7, &mut committed)).unwrap();
        disk.power_loss(&mut dice(syncs));
        run(&disk, 28, 7, &mut committed).or_else(|_| run(&disk, 28, 7, &mut committed)).unwrap();
        assert_all(&disk, 28);
    }
}

#[test]
fn an_older_writer_is_shut_out() {
    let disk = SimDisk::new();
    let (mut old, mut newer, mut newest) = (sink(&disk), sink(&disk), sink(&disk));
    old.recover().unwrap();
    feed(&mut old, 0, 7).unwrap();
    newer.recover().unwrap();
    newest.recover().unwrap();
    assert!(matches!(feed(&mut old, 7, 14), Err(SinkError::Fenced { .. })));
    assert!(matches!(feed(&mut old, 7, 14), Err(SinkError::NotRecovered)));
    newest.recover().unwrap();
    feed(&mut newest, 7, 14).unwrap();
    assert!(feed(&mut newer, 14, 21).is_err());
    assert_all(&disk, 14);
}

#[test]
fn another_life_begins_anew_in_the_same_folder() {
    let disk = SimDisk::new();
    run(&disk, 14, 7, &mut 0).unwrap();
    let mut next = FilesSink::new(Arc::new(disk.clone()), dir(), identity(2));
    let state = next.recover().unwrap();
    assert_eq!((state.commit, state.position(PLACE).offset, state.sources.len()), (2, 0, 0));
    feed(&mut next, 14, 21).unwrap();
    let report = verify(&disk, &dir()).unwrap();
    assert_eq!((report.findings, report.state.commit, report.commits), (vec![], 3, 3));
    let foreign = Identity { leg: "other".into(), ..identity(2) };
    let refused = FilesSink::new(Arc::new(disk.clone()), dir(), foreign).recover();
    assert!(matches!(refused, Err(SinkError::Foreign { .. })));
}

/// Reads a sink's quarantine from `from` to its end, step by step; answers what it found at each step's beginning.
fn read_apart(sink: &mut FilesSink, from: ApartPosition) -> Vec<(ApartPosition, Vec<SetApart>)> {
    let (mut at, end, mut steps) = (from, sink.apart_end().unwrap().end, Vec::new());
    while at < end {
        let Apart { records, next } = sink.read_apart(at, end).unwrap();
        assert!(next > at && (next == end || !records.is_empty()), "a step that is none, at {at:?}");
        steps.push((at, records));
        at = next;
    }
    steps
}

#[test]
fn a_quarantine_is_read_in_steps_of_bounded_bytes_and_from_any_of_them() {
    let disk = SimDisk::new();
    let mut sink = sink(&disk);
    sink.recover().unwrap();
    let record = |n: u64, bytes: usize| SetApart { body: Bytes::from(vec![n as u8; bytes]), ..set_apart(n) };
    let mut all = Vec::new();
    // Many small ones, some in several files of one commit, large ones, an exact number of rows.
    for (commit, sizes) in
        [(0, vec![1; 1_000]), (1, vec![200_000; 30]), (2, vec![7; 16]), (3, vec![apart::BYTES_MAX; 3])]
    {
        let records: Vec<SetApart> = (0..).zip(sizes).map(|(n, bytes)| record(1_000 * commit + n, bytes)).collect();
        for some in records.chunks(records.len().div_ceil(3)) {
            sink.set_apart(some).unwrap();
            sink.step(|sink, live| sink.close_largest(live)).unwrap();
        }
        let fates = FateCounts { quarantined: records.len() as u64, ..FateCounts::default() };
        sink.commit(&Commit { fates, ..Commit::default() }).unwrap();
        all.extend(records);
    }
    let steps = read_apart(&mut sink, ApartPosition::default());
    let bytes = |records: &[SetApart]| records.iter().map(|record| record.body.len()).sum::<usize>();
    assert!(steps.len() > 5 && steps.iter().all(|(_, records)| bytes(records) < 5 * apart::BYTES_MAX));
    assert!(steps.iter().flat_map(|(_, records)| records).eq(&all), "all of it, in order");
    for (number, (at, _)) in steps.iter().enumerate() {
        let again = read_apart(&mut sink, *at);
        let rest = steps[number..].iter().flat_map(|(_, records)| records);
        assert!(again.iter().flat_map(|(_, records)| records).eq(rest), "from {at:?} on");
    }
    let mut next_life = FilesSink::new(Arc::new(disk.clone()), dir(), identity(2));
    let start = next_life.recover().unwrap().replay.next;
    assert_eq!(read_apart(&mut next_life, start), [], "what an earlier life set apart is not this one's");
}

#[test]
fn fates_that_contradict_the_rows_are_refused() {
    let disk = SimDisk::new();
    let mut sink = sink(&disk);
    sink.recover().unwrap();
    let fates = FateCounts { delivered: 1, ..FateCounts::default() };
    let refused = sink.commit(&Commit { fates, ..Commit::default() });
    assert!(matches!(refused, Err(SinkError::Contradiction { stated: 1, written: 0, .. })));
}

#[test]
fn a_long_manifest_goes_on_in_another_segment() {
    let disk = SimDisk::new();
    let mut sink = sink(&disk);
    sink.recover().unwrap();
    let many = |from: u64| {
        let ranges = (from..from + 80_000).map(|n| Range::new(n * 10, n * 10 + 5)).collect();
        SourceState { taken: ranges, ..SourceState::default() }
    };
    for i in 0..8 {
        let sources = BTreeMap::from([(origin(0).source, many(i * 80_000))]);
        let dropped = SourceState::default();
        let sources = if i % 2 == 0 { sources } else { BTreeMap::from([(origin(1).source, dropped)]) };
        let forgotten = vec![origin(0).source];
        sink.commit(&Commit { sources, forgotten, ..Commit::default() }).unwrap();
    }
    assert_eq!(manifest::segments(&disk, &dir()).unwrap().len(), 2);
    let report = verify(&disk, &dir()).unwrap();
    assert_eq!((report.findings, report.commits), (vec![], 8));
}

/// A folder with three commits, and the path of one of its files of rows.
fn committed_folder() -> (SimDisk, PathBuf) {
    let disk = SimDisk::new();
    run(&disk, 21, 7, &mut 0).unwrap();
    (disk, PathBuf::from("dt=1970-01-01/hour=01/part-0000000002-1.parquet"))
}

fn faults(disk: &SimDisk) -> Vec<Fault> {
    verify(disk, &dir()).unwrap().findings.iter().map(|finding| finding.fault).collect()
}

fn copy(disk: &SimDisk, from: &Path, to: &Path) {
    let bytes = read_all(disk, &dir().join(from)).unwrap();
    disk.create_dir_all(dir().join(to).parent().unwrap()).unwrap();
    disk.create(&dir().join(to)).unwrap().append(&bytes).unwrap();
}

#[test]
fn verify_names_what_is_missing_changed_or_doubled() {
    let (disk, file) = committed_folder();
    disk.remove(&dir().join(&file)).unwrap();
    assert_eq!(faults(&disk), [Fault::Missing]);

    let (disk, file) = committed_folder();
    disk.flip_bit(&dir().join(&file), 6, 1).unwrap();
    assert_eq!(faults(&disk), [Fault::Changed]);

    let (disk, file) = committed_folder();
    copy(&disk, &file, Path::new("dt=1970-01-01/hour=09/copy.parquet"));
    let findings = verify(&disk, &dir()).unwrap().findings;
    assert_eq!(findings[0].fault, Fault::Stray);
    let double = findings.iter().find(|finding| finding.fault == Fault::Doubled).unwrap();
    assert!(double.source.is_some() && double.range.is_some());
    assert!(double.to_string().contains("also lies in dt=1970-01-01/hour=01/part-0000000002"), "{double}");
}

#[test]
fn a_duplicate_written_into_a_committed_file_is_found() {
    let (disk, file) = committed_folder();
    let other = PathBuf::from("dt=1970-01-01/hour=01/part-0000000001-1.parquet");
    disk.remove(&dir().join(&other)).unwrap();
    copy(&disk, &file, &other);
    let findings = verify(&disk, &dir()).unwrap().findings;
    assert!(findings.iter().any(|finding| finding.fault == Fault::Changed && finding.file == other.to_string_lossy()));
}

#[test]
fn a_committed_file_that_is_gone_stops_recovery() {
    let disk = SimDisk::new();
    run(&disk, 7, 7, &mut 0).unwrap();
    let file = dir().join("dt=1970-01-01/hour=01/part-0000000001-1.parquet");
    disk.remove(&file).unwrap();
    match sink(&disk).recover() {
        Err(SinkError::Missing { file: named, ranges }) => {
            assert_eq!(named, file);
            assert!(ranges.contains(&origin(0).source.to_string()), "{ranges}");
        }
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_damaged_or_absent_manifest_stops_recovery() {
    let (disk, _) = committed_folder();
    let segment = dir().join("_isolane/manifest-0000000001.log");
    disk.flip_bit(&segment, 600, 1).unwrap();
    assert!(matches!(sink(&disk).recover(), Err(SinkError::Damaged { .. })));

    let (disk, _) = committed_folder();
    let end = read_all(&disk, &segment).unwrap().len();
    disk.flip_bit(&segment, end - 3, 1).unwrap();
    let refused = sink(&disk).recover();
    assert!(matches!(refused, Err(SinkError::Unknown { .. })), "{refused:?}");

    let (disk, _) = committed_folder();
    disk.remove(&segment).unwrap();
    assert!(matches!(sink(&disk).recover(), Err(SinkError::Unknown { .. })));
}
