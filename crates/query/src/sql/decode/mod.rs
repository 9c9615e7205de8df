//! From a record's bytes to the values of its row. A record that cannot be decoded fails alone: its row's cells are
//! written in place and taken back.

pub mod json;
pub mod raw;

use arrow_array::ArrayRef;

use super::InputRow;
use super::datum::{self, Datum};
use super::moment::Style;
use super::types::SqlType;

/// How records become columns: one slot a value, and one for each ROW that says whether it is there.
#[derive(Clone, Debug)]
pub struct Layout {
    /// What the bytes are.
    pub format: Format,
    /// The record's own fields.
    pub fields: Vec<Field>,
    /// What is known about the record beside its bytes; their slots follow those of the fields.
    pub metadata: Vec<Metadata>,
    /// The type of each slot.
    pub slots: Vec<SqlType>,
}

/// What the bytes of a record are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Format {
    /// One value.
    Raw,
    /// A JSON object.
    Json(json::Options),
}

/// A field of a record.
#[derive(Clone, Debug)]
pub struct Field {
    /// Its name.
    pub name: String,
    /// The slot of its value; of a ROW, the one that says whether it is there.
    pub slot: usize,
    /// The fields of a ROW; their slots follow that of the ROW.
    pub row: Option<Vec<Field>>,
}

/// What is known about a record beside its bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Metadata {
    /// `il`: its provenance header.
    Provenance,
    /// `source`: its source.
    Source,
    /// `append_time`: when the journal took it.
    AppendTime,
    /// `event_time`: event time from its header.
    EventTime,
    /// `kind`: the letter of its kind.
    Kind,
    /// `start`: the first ordinal that it covers.
    Start,
    /// `end`: the first behind it.
    End,
    /// `lap`: how often it was pressed back.
    Lap,
    /// `fate`, `cause`: NULL. On Flink a record that is set apart becomes a row with these; here it becomes none, so that
    /// `WHERE fate IS NULL` means the same on both.
    Fate,
}

impl Metadata {
    /// The metadata of a key, and its type.
    pub fn of_key(key: &str) -> Option<(Self, SqlType)> {
        let instant = SqlType::TimestampLtz(3);
        match key {
            "il" => Some((Metadata::Provenance, super::types::STRING)),
            "source" => Some((Metadata::Source, super::types::STRING)),
            "append_time" => Some((Metadata::AppendTime, instant)),
            "event_time" => Some((Metadata::EventTime, instant)),
            "kind" => Some((Metadata::Kind, super::types::STRING)),
            "start" => Some((Metadata::Start, SqlType::BigInt)),
            "end" => Some((Metadata::End, SqlType::BigInt)),
            "lap" => Some((Metadata::Lap, SqlType::Int)),
            "fate" | "cause" => Some((Metadata::Fate, super::types::STRING)),
            _ => None,
        }
    }

    fn value(self, row: &InputRow<'_>) -> Datum<'static> {
        match self {
            Metadata::Provenance => Datum::Text(row.header.to_string().into()),
            Metadata::Source => Datum::Text(row.header.source.to_string().into()),
            Metadata::AppendTime => Datum::Ticks(row.append_time_ms),
            Metadata::EventTime => row.header.event_time_ms.map_or(Datum::Null, Datum::Ticks),
            Metadata::Kind => Datum::Text(char::from(row.header.kind.letter()).to_string().into()),
            Metadata::Start => Datum::Int(row.header.range.start as i64),
            Metadata::End => Datum::Int(row.header.range.end as i64),
            Metadata::Lap => Datum::Int(row.header.lap.into()),
            Metadata::Fate => Datum::Null,
        }
    }
}

/// Records as columns.
#[derive(Debug)]
pub struct Decoded {
    /// One array a slot, with a row for each record that could be decoded.
    pub columns: Vec<ArrayRef>,
    /// The input row of each of them.
    pub origin: Vec<u32>,
    /// The others, with the causes.
    pub failed: Vec<(u32, String)>,
}

/// Decodes `rows`.
pub fn decode(layout: &Layout, rows: &[InputRow<'_>]) -> Decoded {
    let width = layout.slots.len();
    let first_metadata = width - layout.metadata.len();
    let mut cells: Vec<Datum<'_>> = Vec::with_capacity(rows.len() * width);
    let (mut origin, mut failed) = (Vec::with_capacity(rows.len()), Vec::new());
    for (at, row) in rows.iter().enumerate() {
        let start = cells.len();
        cells.resize(start + width, Datum::Null);
        let row_cells = &mut cells[start..];
        let done = match layout.format {
            Format::Raw => raw::decode(row.body, &layout.slots[0]).map(|value| row_cells[0] = value),
            Format::Json(options) => json::decode(row.body, &layout.fields, &layout.slots, options, row_cells),
        };
        match done {
            Ok(()) => {
                let metadata = layout.metadata.iter().map(|metadata| metadata.value(row));
                row_cells[first_metadata..].iter_mut().zip(metadata).for_each(|(cell, value)| *cell = value);
                origin.push(at as u32);
            }
            Err(cause) => {
                cells.truncate(start);
                failed.push((at as u32, cause));
            }
        }
    }
    // Room for texts: what there is, shared out. A column that has to grow copies.
    let text_bytes = rows.iter().map(|row| row.body.len()).sum::<usize>() / width;
    let column = |(slot, ty): (usize, &SqlType)| {
        let values = (0..origin.len()).map(|row| std::mem::replace(&mut cells[row * width + slot], Datum::Null));
        datum::column(ty, values, text_bytes)
    };
    Decoded { columns: layout.slots.iter().enumerate().map(column).collect(), origin, failed }
}

/// How timestamps stand in JSON: as in SQL, or as in ISO 8601.
pub fn json_style(iso: bool, instant: bool) -> Style {
    Style { separator: if iso { b'T' } else { b' ' }, lenient: false, zulu: instant }
}
