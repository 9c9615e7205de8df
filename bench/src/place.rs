//! Who runs where, so that a noisy client is measured by what it asks of the server and not by the CPU that it takes
//! itself: a share of a core for one process (a control group's quota), a core for a thread, a place before others for
//! a thread that only wakes up and notes the time.

use std::fs::{self, OpenOptions};
use std::io::Write;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, Result};
use rustix::process::setpriority_process;
use rustix::thread::{CpuSet, sched_getaffinity, sched_setaffinity};

/// Where control groups for CPU may hang: the one hierarchy of version 2, or that of version 1.
const HIERARCHIES: [&str; 3] = ["/sys/fs/cgroup", "/sys/fs/cgroup/cpu", "/sys/fs/cgroup/cpu,cpuacct"];
/// A quota is counted anew so often. Short, so that who has used it up is not away for long.
const PERIOD: Duration = Duration::from_millis(10);
/// The niceness of a thread that goes before others.
const BEFORE_OTHERS: i32 = -15;

/// A control group of its own, whose processes together may use so much CPU. It goes when this is dropped, if they are
/// gone.
#[derive(Debug)]
pub struct Quota {
    dir: PathBuf,
}

impl Quota {
    /// A quota of so many cores; `None` where the system lets nobody have one (no control groups, or not ours).
    pub fn new(cores: f64) -> Option<Self> {
        let name = format!("isolane-bench-{}", std::process::id());
        HIERARCHIES.iter().find_map(|root| {
            let dir = Path::new(root).join(&name);
            fs::create_dir(&dir).ok()?;
            let quota = Self { dir };
            quota.limit(cores).ok().map(|()| quota)
        })
    }

    /// The folder to [`enter`].
    pub fn dir(&self) -> &Path {
        &self.dir
    }

    fn limit(&self, cores: f64) -> Result<()> {
        let (period, quota) = (PERIOD.as_micros(), PERIOD.mul_f64(cores).as_micros());
        // What is no control group has none of these files.
        write(&self.dir.join("cpu.max"), &format!("{quota} {period}")).or_else(|_| {
            write(&self.dir.join("cpu.cfs_period_us"), &period.to_string())?;
            write(&self.dir.join("cpu.cfs_quota_us"), &quota.to_string())
        })
    }
}

impl Drop for Quota {
    fn drop(&mut self) {
        // An empty group is left behind at worst.
        let _ = fs::remove_dir(&self.dir);
    }
}

/// Writes to a file that is there.
fn write(path: &Path, text: &str) -> Result<()> {
    let mut file = OpenOptions::new().write(true).open(path).with_context(|| path.display().to_string())?;
    file.write_all(text.as_bytes()).with_context(|| path.display().to_string())
}

/// This process is one of the group in `dir` from now on.
pub fn enter(dir: &Path) -> Result<()> {
    write(&dir.join("cgroup.procs"), &std::process::id().to_string())
}

/// The first and the last core that this process may use.
pub fn first_and_last() -> Result<(usize, usize)> {
    let allowed = sched_getaffinity(None)?;
    let mut cores = (0..CpuSet::MAX_CPU).filter(|core| allowed.is_set(*core));
    let first = cores.next().context("no core")?;
    Ok((first, cores.next_back().unwrap_or(first)))
}

/// The calling thread, and those that it starts, run on this core only.
pub fn pin(core: usize) -> Result<()> {
    let mut set = CpuSet::new();
    set.set(core);
    Ok(sched_setaffinity(None, &set)?)
}

/// The calling thread runs at once when it wakes up; answers whether it may.
pub fn go_before_others() -> bool {
    setpriority_process(None, BEFORE_OTHERS).is_ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pinned_thread_is_on_its_core() {
        let (first, last) = first_and_last().unwrap();
        assert!(first <= last);
        let pinned = std::thread::spawn(move || {
            pin(last).unwrap();
            first_and_last().unwrap()
        });
        assert_eq!(pinned.join().unwrap(), (last, last));
    }

    #[test]
    fn no_group_is_left_where_there_are_none() {
        let dir = tempfile::tempdir().unwrap();
        let quota = Quota { dir: dir.path().join("group") };
        fs::create_dir(quota.dir()).unwrap();
        assert!(quota.limit(0.5).is_err() && enter(quota.dir()).is_err());
        drop(quota);
        assert!(!dir.path().join("group").exists());
    }
}
