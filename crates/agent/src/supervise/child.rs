//! One stream's worker process, kept running: started again with growing waits when it ends, stopped with SIGTERM and,
//! if it does not listen, SIGKILL. The files it reads are held here over its death.

use std::process::{ExitStatus, Stdio};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};
use stream::retry::Backoff;
use tokio::process::{Child, Command};
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio::time::timeout;
use tracing::{error, info, warn};

use super::hold::Holder;
use crate::metrics;
use crate::settings::WorkerSettings;
use crate::work::EXIT_UNKNOWN_STREAM;

/// How long a worker may take to stop.
const STOP: Duration = Duration::from_secs(5);
/// A worker that ran so long is started again at once.
const HEALTHY: Duration = Duration::from_secs(10);
/// Wait before a stream unknown to the gateway is tried again.
const UNKNOWN_STREAM: Duration = Duration::from_secs(30);

/// A worker that is kept running until it is stopped. Dropped, it is killed.
pub struct Worker {
    stop: watch::Sender<bool>,
    task: JoinHandle<()>,
}

/// How one run of the process ended.
enum Ended {
    Stopped,
    Exited(ExitStatus),
    NotStarted(std::io::Error),
}

impl Worker {
    /// Starts it: `command` with the settings appended.
    pub fn start(settings: WorkerSettings, command: Vec<String>) -> Self {
        let (stop, stopped) = watch::channel(false);
        Self { stop, task: tokio::spawn(keep(settings, command, stopped)) }
    }

    /// Stops it and waits until it is gone.
    pub async fn stop(self) {
        self.stop.send_replace(true);
        if let Err(error) = self.task.await {
            error!(%error, "the keeper of a worker panicked");
        }
    }
}

async fn keep(settings: WorkerSettings, command: Vec<String>, mut stopped: watch::Receiver<bool>) {
    let (mut holder, mut backoff) = (Holder::default(), Backoff::default());
    let stream = &settings.stream;
    loop {
        let started = Instant::now();
        let mut floor = Duration::ZERO;
        match run(&settings, &command, &mut holder, &mut stopped).await {
            Ended::Stopped => return,
            Ended::Exited(status) => {
                if status.code() == Some(i32::from(EXIT_UNKNOWN_STREAM)) {
                    floor = UNKNOWN_STREAM;
                }
                warn!(%stream, %status, held = holder.held(), "the worker ended; starting it again");
            }
            Ended::NotStarted(error) => error!(%stream, %error, ?command, "the worker cannot be started; trying again"),
        }
        if started.elapsed() >= HEALTHY {
            backoff.reset();
        }
        let wait = backoff.next_wait(floor, &mut rand::rng());
        if timeout(wait, told(&mut stopped)).await.is_ok() {
            return;
        }
    }
}

async fn run(
    settings: &WorkerSettings,
    command: &[String],
    holder: &mut Holder,
    stopped: &mut watch::Receiver<bool>,
) -> Ended {
    let (mut child, socket) = match spawn(settings, command) {
        Ok(started) => started,
        Err(error) => return Ended::NotStarted(error),
    };
    metrics::worker_started(&settings.stream);
    info!(stream = %settings.stream, pid = child.id(), "worker started");
    let serve = async {
        if let Err(error) = holder.serve(socket).await {
            warn!(stream = %settings.stream, %error, "the worker's files are not held");
        }
        // The process itself says when it has ended.
        std::future::pending::<()>().await;
    };
    tokio::select! {
        status = child.wait() => status.map_or_else(Ended::NotStarted, Ended::Exited),
        () = serve => Ended::Stopped,
        () = told(stopped) => {
            end(&mut child).await;
            Ended::Stopped
        }
    }
}

/// Until it is told to stop, or its owner is gone.
async fn told(stopped: &mut watch::Receiver<bool>) {
    // Either answer means the end.
    drop(stopped.wait_for(|stop| *stop).await);
}

fn spawn(settings: &WorkerSettings, command: &[String]) -> std::io::Result<(Child, std::os::fd::OwnedFd)> {
    let (program, arguments) =
        command.split_first().ok_or_else(|| std::io::Error::other("the worker command is empty"))?;
    let (ours, theirs) = Holder::pair()?;
    let child = Command::new(program)
        .args(arguments)
        .arg(settings.to_string())
        .stdin(Stdio::from(theirs))
        .kill_on_drop(true)
        .spawn()?;
    Ok((child, ours))
}

async fn end(child: &mut Child) {
    let pid = child.id().and_then(|id| Pid::from_raw(i32::try_from(id).ok()?));
    if let Some(pid) = pid
        && let Err(error) = kill_process(pid, Signal::TERM)
    {
        warn!(%error, "the worker cannot be told to stop");
    }
    if timeout(STOP, child.wait()).await.is_err() {
        warn!(pid = child.id(), "the worker does not stop; killing it");
        if let Err(error) = child.kill().await {
            error!(%error, "the worker cannot be killed");
        }
    }
}
