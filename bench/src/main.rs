//! `bench`: what isolane costs, each figure beside its limit in the same run.
//!
//! A case of [`case`] runs a limit (a bare loop that does only what nobody can leave out, in [`limit`]) and ours in turn,
//! round by round, on the same records ([`load`]); [`measure`] counts CPU and time; [`report`] writes the tables. What
//! is measured runs in child processes of this same binary ([`child`]), set up by [`stage`], so that neither the load's
//! CPU nor the other side's is counted with it. There is no assertion on any time.

mod load;
mod pace;
mod place;
mod noise;
mod measure;
mod child;
mod stage;
mod limit;
mod case;
mod matrix;
mod report;

use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::{Context, Result, ensure};
use clap::Parser;

use crate::case::Plan;
use crate::report::Report;

/// What isolane costs, each figure beside its limit.
#[derive(Parser)]
#[command(name = "bench")]
struct Args {
    /// Cases: agent, gateway, query, delay, breaks, swarm; on Kafka: kafka, lanes, crowd, siblings; on Kafka and
    /// Flink: flink; on both journals: isolation. Default: all of them.
    names: Vec<String>,
    /// Few records and one round: shows that the cases run; the figures are rough.
    #[arg(long)]
    quick: bool,
    /// Only records of so many bytes, newline included.
    #[arg(long, value_name = "BYTES")]
    size: Option<usize>,
    /// Where files are written: a disk like the one that is to be judged, never one in memory. Default: beside this
    /// program.
    #[arg(long, value_name = "DIR")]
    dir: Option<PathBuf>,
}

fn main() -> ExitCode {
    stream::memory::keep_little();
    let ended = match std::env::args().nth(1).as_deref() {
        Some(child::COMMAND) => child::main(),
        _ => parent(Args::parse()),
    };
    match ended {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn parent(args: Args) -> Result<()> {
    let unknown = args.names.iter().find(|name| !case::NAMES.contains(&name.as_str()));
    ensure!(unknown.is_none(), "no case {unknown:?}; there are {}", case::NAMES.join(", "));
    child::start_logs();
    let own = std::env::current_exe().context("finding this program's own file")?;
    let dir =
        args.dir.or_else(|| own.parent().map(PathBuf::from)).context("no folder to write to; give one with --dir")?;
    let mut plan = if args.quick { Plan::quick(dir) } else { Plan::whole(dir) };
    plan.sizes = args.size.map_or(plan.sizes, |size| vec![size]);
    let is_wanted = |name: &str| args.names.is_empty() || args.names.iter().any(|wanted| wanted == name);
    let mut report = Report::begin(&plan)?;
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    let ended = runtime.block_on(case::run(&plan, &is_wanted, &mut report));
    // What was measured before a failure is not lost.
    println!("{report}");
    ended
}
