//! `golden`: asks a real Flink for the answers that the embedded engine must repeat, and writes or checks
//! `functions.ndjson`. The cases are in `xtask/flink/cases.txt`, the asking in `Golden.java` beside it.
//!
//! A line of the file is a case, in the order of the cases. A sample leaves the lines of unasked cases empty, so that
//! line N means case N in any run and plain text can be compared; a case more or less is a difference too.

use std::fs;
use std::process::Command;

use anyhow::{Context, Result, bail, ensure};

use crate::flink;
use crate::jobs;
use crate::run::{root, step};
use crate::services::{self, Flink};

const USAGE: &str = "usage: cargo xtask golden [jobs] [--check [--sample N]]

  jobs         asks about whole jobs on real data, not about functions
  (nothing)    asks Flink and writes the file; says what changed
  --check      writes nothing, fails on a difference
  --sample N   asks about every N-th expression, or job, only";
/// Differences shown; all are counted.
const SHOWN_MAX: usize = 10;
/// Packages of the JDK that Flink reaches into.
const OPENED: [&str; 11] = [
    "io",
    "lang",
    "lang.reflect",
    "net",
    "nio",
    "text",
    "time",
    "util",
    "util.concurrent",
    "util.concurrent.atomic",
    "util.concurrent.locks",
];

/// What is asked for.
#[derive(Debug, PartialEq)]
pub struct Options {
    /// Nothing is written, and a difference is a failure.
    pub check: bool,
    /// One in how many is asked about.
    pub every: usize,
}

/// `golden ARGUMENTS`.
pub fn run(arguments: &[String]) -> Result<()> {
    if let Some((jobs, rest)) = arguments.split_first()
        && jobs == "jobs"
    {
        flink::package()?;
        return jobs::run(&options(rest)?);
    }
    let options = options(arguments)?;
    let path = root().join("crates/query/tests/golden/functions.ndjson");
    let name = path.strip_prefix(root()).unwrap_or(&path).display();
    let kept = match fs::read_to_string(&path) {
        Ok(text) => text,
        Err(_) if !options.check => String::new(),
        Err(error) => return Err(error).with_context(|| format!("{name}: make it with `cargo xtask golden`")),
    };
    let answered = ask(&services::flink()?, options.every)?;
    let cases = answered.lines().filter(|line| !line.is_empty()).count();
    let differences = differences(&kept, &answered);
    for difference in differences.iter().take(SHOWN_MAX) {
        eprintln!("{difference}");
    }
    if !options.check && kept != answered {
        fs::create_dir_all(path.parent().context("no folder")?)?;
        fs::write(&path, &answered)?;
    }
    let verdict = format!("{name}: {cases} cases asked, {} differ", differences.len());
    ensure!(!options.check || differences.is_empty(), "{verdict}; see `cargo xtask golden`");
    eprintln!("== {verdict}");
    Ok(())
}

fn options(arguments: &[String]) -> Result<Options> {
    let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    let every = match arguments[..] {
        [] => return Ok(Options { check: false, every: 1 }),
        ["--check"] => Some(1),
        ["--check", "--sample", every] | ["--sample", every, "--check"] => every.parse().ok().filter(|n| *n > 0),
        _ => None,
    };
    match every {
        Some(every) => Ok(Options { check: true, every }),
        None => bail!("{USAGE}"),
    }
}

/// Runs the cases through Flink. Language and time zone are stated, so that the machine's own do not matter.
fn ask(flink: &Flink, every: usize) -> Result<String> {
    let sources = root().join("xtask/flink");
    let work = services::folder().join("golden");
    fs::create_dir_all(&work)?;
    let answers = work.join("functions.ndjson");
    let mut java = Command::new(&flink.java);
    java.args(["-Xmx1g", "-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1", "-Dfile.encoding=UTF-8"]);
    java.args(["-Duser.timezone=UTC", "-Duser.language=en", "-Duser.country=US"]);
    java.arg(format!("-Dlog4j.configurationFile={}", sources.join("log4j.properties").display()));
    java.args(OPENED.map(|package| format!("--add-opens=java.base/java.{package}=ALL-UNNAMED")));
    java.arg("-cp").arg(flink.lib.join("*")).arg(sources.join("Golden.java"));
    java.arg(sources.join("cases.txt")).arg(&answers).arg(every.to_string());
    step("ask Flink", &mut java)?;
    Ok(fs::read_to_string(&answers)?)
}

/// What differs, line by line; an empty answered line was not asked.
fn differences(kept: &str, answered: &str) -> Vec<String> {
    let (kept, answered): (Vec<&str>, Vec<&str>) = (kept.lines().collect(), answered.lines().collect());
    let mut found = Vec::new();
    for case in 0..kept.len().max(answered.len()) {
        match (kept.get(case), answered.get(case)) {
            (Some(_), Some(&"")) => {}
            (Some(was), Some(is)) if was == is => {}
            (was, is) => found.push(format!(
                "case {}\n  file   {}\n  Flink  {}",
                case + 1,
                was.unwrap_or(&"(no such case)"),
                is.unwrap_or(&"(no such case)"),
            )),
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn unasked_cases_are_no_difference_but_missing_ones_are() {
        assert!(differences("a\nb\nc\n", "a\n\nc\n").is_empty());
        assert_eq!(differences("a\nb\nc\n", "a\n\nC\n").len(), 1);
        assert_eq!(differences("a\nb\nc\n", "a\n\n").len(), 1, "a case less");
        assert_eq!(differences("a\nb\n", "a\n\n\n").len(), 1, "a case more, though unasked");
        assert_eq!(differences("", "a\n").len(), 1, "no file yet");
    }

    #[test]
    fn a_sample_is_never_written() {
        let options = |text: &str| options(&text.split_whitespace().map(str::to_owned).collect::<Vec<_>>());
        assert_eq!(options("--check --sample 20").ok(), Some(Options { check: true, every: 20 }));
        assert_eq!(options("").ok(), Some(Options { check: false, every: 1 }));
        for bad in ["--sample 20", "--check --sample 0", "--check --sample", "--chek"] {
            assert!(options(bad).is_err(), "{bad:?} was taken");
        }
    }
}
