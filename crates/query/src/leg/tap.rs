//! What a job makes of records that somebody looks at: the same judgement and the same SELECT as its legs', without a
//! sink. Known are the doubles of what was looked at, not of what came before.

use std::collections::BTreeMap;

use journal::Entry;
use sink::Seen;
use stream::facts::Place;
use stream::fate::Fate;
use stream::{Header, Kind, Record};

use super::dedup::{Taken, Verdict};
use crate::sql::{InputRow, Job, LegPlan, RowFate};

/// Memory of the doubles' range sets.
const TAKEN_BYTES_MAX: usize = 32 << 20;

/// What becomes of a record in one leg.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// Its fate; with the cause, if it is set apart.
    Fate(Fate, Option<String>),
    /// It was seen before.
    Double,
}

/// A record, and what each leg makes of it.
#[derive(Clone, Debug)]
pub struct Tapped {
    /// Where it lies.
    pub place: Place,
    /// Its offset.
    pub offset: u64,
    /// When the journal took it, in ms since 1970.
    pub append_time_ms: i64,
    /// Its provenance.
    pub header: Header,
    /// Its own bytes.
    pub body: bytes::Bytes,
    /// By the names of the legs.
    pub outcomes: BTreeMap<String, Outcome>,
}

/// Looks at records as a job does.
pub struct Tap {
    job: Job,
    taken: Taken,
}

impl Tap {
    /// A look through `job`.
    pub fn new(job: Job) -> Self {
        Self { job, taken: Taken::default() }
    }

    /// The records of an entry, in order; ends and heartbeats are none.
    pub fn look(&mut self, place: Place, entry: &Entry) -> Vec<Tapped> {
        let append_time_ms = entry.append_time_ms;
        let seen = Seen { place, offset: entry.end_offset().saturating_sub(1), append_time_ms };
        let verdicts = self.taken.take(&entry.batch, seen);
        // Nobody commits what is seen here; and a long look forgets, rather than growing for ever.
        drop(self.taken.changes());
        if self.taken.bytes() > TAKEN_BYTES_MAX {
            self.taken = Taken::default();
        }
        let records = (entry.offset..).zip(entry.batch.records()).zip(verdicts);
        records.filter_map(|((offset, record), verdict)| self.tapped(place, entry, offset, record, verdict)).collect()
    }

    fn tapped(&self, place: Place, entry: &Entry, offset: u64, record: Record, verdict: Verdict) -> Option<Tapped> {
        let Record { kind, range, event_time_ms, body } = record;
        let header = Header { kind, source: entry.batch.source, range, lap: 0, event_time_ms };
        let append_time_ms = entry.append_time_ms;
        let row = InputRow { body: &body, header: &header, append_time_ms };
        let of = |leg: &LegPlan| match verdict {
            Verdict::New if matches!(kind, Kind::Event | Kind::PressedBack) => selected(leg, &row),
            Verdict::New => Outcome::Fate(Fate::Dropped, None),
            Verdict::Apart(cause) => Outcome::Fate(Fate::Quarantined, Some(cause.to_owned())),
            Verdict::Double | Verdict::Silent => Outcome::Double,
        };
        let outcomes = self.job.legs.iter().map(|leg| (leg.sink.clone(), of(leg))).collect();
        (verdict != Verdict::Silent).then(|| Tapped { place, offset, append_time_ms, header, body, outcomes })
    }
}

fn selected(leg: &LegPlan, row: &InputRow<'_>) -> Outcome {
    match leg.run(std::slice::from_ref(row)).fates.pop() {
        Some(RowFate::Failed(cause)) => Outcome::Fate(Fate::Quarantined, Some(cause)),
        Some(RowFate::Filtered) => Outcome::Fate(Fate::Filtered, None),
        Some(RowFate::Delivered) | None => Outcome::Fate(Fate::Delivered, None),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use stream::provenance::SourceId;
    use stream::{BatchBuilder, Incarnation};

    #[test]
    fn each_record_has_the_fate_that_each_leg_gives_it() {
        let sql = "CREATE TABLE records (n INT) WITH ('format' = 'json');
            INSERT INTO all_of_them SELECT n FROM records; INSERT INTO big SELECT n FROM records WHERE n > 1;";
        let mut tap = Tap::new(crate::sql::check(sql, &["all_of_them", "big"]).unwrap());
        let mut builder = BatchBuilder::new(0);
        for (end, body) in [(10, &br#"{"n":1}"#[..]), (20, br#"{"n":2}"#), (30, b"no JSON")] {
            builder.push(Kind::Event, end, None, body);
        }
        builder.push(Kind::End, 30, None, b"");
        let batch = builder.take(&"a.b.c".parse().unwrap(), Incarnation(1), SourceId::derive(1, &[])).unwrap();
        let (entry, place) = (Entry { offset: 7, append_time_ms: 3, batch }, Place { cluster: 0, partition: 0 });
        let seen = tap.look(place, &entry);
        let fates = |leg: &str| -> Vec<&str> {
            let word = |tapped: &Tapped| match &tapped.outcomes[leg] {
                Outcome::Fate(Fate::Quarantined, Some(_)) => "quarantined",
                Outcome::Fate(Fate::Filtered, None) => "filtered",
                Outcome::Fate(Fate::Delivered, None) => "delivered",
                other => panic!("{other:?}"),
            };
            seen.iter().map(word).collect()
        };
        assert_eq!(fates("all_of_them"), ["delivered", "delivered", "quarantined"]);
        assert_eq!(fates("big"), ["filtered", "delivered", "quarantined"]);
        assert_eq!(seen.iter().map(|tapped| tapped.offset).collect::<Vec<_>>(), [7, 8, 9]);
        let again = tap.look(place, &Entry { offset: 11, ..entry });
        assert!(again.iter().all(|tapped| tapped.outcomes.values().all(|outcome| *outcome == Outcome::Double)));
    }
}
