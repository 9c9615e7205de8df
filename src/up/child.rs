//! One role as a child process: started, waited for until it serves, started again when it dies, stopped.

use std::fs::File;
use std::path::PathBuf;
use std::process::Stdio;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use rustix::process::{Pid, Signal, kill_process};
use stream::retry::Backoff;
use tokio::io::{AsyncBufReadExt, BufReader};
use tokio::process::{Child, Command};
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio::time::{sleep, timeout};

use super::{END_WITHIN, READY_WITHIN};
use crate::ops;

/// A log longer than this is put aside when the role starts.
const LOG_BYTES_MAX: u64 = 32 << 20;

/// A role to run.
#[derive(Clone)]
pub struct Role {
    /// Its name and sub-command.
    pub name: &'static str,
    /// Its configuration file.
    pub config: PathBuf,
    /// Where its standard error goes.
    pub log: Arc<PathBuf>,
}

/// A role that runs, whoever carries it at the moment.
pub struct Running {
    name: &'static str,
    ending: watch::Sender<bool>,
    keeper: JoinHandle<()>,
}

impl Running {
    /// Asks it to end and waits until it has.
    pub async fn stop(self) {
        self.ending.send_replace(true);
        if self.keeper.await.is_err() {
            eprintln!("error: the keeper of {} ended badly", self.name);
        }
    }
}

/// Starts a role, waits until it serves, and keeps it running until it is stopped.
pub async fn start(role: Role) -> Result<Running> {
    let mut child = spawn(&role)?;
    if let Err(error) = ready(&mut child).await {
        drop(child.kill().await);
        bail!("{} cannot start: {}", role.name, last_words(&role).unwrap_or_else(|| error.to_string()));
    }
    let name = role.name;
    let (ending, ended) = watch::channel(false);
    Ok(Running { name, ending, keeper: tokio::spawn(keep(role, child, ended)) })
}

async fn keep(role: Role, mut child: Child, mut ended: watch::Receiver<bool>) {
    let mut backoff = Backoff::default();
    loop {
        let status = tokio::select! {
            status = child.wait() => status,
            () = ordered(&mut ended) => return end(child).await,
        };
        let status = status.map_or_else(|error| error.to_string(), |status| status.to_string());
        eprintln!("{} ended ({status}); starting it again", role.name);
        child = tokio::select! {
            child = again(&role, &mut backoff) => child,
            () = ordered(&mut ended) => return,
        };
    }
}

/// Completes once the end is ordered.
async fn ordered(ended: &mut watch::Receiver<bool>) {
    // An error means that the sender is gone, which is an end too.
    drop(ended.wait_for(|ended| *ended).await);
}

/// Starts the role until it serves. The waits grow while it keeps failing and start anew once it serves.
async fn again(role: &Role, backoff: &mut Backoff) -> Child {
    loop {
        let wait = backoff.next_wait(Duration::ZERO, &mut rand::rng());
        sleep(wait).await;
        let Ok(mut child) = spawn(role) else { continue };
        match ready(&mut child).await {
            Ok(()) => {
                backoff.reset();
                return child;
            }
            Err(error) => {
                eprintln!("{} cannot start: {}", role.name, last_words(role).unwrap_or_else(|| error.to_string()))
            }
        }
    }
}

fn spawn(role: &Role) -> Result<Child> {
    let put_aside = std::fs::metadata(role.log.as_ref()).is_ok_and(|log| log.len() > LOG_BYTES_MAX);
    if put_aside {
        std::fs::rename(role.log.as_ref(), role.log.with_extension("log.1"))?;
    }
    let log = File::options().create(true).append(true).open(role.log.as_ref())?;
    Command::new(std::env::current_exe()?)
        .arg(role.name)
        .arg("--config")
        .arg(&role.config)
        .args(["--parent", &std::process::id().to_string()])
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(log)
        // A terminal's Ctrl-C goes to `up` alone, which ends the roles in order.
        .process_group(0)
        .kill_on_drop(true)
        .spawn()
        .with_context(|| format!("starting {}", role.name))
}

async fn ready(child: &mut Child) -> Result<()> {
    let stdout = child.stdout.take().context("no standard output")?;
    let line = timeout(READY_WITHIN, BufReader::new(stdout).lines().next_line()).await;
    match line.with_context(|| format!("not ready within {} s", READY_WITHIN.as_secs()))?? {
        Some(line) if line == ops::READY => Ok(()),
        Some(line) => bail!("it said {line:?}"),
        None => bail!("it ended: {}", child.wait().await?),
    }
}

async fn end(mut child: Child) {
    if let Some(pid) = child.id().and_then(|pid| Pid::from_raw(pid as i32)) {
        // It may have ended by itself meanwhile.
        let _ = kill_process(pid, Signal::TERM);
    }
    if timeout(END_WITHIN, child.wait()).await.is_err() {
        drop(child.kill().await);
    }
}

/// The role's own words on why it ended.
fn last_words(role: &Role) -> Option<String> {
    let text = std::fs::read_to_string(role.log.as_ref()).ok()?;
    let last = text.lines().last()?;
    last.strip_prefix("error: ").map(str::to_owned)
}
