//! The API's contract, over a real socket and a real database in a directory of its own.

mod harness;
mod reports;
mod serving;
mod streams;
mod tokens;
