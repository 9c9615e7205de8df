//! What every role has beside its work: logs, health, metrics, an end, and a last word when it cannot start.

use std::future::Future;
use std::net::SocketAddr;
use std::time::Duration;

use anyhow::{Context, Result};
use axum::Router;
use axum::routing::get;
use metrics_exporter_prometheus::{PrometheusBuilder, PrometheusHandle};
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use tokio::net::TcpListener;
use tokio::signal::unix::{SignalKind, signal};
use tracing_subscriber::EnvFilter;

/// How often a role looks whether it answers.
const READY_LOOK: Duration = Duration::from_millis(20);

/// How often observations are folded.
const METRICS_UPKEEP: Duration = Duration::from_secs(5);

/// Structured logs on standard error; `ISOLANE_LOG` sets the level (default `info`).
pub fn start_logs() {
    let level = EnvFilter::try_from_env("ISOLANE_LOG").unwrap_or_else(|_| EnvFilter::new("info"));
    tracing_subscriber::fmt().json().with_env_filter(level).with_writer(std::io::stderr).init();
}

/// Listens on this machine alone, or says who cannot and what to do.
pub async fn listen(address: SocketAddr, what: &str) -> Result<TcpListener> {
    listen_anywhere(crate::config::on_loopback(address)?, what).await
}

/// Listens wherever it is told to: for doors that look at who comes.
pub async fn listen_anywhere(address: SocketAddr, what: &str) -> Result<TcpListener> {
    TcpListener::bind(address).await.with_context(|| {
        format!("cannot listen on {address} for {what}; end what uses the port, or choose another (0 picks a free one)")
    })
}

/// Collects this process's metrics.
pub fn start_metrics() -> Result<PrometheusHandle> {
    PrometheusBuilder::new().install_recorder().context("starting metrics")
}

/// Serves `/health` and `/metrics` as long as the process lives.
pub async fn serve(listener: TcpListener, metrics: PrometheusHandle) {
    tokio::spawn(keep_up(metrics.clone()));
    let health = get(|| async { "ok\n" });
    let render = get(move || {
        let text = metrics.render();
        async move { text }
    });
    let router = Router::new().route("/health", health).route("/metrics", render);
    if let Err(error) = axum::serve(listener, router).await {
        tracing::error!(%error, "health and metrics are no longer served");
    }
}

/// Completes when the process is asked to end (SIGTERM or SIGINT).
pub async fn asked_to_end() {
    let Ok(mut terminate) = signal(SignalKind::terminate()) else { return std::future::pending().await };
    let Ok(mut interrupt) = signal(SignalKind::interrupt()) else { return std::future::pending().await };
    tokio::select! {
        _ = terminate.recv() => {}
        _ = interrupt.recv() => {}
    }
}

/// Dies with the parent, so that `up` leaves no orphan however it ends.
pub fn die_with(parent: Option<u32>) -> Result<()> {
    let Some(parent) = parent else { return Ok(()) };
    rustix::process::set_parent_process_death_signal(Some(rustix::process::Signal::KILL))?;
    let actual = rustix::process::getppid().map(|pid| pid.as_raw_nonzero().get() as u32);
    anyhow::ensure!(actual == Some(parent), "the process that started this one is already gone");
    Ok(())
}

/// Lets this process open as many files as it may, and says how many: what a login shell allows is far below what a door
/// with its connections takes.
pub fn raise_open_files() -> u64 {
    let limit = getrlimit(Resource::Nofile);
    let raised = Rlimit { current: limit.maximum, ..limit };
    match setrlimit(Resource::Nofile, raised) {
        Ok(()) => raised.current.unwrap_or(u64::MAX),
        Err(error) => {
            tracing::warn!(%error, "the limit of open files stays as it was");
            limit.current.unwrap_or(u64::MAX)
        }
    }
}

/// Folds observations into their histograms, which otherwise grow for as long as nobody asks for them.
async fn keep_up(metrics: PrometheusHandle) {
    let mut ticks = tokio::time::interval(METRICS_UPKEEP);
    loop {
        ticks.tick().await;
        metrics.run_upkeep();
    }
}

/// Does `work`, and says that it serves once `answers` has come true: state that must be opened first may be damaged.
pub async fn say_ready_once<T>(work: impl Future<Output = T>, answers: impl AsyncFn() -> bool) -> T {
    let ready = async {
        while !answers().await {
            tokio::time::sleep(READY_LOOK).await;
        }
        say_ready();
        std::future::pending::<()>().await;
    };
    tokio::select! {
        done = work => done,
        () = ready => unreachable!("saying so never ends"),
    }
}

/// Tells whoever started this role (over its standard output) that it serves.
pub fn say_ready() {
    println!("{READY}");
}

/// The line that [`say_ready`] writes.
pub const READY: &str = "ready";
