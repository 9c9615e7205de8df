//! The contract of the HTTP door, status by status.

use std::collections::HashSet;
use std::io::Write;

use ::http::{Method, Request, StatusCode};
use bytes::Bytes;
use flate2::Compression;
use flate2::write::GzEncoder;
use http_body_util::{BodyExt, Full};
use hyper_util::client::legacy::Client;
use hyper_util::rt::TokioExecutor;
use serde_json::json;
use stream::limits::BATCH_BYTES_MAX;
use stream::wire::RefusalReason;
use stream::{Incarnation, Kind, Ranges};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use super::{gateway, gateway_with, id, snapshot, spec, until};

fn gzip(body: &[u8]) -> Vec<u8> {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::fast());
    encoder.write_all(body).unwrap();
    encoder.finish().unwrap()
}

#[tokio::test]
async fn records_are_durable_when_the_answer_comes() {
    let gateway = gateway().await;
    let answer = gateway.post("a", &[], "one\n\ntwo").await;
    assert_eq!((answer.status, answer.json), (StatusCode::OK, json!({"records": 3, "offset_end": 3})));
    let answer = gateway.post("a", &[("content-encoding", "gzip")], gzip(b"three\n")).await;
    assert_eq!(answer.json, json!({"records": 1, "offset_end": 4}));
    let body = zstd::encode_all(&b"\xff\xfe\n"[..], 3).unwrap();
    assert_eq!(gateway.post("a", &[("content-encoding", "zstd")], body).await.status, StatusCode::OK);
    assert_eq!(gateway.journal.bodies("a"), ["one", "", "two", "three", "\u{fffd}\u{fffd}"]);
    let ranges: Vec<_> =
        gateway.journal.batches("a").iter().map(|batch| (batch.range.start, batch.range.end)).collect();
    assert_eq!(ranges, [(0, 8), (8, 14), (14, 17)], "the ranges of one source join");
    gateway.stop().await;
}

#[tokio::test]
async fn every_refusal_has_its_status_and_leaves_nothing() {
    let mut small = spec("small");
    small.spec.limits.record_bytes_max = 3;
    let gateway = gateway_with([spec("a"), small], |_| ()).await;
    let gz = [("content-encoding", "gzip")];
    let long = vec![b'x'; BATCH_BYTES_MAX + 1];
    let bomb = gzip(&vec![b'\n'; 32 << 20]);
    let unkeyed: &[(&str, &str)] = &[];
    let key = |key| [("idempotency-key", key)];
    type Case<'a> = (&'a str, &'a [(&'a str, &'a str)], Vec<u8>, u16, &'a str);
    let cases: Vec<Case<'_>> = vec![
        ("nobody", unkeyed, b"x".to_vec(), 404, "unknown_stream"),
        ("a", unkeyed, Vec::new(), 400, "malformed"),
        ("a", &gz, b"not gzip at all, this".to_vec(), 400, "malformed"),
        ("a", &gz, gzip(b"cut short")[..12].to_vec(), 400, "malformed"),
        ("a", &[("content-encoding", "br")], b"x".to_vec(), 415, "unknown_encoding"),
        ("a", &[("content-encoding", "gzip, gzip")], b"x".to_vec(), 415, "unknown_encoding"),
        ("a", unkeyed, long, 413, "too_large"),
        ("a", &gz, bomb, 413, "too_large"),
        ("a", unkeyed, vec![b'\n'; 10_001], 413, "too_large"),
        ("small", unkeyed, b"1234\n".to_vec(), 413, "too_large"),
        ("small", unkeyed, b"123\n4567\n8".to_vec(), 413, "too_large"),
    ];
    for (name, headers, body, status, reason) in cases {
        let answer = gateway.post(name, headers, body).await;
        assert_eq!((answer.status.as_u16(), answer.json["reason"].as_str()), (status, Some(reason)), "{answer:?}");
        assert!(answer.json["error"].is_string() && answer.json["scope"].is_string(), "{answer:?}");
        assert_eq!(answer.retry_after, None);
    }
    let ok = key("k");
    for headers in [&key("a b")[..], &key(""), &[ok[0], ok[0]], &[ok[0], ("idempotency-time", "yesterday")]] {
        assert_eq!(gateway.post("a", headers, "x\n").await.status, StatusCode::BAD_REQUEST, "{headers:?}");
    }
    let answer = gateway.call(Method::POST, "/v1/streams/NOT+AN+ID/records", &[], "x").await;
    assert_eq!(answer.status, StatusCode::NOT_FOUND);
    let answer = gateway.call(Method::GET, &format!("/v1/streams/{}/records", id("a")), &[], "").await;
    assert_eq!(
        (answer.status, answer.json["reason"].as_str()),
        (StatusCode::METHOD_NOT_ALLOWED, Some("method_not_allowed"))
    );
    assert_eq!(gateway.call(Method::GET, "/elsewhere", &[], "").await.status, StatusCode::NOT_FOUND);
    assert_eq!(gateway.call(Method::GET, "/health", &[], "").await.status, StatusCode::OK);
    let answer = gateway.call(Method::GET, "/health", &[("host", "evil.example")], "").await;
    assert_eq!((answer.status, answer.json["reason"].as_str()), (StatusCode::FORBIDDEN, Some("foreign_host")));
    assert!(gateway.journal.order().is_empty(), "something was let in");
    gateway.stop().await;
}

#[tokio::test]
async fn paths_are_told_apart_by_all_of_their_parts() {
    let gateway = gateway().await;
    let encoded = id("a").to_string().replace('.', "%2E");
    for (method, path, status, allow) in [
        (Method::POST, format!("/v1/streams/{encoded}/records"), 200, None),
        (Method::POST, "/v1/streams/%ff/records".to_owned(), 400, None),
        (Method::POST, "/v1/streams//records".to_owned(), 404, None),
        (Method::POST, format!("/v1/streams/{encoded}"), 404, None),
        (Method::POST, format!("/v1/streams/{encoded}/records/"), 404, None),
        (Method::POST, format!("/v2/streams/{encoded}/records"), 404, None),
        (Method::PUT, format!("/v1/streams/{encoded}/records"), 405, Some("POST")),
        (Method::HEAD, format!("/v1/streams/{encoded}/beacon"), 405, Some("GET, OPTIONS, POST")),
        (Method::HEAD, "/health".to_owned(), 200, None),
        (Method::POST, "/health".to_owned(), 405, Some("GET, HEAD")),
        (Method::GET, "/health/".to_owned(), 404, None),
    ] {
        let answer = gateway.call(method, &path, &[], "x").await;
        assert_eq!((answer.status.as_u16(), answer.allow.as_deref()), (status, allow), "{path}");
    }
    assert_eq!(gateway.journal.bodies("a"), ["x"]);
    gateway.stop().await;
}

#[tokio::test]
async fn a_head_has_no_body_over_http_2_either() {
    let gateway = gateway().await;
    let client = Client::builder(TokioExecutor::new()).http2_only(true).build_http::<Full<Bytes>>();
    for (path, status, length) in [("/health", 200, Some("3")), ("/elsewhere", 404, None)] {
        let request = Request::head(format!("http://{}{path}", gateway.http)).body(Full::default()).unwrap();
        let (head, body) = client.request(request).await.unwrap().into_parts();
        assert_eq!(head.status.as_u16(), status);
        let stated = head.headers.get("content-length").map(|length| length.to_str().unwrap());
        assert!(stated.is_some() && length.is_none_or(|length| stated == Some(length)), "{stated:?}");
        assert!(body.collect().await.unwrap().to_bytes().is_empty());
    }
    drop(client);
    gateway.stop().await;
}

#[tokio::test]
async fn every_protocol_brings_the_same_kind_of_records() {
    let gateway = gateway().await;
    let path = |what: &str| format!("/v1/streams/{}/{what}", id("a"));
    let array = gateway.call(Method::POST, &path("json"), &[("idempotency-key", "k")], r#"[{"n": 1}, {"n": 2}]"#).await;
    assert_eq!((array.status, &array.json["records"]), (StatusCode::OK, &json!(2)));
    let page = [("origin", "https://shop.example"), ("content-type", "text/plain")];
    assert_eq!(gateway.call(Method::OPTIONS, &path("beacon"), &page, "").await.status, StatusCode::NO_CONTENT);
    let beacon = gateway.call(Method::POST, &path("beacon"), &page, "one\nevent").await;
    assert_eq!(beacon.status, StatusCode::NO_CONTENT);
    let picture = gateway.call(Method::GET, &path("beacon?page=%2Fhome"), &[], "").await;
    assert_eq!(picture.status, StatusCode::NO_CONTENT);
    let logs = r#"{"resourceLogs": [{"scopeLogs": [{"logRecords": [{"body": {"stringValue": "paid"}}]}]}]}"#;
    let json_type = [("content-type", "application/json")];
    let otlp = gateway.call(Method::POST, &path("otlp/v1/logs"), &json_type, logs).await;
    assert_eq!((otlp.status, otlp.json), (StatusCode::OK, json!({})));
    let bodies = gateway.journal.bodies("a");
    assert_eq!(bodies[..4], [r#"{"n": 1}"#, r#"{"n": 2}"#, "one\nevent", r#"{"page":"/home"}"#]);
    assert!(bodies[4].contains(r#""body":"paid""#), "{}", bodies[4]);
    let nothing = gateway.call(Method::POST, &path("otlp/v1/logs"), &json_type, "{}").await;
    assert_eq!(nothing.status, StatusCode::OK, "an exporter that has nothing is answered so");
    for (what, headers, body) in [
        ("json", &json_type[..0], "[1, "),
        ("json", &json_type[..0], "[]"),
        ("otlp/v1/logs", &json_type[..0], "no protobuf"),
        ("otlp/v1/logs", &json_type[..], "no json"),
        ("beacon", &json_type[..0], ""),
    ] {
        let answer = gateway.call(Method::POST, &path(what), headers, body).await;
        assert_eq!(answer.status, StatusCode::BAD_REQUEST, "{what} {body}");
    }
    let empty = gateway.call(Method::GET, &path("beacon"), &[], "").await;
    assert_eq!((empty.status, empty.json["reason"].as_str()), (StatusCode::BAD_REQUEST, Some("malformed")));
    gateway.stop().await;
}

#[tokio::test]
async fn a_key_makes_one_small_finished_source() {
    let gateway = gateway().await;
    let key = [("idempotency-key", "order-17")];
    let first = gateway.post("a", &key, "one\ntwo\n").await;
    assert_eq!((first.status, &first.json), (StatusCode::OK, &json!({"records": 2, "offset_end": 3})));
    let again = gateway.post("a", &[key[0], ("content-encoding", "gzip")], gzip(b"one\ntwo\n")).await;
    assert_eq!((again.status, again.json), (StatusCode::OK, first.json), "the same answer, whatever the encoding");
    let other = gateway.post("a", &key, "three\n").await;
    assert_eq!((other.status.as_u16(), other.json["reason"].as_str()), (422, Some("key_reused")));
    assert_eq!(gateway.post("b", &key, "three\n").await.status, StatusCode::OK, "keys are per stream");

    let batches = gateway.journal.batches("a");
    assert_eq!(batches.len(), 1);
    let kinds: Vec<_> =
        batches[0].records().map(|record| (record.kind, record.range.start, record.range.end)).collect();
    assert_eq!(kinds, [(Kind::Event, 0, 4), (Kind::Event, 4, 8), (Kind::End, 8, 8)]);

    gateway.clock.advance(3_600_000);
    assert_eq!(gateway.post("a", &key, "three\n").await.status, StatusCode::OK, "an older key is new again");
    let batches = gateway.journal.batches("a");
    assert_ne!(batches[0].source, batches[1].source);
    gateway.stop().await;
}

#[tokio::test]
async fn the_same_key_is_the_same_source_for_another_gateway() {
    let mut sources = HashSet::new();
    for later_ms in [0, 20 * 60_000, 90 * 60_000] {
        let gateway = gateway().await;
        gateway.clock.advance(later_ms);
        let made = [("idempotency-key", "k"), ("idempotency-time", "1700000000")];
        assert_eq!(gateway.post("a", &made, "x\n").await.status, StatusCode::OK);
        sources.insert(gateway.journal.batches("a")[0].source);
        gateway.stop().await;
    }
    assert_eq!(sources.len(), 1, "a stated time makes the birth independent of when the retry comes");
}

#[tokio::test]
async fn requests_with_one_key_share_one_outcome() {
    let gateway = gateway().await;
    gateway.journal.hold(&["gateway.a"]);
    let key = [("idempotency-key", "k")];
    let all = async { tokio::join!(gateway.post("a", &key, "x\n"), gateway.post("a", &key, "x\n")) };
    let release = async {
        until("one append", || gateway.journal.order().len() == 1).await;
        assert_eq!(gateway.post("a", &key, "y\n").await.status.as_u16(), 422);
        gateway.journal.hold(&[]);
    };
    let ((one, two), ()) = tokio::join!(all, release);
    assert_eq!((one.status, one.json), (StatusCode::OK, two.json));
    assert_eq!(gateway.journal.batches("a").len(), 1);
    gateway.stop().await;
}

#[tokio::test]
async fn a_full_queue_is_said_with_a_time_to_come_back() {
    let mut tight = spec("a");
    tight.spec.limits.queue_bytes_max = BATCH_BYTES_MAX;
    let gateway = gateway_with([tight, spec("b")], |_| ()).await;
    gateway.journal.hold(&["gateway.a"]);
    let large = vec![b'x'; BATCH_BYTES_MAX / 2 + 1];
    let full = async {
        until("one in flight", || gateway.journal.order().len() == 1).await;
        let answer = gateway.post("a", &[], large.clone()).await;
        assert_eq!((answer.status.as_u16(), answer.json["reason"].as_str()), (429, Some("queue_full")));
        assert_eq!(answer.retry_after, Some(1));
        assert_eq!(gateway.post("b", &[], large.clone()).await.status, StatusCode::OK, "the other stream has its own");
        gateway.journal.hold(&[]);
    };
    let (first, ()) = tokio::join!(gateway.post("a", &[], large.clone()), full);
    assert_eq!(first.status, StatusCode::OK);
    assert_eq!(gateway.post("a", &[], large).await.status, StatusCode::OK, "there is room again");
    gateway.stop().await;
}

#[tokio::test]
async fn a_journal_that_fails_and_comes_back_is_not_noticed() {
    let gateway = gateway().await;
    for reason in [RefusalReason::Unavailable, RefusalReason::UnknownStream, RefusalReason::QueueFull] {
        gateway.journal.refuse("gateway.a", reason, 2);
        assert_eq!(gateway.post("a", &[], "x\n").await.status, StatusCode::OK, "{reason:?}");
    }
    gateway.journal.lose_answers(1);
    assert_eq!(gateway.post("a", &[], "y\n").await.status, StatusCode::OK);
    let batches = gateway.journal.batches("a");
    let doubled = &batches[batches.len() - 2..];
    assert_eq!(doubled[0], doubled[1], "a lost answer repeats the very same batch");
    gateway.stop().await;
}

#[tokio::test]
async fn what_cannot_be_stored_is_refused_whole_and_its_range_stays_void() {
    let gateway =
        gateway_with([spec("a")], |settings| settings.batch_deadline = std::time::Duration::from_millis(150)).await;
    gateway.journal.refuse("gateway.a", RefusalReason::DiskFull, 1);
    let full = gateway.post("a", &[], "full\n").await;
    assert_eq!(
        (full.status.as_u16(), full.json["reason"].as_str(), full.retry_after),
        (503, Some("disk_full"), Some(2))
    );
    gateway.journal.refuse("gateway.a", RefusalReason::Unavailable, usize::MAX);
    let away = gateway.post("a", &[], "away\n").await;
    assert_eq!(
        (away.status.as_u16(), away.json["reason"].as_str(), away.retry_after),
        (503, Some("unavailable"), Some(1))
    );
    let key = [("idempotency-key", "k")];
    assert_eq!(gateway.post("a", &key, "keyed\n").await.status, StatusCode::SERVICE_UNAVAILABLE);
    gateway.journal.refuse("gateway.a", RefusalReason::Unavailable, 0);
    assert_eq!(gateway.post("a", &key, "keyed\n").await.status, StatusCode::OK);
    assert_eq!(gateway.post("a", &[], "back\n").await.status, StatusCode::OK);
    assert_eq!(gateway.journal.bodies("a"), ["keyed", "back"]);
    let back = &gateway.journal.batches("a")[1];
    assert_eq!((back.range.start, back.range.end), (10, 15), "the two refused bodies of 5 bytes keep their ranges");
    gateway.stop().await;
}

#[tokio::test]
async fn requests_of_one_stream_are_packed_and_ranges_still_join() {
    let gateway = gateway().await;
    gateway.journal.hold(&["gateway.a"]);
    let posts = (0..200).map(|i| gateway.post("a", &[], format!("{i}\n")));
    let all = async { futures_all(posts.collect()).await };
    let release = async {
        gateway.admin.until_held("a", 200 * crate::admit::cost(2, 1) as u64).await;
        gateway.journal.hold(&[]);
    };
    let (answers, ()) = tokio::join!(all, release);
    assert!(answers.iter().all(|answer| answer.status == StatusCode::OK));
    let batches = gateway.journal.batches("a");
    assert!(batches.len() < 200, "nothing was packed");
    let covered: Ranges = batches.iter().map(|batch| batch.range).collect();
    assert_eq!(covered.as_slice().len(), 1, "{covered:?}");
    let ends: HashSet<u64> = answers.iter().filter_map(|answer| answer.json["offset_end"].as_u64()).collect();
    assert_eq!(ends, (1..=200).collect(), "each request has its own end");
    gateway.stop().await;
}

async fn futures_all<F: Future>(futures: Vec<F>) -> Vec<F::Output> {
    let mut futures: Vec<_> = futures.into_iter().map(Box::pin).collect();
    let mut outputs: Vec<Option<F::Output>> = futures.iter().map(|_| None).collect();
    std::future::poll_fn(move |context| {
        for (future, output) in futures.iter_mut().zip(&mut outputs) {
            if output.is_none()
                && let std::task::Poll::Ready(done) = future.as_mut().poll(context)
            {
                *output = Some(done);
            }
        }
        match outputs.iter().all(Option::is_some) {
            true => std::task::Poll::Ready(std::mem::take(&mut outputs).into_iter().flatten().collect()),
            false => std::task::Poll::Pending,
        }
    })
    .await
}

#[tokio::test]
async fn streams_come_and_go_while_the_gateway_runs() {
    let gateway = gateway().await;
    gateway.journal.hold(&["gateway.a"]);
    let drained = async {
        until("in flight", || gateway.journal.order().len() == 1).await;
        gateway.config.send_replace(snapshot(2, [spec("b"), spec("c")]));
        while gateway.post("c", &[], "c\n").await.status != StatusCode::OK {}
        assert_eq!(gateway.post("a", &[], "late\n").await.status, StatusCode::NOT_FOUND);
        let mut again = spec("a");
        again.incarnation = Incarnation(8);
        gateway.config.send_replace(snapshot(3, [again]));
        while gateway.post("b", &[], "b\n").await.status == StatusCode::OK {}
        gateway.journal.hold(&[]);
    };
    let (answer, ()) = tokio::join!(gateway.post("a", &[], "a\n"), drained);
    assert_eq!(answer.status, StatusCode::OK, "what was queued is drained");
    assert_eq!(gateway.post("a", &[], "new\n").await.status, StatusCode::OK);
    assert_eq!(gateway.journal.bodies("a"), ["a"], "the new life has a topic of its own");
    gateway.stop().await;
}

#[tokio::test]
async fn what_is_in_flight_is_finished_at_shutdown() {
    let gateway = gateway().await;
    gateway.journal.hold(&["gateway.a"]);
    let (journal, client, uri) = (
        gateway.journal.clone(),
        gateway.client.clone(),
        format!("http://{}/v1/streams/{}/records", gateway.http, id("a")),
    );
    let request = ::http::Request::post(uri).body(http_body_util::Full::from("x\n")).unwrap();
    let post = tokio::spawn(async move { client.request(request).await.unwrap().status() });
    until("in flight", || journal.order().len() == 1).await;
    let http_at = gateway.http;
    let release = async {
        let deadline = tokio::time::Instant::now() + std::time::Duration::from_secs(10);
        while tokio::net::TcpStream::connect(http_at).await.is_ok() {
            assert!(tokio::time::Instant::now() < deadline, "never: the door is closed");
            tokio::time::sleep(std::time::Duration::from_millis(1)).await;
        }
        journal.hold(&[]);
    };
    tokio::join!(gateway.stop(), release);
    assert_eq!(post.await.unwrap(), StatusCode::OK);
}

#[tokio::test]
async fn a_client_that_dawdles_is_let_go() {
    let dawdle = |settings: &mut crate::GatewaySettings| {
        settings.head_within = std::time::Duration::from_millis(100);
        settings.body_within = std::time::Duration::from_millis(100);
    };
    let gateway = gateway_with([spec("a")], dawdle).await;
    let head =
        format!("POST /v1/streams/{}/records HTTP/1.1\r\nhost: localhost\r\ncontent-length: 9\r\n\r\nx", id("a"));
    for (sent, expected) in [("", ""), ("PRI", ""), ("POST / HT", ""), (head.as_str(), "HTTP/1.1 408")] {
        let mut connection = tokio::net::TcpStream::connect(gateway.http).await.unwrap();
        connection.write_all(sent.as_bytes()).await.unwrap();
        let mut heard = Vec::new();
        let end = tokio::time::timeout(std::time::Duration::from_secs(5), connection.read_to_end(&mut heard)).await;
        assert!(end.is_ok(), "{sent:?} kept its connection");
        assert!(String::from_utf8_lossy(&heard).starts_with(expected), "{sent:?}: {heard:?}");
    }
    gateway.stop().await;
}
