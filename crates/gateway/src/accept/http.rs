//! The HTTP door: takes the records of a request, the whole body or nothing, and answers only when they are durable in
//! the journal. How they stand in the body is the [`super::protocol`]'s matter: lines, a JSON array, a beacon,
//! OpenTelemetry logs.
//!
//! With `Idempotency-Key` a retry is the same records again (see [`crate::key`], also for what a retry after an hour
//! means). Without a key the gateway's own repetitions vanish at the job, but each
//! request of a client is new: a client that repeats a request after a lost answer doubles its records.
//!
//! A refused body is still read for a moment, so that a client which sends first and listens later hears the answer.
//!
//! Paths are told apart here and not by a router: one that serves any path makes twenty buffers for each request.

use std::future::poll_fn;
use std::pin::Pin;
use std::sync::Arc;
use std::task::Poll;
use std::time::Duration;

use axum::body::{Body, HttpBody};
use axum::http::{HeaderMap, HeaderName, Method, Request, header};
use axum::response::{IntoResponse, Response};
use bytes::Bytes;
use http_body_util::BodyExt;
use percent_encoding::percent_decode_str;
use stream::BatchBuilder;
use stream::clock::Clock;
use stream::limits::BATCH_BYTES_MAX;
use stream::wire::{Refusal, RefusalReason};
use tokio::task::yield_now;
use tokio::time::{Instant, sleep, timeout};

use crate::accept::answer::Refused;
use crate::accept::connection::{Answers, Connection};
use crate::accept::decompress::{Encoding, Unpacker, encoding, too_large};
use crate::accept::protocol::Protocol;
use crate::accept::protocol::array::Array;
use crate::accept::protocol::beacon::{self, Beacon};
use crate::accept::protocol::lines::Lines;
use crate::accept::protocol::otlp::Otlp;
use crate::access::{Caller, Shown, bearer};
use crate::admit::{self, Gatherer};
use crate::budget::{Permit, QueueId};
use crate::directory::StreamHandle;
use crate::dispatch::{Handle, Load, closing};
use crate::key::{self, Key};
use crate::metrics;
use crate::queue::Stored;
use crate::rate::{self, Tarpit};
use crate::turns::{Turn, Turns};

const IDEMPOTENCY_KEY: HeaderName = HeaderName::from_static("idempotency-key");
const IDEMPOTENCY_TIME: HeaderName = HeaderName::from_static("idempotency-time");
/// What is read of a refused body, and for how long.
const DRAIN_BYTES_MAX: usize = 4 * BATCH_BYTES_MAX;
const DRAIN_WITHIN: Duration = Duration::from_secs(1);
/// The same of one that shows no right to send, or whose stream is refused more than it should be already.
const DRAIN_BYTES_MAX_UNWANTED: usize = 64 * 1024;
/// Of a body so much is worked on at a time, some 200 us: then the other connections of this thread come first. What is
/// there already would be read to its end otherwise, and bombs are.
const AT_A_TIME_BYTES: usize = 128 * 1024;
/// Whose turn the bodies are read in that are no stream's.
const NOBODYS: QueueId = QueueId::MAX;

/// What a request needs.
#[derive(Clone)]
pub struct Door {
    /// Where records go.
    pub handle: Handle,
    /// Births of keys.
    pub clock: Arc<dyn Clock>,
    /// How long a body may take.
    pub body_within: Duration,
    /// Whose bytes are worked on next.
    pub turns: Arc<Turns>,
    /// Where the answers to those wait that are refused before their stream is known.
    pub tarpit: Arc<Tarpit>,
}

/// What stands before a stream's id in a path.
const STREAMS: &str = "/v1/streams/";
const HEALTH: &str = "/health";

impl Answers for Door {
    async fn answer(&self, request: Request<Body>, connection: Arc<Connection>) -> Response {
        let (head, body) = request.into_parts();
        let path = head.uri.path();
        let Some((id, what)) = path.strip_prefix(STREAMS).and_then(|rest| rest.split_once('/')) else {
            return match head.method {
                _ if path != HEALTH => Refused::NoSuchPath.into_response(),
                Method::GET | Method::HEAD => "ok\n".into_response(),
                _ => Refused::MethodNotAllowed("GET, HEAD").into_response(),
            };
        };
        let Ok(id) = percent_decode_str(id).decode_utf8() else {
            let refusal = Refusal::new(RefusalReason::Malformed, "request", "the path is no UTF-8; name a stream");
            return Refused::from(refusal).into_response();
        };
        let (headers, query) = (&head.headers, head.uri.query());
        let asked = Asked { id: &id, headers, query, connection: &connection };
        match (what, &head.method) {
            (Lines::PATH, &Method::POST) => self.post::<Lines>(&asked, body).await,
            (Array::PATH, &Method::POST) => self.post::<Array>(&asked, body).await,
            (Otlp::PATH, &Method::POST) => self.post::<Otlp>(&asked, body).await,
            (Beacon::PATH, &Method::POST) => self.post::<Beacon>(&asked, body).await,
            (Beacon::PATH, &Method::GET) => match beacon::record_of(query.unwrap_or_default()) {
                Ok(record) => self.post::<Beacon>(&asked, Body::from(record)).await,
                Err(refusal) => Beacon::refused(headers, refusal.into()),
            },
            (Beacon::PATH, &Method::OPTIONS) => beacon::preflight(headers),
            (Beacon::PATH, _) => Refused::MethodNotAllowed("GET, OPTIONS, POST").into_response(),
            (Lines::PATH | Array::PATH | Otlp::PATH, _) => Refused::MethodNotAllowed("POST").into_response(),
            _ => Refused::NoSuchPath.into_response(),
        }
    }
}

/// A request but for its body.
struct Asked<'a> {
    id: &'a str,
    headers: &'a HeaderMap,
    query: Option<&'a str>,
    connection: &'a Connection,
}

impl Asked<'_> {
    /// What its sender shows. A page's beacon has no headers of its own to show it in.
    fn with_shown<P: Protocol, T>(&self, look: impl FnOnce(Shown<'_>) -> T) -> T {
        let header = self.headers.get(header::AUTHORIZATION).and_then(|value| bearer(value.as_bytes()));
        let in_query = self.query.filter(|_| P::FROM_PAGES).and_then(beacon::token_of);
        let secret = header.or(in_query.as_deref().map(str::as_bytes));
        look(Shown { secret, certified: self.connection.certified.as_ref() })
    }
}

/// Who is let in, and to what.
struct Admitted {
    stream: Arc<StreamHandle>,
    caller: Caller,
}

impl Door {
    async fn post<P: Protocol>(&self, asked: &Asked<'_>, body: Body) -> Response {
        // Boxed, because it is moved several times before it begins, and it is some kilobytes.
        match Box::pin(self.take::<P>(asked, body)).await {
            Ok(stored) => P::durable(asked.headers, stored),
            Err(refused) => P::refused(asked.headers, refused),
        }
    }

    async fn take<P: Protocol>(&self, asked: &Asked<'_>, mut body: Body) -> Result<Stored, Refused> {
        let mut worked_bytes = 0;
        let (stream, taken) = match self.admit::<P>(asked) {
            Ok(admitted) => {
                let taken = self.take_for::<P>(&admitted, asked, &mut body, &mut worked_bytes).await;
                (Some(admitted.stream), taken)
            }
            Err(refusal) => (None, Err(refusal)),
        };
        if let Err(refused) = &taken {
            self.refuse(stream.as_deref(), asked, refused, body, worked_bytes).await;
        }
        taken
    }

    /// Notes a refusal after so many bytes of work, hears its sender out, and holds the answer back from who is refused
    /// too much.
    async fn refuse(
        &self,
        stream: Option<&StreamHandle>,
        asked: &Asked<'_>,
        refused: &Refused,
        body: Body,
        worked_bytes: usize,
    ) {
        if let (Some(stream), Refused::Batch(refusal)) = (stream, refused) {
            stream.refused(refusal, self.clock.now_ms());
        }
        let (queue, tarpit) = match stream {
            Some(stream) => (stream.queue, &stream.tarpit),
            None => (NOBODYS, &self.tarpit),
        };
        let is_unwanted = stream.is_none() || tarpit.is_in_debt(Instant::now());
        let bytes_max = if is_unwanted { DRAIN_BYTES_MAX_UNWANTED } else { DRAIN_BYTES_MAX };
        let is_sending = *refused != Refused::TooSlow && !asked.headers.contains_key(header::EXPECT);
        let drained_bytes = if is_sending { self.drain(queue, body, bytes_max).await } else { 0 };
        let charged = refused.charged_bytes(worked_bytes + drained_bytes);
        if let Some(held) = charged.and_then(|bytes| tarpit.hold(Instant::now(), bytes)) {
            sleep(held.wait).await;
        }
    }

    /// Looks at who sends, before anything of the body is read.
    fn admit<P: Protocol>(&self, asked: &Asked<'_>) -> Result<Admitted, Refused> {
        let caller = asked.with_shown::<P, _>(|shown| self.handle.caller(shown))?;
        // A browser lets any page send a plain body to any address, but not with a header that shows a token.
        if matches!(caller, Caller::Anybody) && !P::FROM_PAGES && asked.headers.contains_key(header::ORIGIN) {
            return Err(Refused::ForeignOrigin);
        }
        let stream = self.handle.stream(&caller, asked.id)?;
        Ok(Admitted { stream, caller })
    }

    async fn take_for<P: Protocol>(
        &self,
        admitted: &Admitted,
        asked: &Asked<'_>,
        body: &mut Body,
        worked_bytes: &mut usize,
    ) -> Result<Stored, Refused> {
        let (stream, headers) = (&admitted.stream, asked.headers);
        let key = self.key(headers)?;
        let encoding = encoding(headers)?;
        let payers = admitted.caller.payers(&stream.rates, &asked.connection.rates);
        let permit = self.reserve(stream, encoding, headers)?;
        let stated_bytes = permit.bytes();
        rate::enter(&payers, Instant::now(), stated_bytes)?;
        let unpacker = Unpacker::new(encoding, permit)?;
        let read = timeout(self.body_within, self.read(stream.queue, body, unpacker, worked_bytes));
        let (body, permit, turn) = read.await.map_err(|_| Refused::TooSlow)??;
        rate::charge(&payers, Instant::now(), body.len().saturating_sub(stated_bytes));
        let asked_for = AskedFor { now_ms: self.clock.now_ms(), is_keyed: key.is_some() };
        let gathered = if body.len() <= P::AT_ONCE_BYTES_MAX && !turn.is_flood() {
            let _turn = turn;
            gather::<P>(stream, headers, body, permit, asked_for)
        } else {
            let (stream, headers) = (Arc::clone(stream), headers.clone());
            turn.work(move || gather::<P>(&stream, &headers, body, permit, asked_for)).await
        };
        let Some(Gathered { records: gathered, body_hash, permit }) = gathered? else {
            return Ok(Stored { partition: 0, records: 0, offset_end: 0 });
        };
        let records = gathered.len();
        let load = match key {
            None => Load::Gathered(gathered),
            Some((key, birth_minutes)) => Load::Keyed { key, birth_minutes, body_hash, gathered },
        };
        let outcome = self.handle.submit(stream.queue, load, records, permit).await;
        Ok(outcome.await.unwrap_or_else(|_| Err(closing()))?)
    }

    /// Reads a body, piece by piece, each in its stream's turn; the last turn is the caller's.
    async fn read(
        &self,
        queue: QueueId,
        body: &mut Body,
        mut unpacker: Unpacker,
        worked_bytes: &mut usize,
    ) -> Result<(Bytes, Permit, Turn), Refusal> {
        let mut shift = Shift::default();
        loop {
            let (frame, mut turn) = self.next(queue, body).await;
            let Some(frame) = frame else {
                let (body, permit) = unpacker.finish()?;
                return Ok((body, permit, turn));
            };
            let broken =
                |error| Refusal::new(RefusalReason::Malformed, "request", format!("the body broke off: {error}"));
            let mut chunk = frame.map_err(broken)?;
            loop {
                // Pieces are short for those who wait for this thread; nobody waits for a flood's.
                let piece_bytes_max = if turn.is_flood() { usize::MAX } else { unpacker.piece_bytes_max() };
                let piece = chunk.split_to(chunk.len().min(piece_bytes_max));
                let (fed, kept);
                ((unpacker, fed), kept) = match turn.is_flood() {
                    true => (turn.work(move || unpacker.fed(piece)).await, None),
                    false => (unpacker.fed(piece), Some(turn)),
                };
                *worked_bytes = unpacker.worked_bytes();
                fed?;
                // Most bodies end with their first piece, and need no other turn.
                if let (Some(turn), true, true) = (kept, chunk.is_empty(), body.is_end_stream()) {
                    let (body, permit) = unpacker.finish()?;
                    return Ok((body, permit, turn));
                }
                shift.reached(*worked_bytes).await;
                if chunk.is_empty() {
                    break;
                }
                turn = self.turns.turn(queue).await;
            }
        }
    }

    /// What comes next of a body, and a turn to work on it. What is there already is read in that turn.
    async fn next(&self, queue: QueueId, body: &mut Body) -> (Option<Result<Bytes, axum::Error>>, Turn) {
        let turn = self.turns.turn(queue).await;
        let (frame, turn) = match poll_fn(|context| Poll::Ready(Pin::new(&mut *body).poll_frame(context))).await {
            Poll::Ready(frame) => (frame, turn),
            Poll::Pending => {
                drop(turn);
                let frame = body.frame().await;
                (frame, self.turns.turn(queue).await)
            }
        };
        // Trailers say nothing.
        (frame.map(|frame| frame.map(|frame| frame.into_data().unwrap_or_default())), turn)
    }

    /// Reads on, and forgets, as far as that is cheap; answers how much.
    async fn drain(&self, queue: QueueId, mut body: Body, bytes_max: usize) -> usize {
        let (mut bytes, mut shift) = (0, Shift::default());
        let forget = async {
            while let (Some(Ok(chunk)), turn) = self.next(queue, &mut body).await {
                drop(turn);
                bytes += chunk.len();
                if bytes > bytes_max {
                    return;
                }
                shift.reached(bytes).await;
            }
        };
        let _enough = timeout(DRAIN_WITHIN, forget).await;
        bytes
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

/// How much of a body was worked on when its thread was left to others last.
#[derive(Default)]
struct Shift {
    ended_at: usize,
}

impl Shift {
    /// Lets the thread's other connections come first, if enough has been done since.
    async fn reached(&mut self, worked_bytes: usize) {
        if worked_bytes - self.ended_at >= AT_A_TIME_BYTES {
            self.ended_at = worked_bytes;
            yield_now().await;
        }
    }
}

/// What tells a key's request from another one under the same key.
fn body_hash<P: Protocol>(body: &[u8]) -> [u8; 32] {
    let mut hasher = blake3::Hasher::new();
    hasher.update(body);
    if P::PATH != Lines::PATH {
        // The same bytes are other records there. Lines were first, and keep the sources that they had.
        hasher.update(P::PATH.as_bytes());
    }
    *hasher.finalize().as_bytes()
}

/// The one value of a header.
fn one<'a>(headers: &'a HeaderMap, name: &HeaderName) -> Result<Option<&'a [u8]>, Refusal> {
    let mut values = headers.get_all(name).iter();
    match (values.next(), values.next()) {
        (first, None) => Ok(first.map(|value| value.as_bytes())),
        _ => Err(Refusal::new(RefusalReason::Malformed, "request", format!("{name} stands there more than once"))),
    }
}

/// When a request came, and whether with a key.
#[derive(Clone, Copy)]
struct AskedFor {
    now_ms: i64,
    is_keyed: bool,
}

/// The records of a request.
struct Gathered {
    records: BatchBuilder,
    /// Of a request with a key; zeros without one.
    body_hash: [u8; 32],
    permit: Permit,
}

/// Takes a body apart; `None`: there is nothing in it, and that is fine. The body goes: a wait may follow, and only the
/// records are charged.
fn gather<P: Protocol>(
    stream: &StreamHandle,
    headers: &HeaderMap,
    body: Bytes,
    mut permit: Permit,
    AskedFor { now_ms, is_keyed }: AskedFor,
) -> Result<Option<Gathered>, Refusal> {
    let body_hash = if is_keyed { body_hash::<P>(&body) } else { [0; 32] };
    let mut records = Gatherer::new(&stream.config, now_ms);
    P::gather(headers, body, &mut records)?;
    metrics::times_left_out(stream.id(), records.times_left_out());
    if P::EMPTY_IS_FINE && records.is_empty() {
        return Ok(None);
    }
    let records = records.finish()?;
    permit.resize(admit::cost(records.body_bytes(), records.len()))?;
    Ok(Some(Gathered { records, body_hash, permit }))
}
