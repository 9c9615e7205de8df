//! Work that may take its time gives way to what somebody waits for.

use std::cell::Cell;

use tracing::debug;

/// How much less of a core a thread that gives way asks for: about a tenth beside one that does not.
const NICENESS: i32 = 10;

thread_local! {
    static GIVES_WAY: Cell<bool> = const { Cell::new(false) };
}

/// From now on the calling thread runs when others do not want its core, or a tenth of the time. Once is enough.
pub fn give_way() {
    if GIVES_WAY.replace(true) {
        return;
    }
    // On Linux a thread has a niceness of its own.
    if let Err(error) = rustix::process::nice(NICENESS) {
        debug!(%error, "a background thread cannot give way");
    }
}
