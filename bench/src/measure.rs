//! CPU and time: of a process, of the calling thread, of a run; medians of runs; limit and ours in turn.

use std::time::{Duration, Instant};

use anyhow::{Context, Result};

/// Ticks a second of the CPU times in `/proc/PID/stat`: Linux's USER_HZ, the same on every machine that isolane runs on.
const TICKS_PER_SECOND: f64 = 100.0;

/// CPU time that a process has used, in steps of 10 ms.
pub fn process_cpu(pid: u32) -> Result<Duration> {
    let path = format!("/proc/{pid}/stat");
    let text = std::fs::read_to_string(&path).with_context(|| path.clone())?;
    // The name in brackets may hold blanks; user and system time are the 12th and 13th field behind it.
    let behind_name = text.rsplit_once(')').with_context(|| path.clone())?.1;
    let mut ticks = behind_name.split_whitespace().skip(11).map(str::parse::<u32>);
    let mut next = || ticks.next().with_context(|| format!("{path} is too short"))?.context("ticks");
    Ok(Duration::from_secs_f64(f64::from(next()? + next()?) / TICKS_PER_SECOND))
}

/// Memory that a process holds: its resident set.
pub fn resident_bytes(pid: u32) -> Result<u64> {
    of_status(pid, "VmRSS:")
}

/// The most memory that a process held since it began, or since [`forget_peak`].
pub fn resident_bytes_peak(pid: u32) -> Result<u64> {
    of_status(pid, "VmHWM:")
}

/// Counts a process's peak of memory anew.
pub fn forget_peak(pid: u32) -> Result<()> {
    let path = format!("/proc/{pid}/clear_refs");
    std::fs::write(&path, "5").with_context(|| path.clone())
}

fn of_status(pid: u32, name: &str) -> Result<u64> {
    let path = format!("/proc/{pid}/status");
    let text = std::fs::read_to_string(&path).with_context(|| path.clone())?;
    let line = text.lines().find_map(|line| line.strip_prefix(name)).with_context(|| path.clone())?;
    let kib: u64 = line.trim().trim_end_matches(" kB").parse().with_context(|| path.clone())?;
    Ok(kib * 1024)
}

/// CPU time that the calling thread has used. The kernel brings it up to date at every tick: a sum of many differences
/// is right, a single one is off by up to some milliseconds.
pub fn thread_cpu() -> Result<Duration> {
    let text = std::fs::read_to_string("/proc/thread-self/schedstat").context("/proc/thread-self/schedstat")?;
    let nanos = text.split(' ').next().context("schedstat is empty")?;
    Ok(Duration::from_nanos(nanos.parse().context("schedstat")?))
}

/// How many cores the whole machine uses, seen over `within`.
pub fn busy_cores(within: Duration) -> Result<f64> {
    let before = busy_ticks()?;
    std::thread::sleep(within);
    Ok((busy_ticks()? - before) / TICKS_PER_SECOND / within.as_secs_f64())
}

/// Ticks that all cores together were neither idle nor waiting for a disk, guests' and stolen ones included.
fn busy_ticks() -> Result<f64> {
    let text = std::fs::read_to_string("/proc/stat").context("/proc/stat")?;
    let first = text.lines().next().context("/proc/stat is empty")?;
    let ticks = first.split_whitespace().skip(1).take(8).map(str::parse::<f64>).collect::<Result<Vec<f64>, _>>()?;
    // Fourth and fifth: idle, and waiting for a disk.
    Ok(ticks.iter().enumerate().filter(|(i, _)| !(3..=4).contains(i)).map(|(_, ticks)| ticks).sum())
}

/// Adds up the thread's CPU time between marks.
pub struct Laps {
    last: Duration,
}

impl Laps {
    /// Starts now.
    pub fn start() -> Result<Self> {
        Ok(Self { last: thread_cpu()? })
    }

    /// Adds what was used since the last mark to `part`.
    pub fn add_to(&mut self, part: &mut Duration) -> Result<()> {
        let now = thread_cpu()?;
        *part += now.saturating_sub(self.last);
        self.last = now;
        Ok(())
    }
}

/// One run.
#[derive(Clone, Debug, Default)]
pub struct Sample {
    /// Records that went the whole way.
    pub records: u64,
    /// Their bytes.
    pub bytes: u64,
    /// From the first record to the end.
    pub wall: Duration,
    /// CPU of all that is counted.
    pub cpu: Duration,
    /// CPU of parts, by name.
    pub parts: Vec<(&'static str, Duration)>,
}

impl Sample {
    /// Millions of bytes a second.
    pub fn mb_per_second(&self) -> f64 {
        self.bytes as f64 / 1e6 / self.wall.as_secs_f64()
    }

    /// CPU-seconds per million records of `cpu`.
    pub fn per_million(&self, cpu: Duration) -> f64 {
        cpu.as_secs_f64() * 1e6 / self.records as f64
    }
}

/// The runs of a case, limit and ours.
#[derive(Debug, Default)]
pub struct Pair {
    /// Of the limit.
    pub limit: Vec<Sample>,
    /// Of ours.
    pub ours: Vec<Sample>,
}

/// Runs limit and ours in turn, so that a machine that becomes slower is slower for both.
pub async fn alternate(
    rounds: usize,
    mut limit: impl AsyncFnMut() -> Result<Sample>,
    mut ours: impl AsyncFnMut() -> Result<Sample>,
) -> Result<Pair> {
    let mut pair = Pair::default();
    for _ in 0..rounds {
        pair.limit.push(told("limit", limit().await?));
        pair.ours.push(told("ours", ours().await?));
    }
    Ok(pair)
}

fn told(side: &str, sample: Sample) -> Sample {
    let cpu = sample.per_million(sample.cpu);
    eprintln!("   {side}: {:.1} MB/s, {cpu:.3} CPU-s per million records", sample.mb_per_second());
    sample
}

/// Median, least and most.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Spread {
    /// The middle one (of an even number: the upper of the two in the middle).
    pub median: f64,
    /// The least.
    pub min: f64,
    /// The most.
    pub max: f64,
}

/// The spread of some values; `None` of none.
pub fn spread(values: impl Iterator<Item = f64>) -> Option<Spread> {
    let mut values: Vec<f64> = values.collect();
    values.sort_by(f64::total_cmp);
    Some(Spread { median: *values.get(values.len() / 2)?, min: *values.first()?, max: *values.last()? })
}

/// The value below or at which `percent` of the sorted `values` lie.
pub fn percentile(values: &[i64], percent: usize) -> i64 {
    let rank = (values.len() * percent).div_ceil(100).max(1);
    values.get(rank - 1).copied().unwrap_or(0)
}

/// Time between two moments of a run that is watched from outside.
pub struct Stretch {
    began: Option<Instant>,
    ended: Option<Instant>,
}

impl Stretch {
    /// Not begun.
    pub fn new() -> Self {
        Self { began: None, ended: None }
    }

    /// Something happened; the first call begins the stretch.
    pub fn mark(&mut self) {
        let now = Instant::now();
        self.began.get_or_insert(now);
        self.ended = Some(now);
    }

    /// From the first to the last mark.
    pub fn length(&self) -> Duration {
        self.began.zip(self.ended).map_or(Duration::ZERO, |(began, ended)| ended - began)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn spreads_and_percentiles_name_values_that_are_there() {
        let found = spread([3.0, 1.0, 2.0].into_iter());
        assert_eq!(found, Some(Spread { median: 2.0, min: 1.0, max: 3.0 }));
        assert_eq!(spread(std::iter::empty()), None);
        let values: Vec<i64> = (1..=200).collect();
        assert_eq!((percentile(&values, 50), percentile(&values, 99), percentile(&[], 99)), (100, 198, 0));
    }

    #[test]
    fn cpu_grows_with_work() {
        let before = thread_cpu().unwrap();
        let mut sum = 0_u64;
        while thread_cpu().unwrap() - before < Duration::from_millis(20) {
            sum = (0..10_000_u64).fold(sum, |sum, i| sum.wrapping_mul(31).wrapping_add(i));
        }
        assert!(process_cpu(std::process::id()).unwrap() > Duration::ZERO, "{sum}");
    }
}
