//! What a gateway lets be measured, one function an observation; one type for what each request counts.

use metrics::{Counter, Gauge, counter, gauge};
use stream::StreamId;

/// Records and bytes of bodies of one stream that became durable. Kept with the stream: each request counts here, and to find
/// a counter by its labels costs more than the counting.
#[derive(Debug)]
pub struct Stored {
    records: Counter,
    bytes: Counter,
}

impl Stored {
    /// Of `stream`.
    pub fn of(stream: &StreamId) -> Self {
        let records = counter!("isolane_gateway_stored_records", "stream" => stream.to_string());
        Self { records, bytes: counter!("isolane_gateway_stored_bytes", "stream" => stream.to_string()) }
    }

    /// So much has become durable.
    pub fn count(&self, records: u64, bytes: u64) {
        self.records.increment(records);
        self.bytes.increment(bytes);
    }
}

/// A batch refused whole.
pub fn refused(stream: &StreamId, reason: &'static str) {
    counter!("isolane_gateway_refused_batches", "stream" => stream.to_string(), "reason" => reason).increment(1);
}

/// A request, or a connection, that was turned away: every refusal over HTTP with its reason, those of batches that name no
/// known stream, and connections whose bytes are no HTTP, whose client is silent, or that made place for others.
pub fn refused_request(reason: &'static str) {
    counter!("isolane_gateway_refused_requests", "reason" => reason).increment(1);
}

/// An append that failed and is tried again.
pub fn retried(stream: &StreamId) {
    counter!("isolane_gateway_retried_batches", "stream" => stream.to_string()).increment(1);
}

/// Bytes that a stream holds: being read, queued and in flight.
pub fn queue_bytes(stream: &StreamId, bytes: u64) {
    gauge!("isolane_gateway_queue_bytes", "stream" => stream.to_string()).set(bytes as f64);
}

/// Bytes that a producer has outstanding, to be kept with it: they are set fifty times a second.
pub fn outstanding_bytes(producer: usize) -> Gauge {
    gauge!("isolane_gateway_outstanding_bytes", "producer" => producer.to_string())
}

/// Event times that clients stated and that cannot be true; their events were taken without them.
pub fn times_left_out(stream: &StreamId, events: usize) {
    if events > 0 {
        counter!("isolane_gateway_event_times_left_out", "stream" => stream.to_string()).increment(events as u64);
    }
}

/// Open connections of a door.
pub fn connections(door: &'static str, open: usize) {
    gauge!("isolane_gateway_open_connections", "door" => door).set(open as f64);
}

/// Facts that admin never heard of: it refused them, or was away for longer than they could be kept.
pub fn lost_facts(facts: usize) {
    counter!("isolane_gateway_lost_facts").increment(facts as u64);
}
