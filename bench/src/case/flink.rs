//! The same jobs on the embedded engine and on Flink, over the same topics of the same brokers: JSON to Parquet, and lines to
//! a topic. Flink stands where elsewhere the limit does. What a part costs there is the difference of two jobs: one that
//! reads and decodes, one that filters and projects as well (both into a hole), and the whole one. Ours is divided by what
//! the case `query` does with the same records in memory.
//!
//! What Flink wrote is counted. The price of knowing doubles: the job that writes into a hole, beside the same with the
//! recipe that Flink itself has; the latter spares the branch for what is set apart.
//!
//! Flink is one task manager in a JVM with its job manager, as `cargo xtask golden jobs` has it, with a gigabyte of heap and
//! the JVM's own defaults; a whole job runs first, so that start and most of the compilers' work are not counted, and the others
//! in another order each round. Ours is counted from its start.

use std::collections::BTreeMap;
use std::path::Path;
use std::process::Stdio;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use harness::parquet_rows;
use kafka::Cluster;
use kafka::offsets::{self, At, Place};
use kafka::topics::{self, Wanted};
use query::sql::{self, FlinkPlace};
use stream::config::StreamSpec;
use tokio::process::Command;
use tokio::time::timeout;

use super::Plan;
use super::kafka::{Filled, Ground, Job, PARTITIONS, SQL_JSON, SQL_RAW, leg_spec, topic_of};
use super::query::{SQL_DECODE, as_read, in_memory};
use crate::load;
use crate::measure::alternate;
use crate::report::{Known, Report};

/// Where xtask says that Flink's jars lie, as a class path, and the program that runs jobs there.
const CLASS_PATH: &str = "ISOLANE_FLINK_CLASS_PATH";
const PROGRAM: &str = "ISOLANE_FLINK_JOBS";
/// The jobs: one that is not counted; into a hole what is read, and what is to be written as well; the same with
/// [`recipe`]; all.
const WARM: &str = "warm";
const DECODE: &str = "decode";
const TRANSFORM: &str = "transform";
const RECIPE: &str = "recipe";
const WHOLE: &str = "whole";
/// How long all jobs of a round may take.
const WITHIN: Duration = Duration::from_secs(1_800);
/// Packages of Java that Flink reaches into.
const OPENED: [&str; 8] = ["lang", "lang.reflect", "net", "nio", "text", "time", "util", "util.concurrent"];

/// Runs the case for records of `size` bytes.
pub async fn run(plan: &Plan, size: usize, report: &mut Report) -> Result<()> {
    let groups = load::groups(size, plan.bytes);
    for (job, name) in [(Job::Parquet, "JSON → Parquet, limit: Flink"), (Job::Topic, "Kafka → Kafka, limit: Flink")]
    {
        eprintln!("== {name}, {size} B");
        beside(plan, job, size, &groups, name, report).await?;
    }
    Ok(())
}

async fn beside(
    plan: &Plan,
    job: Job,
    size: usize,
    groups: &[Vec<u8>],
    name: &'static str,
    report: &mut Report,
) -> Result<()> {
    let ground = Ground::start(&plan.dir)?;
    let filled = Filled::new(plan, &ground, job, size, groups).await?;
    let read = as_read(groups)?;
    let mut rounds: Vec<BTreeMap<&'static str, Cost>> = Vec::new();
    let pair = alternate(
        plan.rounds,
        async || {
            let costs = on_flink(plan, &ground, &filled, job, rounds.len()).await?;
            rounds.push(costs.clone());
            let (Cost { wall, cpu, .. }, parts) = whole(&costs)?;
            Ok(filled.sample(wall, cpu, parts))
        },
        async || {
            let (wall, cpu) = filled.ours(plan, &ground).await?;
            if job == Job::Topic {
                return Ok(filled.sample(wall, cpu, Vec::new()));
            }
            let parts = in_memory(plan, size, &read).await?.parts;
            let read = cpu.saturating_sub(parts.iter().map(|(_, cpu)| *cpu).sum());
            Ok(filled.sample(wall, cpu, [("read", read)].into_iter().chain(parts).collect()))
        },
    );
    report.add(name, size, pair.await?);
    for (by, name) in [("the connector", TRANSFORM), ("ROW_NUMBER", RECIPE)] {
        let costs: Vec<Cost> = rounds.iter().filter_map(|costs| costs.get(name).copied()).collect();
        let Some(state_bytes) = costs.iter().map(|cost| cost.state_bytes).max() else { continue };
        let (sources, records, cpu) = (groups.len(), filled.records, costs.iter().map(|cost| cost.cpu).collect());
        report.add_known(Known { by, record_bytes: size, sources, records, cpu, state_bytes });
    }
    Ok(())
}

/// A job that Flink runs.
struct Run {
    name: &'static str,
    text: String,
    /// The topic that it writes, if it does.
    into: Option<String>,
}

/// What a job took.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Cost {
    wall: Duration,
    cpu: Duration,
    /// Of its largest checkpoint.
    state_bytes: u64,
}

/// The jobs in their order; the first is not counted.
fn runs(ground: &Ground, filled: &Filled, job: Job, out: &Path) -> Result<Vec<Run>> {
    let topic = topic_of(&filled.config);
    let (clusters, out) = (format!("normal={}", ground.bootstrap()), format!("file://{}", out.display()));
    let write = |name: &'static str, sql: &str, is_hole: bool| {
        // A sink of its own, as ours has one each time: transactional ids and ranges go by its name.
        let sink = format!("target_{name}_{}", rand::random::<u32>());
        let into = format!("flink.{}.{sink}", job.kind());
        let StreamSpec { mut sinks, .. } = leg_spec(ground, job, filled.config.spec.id.as_str(), &into)?;
        sinks[0].name.clone_from(&sink);
        let sql = &sql.replace("INTO files", "INTO target").replace("INTO target", &format!("INTO `{sink}`"));
        let place = FlinkPlace { clusters: &clusters, topic: &topic, out: &format!("{out}/{name}"), leg: None };
        let mut text = sql::for_flink(sql, &sinks, place)?;
        if is_hole {
            text.legs[0].sink_table = hole(&text.legs[0].sink_table);
        }
        let into = (job == Job::Topic && !is_hole).then_some(into);
        anyhow::Ok(Run { name, text: text.script(&[]), into })
    };
    Ok(match job {
        Job::Parquet => vec![
            write(WARM, SQL_JSON, false)?,
            write(DECODE, SQL_DECODE, true)?,
            write(TRANSFORM, SQL_JSON, true)?,
            Run { name: RECIPE, text: recipe(&ground.bootstrap(), &topic), into: None },
            write(WHOLE, SQL_JSON, false)?,
        ],
        Job::Topic => {
            vec![write(WARM, SQL_RAW, false)?, write(DECODE, SQL_RAW, true)?, write(WHOLE, SQL_RAW, false)?]
        }
    })
}

/// The job with what Flink itself has against doubles, at its cheapest: of each header the first row is kept, and the header
/// remembered.
fn recipe(brokers: &str, topic: &str) -> String {
    format!(
        "CREATE TABLE records (lane INT, number BIGINT, made_ms BIGINT, text STRING, \
         headers MAP<STRING, BYTES> METADATA VIRTUAL, appended TIMESTAMP_LTZ(3) METADATA FROM 'timestamp' VIRTUAL, \
         il AS DECODE(headers['il'], 'US-ASCII'), came AS PROCTIME()) WITH ('connector' = 'kafka', \
         'topic' = '{topic}', 'properties.bootstrap.servers' = '{brokers}', 'scan.startup.mode' = 'earliest-offset', \
         'scan.bounded.mode' = 'latest-offset', 'format' = 'json');\n\
         CREATE TABLE target (number BIGINT, made_ms BIGINT, text STRING, il STRING, dt STRING, `hour` STRING) \
         WITH ('connector' = 'blackhole');\n\
         EXECUTE STATEMENT SET BEGIN\n\
         INSERT INTO target SELECT number, made_ms, text, il, DATE_FORMAT(appended, 'yyyy-MM-dd'), \
         DATE_FORMAT(appended, 'HH') FROM (SELECT *, ROW_NUMBER() OVER (PARTITION BY il ORDER BY came) AS place \
         FROM records) WHERE place = 1 AND lane <> 3\n;\n\
         END;\n"
    )
}

/// A sink's table as a hole: what goes beside its rows are columns as any other there.
fn hole(table: &str) -> String {
    let columns = table.split(" PARTITIONED BY ").next().and_then(|table| table.split(" WITH (").next());
    let mut parts = columns.unwrap_or(table).split(" METADATA FROM '");
    let first = parts.next().unwrap_or_default();
    let rest: String = parts.filter_map(|part| Some(part.split_once('\'')?.1)).collect();
    format!("{first}{rest} WITH ('connector' = 'blackhole')")
}

/// What each job took, by name.
async fn on_flink(
    plan: &Plan,
    ground: &Ground,
    filled: &Filled,
    job: Job,
    round: usize,
) -> Result<BTreeMap<&'static str, Cost>> {
    let work = tempfile::tempdir_in(&plan.dir)?;
    let (texts, temporary) = (work.path().join("texts"), work.path().join("tmp"));
    [&texts, &temporary].into_iter().try_for_each(std::fs::create_dir_all)?;
    let out = work.path().join("out");
    let mut runs = runs(ground, filled, job, &out)?;
    if round % 2 == 1 {
        runs[1..].reverse();
    }
    let mut list = String::new();
    let wanted = |topic| Wanted { topic, partitions: PARTITIONS as i32, replication: 3, settings: Default::default() };
    let made: Vec<Wanted> = runs.iter().filter_map(|run| run.into.clone()).map(wanted).collect();
    let cluster = Cluster::new(&ground.bootstrap())?;
    topics::ensure(&cluster, &made).await?;
    for Run { name, text, .. } in &runs {
        std::fs::write(texts.join(format!("{name}.sql")), text)?;
        list += &format!("{name}\t{}\t-\n", topic_of(&filled.config));
    }
    std::fs::write(work.path().join("jobs.tsv"), list)?;
    let told = java(ground, work.path(), &temporary).await?;
    match runs.iter().find(|run| run.name == WHOLE).and_then(|run| run.into.as_ref()) {
        Some(topic) => in_topic(&cluster, topic, filled.records).await?,
        None => in_files(&out.join(WHOLE), filled.records)?,
    }
    runs.iter().map(|run| Ok((run.name, cost(&told, run.name).with_context(|| told.clone())?))).collect()
}

/// Every record, and the marks of transactions.
async fn in_topic(cluster: &Cluster, topic: &str, records: u64) -> Result<()> {
    let places: Vec<Place> = (0..PARTITIONS as i32).map(|partition| (topic.to_owned(), partition)).collect();
    let ends: i64 = offsets::of_all(cluster, &places, At::End).await?.values().sum();
    ensure!(ends >= records as i64, "Flink wrote {ends} of {records} records");
    Ok(())
}

/// All but every tenth record, which the job leaves out; nothing is set apart.
fn in_files(out: &Path, records: u64) -> Result<()> {
    let rows = parquet_rows::rows(out)?;
    ensure!(rows == records - records / 10, "Flink wrote {rows} rows of {records} records");
    Ok(())
}

/// The whole job, and its parts.
fn whole(costs: &BTreeMap<&'static str, Cost>) -> Result<(Cost, Vec<(&'static str, Duration)>)> {
    let whole = *costs.get(WHOLE).context("no whole job")?;
    let decode = costs.get(DECODE).context("no job that decodes")?.cpu;
    Ok(match costs.get(TRANSFORM) {
        Some(Cost { cpu: transform, .. }) => {
            let (transform, write) =
                (transform.saturating_sub(decode), whole.cpu.saturating_sub(decode.max(*transform)));
            (whole, vec![("read and decode", decode), ("transform", transform), ("write", write)])
        }
        None => (whole, vec![("read", decode), ("write", whole.cpu.saturating_sub(decode))]),
    })
}

/// Runs the jobs in a JVM of their own; answers what it said.
async fn java(ground: &Ground, work: &Path, temporary: &Path) -> Result<String> {
    let told =
        |name: &str| std::env::var(name).with_context(|| format!("{name} is not set; run `cargo xtask bench flink`"));
    let (class_path, program) = (told(CLASS_PATH)?, told(PROGRAM)?);
    let logging = Path::new(&program).with_file_name("log4j.properties");
    let mut java = Command::new(std::env::var("ISOLANE_JAVA").unwrap_or_else(|_| "java".to_owned()));
    java.args(["-Xmx1g", "-Dworkers=1", "-Duser.timezone=UTC", "-Dfile.encoding=UTF-8"]);
    java.args(OPENED.map(|package| format!("--add-opens=java.base/java.{package}=ALL-UNNAMED")));
    java.arg(format!("-Djava.io.tmpdir={}", temporary.display()));
    java.arg(format!("-Dlog4j.configurationFile={}", logging.display()));
    java.args(["-cp", &class_path, &program, &ground.bootstrap()]).arg(work);
    java.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::piped()).kill_on_drop(true);
    let ended = timeout(WITHIN, java.spawn().context("starting java")?.wait_with_output());
    let ended = ended.await.with_context(|| format!("Flink's jobs took longer than {WITHIN:?}"))??;
    let told = String::from_utf8_lossy(&ended.stderr).into_owned();
    ensure!(ended.status.success(), "Flink's jobs failed:\n{told}");
    Ok(told)
}

/// What a job took, out of the line `   NAME: WALL ms, CPU CPU ms, state STATE B`.
fn cost(told: &str, name: &str) -> Result<Cost> {
    let line = told.lines().find_map(|line| line.trim().strip_prefix(name)?.strip_prefix(": "));
    let mut numbers = line.with_context(|| format!("nothing of {name}"))?.split(", ");
    let mut number = |before: &str, behind: &str| -> Result<u64> {
        let number = numbers.next().and_then(|text| text.strip_prefix(before)?.strip_suffix(behind));
        Ok(number.with_context(|| format!("no {before}N{behind} of {name}"))?.parse()?)
    };
    let (wall, cpu) = (Duration::from_millis(number("", " ms")?), Duration::from_millis(number("CPU ", " ms")?));
    Ok(Cost { wall, cpu, state_bytes: number("state ", " B")? })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_job_cost_is_read_and_a_hole_has_the_columns_of_its_sink() {
        let told = "noise\n   warm: 1200 ms, CPU 900 ms, state 7 B\n   whole: 34 ms, CPU 56 ms, state 8 B\n";
        let expected = Cost { wall: Duration::from_millis(34), cpu: Duration::from_millis(56), state_bytes: 8 };
        assert_eq!(cost(told, "whole").unwrap(), expected);
        assert!(cost(told, "decode").is_err());
        let sinks = [stream::config::SinkSpec::files("target")];
        let place = FlinkPlace { clusters: "normal=127.0.0.1:1", topic: "t", out: "file:///o", leg: None };
        let text = sql::for_flink(SQL_JSON, &sinks, place).unwrap();
        let hole = "CREATE TABLE `target` (`number` BIGINT, `made_ms` BIGINT, `text` STRING, `$il` STRING, `dt` STRING, \
            `hour` STRING) WITH ('connector' = 'blackhole')";
        assert_eq!(super::hole(&text.legs[0].sink_table), hole);
        let beside =
            "CREATE TABLE `t` (`a` INT, `$il` STRING METADATA FROM 'il', `$t` INT METADATA FROM 'x') WITH (...)";
        let hole = "CREATE TABLE `t` (`a` INT, `$il` STRING, `$t` INT) WITH ('connector' = 'blackhole')";
        assert_eq!(super::hole(beside), hole);
    }
}
