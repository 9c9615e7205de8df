//! Reads a Kafka topic with a foreign client, kcat, as a careful reader does: only what is committed.

use std::collections::{HashMap, HashSet};
use std::process::{Command, Stdio};

use anyhow::{Context, Result, ensure};

use crate::identity::Identity;

/// A committed record.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Row {
    /// The partition that has it.
    pub partition: u32,
    /// All its headers, as kcat writes them.
    pub headers: String,
    /// The source in its header `il`.
    pub source: String,
    /// Its value.
    pub line: String,
}

/// All committed records of `topic`, partition by partition, each in the order of its offsets.
pub fn committed(bootstrap: &str, topic: &str) -> Result<Vec<Row>> {
    let mut kcat = Command::new("kcat");
    kcat.args(["-C", "-q", "-e", "-o", "beginning", "-X", "isolation.level=read_committed"]);
    kcat.args(["-f", "%p\\t%h\\t%s\\n", "-b", bootstrap, "-t", topic]);
    let output = kcat.stdin(Stdio::null()).output().context("kcat (apt-get install -y kcat)")?;
    ensure!(output.status.success(), "kcat on {topic}: {}", String::from_utf8_lossy(&output.stderr).trim());
    String::from_utf8_lossy(&output.stdout).lines().map(row).collect()
}

fn row(text: &str) -> Result<Row> {
    let mut parts = text.splitn(3, '\t');
    let mut part = || parts.next().with_context(|| format!("kcat said {text:?}"));
    let (partition, headers, line) = (part()?.parse()?, part()?, part()?);
    let source = headers.strip_prefix("il=").and_then(|il| il.get(1..25));
    let source = source.with_context(|| format!("no provenance in {headers:?}"))?.to_owned();
    Ok(Row { partition, headers: headers.to_owned(), source, line: line.to_owned() })
}

/// Fails unless the records of each source and key stand in the order in which they were written.
pub fn in_order(rows: &[Row], key_of: fn(&str) -> &str) -> Result<()> {
    let mut last: HashMap<(&str, &str), u64> = HashMap::new();
    for Row { source, line, .. } in rows {
        let Some(Identity { sequence, .. }) = Identity::parse(line) else { continue };
        let key = key_of(line);
        let before = last.insert((source, key), sequence);
        ensure!(before.is_none_or(|before| before < sequence), "{source} {key:?}: {sequence} stands after {before:?}");
    }
    Ok(())
}

/// Fails unless each key of our lines stands in one partition, and the keys in several.
pub fn keys_apart(rows: &[Row], key_of: fn(&str) -> &str) -> Result<()> {
    let mut partition_of = HashMap::new();
    // What says that a source has ended is no line, and has no key.
    for Row { partition, line, .. } in rows.iter().filter(|row| Identity::parse(&row.line).is_some()) {
        let key = key_of(line);
        let known = *partition_of.entry(key).or_insert(*partition);
        ensure!(known == *partition, "key {key:?} stands in partitions {known} and {partition}");
    }
    let used: HashSet<u32> = partition_of.values().copied().collect();
    ensure!(used.len() > 1, "{} keys stand in partitions {used:?}", partition_of.len());
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn order_is_per_source_and_key() {
        let row = |partition, source: &str, sequence| {
            let line = Identity { stream: "s".into(), producer: 1, sequence }.line(40);
            Row { partition, headers: String::new(), source: source.to_owned(), line }
        };
        let all: fn(&str) -> &str = |_| "";
        // The padding: the same for sequences 26 apart that are equally long.
        let key: fn(&str) -> &str = |line| line.splitn(5, ' ').nth(4).unwrap();
        assert!(in_order(&[row(0, "a", 1), row(0, "b", 1), row(0, "a", 2), row(0, "b", 5)], all).is_ok());
        assert!(in_order(&[row(0, "a", 2), row(0, "b", 1), row(0, "a", 1)], all).is_err());
        assert!(in_order(&[row(0, "a", 12), row(0, "a", 11)], key).is_ok());
        assert!(in_order(&[row(0, "a", 37), row(0, "a", 11)], key).is_err());
        assert!(keys_apart(&[row(0, "a", 11), row(1, "a", 12), row(0, "b", 37)], key).is_ok());
        assert!(keys_apart(&[row(0, "a", 11), row(1, "a", 12), row(1, "b", 37)], key).is_err());
        assert!(keys_apart(&[row(0, "a", 11), row(0, "a", 12)], key).is_err());
    }
}
