//! Fuzz targets of what the journal finds on its disk, and of what Kafka hands it. Each test is one (decision 0011): with
//! the other tests it runs its corpus in `__fuzz__` and some noise, under `cargo xtask fuzz` whatever reaches new code.

use std::path::Path;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use bolero::check;
use stream::clock::HeldClock;
use stream::config::OrderKey;
use stream::disk::{Disk, SharedDisk, SimDisk};
use stream::{Batch, BatchBuilder, Incarnation, Kind, SourceId, frame};

use crate::embedded::format::{FileName, Header, KIND_RUN, KIND_WAL, VERSION};
use crate::embedded::writer::Step;
use crate::embedded::{EmbeddedLog, LogSettings, TopicSettings, Topics};
use crate::{Dump, order_key};

const DIR: &str = "/journal";
const TOPIC: &str = "a.b.c@0000000000000001";

/// Files of a journal as `bytes` describe them, file by file: a number for its name and how it is laid out, the length of
/// its content, the content. Whole frames around payloads of the content's own lead past the checksums.
fn files(bytes: &[u8]) -> SimDisk {
    let disk = SimDisk::new();
    let dir = Path::new(DIR);
    disk.create_dir_all(dir).expect("a new disk has room");
    let mut rest = bytes;
    while let [how, low, high, content @ ..] = rest {
        let length = usize::from(u16::from_le_bytes([*low, *high])).min(content.len());
        let (content, behind) = content.split_at(length);
        rest = behind;
        let number = u64::from(how >> 4 & 3) + 1;
        let (path, kind) = match how & 3 {
            0 | 1 => (FileName::Wal(number).path(dir), Some(KIND_WAL)),
            2 => (FileName::Run(number, u32::from(how >> 6)).path(dir), Some(KIND_RUN)),
            _ => (dir.join("state"), None),
        };
        let mut file = Vec::new();
        if let Some(kind) = kind.filter(|_| how & 4 != 0) {
            Header { kind, version: VERSION, number, previous: number - 1, previous_bytes: 0 }.write(&mut file);
        }
        match how & 8 {
            0 => file.extend_from_slice(content),
            _ => framed(content, &mut file),
        }
        if let Ok(mut made) = disk.create(&path) {
            made.append(&file).and_then(|()| made.sync()).expect("a new disk has room");
        }
    }
    disk
}

/// Frames around parts of `content`, each with its length before it.
fn framed(mut content: &[u8], file: &mut Vec<u8>) {
    while let [low, high, payloads @ ..] = content {
        let length = usize::from(u16::from_le_bytes([*low, *high])).min(payloads.len());
        let (payload, behind) = payloads.split_at(length);
        if !payload.is_empty() {
            frame::write(file, payload);
        }
        content = behind;
    }
}

fn open(disk: &SimDisk) -> Option<Arc<EmbeddedLog>> {
    let (disk, clock): (SharedDisk, _) = (Arc::new(disk.clone()), Arc::new(HeldClock::at(1_700_000_000_000)));
    let log = EmbeddedLog::open(disk, DIR.into(), clock, LogSettings::default()).ok()?;
    let keep_all =
        TopicSettings { retention: Duration::from_secs(1 << 30), retention_bytes: u64::MAX, retention_waits: true };
    log.configure(Topics::from([(Arc::from(TOPIC), keep_all)]));
    Some(log)
}

/// Every entry of the topic, read to its end.
fn read(log: &EmbeddedLog) -> Vec<(u64, Vec<u8>)> {
    let (mut all, mut offset) = (Vec::new(), 0);
    loop {
        let chunk = log.read(TOPIC, 0, offset, 1 << 20).expect("a disk in memory is read");
        assert!(chunk.next_offset >= offset);
        if chunk.next_offset == offset {
            return all;
        }
        offset = chunk.next_offset;
        all.extend(chunk.entries.into_iter().map(|entry| (entry.offset, entry.batch.to_vec())));
    }
}

fn append(log: &EmbeddedLog, batch: &Batch) -> bool {
    let answer = Arc::new(Mutex::new(None));
    let reply = Arc::clone(&answer);
    log.append(TOPIC, 0, batch, Box::new(move |result| *reply.lock().expect("nobody panics") = Some(result)));
    for _ in 0..10 {
        match log.commit_once() {
            Step::Blocked => log.copy_sealed(),
            Step::Worked | Step::Idle => {}
        }
    }
    matches!(answer.lock().expect("nobody panics").take(), Some(Ok(_)))
}

/// Whatever lies in the folder, the log opens or says why not; then it takes a batch and finds it again after a restart.
#[test]
fn recovery() {
    let mut builder = BatchBuilder::new(7);
    builder.push(Kind::Event, 12, None, b"here");
    let batch =
        builder.take(&"a.b.c".parse().expect("an id"), Incarnation(1), SourceId::derive(1, &[])).expect("one record");
    check!(name = "recovery").for_each(|bytes: &[u8]| {
        let disk = files(bytes);
        let Some(log) = open(&disk) else { return };
        let before = read(&log);
        if !append(&log, &batch) {
            return;
        }
        let after = read(&log);
        assert_eq!(after[..before.len()], before[..]);
        assert_eq!(after.last().map(|(_, stored)| stored.clone()), Some(batch.to_wire().to_bytes()));
        log.tend();
        let again = open(&disk).expect("it was open a moment ago");
        assert_eq!(read(&again), after);
    });
}

/// The independent reader of the same files.
#[test]
fn dump() {
    check!(name = "dump").for_each(|bytes: &[u8]| {
        let Ok(dump) = Dump::of_disk(Arc::new(files(bytes)), Path::new(DIR), None) else { return };
        for line in dump {
            let line = line.expect("a disk in memory is read");
            assert!(serde_json::from_str::<serde_json::Value>(&line).is_ok_and(|line| line.is_object()), "{line}");
        }
    });
}

#[test]
fn order_key() {
    let json = OrderKey::Json { field: "user".to_owned() };
    let columns = [1, 2, 5].map(|number| OrderKey::Column { number, by: ", ".to_owned() });
    check!(name = "order_key").for_each(|body: &[u8]| {
        let found = order_key::hash_of(&json, body);
        assert_eq!(found, order_key::hash_of(&json, body));
        for (column, key) in [0, 1, 4].into_iter().zip(&columns) {
            let text = String::from_utf8_lossy(body);
            let is_there = text.split(", ").nth(column).is_some();
            assert_eq!(order_key::hash_of(key, body).is_some(), is_there);
        }
    });
}

/// A batch as the journal's door takes it, and as it comes out of Kafka: the records of one are the records of the other.
#[cfg(feature = "kafka")]
#[test]
fn kafka_entries() {
    use crate::kafka::records::{Laid, entries};
    use kafka::batch::{BatchWriter, read_batches};
    use kafka::produce::Records;
    use stream::config::Compression;
    use stream::wire::v1;

    let topic =
        crate::Topic { key: TOPIC.to_owned(), stream: "a.b.c".parse().expect("an id"), incarnation: Incarnation(1) };
    check!(name = "kafka_entries").for_each(|bytes: &[u8]| {
        let mut writer = BatchWriter::new(0, 0);
        let ours = v1::Batch::from_bytes(bytes.to_vec().into()).ok().and_then(|wire| Batch::from_wire(wire).ok());
        if let Some(batch) = &ours {
            Laid(batch.clone(), Compression::None).write(&mut writer);
        } else {
            // Somebody else's records, or what looks like ours: a header a line.
            for line in bytes.split(|byte| *byte == b'\n') {
                let (header, body) = line.split_at(line.iter().position(|byte| *byte == b' ').unwrap_or(line.len()));
                writer.push(0, None, Some(body), &[(b"il", header)]);
            }
        }
        let read = read_batches(writer.finish(None)).expect("what was written is read");
        let records: Vec<_> = read.into_iter().flat_map(|batch| batch.records).collect();
        let entries = entries(&topic, &records);
        for entry in &entries {
            let travelled = Batch::from_wire(entry.batch.to_wire()).expect("an entry is a batch");
            assert!(travelled.records().eq(entry.batch.records()));
        }
        if let Some(batch) = ours {
            let ranges = entries.iter().flat_map(|entry| entry.batch.views().map(|record| record.range));
            assert!(ranges.eq(batch.views().map(|record| record.range)));
        }
    });
}
