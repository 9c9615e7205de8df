//! Which jobs are wanted on Flink, and with which text: a pure function of the configuration, but that only changed streams are
//! translated again.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use flink::job::LegText;
use flink::{JobKey, Text, Wanted, WantedJobs};
use journal::Topic;
use query::leg::LegKey;
use query::sql::{FlinkPlace, SqlError, for_flink, ranges_topic, set_apart_folders};
use stream::StreamId;
use stream::config::{Engine, KafkaTarget, SinkKind, SinkSpec, Snapshot, StreamConfig};

use super::Keys;

/// The folder of what jobs set apart, beside those of a stream's sinks.
const SET_APART: &str = "set-apart";

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
    pub apart: [PathBuf; 2],
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

/// The jobs of the configuration.
pub struct Jobs {
    place: Place,
    /// Jobs that Flink may still have: of streams on the other engine too.
    remembered: Keys,
    known: BTreeMap<StreamId, (StreamConfig, Result<Text, SqlError>)>,
    /// Streams of the other engine whose jobs are remembered.
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
            match config.spec.engine {
                Engine::Flink => {
                    let text = || (config.clone(), text(config, &self.place));
                    self.known.entry(id.clone()).or_insert_with(text);
                    self.remembered.insert(key_of(config));
                }
                // It stands, to be known when the stream comes back: where it had begun, and where it ended.
                Engine::Embedded => {
                    self.standing.extend(Some(key_of(config)).filter(|key| self.remembered.contains(key)))
                }
            }
        }
    }

    /// What is wanted of each job.
    pub fn wanted(&self) -> WantedJobs {
        let running = self.known.values().map(|(config, text)| {
            let begin_from = config.spec.begin_from().map(url);
            let run = |text: &Text| Wanted::Run { text: text.clone(), begin_from };
            (key_of(config), text.as_ref().map_or(Wanted::Stopped, run))
        });
        running.chain(self.standing.iter().map(|key| (key.clone(), Wanted::Stopped))).collect()
    }

    /// The legs of the jobs that run on Flink.
    pub fn legs(&self) -> Vec<FlinkLeg> {
        let of_stream = |(config, text): &(StreamConfig, Result<Text, SqlError>)| {
            let refused = text.as_ref().err().map(|error| format!("engine flink: {error}"));
            let leg = |sink: &SinkSpec| leg(config, sink, &self.place, refused.clone());
            config.spec.sinks.iter().map(leg).collect::<Vec<_>>()
        };
        self.known.values().flat_map(of_stream).collect()
    }
}

fn key_of(config: &StreamConfig) -> JobKey {
    JobKey { stream: config.spec.id.clone(), incarnation: config.incarnation, leg: None }
}

fn leg(config: &StreamConfig, sink: &SinkSpec, place: &Place, refused: Option<String>) -> FlinkLeg {
    let of_stream = place.out_dir.join(config.spec.id.as_str());
    let (stream, incarnation) = (config.spec.id.clone(), config.incarnation);
    let rows = match &sink.kind {
        SinkKind::Files { path } => Told::Footers(path.clone().unwrap_or_else(|| of_stream.join(&sink.name))),
        SinkKind::Kafka(target) => Told::Topic(target.clone(), ranges_topic(&Topic::of(config).name(), &sink.name)),
    };
    let key = LegKey { stream, incarnation, sink: sink.name.clone() };
    let apart = set_apart_folders(&sink.name).map(|folder| of_stream.join(SET_APART).join(folder));
    FlinkLeg { job: key_of(config), key, rows, apart, refused }
}

fn text(config: &StreamConfig, place: &Place) -> Result<Text, SqlError> {
    let out = url(&place.out_dir.join(config.spec.id.as_str()));
    let topic = Topic::of(config).name();
    let place = FlinkPlace { clusters: &place.clusters, topic: &topic, out: &out };
    let written = for_flink(&config.sql(), &config.spec.sinks, place)?;
    let leg = |leg: query::sql::FlinkLeg| LegText { sink_table: leg.sink_table, insert: leg.insert };
    let interval = format!("{} ms", config.spec.limits.checkpoint_ms);
    Ok(Text {
        source: written.source,
        tables: written.tables,
        legs: written.legs.into_iter().map(leg).collect(),
        settings: vec![("execution.checkpointing.interval".to_owned(), interval)],
    })
}

fn url(path: &Path) -> String {
    format!("file://{}", path.display())
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use stream::Incarnation;
    use stream::config::StreamSpec;

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

        jobs.follow(&snapshot(Engine::Embedded, None));
        assert_eq!(jobs.wanted().values().collect::<Vec<_>>(), [&Wanted::Stopped]);
        jobs.follow(&Snapshot::default());
        assert!(jobs.wanted().is_empty());
    }

    #[test]
    fn a_job_that_cannot_run_there_stands_and_says_why() {
        let mut jobs = Jobs::new(Place { clusters: String::new(), out_dir: "/out".into() }, Keys::new());
        jobs.follow(&snapshot(Engine::Flink, Some("nonsense")));
        assert_eq!(jobs.wanted().values().collect::<Vec<_>>(), [&Wanted::Stopped]);
        assert!(jobs.legs()[0].refused.as_ref().unwrap().contains("engine flink"));
    }
}
