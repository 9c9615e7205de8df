//! What the others feel of one noisy stream: a table for each journal, a row for each kind of noise.

use std::collections::BTreeMap;
use std::fmt;
use std::time::Duration;

use crate::measure::{Spread, percentile, spread};
use crate::noise::Heard;
use crate::pace::Paced;
use crate::report::shown;

/// The p99 rule of isolane's design: during the noise the others' may be this much of what it was before, or this much
/// more, whichever allows more.
const RATIO_MAX: f64 = 1.2;
const MORE_MS_MAX: f64 = 5.0;
/// What a gateway may hold beside what it counts.
const MEMORY_MARGIN: f64 = 1.1;

/// One journal's table.
#[derive(Debug)]
pub struct Matrix {
    /// The journal.
    pub journal: &'static str,
    /// What there is, in the same run.
    pub capacity: Capacity,
    /// How it was made, and where what ran.
    pub how: String,
    /// Its rows.
    pub rows: Vec<Row>,
}

/// Requests a second that gateway and journal take at most.
#[derive(Clone, Copy, Debug)]
pub struct Capacity {
    /// Each at its moment, as the others send them, with an answer in time.
    pub paced: f64,
    /// As fast as they are answered, from many connections at once: with each turn there are many to do, which costs less
    /// for each.
    pub crowded: f64,
}

/// One kind of noise.
#[derive(Debug)]
pub struct Row {
    /// The noise.
    pub name: &'static str,
    /// The others' load before each noise, and how it went.
    pub before: Vec<Paced>,
    /// The same during it.
    pub during: Vec<Paced>,
    /// Requests a second that the noisy one was to send.
    pub asked_per_second: f64,
    /// What became of its requests.
    pub heard: Vec<Heard>,
    /// The gateway's memory: when nothing flowed, at most, and its budget for all streams together.
    pub memory: Memory,
}

/// Bytes of a gateway.
#[derive(Clone, Copy, Debug, Default)]
pub struct Memory {
    /// When nothing flowed.
    pub idle: u64,
    /// At most.
    pub peak: u64,
    /// Its budget.
    pub budget: u64,
}

impl Memory {
    fn allowed(self) -> f64 {
        self.idle as f64 + MEMORY_MARGIN * self.budget as f64
    }
}

/// Whether the p99 rule holds.
fn holds(before_ms: f64, during_ms: f64) -> bool {
    during_ms <= (RATIO_MAX * before_ms).max(before_ms + MORE_MS_MAX)
}

/// A percentile of each round's delays, in ms.
fn rounds(paced: &[Paced], percent: usize) -> Option<Spread> {
    spread(paced.iter().map(|paced| percentile(&paced.delays_us, percent) as f64 / 1e3))
}

/// A second, over all rounds.
fn per_second(count: u64, heard: &[Heard]) -> f64 {
    count as f64 / heard.iter().map(|heard| heard.wall).sum::<Duration>().as_secs_f64()
}

/// Refusals a second by status.
fn refusals(heard: &[Heard]) -> String {
    let mut counts = BTreeMap::<u16, u64>::new();
    for (status, count) in heard.iter().flat_map(|heard| &heard.refused) {
        *counts.entry(*status).or_default() += count;
    }
    let shown = counts.iter().map(|(status, count)| format!("{:.0} of {status}", per_second(*count, heard)));
    let shown: Vec<_> = shown.collect();
    if shown.is_empty() { "0".to_owned() } else { shown.join(", ") }
}

impl fmt::Display for Matrix {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { journal, capacity: Capacity { paced, crowded }, how, rows } = self;
        writeln!(
            f,
            "\nOne noisy stream, {journal}; at most {paced:.0} requests/s, each at its moment, and {crowded:.0} as fast as \
             they are answered. {how}\n"
        )?;
        writeln!(
            f,
            "| noise | the others' p50 ms, before / during | p99 ms, before / during | ratio | p99 rule | refused | \
             noisy: asked/s | sent/s | taken/s | refused/s | share of what is taken | cores | MB of gateway / allowed |"
        )?;
        writeln!(f, "|---|---|---|---|---|---|---|---|---|---|---|---|---|")?;
        rows.iter().try_for_each(|row| writeln!(f, "{row}"))
    }
}

impl fmt::Display for Row {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { name, before, during, asked_per_second, heard, memory } = self;
        let [p50_before, p50_during] = [before, during].map(|paced| shown(rounds(paced, 50), 1));
        let p99 = [before, during].map(|paced| rounds(paced, 99));
        let [before_ms, during_ms] = p99.map(|p99| p99.map_or(0.0, |p99| p99.median));
        let [p99_before, p99_during] = p99.map(|p99| shown(p99, 1));
        let verdict = if holds(before_ms, during_ms) { "holds" } else { "**broken**" };
        let refused: u64 = before.iter().chain(during).map(|paced| paced.refused).sum();
        let sum = |of: fn(&Heard) -> u64| heard.iter().map(of).sum::<u64>();
        let (sent, taken) = (sum(|heard| heard.sent), sum(|heard| heard.taken));
        let refusals = refusals(heard);
        let cpu: Duration = heard.iter().map(|heard| heard.cpu).sum();
        let wall: Duration = heard.iter().map(|heard| heard.wall).sum();
        let others: usize = during.iter().map(|paced| paced.delays_us.len()).sum();
        let share = 100.0 * taken as f64 / (taken as f64 + others as f64).max(1.0);
        let [sent, taken] = [sent, taken].map(|count| per_second(count, heard));
        let mb = |bytes: f64| bytes / 1e6;
        let (peak, allowed) = (mb(memory.peak as f64), mb(memory.allowed()));
        let over = if peak > allowed { " **over**" } else { "" };
        write!(
            f,
            "| {name} | {p50_before} / {p50_during} | {p99_before} / {p99_during} | {:.2} | {verdict} | {refused} | \
             {asked_per_second:.0} | {sent:.0} | {taken:.0} | {refusals} | {share:.0} % | {:.2} | \
             {peak:.0} / {allowed:.0}{over} |",
            during_ms / before_ms.max(f64::MIN_POSITIVE),
            cpu.as_secs_f64() / wall.as_secs_f64()
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_rule_allows_a_fifth_or_five_milliseconds_more() {
        assert!(holds(10.0, 15.0) && !holds(10.0, 15.1));
        assert!(holds(100.0, 120.0) && !holds(100.0, 121.0));
    }

    #[test]
    fn a_row_has_medians_of_rounds_and_the_noisy_share() {
        let paced = |ms: i64| Paced { delays_us: vec![ms * 1000; 100], ..Paced::default() };
        let heard = Heard {
            sent: 400,
            taken: 300,
            refused: [(429, 100)].into(),
            wall: Duration::from_secs(2),
            ..Heard::default()
        };
        let row = Row {
            name: "surge",
            before: vec![paced(4), paced(1), paced(2)],
            during: vec![paced(9), paced(9), paced(9)],
            asked_per_second: 500.0,
            heard: vec![heard],
            memory: Memory { idle: 10_000_000, peak: 30_000_000, budget: 10_000_000 },
        };
        let text = row.to_string();
        let expected = "| surge | 2.0 (1.0-4.0) / 9.0 | 2.0 (1.0-4.0) / 9.0 | 4.50 | **broken** | 0 | 500 | 200 | 150 | 50 of 429 | \
             50 % | 0.00 | 30 / 21 **over** |";
        assert_eq!(text, expected);
    }
}
