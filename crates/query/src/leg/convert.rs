//! From entries to rows: judges each record, runs the SELECT over the new ones, and gives every record its one fate.

use bytes::Bytes;
use journal::Entry;
use sink::{Origin, Rows, Seen, SetApart};
use stream::facts::Place;
use stream::fate::{Fate, FateCounts};
use stream::provenance::LAP_MAX;
use stream::{Header, Kind, View};

use super::dedup::{Taken, Verdict, is_doubtful};
use crate::sql::{InputRow, LegPlan, Output, RowFate};

/// What a leg's SELECT does: [`LegPlan`], and simpler ones in tests.
pub trait Convert {
    /// Converts `rows`; one record's failure concerns no other.
    fn convert(&self, rows: &[InputRow<'_>]) -> Output;
}

impl Convert for LegPlan {
    fn convert(&self, rows: &[InputRow<'_>]) -> Output {
        self.run(rows)
    }
}

/// What became of some entries.
#[derive(Debug, Default)]
pub struct Converted {
    /// Rows for the sink; none if nothing is delivered.
    pub rows: Option<Rows>,
    /// Records for the quarantine.
    pub apart: Vec<SetApart>,
    /// Fates and doubles.
    pub fates: FateCounts,
    /// Bytes of the bodies delivered.
    pub delivered_bytes: u64,
    /// Append time and number of the new records of each entry.
    pub appended: Vec<(i64, u64)>,
}

/// A record that the leg takes, where it lies.
struct Fresh<'a> {
    header: Header,
    append_time_ms: i64,
    body: &'a [u8],
}

impl Fresh<'_> {
    fn set_apart(self, cause: impl Into<String>) -> SetApart {
        let Self { header, append_time_ms, body } = self;
        SetApart { header, cause: cause.into(), append_time_ms, body: Bytes::copy_from_slice(body) }
    }
}

/// Takes what is new in `entries` and converts it.
pub fn convert(plan: &dyn Convert, taken: &mut Taken, place: Place, entries: &[Entry]) -> Converted {
    let mut done = Converted { appended: Vec::with_capacity(entries.len()), ..Converted::default() };
    let mut fresh = Vec::new();
    for entry in entries {
        let before = done.fates.total() + fresh.len() as u64;
        judge(taken, place, entry, &mut fresh, &mut done);
        done.appended.push((entry.append_time_ms, done.fates.total() + fresh.len() as u64 - before));
    }
    if !fresh.is_empty() {
        select(plan, fresh, &mut done);
    }
    done
}

/// Converts what was set apart before once more. What the leg could not tell apart from a double then, it cannot now
/// either: it is set apart again.
pub fn convert_again(plan: &dyn Convert, records: &[SetApart]) -> Converted {
    let fates = FateCounts { replayed: records.len() as u64, ..FateCounts::default() };
    let mut done = Converted { fates, ..Converted::default() };
    let mut fresh = Vec::with_capacity(records.len());
    for SetApart { header, cause, append_time_ms, body } in records {
        let header = Header { lap: header.lap.saturating_add(1).min(LAP_MAX), ..*header };
        let record = Fresh { header, append_time_ms: *append_time_ms, body };
        if is_doubtful(cause) {
            done.fates.count(Fate::Quarantined);
            done.apart.push(record.set_apart(cause));
        } else {
            fresh.push(record);
        }
    }
    if !fresh.is_empty() {
        select(plan, fresh, &mut done);
    }
    done
}

fn judge<'a>(taken: &mut Taken, place: Place, entry: &'a Entry, fresh: &mut Vec<Fresh<'a>>, done: &mut Converted) {
    let Entry { append_time_ms, ref batch, .. } = *entry;
    let seen = Seen { place, offset: entry.end_offset().saturating_sub(1), append_time_ms };
    for (record, verdict) in batch.views().zip(taken.take(batch, seen)) {
        let View { kind, range, event_time_ms, body } = record;
        let header = Header { kind, source: batch.source, range, lap: 0, event_time_ms };
        let record = Fresh { header, append_time_ms, body };
        match verdict {
            Verdict::New if matches!(kind, Kind::Event | Kind::PressedBack) => fresh.push(record),
            Verdict::New => done.fates.count(Fate::Dropped),
            Verdict::Double => done.fates.doubles += 1,
            Verdict::Apart(cause) => {
                done.fates.count(Fate::Quarantined);
                done.apart.push(record.set_apart(cause));
            }
            Verdict::Silent => {}
        }
    }
}

fn select(plan: &dyn Convert, fresh: Vec<Fresh<'_>>, done: &mut Converted) {
    let inputs: Vec<InputRow<'_>> = fresh
        .iter()
        .map(|record| InputRow { body: record.body, header: &record.header, append_time_ms: record.append_time_ms })
        .collect();
    let Output { batch, origin, event_times_ms, fates } = plan.convert(&inputs);
    let of = |row: &u32| &fresh[*row as usize];
    let origins =
        origin.iter().map(of).map(|record| Origin { source: record.header.source, range: record.header.range });
    let origins: Vec<Origin> = origins.collect();
    done.delivered_bytes += origin.iter().map(|row| of(row).body.len() as u64).sum::<u64>();
    if batch.num_rows() > 0 {
        done.rows = Some(Rows { batch, event_times_ms, origins });
    }
    for (record, fate) in fresh.into_iter().zip(fates) {
        match fate {
            RowFate::Delivered => done.fates.count(Fate::Delivered),
            RowFate::Filtered => done.fates.count(Fate::Filtered),
            RowFate::Failed(cause) => {
                done.fates.count(Fate::Quarantined);
                done.apart.push(record.set_apart(cause));
            }
        }
    }
}
