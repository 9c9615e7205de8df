//! Streams: create, change, delete. The rules that need the other streams are here: one topic per stream, one living
//! stream per id, a bound on their number, no lost update.

use std::path::Path;
use std::sync::Mutex;

use sqlx::{Row, SqliteConnection};
use stream::config::{Engine, SinkSpec, Snapshot, StreamConfig, StreamSpec};
use stream::facts::FlinkJob;
use stream::{Incarnation, StreamId, limits};

use super::folders::folders_free;
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
    folders_free(snapshot, &config.spec)?;
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
    folders_free(snapshot, &config.spec)?;
    let told = |sink: &str| {
        let book = locked(book);
        let leg = book.look(config.incarnation).and_then(|entry| entry.legs.get(sink));
        leg.map_or(Committed::default(), |leg| Committed {
            something: leg.commit_highest > 0,
            job: leg.report.job.clone(),
        })
    };
    engine_allowed(&known.spec, &config.spec, told)?;
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

/// What a leg has committed.
#[derive(Clone, Debug, Default)]
struct Committed {
    /// Whether it has committed at all.
    something: bool,
    /// How its job on Flink stands, if that has been heard of.
    job: Option<FlinkJob>,
}

/// What one engine has committed the other must know of, by the hand-over object that says so: a job that begins anew, or where
/// one has begun before, delivers again. What a job on Flink leaves last is known when it stands still.
fn engine_allowed(known: &StreamSpec, new: &StreamSpec, told: impl Fn(&str) -> Committed) -> Result<(), StoreError> {
    let begin_of = |spec: &StreamSpec, name: &str| {
        spec.sinks.iter().find(|sink| sink.name == name).and_then(|sink| sink.begin_from.clone())
    };
    let is_new = |name: &str| {
        let begin = begin_of(new, name);
        begin.is_some() && begin != begin_of(known, name)
    };
    let kept = new.sinks.iter().filter(|sink| known.sinks.iter().any(|other| other.name == sink.name));
    let committed: Vec<&str> = kept.map(|sink| sink.name.as_str()).filter(|name| told(name).something).collect();
    let (stream, from, to) = (new.id.clone(), known.engine, new.engine);
    let begins_wrong = |sink: &str| StoreError::Engine { stream: new.id.clone(), sink: sink.to_owned(), from, to };
    match (from, to) {
        (Engine::Embedded, Engine::Embedded) => Ok(()),
        (Engine::Flink, Engine::Flink) if known.legs != new.legs => Err(StoreError::Legs(stream)),
        (Engine::Flink, Engine::Flink) if committed.iter().any(|name| is_new(name)) => Err(StoreError::Begun(stream)),
        (Engine::Flink, Engine::Flink) => Ok(()),
        (Engine::Embedded, Engine::Flink) if new.legs.are_together() && committed.len() > 1 => {
            Err(StoreError::Places(stream))
        }
        (Engine::Embedded, Engine::Flink) => {
            committed.iter().find(|name| !is_new(name)).map_or(Ok(()), |name| Err(begins_wrong(name)))
        }
        (Engine::Flink, Engine::Embedded) => {
            let runs = |sink: &SinkSpec| match told(&sink.name) {
                Committed { job: Some(job), .. } => !job.is_settled(),
                Committed { something, job: None } => something,
            };
            if !known.suspended || known.sinks.iter().any(runs) {
                return Err(StoreError::Runs(stream));
            }
            let is_its_object = |name: &str| {
                let object = told(name).job.and_then(|job| job.object);
                let (object, begin) = (object.as_deref().and_then(Path::file_name), begin_of(new, name));
                // One that was never submitted has left none; it stands where the embedded leg stood.
                begin.is_some() && (object.is_none() || begin.as_deref().and_then(Path::file_name) == object)
            };
            committed.iter().find(|name| !is_its_object(name)).map_or(Ok(()), |name| Err(begins_wrong(name)))
        }
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
    use stream::facts::JobState;

    fn spec(engine: Engine, begin_from: Option<&str>) -> StreamSpec {
        let suspended = !engine.is_embedded();
        let mut spec = StreamSpec { engine, suspended, ..StreamSpec::new("a.b.c".parse().unwrap()) };
        spec.sinks[0].begin_from = begin_from.map(Into::into);
        spec
    }

    fn job(state: JobState, object: Option<&str>) -> Option<FlinkJob> {
        let object = object.map(Into::into);
        Some(FlinkJob { leg: None, state, attempt: None, checkpoint: Some(7), object, lag_records: None })
    }

    #[test]
    fn an_engine_goes_on_only_from_an_object_that_is_new() {
        let (embedded, flink) = (Engine::Embedded, Engine::Flink);
        for (from, to, allowed) in [
            ((embedded, None), (flink, None), false),
            ((embedded, None), (flink, Some("/1")), true),
            ((embedded, Some("/1")), (flink, Some("/1")), false),
            ((flink, Some("/1")), (embedded, Some("/x/2")), true),
            ((flink, Some("/1")), (embedded, Some("/1")), false),
            ((flink, Some("/1")), (embedded, None), false),
            ((flink, Some("/1")), (flink, Some("/2")), false),
            ((flink, Some("/1")), (flink, None), true),
            ((embedded, None), (embedded, Some("/1")), true),
        ] {
            let (known, new) = (spec(from.0, from.1), spec(to.0, to.1));
            let committed = |_: &str| Committed { something: true, job: job(JobState::Idle, Some("/y/2")) };
            let found = engine_allowed(&known, &new, committed);
            assert_eq!(found.is_ok(), allowed, "{from:?} to {to:?}");
            assert!(engine_allowed(&known, &new, |_| Committed::default()).is_ok(), "nothing is committed");
            assert!(found.err().is_none_or(|error| error.to_string().contains("begin_from")));
        }
    }

    #[test]
    fn a_job_on_flink_is_left_only_when_all_that_it_leaves_is_known() {
        let suspended = spec(Engine::Flink, Some("/1"));
        let running = StreamSpec { suspended: false, ..suspended.clone() };
        let no_object = Some(FlinkJob { checkpoint: None, ..job(JobState::Idle, None).unwrap() });
        let never_ran = Some(FlinkJob { checkpoint: None, ..job(JobState::Gone, Some("/1")).unwrap() });
        for (known, job, begin, allowed) in [
            (&running, job(JobState::Idle, Some("/2")), "/2", false),
            (&suspended, job(JobState::Idle, Some("/2")), "/2", true),
            (&suspended, job(JobState::Idle, Some("/2")), "/1", false),
            (&suspended, job(JobState::Fresh, None), "/1", true),
            (&suspended, no_object, "/1", false),
            (&suspended, never_ran, "/1", true),
            (&suspended, job(JobState::Gone, Some("/2")), "/2", false),
            (&suspended, job(JobState::Unsettled, Some("/2")), "/2", false),
            (&suspended, job(JobState::Stopping, Some("/2")), "/2", false),
            (&suspended, None, "/1", false),
        ] {
            let told = |_: &str| Committed { something: true, job: job.clone() };
            let found = engine_allowed(known, &spec(Engine::Embedded, Some(begin)), told);
            assert_eq!(found.is_ok(), allowed, "{job:?}, {begin}");
        }
    }

    #[test]
    fn legs_at_different_places_share_no_job() {
        let sinks = vec![SinkSpec::files("a"), SinkSpec::files("b")];
        let known = StreamSpec { sinks: sinks.clone(), ..spec(Engine::Embedded, None) };
        let begin = |sink: SinkSpec| SinkSpec { begin_from: Some("/1".into()), ..sink };
        let sinks = sinks.into_iter().map(begin).collect();
        let together = StreamSpec { sinks, ..spec(Engine::Flink, None) };
        let apart = StreamSpec { legs: Legs::Separate, ..together.clone() };
        let committed = |_: &str| Committed { something: true, job: None };
        assert!(matches!(engine_allowed(&known, &together, committed), Err(StoreError::Places(_))));
        assert!(engine_allowed(&known, &apart, committed).is_ok());
        let found = engine_allowed(&together, &apart, |_| Committed::default());
        assert!(matches!(found, Err(StoreError::Legs(_))), "the jobs of before may run yet");
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
