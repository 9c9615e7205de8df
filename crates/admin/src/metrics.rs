//! Admin's metrics, one function per observation.

use std::time::Duration;

use metrics::{counter, gauge, histogram};
use stream::StreamId;
use stream::facts::{FlinkJob, JobState};

/// Commands that one commit of the metadata database stored together.
pub fn commit_commands(commands: usize) {
    histogram!("isolane_admin_commit_commands").record(commands as f64);
}

/// How long one commit of the metadata database took, and whether it was stored.
pub fn commit_seconds(took: Duration, stored: bool) {
    let outcome = if stored { "stored" } else { "failed" };
    histogram!("isolane_admin_commit_seconds", "outcome" => outcome).record(took.as_secs_f64());
}

/// The configuration as published: its version and its streams.
pub fn configuration(version: u64, streams: usize) {
    gauge!("isolane_admin_config_version").set(version as f64);
    gauge!("isolane_admin_streams").set(streams as f64);
}

/// Facts and reports left out because their stream's life is over or they are older than what is known.
pub fn left_out(what: &'static str, count: usize) {
    counter!("isolane_admin_left_out_total", "what" => what).increment(count as u64);
}

/// A request answered with an error, by status.
pub fn refused(status: u16) {
    counter!("isolane_admin_refused_total", "status" => status.to_string()).increment(1);
}

/// Long polls of the configuration that wait now: by `change`.
pub fn polls_waiting(change: f64) {
    gauge!("isolane_admin_polls_waiting").increment(change);
}

/// A stream's audit: ordinals in flight and missing in the leg where they are most.
pub fn audited(stream: &StreamId, in_flight: u64, missing: u64) {
    gauge!("isolane_admin_in_flight_ordinals", "stream" => stream.to_string()).set(in_flight as f64);
    gauge!("isolane_admin_missing_ordinals", "stream" => stream.to_string()).set(missing as f64);
}

/// Whether a stream's job on Flink runs, or that of one leg, and how many records it is behind; NaN: nobody knows.
pub fn flink_job(stream: &StreamId, job: &FlinkJob) {
    let is_running = job.state == JobState::Running;
    let labels = [("stream", stream.to_string()), ("leg", job.leg.clone().unwrap_or_default())];
    gauge!("isolane_admin_flink_job_running", &labels).set(f64::from(u8::from(is_running)));
    gauge!("isolane_admin_flink_job_lag_records", &labels).set(job.lag_records.map_or(f64::NAN, |lag| lag as f64));
}

/// An audit that could not ask the journal for its ends.
pub fn ends_unknown() {
    counter!("isolane_admin_ends_unknown_total").increment(1);
}
