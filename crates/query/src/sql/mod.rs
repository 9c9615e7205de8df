//! Flink SQL for the embedded engine: one job text in, one plan per leg out, records in, rows and fates out.
//!
//! A job text is split into tokens ([`cursor`]), parsed ([`statement`], [`ddl`], [`parse`] into [`syntax`]), bound to
//! columns and types ([`bind`], [`bind_call`] into [`expr`]) and planned ([`plan`]). A batch of records is decoded
//! ([`decode`]) into Arrow columns, over which the expressions are evaluated ([`eval`], [`cast`], [`calculate`],
//! [`functions`]); [`run`] sorts the rows into delivered, filtered and failed. [`flink`] writes the same job for Apache Flink.

mod error;
mod types;
mod cursor;
mod syntax;
mod parse;
mod ddl;
mod statement;
mod expr;
mod bind;
mod bind_call;
mod plan;
mod datum;
mod number;
mod moment;
mod decode;
mod eval;
mod cast;
mod calculate;
mod functions;
mod run;
mod flink;

#[cfg(test)]
mod tests;

use std::sync::Arc;

use arrow_array::RecordBatch;
use arrow_schema::SchemaRef;

pub use error::{Problem, SqlError};
use expr::Expr;
pub use flink::{
    DIFFERENCES, Difference, Differs, FlinkLeg, FlinkPlace, FlinkText, differences, for_flink, ranges_topic,
    set_apart_folders,
};

/// What a warning says that means nothing for Flink.
pub const EMBEDDED_ONLY: &str = "without effect on the embedded engine";

/// A checked job: one source table, and a leg per INSERT.
#[derive(Clone, Debug)]
pub struct Job {
    /// What the job reads.
    pub source: Arc<SourceTable>,
    /// One per INSERT, in the order of the text.
    pub legs: Vec<LegPlan>,
    /// What was taken but has no effect here (for example connector options).
    pub warnings: Vec<String>,
}

/// The table that a job reads: how its records are decoded.
#[derive(Clone, Debug)]
pub struct SourceTable {
    /// Its name in the job text.
    pub name: String,
    /// How its records become columns.
    pub layout: decode::Layout,
    /// WATERMARK FOR, if declared.
    pub watermark: Option<Watermark>,
}

/// The column that event time is read from.
#[derive(Clone, Debug)]
pub struct Watermark {
    /// Its name.
    pub column: String,
    /// How far the watermark stays behind the greatest event time, in ms.
    pub delay_ms: i64,
    /// Its values.
    pub expr: Expr,
}

/// One INSERT: what becomes of a record on its way to one sink. Cheap to clone, shared between threads.
#[derive(Clone, Debug)]
pub struct LegPlan {
    /// The sink's name in the job text.
    pub sink: String,
    /// What the sink receives.
    pub schema: SchemaRef,
    /// What is read.
    pub source: Arc<SourceTable>,
    /// WHERE.
    pub condition: Option<Expr>,
    /// One for each column of the schema.
    pub outputs: Arc<[plan::OutputColumn]>,
}

/// One record as a leg takes it.
#[derive(Clone, Copy, Debug)]
pub struct InputRow<'a> {
    /// The record's own bytes.
    pub body: &'a [u8],
    /// Its provenance.
    pub header: &'a stream::Header,
    /// When the journal took it, in ms since 1970.
    pub append_time_ms: i64,
}

/// What became of a batch of records.
#[derive(Clone, Debug)]
pub struct Output {
    /// The delivered rows only.
    pub batch: RecordBatch,
    /// The input row of each delivered row, ascending.
    pub origin: Vec<u32>,
    /// Event time of each delivered row in ms since 1970: the watermark column where one is declared and not NULL, else
    /// the header's, else the append time.
    pub event_times_ms: Vec<i64>,
    /// What became of each input row.
    pub fates: Vec<RowFate>,
}

/// What became of one record.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum RowFate {
    /// It is a row of the output.
    Delivered,
    /// WHERE left it out.
    Filtered,
    /// It could not be decoded or converted; the cause, for a person.
    Failed(String),
}

impl LegPlan {
    /// Runs the plan over `rows`, at most some thousands at a time. One record's failure concerns no other record.
    pub fn run(&self, rows: &[InputRow<'_>]) -> Output {
        run::run(self, rows)
    }
}

/// Checks a job text against the `sinks` of its stream: parses it, binds names and types, and plans every leg.
///
/// # Errors
/// Every problem that was found, each with its place in the text and what to do.
pub fn check(sql: &str, sinks: &[&str]) -> Result<Job, SqlError> {
    let script = statement::script(sql).map_err(|problem| SqlError { problems: vec![problem] })?;
    plan::plan(script, sinks).map_err(|problems| SqlError { problems })
}
