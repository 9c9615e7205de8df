//! What becomes of records, by the test vectors that the Flink connector shares (`stream/vectors/dedup.ndjson`): the leg
//! and the connector must give every record the same fate, and must know the same of its source afterwards; and when sources
//! are forgotten (`stream/vectors/forget.ndjson`).
//!
//! Each sequence of the first runs twice: record by record, and in batches of neighbours as readers of a journal bring them.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use arrow_array::RecordBatch;
use arrow_schema::Schema;
use journal::Entry;
use serde_json::{Value, json};
use sink::{Commit, LegState, Seen, SourceState};
use stream::facts::{Place, Position};
use stream::{Batch, BatchBuilder, Header, Incarnation, Kind, Range, SourceId};

use super::convert::{Convert, convert};
use super::dedup::{Changes, Taken};
use super::hand_over::HandOver;
use crate::sql::{InputRow, Output, RowFate};

/// Delivers everything.
struct Everything;

impl Convert for Everything {
    fn convert(&self, rows: &[InputRow<'_>]) -> Output {
        let batch = RecordBatch::new_empty(Schema::empty().into());
        let fates = rows.iter().map(|_| RowFate::Delivered).collect();
        Output { batch, origin: Vec::new(), event_times_ms: Vec::new(), fates }
    }
}

fn batch(records: &[Header]) -> Batch {
    let mut builder = BatchBuilder::new(records[0].range.start);
    for Header { kind, range, event_time_ms, .. } in records {
        let body: &[u8] = if matches!(kind, Kind::Event | Kind::PressedBack) { b"x" } else { b"" };
        builder.skip_to(range.start);
        builder.push(*kind, range.end, *event_time_ms, body);
    }
    builder.take(&"a.b.c".parse().unwrap(), Incarnation(1), records[0].source).unwrap()
}

/// The fates of the records of one batch at a place, as counted: which record had which is not said, but where there is
/// only one.
fn fates_at(taken: &mut Taken, records: &[Header], Seen { place, offset, append_time_ms }: Seen) -> Vec<String> {
    let entry = Entry { offset, append_time_ms, batch: batch(records) };
    let done = convert(&Everything, taken, place, &[entry]);
    let counted =
        [("delivered", done.fates.delivered), ("dropped", done.fates.dropped), ("double", done.fates.doubles)];
    let plain = counted.into_iter().flat_map(|(word, count)| vec![word.to_owned(); count as usize]);
    let mut fates: Vec<String> =
        plain.chain(done.apart.iter().map(|apart| format!("quarantined: {}", apart.cause))).collect();
    fates.resize(records.len(), "silent".to_owned());
    fates.sort();
    fates
}

fn fates(taken: &mut Taken, records: &[Header]) -> Vec<String> {
    fates_at(taken, records, Seen { place: Place { cluster: 0, partition: 0 }, offset: 0, append_time_ms: 0 })
}

fn begin(line: &Value) -> Taken {
    let sources = serde_json::from_value(line["known"].clone()).unwrap();
    let horizon_minutes = serde_json::from_value(line["horizon_minutes"].clone()).unwrap();
    Taken::from_state(&LegState { sources, horizon_minutes, ..LegState::default() })
}

/// What is known of each source: its ranges, and its length where that is known.
fn known(line: &Value, taken: &mut Taken) -> BTreeMap<SourceId, Value> {
    let mut state: LegState =
        LegState { sources: serde_json::from_value(line["known"].clone()).unwrap(), ..LegState::default() };
    let changes = taken.changes();
    state.apply(1, &Commit { sources: changes.sources, ..Commit::default() });
    let told = |(source, state): (SourceId, SourceState)| {
        (source, json!({ "taken": state.taken, "finished": state.finished }))
    };
    state.sources.into_iter().map(told).collect()
}

/// Neighbours of one source whose ranges go up.
fn neighbours(records: &[Header]) -> Vec<&[Header]> {
    records.chunk_by(|one, next| one.source == next.source && one.range.end <= next.range.start).collect()
}

fn answer(line: &Value) -> Value {
    let records: Vec<Header> =
        line["records"].as_array().unwrap().iter().map(|text| text.as_str().unwrap().parse().unwrap()).collect();
    let (mut one_by_one, mut in_batches) = (begin(line), begin(line));
    let singly: Vec<String> = records.iter().flat_map(|record| fates(&mut one_by_one, &[*record])).collect();
    let mut at = 0;
    for batch in neighbours(&records) {
        let mut expected = singly[at..at + batch.len()].to_vec();
        expected.sort();
        assert_eq!(fates(&mut in_batches, batch), expected, "{}: in batches otherwise than singly", line["name"]);
        at += batch.len();
    }
    let after = known(line, &mut one_by_one);
    assert_eq!(known(line, &mut in_batches), after, "{}: in batches otherwise than singly", line["name"]);
    json!({
        "name": line["name"],
        "horizon_minutes": line["horizon_minutes"],
        "known": line["known"],
        "records": line["records"],
        "fates": singly,
        "after": after,
    })
}

/// Answers each line of a file of vectors, and holds it against what is kept there, or keeps the answers.
fn hold(file: &str, lines_min: usize, answer: fn(&Value) -> Value) {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../stream/vectors").join(file);
    let kept: Vec<Value> =
        fs::read_to_string(&path).unwrap().lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let answered: Vec<Value> = kept.iter().map(answer).collect();
    if std::env::var_os("ISOLANE_VECTORS").is_some() {
        fs::write(&path, answered.iter().map(|line| format!("{line}\n")).collect::<String>()).unwrap();
        return;
    }
    assert!(kept.len() > lines_min, "{} lines of {file}", kept.len());
    for (kept, answered) in kept.iter().zip(&answered) {
        assert_eq!(kept, answered, "{}", kept["name"]);
    }
}

#[test]
fn records_have_the_fates_that_the_vectors_say() {
    hold("dedup.ndjson", 30, answer);
}

/// A history: records as they are read, each at its place, and commits that forget. What is known at the end, last places
/// included.
fn remember(line: &Value) -> Value {
    let mut taken = Taken::default();
    let (mut state, mut fates) = (LegState::default(), Vec::new());
    for (step, number) in line["steps"].as_array().unwrap().iter().zip(1..) {
        if let Some(text) = step["record"].as_str() {
            let seen = serde_json::from_value(step["seen"].clone()).unwrap();
            fates.extend(fates_at(&mut taken, &[text.parse().unwrap()], seen));
        } else {
            let starts: Vec<Position> = serde_json::from_value(step["starts"].clone()).unwrap();
            let starts = starts.into_iter().map(|start| (start.place, start.offset)).collect();
            taken.forget(&starts, step["reached_ms"].as_i64().unwrap());
        }
        let (changes, horizon_minutes) = (taken.changes(), taken.horizon_minutes());
        let Changes { sources, forgotten } = changes;
        state.apply(number, &Commit { sources, forgotten, horizon_minutes, ..Commit::default() });
    }
    json!({
        "name": line["name"],
        "steps": line["steps"],
        "fates": fates,
        "horizon_minutes": state.horizon_minutes,
        "after": state.sources,
    })
}

#[test]
fn sources_are_forgotten_when_the_vectors_say() {
    hold("forget.ndjson", 20, remember);
}

/// A hand-over object as the connector writes it; its tests print this very text.
#[test]
fn a_hand_over_object_is_what_a_leg_begins_from() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../stream/vectors/hand-over.json");
    let object = HandOver::read(&fs::read(path).unwrap()).unwrap();
    let at = |cluster, partition, offset, log| Position { place: Place { cluster, partition }, offset, log };
    let state = object.state().unwrap();
    assert_eq!(state.positions, [at(0, 0, 17, 7), at(0, 2, (1 << 48) - 1, 0), at(1, 0, 1, u64::MAX - 1)]);
    let told = |source: &SourceState| (source.taken.as_slice().to_vec(), source.finished, source.is_complete());
    let (gap, whole) = (vec![Range::new(0, 500), Range::new(600, 1 << 48)], vec![Range::new(0, 500)]);
    assert_eq!(
        state.sources.values().map(told).collect::<Vec<_>>(),
        [(gap, None, false), (vec![], None, false), (whole, Some(500), true)]
    );
    let seen = |cluster, partition, offset, append_time_ms| Seen {
        place: Place { cluster, partition },
        offset,
        append_time_ms,
    };
    let last: Vec<&[Seen]> = object.sources.values().map(|source| &source.last[..]).collect();
    let whole = [seen(1, 0, 0, 1_795_420_799_999), seen(0, 2, (1 << 48) - 2, 1_795_420_800_001)];
    assert_eq!(last, [&[][..], &[], &whole]);
    assert_eq!(state.horizon_minutes, Some(29_900_123));
}
