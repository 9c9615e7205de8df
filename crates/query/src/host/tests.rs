//! The host over a journal in memory and the files sink on the simulated disk; admin is away throughout.

use std::collections::HashMap;
use std::sync::Mutex;

use journal::{Appended, Bounds, Capabilities, Chunk, Entry, KeptPosition, Reader};
use sink::files::verify::verify;
use stream::config::Compression;
use stream::config::{Engine, StreamSpec};
use stream::disk::{Disk as _, SimDisk};
use stream::facts::{Place, Position};
use stream::provenance::SourceId;
use stream::wire::Refusal;
use stream::{Batch, BatchBuilder, Incarnation, Kind};
use tokio::sync::mpsc;

use super::*;

const HERE: Place = Place { cluster: 0, partition: 0 };

/// A journal in memory.
#[derive(Clone, Default)]
struct Memory(Arc<Mutex<Held>>);

#[derive(Default)]
struct Held {
    topics: HashMap<String, Vec<Entry>>,
    kept: Vec<KeptPosition>,
    /// How often a reading panics behind its first chunk.
    panics: usize,
}

impl Memory {
    fn kept(&self, topic: &str) -> Option<KeptPosition> {
        self.0.lock().unwrap().kept.iter().rev().find(|kept| kept.topic == topic).cloned()
    }

    fn panic_if_due(&self) {
        let is_due = {
            let mut held = self.0.lock().unwrap();
            let is_due = held.panics > 0;
            held.panics = held.panics.saturating_sub(1);
            is_due
        };
        assert!(!is_due, "a test's panic, caught");
    }

    fn entries(&self, topic: &str, offset: u64) -> Vec<Entry> {
        let held = self.0.lock().unwrap();
        let entries = held.topics.get(topic).into_iter().flatten();
        entries.filter(|entry| entry.end_offset() > offset).cloned().collect()
    }
}

impl Journal for Memory {
    fn capabilities(&self) -> Capabilities {
        Capabilities { retention_waits: true, packs: false }
    }

    fn places(&self, _: &StreamConfig) -> Vec<Place> {
        vec![HERE]
    }

    async fn prepare(&self, _: &Snapshot) -> Result<(), Refusal> {
        Ok(())
    }

    async fn append(&self, topic: &str, _: Place, batch: &Batch, _: Compression) -> Result<Appended, Refusal> {
        let mut held = self.0.lock().unwrap();
        let entries = held.topics.entry(topic.to_owned()).or_default();
        let offset = entries.last().map_or(0, Entry::end_offset);
        entries.push(Entry { offset, append_time_ms: 1, batch: batch.clone() });
        Ok(Appended { offset, end_offset: offset + batch.len() as u64, append_time_ms: 1 })
    }

    fn read(&self, topic: &Topic, from: Position) -> Reader {
        let mut offset = from.offset;
        let (sender, chunks) = mpsc::channel(1);
        let (memory, topic) = (self.clone(), topic.key.clone());
        let task = tokio::spawn(async move {
            loop {
                let entries = memory.entries(&topic, offset);
                offset = entries.last().map_or(offset, Entry::end_offset);
                let chunk = Chunk { entries, end_offset: offset, ..Chunk::default() };
                if sender.send(Ok(chunk)).await.is_err() {
                    return;
                }
                memory.panic_if_due();
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        });
        Reader::new(chunks, task)
    }

    async fn bounds(&self, _: &[String]) -> Result<Vec<Bounds>, Refusal> {
        Ok(Vec::new())
    }

    async fn keep(&self, position: KeptPosition) -> Result<(), Refusal> {
        self.0.lock().unwrap().kept.push(position);
        Ok(())
    }
}

fn config(id: &str, version: u64, sql: Option<&str>) -> StreamConfig {
    let mut spec = StreamSpec::new(id.parse().unwrap());
    spec.sql = sql.map(str::to_owned);
    StreamConfig { incarnation: Incarnation(1), version, spec }
}

fn snapshot(version: u64, streams: &[StreamConfig]) -> Arc<Snapshot> {
    let streams = streams.iter().map(|config| (config.spec.id.clone(), config.clone())).collect();
    Arc::new(Snapshot { version, streams, ..Snapshot::default() })
}

/// Five records of ten ordinals from `n * 5` on.
async fn append(journal: &Memory, config: &StreamConfig, n: u64) {
    let mut builder = BatchBuilder::new(n * 50);
    (0..5).for_each(|i| builder.push(Kind::Event, n * 50 + (i + 1) * 10, None, b"a line"));
    let batch = builder.take(&config.spec.id, config.incarnation, SourceId::derive(1, &[])).unwrap();
    journal.append(&config.topic_key(), HERE, &batch, Compression::None).await.unwrap();
}

struct Running {
    disk: SimDisk,
    journal: Memory,
    config: watch::Sender<Arc<Snapshot>>,
    shutdown: oneshot::Sender<()>,
    serving: JoinHandle<()>,
}

fn run(disk: SimDisk, journal: Memory, first: Arc<Snapshot>) -> Running {
    let (config, watching) = watch::channel(first);
    let (shutdown, down) = oneshot::channel::<()>();
    let settings = QuerySettings {
        journal: journal.clone(),
        admin: AdminClient::new("http://127.0.0.1:1"),
        out_root: PathBuf::from("/out"),
        disk: Arc::new(disk.clone()),
        checkpoint: Some(Duration::from_millis(20)),
    };
    let serving = tokio::spawn(serve(settings, watching, async { drop(down.await) }));
    Running { disk, journal, config, shutdown, serving }
}

impl Running {
    async fn until(&self, what: &str, holds: impl Fn(&Self) -> bool) {
        let deadline = Instant::now() + Duration::from_secs(20);
        while !holds(self) {
            assert!(Instant::now() < deadline, "not within 20 s: {what}");
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }

    fn rows(&self, id: &str) -> u64 {
        verify(&self.disk, &PathBuf::from(format!("/out/{id}/files"))).map_or(0, |report| report.state.fates.delivered)
    }

    async fn stop(self) {
        self.shutdown.send(()).unwrap();
        self.serving.await.unwrap();
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn legs_follow_the_configuration() {
    let (a, b) = (config("a.b.a", 1, None), config("a.b.b", 1, None));
    let running = run(SimDisk::new(), Memory::default(), snapshot(1, std::slice::from_ref(&a)));
    append(&running.journal, &a, 0).await;
    append(&running.journal, &b, 0).await;
    running.until("the first stream's rows", |r| r.rows("a.b.a") == 5).await;
    assert_eq!(running.rows("a.b.b"), 0);

    running.config.send_replace(snapshot(2, &[a.clone(), b.clone()]));
    running.until("the second stream's rows", |r| r.rows("a.b.b") == 5).await;
    running
        .until("the first stream's position", |r| r.journal.kept(&a.topic_key()).is_some_and(|k| k.offset == 5))
        .await;

    let mut elsewhere = a.clone();
    elsewhere.spec.engine = Engine::Flink;
    running.config.send_replace(snapshot(3, &[elsewhere, b.clone()]));
    running
        .until("the journal knows the reader is gone", |r| r.journal.kept(&a.topic_key()).is_some_and(|k| k.gone))
        .await;
    append(&running.journal, &a, 1).await;
    running.config.send_replace(snapshot(4, &[a.clone(), b.clone()]));
    running.until("the first stream goes on", |r| r.rows("a.b.a") == 10).await;
    running.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_job_that_cannot_run_stops_no_other_and_mended_goes_on() {
    let (good, bad) = (config("a.b.good", 1, None), config("a.b.bad", 1, Some("nonsense")));
    let running = run(SimDisk::new(), Memory::default(), snapshot(1, &[good.clone(), bad.clone()]));
    append(&running.journal, &good, 0).await;
    append(&running.journal, &bad, 0).await;
    running.until("the good stream's rows", |r| r.rows("a.b.good") == 5).await;
    assert_eq!(running.rows("a.b.bad"), 0);
    running.config.send_replace(snapshot(2, &[good, config("a.b.bad", 2, None)]));
    running.until("the mended stream's rows", |r| r.rows("a.b.bad") == 5).await;
    running.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_stop_commits_and_a_start_goes_on_from_there() {
    let (disk, journal, a) = (SimDisk::new(), Memory::default(), config("a.b.a", 1, None));
    for n in 0..3 {
        let running = run(disk.clone(), journal.clone(), snapshot(1, std::slice::from_ref(&a)));
        append(&journal, &a, n).await;
        running.until("its rows", |r| r.rows("a.b.a") == 5 * (n + 1)).await;
        running.stop().await;
    }
    let report = verify(&disk, &PathBuf::from("/out/a.b.a/files")).unwrap();
    assert_eq!((report.findings, report.rows, report.state.fates.doubles), (vec![], 15, 0));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_full_disk_holds_a_leg_only_while_it_is_full() {
    let (disk, a) = (SimDisk::new(), config("a.b.a", 1, None));
    let running = run(disk.clone(), Memory::default(), snapshot(1, std::slice::from_ref(&a)));
    append(&running.journal, &a, 0).await;
    running.until("its first rows", |r| r.rows("a.b.a") == 5).await;
    disk.set_room(Some(disk.bytes()));
    append(&running.journal, &a, 1).await;
    let folder = PathBuf::from("/out/a.b.a/files/dt=1970-01-01/hour=00");
    let is_stuck = |r: &Running| r.disk.list(&folder).unwrap().iter().any(|name| name.ends_with(".inflight"));
    running.until("a file that found no room", is_stuck).await;
    assert_eq!(running.rows("a.b.a"), 5);
    disk.set_room(None);
    running.until("its other rows", |r| r.rows("a.b.a") == 10).await;
    running.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_reading_that_panics_is_begun_again() {
    let (journal, a) = (Memory::default(), config("a.b.a", 1, None));
    journal.0.lock().unwrap().panics = 2;
    append(&journal, &a, 0).await;
    let running = run(SimDisk::new(), journal.clone(), snapshot(1, std::slice::from_ref(&a)));
    running.until("both panics", |r| r.journal.0.lock().unwrap().panics == 0).await;
    append(&journal, &a, 1).await;
    running.until("all rows", |r| r.rows("a.b.a") == 10).await;
    running.stop().await;
}

#[tokio::test]
async fn a_panic_ends_one_leg_only_and_says_so() {
    let key = LegKey { stream: "a.b.c".parse().unwrap(), incarnation: Incarnation(1), sink: "files".to_owned() };
    let ended = on_own_thread(&key, async { panic!("a test's panic, caught") }).unwrap();
    assert!(ended.await.is_err());
}
