//! What the SQL Gateway is told for an attempt: the session's properties, the tables, the INSERTs as one statement set.

use std::path::{Path, PathBuf};

use serde_json::{Map, Value};
use stream::config::MARK;

use crate::job::{Attempt, Begin, JobKey, Text};
use crate::rest::Address;
use crate::retained::{self, Places};

/// The name under which Flink shows a job; whatever bears it is a copy of that job.
pub fn name(key: &JobKey) -> String {
    format!("isolane {key}")
}

/// The file that a job leaves in a folder in which its files stay hidden: whoever finds it there sees the folder that Flink sees.
pub fn mark(folder: &Path, key: &JobKey) -> PathBuf {
    folder.join(format!("{MARK}{key}"))
}

/// The properties of a session for a text. The gateway submits to the cluster that is watched, whatever its own file says,
/// and once: it is the engine that tries again, knowing what came of it.
pub fn properties(text: &Text, cluster: &Address) -> Value {
    let own = [
        ("execution.target", "remote".to_owned()),
        ("rest.address", cluster.host.clone()),
        ("rest.port", cluster.port.to_string()),
        ("rest.retry.max-attempts", "0".to_owned()),
        ("execution.runtime-mode", "STREAMING".to_owned()),
        ("execution.checkpointing.mode", "EXACTLY_ONCE".to_owned()),
        ("execution.checkpointing.unaligned.enabled", "false".to_owned()),
        ("execution.checkpointing.externalized-checkpoint-retention", "RETAIN_ON_CANCELLATION".to_owned()),
        ("table.local-time-zone", "UTC".to_owned()),
    ];
    let own = own.map(|(key, value)| (key.to_owned(), value));
    let all: Map<String, Value> =
        text.settings.iter().cloned().chain(own).map(|(key, value)| (key, value.into())).collect();
    all.into()
}

/// What makes the tables of a text and has its plan made.
pub fn prepare(text: &Text) -> Vec<String> {
    let sinks = text.legs.iter().map(|leg| leg.sink_table.clone());
    let explain = format!("EXPLAIN STATEMENT SET BEGIN\n{}END", inserts(text));
    text.tables.iter().cloned().chain(sinks).chain([explain]).collect()
}

/// What submits an attempt, once its text is prepared. The last statement is the one that does.
pub fn submit(key: &JobKey, attempt: &Attempt, places: &Places) -> Vec<String> {
    let mut settings = vec![
        ("$internal.pipeline.job-id", attempt.job.to_string()),
        ("pipeline.name", name(key)),
        ("execution.checkpointing.dir", places.checkpoints(key, attempt.epoch)),
    ];
    if let Begin::State(checkpoint) = &attempt.begin {
        settings.push(("execution.state-recovery.path", checkpoint.path.clone()));
        // What was restored is Flink's from then on, which removes it when a newer one is complete.
        settings.push(("execution.state-recovery.claim-mode", "CLAIM".to_owned()));
    }
    let mut options = vec![("hand-over.to", places.hand_overs(key))];
    if let Begin::HandOver(object) = &attempt.begin {
        options.push(("hand-over.from", object.clone()));
    }
    let marks = attempt.text.hidden_in().into_iter().map(|folder| quoted(&retained::url(&mark(&folder, key))));
    let marks = marks.collect::<Vec<_>>().join(";");
    if !marks.is_empty() {
        options.push(("marks", marks));
    }
    let set = |(key, value): &(&str, String)| format!("SET {} = {}", quoted(key), quoted(value));
    let option = |(key, value): &(&str, String)| format!("{} = {}", quoted(key), quoted(value));
    let options = options.iter().map(option).collect::<Vec<_>>().join(", ");
    let table = format!("ALTER TABLE `{}` SET ({options})", attempt.text.source.replace('`', "``"));
    let run = format!("EXECUTE STATEMENT SET BEGIN\n{}END", inserts(&attempt.text));
    settings.iter().map(set).chain([table, run]).collect()
}

fn inserts(text: &Text) -> String {
    // The end on a line of its own: a comment may stand before it.
    text.legs.iter().map(|leg| format!("{}\n;\n", leg.insert.trim_end().trim_end_matches(';'))).collect()
}

/// A string of Flink SQL, or an item of a list in an option.
fn quoted(text: &str) -> String {
    format!("'{}'", text.replace('\'', "''"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::job::{Checkpoint, Id, LegText};

    #[test]
    fn an_attempt_is_told_whole() {
        let leg = LegText {
            sink_table: "CREATE TABLE k (a INT)".into(),
            insert: "INSERT INTO k SELECT a FROM `s`;\n".into(),
            hidden_in: None,
        };
        let (source, tables) = ("s".to_owned(), vec!["CREATE TABLE s (a INT)".to_owned()]);
        let settings = vec![("rest.port".to_owned(), "1".to_owned()), ("x".to_owned(), "y".to_owned())];
        let text = Text { source, tables, legs: vec![leg], settings };
        assert_eq!(prepare(&text)[2], "EXPLAIN STATEMENT SET BEGIN\nINSERT INTO k SELECT a FROM `s`\n;\nEND");
        let properties = properties(&text, &"jm:8081".parse().unwrap());
        assert_eq!((properties["rest.port"].as_str(), properties["x"].as_str()), (Some("8081"), Some("y")));

        let (key, places) = ("a.b.c@000000000000001f".parse().unwrap(), Places::new("/it's".into()));
        let job = Id::try_from("000000000000000000000000000000aa".to_owned()).unwrap();
        let begin = Begin::State(Checkpoint { number: 3, path: "file:///x".into() });
        let attempt = Attempt { job, text, begin, epoch: 2 };
        let told = submit(&key, &attempt, &places);
        assert_eq!(told[0], format!("SET '$internal.pipeline.job-id' = '{job}'"));
        assert_eq!(told[2], "SET 'execution.checkpointing.dir' = 'file:///it''s/a.b.c@000000000000001f/2'");
        assert_eq!(told[3], "SET 'execution.state-recovery.path' = 'file:///x'");
        let mut handed = Attempt { begin: Begin::HandOver("file:///o.json".into()), ..attempt };
        let told = submit(&key, &handed, &places);
        assert!(told[3].ends_with("'hand-over.from' = 'file:///o.json')"), "{}", told[3]);
        handed.text.legs[0].hidden_in = Some("/it's".into());
        let told_of = submit(&key, &handed, &places);
        let marks = ", 'marks' = '''file:///it''''s/.isolane-a.b.c@000000000000001f''')";
        assert!(told_of[3].ends_with(marks), "{}", told_of[3]);
        assert_eq!(told[4], "EXECUTE STATEMENT SET BEGIN\nINSERT INTO k SELECT a FROM `s`\n;\nEND");
    }
}
