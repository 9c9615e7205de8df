//! The whole way with real processes, in one binary: real input through `isolane up` to Parquet, and how it starts, stops
//! and refuses to start; and how the ledger names what was taken away or doubled.

mod flow;
mod start;
mod tamper;
