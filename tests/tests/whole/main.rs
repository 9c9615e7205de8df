//! The whole way with real processes, in one binary: real input through `isolane up` to Parquet, and how it starts, stops
//! and refuses to start; how the ledger names what was taken away or doubled; the Kafka clusters; what cannot be converted;
//! clients that mean harm; and what streams notice of a noisy one.

mod flow;
mod guarded;
mod start;
mod tamper;
mod conformance;
mod kafka;
mod quarantine;
mod isolation;
mod hostile;
