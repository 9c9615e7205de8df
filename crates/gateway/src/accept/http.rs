//! The HTTP door: `POST /v1/streams/{id}/records` takes newline-delimited records, the whole body or nothing, and
//! answers 200 only when they are durable in the journal.
//!
//! An empty line is an empty record; a trailing newline ends the last record and may be missing; nothing else is
//! stripped, and bytes need not be UTF-8. With `Idempotency-Key` a retry is the same records again (see [`crate::key`],
//! also for what a retry after an hour means). Without a key the gateway's own repetitions vanish at the job, but each
//! request of a client is new: a client that repeats a request after a lost answer doubles its records.
//!
//! A refused body is still read for a moment, so that a client which sends first and listens later hears the answer.

use std::time::Duration;

use axum::Router;
use axum::body::Body;
use axum::extract::{Path, State};
use axum::http::{HeaderMap, HeaderName, header};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use bytes::Bytes;
use http_body_util::BodyExt;
use stream::clock::Clock;
use stream::limits::BATCH_BYTES_MAX;
use stream::wire::{Refusal, RefusalReason};
use tokio::time::timeout;

use crate::accept::answer::Refused;
use crate::accept::decompress::{Encoding, Unpacker, encoding, too_large};
use crate::admit;
use crate::budget::Permit;
use crate::directory::StreamHandle;
use crate::dispatch::{Handle, Load, closing};
use crate::key::{self, Key};
use crate::pack;
use crate::queue::Stored;

const IDEMPOTENCY_KEY: HeaderName = HeaderName::from_static("idempotency-key");
const IDEMPOTENCY_TIME: HeaderName = HeaderName::from_static("idempotency-time");
/// What is read of a refused body, and for how long.
const DRAIN_BYTES_MAX: usize = 4 * BATCH_BYTES_MAX;
const DRAIN_WITHIN: Duration = Duration::from_secs(1);

/// What a request needs.
#[derive(Clone)]
pub struct Door {
    /// Where records go.
    pub handle: Handle,
    /// Births of keys.
    pub clock: std::sync::Arc<dyn Clock>,
    /// How long a body may take.
    pub body_within: Duration,
}

/// The door's paths.
pub fn router(door: Door) -> Router {
    Router::new()
        .route("/v1/streams/{id}/records", post(post_records))
        .route("/health", get(|| async { "ok\n" }))
        .method_not_allowed_fallback(|| async { Refused::MethodNotAllowed })
        .fallback(|| async { Refused::NoSuchPath })
        .with_state(door)
}

async fn post_records(
    State(door): State<Door>,
    Path(id): Path<String>,
    headers: HeaderMap,
    mut body: Body,
) -> Response {
    let stream = id.parse().ok().and_then(|id| door.handle.stream(&id));
    let taken = match &stream {
        Some(stream) => door.take(stream, &headers, &mut body).await,
        None => Err(admit::unknown_stream(&id).into()),
    };
    match taken {
        Ok(stored) => stored.into_response(),
        Err(refused) => {
            if let (Some(stream), Refused::Batch(refusal)) = (&stream, &refused) {
                stream.refused(refusal.reason);
            }
            let expects_permission = headers.contains_key(header::EXPECT);
            if refused != Refused::TooSlow && !expects_permission {
                drain(body).await;
            }
            refused.into_response()
        }
    }
}

impl Door {
    async fn take(&self, stream: &StreamHandle, headers: &HeaderMap, body: &mut Body) -> Result<Stored, Refused> {
        let key = self.key(headers)?;
        let encoding = encoding(headers)?;
        let permit = self.reserve(stream, encoding, headers)?;
        let read = timeout(self.body_within, read(body, Unpacker::new(encoding, permit)?));
        let (body, mut permit) = read.await.map_err(|_| Refused::TooSlow)??;
        let records = admit::check_lines(&stream.config, &body)?;
        permit.resize(admit::cost(body.len(), records))?;
        let load = match key {
            None => Load::Lines(body),
            Some((key, birth_minutes)) => Load::Keyed {
                key,
                birth_minutes,
                body_hash: *blake3::hash(&body).as_bytes(),
                length: body.len() as u64,
                gathered: pack::gather_whole(&body, records),
            },
        };
        let outcome = self.handle.submit(stream.queue, load, records, permit).await;
        Ok(outcome.await.unwrap_or_else(|_| Err(closing()))?)
    }

    /// The request's key and its birth, if it has one.
    fn key(&self, headers: &HeaderMap) -> Result<Option<(Key, u32)>, Refusal> {
        let made = one(headers, &IDEMPOTENCY_TIME)?;
        let Some(text) = one(headers, &IDEMPOTENCY_KEY)? else { return Ok(None) };
        Ok(Some((Key::parse(text)?, key::birth_minutes(made, self.clock.now_ms())?)))
    }

    /// Room for the body before any of it is read, as far as its length is known.
    fn reserve(&self, stream: &StreamHandle, encoding: Encoding, headers: &HeaderMap) -> Result<Permit, Refusal> {
        let stated = headers.get(header::CONTENT_LENGTH).and_then(|length| length.to_str().ok()?.parse().ok());
        let bytes = match (encoding, stated) {
            (Encoding::Identity, Some(length)) if length > BATCH_BYTES_MAX => return Err(too_large()),
            (Encoding::Identity, Some(length)) => length,
            _ => 0,
        };
        self.handle.budget.reserve(stream.queue, bytes)
    }
}

/// The one value of a header.
fn one<'a>(headers: &'a HeaderMap, name: &HeaderName) -> Result<Option<&'a [u8]>, Refusal> {
    let mut values = headers.get_all(name).iter();
    match (values.next(), values.next()) {
        (first, None) => Ok(first.map(|value| value.as_bytes())),
        _ => Err(Refusal::new(RefusalReason::Malformed, "request", format!("{name} stands there more than once"))),
    }
}

async fn read(body: &mut Body, mut unpacker: Unpacker) -> Result<(Bytes, Permit), Refusal> {
    while let Some(frame) = body.frame().await {
        let broken = |error| Refusal::new(RefusalReason::Malformed, "request", format!("the body broke off: {error}"));
        if let Ok(chunk) = frame.map_err(broken)?.into_data() {
            unpacker.feed(&chunk)?;
        }
    }
    unpacker.finish()
}

/// Reads on, and forgets, as far as that is cheap.
async fn drain(mut body: Body) {
    let forget = async {
        let mut bytes = 0;
        while let Some(Ok(frame)) = body.frame().await {
            bytes += frame.data_ref().map_or(0, Bytes::len);
            if bytes > DRAIN_BYTES_MAX {
                return;
            }
        }
    };
    let _enough = timeout(DRAIN_WITHIN, forget).await;
}
