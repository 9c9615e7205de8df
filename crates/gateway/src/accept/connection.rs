//! One connection, from its first byte to its end: TLS where the door has it, then HTTP/1.1 or HTTP/2, whichever the client
//! speaks.
//!
//! A connection has an age: after it the client is asked to come again, so that a fleet of clients spreads anew over
//! gateways that came or went. What it has begun is finished first. A peer that is gone without a word is found within
//! [`PING_EVERY`] and [`PING_WITHIN`].

use std::convert::Infallible;
use std::error::Error as _;
use std::sync::Arc;
use std::time::Duration;

use axum::body::{Body, HttpBody};
use axum::http::{HeaderValue, Method, Request, header};
use axum::response::{IntoResponse, Response};
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use hyper_util::server::conn::auto::Builder;
use rand::RngExt;
use rustix::net::sockopt;
use stream::token::{Rate, Scope};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio::sync::watch;
use tokio::time::timeout;
use tokio_rustls::server::TlsStream;
use tracing::debug;

use super::answer::Refused;
use super::host;
use super::rarely::rarely;
use super::seats::Seat;
use super::stopped;
use super::tls::{self, Tls};
use crate::metrics;
use crate::rate::Rates;
use crate::settings::GatewaySettings;

/// Header bytes of one request, of a body that is read at once, and of answers that wait to be written.
const HEAD_BYTES_MAX: usize = 64 * 1024;
/// Bytes of answers that the kernel keeps of a connection whose client does not read them; it doubles the number for its own
/// use. Left to itself it keeps megabytes, and a client that sends on and on is served until they are full.
const UNREAD_BYTES_MAX: usize = 16 * 1024;
/// Requests at a time on one HTTP/2 connection.
const STREAMS_MAX: u32 = 256;
/// Bytes that an HTTP/2 peer may send ahead on one stream, and on one connection.
const WINDOW_BYTES: (u32, u32) = (1 << 20, 4 << 20);
/// How often a silent peer is asked whether it is there, and how long it may take over the answer: together less than
/// the 20 s within which a dead one is to be found.
const PING_EVERY: Duration = Duration::from_secs(8);
const PING_WITHIN: Duration = Duration::from_secs(8);
/// How long a connection that is to end may take over it: more than a body and a batch may take. A client that does not
/// read its answers has none longer.
const END_WITHIN: Duration = Duration::from_secs(60);
/// How an HTTP/2 connection begins.
const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

/// How soon a connection is looked at again of which too little has come to tell its protocol; then less and less often.
const PREFACE_LOOK: Duration = Duration::from_millis(5);
const PREFACE_LOOK_MAX: Duration = Duration::from_millis(500);

/// What answers the requests of a door.
pub trait Answers: Clone + Send + Sync + 'static {
    /// The answer to a request that came over `connection`.
    fn answer(&self, request: Request<Body>, connection: Arc<Connection>) -> impl Future<Output = Response> + Send;
}

/// What the requests of one connection share.
#[derive(Debug)]
pub struct Connection {
    /// What its certificate lets it write to.
    pub certified: Option<Arc<[Scope]>>,
    /// What it may bring.
    pub rates: Rates,
    /// Turns true when it is to end: what goes on without an end, ends itself.
    pub ending: watch::Receiver<bool>,
}

/// What every connection of a door is held to.
#[derive(Clone)]
pub struct Terms<A> {
    /// What answers.
    pub answers: A,
    /// Whether requests must name this machine as their host.
    pub local_only: bool,
    /// What is spoken outside.
    pub tls: Option<Tls>,
    /// How long the client may take over a greeting and over a request's head.
    pub head_within: Duration,
    /// How old a connection gets.
    pub age_max: Duration,
    /// What it may bring.
    pub rate: Rate,
}

impl<A> Terms<A> {
    /// The terms of a door.
    pub fn new(answers: A, local_only: bool, tls: Option<Tls>, settings: &GatewaySettings) -> Self {
        let GatewaySettings { head_within, connection_age_max: age_max, connection_rate: rate, .. } = *settings;
        Self { answers, local_only, tls, head_within, age_max, rate }
    }
}

/// Serves one connection to its end.
pub async fn serve<A: Answers>(stream: TcpStream, terms: Terms<A>, seat: Arc<Seat>, mut stop: watch::Receiver<bool>) {
    set_options(&stream);
    let greeting = tokio::select! {
        greeting = timeout(terms.head_within, greet(stream, &terms)) => greeting,
        () = stopped(&mut stop) => return,
    };
    match greeting {
        Ok(Ok(Greeted::Plain(stream, protocol))) => talk(stream, (protocol, None), terms, seat, stop).await,
        Ok(Ok(Greeted::Tls(stream, protocol))) => {
            let certificate = stream.get_ref().1.peer_certificates().and_then(<[_]>::first);
            let certified = certificate.and_then(tls::scopes);
            talk(*stream, (protocol, certified), terms, seat, stop).await;
        }
        Ok(Err(error)) => debug!(%error, "a connection was none"),
        Err(_) => debug!("a connection did not say what it speaks in time"),
    }
}

/// Without these a dead peer would hold its connection until something is sent to it, and then for many minutes, and one that does not
/// read would be answered on and on.
fn set_options(stream: &TcpStream) {
    let (every, within) = (PING_EVERY, PING_WITHIN);
    let set = stream
        .set_nodelay(true)
        .and_then(|()| Ok(sockopt::set_socket_keepalive(stream, true)?))
        .and_then(|()| Ok(sockopt::set_tcp_keepidle(stream, every)?))
        .and_then(|()| Ok(sockopt::set_tcp_keepintvl(stream, within / 2)?))
        .and_then(|()| Ok(sockopt::set_tcp_keepcnt(stream, 2)?))
        .and_then(|()| Ok(sockopt::set_tcp_user_timeout(stream, (every + within).as_millis() as u32)?))
        .and_then(|()| Ok(sockopt::set_socket_send_buffer_size(stream, UNREAD_BYTES_MAX)?));
    if let Err(error) = set {
        debug!(%error, "a connection goes on without its options");
    }
}

enum Greeted {
    Plain(TcpStream, Protocol),
    Tls(Box<TlsStream<TcpStream>>, Protocol),
}

/// What the client speaks.
async fn greet<A>(stream: TcpStream, terms: &Terms<A>) -> std::io::Result<Greeted> {
    let Some(tls) = &terms.tls else {
        let protocol = peek(&stream).await?;
        return Ok(Greeted::Plain(stream, protocol));
    };
    let acceptor = tls.borrow().clone();
    let stream = acceptor.accept(stream).await?;
    let protocol = match stream.get_ref().1.alpn_protocol() {
        Some(b"h2") => Protocol::Http2,
        _ => Protocol::Http1,
    };
    Ok(Greeted::Tls(Box::new(stream), protocol))
}

/// Requests and answers, until either side has had enough.
async fn talk<IO: AsyncRead + AsyncWrite + Unpin + Send + 'static, A: Answers>(
    stream: IO,
    (protocol, certified): (Protocol, Option<Arc<[Scope]>>),
    terms: Terms<A>,
    seat: Arc<Seat>,
    mut stop: watch::Receiver<bool>,
) {
    let (end, ending) = watch::channel(false);
    let shared = Arc::new(Connection { certified, rates: Rates::new("connection", terms.rate), ending });
    let (answers, local_only) = (terms.answers, terms.local_only);
    let service = service_fn(move |request: Request<Incoming>| {
        let under_way = seat.begin();
        let (answers, shared) = (answers.clone(), Arc::clone(&shared));
        async move {
            let is_head = request.method() == Method::HEAD;
            let response = match local_only && host::is_foreign(&request) {
                true => Refused::ForeignHost.into_response(),
                false => answers.answer(request.map(Body::new), shared).await,
            };
            let response = if is_head { head_of(response) } else { response };
            Ok::<_, Infallible>(under_way.until_answered(response))
        }
    });
    let mut builder = Builder::new(TokioExecutor::new());
    builder.http1().timer(TokioTimer::new()).header_read_timeout(terms.head_within).max_buf_size(HEAD_BYTES_MAX);
    let mut http2 = builder.http2();
    http2.timer(TokioTimer::new()).keep_alive_interval(PING_EVERY).keep_alive_timeout(PING_WITHIN);
    http2.max_concurrent_streams(STREAMS_MAX).max_header_list_size(HEAD_BYTES_MAX as u32);
    http2.initial_stream_window_size(WINDOW_BYTES.0).initial_connection_window_size(WINDOW_BYTES.1);
    let builder = match protocol {
        Protocol::Http1 => builder.http1_only(),
        Protocol::Http2 => builder.http2_only(),
    };
    let connection = builder.serve_connection(TokioIo::new(stream), service);
    tokio::pin!(connection);
    let result = tokio::select! {
        result = connection.as_mut() => result,
        () = rarely(old_or_stopped(terms.age_max, &mut stop)) => {
            end.send_replace(true);
            connection.as_mut().graceful_shutdown();
            match timeout(END_WITHIN, connection).await {
                Ok(result) => result,
                Err(_) => return debug!("a connection did not come to its end; it is closed"),
            }
        }
    };
    if let Err(error) = result {
        debug!(%error, "a connection broke");
        if let Some(reason) = error.downcast_ref().and_then(|error| fault(protocol, error)) {
            metrics::refused_request(reason);
        }
    }
}

/// What a `HEAD` hears: over HTTP/2 a body would be sent, and is an error of the protocol.
fn head_of(mut response: Response) -> Response {
    if let Some(length) = response.body().size_hint().exact() {
        response.headers_mut().insert(header::CONTENT_LENGTH, HeaderValue::from(length));
    }
    response.map(|_| Body::empty())
}

/// What a client did wrong whose connection broke. Silence between two requests is no fault, nor is a broken network.
fn fault(protocol: Protocol, error: &hyper::Error) -> Option<&'static str> {
    let broke = error.is_timeout() || error.source().is_none_or(|cause| cause.is::<std::io::Error>());
    match protocol {
        Protocol::Http1 if error.is_parse_too_large() => Some("head_too_large"),
        Protocol::Http1 if error.is_parse() => Some("head_malformed"),
        Protocol::Http2 if !broke => Some("http2_violation"),
        Protocol::Http1 | Protocol::Http2 => None,
    }
}

/// Ready when the connection is to end. Ages differ by a fifth, so that clients which came together do not come again
/// together.
async fn old_or_stopped(age_max: Duration, stop: &mut watch::Receiver<bool>) {
    let age = age_max.mul_f64(rand::rng().random_range(0.8..1.0));
    drop(timeout(age, stopped(stop)).await);
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Protocol {
    Http1,
    Http2,
}

/// Looks at a connection's first bytes without taking them.
async fn peek(stream: &TcpStream) -> std::io::Result<Protocol> {
    let mut seen = [0; PREFACE.len()];
    let mut wait = PREFACE_LOOK;
    loop {
        let length = stream.peek(&mut seen).await?;
        match protocol_of(&seen[..length]) {
            Some(protocol) => return Ok(protocol),
            None if length == 0 => return Err(std::io::ErrorKind::UnexpectedEof.into()),
            // A readable socket stays readable while we leave its bytes there: nothing to wait for but time, and longer
            // each time, so that thousands who stop in the middle cost nothing.
            None => tokio::time::sleep(wait).await,
        }
        wait = (wait * 2).min(PREFACE_LOOK_MAX);
    }
}

/// What a client speaks that has sent `seen` so far; `None` if that cannot be told yet.
fn protocol_of(seen: &[u8]) -> Option<Protocol> {
    match seen.len() {
        0 => None,
        length if !PREFACE.starts_with(&seen[..length.min(PREFACE.len())]) => Some(Protocol::Http1),
        length => (length >= PREFACE.len()).then_some(Protocol::Http2),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn protocols_are_told_apart_by_their_first_bytes() {
        for (seen, expected) in [
            ("", None),
            ("P", None),
            ("PO", Some(Protocol::Http1)),
            ("GET / HTTP/1.1\r\n", Some(Protocol::Http1)),
            ("PRI * HTTP/2.0\r\n\r\nSM", None),
            ("PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", Some(Protocol::Http2)),
        ] {
            assert_eq!(protocol_of(seen.as_bytes()), expected, "{seen:?}");
        }
    }
}
