//! What the agent counts: one function per observation.

use metrics::{counter, gauge};
use stream::StreamId;

/// Records and bytes of bodies handed to `send`; a record sent again after a restart counts again.
pub fn collected(stream: &StreamId, records: usize, bytes: usize) {
    counter!("isolane_agent_collected_records", "stream" => stream.to_string()).increment(records as u64);
    counter!("isolane_agent_collected_bytes", "stream" => stream.to_string()).increment(bytes as u64);
}

/// Files open now.
pub fn files(stream: &StreamId, files: usize) {
    gauge!("isolane_agent_open_files", "stream" => stream.to_string()).set(files as f64);
}

/// A file was replaced under its descriptor or its inode: a new generation.
pub fn generation(stream: &StreamId) {
    counter!("isolane_agent_generations_total", "stream" => stream.to_string()).increment(1);
}

/// Bytes that were seen in a file and replaced before they were read.
pub fn lost_bytes(stream: &StreamId, bytes: u64) {
    counter!("isolane_agent_lost_bytes", "stream" => stream.to_string()).increment(bytes);
}

/// Bytes written to a file after it had ended.
pub fn late_bytes(stream: &StreamId, bytes: u64) {
    counter!("isolane_agent_late_bytes", "stream" => stream.to_string()).increment(bytes);
}

/// A file could not be opened or read.
pub fn read_failure(stream: &StreamId) {
    counter!("isolane_agent_read_failures_total", "stream" => stream.to_string()).increment(1);
}

/// Bytes of bodies sent and not yet answered.
pub fn outstanding(stream: &StreamId, bytes: usize) {
    gauge!("isolane_agent_outstanding_bytes", "stream" => stream.to_string()).set(bytes as f64);
}

/// A batch was acknowledged.
pub fn acknowledged(stream: &StreamId, records: usize) {
    counter!("isolane_agent_acknowledged_records", "stream" => stream.to_string()).increment(records as u64);
}

/// A batch was refused.
pub fn refused(stream: &StreamId, reason: &'static str) {
    counter!("isolane_agent_refusals_total", "stream" => stream.to_string(), "reason" => reason).increment(1);
}

/// The connection to the gateway was lost or could not be made.
pub fn disconnected(stream: &StreamId) {
    counter!("isolane_agent_disconnections_total", "stream" => stream.to_string()).increment(1);
}

/// A record was refused for good and lies in the quarantine.
pub fn quarantined(stream: &StreamId) {
    counter!("isolane_agent_quarantined_records", "stream" => stream.to_string()).increment(1);
}

/// The gateway does not know the stream: the worker stops.
pub fn unknown_stream(stream: &StreamId) {
    counter!("isolane_agent_unknown_stream_total", "stream" => stream.to_string()).increment(1);
}

/// A worker process was started.
pub fn worker_started(stream: &StreamId) {
    counter!("isolane_agent_worker_starts_total", "stream" => stream.to_string()).increment(1);
}

/// Workers wanted now.
pub fn workers(workers: usize) {
    gauge!("isolane_agent_workers_count").set(workers as f64);
}
