//! Streams as data: what is stored, refused, published, and kept over a restart.

use std::time::{Duration, Instant};

use http::Method;
use stream::StreamId;
use stream::config::{Checked, Snapshot, StreamConfig, StreamSpec};

use super::harness::{Admin, refused};

const JSON: &str = "Content-Type: application/json";
const HOST: &str = "Host: localhost";

#[tokio::test]
async fn a_stream_lives_from_creation_to_deletion() {
    let dir = tempfile::tempdir().unwrap();
    let admin = Admin::start(dir.path()).await;
    let first = admin.create(r#"{"id": "ads.web.clicks"}"#).await.unwrap();
    assert_eq!(first.version, 1);
    assert_eq!(admin.get::<Vec<StreamConfig>>("/api/v1/streams").await, std::slice::from_ref(&first));
    assert_eq!(admin.get::<StreamConfig>("/api/v1/streams/ads.web.clicks").await, first);

    let mut spec = first.spec.clone();
    spec.limits.checkpoint_ms = 2_000;
    let put = |spec: StreamSpec| {
        let client = admin.client.clone();
        async move { client.send::<StreamConfig>(Method::PUT, "/api/v1/streams/ads.web.clicks", &spec).await.unwrap() }
    };
    let second = put(spec.clone()).await;
    assert_eq!((second.incarnation, second.version, &second.spec), (first.incarnation, 2, &spec));
    assert_eq!(put(spec).await, second, "the same spec again changes nothing");
    assert_eq!(admin.get::<Snapshot>("/api/v1/config").await.version, 2);

    let deleted: () = admin.client.send(Method::DELETE, "/api/v1/streams/ads.web.clicks", &()).await.unwrap();
    assert_eq!(deleted, ());
    let gone = admin.client.get::<StreamConfig>("/api/v1/streams/ads.web.clicks").await;
    assert_eq!(refused(gone).0, 404);
    let anew = admin.create(r#"{"id": "ads.web.clicks"}"#).await.unwrap();
    assert_ne!(anew.incarnation, first.incarnation, "created again it is another stream");
    assert_eq!(admin.get::<Snapshot>("/api/v1/config").await.version, 4);
    admin.stop().await;
}

#[tokio::test]
async fn what_is_taken_with_a_warning_says_so() {
    let dir = tempfile::tempdir().unwrap();
    let admin = Admin::start(dir.path()).await;
    let spec: StreamSpec = serde_json::from_str(r#"{"id": "a.b.c", "sql": "odd"}"#).unwrap();
    let made: Checked = admin.client.send(Method::POST, "/api/v1/streams", &spec).await.unwrap();
    assert_eq!((made.config.version, made.warnings), (1, vec!["line 1: odd".to_owned()]));
    let same: Checked = admin.client.send(Method::PUT, "/api/v1/streams/a.b.c", &spec).await.unwrap();
    assert_eq!(same.warnings.len(), 1);
    admin.stop().await;
}

#[tokio::test]
async fn what_would_not_work_never_takes_effect() {
    let dir = tempfile::tempdir().unwrap();
    let admin = Admin::start(dir.path()).await;
    admin.create(r#"{"id": "a.b.c", "topic": "shared"}"#).await.unwrap();
    let compacted = r#"{"id": "a.b.e", "engine": "flink", "sinks": [{"name": "files", "kind": "files", "path": "/data/e", "compaction": true}]}"#;
    admin.create(compacted).await.unwrap();
    let in_folder =
        |path: &str| format!(r#"{{"id": "a.b.f", "sinks": [{{"name": "files", "kind": "files", "path": "{path}"}}]}}"#);
    for path in ["/data/e/", "/data", "/data/e/more"] {
        let (found, message) = refused(admin.create(&in_folder(path)).await);
        assert!(found == 409 && message.contains("of stream a.b.e; where `compaction`"), "{path}: {found} {message}");
    }
    admin.create(&in_folder("/data/ee")).await.unwrap();
    let moved = compacted.replace("/data/e", "/data/ee");
    let (found, answer) = admin.raw("PUT /api/v1/streams/a.b.e", &[HOST, JSON], &moved).await;
    assert!(found == 409 && answer.contains("of stream a.b.f"), "{found} {answer}");
    for (spec, status, says) in [
        (r#"{"id": "a.b.c"}"#, 409, "exists"),
        (r#"{"id": "a.b.d", "topic": "shared"}"#, 409, "belongs to stream a.b.c"),
        (r#"{"id": "a.b.d", "sql": "bad"}"#, 400, "sql: line 1"),
        (r#"{"id": "a.b.d", "sql": "panic"}"#, 400, "the check of this text failed"),
        (r#"{"id": "a.b.d", "sinks": []}"#, 400, "sinks"),
        (r#"{"id": "a.b.d", "inputs": [{"kind": "file", "paths": ["relative"]}]}"#, 400, "absolute"),
    ] {
        let (found, message) = refused(admin.create(spec).await);
        assert!(found == status && message.contains(says), "{spec}: {found} {message}");
    }
    for (request_line, body, status) in [
        ("POST /api/v1/streams", r#"{"id": "a.b.d", "colour": 1}"#, 400),
        ("POST /api/v1/streams", r#"{"id": "a.b"}"#, 400),
        ("POST /api/v1/streams", "{", 400),
        ("PUT /api/v1/streams/a.b.x", r#"{"id": "a.b.x"}"#, 404),
        ("PUT /api/v1/streams/a.b.x", r#"{"id": "a.b.c"}"#, 400),
        ("PUT /api/v1/streams/a.b.c", r#"{"id": "a.b.c", "topic": "other"}"#, 409),
        ("DELETE /api/v1/streams/a.b.x", "", 404),
        ("GET /api/v1/streams/a.b", "", 400),
    ] {
        let (found, answer) = admin.raw(request_line, &[HOST, JSON], body).await;
        assert!(found == status && answer.contains(r#"{"error":""#), "{request_line} {body}: {answer}");
    }
    let long = format!(r#"{{"id": "a.b.d", "sql": "{}"}}"#, "x".repeat(2 << 20));
    assert_eq!(admin.raw("POST /api/v1/streams", &[HOST, JSON], &long).await.0, 413);
    assert_eq!(admin.get::<Snapshot>("/api/v1/config").await.version, 3);
    admin.stop().await;
}

#[tokio::test]
async fn nobody_overwrites_what_it_has_not_read() {
    let dir = tempfile::tempdir().unwrap();
    let admin = Admin::start(dir.path()).await;
    admin.create(r#"{"id": "a.b.c"}"#).await.unwrap();
    let put = async |if_match: &str, priority: &str| {
        let body = format!(r#"{{"id": "a.b.c", "priority": "{priority}"}}"#);
        admin.raw("PUT /api/v1/streams/a.b.c", &[HOST, JSON, &format!("If-Match: {if_match}")], &body).await
    };
    let (status, answer) = put("\"1\"", "high").await;
    assert!(status == 200 && answer.to_lowercase().contains("etag: \"2\""), "{answer}");
    assert_eq!(put("\"1\"", "low").await.0, 412);
    assert_eq!(put("2", "low").await.0, 200);
    assert_eq!(put("*", "high").await.0, 200);
    assert_eq!(put("soon", "low").await.0, 400);
    assert_eq!(admin.get::<StreamConfig>("/api/v1/streams/a.b.c").await.version, 4);
    admin.stop().await;
}

#[tokio::test]
async fn a_long_poll_wakes_with_the_change() {
    let dir = tempfile::tempdir().unwrap();
    let admin = Admin::start(dir.path()).await;
    let unchanged: Snapshot = admin.get("/api/v1/config?after=0&wait_ms=20").await;
    assert_eq!(unchanged.version, 0);
    let other: Snapshot = admin.get("/api/v1/config?after=7&wait_ms=30000").await;
    assert_eq!(other.version, 0, "another version is answered at once");

    let client = admin.client.clone();
    let poll = tokio::spawn(async move { client.get::<Snapshot>("/api/v1/config?after=0&wait_ms=9000").await });
    let started = Instant::now();
    admin.create(r#"{"id": "a.b.c"}"#).await.unwrap();
    let woken = poll.await.unwrap().unwrap();
    assert!(started.elapsed() < Duration::from_secs(1), "{:?}", started.elapsed());
    assert_eq!(woken.streams.keys().map(StreamId::as_str).collect::<Vec<_>>(), ["a.b.c"]);
    admin.stop().await;
}

#[tokio::test]
async fn many_changes_at_once_are_each_stored() {
    let dir = tempfile::tempdir().unwrap();
    let admin = Admin::start(dir.path()).await;
    let creations = (0..40).map(|i| {
        let (client, spec) = (admin.client.clone(), StreamSpec::new(format!("a.b.c{i}").parse().unwrap()));
        tokio::spawn(async move { client.send::<StreamConfig>(Method::POST, "/api/v1/streams", &spec).await })
    });
    let mut lives = std::collections::BTreeSet::new();
    for creation in creations.collect::<Vec<_>>() {
        lives.insert(creation.await.unwrap().unwrap().incarnation);
    }
    assert_eq!(lives.len(), 40, "no incarnation is given twice, even at one instant");
    let before: Snapshot = admin.get("/api/v1/config").await;
    assert_eq!((before.version, before.streams.len()), (40, 40));
    admin.stop().await;

    let admin = Admin::start(dir.path()).await;
    assert_eq!(admin.get::<Snapshot>("/api/v1/config").await, before, "a restart keeps everything");
    admin.stop().await;
}
