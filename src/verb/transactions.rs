//! `transactions`: what legs have left open in a Kafka cluster, and how a person ends it.

use anyhow::{Result, ensure};
use sink::kafka::transactions;

use super::{table, time};
use crate::args::Transactions;

/// Runs the verb.
pub async fn run(verb: Transactions) -> Result<()> {
    match verb {
        Transactions::List { brokers } => list(&brokers).await,
        Transactions::Abort { id, brokers } => abort(&brokers, &id).await,
    }
}

async fn list(brokers: &str) -> Result<()> {
    let open = transactions::list(brokers).await?;
    let row = |open: sink::kafka::Open| {
        vec![open.id, open.state, time(open.since_ms), open.timeout.as_secs().to_string(), open.partitions.to_string()]
    };
    table::print(
        &["transactional id", "state", "since", "aborted after s", "partitions"],
        &open.into_iter().map(row).collect::<Vec<_>>(),
    );
    Ok(())
}

async fn abort(brokers: &str, id: &str) -> Result<()> {
    let is_open = transactions::list(brokers).await?.iter().any(|open| open.id == id);
    ensure!(is_open, "{id} has no open transaction; `isolane transactions list` shows those that are");
    transactions::abort(brokers, id).await?;
    println!(
        "{id}: its open transaction was ended, without its rows unless its commit was decided already; a leg of that \
         name starts anew from what it has committed"
    );
    Ok(())
}
