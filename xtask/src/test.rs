//! `test`, `soak`, `power-loss` and `bench`: builds once, then runs. What the tests need beside Rust is found, installed
//! where that is allowed, or named with the exact command; nothing passes by being left out.

use std::path::PathBuf;
use std::process::Command;

use anyhow::{Result, ensure};

use crate::check::{self, WHOLE};
use crate::flink;
use crate::golden;
use crate::jobs;
use crate::run::{cargo, has, is_root, root, step};
use crate::services;

/// Power losses on the simulated disk, per room that keeps something durable.
const SEEDS: &str = "2000";
/// Seeds of the whole simulation (decision 0012): some seconds. `cargo xtask sim` runs more.
const SIM_SEEDS: &str = "200";
/// The cases of `bench` that need nothing, and those that run on Kafka.
const EMBEDDED_CASES: [&str; 6] = ["agent", "gateway", "query", "delay", "breaks", "swarm"];
const KAFKA_CASES: [&str; 6] = ["kafka", "flink", "lanes", "crowd", "siblings", "isolation"];
const FLINK_CASES: [&str; 1] = ["flink"];
/// Every fifth of the golden answers is made again by a real Flink.
const GOLDEN: [&str; 3] = ["--check", "--sample", "5"];

/// And every fourth of the whole jobs.
const JOBS: golden::Options = golden::Options { check: true, every: 4 };

/// Everything.
pub fn run() -> Result<()> {
    let python = python_with_pyarrow()?;
    let kafka = services::kafka()?;
    check::run()?;
    build()?;
    let mut tests = cargo(&["test"]);
    let tests = tests.args(WHOLE).env("ISOLANE_BIN", binary()).env("ISOLANE_PYTHON", &python);
    step("tests", kafka.tell(tests.env("ISOLANE_SEEDS", SEEDS).env("ISOLANE_SIM_SEEDS", SIM_SEEDS)))?;
    golden::run(&GOLDEN.map(str::to_owned))?;
    flink::run(&[])?;
    jobs::run(&JOBS)?;
    soak(&["--kills", "15", "--seed", "1"].map(str::to_owned))?;
    soak(&["--journal", "kafka", "--kills", "7", "--seed", "1"].map(str::to_owned))?;
    if !is_root() && std::env::var_os("CI").is_none() {
        eprintln!("== power loss: left out, a loop mount needs root: sudo -E cargo xtask power-loss --cycles 5");
        return Ok(());
    }
    power_loss(&["--cycles", "5", "--seed", "1"].map(str::to_owned))
}

/// The soak, with its arguments passed on.
pub fn soak(arguments: &[String]) -> Result<()> {
    let kafka = services::kafka()?;
    build()?;
    let mut soak = Command::new(target().join("soak"));
    step("soak", kafka.tell(soak.args(arguments).env("ISOLANE_BIN", binary())))
}

/// Power losses on a real filesystem, with their arguments passed on.
pub fn power_loss(arguments: &[String]) -> Result<()> {
    build()?;
    step("power loss", Command::new(target().join("power_loss")).args(arguments).env("ISOLANE_BIN", binary()))
}

/// The benchmarks, built for release. What a case runs on is there before the long build begins.
pub fn bench(arguments: &[String]) -> Result<()> {
    let kafka = if is_wanted(arguments, &KAFKA_CASES) { Some(services::kafka()?) } else { None };
    let flink = if is_wanted(arguments, &FLINK_CASES) { Some(flink::class_path()?) } else { None };
    step("build for release", &mut cargo(&["build", "--release", "--workspace"]))?;
    let mut bench = Command::new(root().join("target/release/bench"));
    bench.args(arguments).env("ISOLANE_BIN", root().join("target/release/isolane"));
    if let Some(kafka) = kafka {
        kafka.tell(&mut bench);
    }
    if let Some(class_path) = flink {
        bench
            .env("ISOLANE_FLINK_CLASS_PATH", class_path)
            .env("ISOLANE_FLINK_JOBS", root().join("xtask/flink/Jobs.java"));
    }
    step("bench", &mut bench)
}

/// Whether one of these cases is wanted; none named means all of them.
fn is_wanted(arguments: &[String], cases: &[&str]) -> bool {
    // What stands behind an option is its value.
    let is_value = |i: usize| i > 0 && ["--dir", "--size"].contains(&arguments[i - 1].as_str());
    let named = || arguments.iter().enumerate().filter(|(i, _)| !is_value(*i)).map(|(_, argument)| argument.as_str());
    let names = |cases: &[&str]| named().any(|argument| cases.contains(&argument));
    names(cases) || !(names(&KAFKA_CASES) || names(&EMBEDDED_CASES))
}

/// Builds all programs.
pub fn build() -> Result<()> {
    step("build", cargo(&["build", "--bins"]).args(WHOLE))
}

/// Where programs lie.
pub fn target() -> PathBuf {
    root().join("target/debug")
}

/// The program `isolane`.
pub fn binary() -> PathBuf {
    target().join("isolane")
}

/// A Python with pyarrow, the independent reader of what the sinks publish, in the target folder.
pub fn python_with_pyarrow() -> Result<PathBuf> {
    let venv = root().join("target/python");
    let python = venv.join("bin/python");
    if !has(&python, "--version") {
        ensure!(
            has("python3", "--version"),
            "the tests read Parquet with pyarrow: install python3 (apt-get install -y python3 python3-venv)"
        );
        step("python environment", Command::new("python3").args(["-m", "venv"]).arg(&venv))?;
    }
    let imports =
        |python: &PathBuf| Command::new(python).args(["-c", "import pyarrow"]).status().is_ok_and(|s| s.success());
    if !imports(&python) {
        step("pyarrow", Command::new(&python).args(["-m", "pip", "install", "--quiet", "pyarrow==26.0.1"]))?;
    }
    Ok(python)
}
