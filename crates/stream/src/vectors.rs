//! The test vectors that this crate and the Flink connector share, `crates/stream/vectors`: each line has what comes in and
//! what must come out. They lie here because this side defines the words; the connector's tests read the same files.
//!
//! `ISOLANE_VECTORS=write cargo test -p stream -p query vectors` answers all of them anew.

use std::fs;
use std::path::Path;

use serde_json::{Value, json};

use crate::provenance::{Header, HeaderError, Range};
use crate::ranges::{Ranges, Relation};

/// Holds what `answer` makes of each line of a file against the line itself.
fn check(name: &str, answer: impl Fn(&Value) -> Value) {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("vectors").join(name);
    let kept: Vec<Value> =
        fs::read_to_string(&path).unwrap().lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let answered: Vec<Value> = kept.iter().map(answer).collect();
    if std::env::var_os("ISOLANE_VECTORS").is_some() {
        fs::write(&path, answered.iter().map(|line| format!("{line}\n")).collect::<String>()).unwrap();
        return;
    }
    assert!(kept.len() > 50, "{name}: {} lines", kept.len());
    for (number, (kept, answered)) in kept.iter().zip(&answered).enumerate() {
        assert_eq!(kept, answered, "{name}, line {}", number + 1);
    }
}

fn what(error: &HeaderError) -> String {
    error.to_string().rsplit(": ").next().unwrap_or_default().to_owned()
}

#[test]
fn headers_are_read_as_the_vectors_say() {
    check("headers.ndjson", |line| {
        let text = line["text"].as_str().unwrap();
        match text.parse::<Header>() {
            Ok(header) => json!({
                "text": text,
                "kind": char::from(header.kind.letter()).to_string(),
                "source": header.source.to_string(),
                "birth_minutes": header.source.birth_minutes(),
                "start": header.range.start,
                "end": header.range.end,
                "lap": header.lap,
                "event_time_ms": header.event_time_ms,
                "printed": header.to_string(),
            }),
            Err(error) => json!({ "text": text, "refused": what(&error) }),
        }
    });
}

#[test]
fn range_sets_are_as_the_vectors_say() {
    check("ranges.ndjson", |line| {
        let set = |key: &str| serde_json::from_value::<Ranges>(line[key].clone()).unwrap();
        let (held, other) = (set("held"), set("other"));
        let range: Range = serde_json::from_value(line["range"].clone()).unwrap();
        let (mut inserted, mut union) = (held.clone(), held.clone());
        inserted.insert(range);
        union.union(&other);
        let relation = match held.relation(range) {
            Relation::Disjoint => "disjoint",
            Relation::Contained => "contained",
            Relation::Overlapping => "overlapping",
        };
        json!({
            "held": line["held"],
            "range": line["range"],
            "other": line["other"],
            "set": held,
            "relation": relation,
            "inserted": inserted,
            "union": union,
            "difference": held.difference(&other),
            "total": held.total(),
            "contiguous_end": held.contiguous_end(),
            "end": held.end(),
        })
    });
}
