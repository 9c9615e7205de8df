//! The seam between a leg and its destination. Blocking: a leg runs on a thread of its own.

use arrow_array::RecordBatch;
use bytes::Bytes;
use stream::Header;
use stream::provenance::{Range, SourceId};

use crate::error::SinkError;
use crate::state::{ApartPosition, Commit, LegState};

/// Where a row comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Origin {
    /// The record's source.
    pub source: SourceId,
    /// The record's range.
    pub range: Range,
}

/// Converted rows, one per record; the three columns are equally long.
#[derive(Clone, Debug)]
pub struct Rows {
    /// What the sink's readers get.
    pub batch: RecordBatch,
    /// Event time per row, in ms since 1970: it chooses the partition.
    pub event_times_ms: Vec<i64>,
    /// Provenance per row.
    pub origins: Vec<Origin>,
}

/// A record kept apart with its cause: quarantined or late.
#[derive(Clone, Debug, PartialEq)]
pub struct SetApart {
    /// Its provenance.
    pub header: Header,
    /// Why it is not among the rows.
    pub cause: String,
    /// When the journal took it, in ms since 1970.
    pub append_time_ms: i64,
    /// Its own bytes.
    pub body: Bytes,
}

/// Some of a quarantine's records.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Apart {
    /// The records, in the order in which they were set apart.
    pub records: Vec<SetApart>,
    /// Where the next ones begin.
    pub next: ApartPosition,
}

/// Where a quarantine ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ApartEnd {
    /// Which log it is; 0 where there is only ever one.
    pub log: u64,
    /// Everything that was set apart by a commit lies before this.
    pub end: ApartPosition,
}

/// A destination of one leg. After any error but [`SinkError::NotRecovered`], and but those of reading the quarantine, the
/// sink has forgotten what was written since the last commit, and wants [`Sink::recover`]; the leg then reads again from the
/// state's positions.
pub trait Sink: Send {
    /// Finishes the last commit if it was cut short, removes what was never committed, shuts out an older writer, and
    /// answers with the committed state.
    fn recover(&mut self) -> Result<LegState, SinkError>;

    /// Rows that this destination cannot take, each with the cause: they are not to be written.
    fn misfits(&self, _rows: &RecordBatch) -> Vec<(usize, String)> {
        Vec::new()
    }

    /// Writes rows that the next commit will show.
    fn write(&mut self, rows: Rows) -> Result<(), SinkError>;

    /// Writes records that the next commit will keep apart.
    fn set_apart(&mut self, records: &[SetApart]) -> Result<(), SinkError>;

    /// Where the quarantine ends.
    fn apart_end(&mut self) -> Result<ApartEnd, SinkError>;

    /// Some committed records of the quarantine from `from` on, none at or behind `end`. Its next position is past `from`,
    /// unless `from` is the end.
    fn read_apart(&mut self, from: ApartPosition, end: ApartPosition) -> Result<Apart, SinkError>;

    /// Whether so much is open that the leg should commit before its time.
    fn is_full(&self) -> bool;

    /// Makes everything written since the last commit, and `commit`, durable at once, then shows it. Answers with the
    /// number of the commit.
    fn commit(&mut self, commit: &Commit) -> Result<u64, SinkError>;
}
