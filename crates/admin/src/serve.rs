//! Runs admin: opens the store, starts the background tasks, serves connections until it is told to end.
//!
//! Connections are served by hyper itself, because a bound on their number and on the time that a request's head may
//! take belongs to every server here. At the end nothing new is accepted, waiting polls are answered at once, and what
//! is being answered has [`GOODBYE`] to finish.

use std::convert::Infallible;
use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use http::Request;
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use journal::AnyJournal;
use tokio::net::{TcpListener, TcpStream};
use tokio::select;
use tokio::sync::{Semaphore, watch};
use tokio::task::JoinSet;
use tokio::time::{sleep, timeout};
use tower::ServiceExt;
use tracing::{debug, info, warn};

use crate::api::{self, Shared};
use crate::ends::{Ends, JournalEnds, NoEnds};
use crate::store::{Store, open};
use crate::{AdminError, AdminSettings, audit, history, topics};

/// Connections served at once: a watching and a reporting one for each of 4,000 workers, and room.
const CONNECTIONS_MAX: usize = 16_384;
/// How long a request's head may take; also how long a connection may lie idle, so longer than clients keep theirs.
const HEAD: Duration = Duration::from_secs(120);
/// How long answers under way may take once admin is to end.
const GOODBYE: Duration = Duration::from_secs(3);
/// Pause after a failed accept: out of file descriptors, it would fail again at once.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// Serves the API and the page on `listener` until `shutdown`. The listener must be on loopback.
pub async fn serve(
    settings: AdminSettings,
    listener: TcpListener,
    shutdown: impl Future<Output = ()> + Send,
) -> Result<(), AdminError> {
    let journal = settings.journal_addr.as_deref().map(AnyJournal::connect).transpose()?;
    let ends: Arc<dyn Ends> = match &journal {
        Some(journal) => Arc::new(JournalEnds(journal.clone())),
        None => Arc::new(NoEnds),
    };
    serve_with(settings, ends, journal, listener, shutdown).await
}

/// The same with the ends of topics stated by `ends`.
pub(crate) async fn serve_with(
    settings: AdminSettings,
    ends: Arc<dyn Ends>,
    journal: Option<AnyJournal>,
    listener: TcpListener,
    shutdown: impl Future<Output = ()> + Send,
) -> Result<(), AdminError> {
    let address = listener.local_addr().map_err(AdminError::Listener)?;
    if !address.ip().is_loopback() {
        return Err(AdminError::Exposed(address));
    }
    let (connection, loaded) = open::open(settings.dir.clone()).await?;
    let streams = loaded.snapshot.streams.len();
    let (store, writer) = Store::start(connection, loaded, settings.clock.clone())?;
    let (end, ending) = watch::channel(false);
    let shared = Arc::new(Shared::new(store, ends, settings.sql_check, settings.journal_addr, settings.clock, ending));
    info!(%address, streams, dir = %settings.dir.display(), "admin serves");

    let mut background = JoinSet::new();
    background.spawn(audit::run(shared.clone()));
    background.spawn(history::run(shared.clone()));
    if let Some(journal) = journal {
        background.spawn(topics::run(journal, shared.published.clone()));
    }
    let mut connections = JoinSet::new();
    let accepting = accept(listener, api::router(shared.clone()), shared.ending.clone(), &mut connections);
    select! {
        never = accepting => match never {},
        () = shutdown => {}
    }
    background.shutdown().await;
    end.send_replace(true);
    if timeout(GOODBYE, async { while connections.join_next().await.is_some() {} }).await.is_err() {
        connections.shutdown().await;
    }
    drop(shared);
    // The writer ends when every handle is gone; its panic has been logged where it happened.
    drop(writer.await);
    info!("admin has ended");
    Ok(())
}

async fn accept(
    listener: TcpListener,
    router: Router,
    ending: watch::Receiver<bool>,
    connections: &mut JoinSet<()>,
) -> Infallible {
    let room = Arc::new(Semaphore::new(CONNECTIONS_MAX));
    loop {
        while connections.try_join_next().is_some() {}
        let permit = room.clone().acquire_owned().await;
        match listener.accept().await {
            Ok((socket, _)) => {
                let (router, ending) = (router.clone(), ending.clone());
                connections.spawn(async move {
                    connection(socket, router, ending).await;
                    drop(permit);
                });
            }
            Err(error) => {
                warn!(%error, "cannot accept a connection");
                sleep(ACCEPT_PAUSE).await;
            }
        }
    }
}

async fn connection(socket: TcpStream, router: Router, mut ending: watch::Receiver<bool>) {
    // Answers are small and awaited: waiting for more bytes would only delay them.
    if let Err(error) = socket.set_nodelay(true) {
        debug!(%error, "setting TCP_NODELAY");
    }
    let service = service_fn(move |request: Request<Incoming>| router.clone().oneshot(request.map(Body::new)));
    let mut server = http1::Builder::new();
    server.timer(TokioTimer::new()).header_read_timeout(HEAD);
    let mut serving = std::pin::pin!(server.serve_connection(TokioIo::new(socket), service));
    let served = select! {
        served = serving.as_mut() => served,
        () = async { drop(ending.wait_for(|ending| *ending).await) } => {
            serving.as_mut().graceful_shutdown();
            serving.await
        }
    };
    if let Err(error) = served {
        debug!(%error, "a connection ended early");
    }
}
