//! The journal role over loopback: what a gateway and a leg do with it.

use std::sync::Arc;
use std::time::Duration;

use crate::seam::here;
use crate::{
    Dump, Journal, JournalClient, JournalSettings, KeptPosition, LogSettings, Reader, ServeError, Topic, serve,
};
use stream::config::{Compression, Snapshot, StreamConfig, StreamSpec};
use stream::facts::Position;
use stream::wire::RefusalReason;
use stream::{Batch, BatchBuilder, Incarnation, Kind, SourceId};
use tokio::net::TcpListener;
use tokio::sync::{oneshot, watch};
use tokio::task::JoinHandle;
use tokio::time::timeout;

const DEADLINE: Duration = Duration::from_secs(20);

fn config() -> (StreamConfig, Snapshot) {
    let spec = StreamSpec::new("ads.web.clicks".parse().unwrap());
    let stream = StreamConfig { incarnation: Incarnation(7), version: 1, spec };
    let streams = [(stream.spec.id.clone(), stream.clone())].into();
    (stream, Snapshot { version: 1, streams, ..Snapshot::default() })
}

fn read_topic(key: &str) -> Topic {
    Topic { key: key.to_owned(), stream: "ads.web.clicks".parse().unwrap(), incarnation: Incarnation(7) }
}

fn batch(start: u64, bodies: &[&str]) -> Batch {
    let mut builder = BatchBuilder::new(start);
    for (i, body) in bodies.iter().enumerate() {
        builder.push(Kind::Event, start + i as u64 + 1, None, body.as_bytes());
    }
    let source = SourceId::derive(1, &[b"test"]);
    builder.take(&"ads.web.clicks".parse().unwrap(), Incarnation(7), source).unwrap()
}

struct Role {
    stop: oneshot::Sender<()>,
    served: JoinHandle<Result<(), ServeError>>,
    _config: watch::Sender<Arc<Snapshot>>,
}

async fn start(dir: &std::path::Path, port: u16) -> (Role, String) {
    let listener = TcpListener::bind(("127.0.0.1", port)).await.unwrap();
    let addr = listener.local_addr().unwrap().to_string();
    let (sender, receiver) = watch::channel(Arc::new(config().1));
    let (stop, stopped) = oneshot::channel();
    let settings = JournalSettings { dir: dir.to_owned(), log: LogSettings::default() };
    let served = tokio::spawn(serve(settings, listener, receiver, async move { drop(stopped.await) }));
    (Role { stop, served, _config: sender }, addr)
}

impl Role {
    async fn stop(self) {
        self.stop.send(()).unwrap();
        timeout(DEADLINE, self.served).await.expect("it does not stop").unwrap().unwrap();
    }
}

async fn read_records(reader: &mut Reader, count: usize) -> Vec<(u64, String)> {
    let mut records = Vec::new();
    while records.len() < count {
        // A refusal is a lost connection: the reader goes on by itself.
        let Ok(chunk) = timeout(DEADLINE, reader.next()).await.expect("nothing is read") else { continue };
        for entry in chunk.entries {
            let texts = entry.batch.records().map(|record| String::from_utf8(record.body.to_vec()).unwrap());
            records.extend((entry.offset..).zip(texts.collect::<Vec<_>>()));
        }
    }
    records
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn records_go_in_and_out_and_survive_a_restart() {
    let dir = tempfile::tempdir().unwrap();
    let topic = config().0.topic_key();
    let (role, addr) = start(dir.path(), 0).await;
    let port = addr.rsplit(':').next().unwrap().parse().unwrap();
    let client = JournalClient::connect(&addr).unwrap();
    let mut reader = client.read(&read_topic(&topic), Position::at(here(0), 0));
    let first = timeout(DEADLINE, reader.next()).await.unwrap().unwrap();
    assert_eq!((first.entries.len(), first.start_offset, first.end_offset), (0, 0, 0));

    let (one, two) = (batch(0, &["a", "b"]), batch(2, &["c"]));
    let (first, second) = tokio::join!(
        client.append(&topic, here(0), &one, Compression::None),
        client.append(&topic, here(0), &two, Compression::None)
    );
    assert_eq!((first.unwrap().offset, second.unwrap().offset), (0, 2));
    let expected: Vec<(u64, String)> = (0..).zip(["a", "b", "c"].map(str::to_owned)).collect();
    assert_eq!(read_records(&mut reader, 3).await, expected);

    let refusal = client.append("other@1", here(0), &one, Compression::None).await.unwrap_err();
    assert_eq!(refusal.reason, RefusalReason::UnknownStream);
    let refusal =
        client.append(&topic, here(0), &batch(0, &[&"x".repeat(4 << 20)]), Compression::None).await.unwrap_err();
    assert_eq!(refusal.reason, RefusalReason::TooLarge);
    let (reader_name, kept) = ("files".to_owned(), topic.clone());
    let position = KeptPosition { topic: kept, place: here(0), reader: reader_name, offset: 3, gone: false };
    client.keep(position).await.unwrap();

    role.stop().await;
    let refusal = client.append(&topic, here(0), &one, Compression::None).await.unwrap_err();
    assert_eq!(refusal.reason, RefusalReason::Unavailable);
    let lines: Vec<serde_json::Value> = Dump::open(dir.path(), Some("ads.web.clicks"))
        .unwrap()
        .map(|line| serde_json::from_str(&line.unwrap()).unwrap())
        .collect();
    assert_eq!(lines.iter().map(|line| line["body"].as_str().unwrap()).collect::<Vec<_>>(), ["a", "b", "c"]);
    assert!(lines[2]["il"].as_str().unwrap().starts_with('e') && lines[2]["offset"] == 2);

    let (role, _) = start(dir.path(), port).await;
    let appended = loop {
        match timeout(DEADLINE, client.append(&topic, here(0), &batch(3, &["d"]), Compression::None)).await.unwrap() {
            Ok(appended) => break appended,
            Err(refusal) => assert_eq!(refusal.reason, RefusalReason::Unavailable),
        }
    };
    assert_eq!((appended.offset, appended.end_offset), (3, 4));
    assert_eq!(read_records(&mut reader, 1).await, [(3, "d".to_owned())]);
    let bounds = client.bounds(std::slice::from_ref(&topic)).await.unwrap();
    assert_eq!((bounds.len(), bounds[0].start_offset, bounds[0].end_offset), (1, 0, 4));
    role.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_directory_has_one_owner() {
    let dir = tempfile::tempdir().unwrap();
    let (role, addr) = start(dir.path(), 0).await;
    let client = JournalClient::connect(addr).unwrap();
    assert_eq!(client.bounds(&[]).await.unwrap().len(), 1);
    let (second, _) = start(dir.path(), 0).await;
    let error = timeout(DEADLINE, second.served).await.unwrap().unwrap().unwrap_err();
    assert!(matches!(error, ServeError::Locked(_)), "{error}");
    role.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn many_appends_at_once_are_all_answered_in_order() {
    let dir = tempfile::tempdir().unwrap();
    let topic = config().0.topic_key();
    let (role, addr) = start(dir.path(), 0).await;
    let client = JournalClient::connect(addr).unwrap();
    let body = "x".repeat(1_000);
    let batches: Vec<Batch> = (0..2_000).map(|i| batch(i, &[&body])).collect();
    let mut tasks = tokio::task::JoinSet::new();
    for batch in &batches {
        let (client, topic, batch) = (client.clone(), topic.clone(), batch.clone());
        tasks.spawn(async move { client.append(&topic, here(0), &batch, Compression::None).await.unwrap().offset });
    }
    let mut offsets = timeout(DEADLINE, tasks.join_all()).await.unwrap();
    offsets.sort_unstable();
    assert_eq!(offsets, (0..2_000).collect::<Vec<_>>());
    let read = read_records(&mut client.read(&read_topic(&topic), Position::at(here(0), 0)), 2_000).await;
    assert!(read.iter().all(|(_, text)| *text == body));
    role.stop().await;
}
