//! Which threads do what.
//!
//! Batches are queued, produced and answered on the *core*: an append has some ten steps, and must not wait at each of
//! them behind whatever has just come to a door. Half as many threads as there are cores: more wake each other up for
//! nothing.
//!
//! Each *door* thread has its connections for good, as Envoy's and nginx's workers have theirs. Threads that take work
//! from each other wake each other up to look for some: with two of them a request had 14 changes of thread, each of
//! which costs more than a look at its lines. The price: one HTTP/2 connection has one core at most, but for its large
//! bodies.

use std::io;
use std::thread;

use tokio::runtime::{Builder, Handle};
use tokio::sync::oneshot;

use crate::error::ServeError;

/// The threads of a gateway, until dropped.
pub struct Threads {
    /// Where batches are queued and produced.
    pub core: Handle,
    /// Where connections are served, each on one of these.
    pub doors: Vec<Handle>,
    /// Dropped, they end the threads.
    _ends: Vec<oneshot::Sender<()>>,
}

impl Threads {
    /// Starts them.
    pub fn start() -> Result<Self, ServeError> {
        let broken = |error: io::Error| ServeError::Broken(error.to_string());
        let (core, end) = start("core", cores() / 2).map_err(broken)?;
        let doors: io::Result<Vec<_>> = (0..cores()).map(|_| start("door", 1)).collect();
        let (doors, mut ends): (Vec<_>, Vec<_>) = doors.map_err(broken)?.into_iter().unzip();
        ends.push(end);
        Ok(Self { core, doors, _ends: ends })
    }

    /// All on the threads of the caller.
    #[cfg(test)]
    pub fn of_caller() -> Self {
        let caller = Handle::current();
        Self { core: caller.clone(), doors: vec![caller], _ends: Vec::new() }
    }
}

/// Starts a thread that no other takes work from, or several that do. Nobody waits for them at the end: what is in flight has
/// landed then, or its sender sends it again.
fn start(name: &str, threads: usize) -> io::Result<(Handle, oneshot::Sender<()>)> {
    let mut builder = match threads {
        0 | 1 => Builder::new_current_thread(),
        _ => Builder::new_multi_thread(),
    };
    if threads > 1 {
        builder.worker_threads(threads);
    }
    // No child processes, no signals: to look after those costs something each time that a thread goes to sleep.
    let runtime = builder.thread_name(name).enable_io().enable_time().build()?;
    let (handle, (end, ended)) = (runtime.handle().clone(), oneshot::channel::<()>());
    thread::Builder::new().name(name.to_owned()).spawn(move || {
        let _dropped = runtime.block_on(ended);
        runtime.shutdown_background();
    })?;
    Ok((handle, end))
}

/// Cores that this process may use.
pub fn cores() -> usize {
    thread::available_parallelism().map_or(1, std::num::NonZero::get)
}
