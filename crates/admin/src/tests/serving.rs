//! The server itself: who is let in, how it starts, how it ends.

use std::io::{Seek, SeekFrom, Write};
use std::time::{Duration, Instant};

use stream::clock::HeldClock;
use stream::config::Snapshot;
use tokio::net::TcpListener;

use super::harness::{Admin, START_MS, fact, report, settings};
use crate::{AdminError, AdminSettings, serve};

async fn start_error(settings: AdminSettings, address: &str) -> AdminError {
    let listener = TcpListener::bind(address).await.unwrap();
    serve(settings, listener, async {}).await.unwrap_err()
}

#[tokio::test]
async fn foreign_pages_and_unknown_paths_are_answered_as_such() {
    let dir = tempfile::tempdir().unwrap();
    let admin = Admin::start(dir.path()).await;
    let (json, local) = ("Content-Type: application/json", "Host: 127.0.0.1:7700");
    let spec = r#"{"id": "a.b.c"}"#;
    for (request_line, headers, body, status) in [
        ("GET /api/v1/streams", vec!["Host: evil.example"], "", 403),
        ("POST /api/v1/streams", vec![local], spec, 415),
        ("POST /api/v1/streams", vec![local, json, "Origin: http://evil.example"], spec, 403),
        ("POST /api/v1/streams", vec![local, json, "Origin: http://127.0.0.1:7700"], spec, 201),
        ("GET /api/v1/nothing", vec![local], "", 404),
        ("PATCH /api/v1/streams", vec![local, json], "", 405),
        ("GET /api/v1/config?after=x", vec![local], "", 400),
    ] {
        let (found, answer) = admin.raw(request_line, &headers, body).await;
        assert_eq!(found, status, "{request_line} {headers:?}: {answer}");
        assert!(status < 400 || answer.contains(r#"{"error":""#), "{answer}");
    }
    admin.stop().await;
}

#[tokio::test]
async fn the_pages_are_whole_without_script() {
    let dir = tempfile::tempdir().unwrap();
    let admin = Admin::start(dir.path()).await;
    let local = "Host: localhost:1";
    let (_, empty) = admin.raw("GET /", &[local], "").await;
    assert!(empty.contains("No stream yet"), "{empty}");
    let config = admin.create(r#"{"id": "a.b.c", "sql": "SELECT '<script>'"}"#).await.unwrap();
    admin.client.send::<()>(http::Method::POST, "/api/v1/facts", &[fact(&config, 1, 10)]).await.unwrap();
    admin.end_at(&config, 1);
    let report = report(&config, 1, 1, &[]);
    admin.client.send::<serde_json::Value>(http::Method::POST, "/api/v1/legs", &report).await.unwrap();

    let (status, page) = admin.raw("GET /?stream=a.b.c&find=%3Cb%3E", &[local], "").await;
    assert!(status == 200 && page.contains("content-security-policy: default-src 'self'"), "{page}");
    assert!(page.contains("&lt;b&gt;") && !page.contains("<b>\""), "what was searched is escaped");
    let (status, page) = admin.raw("GET /streams/a.b.c", &[local], "").await;
    assert_eq!(status, 200);
    for text in ["Missing in leg files", "[0, 10)", "/var/log/1.log", "SELECT '&lt;script&gt;'"] {
        assert!(page.contains(text), "no {text} in {page}");
    }
    assert!(!page.contains("style=") && !page.contains("onclick"), "the content policy would refuse it");
    assert_eq!(admin.raw("GET /streams/a.b.x", &[local], "").await.0, 404);
    for (path, kind) in [("/page.js", "text/javascript"), ("/page.css", "text/css")] {
        let (status, file) = admin.raw(&format!("GET {path}"), &[local], "").await;
        assert!(status == 200 && file.contains(kind), "{path}");
    }
    admin.stop().await;
}

#[tokio::test]
async fn it_ends_although_somebody_waits() {
    let dir = tempfile::tempdir().unwrap();
    let admin = Admin::start(dir.path()).await;
    let client = admin.client.clone();
    let poll = tokio::spawn(async move { client.get::<Snapshot>("/api/v1/config?after=0&wait_ms=9000").await });
    let health: serde_json::Value = admin.get("/health").await;
    assert_eq!(health["role"], "admin");
    let started = Instant::now();
    admin.stop().await;
    assert!(started.elapsed() < Duration::from_secs(4), "{:?}", started.elapsed());
    drop(poll.await);
}

#[tokio::test]
async fn a_damaged_database_is_named() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("admin.db");
    let clock = HeldClock::at(START_MS);
    std::fs::write(
        &file,
        "this is no database, but it is longer than a header of one hundred bytes, so that it is read as one",
    )
    .unwrap();
    let error = start_error(settings(dir.path(), &clock), "127.0.0.1:0").await;
    assert!(matches!(&error, AdminError::Damaged { .. }) && error.to_string().contains("admin.db"), "{error}");

    std::fs::remove_file(&file).unwrap();
    let admin = Admin::start(dir.path()).await;
    for i in 0..30 {
        admin.create(&format!(r#"{{"id": "a.b.c{i}"}}"#)).await.unwrap();
    }
    admin.stop().await;
    let mut damaged = std::fs::OpenOptions::new().write(true).open(&file).unwrap();
    damaged.seek(SeekFrom::Start(4096)).unwrap();
    damaged.write_all(&[0xff; 16 * 1024]).unwrap();
    drop(damaged);
    let error = start_error(settings(dir.path(), &clock), "127.0.0.1:0").await;
    assert!(matches!(&error, AdminError::Damaged { .. }), "{error:?}");
}

#[tokio::test]
async fn what_cannot_be_served_is_an_error_at_the_start() {
    let dir = tempfile::tempdir().unwrap();
    let clock = HeldClock::at(START_MS);
    let error = start_error(settings(dir.path(), &clock), "0.0.0.0:0").await;
    assert!(matches!(error, AdminError::Exposed(_)), "{error}");

    let admin = Admin::start(dir.path()).await;
    admin.get::<serde_json::Value>("/health").await;
    let error = start_error(settings(dir.path(), &clock), "127.0.0.1:0").await;
    assert!(matches!(error, AdminError::InUse { .. }), "{error}");
    admin.stop().await;

    let blocked = dir.path().join("file");
    std::fs::write(&blocked, "").unwrap();
    let error = start_error(settings(&blocked, &clock), "127.0.0.1:0").await;
    assert!(matches!(error, AdminError::Dir { .. }), "{error}");
}
