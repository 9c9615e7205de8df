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

use tokio::runtime::{Builder, Handle, Runtime};
use tokio::sync::oneshot;

use crate::error::ServeError;

/// The threads of a gateway, until dropped.
pub struct Threads {
    /// Where batches are queued and produced.
    pub core: Handle,
    /// Where connections are served, each on one of these.
    pub doors: Vec<Handle>,
    _own: Vec<Own>,
}

/// What ends with them.
enum Own {
    /// One thread: ends when this is dropped.
    Thread { _end: oneshot::Sender<()> },
    /// Several that take work from each other.
    Pool(Option<Runtime>),
}

impl Threads {
    /// Starts them.
    pub fn start() -> Result<Self, ServeError> {
        let broken = |error: io::Error| ServeError::Broken(error.to_string());
        let (core, own) = match cores() / 2 {
            0 | 1 => thread_of("core").map_err(broken)?,
            threads => pool_of("core", threads).map_err(broken)?,
        };
        let doors: io::Result<Vec<_>> = (0..cores()).map(|_| thread_of("door")).collect();
        let (doors, mut all): (Vec<_>, Vec<_>) = doors.map_err(broken)?.into_iter().unzip();
        all.push(own);
        Ok(Self { core, doors, _own: all })
    }

    /// All on the threads of the caller.
    #[cfg(test)]
    pub fn of_caller() -> Self {
        let caller = Handle::current();
        Self { core: caller.clone(), doors: vec![caller], _own: Vec::new() }
    }
}

impl Drop for Own {
    fn drop(&mut self) {
        // Nobody waits here: what is in flight has landed, or its sender sends it again.
        if let Self::Pool(pool) = self {
            pool.take().into_iter().for_each(Runtime::shutdown_background);
        }
    }
}

/// A thread that no other takes work from.
fn thread_of(name: &str) -> io::Result<(Handle, Own)> {
    let runtime = Builder::new_current_thread().enable_all().build()?;
    let (handle, (end, ended)) = (runtime.handle().clone(), oneshot::channel::<()>());
    thread::Builder::new().name(name.to_owned()).spawn(move || {
        let _dropped = runtime.block_on(ended);
        runtime.shutdown_background();
    })?;
    Ok((handle, Own::Thread { _end: end }))
}

fn pool_of(name: &str, threads: usize) -> io::Result<(Handle, Own)> {
    let runtime = Builder::new_multi_thread().worker_threads(threads).thread_name(name).enable_all().build()?;
    Ok((runtime.handle().clone(), Own::Pool(Some(runtime))))
}

/// Cores that this process may use.
pub fn cores() -> usize {
    thread::available_parallelism().map_or(1, std::num::NonZero::get)
}
