//! Fuzz targets of what clients send. Each test is one (decision 0011): with the other tests it runs its corpus in `__fuzz__`
//! and some noise, under `cargo xtask fuzz` whatever reaches new code.

use std::convert::Infallible;
use std::io::Write;
use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::time::Duration;

use axum::body::Body;
use axum::http::{HeaderMap, HeaderValue, Request, header};
use bolero::check;
use bytes::Bytes;
use flate2::Compression;
use flate2::write::GzEncoder;
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use rand::SeedableRng;
use rand::rngs::ChaCha8Rng;
use stream::Batch;
use stream::clock::HeldClock;
use stream::config::{self as stream_config, StreamConfig};
use stream::control::{AdminClient, ConfigWatch};
use stream::facts::Place;
use stream::limits::BATCH_BYTES_MAX;
use stream::token::Rate;
use stream::wire::Refusal;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::sync::watch;

use crate::GatewaySettings;
use crate::accept::connection::{Answers, Connection};
use crate::accept::decompress::{Encoding, Unpacker};
use crate::accept::http::Door;
use crate::accept::protocol::Protocol;
use crate::accept::protocol::array::Array;
use crate::accept::protocol::beacon::{Beacon, record_of};
use crate::accept::protocol::lines::Lines;
use crate::accept::protocol::otlp::Otlp;
use crate::admit::tests::gathered_with;
use crate::budget::Budget;
use crate::dispatch::Dispatcher;
use crate::facts::FactBook;
use crate::key::{Key, birth_minutes};
use crate::produce::{Appended, Produce};
use crate::rate::Rates;
use crate::tests::{snapshot, spec};
use crate::turns::Turns;

/// What a protocol makes of a body is refused, or its records join from 0 on and can travel.
fn is_sound<P: Protocol>(headers: &HeaderMap, body: &[u8]) -> Option<Batch> {
    let batch = gathered_with::<P>(headers, body).ok()?;
    assert!(batch.range.start == 0 && !batch.has_gaps());
    assert!(batch.views().all(|record| !record.range.is_empty()));
    let travelled = Batch::from_wire(batch.to_wire()).expect("what was gathered is a batch");
    assert!(travelled.records().eq(batch.records()));
    Some(batch)
}

#[test]
fn lines() {
    check!(name = "lines").for_each(|body: &[u8]| {
        let Some(batch) = is_sound::<Lines>(&HeaderMap::new(), body) else { return };
        let joined = batch.views().map(|record| record.body).collect::<Vec<_>>().join(&b'\n');
        assert_eq!(joined, body.strip_suffix(b"\n").unwrap_or(body));
        assert_eq!(batch.range.end, body.len() as u64);
    });
}

#[test]
fn array() {
    check!(name = "array").for_each(|body: &[u8]| {
        let Some(batch) = is_sound::<Array>(&HeaderMap::new(), body) else { return };
        assert_eq!(batch.range.end, body.len() as u64);
        for record in batch.views() {
            let stands_there = &body[record.range.start as usize..record.range.end as usize];
            assert!(stands_there.windows(record.body.len()).any(|window| window == record.body));
            serde_json::from_slice::<&serde_json::value::RawValue>(record.body).expect("an element is JSON");
        }
    });
}

/// An event's query, or whatever its path may hold.
#[test]
fn beacon() {
    check!(name = "beacon").for_each(|bytes: &[u8]| {
        is_sound::<Beacon>(&HeaderMap::new(), bytes);
        let Ok(record) = record_of(&String::from_utf8_lossy(bytes)) else { return };
        let object: serde_json::Map<String, serde_json::Value> =
            serde_json::from_slice(&record).expect("a query is an object");
        assert!(!object.is_empty() && object.values().all(serde_json::Value::is_string));
    });
}

#[test]
fn otlp() {
    check!(name = "otlp").for_each(|body: &[u8]| are_objects(&HeaderMap::new(), body));
}

#[test]
fn otlp_json() {
    let json = HeaderMap::from_iter([(header::CONTENT_TYPE, HeaderValue::from_static("application/json"))]);
    check!(name = "otlp_json").for_each(|body: &[u8]| are_objects(&json, body));
}

fn are_objects(headers: &HeaderMap, body: &[u8]) {
    let Some(batch) = is_sound::<Otlp>(headers, body) else { return };
    for record in batch.views() {
        let object: serde_json::Value = serde_json::from_slice(record.body).expect("a log record is JSON");
        assert!(object.is_object());
    }
}

/// What comes out of these pieces, never more than the limit.
fn unpack<'a>(encoding: Encoding, pieces: impl Iterator<Item = &'a [u8]>) -> Result<Bytes, Refusal> {
    let budget = Budget::new(1 << 30, 1 << 30);
    budget.open(1, "stream".into(), 4 * BATCH_BYTES_MAX);
    let mut unpacker = Unpacker::new(encoding, budget.reserve(1, 0)?)?;
    for piece in pieces {
        let fed = unpacker.feed(Bytes::copy_from_slice(piece));
        assert!(budget.held(1) <= BATCH_BYTES_MAX);
        fed?;
    }
    let body = unpacker.finish()?.0;
    assert!(body.len() <= BATCH_BYTES_MAX);
    Ok(body)
}

/// What comes out in one go and what comes out piece by piece is the same. The first byte says how long the pieces are.
fn unpacks(encoding: Encoding, bytes: &[u8]) -> Option<Bytes> {
    let (piece, body) = bytes.split_first()?;
    let whole = unpack(encoding, std::iter::once(body)).map_err(|refusal| refusal.reason);
    let in_pieces = unpack(encoding, body.chunks(usize::from(*piece) + 1)).map_err(|refusal| refusal.reason);
    assert_eq!(whole, in_pieces);
    whole.ok()
}

#[test]
fn gzip() {
    check!(name = "gzip").for_each(|bytes: &[u8]| {
        unpacks(Encoding::Gzip, bytes);
        let mut encoder = GzEncoder::new(Vec::new(), Compression::fast());
        encoder.write_all(bytes).expect("a vector takes everything");
        let packed = encoder.finish().expect("a vector takes everything");
        assert_eq!(unpacks(Encoding::Gzip, &[&[6], &packed[..]].concat()).as_deref(), Some(bytes));
    });
}

#[test]
fn zstd() {
    check!(name = "zstd").for_each(|bytes: &[u8]| {
        unpacks(Encoding::Zstd, bytes);
        let packed = zstd::encode_all(bytes, 1).expect("a slice can be read");
        assert_eq!(unpacks(Encoding::Zstd, &[&[6], &packed[..]].concat()).as_deref(), Some(bytes));
    });
}

/// The headers of an idempotency key: its text, a line break, its time.
#[test]
fn key() {
    check!(name = "key").for_each(|bytes: &[u8]| {
        let (text, made) = bytes.split_at(bytes.iter().position(|byte| *byte == b'\n').unwrap_or(bytes.len()));
        if let Ok(key) = Key::parse(text) {
            assert!(key.as_str().as_bytes() == text && text.iter().all(u8::is_ascii_graphic));
        }
        let now_ms = 1_700_000_000_000;
        if let Ok(birth) = birth_minutes(made.get(1..), now_ms) {
            assert!((now_ms / 60_000).abs_diff(birth.into()) <= 25 * 60);
        }
    });
}

/// A journal that remembers nothing.
struct Nowhere;

impl Produce for Nowhere {
    fn partitions(&self, _: &StreamConfig) -> u32 {
        1
    }

    async fn append(
        &self,
        _: &str,
        _: Place,
        batch: &Batch,
        _: stream_config::Compression,
    ) -> Result<Appended, Refusal> {
        Ok(Appended { partition: 0, offset: 0, offset_end: batch.len() as u64, is_spread: false })
    }
}

/// The HTTP door over the streams `a` and `b`, and what keeps it open.
fn door() -> (Door, watch::Sender<Arc<stream::config::Snapshot>>) {
    let (config, watch): (_, ConfigWatch) = watch::channel(snapshot(1, [spec("a"), spec("b")]));
    let clock = Arc::new(HeldClock::at(1_700_000_000_000));
    let mut settings = GatewaySettings::new("fuzz", "nowhere:1", AdminClient::new("http://nowhere"));
    settings.clock = clock.clone();
    let book = Arc::new(FactBook::new("fuzz".to_owned()));
    let (dispatcher, handle) = Dispatcher::new(&settings, vec![Nowhere], watch, book, ChaCha8Rng::seed_from_u64(1));
    tokio::spawn(dispatcher.run());
    let (body_within, turns) = (Duration::from_secs(1), Turns::new(1, 1));
    (Door { handle, clock, body_within, turns, tarpit: Arc::default() }, config)
}

/// The bytes of a whole connection, answered by the HTTP door: each answer has a status of ours.
#[test]
fn request() {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    let (door, _config) = runtime.block_on(async { door() });
    let state = AssertUnwindSafe((runtime, door));
    check!(name = "request").for_each(|bytes: &[u8]| {
        let (runtime, door) = &*state;
        let (rates, ending) = (Rates::new("connection", Rate::default()), watch::channel(false).1);
        let connection = Arc::new(Connection { certified: None, rates, ending });
        let service = service_fn(|request: Request<Incoming>| {
            let (door, connection) = (door.clone(), Arc::clone(&connection));
            async move { Ok::<_, Infallible>(door.answer(request.map(Body::new), connection).await) }
        });
        let heard = runtime.block_on(async {
            let (mut client, server) = tokio::io::duplex(1 << 20);
            let mut builder = hyper::server::conn::http1::Builder::new();
            let connection = builder.half_close(true).serve_connection(TokioIo::new(server), service);
            let talk = async {
                // Whoever is refused is not listened to any more.
                drop(client.write_all(bytes).await);
                drop(client.shutdown().await);
                let mut heard = Vec::new();
                drop(client.read_to_end(&mut heard).await);
                heard
            };
            let (_broken, heard) = tokio::join!(connection, talk);
            heard
        });
        let heard = String::from_utf8_lossy(&heard);
        assert!(!heard.contains("HTTP/1.1 500"), "{heard}");
        assert!(heard.is_empty() || heard.starts_with("HTTP/1."), "{heard}");
    });
}
