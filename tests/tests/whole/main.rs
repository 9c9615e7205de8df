//! The whole way with real processes, in one binary: real input through `isolane up` to Parquet, and how it starts, stops
//! and refuses to start; how the ledger names what was taken away or doubled; the Kafka clusters; a leg that is handed over;
//! what cannot be converted; clients that mean harm; what streams notice of a noisy one; and whole jobs that Flink has answered.

mod flow;
mod guarded;
mod start;
mod tamper;
mod conformance;
mod kafka;
mod hand_over;
mod quarantine;
mod isolation;
mod hostile;
mod jobs;
