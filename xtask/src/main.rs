//! The project's own commands, the same ones that CI runs:
//! `cargo xtask check|test|sim|fuzz|soak|power-loss|bench|golden|flink|services`.

mod run;
mod check;
mod tidy;
mod test;
mod fuzz;
mod sim;
mod services;
mod golden;
mod jobs;
mod flink;

use std::process::ExitCode;

use anyhow::{Result, bail};

const USAGE: &str = "usage: cargo xtask COMMAND

  check             formatting, lints and the house's rules; minutes, no service
  test              everything: check, pure tests, the whole way, faults; installs what it needs where it may
  fuzz [TARGET]... [--minutes N]
                    feeds decoders what reaches new code, 10 minutes each; all of them, or a package's, or those named
  sim [--seeds N] [--first N]
                    agents, gateways and journal in simulated time, broken as seeds say (decision 0012)
  soak ARGUMENTS    kills and faults under load, e.g. `cargo xtask soak --kills 100 --seed 7`
  power-loss ARGUMENTS
                    the disk loses what was not synced, under load, e.g. `cargo xtask power-loss --cycles 50 --seed 7`;
                    needs root and a loop device
  bench ARGUMENTS   the figures of the README, each beside its limit
  golden [jobs] [--check [--sample N]]
                    what Flink answers to the cases of xtask/flink/cases.txt, or to whole jobs on real data; writes or
                    checks the files in crates/query
  flink [connector|sink|engine|hand-over|stream|switch]
                    builds and tests the table connector for Flink with Maven; or tries it, its Kafka sink, the engine that
                    keeps its jobs, a hand-over, or a whole stream, on a real Kafka and a real Flink (not part of `test`)
  services fetch flink|kafka
                    downloads what the tests are held against, pinned, into target/services
  services up kafka [--dir DIR]
                    runs two Kafka clusters, a normal and a failover one, until Ctrl-C; prints their addresses
";

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    match dispatch(&arguments) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn dispatch(arguments: &[String]) -> Result<()> {
    let Some((command, rest)) = arguments.split_first() else { bail!("{USAGE}") };
    match command.as_str() {
        "check" => check::run(),
        "test" => test::run(),
        "fuzz" => fuzz::run(rest),
        "sim" => sim::run(rest),
        "soak" => test::soak(rest),
        "power-loss" => test::power_loss(rest),
        "bench" => test::bench(rest),
        "golden" => golden::run(rest),
        "flink" => flink::run(rest),
        "services" => services::run(rest),
        other => bail!("unknown command {other:?}\n{USAGE}"),
    }
}
