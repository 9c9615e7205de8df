//! A whole worker against a fake gateway and a fake admin, on real files.

use std::collections::BTreeSet;
use std::fs::{self, File, OpenOptions};
use std::io::Write;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use rand::rngs::ChaCha8Rng;
use rand::{RngExt, SeedableRng};
use stream::config::{Input, Snapshot, StreamConfig, StreamSpec};
use stream::disk::RealDisk;
use stream::{Incarnation, SourceId, limits};
use tokio::runtime::Runtime;
use tokio::sync::{oneshot, watch};

use super::{Held, WorkError, run};
use crate::fake::{FakeAdmin, FakeGateway, Mood, POISON, eventually};
use crate::settings::{Pace, WorkerSettings};
use crate::supervise::hold::{HeldBySupervisor, Holder};

struct Rig {
    dir: tempfile::TempDir,
    gateway: FakeGateway,
    admin: FakeAdmin,
    spec: StreamSpec,
    version: u64,
    config: watch::Sender<Arc<Snapshot>>,
}

/// A worker in a runtime of its own, so that it can be torn down as by a crash.
struct Worker {
    runtime: Runtime,
    stop: oneshot::Sender<()>,
    ended: tokio::task::JoinHandle<Result<(), WorkError>>,
}

impl Rig {
    async fn new(seed: u64) -> Self {
        let dir = tempfile::tempdir().unwrap();
        fs::create_dir(dir.path().join("logs")).unwrap();
        let mut spec = StreamSpec::new("a.b.c".parse().unwrap());
        spec.inputs = vec![Input::File { paths: vec![dir.path().join("logs/app.log*").display().to_string()] }];
        let config = watch::Sender::new(Arc::new(Snapshot::default()));
        let (gateway, admin) = (FakeGateway::start(seed).await, FakeAdmin::start().await);
        let mut rig = Self { dir, gateway, admin, spec, version: 0, config };
        rig.configure(|_| ());
        rig
    }

    fn configure(&mut self, change: impl FnOnce(&mut StreamSpec)) {
        change(&mut self.spec);
        self.version += 1;
        let config = StreamConfig { incarnation: Incarnation(1), version: self.version, spec: self.spec.clone() };
        let streams = [(self.spec.id.clone(), config)].into();
        self.config.send_replace(Arc::new(Snapshot { version: self.version, streams, ..Snapshot::default() }));
    }

    fn log(&self, name: &str) -> PathBuf {
        self.dir.path().join("logs").join(name)
    }

    fn state_dir(&self) -> PathBuf {
        self.dir.path().join("state")
    }

    fn start(&self) -> Worker {
        self.start_with((HeldBySupervisor::nobody(), Vec::new()))
    }

    fn start_with(&self, held: Held) -> Worker {
        let ms = Duration::from_millis;
        let pace = Pace {
            poll_min: ms(2),
            poll_max: ms(5),
            discover: ms(10),
            finish_after: ms(100),
            positions: ms(10),
            facts: ms(10),
            lease: ms(100),
            unknown_stream: ms(200),
        };
        let settings = WorkerSettings {
            stream: self.spec.id.clone(),
            incarnation: Incarnation(1),
            agent_id: "test".into(),
            state_dir: self.state_dir(),
            gateway: crate::Gateway::at(format!("http://{}", self.gateway.address)),
            admin: self.admin.url(),
            supervisor: None,
            pace,
        };
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
        let (stop, stopped) = oneshot::channel::<()>();
        let config = self.config.subscribe();
        let shutdown = async move { drop(stopped.await) };
        let ended = runtime.spawn(run(settings, Arc::new(RealDisk), config, held, shutdown));
        Worker { runtime, stop, ended }
    }

    async fn until_delivered(&self, contents: &[&str]) {
        let wanted: BTreeSet<Vec<u8>> = contents.iter().map(|text| text.as_bytes().to_vec()).collect();
        let taken = || self.gateway.taken().contents().into_iter().collect::<BTreeSet<_>>();
        eventually(&format!("delivered {contents:?}"), || taken() == wanted).await;
    }

    async fn until_acknowledged(&self, bytes: u64) {
        let acknowledged = || self.admin.facts().values().map(|fact| fact.acknowledged).sum::<u64>();
        eventually(&format!("facts with {bytes} bytes acknowledged"), || acknowledged() == bytes).await;
    }

    fn sources(&self) -> Vec<SourceId> {
        self.gateway.taken().records.keys().copied().collect()
    }
}

impl Worker {
    /// On a thread of its own: the end of a runtime parks the thread that asks for it, and would take the wake-ups of
    /// a test's own futures.
    async fn crash(self) {
        let down = move || self.runtime.shutdown_timeout(Duration::from_secs(10));
        tokio::task::spawn_blocking(down).await.unwrap();
    }

    async fn stop(self) -> Result<(), WorkError> {
        drop(self.stop);
        let ended = self.ended.await.unwrap();
        self.runtime.shutdown_background();
        ended
    }
}

fn append(path: &PathBuf, text: &str) -> File {
    let mut file = OpenOptions::new().create(true).append(true).open(path).unwrap();
    file.write_all(text.as_bytes()).unwrap();
    file
}

#[tokio::test(flavor = "multi_thread")]
async fn a_rotated_file_is_read_to_its_end_and_ended() {
    let rig = Rig::new(1).await;
    let mut old = append(&rig.log("app.log"), "one\n\ntwo\n");
    let worker = rig.start();
    rig.until_delivered(&["one\n\ntwo\n"]).await;
    let first = rig.sources()[0];
    fs::rename(rig.log("app.log"), rig.log("old")).unwrap();
    old.write_all(b"late, without a newline").unwrap();
    append(&rig.log("app.log"), "new\n");
    rig.until_delivered(&["one\n\ntwo\nlate, without a newline", "new\n"]).await;
    eventually("the end", || rig.gateway.taken().ended(first)).await;
    eventually("the fact", || rig.admin.facts()[&first].finished).await;
    let second = *rig.sources().iter().find(|source| **source != first).unwrap();
    assert!(!rig.gateway.taken().ended(second), "a file at its watched path is never ended");
    fs::rename(rig.log("old"), rig.log("app.log.1")).unwrap();
    fs::remove_file(rig.log("app.log")).unwrap();
    eventually("the end of the deleted", || rig.gateway.taken().ended(second)).await;
    worker.stop().await.unwrap();
    assert_eq!(rig.sources().len(), 2, "found again under another name it is no new source");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_file_rotated_while_nobody_ran_is_read_to_its_end() {
    let rig = Rig::new(11).await;
    let mut old = append(&rig.log("app.log"), "one\n");
    let worker = rig.start();
    rig.until_delivered(&["one\n"]).await;
    rig.until_acknowledged(4).await;
    worker.stop().await.unwrap();
    old.write_all(b"two\n").unwrap();
    fs::rename(rig.log("app.log"), rig.log("app.log.1")).unwrap();
    append(&rig.log("app.log"), "three\n");
    let worker = rig.start();
    rig.until_delivered(&["one\ntwo\n", "three\n"]).await;
    worker.stop().await.unwrap();
    assert_eq!(rig.sources().len(), 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_pattern_that_matches_the_rotated_name_reads_nothing_twice() {
    let rig = Rig::new(2).await;
    append(&rig.log("app.log"), "one\ntwo\n");
    let worker = rig.start();
    rig.until_acknowledged(8).await;
    fs::rename(rig.log("app.log"), rig.log("app.log.1")).unwrap();
    append(&rig.log("app.log.1"), "three\n");
    append(&rig.log("app.log"), "four\n");
    rig.until_delivered(&["one\ntwo\nthree\n", "four\n"]).await;
    rig.until_acknowledged(19).await;
    worker.stop().await.unwrap();
    let worker = rig.start();
    append(&rig.log("app.log"), "five\n");
    rig.until_delivered(&["one\ntwo\nthree\n", "four\nfive\n"]).await;
    worker.stop().await.unwrap();
    assert_eq!(rig.gateway.taken().copies, 5, "what was acknowledged is not sent again");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_file_that_is_no_longer_named_is_ended() {
    let mut rig = Rig::new(9).await;
    append(&rig.log("app.log"), "one\n");
    let worker = rig.start();
    rig.until_acknowledged(4).await;
    rig.configure(|spec| spec.inputs = vec![Input::File { paths: vec!["/nowhere/*".into()] }]);
    eventually("its end", || rig.admin.facts().values().all(|fact| fact.finished)).await;
    append(&rig.log("app.log"), "not wanted\n");
    worker.stop().await.unwrap();
    assert_eq!(rig.gateway.taken().contents(), [b"one\n"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_replaced_file_is_another_source() {
    let rig = Rig::new(3).await;
    append(&rig.log("app.log"), "header\none\npart");
    let worker = rig.start();
    rig.until_acknowledged(11).await;
    // Copytruncate, and the file starts with the same line as before.
    fs::write(rig.log("app.log"), "header\n").unwrap();
    rig.until_delivered(&["header\none\npart", "header\n"]).await;
    // It has grown past the old position before anybody looks.
    rig.until_acknowledged(15 + 7).await;
    fs::write(rig.log("app.log"), "header, another one\nlonger\n").unwrap();
    rig.until_delivered(&["header\none\npart", "header\n", "header, another one\nlonger\n"]).await;
    rig.until_acknowledged(15 + 7 + 27).await;
    worker.stop().await.unwrap();
    // And while no worker runs.
    fs::write(rig.log("app.log"), "header, another one\nchanged\n").unwrap();
    let worker = rig.start();
    let all = ["header\none\npart", "header\n", "header, another one\nlonger\n", "header, another one\nchanged\n"];
    rig.until_delivered(&all).await;
    worker.stop().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn sources_are_the_same_with_and_without_state() {
    let rig = Rig::new(4).await;
    append(&rig.log("app.log"), "one\ntwo\n");
    let worker = rig.start();
    rig.until_acknowledged(8).await;
    worker.stop().await.unwrap();
    append(&rig.log("app.log"), "three\n");
    let worker = rig.start();
    rig.until_acknowledged(14).await;
    worker.crash().await;
    fs::remove_dir_all(rig.state_dir()).unwrap();
    append(&rig.log("app.log"), "four\n");
    let worker = rig.start();
    rig.until_delivered(&["one\ntwo\nthree\nfour\n"]).await;
    worker.crash().await;
    for slot in ["state.a", "state.b"] {
        fs::write(rig.state_dir().join(slot), b"damaged").unwrap();
    }
    append(&rig.log("app.log"), "five\n");
    let worker = rig.start();
    rig.until_delivered(&["one\ntwo\nthree\nfour\nfive\n"]).await;
    worker.stop().await.unwrap();
    assert_eq!(rig.sources().len(), 1);
    assert!(rig.gateway.taken().wrongs.is_empty(), "{:?}", rig.gateway.taken().wrongs);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_record_refused_for_good_is_set_apart_alone() {
    let rig = Rig::new(5).await;
    let poison = String::from_utf8_lossy(POISON);
    append(&rig.log("app.log"), &format!("one\ntwo\n{poison}\nthree\n"));
    let worker = rig.start();
    rig.until_acknowledged(21).await;
    worker.stop().await.unwrap();
    assert_eq!(rig.gateway.taken().bodies(), ["one", "two", "three"]);
    let kept = fs::read_to_string(rig.state_dir().join("quarantine.ndjson")).unwrap();
    assert!(kept.contains(r#""text":"poison""#) && kept.contains("[8,15]"), "{kept}");
    let fact = rig.admin.facts().into_values().next().unwrap();
    assert_eq!((fact.set_apart.len(), fact.set_apart[0].range.start), (1, 8));
}

#[tokio::test(flavor = "multi_thread")]
async fn an_unknown_stream_stops_its_worker() {
    let rig = Rig::new(6).await;
    rig.gateway.set_mood(Mood::Unknown);
    append(&rig.log("app.log"), "one\n");
    let worker = rig.start();
    eventually("the worker ends", || worker.ended.is_finished()).await;
    let error = worker.stop().await.unwrap_err();
    assert_eq!(error.exit_code(), super::EXIT_UNKNOWN_STREAM, "{error}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_silent_gateway_is_sent_no_more_than_may_be_outstanding() {
    let rig = Rig::new(7).await;
    rig.gateway.set_mood(Mood::Silent);
    let line = format!("{}\n", "x".repeat(999));
    append(&rig.log("app.log"), &line.repeat(20_000));
    let worker = rig.start();
    let outstanding = limits::WORKER_OUTSTANDING_BYTES_MAX - limits::BATCH_BYTES_MAX;
    eventually("much is outstanding", || rig.gateway.taken().ignored_bytes > outstanding).await;
    worker.crash().await;
    let ignored = rig.gateway.taken().ignored_bytes;
    assert!(ignored < limits::WORKER_OUTSTANDING_BYTES_MAX + limits::BATCH_BYTES_MAX, "{ignored} bytes");
    rig.gateway.set_mood(Mood::Calm);
    let worker = rig.start();
    rig.until_acknowledged(20_000_000).await;
    worker.stop().await.unwrap();
    assert_eq!(rig.gateway.taken().contents(), [line.repeat(20_000).into_bytes()]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_file_deleted_while_sending_is_blocked_survives_its_worker() {
    let rig = Rig::new(8).await;
    let mut holder = Holder::default();
    for round in 0..2 {
        let (ours, theirs) = Holder::pair().unwrap();
        let serving = async { holder.serve(ours).await.unwrap() };
        let working = async {
            let held = tokio::task::spawn_blocking(|| HeldBySupervisor::connect(theirs).unwrap()).await.unwrap();
            if round == 0 {
                rig.gateway.set_mood(Mood::Silent);
                append(&rig.log("app.log"), "one\ntwo");
                let worker = rig.start_with(held);
                eventually("it is sent", || rig.gateway.taken().ignored_bytes > 0).await;
                fs::remove_file(rig.log("app.log")).unwrap();
                worker.crash().await;
            } else {
                rig.gateway.set_mood(Mood::Calm);
                let worker = rig.start_with(held);
                rig.until_delivered(&["one\ntwo"]).await;
                eventually("its end", || rig.admin.facts().values().all(|fact| fact.finished)).await;
                worker.stop().await.unwrap();
            }
        };
        tokio::join!(serving, working);
    }
    assert_eq!(holder.held(), 0, "a finished file is let go of");
}

/// Random writes, rotations, configuration changes and crashes under a wild gateway: in the end each file's records are
/// there, whole and without a gap, and no record was ever sent with other boundaries.
#[tokio::test(flavor = "multi_thread")]
async fn every_line_arrives_whatever_happens() {
    for seed in 0..4 {
        let mut dice = ChaCha8Rng::seed_from_u64(seed);
        let mut rig = Rig::new(seed).await;
        let (mut contents, mut rotations) = (vec![String::new()], 0);
        rig.gateway.set_mood(Mood::Wild);
        let mut worker = rig.start();
        for step in 0..120 {
            let lines: String = (0..dice.random_range(1..60))
                .map(|n| format!("{step} {n} {}\n", "x".repeat(dice.random_range(0..40))))
                .collect();
            append(&rig.log("app.log"), &lines);
            contents[rotations].push_str(&lines);
            match dice.random_range(0..24) {
                0 => {
                    rotations += 1;
                    contents.push(String::new());
                    fs::rename(rig.log("app.log"), rig.log(&format!("app.log.{rotations}"))).unwrap();
                }
                1 => {
                    worker.crash().await;
                    worker = rig.start();
                }
                2 => {
                    let record_bytes_max = dice.random_range(5..50);
                    rig.configure(|spec| spec.limits.record_bytes_max = record_bytes_max);
                }
                _ => tokio::time::sleep(Duration::from_millis(dice.random_range(0..8))).await,
            }
        }
        rig.gateway.set_mood(Mood::Calm);
        contents.retain(|content| !content.is_empty());
        let mut wanted: Vec<Vec<u8>> = contents.into_iter().map(String::into_bytes).collect();
        wanted.sort_unstable();
        let taken = || {
            let taken = rig.gateway.taken();
            assert!(taken.wrongs.is_empty(), "seed {seed}: {:?}", taken.wrongs);
            let bytes: usize = taken.records.values().flat_map(|r| r.values()).map(|r| r.range.len() as usize).sum();
            bytes
        };
        let bytes: usize = wanted.iter().map(Vec::len).sum();
        eventually(&format!("seed {seed}: all bytes"), || taken() == bytes).await;
        rig.until_acknowledged(bytes as u64).await;
        worker.stop().await.unwrap();
        let mut contents = rig.gateway.taken().contents();
        contents.sort_unstable();
        assert!(contents == wanted, "seed {seed}: other contents");
        assert!(rig.gateway.taken().copies > 1000, "seed {seed}: little was sent");
    }
}
