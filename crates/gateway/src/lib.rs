//! The gateway: many clients' records, over gRPC and HTTP, into one journal, each stream in a lane of its own.
//!
//! The path of a record: a door takes it ([`accept`]) from somebody who may send it ([`access`]), no faster than agreed
//! ([`rate`]), in its stream's turn ([`turns`]); it is checked ([`admit`]) and charged to its stream ([`budget`]); the
//! [`dispatch`]er puts it into its stream's [`lane`] and [`queue`], after a look at its [`key`]; the [`schedule`] says
//! which producers serve the queue in this slice, [`drr`] whose turn it is on one of them; lines get their range
//! ([`source`]) and are made a batch ([`pack`]); the batch is appended to the journal ([`produce`]). Only then is its
//! sender told ([`outcome`]). [`facts`] tells admin. Which of that has which threads is said in [`threads`].
//!
//! A gateway holds nothing that its sender has forgotten, and keeps nothing on disk: it may die at any time.

pub mod settings;
pub mod error;
pub mod accept;
pub mod access;
pub mod rate;
pub mod turns;
pub mod admit;
pub mod budget;
pub mod directory;
pub mod dispatch;
pub mod lane;
pub mod key;
pub mod queue;
pub mod schedule;
pub mod drr;
pub mod source;
pub mod pack;
pub mod produce;
pub mod outcome;
pub mod facts;
pub mod metrics;
mod threads;
#[cfg(test)]
mod tests;
#[cfg(test)]
mod fuzz;

use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use stream::control::ConfigWatch;
use tokio::net::TcpListener;
use tokio::sync::{oneshot, watch};
use tracing::{info, warn};

pub use accept::tls::TlsFiles;
pub use access::Access;
pub use error::ServeError;
pub use settings::GatewaySettings;

use dispatch::Dispatcher;
use facts::{FactBook, Reporter};
use produce::Produce;
use threads::{Threads, cores};
use turns::Turns;

/// What the drain at shutdown may take beyond the batch deadline.
const DRAIN_MARGIN: Duration = Duration::from_secs(1);

/// Serves both doors until `shutdown` is ready, then finishes what is in flight (at the latest after the batch
/// deadline) and returns.
pub async fn serve(
    settings: GatewaySettings,
    http: TcpListener,
    grpc: TcpListener,
    config: ConfigWatch,
    shutdown: impl Future<Output = ()> + Send + 'static,
) -> Result<(), ServeError> {
    let threads = Threads::start()?;
    let writers = {
        let _inside = threads.core.enter();
        journal::any::producers(&settings.journal_addr, settings.producers)?
    };
    serve_on(&threads, settings, writers, http, grpc, config, shutdown).await
}

/// [`serve`] with these writers to the journal, and all on the threads of the caller.
#[cfg(test)]
pub(crate) async fn serve_with<P: Produce>(
    settings: GatewaySettings,
    writers: Vec<P>,
    http: TcpListener,
    grpc: TcpListener,
    config: ConfigWatch,
    shutdown: impl Future<Output = ()> + Send + 'static,
) -> Result<(), ServeError> {
    serve_on(&Threads::of_caller(), settings, writers, http, grpc, config, shutdown).await
}

async fn serve_on<P: Produce>(
    threads: &Threads,
    settings: GatewaySettings,
    writers: Vec<P>,
    http: TcpListener,
    grpc: TcpListener,
    config: ConfigWatch,
    shutdown: impl Future<Output = ()> + Send + 'static,
) -> Result<(), ServeError> {
    settings.check()?;
    let local = |door, listener: &TcpListener| {
        listener.local_addr().map_err(|error| ServeError::Listen { door, cause: error.to_string() })
    };
    let (http_at, grpc_at) = (local("http", &http)?, local("grpc", &grpc)?);
    settings.check_door(http_at)?;
    settings.check_door(grpc_at)?;
    let tls = settings.tls.clone().map(accept::tls::start).transpose()?;
    let book = Arc::new(FactBook::new(settings.gateway_id.clone()));
    let (dispatcher, handle) = Dispatcher::new(&settings, writers, config, Arc::clone(&book), rand::make_rng());
    let (admin, directory, budget) = (settings.admin.clone(), handle.directory(), Arc::clone(&handle.budget));
    let (reported, report_stop) = oneshot::channel::<()>();
    let reporter = Reporter { admin, book, directory, budget };
    let reporting = tokio::spawn(reporter.run(settings.report_every, async move { drop(report_stop.await) }));
    let dispatching = threads.core.spawn(dispatcher.run());
    for door in &threads.doors {
        door.spawn(turns::watch_thread(Arc::downgrade(&handle.under_way)));
    }
    info!(%http_at, %grpc_at, "the gateway takes records");

    let (stopping, stop) = watch::channel(false);
    let doors = {
        let door = accept::http::Door {
            handle: handle.clone(),
            clock: Arc::clone(&settings.clock),
            body_within: settings.body_within,
            turns: Turns::new(cores(), cores().saturating_sub(1)),
            tarpit: Arc::default(),
        };
        let grpc_router = accept::grpc::router(accept::grpc::Door { handle, clock: Arc::clone(&settings.clock) });
        let (settings, stop, doors) = (settings.clone(), stop.clone(), threads.doors.clone());
        tokio::spawn(async move {
            tokio::join!(
                accept::serve("http", http, &doors, door, tls.clone(), &settings, stop.clone()),
                accept::serve("grpc", grpc, &doors, grpc_router, tls, &settings, stop),
            )
        })
    };
    let mut all = tokio::spawn(async move { tokio::try_join!(doors, dispatching).map(drop) });
    let broken = |error: tokio::task::JoinError| ServeError::Broken(error.to_string());
    tokio::select! {
        ended = &mut all => return ended.unwrap_or_else(Err).map_err(broken),
        () = shutdown => stopping.send_replace(true),
    };
    info!("the gateway goes down; finishing what is in flight");
    let drained = tokio::time::timeout(settings.batch_deadline + DRAIN_MARGIN, all).await;
    drop(reported);
    let _last_report = reporting.await;
    match drained {
        Ok(ended) => ended.unwrap_or_else(Err).map_err(broken),
        Err(_) => {
            warn!("not everything was answered in time; its senders will send it again");
            Ok(())
        }
    }
}
