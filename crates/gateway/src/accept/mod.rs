//! The doors: connections and their limits here; what is said over them in [`http`] and [`grpc`].
//!
//! Both doors are served by one loop, which bounds what a client can hold without sending anything: the number of
//! connections, the time for a request's head, the header bytes, the streams of an HTTP/2 connection. Who must leave when
//! there are too many is decided in [`seats`]. Which protocol a client speaks is looked at before its bytes are taken,
//! within the same time.

pub mod answer;
pub mod host;
pub mod seats;
pub mod decompress;
pub mod http;
pub mod protocol;
pub mod grpc;

use std::error::Error as _;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use hyper_util::server::conn::auto::Builder;
use hyper_util::service::TowerToHyperService;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::timeout;
use tower::ServiceExt;
use tracing::{debug, warn};

use self::seats::{Leave, Seat, Seats};
use crate::metrics;
use crate::settings::GatewaySettings;

/// Header bytes of one request.
const HEAD_BYTES_MAX: usize = 64 * 1024;
/// Requests at a time on one HTTP/2 connection.
const STREAMS_MAX: u32 = 256;
/// Bytes that an HTTP/2 peer may send ahead on one stream, and on one connection.
const WINDOW_BYTES: (u32, u32) = (1 << 20, 4 << 20);
/// How often a silent HTTP/2 peer is asked whether it is there.
const PING_EVERY: Duration = Duration::from_secs(20);
/// How long the loop rests when the system has no connection to give.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);
/// How an HTTP/2 connection begins.
const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
/// How soon a connection is looked at again of which too little has come to tell its protocol; then less and less often.
const PREFACE_LOOK: Duration = Duration::from_millis(5);
const PREFACE_LOOK_MAX: Duration = Duration::from_millis(500);

/// Serves `router` on `listener` until `stop` turns true, then lets each connection finish what it has begun. On
/// loopback only requests that name this machine as their host are answered.
pub async fn serve(
    door: &'static str,
    listener: TcpListener,
    router: Router,
    settings: &GatewaySettings,
    mut stop: watch::Receiver<bool>,
) {
    let on_loopback = listener.local_addr().is_ok_and(|at| at.ip().is_loopback());
    let router = if on_loopback { host::local_only(router) } else { router };
    let seats = Seats::new(settings.connections_max);
    let mut connections = JoinSet::new();
    loop {
        while connections.try_join_next().is_some() {}
        let stream = tokio::select! {
            () = stopped(&mut stop) => break,
            accepted = listener.accept() => match accepted {
                Ok((stream, _)) => stream,
                Err(error) => {
                    warn!(door, %error, "cannot accept a connection; letting one go and trying again");
                    seats.shed();
                    tokio::time::sleep(ACCEPT_PAUSE).await;
                    continue;
                }
            },
        };
        let seat = tokio::select! {
            () = stopped(&mut stop) => break,
            seat = seats.take() => Arc::new(seat),
        };
        metrics::connections(door, seats.taken());
        let (router, head_within, stop) = (router.clone(), settings.head_within, stop.clone());
        connections.spawn(async move {
            let left = tokio::select! {
                // First, because silence ends the conversation at the same time.
                biased;
                left = seat.must_leave(head_within) => left,
                () = converse(stream, router, Arc::clone(&seat), head_within, stop) => return,
            };
            metrics::refused_request(match left {
                Leave::Shed => "connection_shed",
                Leave::Silent => "head_too_slow",
            });
        });
    }
    drop(listener);
    connections.join_all().await;
}

/// One connection, to its end.
async fn converse(
    stream: TcpStream,
    router: Router,
    seat: Arc<Seat>,
    head_within: Duration,
    mut stop: watch::Receiver<bool>,
) {
    let _slower_is_fine = stream.set_nodelay(true);
    let protocol = tokio::select! {
        protocol = timeout(head_within, protocol(&stream)) => protocol,
        () = stopped(&mut stop) => return,
    };
    let mut builder = Builder::new(TokioExecutor::new());
    builder.http1().timer(TokioTimer::new()).header_read_timeout(head_within).max_buf_size(HEAD_BYTES_MAX);
    let mut http2 = builder.http2();
    http2.timer(TokioTimer::new()).keep_alive_interval(PING_EVERY).keep_alive_timeout(PING_EVERY);
    http2.max_concurrent_streams(STREAMS_MAX).max_header_list_size(HEAD_BYTES_MAX as u32);
    http2.initial_stream_window_size(WINDOW_BYTES.0).initial_connection_window_size(WINDOW_BYTES.1);
    let Ok(Ok(protocol)) = protocol else { return };
    let builder = match protocol {
        Protocol::Http1 => builder.http1_only(),
        Protocol::Http2 => builder.http2_only(),
    };
    let service = tower::service_fn(move |request: axum::http::Request<hyper::body::Incoming>| {
        let (under_way, answer) = (seat.begin(), router.clone().oneshot(request));
        async move { answer.await.map(|response| under_way.until_answered(response)) }
    });
    let connection = builder.serve_connection(TokioIo::new(stream), TowerToHyperService::new(service));
    tokio::pin!(connection);
    let result = tokio::select! {
        result = connection.as_mut() => result,
        () = stopped(&mut stop) => {
            connection.as_mut().graceful_shutdown();
            connection.await
        }
    };
    if let Err(error) = result {
        debug!(%error, "a connection broke");
        if let Some(reason) = error.downcast_ref().and_then(|error| fault(protocol, error)) {
            metrics::refused_request(reason);
        }
    }
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

/// Ready when `stop` is true, or whoever could make it so is gone.
async fn stopped(stop: &mut watch::Receiver<bool>) {
    drop(stop.wait_for(|stop| *stop).await);
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Protocol {
    Http1,
    Http2,
}

/// Looks at a connection's first bytes without taking them.
async fn protocol(stream: &TcpStream) -> std::io::Result<Protocol> {
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
