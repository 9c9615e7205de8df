//! Whole jobs, for `cargo xtask golden jobs`: which there are, and what a real Flink has made of them, as it is kept.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use clap::Parser;
use harness::whole_jobs::{jobs, of_flink};

#[derive(Parser)]
enum Command {
    /// A line for each job: its name, its file of records and its sinks, by tabs.
    List,
    /// Writes `NAME.json` (to be kept) and `NAME.rows` (all of it, to look at) of each job that has output.
    Read {
        /// The folder with a folder of output for each job.
        out: PathBuf,
        /// Where the answers go.
        answers: PathBuf,
    },
}

fn main() -> Result<()> {
    match Command::parse() {
        Command::List => list(),
        Command::Read { out, answers } => read(&out, &answers),
    }
}

fn list() -> Result<()> {
    for job in jobs()? {
        job.read_input()?;
        println!("{}\t{}\t{}", job.name, job.input.display(), job.sinks.join("\t"));
    }
    Ok(())
}

fn read(out: &Path, answers: &Path) -> Result<()> {
    fs::create_dir_all(answers)?;
    for job in jobs()? {
        let dir = out.join(&job.name);
        if dir.is_dir() {
            let found = of_flink(&job, &dir).with_context(|| format!("job {}", job.name))?;
            fs::write(answers.join(format!("{}.rows", job.name)), found.whole())?;
            fs::write(answers.join(format!("{}.json", job.name)), found.summary(&job))?;
        }
    }
    Ok(())
}
