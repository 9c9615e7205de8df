//! `isolane`: one binary, a sub-command per role and per verb. Thin: what a role does stands in its crate.

mod args;
mod config;
mod ops;
mod role;
mod up;
mod verb;

use std::process::ExitCode;

use clap::Parser;

use crate::args::{Args, Command};

fn main() -> ExitCode {
    stream::memory::keep_little();
    let args = Args::parse();
    let runtime = match tokio::runtime::Builder::new_multi_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => return failed(&error.into()),
    };
    match runtime.block_on(run(args.command)) {
        Ok(code) => code,
        Err(error) => failed(&error),
    }
}

async fn run(command: Command) -> anyhow::Result<ExitCode> {
    match command {
        Command::Up(up) => up::run(up).await.map(|()| ExitCode::SUCCESS),
        Command::Admin(file) => role::admin::run(file).await.map(|()| ExitCode::SUCCESS),
        Command::Journal(journal) => role::journal::run(journal).await.map(|()| ExitCode::SUCCESS),
        Command::Gateway(file) => role::gateway::run(file).await.map(|()| ExitCode::SUCCESS),
        Command::Query(file) => role::query::run(file).await.map(|()| ExitCode::SUCCESS),
        Command::Engine(file) => role::engine::run(file).await.map(|()| ExitCode::SUCCESS),
        Command::Agent(file) => role::agent::run(file).await.map(|()| ExitCode::SUCCESS),
        Command::Worker { settings } => role::worker::run(&settings).await,
        Command::Stream(stream) => verb::stream::run(stream).await.map(|()| ExitCode::SUCCESS),
        Command::Gateways(gateways) => verb::gateways::run(gateways).await.map(|()| ExitCode::SUCCESS),
        Command::Token(token) => verb::token::run(token).await.map(|()| ExitCode::SUCCESS),
        Command::Status(status) => verb::status::run(status).await.map(|()| ExitCode::SUCCESS),
        Command::Send(send) => verb::send::run(send).await.map(|()| ExitCode::SUCCESS),
        Command::Sql(sql) => verb::sql::run(sql).map(|()| ExitCode::SUCCESS),
        Command::Ledger(ledger) => verb::ledger::run(ledger).await,
        #[cfg(feature = "kafka")]
        Command::Transactions(transactions) => verb::transactions::run(transactions).await.map(|()| ExitCode::SUCCESS),
        Command::HandOver(hand_over) => verb::hand_over::run(hand_over).await.map(|()| ExitCode::SUCCESS),
        Command::Quarantine(quarantine) => verb::quarantine::run(quarantine).await.map(|()| ExitCode::SUCCESS),
    }
}

/// One line that says what happened and what to do; never a backtrace.
fn failed(error: &anyhow::Error) -> ExitCode {
    eprintln!("error: {error:#}");
    ExitCode::FAILURE
}
