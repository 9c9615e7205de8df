//! `golden jobs`: runs the whole jobs of `crates/query/tests/golden/jobs` on a real Flink, over a real Kafka, and writes or checks what is
//! kept of their answers: counts and digests, not the data. `isolane sql flink` writes their texts, `flink/src/test/e2e/jobs.sh`
//! runs them, the harness's `answers` says which there are and reads what they wrote. The embedded engine is held against the same files by a test.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, ensure};

use crate::flink;
use crate::golden::Options;
use crate::run::{root, step};
use crate::test::{binary, build, target};

/// Where `jobs.sh` has its Kafka.
const CLUSTERS: &str = "normal=127.0.0.1:49092";

/// A job (see `tests/src/whole_jobs.rs`).
struct Job {
    name: String,
    path: PathBuf,
    input: PathBuf,
    sinks: Vec<String>,
}

/// Runs the jobs that are asked for, with the connector as it was packaged last.
pub fn run(options: &Options) -> Result<()> {
    build()?;
    let asked: Vec<Job> = jobs()?.into_iter().step_by(options.every).collect();
    let work = root().join("target/flink-jobs");
    flink::empty(&work)?;
    prepare(&asked, &work)?;
    flink::run_script("jobs.sh", &work)?;
    let answers = work.join("answers");
    step("read the answers", Command::new(target().join("answers")).arg("read").arg(work.join("out")).arg(&answers))?;
    let mut differing = 0;
    for job in &asked {
        let file = format!("{}.json", job.name);
        let answered =
            fs::read_to_string(answers.join(&file)).with_context(|| format!("job {} has no output", job.name))?;
        let path = folder().join(&file);
        let kept = fs::read_to_string(&path).unwrap_or_default();
        if kept != answered {
            differing += 1;
            eprintln!("{}: kept\n{kept}Flink\n{answered}", job.name);
        }
        if !options.check {
            fs::write(&path, &answered)?;
        }
    }
    let verdict = format!("{} whole jobs asked, {differing} differ", asked.len());
    ensure!(!options.check || differing == 0, "{verdict}; see `cargo xtask golden jobs`");
    eprintln!("== {verdict}; all rows are in {}", answers.display());
    Ok(())
}

fn folder() -> PathBuf {
    root().join("crates/query/tests/golden/jobs")
}

/// The jobs as the harness knows them.
fn jobs() -> Result<Vec<Job>> {
    let listed = Command::new(target().join("answers")).arg("list").output()?;
    ensure!(listed.status.success(), "{}", String::from_utf8_lossy(&listed.stderr).trim());
    let job = |line: &str| {
        let mut parts = line.split('\t').map(str::to_owned);
        let (name, input) = parts.next().zip(parts.next()).context("no name or no input")?;
        Ok(Job { path: folder().join(format!("{name}.sql")), name, input: input.into(), sinks: parts.collect() })
    };
    String::from_utf8(listed.stdout)?.lines().map(job).collect()
}

/// Writes the list of the jobs and their texts for Flink.
fn prepare(jobs: &[Job], work: &Path) -> Result<()> {
    let texts = work.join("texts");
    fs::create_dir_all(&texts)?;
    let mut list = String::new();
    for Job { name, path, input, sinks } in jobs {
        let topic = format!("jobs.{}", input.file_name().unwrap_or_default().to_string_lossy());
        list += &format!("{name}\t{topic}\t{}\n", input.display());
        let mut write = Command::new(binary());
        write.args(["sql", "flink"]).arg(path).args(["--clusters", CLUSTERS, "--topic", &topic]);
        write.arg("--out").arg(format!("file://{}", work.join("out").join(name).display()));
        write.args(sinks.iter().flat_map(|sink| ["--sink", sink]));
        let text = write.stdout(File::create(texts.join(format!("{name}.sql")))?).status()?;
        ensure!(text.success(), "job {name} cannot be written for Flink");
    }
    Ok(fs::write(work.join("jobs.tsv"), list)?)
}
