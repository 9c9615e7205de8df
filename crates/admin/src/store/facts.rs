//! Facts of the collecting side, merged by maximum: what is said twice, late or in another order changes nothing.

use std::sync::{Arc, Mutex};

use sqlx::{Row, SqliteConnection};
use stream::config::Snapshot;
use stream::facts::SourceFact;

use super::open::{parse, print};
use super::{Book, Loaded, locked, streams};
use crate::error::StoreError;
use crate::metrics;

/// Merges `stated` into `known`; whether that changed anything. The name is for people: the latest stands.
pub fn merge(known: &mut SourceFact, stated: SourceFact) -> bool {
    let before = known.clone();
    known.seen = known.seen.max(stated.seen);
    known.acknowledged = known.acknowledged.max(stated.acknowledged);
    known.finished |= stated.finished;
    if !stated.name.is_empty() {
        known.name = stated.name;
    }
    for apart in stated.set_apart {
        if !known.set_apart.iter().any(|other| other.range == apart.range) {
            known.set_apart.push(apart);
        }
    }
    known.set_apart.sort_by_key(|apart| (apart.range.start, apart.range.end));
    for cut in stated.cuts {
        if !known.cuts.contains(&cut) {
            known.cuts.push(cut);
        }
    }
    known.cuts.sort_by_key(|cut| (cut.at, cut.config_version));
    *known != before
}

/// Merges facts and stores those that changed.
pub(super) async fn merge_all(
    connection: &mut SqliteConnection,
    snapshot: &Snapshot,
    book: &Mutex<Book>,
    stated: Vec<SourceFact>,
) -> Result<(), StoreError> {
    let (living, gone): (Vec<_>, Vec<_>) =
        stated.into_iter().partition(|fact| streams::lives(snapshot, &fact.stream, fact.incarnation));
    metrics::left_out("fact", gone.len());
    for fact in living {
        let Some(fact) = merge_into(&mut locked(book), fact) else { continue };
        sqlx::query("INSERT OR REPLACE INTO source_facts (incarnation, source, collector, fact) VALUES (?, ?, ?, ?)")
            .bind(fact.incarnation.to_string())
            .bind(fact.source.to_string())
            .bind(&fact.collector)
            .bind(print(&fact)?)
            .execute(&mut *connection)
            .await?;
    }
    Ok(())
}

/// The merged fact, if it is another than before.
fn merge_into(book: &mut Book, fact: SourceFact) -> Option<SourceFact> {
    let key = (fact.source, fact.collector.clone());
    let known = book.look(fact.incarnation).and_then(|entry| entry.facts.get(&key)).cloned();
    let merged = match known {
        Some(mut known) => merge(&mut known, fact).then_some(known)?,
        None => fact,
    };
    let entry = book.change(&merged.stream, merged.incarnation);
    Arc::make_mut(&mut entry.facts).insert(key, merged.clone());
    Some(merged)
}

/// Loads the facts of living streams.
pub(super) async fn load(connection: &mut SqliteConnection, loaded: &mut Loaded) -> Result<(), StoreError> {
    for row in sqlx::query("SELECT fact FROM source_facts").fetch_all(connection).await? {
        let fact: SourceFact = parse("fact", row.try_get("fact")?)?;
        merge_into(&mut loaded.book, fact);
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use stream::facts::{Cut, CutKind, SetApart};
    use stream::{Incarnation, SourceId};

    fn fact() -> impl Strategy<Value = SourceFact> {
        let apart = (0..5_u64, 1..4_u64)
            .prop_map(|(start, length)| SetApart { range: (start, start + length).into(), cause: "too large".into() });
        let cut =
            (0..5_u64, 0..3_u64).prop_map(|(at, config_version)| Cut { at, kind: CutKind::Config, config_version });
        (
            0..9_u64,
            0..9_u64,
            any::<bool>(),
            proptest::collection::vec(apart, 0..4),
            proptest::collection::vec(cut, 0..4),
        )
            .prop_map(|(seen, acknowledged, finished, set_apart, cuts)| {
                let mut fact = SourceFact {
                    stream: "a.b.c".parse().unwrap(),
                    incarnation: Incarnation(1),
                    source: SourceId::derive(1, &[]),
                    collector: "agent-1".into(),
                    name: "/var/log/a".into(),
                    seen,
                    acknowledged,
                    finished,
                    set_apart: Vec::new(),
                    cuts: Vec::new(),
                };
                let lists = SourceFact { set_apart, cuts, ..fact.clone() };
                merge(&mut fact, lists);
                fact
            })
    }

    fn merged(mut known: SourceFact, stated: &SourceFact) -> SourceFact {
        merge(&mut known, stated.clone());
        known
    }

    proptest! {
        #[test]
        fn order_and_repetition_do_not_matter(a in fact(), b in fact(), c in fact()) {
            prop_assert_eq!(merged(a.clone(), &b), merged(b.clone(), &a));
            prop_assert_eq!(merged(merged(a.clone(), &b), &c), merged(a.clone(), &merged(b.clone(), &c)));
            let mut both = merged(a.clone(), &b);
            prop_assert!(!merge(&mut both, b.clone()) && !merge(&mut both, a.clone()), "said again, it changed something");
            prop_assert!(both.acknowledged >= a.acknowledged && both.acknowledged >= b.acknowledged);
        }
    }
}
