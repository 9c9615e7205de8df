//! `status`: one line a stream.

use anyhow::Result;
use stream::control::AdminClient;

use super::table;
use crate::args;

/// Prints what every stream receives and delivers now.
pub async fn run(status: args::Status) -> Result<()> {
    let admin = AdminClient::new(status.admin.admin);
    let now: admin::status::Status = admin.get("/api/v1/status").await?;
    if status.json {
        println!("{}", serde_json::to_string_pretty(&now)?);
        return Ok(());
    }
    let titles = [
        "stream",
        "received/s",
        "received",
        "delivered/s",
        "delivered",
        "quarantined",
        "p99 ms",
        "missing bytes",
        "failure",
    ];
    table::print(&titles, &now.streams.iter().map(row).collect::<Vec<_>>());
    for role in now.roles.iter().filter(|role| !role.up) {
        println!("{:?} {} has been silent for {} s", role.role, role.name, role.silent_ms / 1000);
    }
    Ok(())
}

fn row(stream: &admin::status::StreamStatus) -> Vec<String> {
    let known = |value: Option<u64>| value.map_or_else(|| "-".to_owned(), |value| value.to_string());
    vec![
        stream.id.to_string(),
        format!("{:.0}", stream.received_records_per_s),
        stream.received_records.to_string(),
        format!("{:.0}", stream.delivered_records_per_s),
        stream.fates.delivered.to_string(),
        stream.fates.in_quarantine().to_string(),
        known(stream.delay_ms_p99),
        known(stream.missing),
        stream.failure.clone().unwrap_or_default(),
    ]
}
