//! Work that may take its time, on threads that give way to what somebody waits for.

use std::io;
use std::sync::LazyLock;

use tokio::runtime::{Builder, Runtime};
use tokio::task::{JoinHandle, spawn_blocking};
use tracing::debug;

/// How much less of a core a thread that gives way asks for: about a tenth beside one that does not.
const NICENESS: i32 = 10;

/// Threads of its own, because a niceness cannot be taken back.
static POOL: LazyLock<io::Result<Runtime>> = LazyLock::new(|| {
    let threads = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
    Builder::new_current_thread()
        .max_blocking_threads(threads)
        .thread_name("background")
        .on_thread_start(give_way)
        .build()
});

/// Runs `work` on a thread that gets a core when others do not want it, or a tenth of the time; as many at a time as there
/// are cores.
pub fn run<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> JoinHandle<T> {
    match &*POOL {
        Ok(pool) => pool.spawn_blocking(work),
        Err(_) => spawn_blocking(work),
    }
}

fn give_way() {
    // On Linux a thread has a niceness of its own.
    if let Err(error) = rustix::process::nice(NICENESS) {
        debug!(%error, "a background thread cannot give way");
    }
}
