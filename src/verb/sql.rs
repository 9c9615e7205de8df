//! `sql check|flink`.

use std::path::Path;

use anyhow::{Context, Result, ensure};
use query::sql::FlinkPlace;
use stream::config::SinkSpec;

use super::stream::from_file;
use crate::args;

/// Says whether a job's text runs on an engine, or writes it for Flink.
pub fn run(verb: args::Sql) -> Result<()> {
    match verb {
        args::Sql::Check { file, sink, engine } => {
            if engine == "flink" {
                query::sql::for_flink(&read(&file)?, &files(&sink), FlinkPlace::NONE)
                    .with_context(|| file.display().to_string())?;
            }
            check(&file, &sink)
        }
        args::Sql::Flink { file, sink, stream, leg, clusters, topic, out, hand_over_from, hand_over_to } => {
            let place = FlinkPlace { clusters: &clusters, topic: &topic, out: &out, leg: leg.as_deref() };
            let sinks = match stream {
                Some(stream) => from_file(&stream)?.sinks,
                None => files(&sink),
            };
            let is_known = |leg: &String| sinks.iter().any(|sink| sink.name == *leg);
            ensure!(leg.as_ref().is_none_or(is_known), "--leg names none of the sinks {}", sinks_of(&sinks));
            let text = query::sql::for_flink(&read(&file)?, &sinks, place);
            let hand_over = [("hand-over.from", hand_over_from), ("hand-over.to", hand_over_to)];
            let hand_over: Vec<_> = hand_over.into_iter().filter_map(|(name, value)| Some((name, value?))).collect();
            print!("{}", text.with_context(|| file.display().to_string())?.script(&hand_over));
            Ok(())
        }
    }
}

fn check(file: &Path, sink: &[String]) -> Result<()> {
    let job = query::sql::check(&read(file)?, &names(sink)).with_context(|| file.display().to_string())?;
    for leg in &job.legs {
        let columns: Vec<String> =
            leg.schema.fields().iter().map(|f| format!("{} {}", f.name(), f.data_type())).collect();
        println!("leg {}: {}", leg.sink, columns.join(", "));
    }
    job.warnings.iter().for_each(|warning| println!("warning: {warning}"));
    for differs in query::sql::differences(&read(file)?, &names(sink))? {
        println!("the engines differ: {differs}");
    }
    Ok(())
}

fn read(file: &Path) -> Result<String> {
    std::fs::read_to_string(file).with_context(|| format!("reading {}", file.display()))
}

fn sinks_of(sinks: &[SinkSpec]) -> String {
    sinks.iter().map(|sink| sink.name.as_str()).collect::<Vec<_>>().join(", ")
}

fn files(sinks: &[String]) -> Vec<SinkSpec> {
    sinks.iter().map(|name| SinkSpec::files(name)).collect()
}

fn names(sinks: &[String]) -> Vec<&str> {
    sinks.iter().map(String::as_str).collect()
}
