//! The doors: who is let in here, one [`connection`] to its end there, what is said over it in [`http`] and [`grpc`].
//!
//! Both doors are served by one loop, which bounds what a client can hold without sending anything: the number of
//! connections, the time for a request's head, the header bytes, the streams of an HTTP/2 connection. Who must leave when
//! there are too many is decided in [`seats`]. Which protocol a client speaks is looked at before its bytes are taken,
//! within the same time.

pub mod tls;
pub mod connection;
pub mod answer;
pub mod host;
pub mod seats;
pub mod decompress;
pub mod http;
pub mod protocol;
pub mod grpc;

use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use tokio::net::TcpListener;
use tokio::sync::watch;
use tokio::task::JoinSet;
use tracing::warn;

use crate::metrics;
use crate::settings::GatewaySettings;
use connection::Terms;
use seats::{Leave, Seats};
use tls::Tls;

/// How long the loop rests when the system has no connection to give.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// Serves `router` on `listener` until `stop` turns true, then lets each connection finish what it has begun. On
/// loopback only requests that name this machine as their host are answered.
pub async fn serve(
    door: &'static str,
    listener: TcpListener,
    router: Router,
    tls: Option<Tls>,
    settings: &GatewaySettings,
    mut stop: watch::Receiver<bool>,
) {
    let on_loopback = listener.local_addr().is_ok_and(|at| at.ip().is_loopback());
    let router = if on_loopback { host::local_only(router) } else { router };
    let terms = Terms::new(router, tls, settings);
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
        let (terms, head_within, stop) = (terms.clone(), settings.head_within, stop.clone());
        connections.spawn(async move {
            let left = tokio::select! {
                // First, because silence ends the conversation at the same time.
                biased;
                left = seat.must_leave(head_within) => left,
                () = connection::serve(stream, terms, Arc::clone(&seat), stop) => return,
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

/// Ready when `stop` is true, or whoever could make it so is gone.
async fn stopped(stop: &mut watch::Receiver<bool>) {
    drop(stop.wait_for(|stop| *stop).await);
}
