//! The journal role: locks its directory, opens the log, follows the configuration, serves until it is told to stop.
//! If one of the log's two threads dies, the role ends with an error rather than going on half alive.

use std::fs::{File, TryLockError};
use std::future::Future;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use stream::clock::SystemClock;
use stream::control::ConfigWatch;
use stream::disk::{Disk, RealDisk};
use tokio::net::TcpListener;
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tonic::transport::Server;
use tonic::transport::server::TcpIncoming;
use tracing::info;

use crate::embedded::{EmbeddedLog, LogSettings, OpenError, topics_of};
use crate::service::JournalService;

/// Where the journal lives and how it works.
#[derive(Clone, Debug)]
pub struct JournalSettings {
    /// Its directory; created if it is not there.
    pub dir: PathBuf,
    /// Sizes and times.
    pub log: LogSettings,
}

/// Why the journal does not run.
#[derive(Debug, thiserror::Error)]
pub enum ServeError {
    /// The log cannot be opened.
    #[error(transparent)]
    Open(#[from] OpenError),
    /// Another process owns the directory.
    #[error("journal: {} is in use by another process; stop that one first, or use another directory", .0.display())]
    Locked(PathBuf),
    /// The lock cannot be taken.
    #[error("journal: cannot lock {}: {source}", .path.display())]
    Lock {
        /// The lock file.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// The connection side failed.
    #[error("journal: cannot serve: {0}")]
    Serve(#[from] tonic::transport::Error),
    /// A thread of the log ended before it should.
    #[error("journal: the {0} ended unexpectedly; see the log, and start the journal again")]
    Thread(&'static str),
}

/// Serves the log in `settings.dir` on `listener` until `shutdown` resolves. What is acknowledged is on disk, so that
/// stopping loses nothing.
pub async fn serve(
    settings: JournalSettings,
    listener: TcpListener,
    config: ConfigWatch,
    shutdown: impl Future<Output = ()> + Send + 'static,
) -> Result<(), ServeError> {
    let JournalSettings { dir, log: log_settings } = settings;
    let _lock = lock(&dir)?;
    let log = EmbeddedLog::open(Arc::new(RealDisk), dir, Arc::new(SystemClock), log_settings)?;
    log.configure(topics_of(&config.borrow()));
    let (stop, stopping) = watch::channel(false);
    let mut writer = thread(&log, EmbeddedLog::write_until_stopped);
    let mut keeper = thread(&log, EmbeddedLog::keep_until_stopped);
    let follow = tokio::spawn(follow(Arc::clone(&log), config));
    let mut ended = stopping.clone();
    let server = Server::builder()
        .add_service(JournalService::server(Arc::clone(&log), stopping))
        .serve_with_incoming_shutdown(TcpIncoming::from(listener).with_nodelay(Some(true)), async move {
            // An error means that the sender is gone: the same.
            drop(ended.wait_for(|stop| *stop).await);
        });
    let server = tokio::spawn(server);
    let outcome = tokio::select! {
        () = shutdown => Ok(()),
        _ = &mut writer => Err(ServeError::Thread("writer")),
        _ = &mut keeper => Err(ServeError::Thread("keeper")),
    };
    stop.send_replace(true);
    log.stop();
    follow.abort();
    if outcome.is_ok() {
        match server.await {
            Ok(served) => served?,
            Err(_) => return Err(ServeError::Thread("server")),
        }
        writer.await.map_err(|_| ServeError::Thread("writer"))?;
        keeper.await.map_err(|_| ServeError::Thread("keeper"))?;
        info!("the journal has stopped");
    }
    outcome
}

fn thread(log: &Arc<EmbeddedLog>, run: fn(&EmbeddedLog)) -> JoinHandle<()> {
    let log = Arc::clone(log);
    tokio::task::spawn_blocking(move || run(&log))
}

async fn follow(log: Arc<EmbeddedLog>, mut config: ConfigWatch) {
    while config.changed().await.is_ok() {
        let topics = topics_of(&config.borrow_and_update());
        log.configure(topics);
    }
}

/// Locks the directory for as long as the file is open.
fn lock(dir: &Path) -> Result<File, ServeError> {
    RealDisk.create_dir_all(dir).map_err(OpenError::io("create", dir))?;
    let path = dir.join("lock");
    let failed = |source| ServeError::Lock { path: path.clone(), source };
    let file = File::options().create(true).truncate(false).write(true).open(&path).map_err(failed)?;
    match file.try_lock() {
        Ok(()) => Ok(file),
        Err(TryLockError::WouldBlock) => Err(ServeError::Locked(dir.to_owned())),
        Err(TryLockError::Error(source)) => Err(failed(source)),
    }
}
