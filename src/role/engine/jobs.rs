//! Which jobs are wanted on Flink, and with which text: a pure function of the configuration, but that only changed streams are
//! translated again.

use std::collections::BTreeMap;
use std::path::PathBuf;

use flink::job::LegText;
use flink::retained::url;
use flink::{JobKey, Places, Text, Wanted, WantedJobs};
use journal::Topic;
use query::leg::LegKey;
use query::sql::{FlinkPlace, SqlError, for_flink, ranges_topic, set_apart_folders};
use stream::StreamId;
use stream::config::{Engine, KafkaTarget, SinkKind, SinkSpec, Snapshot, StreamConfig};

use super::Keys;

/// Where jobs read and write.
pub struct Place {
    /// The Kafka clusters, as the connector takes them.
    pub clusters: String,
    /// Files sinks without a path publish into `<out_dir>/<stream>/<sink>`.
    pub out_dir: PathBuf,
}

/// A leg of a job on Flink: who it is for admin, and where its rows and what its job sets apart are found.
#[derive(Clone, Debug, PartialEq)]
pub struct FlinkLeg {
    /// The job.
    pub job: JobKey,
    /// The leg.
    pub key: LegKey,
    /// Where its rows are told of.
    pub rows: Told,
    /// Where the files lie that the job has set apart: what it could not decode, and what failed on the way to this sink.
    pub apart: [PathBuf; 4],
    /// Why the job cannot run, if it cannot.
    pub refused: Option<String>,
}

/// Where it is told which rows a leg has delivered.
#[derive(Clone, Debug, PartialEq)]
pub enum Told {
    /// In the footers of the files of this folder.
    Footers(PathBuf),
    /// In this ranges topic, beside the sink's own.
    Topic(KafkaTarget, String),
}

/// The texts of a stream's jobs.
type Texts = BTreeMap<JobKey, Text>;

/// The jobs of the configuration.
pub struct Jobs {
    place: Place,
    /// Jobs that Flink may still have: of streams on the other engine too.
    remembered: Keys,
    known: BTreeMap<StreamId, (StreamConfig, Result<Texts, SqlError>)>,
    /// Jobs that are remembered and do not run: of streams on the other engine, or whose legs ran otherwise.
    standing: Keys,
}

impl Jobs {
    /// None yet. `remembered`: jobs that the host remembers.
    pub fn new(place: Place, remembered: Keys) -> Self {
        Self { place, remembered, known: BTreeMap::new(), standing: Keys::new() }
    }

    /// Goes on to a configuration.
    pub fn follow(&mut self, snapshot: &Snapshot) {
        self.known.retain(|id, (config, _)| snapshot.streams.get(id) == Some(config));
        self.standing.clear();
        for (id, config) in &snapshot.streams {
            let running = match config.spec.engine {
                Engine::Flink => keys_of(config),
                Engine::Embedded => Keys::new(),
            };
            if !running.is_empty() {
                let texts = || (config.clone(), texts(config, &self.place));
                self.known.entry(id.clone()).or_insert_with(texts);
            }
            // The others stand, also those of sinks that are gone: to be known when they come back, where they had begun and ended.
            let is_own = |key: &&JobKey| key.stream == *id && key.incarnation == config.incarnation;
            let own = self.remembered.iter().filter(is_own);
            self.standing.extend(own.filter(|key| !running.contains(key)).cloned());
            self.remembered.extend(running);
        }
    }

    /// What is wanted of each job.
    pub fn wanted(&self) -> WantedJobs {
        let running = self.known.values().flat_map(|(config, texts)| {
            keys_of(config).into_iter().map(move |key| {
                let begin_from = begin_from(config, &key);
                let run = |text: &Text| Wanted::Run { text: text.clone(), begin_from };
                // A sink that nothing is inserted into needs no job of its own.
                let text = texts.as_ref().ok().and_then(|texts| texts.get(&key)).filter(|text| text.legs.len() > 1);
                let text = text.filter(|_| !config.spec.suspended);
                (key, text.map_or(Wanted::Stopped, run))
            })
        });
        running.chain(self.standing.iter().map(|key| (key.clone(), Wanted::Stopped))).collect()
    }

    /// The legs of the jobs that run on Flink.
    pub fn legs(&self) -> Vec<FlinkLeg> {
        let of_stream = |(config, texts): &(StreamConfig, Result<Texts, SqlError>)| {
            let refused = texts.as_ref().err().map(|error| format!("engine flink: {error}"));
            let leg = |sink: &SinkSpec| leg(config, sink, &self.place, refused.clone());
            config.spec.sinks.iter().map(leg).collect::<Vec<_>>()
        };
        self.known.values().flat_map(of_stream).collect()
    }
}

/// The job that a sink's INSERT is in, as the stream says.
fn key_for(config: &StreamConfig, sink: &SinkSpec) -> JobKey {
    let leg = Some(sink.name.clone()).filter(|_| !config.spec.legs.are_together());
    JobKey { stream: config.spec.id.clone(), incarnation: config.incarnation, leg }
}

/// The jobs that a stream has on Flink.
fn keys_of(config: &StreamConfig) -> Keys {
    config.spec.sinks.iter().map(|sink| key_for(config, sink)).collect()
}

/// The hand-over object, as URL, that a job begins from.
fn begin_from(config: &StreamConfig, key: &JobKey) -> Option<String> {
    let mut sinks = config.spec.sinks.iter();
    sinks.find(|sink| key_for(config, sink) == *key)?.begin_from.as_deref().map(url)
}

fn leg(config: &StreamConfig, sink: &SinkSpec, place: &Place, refused: Option<String>) -> FlinkLeg {
    let of_stream = place.out_dir.join(config.spec.id.as_str());
    let (stream, incarnation) = (config.spec.id.clone(), config.incarnation);
    let rows = match &sink.kind {
        SinkKind::Files { path, .. } => Told::Footers(path.clone().unwrap_or_else(|| of_stream.join(&sink.name))),
        SinkKind::Kafka(target) => Told::Topic(target.clone(), ranges_topic(&Topic::of(config).name(), &sink.name)),
    };
    let key = LegKey { stream, incarnation, sink: sink.name.clone() };
    let apart = set_apart_folders(&sink.name).map(|folder| of_stream.join(folder));
    FlinkLeg { job: key_for(config, sink), key, rows, apart, refused }
}

fn texts(config: &StreamConfig, place: &Place) -> Result<Texts, SqlError> {
    keys_of(config).into_iter().map(|key| text(config, place, key.leg.as_deref()).map(|text| (key, text))).collect()
}

fn text(config: &StreamConfig, place: &Place, leg: Option<&str>) -> Result<Text, SqlError> {
    let out = url(&place.out_dir.join(config.spec.id.as_str()));
    let topic = Topic::of(config).name();
    let place = FlinkPlace { clusters: &place.clusters, topic: &topic, out: &out, leg };
    let written = for_flink(&config.sql(), &config.spec.sinks, place)?;
    let leg = |query::sql::FlinkLeg { sink_table, insert, hidden_in }| {
        let hidden_in = hidden_in.as_deref().map(Places::path);
        LegText { sink_table, insert, hidden_in }
    };
    let interval = format!("{} ms", config.spec.limits.checkpoint_ms);
    Ok(Text {
        source: written.source,
        tables: written.tables,
        legs: written.legs.into_iter().map(leg).collect(),
        settings: vec![("execution.checkpointing.interval".to_owned(), interval)],
    })
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use stream::Incarnation;
    use stream::config::{Legs, StreamSpec};

    use super::*;

    fn snapshot(engine: Engine, sql: Option<&str>) -> Arc<Snapshot> {
        let mut spec = StreamSpec { engine, ..StreamSpec::new("a.b.c".parse().unwrap()) };
        (spec.sql, spec.sinks[0].begin_from) = (sql.map(str::to_owned), Some("/o.json".into()));
        let config = StreamConfig { incarnation: Incarnation(1), version: 1, spec };
        Arc::new(Snapshot { streams: [(config.spec.id.clone(), config)].into(), ..Snapshot::default() })
    }

    #[test]
    fn jobs_are_those_of_streams_on_flink_and_stand_when_the_engine_is_changed() {
        let place = Place { clusters: "normal=k:1".to_owned(), out_dir: "/out".into() };
        let mut jobs = Jobs::new(place, Keys::new());
        jobs.follow(&snapshot(Engine::Embedded, None));
        assert_eq!((jobs.wanted().len(), jobs.legs()), (0, Vec::new()));

        jobs.follow(&snapshot(Engine::Flink, None));
        let wanted = jobs.wanted();
        let Some((key, Wanted::Run { text, begin_from })) = wanted.first_key_value() else { panic!("{wanted:?}") };
        assert_eq!(
            (key.to_string().as_str(), begin_from.as_deref()),
            ("a.b.c@0000000000000001", Some("file:///o.json"))
        );
        assert_eq!(text.settings, [("execution.checkpointing.interval".to_owned(), "10000 ms".to_owned())]);
        assert!(text.tables[0].contains("'topic' = 'a.b.c.0000000000000001'"), "{}", text.tables[0]);
        assert!(text.legs[0].sink_table.contains("'path' = 'file:///out/a.b.c/files'"), "{}", text.legs[0].sink_table);
        let [leg] = &jobs.legs()[..] else { panic!("one leg") };
        assert_eq!(leg.rows, Told::Footers("/out/a.b.c/files".into()));
        assert_eq!(leg.apart[1], PathBuf::from("/out/a.b.c/set-apart/sink=files"));

        let mut suspended = Snapshot::clone(&snapshot(Engine::Flink, None));
        suspended.streams.values_mut().for_each(|config| config.spec.suspended = true);
        jobs.follow(&suspended);
        assert_eq!((jobs.wanted().values().collect::<Vec<_>>(), jobs.legs().len()), (vec![&Wanted::Stopped], 1));

        jobs.follow(&snapshot(Engine::Embedded, None));
        assert_eq!(jobs.wanted().values().collect::<Vec<_>>(), [&Wanted::Stopped]);
        jobs.follow(&Snapshot::default());
        assert!(jobs.wanted().is_empty());
    }

    #[test]
    fn legs_that_are_apart_have_jobs_beginnings_and_folders_of_their_own() {
        let spec = r#"{"id": "a.b.c", "engine": "flink", "legs": "separate", "sinks": [
            {"name": "x", "kind": "files"}, {"name": "y", "kind": "files", "begin_from": "/y.json"}],
            "sql": "CREATE TABLE r (line STRING) WITH ('format' = 'raw'); EXECUTE STATEMENT SET BEGIN INSERT INTO x SELECT line FROM r; INSERT INTO y SELECT line FROM r; END"}"#;
        let spec: StreamSpec = serde_json::from_str(spec).unwrap();
        let snapshot = |legs| {
            let spec = StreamSpec { legs, ..spec.clone() };
            let config = StreamConfig { incarnation: Incarnation(1), version: 1, spec };
            Snapshot { streams: [(config.spec.id.clone(), config)].into(), ..Snapshot::default() }
        };
        let mut jobs = Jobs::new(Place { clusters: String::new(), out_dir: "/out".into() }, Keys::new());
        jobs.follow(&snapshot(Legs::Separate));
        let wanted = jobs.wanted();
        let told: Vec<_> = wanted
            .iter()
            .map(|(key, wanted)| match wanted {
                Wanted::Run { text, begin_from } => (key.to_string(), text.legs.len(), begin_from.as_deref()),
                _ => panic!("{key} is to run"),
            })
            .collect();
        let name = |leg: &str| format!("a.b.c@0000000000000001.{leg}");
        assert_eq!(
            told,
            [(name("x"), 2, None), (name("y"), 2, Some("file:///y.json"))],
            "its INSERT, and what it sets apart"
        );
        let Wanted::Run { text, .. } = &wanted[&name("x").parse().unwrap()] else { panic!("it is to run") };
        assert!(text.legs[1].sink_table.contains("'path' = 'file:///out/a.b.c/set-apart/leg=x'"), "{text:?}");
        let legs = jobs.legs();
        assert_eq!(legs.iter().map(|leg| leg.job.leg.as_deref()).collect::<Vec<_>>(), [Some("x"), Some("y")]);
        assert!(legs[0].apart.contains(&"/out/a.b.c/set-apart/leg=x/sink=x".into()), "{:?}", legs[0].apart);

        jobs.follow(&snapshot(Legs::Together));
        let stopped = |jobs: &Jobs| jobs.wanted().values().filter(|wanted| **wanted == Wanted::Stopped).count();
        assert_eq!((jobs.wanted().len(), stopped(&jobs)), (3, 2), "those of the legs are remembered");
        let mut fewer = snapshot(Legs::Separate);
        fewer.streams.values_mut().for_each(|config| {
            config.spec.sinks.remove(1);
            config.spec.sql = Some(
                "CREATE TABLE r (line STRING) WITH ('format' = 'raw'); INSERT INTO x SELECT line FROM r".to_owned(),
            );
        });
        jobs.follow(&fewer);
        assert_eq!(
            (jobs.wanted().len(), stopped(&jobs)),
            (3, 2),
            "that of a sink that is gone is, should it come back"
        );
    }

    #[test]
    fn a_job_that_cannot_run_there_stands_and_says_why() {
        let mut jobs = Jobs::new(Place { clusters: String::new(), out_dir: "/out".into() }, Keys::new());
        jobs.follow(&snapshot(Engine::Flink, Some("nonsense")));
        assert_eq!(jobs.wanted().values().collect::<Vec<_>>(), [&Wanted::Stopped]);
        assert!(jobs.legs()[0].refused.as_ref().unwrap().contains("engine flink"));
    }
}
