//! What the query role lets others see of itself. One function an observation.

use metrics::{counter, gauge, histogram};
use stream::fate::FateCounts;

/// A leg committed: the fates since its last commit.
pub fn committed(stream: &str, leg: &str, fates: &FateCounts) {
    for (fate, records) in [
        ("delivered", fates.delivered),
        ("filtered", fates.filtered),
        ("quarantined", fates.quarantined),
        ("late", fates.late),
        ("dropped", fates.dropped),
    ] {
        let labels = [("stream", stream.to_owned()), ("leg", leg.to_owned()), ("fate", fate.to_owned())];
        counter!("isolane_query_records_total", &labels).increment(records);
    }
    counter!("isolane_query_doubles_total", "stream" => stream.to_owned(), "leg" => leg.to_owned())
        .increment(fates.doubles);
    counter!("isolane_query_replayed_total", "stream" => stream.to_owned(), "leg" => leg.to_owned())
        .increment(fates.replayed);
}

/// Time between append and commit, at the median and at the 99th percentile, of one commit.
pub fn delays(stream: &str, p50_ms: u64, p99_ms: u64) {
    histogram!("isolane_query_delay_p50_seconds", "stream" => stream.to_owned()).record(p50_ms as f64 / 1e3);
    histogram!("isolane_query_delay_p99_seconds", "stream" => stream.to_owned()).record(p99_ms as f64 / 1e3);
}

/// Memory of a leg's range sets, estimated.
pub fn range_set_bytes(stream: &str, leg: &str, bytes: usize) {
    gauge!("isolane_query_range_set_bytes", "stream" => stream.to_owned(), "leg" => leg.to_owned()).set(bytes as f64);
}

/// Records that retention removed before a leg had read them.
pub fn overtaken(stream: &str, leg: &str, records: u64) {
    counter!("isolane_query_overtaken_records_total", "stream" => stream.to_owned(), "leg" => leg.to_owned())
        .increment(records);
}

/// Offsets that the journal passed over although it should hold them.
pub fn hole(stream: &str, leg: &str, records: u64) {
    counter!("isolane_query_hole_records_total", "stream" => stream.to_owned(), "leg" => leg.to_owned())
        .increment(records);
}

/// A leg stopped with an error.
pub fn failed(stream: &str, leg: &str) {
    counter!("isolane_query_leg_failures_total", "stream" => stream.to_owned(), "leg" => leg.to_owned()).increment(1);
}

/// Legs that run now.
pub fn legs(running: usize) {
    gauge!("isolane_query_legs").set(running as f64);
}
