//! How soon a thread gets a core that others want too. An acknowledgement has some ten steps on five threads of two
//! processes; where each of them waits until a neighbour's turn has ended, they are late together.
//!
//! Linux gives each thread the same share of a core, in turns of some milliseconds, and since 6.12 lets a thread that
//! asks for shorter turns go before one that is in the midst of a longer one: for the same share, sooner and more often.
//! Older systems take the wish and do nothing. A thread hands its wish on to those that it starts.

use std::time::Duration;

use tracing::debug;

/// The shortest turn that Linux grants.
const SHORT: Duration = Duration::from_micros(100);

/// Asks for short turns: this thread does little at a time, and somebody waits for it.
pub fn go_soon() {
    ask(SHORT);
}

/// Asks for turns of the usual length: nobody waits for this thread.
pub fn go_as_usual() {
    ask(Duration::ZERO);
}

/// Zero means as long as the system likes.
fn ask(turn: Duration) {
    #[cfg(target_os = "linux")]
    if let Err(error) = set_turn(turn) {
        debug!(%error, "a thread cannot ask for turns of another length");
    }
}

#[cfg(target_os = "linux")]
fn set_turn(turn: Duration) -> std::io::Result<()> {
    let attributes = libc::sched_attr {
        size: size_of::<libc::sched_attr>() as u32,
        sched_policy: libc::SCHED_OTHER as u32,
        sched_flags: 0,
        // Stated with the turn; it stays what it is.
        sched_nice: rustix::process::getpriority_process(None)?,
        sched_priority: 0,
        sched_runtime: turn.as_nanos() as u64,
        sched_deadline: 0,
        sched_period: 0,
    };
    let (this_thread, no_flags): (libc::pid_t, libc::c_uint) = (0, 0);
    // SAFETY: the kernel reads as many bytes of `attributes` as `size` says, which is its own, and keeps no pointer.
    #[allow(unsafe_code, reason = "no safe crate has this call")]
    let answer = unsafe { libc::syscall(libc::SYS_sched_setattr, this_thread, &raw const attributes, no_flags) };
    if answer == 0 { Ok(()) } else { Err(std::io::Error::last_os_error()) }
}

#[cfg(all(test, target_os = "linux"))]
mod tests {
    use super::*;

    /// The length of this thread's turns as the kernel tells it, in ns.
    fn turn_ns() -> Option<u64> {
        let text = std::fs::read_to_string("/proc/thread-self/sched").ok()?;
        text.lines().find_map(|line| line.strip_prefix("se.slice")?.rsplit(' ').next()?.parse().ok())
    }

    #[test]
    fn a_wish_is_taken_and_taken_back_and_the_niceness_stays() {
        std::thread::spawn(|| {
            rustix::process::nice(3).unwrap();
            let usual = turn_ns();
            set_turn(SHORT).unwrap();
            let short = turn_ns();
            assert_eq!(std::thread::spawn(turn_ns).join().unwrap(), short, "it is not handed on");
            set_turn(Duration::ZERO).unwrap();
            assert_eq!(turn_ns(), usual);
            assert_eq!(rustix::process::getpriority_process(None).unwrap(), 3);
            // Kernels before 6.12 do not tell, nor do they know.
            assert!(short.is_none() || short == Some(SHORT.as_nanos() as u64), "{short:?}");
        })
        .join()
        .unwrap();
    }
}
