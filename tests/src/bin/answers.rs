//! What a real Flink has made of whole jobs, as it is kept: `cargo xtask golden jobs` runs it when Flink is done.

use std::fs;
use std::path::PathBuf;

use anyhow::{Context, Result};
use clap::Parser;
use harness::whole_jobs::{jobs, of_flink};

/// Writes `NAME.json` (to be kept) and `NAME.rows` (all of it, to look at) of each job that has output.
#[derive(Parser)]
struct Args {
    /// The folder with a folder of output for each job.
    out: PathBuf,
    /// Where the answers go.
    answers: PathBuf,
}

fn main() -> Result<()> {
    let Args { out, answers } = Args::parse();
    fs::create_dir_all(&answers)?;
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
