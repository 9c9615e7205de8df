//! Streams: create, change, delete. The rules that need the other streams are here: one topic per stream, one living
//! stream per id, a bound on their number, no lost update.

use std::sync::Mutex;

use sqlx::{Row, SqliteConnection};
use stream::config::{Engine, SinkSpec, Snapshot, StreamConfig, StreamSpec};
use stream::{Incarnation, StreamId, limits};

use super::open::{parse, print};
use super::{Book, locked};
use crate::error::StoreError;

/// The incarnation of a stream born at `now_ms` as the `version`-th change: the version tells apart what one database
/// makes, the time what databases do that took each other's place.
fn incarnation(now_ms: i64, version: u64) -> Incarnation {
    let bits = Incarnation::VERSION_BITS;
    Incarnation((now_ms as u64) << bits | version & ((1 << bits) - 1))
}

/// Loads the living streams.
pub(super) async fn load(connection: &mut SqliteConnection) -> Result<Snapshot, StoreError> {
    let version: i64 = sqlx::query_scalar("SELECT version FROM metadata").fetch_one(&mut *connection).await?;
    let mut snapshot = Snapshot { version: version as u64, ..Snapshot::default() };
    let rows = sqlx::query("SELECT incarnation, version, spec FROM streams WHERE deleted_at_ms IS NULL");
    for row in rows.fetch_all(connection).await? {
        let spec: StreamSpec = parse("spec", row.try_get("spec")?)?;
        let incarnation = Incarnation::try_from(row.try_get::<String, _>("incarnation")?)
            .map_err(|error| StoreError::Database(format!("column incarnation: {error}")))?;
        let version = row.try_get::<i64, _>("version")? as u64;
        snapshot.streams.insert(spec.id.clone(), StreamConfig { incarnation, version, spec });
    }
    Ok(snapshot)
}

/// Stores a new stream.
pub(super) async fn create(
    connection: &mut SqliteConnection,
    snapshot: &mut Snapshot,
    mut spec: StreamSpec,
    now_ms: i64,
) -> Result<StreamConfig, StoreError> {
    spec.check()?;
    // Written down: what a throughput asks for may be another number tomorrow, the topic's partitions may not.
    spec.partitions = Some(spec.partitions());
    if snapshot.streams.contains_key(&spec.id) {
        return Err(StoreError::Exists(spec.id));
    }
    if snapshot.streams.len() >= limits::STREAMS_MAX {
        return Err(StoreError::Full(limits::STREAMS_MAX));
    }
    let config = StreamConfig { incarnation: incarnation(now_ms, snapshot.version + 1), version: 1, spec };
    topic_free(snapshot, &config)?;
    sqlx::query("INSERT INTO streams (incarnation, id, version, spec) VALUES (?, ?, 1, ?)")
        .bind(config.incarnation.to_string())
        .bind(config.spec.id.as_str())
        .bind(print(&config.spec)?)
        .execute(&mut *connection)
        .await?;
    count_up(connection, snapshot).await?;
    snapshot.streams.insert(config.spec.id.clone(), config.clone());
    Ok(config)
}

/// Changes a stream. The same spec again changes nothing, not even the version.
pub(super) async fn change(
    connection: &mut SqliteConnection,
    snapshot: &mut Snapshot,
    book: &Mutex<Book>,
    mut spec: StreamSpec,
    if_version: Option<u64>,
) -> Result<StreamConfig, StoreError> {
    spec.check()?;
    let Some(known) = snapshot.streams.get(&spec.id) else { return Err(StoreError::NoStream(spec.id)) };
    if let Some(read) = if_version.filter(|read| *read != known.version) {
        return Err(StoreError::Version(spec.id, known.version, read));
    }
    spec.partitions.get_or_insert(known.spec.partitions());
    if known.spec == spec {
        return Ok(known.clone());
    }
    let config = StreamConfig { incarnation: known.incarnation, version: known.version + 1, spec };
    if config.topic() != known.topic() {
        return Err(StoreError::TopicFixed(config.spec.id.clone(), known.topic()));
    }
    partitions_allowed(&known.spec, &config.spec)?;
    let has_committed = |sink: &str| {
        let book = locked(book);
        let leg = book.look(config.incarnation).and_then(|entry| entry.legs.get(sink));
        leg.is_some_and(|leg| leg.commit_highest > 0)
    };
    engine_allowed(&known.spec, &config.spec, has_committed)?;
    sqlx::query("UPDATE streams SET version = ?, spec = ? WHERE incarnation = ?")
        .bind(config.version as i64)
        .bind(print(&config.spec)?)
        .bind(config.incarnation.to_string())
        .execute(&mut *connection)
        .await?;
    count_up(connection, snapshot).await?;
    snapshot.streams.insert(config.spec.id.clone(), config.clone());
    Ok(config)
}

/// What lies unread in a partition that is given up would be lost, and a source that moves to another one would overtake
/// itself.
fn partitions_allowed(known: &StreamSpec, new: &StreamSpec) -> Result<(), StoreError> {
    let is_other_order = new.order != known.order || new.order_key != known.order_key;
    let moves = new.partitions() != known.partitions() || is_other_order;
    let is_ordered = new.order.is_one_at_a_time() || known.order.is_one_at_a_time();
    match new.partitions() < known.partitions() || (moves && is_ordered && new.partitions() > 1) {
        true => Err(StoreError::Partitions(new.id.clone(), known.partitions())),
        false => Ok(()),
    }
}

/// What one engine has committed the other must know of, by a hand-over object that was not named before: where a job has begun
/// once, the same object would begin it there again. Nor can jobs on Flink be made one or many: the new ones would run beside the
/// old, which may have written what nobody has heard of yet.
fn engine_allowed(
    known: &StreamSpec,
    new: &StreamSpec,
    has_committed: impl Fn(&str) -> bool,
) -> Result<(), StoreError> {
    let begin_of = |spec: &StreamSpec, name: &str| {
        spec.sinks.iter().find(|sink| sink.name == name).and_then(|sink| sink.begin_from.clone())
    };
    let is_new = |name: &str| {
        let begin = begin_of(new, name);
        begin.is_some() && begin != begin_of(known, name)
    };
    let kept = |sink: &&SinkSpec| known.sinks.iter().any(|other| other.name == sink.name);
    let mut committed = new.sinks.iter().filter(kept).map(|sink| &sink.name).filter(|name| has_committed(name));
    let (stream, from, to) = (new.id.clone(), known.engine, new.engine);
    match (from == to, to) {
        (false, _) => match committed.find(|name| !is_new(name)) {
            Some(sink) => Err(StoreError::Engine { stream, sink: sink.clone(), from, to }),
            None => Ok(()),
        },
        (true, Engine::Flink) if known.legs != new.legs => Err(StoreError::Legs(stream)),
        (true, Engine::Flink) if committed.any(|name| is_new(name)) => Err(StoreError::Begun(stream)),
        (true, _) => Ok(()),
    }
}

/// Ends a stream's life; what is known of it goes too.
pub(super) async fn delete(
    connection: &mut SqliteConnection,
    snapshot: &mut Snapshot,
    book: &Mutex<Book>,
    id: &StreamId,
    now_ms: i64,
) -> Result<(), StoreError> {
    let Some(known) = snapshot.streams.get(id) else { return Err(StoreError::NoStream(id.clone())) };
    let incarnation = known.incarnation;
    sqlx::query("UPDATE streams SET deleted_at_ms = ? WHERE incarnation = ?")
        .bind(now_ms)
        .bind(incarnation.to_string())
        .execute(&mut *connection)
        .await?;
    for delete in [
        "DELETE FROM source_facts WHERE incarnation = ?",
        "DELETE FROM legs WHERE incarnation = ?",
        "DELETE FROM leg_sources WHERE incarnation = ?",
    ] {
        sqlx::query(delete).bind(incarnation.to_string()).execute(&mut *connection).await?;
    }
    count_up(connection, snapshot).await?;
    snapshot.streams.remove(id);
    locked(book).forget(incarnation);
    Ok(())
}

fn topic_free(snapshot: &Snapshot, config: &StreamConfig) -> Result<(), StoreError> {
    let topic = config.topic();
    match snapshot.streams.values().find(|other| other.topic() == topic) {
        Some(other) => {
            Err(StoreError::TopicTaken { stream: config.spec.id.clone(), topic, owner: other.spec.id.clone() })
        }
        None => Ok(()),
    }
}

/// Counts a change.
pub(super) async fn count_up(connection: &mut SqliteConnection, snapshot: &mut Snapshot) -> Result<(), StoreError> {
    snapshot.version += 1;
    sqlx::query("UPDATE metadata SET version = ?").bind(snapshot.version as i64).execute(connection).await?;
    Ok(())
}

/// Whether this life of this stream is the living one.
pub(super) fn lives(snapshot: &Snapshot, id: &StreamId, incarnation: Incarnation) -> bool {
    snapshot.streams.get(id).is_some_and(|config| config.incarnation == incarnation)
}

#[cfg(test)]
mod tests {
    use super::*;
    use stream::config::{Legs, Order};

    #[test]
    fn an_engine_goes_on_only_from_an_object_that_is_new() {
        let spec = |engine, begin_from: Option<&str>| {
            let mut spec = StreamSpec { engine, ..StreamSpec::new("a.b.c".parse().unwrap()) };
            spec.sinks[0].begin_from = begin_from.map(Into::into);
            spec
        };
        let (embedded, flink) = (Engine::Embedded, Engine::Flink);
        for (from, to, allowed) in [
            ((embedded, None), (flink, None), false),
            ((embedded, None), (flink, Some("/1")), true),
            ((embedded, Some("/1")), (flink, Some("/1")), false),
            ((flink, Some("/1")), (embedded, Some("/2")), true),
            ((flink, Some("/1")), (embedded, None), false),
            ((flink, Some("/1")), (flink, Some("/2")), false),
            ((flink, Some("/1")), (flink, None), true),
            ((embedded, None), (embedded, Some("/1")), true),
        ] {
            let (known, new) = (spec(from.0, from.1), spec(to.0, to.1));
            let found = engine_allowed(&known, &new, |_| true);
            assert_eq!(found.is_ok(), allowed, "{from:?} to {to:?}");
            assert!(engine_allowed(&known, &new, |_| false).is_ok(), "nothing is committed");
            assert!(found.err().is_none_or(|error| error.to_string().contains("begin_from")));

            let apart = StreamSpec { legs: Legs::Separate, ..new };
            let found = engine_allowed(&known, &apart, |_| true);
            let stays = (from.0, to.0) == (flink, flink);
            assert_eq!(found.is_ok(), allowed && !stays, "{from:?} to {to:?}, apart");
            assert_eq!(
                engine_allowed(&known, &apart, |_| false).is_ok(),
                !stays,
                "{from:?} to {to:?}, nothing committed"
            );
        }
    }

    #[test]
    fn partitions_grow_where_no_order_is_asked_for_and_never_shrink() {
        let spec = |partitions, order| {
            let id = "a.b.c".parse().unwrap();
            StreamSpec { partitions: Some(partitions), order, ..StreamSpec::new(id) }
        };
        for (from, to, allowed) in [
            ((3, Order::None), (6, Order::None), true),
            ((3, Order::None), (2, Order::None), false),
            ((3, Order::Source), (3, Order::Source), true),
            ((3, Order::Source), (6, Order::Source), false),
            ((3, Order::None), (3, Order::Source), false),
            ((1, Order::None), (1, Order::Source), true),
            ((3, Order::Key), (6, Order::Key), false),
            ((3, Order::Source), (3, Order::Key), false),
        ] {
            let found = partitions_allowed(&spec(from.0, from.1), &spec(to.0, to.1));
            assert_eq!(found.is_ok(), allowed, "{from:?} to {to:?}");
        }
    }
}
