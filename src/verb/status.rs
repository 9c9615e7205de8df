//! `status`: one line a stream; of one stream also its lanes in the gateways, what they refused and why, and its jobs on Flink.

use admin::status::{GatewayLane, Status, StreamStatus};
use anyhow::{Context, Result};
use stream::StreamId;
use stream::control::AdminClient;
use stream::facts::FlinkJob;

use super::{say, table, time};
use crate::args;

const TITLES: [&str; 11] = [
    "stream",
    "received/s",
    "received",
    "delivered/s",
    "delivered",
    "quarantined",
    "p99 ms",
    "queued bytes",
    "refused",
    "missing bytes",
    "failure",
];

/// Prints what every stream receives and delivers now.
pub async fn run(status: args::Status) -> Result<()> {
    let admin = AdminClient::new(status.admin.admin);
    let mut now: Status = admin.get("/api/v1/status").await?;
    if let Some(id) = &status.id {
        let id: StreamId = id.parse()?;
        now.streams.retain(|stream| stream.id == id);
        now.streams.first().with_context(|| format!("there is no stream {id}"))?;
    }
    if status.json {
        return say(&serde_json::to_string_pretty(&now)?);
    }
    table::print(&TITLES, &now.streams.iter().map(row).collect::<Vec<_>>());
    if let (Some(_), Some(stream)) = (&status.id, now.streams.first()) {
        lanes(stream)?;
        jobs(&stream.jobs)?;
    }
    for role in now.roles.iter().filter(|role| !role.up) {
        println!("{:?} {} has been silent for {} s", role.role, role.name, role.silent_ms / 1000);
    }
    Ok(())
}

fn row(stream: &StreamStatus) -> Vec<String> {
    let known = |value: Option<u64>| value.map_or_else(|| "-".to_owned(), |value| value.to_string());
    vec![
        stream.id.to_string(),
        format!("{:.0}", stream.received_records_per_s),
        stream.received_records.to_string(),
        format!("{:.0}", stream.delivered_records_per_s),
        stream.fates.delivered.to_string(),
        stream.fates.in_quarantine().to_string(),
        known(stream.delay_ms_p99),
        stream.queue_bytes.to_string(),
        stream.refusals.values().sum::<u64>().to_string(),
        known(stream.missing),
        stream.failure.clone().unwrap_or_default(),
    ]
}

/// How a stream's jobs on Flink stand.
fn jobs(jobs: &[FlinkJob]) -> Result<()> {
    if jobs.is_empty() {
        return Ok(());
    }
    say("")?;
    jobs.iter().try_for_each(|job| {
        let of_leg = job.leg.as_ref().map_or(String::new(), |leg| format!(" of {leg}"));
        let attempt = job.attempt.as_deref().unwrap_or("none");
        let checkpoint = job.checkpoint.map_or("none".to_owned(), |checkpoint| checkpoint.to_string());
        let lag = job.lag_records.map_or(String::new(), |lag| format!(", {lag} records behind"));
        let object =
            job.object.as_ref().map_or(String::new(), |object| format!(", hand-over object {}", object.display()));
        say(&format!("job on Flink{of_leg}: {}, id {attempt}, checkpoint {checkpoint}{lag}{object}", job.state))
    })
}

/// What the gateways do with a stream.
fn lanes(stream: &StreamStatus) -> Result<()> {
    println!();
    let row = |lane: &GatewayLane| {
        let producers: Vec<String> = lane.producers.iter().map(ToString::to_string).collect();
        vec![lane.gateway.clone(), lane.queue_bytes.to_string(), producers.join(",")]
    };
    let titles = ["gateway", "queued bytes", "producers in this slice"];
    table::print(&titles, &stream.gateways.iter().map(row).collect::<Vec<_>>());
    for (reason, batches) in &stream.refusals {
        say(&format!("{batches} batches refused: {reason}"))?;
    }
    let refused = stream.gateways.iter().filter_map(|lane| Some((lane, lane.refused_last.as_ref()?)));
    refused.into_iter().try_for_each(|(lane, last)| {
        say(&format!("last by {} at {}: {}", lane.gateway, time(last.at_ms), last.message))
    })
}
