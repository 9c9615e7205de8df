//! The oracle: knows what was offered and what was acknowledged, and counts what came out. Shares nothing with isolane.

use std::collections::BTreeMap;
use std::fmt;

use anyhow::{Result, ensure};

use crate::identity::Identity;

/// What one producer offered. Sequences are dense from 0.
#[derive(Clone, Debug, Default)]
struct Offered {
    /// Per sequence: whether the far side said that it has it (for a file: the line is in the file).
    acknowledged: Vec<bool>,
    /// Per sequence: how often it came out.
    seen: Vec<u8>,
}

/// Offered and delivered records of a whole run.
#[derive(Debug, Default)]
pub struct Oracle {
    producers: BTreeMap<(String, u32), Offered>,
    foreign: Vec<String>,
}

/// What the oracle found. Everything but `delivered` and `acknowledged` must be zero at an exactly-once sink.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub struct Verdict {
    /// Records acknowledged.
    pub acknowledged: u64,
    /// Distinct records that came out.
    pub delivered: u64,
    /// Acknowledged and not there.
    pub lost: u64,
    /// Copies beyond the first.
    pub doubled: u64,
    /// Rows that nobody offered, or that were damaged.
    pub foreign: u64,
    /// The first few of each kind, for a person.
    pub examples: Vec<String>,
}

const EXAMPLES_MAX: usize = 8;

impl Oracle {
    /// States that a producer offered `sequence`, acknowledged or not. A later acknowledgement counts.
    pub fn offered(&mut self, stream: &str, producer: u32, sequence: u64, acknowledged: bool) {
        let offered = self.producers.entry((stream.to_owned(), producer)).or_default();
        let at = sequence as usize;
        if offered.acknowledged.len() <= at {
            offered.acknowledged.resize(at + 1, false);
            offered.seen.resize(at + 1, 0);
        }
        offered.acknowledged[at] |= acknowledged;
    }

    /// Takes one row that came out of `stream`'s sink.
    pub fn saw(&mut self, stream: &str, line: &str) {
        let known = Identity::parse(line).filter(|identity| identity.stream == stream);
        let seen = known.as_ref().and_then(|identity| {
            let offered = self.producers.get_mut(&(identity.stream.clone(), identity.producer))?;
            offered.seen.get_mut(identity.sequence as usize)
        });
        match seen {
            Some(count) => *count = count.saturating_add(1),
            None => self.foreign.push(line.chars().take(120).collect()),
        }
    }

    /// Forgets what came out, to count anew.
    pub fn forget_seen(&mut self) {
        self.producers.values_mut().for_each(|offered| offered.seen.fill(0));
        self.foreign.clear();
    }

    /// Counts.
    pub fn verdict(&self) -> Verdict {
        let mut verdict = Verdict { foreign: self.foreign.len() as u64, ..Verdict::default() };
        verdict.examples.extend(self.foreign.iter().take(EXAMPLES_MAX).map(|line| format!("foreign: {line}")));
        for ((stream, producer), offered) in &self.producers {
            for (sequence, (acknowledged, seen)) in offered.acknowledged.iter().zip(&offered.seen).enumerate() {
                verdict.count(*acknowledged, *seen, || format!("{stream} {producer} {sequence}"));
            }
        }
        verdict
    }
}

impl Verdict {
    fn count(&mut self, acknowledged: bool, seen: u8, name: impl Fn() -> String) {
        self.acknowledged += u64::from(acknowledged);
        self.delivered += u64::from(seen > 0);
        let what = match (acknowledged, seen) {
            (true, 0) => "lost",
            (_, 2..) => "doubled",
            _ => return,
        };
        self.lost += u64::from(seen == 0);
        self.doubled += u64::from(seen.saturating_sub(1));
        if self.examples.len() < EXAMPLES_MAX {
            self.examples.push(format!("{what}: {}", name()));
        }
    }

    /// Fails unless everything acknowledged came out exactly once, and at least `records_min` did.
    pub fn exactly_once(&self, records_min: u64) -> Result<()> {
        ensure!(self.lost == 0 && self.doubled == 0 && self.foreign == 0, "{self}");
        ensure!(self.delivered >= records_min, "only {} of {records_min} records came out: {self}", self.delivered);
        Ok(())
    }
}

impl fmt::Display for Verdict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { acknowledged, delivered, lost, doubled, foreign, examples } = self;
        write!(
            f,
            "{acknowledged} acknowledged, {delivered} delivered, {lost} lost, {doubled} doubled, {foreign} foreign"
        )?;
        examples.iter().try_for_each(|example| write!(f, "\n  {example}"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn losses_doubles_and_strangers_are_counted() {
        let mut oracle = Oracle::default();
        let line = |sequence| Identity { stream: "s".into(), producer: 1, sequence }.line(40);
        (0..4).for_each(|sequence| oracle.offered("s", 1, sequence, sequence != 3));
        for row in [line(0), line(1), line(1), line(9), "noise".to_owned()] {
            oracle.saw("s", &row);
        }
        let verdict = oracle.verdict();
        let counts = (verdict.acknowledged, verdict.delivered, verdict.lost, verdict.doubled, verdict.foreign);
        assert_eq!(counts, (3, 2, 1, 1, 2), "{verdict}");
        assert!(verdict.exactly_once(0).is_err());
    }

    #[test]
    fn a_run_that_did_nothing_fails() {
        assert!(Oracle::default().verdict().exactly_once(1).is_err());
    }
}
