//! The tables, in Markdown, on standard output: what the README shows.

use std::fmt;
use std::time::Duration;

use anyhow::Result;

use crate::case::Plan;
use crate::load::CONNECTIONS;
use crate::matrix::Matrix;
use crate::measure::{self, Pair, Sample, Spread, spread};
use crate::pace::Paced;

/// How long the machine is looked at.
const LOOK: Duration = Duration::from_secs(1);
/// More than this in use by others disturbs the figures.
const BUSY_CORES: f64 = 0.2;

/// All that was measured.
pub struct Report {
    machine: String,
    pairs: Vec<(&'static str, usize, Pair)>,
    delays: Option<Delays>,
    laned: Vec<Laned>,
    standing: Vec<Standing>,
    idle: Vec<Idle>,
    known: Vec<Known>,
    breaks: Vec<Break>,
    halves: Vec<Half>,
    phases: Vec<Phase>,
    matrices: Vec<Matrix>,
    /// How long after its return a dead sink had everything.
    pub caught_up_after: Option<Duration>,
}

/// What a leg did before, while and after its sibling's sink was dead.
#[derive(Debug)]
pub struct Phase {
    /// The leg.
    pub leg: &'static str,
    /// The phase.
    pub name: &'static str,
    /// How long it was.
    pub seconds: f64,
    /// Records that a reader saw, a second.
    pub per_second: f64,
    /// From a record's making to a reader's sight, in ms.
    pub p50: i64,
    /// The same.
    pub p99: i64,
}

/// A door at half of what it can take.
#[derive(Debug)]
pub struct Half {
    /// The case.
    pub case: &'static str,
    /// Limit or ours.
    pub side: &'static str,
    /// Bytes of a record.
    pub record_bytes: usize,
    /// Bytes of a request.
    pub bytes: usize,
    /// How the load went.
    pub paced: Paced,
    /// CPU of the door.
    pub cpu: Duration,
}

/// Many streams at a given rate.
#[derive(Debug)]
pub struct Laned {
    /// Limit or ours.
    pub side: &'static str,
    /// Streams.
    pub streams: usize,
    /// How the load went.
    pub paced: Paced,
    /// CPU of the door and what is behind it.
    pub cpu: Duration,
    /// CPU of what is behind the door: brokers, or journal and jobs.
    pub behind_cpu: Duration,
}

/// How long records stood still.
#[derive(Debug)]
pub struct Break {
    /// After what.
    pub name: &'static str,
    /// From each break to the first record's append that was made after it, in ms.
    pub waits_ms: Vec<i64>,
}

/// What it costs on Flink to know which records came before, each request being a source of its own.
#[derive(Debug)]
pub struct Known {
    /// What knows it.
    pub by: &'static str,
    /// Bytes of a record.
    pub record_bytes: usize,
    /// Sources.
    pub sources: usize,
    /// Records of all sources together.
    pub records: u64,
    /// CPU of a job that reads, decodes and writes nothing, each round's.
    pub cpu: Vec<Duration>,
    /// Its state in the largest checkpoint.
    pub state_bytes: u64,
}

/// What streams cost that have nothing to say.
#[derive(Debug)]
pub struct Idle {
    /// The process.
    pub role: &'static str,
    /// Streams.
    pub streams: usize,
    /// Its memory with them.
    pub bytes: u64,
    /// What each of them adds.
    pub bytes_each: u64,
    /// Cores that it uses with them.
    pub cores: f64,
    /// CPU-µs a second that each of them adds.
    pub cpu_us_each: f64,
}

/// What a process takes while nothing flows.
#[derive(Debug)]
pub struct Standing {
    /// The process.
    pub role: &'static str,
    /// Streams.
    pub streams: usize,
    /// Its memory.
    pub resident_bytes: u64,
    /// Cores that it uses.
    pub cores: f64,
    /// Cores that the brokers use.
    pub brokers_cores: f64,
}

/// Delays at half load; each a median and a 99th percentile in ms.
#[derive(Debug, Default)]
pub struct Delays {
    /// Records measured.
    pub records: u64,
    /// Bytes of each.
    pub record_bytes: usize,
    /// Records offered a second.
    pub per_second: f64,
    /// How often the job commits.
    pub checkpoint: Duration,
    /// From the journal's append to a reader's hand.
    pub append_to_read: [i64; 2],
    /// From the journal's append to the commit of the file.
    pub append_to_commit: [i64; 2],
    /// From the record's making to the commit of the file.
    pub made_to_commit: [i64; 2],
}

impl Report {
    /// Looks at the machine for a moment, and notes it, before the first run.
    pub fn begin(plan: &Plan) -> Result<Self> {
        let cores = std::thread::available_parallelism()?;
        let others = measure::busy_cores(LOOK)?;
        let load = std::fs::read_to_string("/proc/loadavg")?;
        let load = load.split(' ').next().unwrap_or_default();
        let busy = if others > BUSY_CORES { "**busy with other work**" } else { "otherwise idle" };
        let rough = if plan.quick { "; `--quick`: one short round, rough figures" } else { "" };
        let machine = format!(
            "{cores} cores, {busy} ({others:.1} cores in use and load average {load} before the start); {} x (limit, \
             ours), {} MB a run{rough}.",
            plan.rounds,
            plan.bytes / 1_000_000
        );
        Ok(Self {
            machine,
            pairs: Vec::new(),
            delays: None,
            laned: Vec::new(),
            standing: Vec::new(),
            idle: Vec::new(),
            known: Vec::new(),
            breaks: Vec::new(),
            halves: Vec::new(),
            phases: Vec::new(),
            matrices: Vec::new(),
            caught_up_after: None,
        })
    }

    /// Adds a case.
    pub fn add(&mut self, case: &'static str, record_bytes: usize, pair: Pair) {
        self.pairs.push((case, record_bytes, pair));
    }

    /// Adds the delays.
    pub fn add_delays(&mut self, delays: Delays) {
        self.delays = Some(delays);
    }

    /// Adds a run with many streams.
    pub fn add_laned(&mut self, laned: Laned) {
        eprintln!("   {laned}");
        self.laned.push(laned);
    }

    /// Adds a kind of break.
    pub fn add_break(&mut self, broken: Break) {
        eprintln!("   {broken}");
        self.breaks.push(broken);
    }

    /// Adds what it costs to know records.
    pub fn add_known(&mut self, known: Known) {
        eprintln!("   {known}");
        self.known.push(known);
    }

    /// Adds what idle streams cost.
    pub fn add_idle(&mut self, idle: Idle) {
        eprintln!("   {idle}");
        self.idle.push(idle);
    }

    /// Adds a process that stands.
    pub fn add_standing(&mut self, standing: Standing) {
        eprintln!("   {standing}");
        self.standing.push(standing);
    }

    /// Adds a run at half of what a door can take.
    pub fn add_half(&mut self, half: Half) {
        eprintln!("   {half}");
        self.halves.push(half);
    }

    /// Adds a phase.
    pub fn add_phase(&mut self, phase: Phase) {
        self.phases.push(phase);
    }

    /// Adds what the others felt of a noisy stream.
    pub fn add_matrix(&mut self, matrix: Matrix) {
        self.matrices.push(matrix);
    }

    fn write_phases(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "\n| leg | its sibling's sink | s | records/s | p50 ms | p99 ms |\n|---|---|---|---|---|---|")?;
        for Phase { leg, name, seconds, per_second, p50, p99 } in &self.phases {
            writeln!(f, "| {leg} | {name} | {seconds:.0} | {per_second:.0} | {p50} | {p99} |")?;
        }
        match self.caught_up_after {
            Some(after) => writeln!(f, "\nThe dead sink had everything {:.0} s after its return.", after.as_secs_f64()),
            None => Ok(()),
        }
    }

    fn write_costs(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(
            f,
            "| case | record | ours MB/s | limit MB/s | ours CPU-s per million | limit CPU-s per million | CPU ratio |"
        )?;
        writeln!(f, "|---|---|---|---|---|---|---|")?;
        for (case, size, pair) in &self.pairs {
            let speed = |samples: &[Sample]| spread(samples.iter().map(Sample::mb_per_second));
            let cost = |samples: &[Sample]| spread(samples.iter().map(|sample| sample.per_million(sample.cpu)));
            let (ours, limit) = (cost(&pair.ours), cost(&pair.limit));
            let ratio = ours.zip(limit).map_or(0.0, |(ours, limit)| ours.median / limit.median);
            let [ours_speed, limit_speed] = [&pair.ours, &pair.limit].map(|side| shown(speed(side), 0));
            let [ours, limit] = [ours, limit].map(|cost| shown(cost, 2));
            writeln!(f, "| {case} | {size} B | {ours_speed} | {limit_speed} | {ours} | {limit} | {ratio:.1} |")?;
        }
        Ok(())
    }

    fn write_parts(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "\n| of it, CPU-s per million | record | ours | limit |\n|---|---|---|---|")?;
        for (case, size, pair) in &self.pairs {
            let [ours, limit] = [&pair.ours, &pair.limit].map(|side| parts(side));
            if !(ours.is_empty() && limit.is_empty()) {
                writeln!(f, "| {case} | {size} B | {ours} | {limit} |")?;
            }
        }
        Ok(())
    }
}

/// `median (min-max)`.
pub fn shown(spread: Option<Spread>, digits: usize) -> String {
    match spread {
        None => "-".to_owned(),
        Some(Spread { median, min, max }) if min == max => format!("{median:.digits$}"),
        Some(Spread { median, min, max }) => format!("{median:.digits$} ({min:.digits$}-{max:.digits$})"),
    }
}

/// The medians of each part.
fn parts(samples: &[Sample]) -> String {
    let names = samples.first().map(|sample| sample.parts.iter().map(|(name, _)| *name)).into_iter().flatten();
    let part = |(i, name): (usize, &str)| {
        let cost = |sample: &Sample| sample.parts.get(i).map(|(_, cpu)| sample.per_million(*cpu));
        format!("{name} {:.2}", spread(samples.iter().filter_map(cost)).map_or(0.0, |cost| cost.median))
    };
    names.enumerate().map(part).collect::<Vec<_>>().join(", ")
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "{}\n", self.machine)?;
        if !self.pairs.is_empty() {
            self.write_costs(f)?;
            self.write_parts(f)?;
            writeln!(f, "\nGateway: {CONNECTIONS} connections, one request of about 100 kB under way on each.")?;
        }
        if let Some(delays) = &self.delays {
            write!(f, "{delays}")?;
        }
        if !self.halves.is_empty() {
            writeln!(
                f,
                "\n| at half of the most | side | record | MB/s | refused | p50 ms | p99 ms | CPU-s per million |"
            )?;
            writeln!(f, "|---|---|---|---|---|---|---|---|")?;
        }
        self.halves.iter().try_for_each(|half| writeln!(f, "{half}"))?;
        if !self.phases.is_empty() {
            self.write_phases(f)?;
        }
        if !self.laned.is_empty() {
            writeln!(
                f,
                "\n| side | streams | requests/s | refused | p50 ms | p99 ms | most ms | ms CPU a request | behind |"
            )?;
            writeln!(f, "|---|---|---|---|---|---|---|---|---|")?;
        }
        self.laned.iter().try_for_each(|laned| writeln!(f, "{laned}"))?;
        if !self.standing.is_empty() {
            writeln!(f, "\n| nothing flows | streams | MB resident | cores | brokers' cores |\n|---|---|---|---|---|")?;
        }
        self.standing.iter().try_for_each(|standing| writeln!(f, "{standing}"))?;
        if !self.idle.is_empty() {
            writeln!(f, "\n| nothing flows | streams | MB resident | KiB a stream | cores | CPU-µs a stream and s |")?;
            writeln!(f, "|---|---|---|---|---|---|")?;
        }
        self.idle.iter().try_for_each(|idle| writeln!(f, "{idle}"))?;
        if !self.known.is_empty() {
            writeln!(
                f,
                "\n| on Flink, doubles known by | record | sources | records | CPU-s per million | state MB | bytes a source |"
            )?;
            writeln!(f, "|---|---|---|---|---|---|---|")?;
        }
        self.known.iter().try_for_each(|known| writeln!(f, "{known}"))?;
        if !self.breaks.is_empty() {
            writeln!(f, "\n| records stand still after | times | median ms | most ms |\n|---|---|---|---|")?;
        }
        self.breaks.iter().try_for_each(|broken| writeln!(f, "{broken}"))?;
        self.matrices.iter().try_for_each(|matrix| write!(f, "{matrix}"))
    }
}

impl fmt::Display for Half {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { case, side, record_bytes, bytes, paced, cpu } = self;
        let bytes = (paced.delays_us.len() * bytes) as f64;
        let mb_per_second = bytes / 1e6 / paced.wall.as_secs_f64();
        let ms = |percent| measure::percentile(&paced.delays_us, percent) as f64 / 1e3;
        let per_million = cpu.as_secs_f64() * 1e6 * *record_bytes as f64 / bytes;
        let refused = paced.refused;
        write!(
            f,
            "| {case} | {side} | {record_bytes} B | {mb_per_second:.0} | {refused} | {:.1} | {:.1} | {per_million:.2} |",
            ms(50),
            ms(99)
        )
    }
}

impl fmt::Display for Laned {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { side, streams, paced, cpu, behind_cpu } = self;
        let answered = paced.delays_us.len() as f64;
        let per_second = answered / paced.wall.as_secs_f64();
        let ms = |percent| measure::percentile(&paced.delays_us, percent) as f64 / 1e3;
        let each = |cpu: &Duration| cpu.as_secs_f64() * 1e3 / answered;
        write!(
            f,
            "| {side} | {streams} | {per_second:.0} | {} | {:.1} | {:.1} | {:.1} | {:.3} | {:.3} |",
            paced.refused,
            ms(50),
            ms(99),
            ms(100),
            each(cpu),
            each(behind_cpu)
        )
    }
}

impl fmt::Display for Standing {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { role, streams, resident_bytes, cores, brokers_cores } = self;
        let mb = *resident_bytes as f64 / 1e6;
        write!(f, "| {role} | {streams} | {mb:.0} | {cores:.3} | {brokers_cores:.3} |")
    }
}

impl fmt::Display for Break {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut waits = self.waits_ms.clone();
        waits.sort_unstable();
        let at = |percent| measure::percentile(&waits, percent);
        write!(f, "| {} | {} | {} | {} |", self.name, waits.len(), at(50), at(100))
    }
}

impl fmt::Display for Known {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { by, record_bytes, sources, records, cpu, state_bytes } = self;
        let per_million = shown(spread(cpu.iter().map(|cpu| cpu.as_secs_f64() * 1e6 / *records as f64)), 2);
        let (mb, each) = (*state_bytes as f64 / 1e6, *state_bytes as f64 / *sources as f64);
        write!(f, "| {by} | {record_bytes} B | {sources} | {records} | {per_million} | {mb:.1} | {each:.0} |")
    }
}

impl fmt::Display for Idle {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { role, streams, bytes, bytes_each, cores, cpu_us_each } = self;
        let (mb, kib) = (*bytes as f64 / 1e6, *bytes_each as f64 / 1024.0);
        write!(f, "| {role} | {streams} | {mb:.0} | {kib:.1} | {cores:.3} | {cpu_us_each:.1} |")
    }
}

impl fmt::Display for Delays {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { records, record_bytes, per_second, checkpoint, .. } = self;
        writeln!(
            f,
            "\nDelays of {records} records of {record_bytes} B at {per_second:.0} a second, half of what this machine \
             brought to committed files; checkpoint every {} s:\n",
            checkpoint.as_secs_f64()
        )?;
        writeln!(f, "| from | to | p50 ms | p99 ms |\n|---|---|---|---|")?;
        for (from, to, [p50, p99]) in [
            ("append", "the job's read", self.append_to_read),
            ("append", "committed file", self.append_to_commit),
            ("made by the client", "committed file", self.made_to_commit),
        ] {
            writeln!(f, "| {from} | {to} | {p50} | {p99} |")?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_case_is_a_row_with_medians_and_ratio() {
        let sample = |seconds| Sample {
            records: 1_000_000,
            bytes: 200_000_000,
            wall: Duration::from_secs(2),
            cpu: Duration::from_secs(seconds),
            parts: vec![("gateway", Duration::from_secs(seconds))],
        };
        let pair = Pair { limit: vec![sample(1)], ours: vec![sample(2), sample(4), sample(3)] };
        let mut report = Report {
            machine: String::new(),
            pairs: Vec::new(),
            delays: None,
            laned: Vec::new(),
            standing: Vec::new(),
            idle: Vec::new(),
            known: Vec::new(),
            breaks: Vec::new(),
            halves: Vec::new(),
            phases: Vec::new(),
            matrices: Vec::new(),
            caught_up_after: None,
        };
        report.add("some case", 200, pair);
        let text = report.to_string();
        assert!(text.contains("| some case | 200 B | 100 | 100 | 3.00 (2.00-4.00) | 1.00 | 3.0 |"), "{text}");
        assert!(text.contains("| some case | 200 B | gateway 3.00 | gateway 1.00 |"), "{text}");
    }
}
