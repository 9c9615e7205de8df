//! The whole way with real processes, in one binary: real input through `isolane up` to Parquet, and how it starts, stops
//! and refuses to start; how the ledger names what was taken away or doubled; the Kafka clusters; what cannot be converted;
//! and clients that mean harm.

mod flow;
mod start;
mod tamper;
mod conformance;
mod kafka;
mod quarantine;
mod hostile;
