//! `sim`: many seeds of the simulation, spread over the cores, each share in a process of its own.

use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Instant;

use anyhow::{Context, Result, bail, ensure};

use crate::run::{cargo, root, step};

/// Seeds of one process: a minute's work at most, so that progress is seen.
const SHARE: u64 = 250;

/// Runs `--seeds N`, from `--first N` on.
pub fn run(arguments: &[String]) -> Result<()> {
    let (mut seeds, mut first) = (10_000, 0);
    for pair in arguments.chunks(2) {
        let [name, value] = pair else { bail!("sim: {pair:?}: say --seeds N and --first N") };
        let value = value.parse().with_context(|| format!("sim: {name} {value:?} is no number"))?;
        match name.as_str() {
            "--seeds" => seeds = value,
            "--first" => first = value,
            _ => bail!("sim: {name:?} is unknown: say --seeds N and --first N"),
        }
    }
    step("build the simulation", &mut cargo(&["test", "--package", "tests", "--test", "sim", "--no-run"]))?;
    let program = program()?;
    let (began, last) = (Instant::now(), first + seeds);
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    let (mut next, mut done, mut failed) = (first, 0, 0);
    let mut running: Vec<(u64, Child)> = Vec::new();
    while next < last || !running.is_empty() {
        while next < last && running.len() < cores {
            let share = SHARE.min(last - next);
            running.push((share, begin(&program, next, share)?));
            next += share;
        }
        std::thread::sleep(std::time::Duration::from_millis(50));
        let mut still = Vec::new();
        for (share, mut child) in running {
            match child.try_wait()? {
                None => still.push((share, child)),
                Some(status) => {
                    done += share;
                    failed += u64::from(!status.success());
                    eprintln!("== sim: {done} of {seeds} seeds, {:.0} s", began.elapsed().as_secs_f64());
                }
            }
        }
        running = still;
    }
    ensure!(
        failed == 0,
        "sim: {failed} shares of seeds found something; ISOLANE_SIM_FIRST, ISOLANE_SIM_SEEDS=1 and ISOLANE_SIM_TRACE=1 tell more"
    );
    eprintln!("== sim: no finding in seeds {first}..{last}, {:.0} s", began.elapsed().as_secs_f64());
    Ok(())
}

fn begin(program: &PathBuf, first: u64, seeds: u64) -> Result<Child> {
    let mut command = Command::new(program);
    command.args(["no_seed_finds_anything", "--exact", "--nocapture"]).stdin(Stdio::null()).stdout(Stdio::null());
    // The small files that agents read need no disk.
    if Path::new("/dev/shm").is_dir() && std::env::var_os("TMPDIR").is_none() {
        command.env("TMPDIR", "/dev/shm");
    }
    command.env("ISOLANE_SIM_FIRST", first.to_string()).env("ISOLANE_SIM_SEEDS", seeds.to_string());
    command.spawn().with_context(|| format!("cannot run {}", program.display()))
}

/// Where cargo has put the test's program.
fn program() -> Result<PathBuf> {
    let built = cargo(&["test", "--package", "tests", "--test", "sim", "--no-run", "--message-format", "json"])
        .stderr(Stdio::null())
        .output()
        .context("cargo test --no-run")?;
    let text = String::from_utf8_lossy(&built.stdout);
    let of_sim = |line: &&str| line.contains("\"name\":\"sim\"") && line.contains("\"executable\":\"");
    let line = text.lines().find(of_sim).context("cargo built no test `sim`")?;
    let path = line.split("\"executable\":\"").nth(1).and_then(|rest| rest.split('"').next());
    Ok(root().join(path.context("cargo names no program")?))
}
