//! What a sink lets others see of itself. One function an observation.

use metrics::{counter, histogram};

/// A commit was published: its data files, their bytes, and how long it took from the first closed writer.
pub fn committed(stream: &str, files: usize, bytes: u64, seconds: f64) {
    let stream = stream.to_owned();
    counter!("isolane_sink_commits_total", "stream" => stream.clone()).increment(1);
    counter!("isolane_sink_files_total", "stream" => stream.clone()).increment(files as u64);
    counter!("isolane_sink_file_bytes_total", "stream" => stream.clone()).increment(bytes);
    histogram!("isolane_sink_commit_seconds", "stream" => stream).record(seconds);
}

/// A folder was recovered, its manifest of `bytes` read.
pub fn recovered(stream: &str, bytes: u64) {
    counter!("isolane_sink_recoveries_total", "stream" => stream.to_owned()).increment(1);
    histogram!("isolane_sink_manifest_read_bytes", "stream" => stream.to_owned()).record(bytes as f64);
}
