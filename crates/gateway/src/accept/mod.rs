//! The doors: who is let in here, one [`connection`] to its end there, what is said over it in [`http`] and [`grpc`].
//!
//! Both doors are served by one loop, which bounds what a client can hold without sending anything: the number of
//! connections, the time for a request's head, the header bytes, the streams of an HTTP/2 connection. Who must leave when
//! there are too many is decided in [`seats`]. Which protocol a client speaks is looked at before its bytes are taken,
//! within the same time.

pub mod tls;
pub mod connection;
pub mod rarely;
pub mod answer;
pub mod host;
pub mod seats;
pub mod decompress;
pub mod http;
pub mod protocol;
pub mod grpc;

use std::sync::Arc;
use std::time::Duration;

use tokio::net::{TcpListener, TcpStream};
use tokio::runtime::Handle;
use tokio::sync::watch;
use tokio::task::JoinSet;
use tracing::{debug, warn};

use crate::metrics;
use crate::settings::GatewaySettings;
use connection::{Answers, Terms};
use rarely::rarely;
use seats::{Leave, Seats};
use tls::Tls;

/// How long the loop rests when the system has no connection to give.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// Serves `answers` on `listener` until `stop` turns true, then lets each connection finish what it has begun. Each stays on
/// one of the `threads`. On loopback only requests that name this machine as their host are answered.
pub async fn serve(
    door: &'static str,
    listener: TcpListener,
    threads: &[Handle],
    answers: impl Answers,
    tls: Option<Tls>,
    settings: &GatewaySettings,
    mut stop: watch::Receiver<bool>,
) {
    let local_only = listener.local_addr().is_ok_and(|at| at.ip().is_loopback());
    let terms = Terms::new(answers, local_only, tls, settings);
    let seats = Seats::new(settings.connections_max);
    let mut connections = JoinSet::new();
    for thread in threads.iter().cycle() {
        while connections.try_join_next().is_some() {}
        let stream = tokio::select! {
            () = stopped(&mut stop) => break,
            accepted = listener.accept() => match accepted {
                Ok((stream, _)) => stream.into_std(),
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
        let talk = async move {
            // From here on its readiness is this thread's to hear of.
            let stream = match stream.and_then(TcpStream::from_std) {
                Ok(stream) => stream,
                Err(error) => return debug!(door, %error, "a connection was none"),
            };
            let left = tokio::select! {
                // First, because silence ends the conversation at the same time.
                biased;
                left = rarely(seat.must_leave(head_within)) => left,
                () = connection::serve(stream, terms, Arc::clone(&seat), stop) => return,
            };
            metrics::refused_request(match left {
                Leave::Shed => "connection_shed",
                Leave::Silent => "head_too_slow",
            });
        };
        connections.spawn_on(talk, thread);
    }
    drop(listener);
    connections.join_all().await;
}

/// Ready when `stop` is true, or whoever could make it so is gone.
async fn stopped(stop: &mut watch::Receiver<bool>) {
    drop(stop.wait_for(|stop| *stop).await);
}
