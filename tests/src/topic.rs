//! Reads a Kafka topic with a foreign client, kcat, as a careful reader does: only what is committed.

use std::collections::HashMap;
use std::process::{Command, Stdio};

use anyhow::{Context, Result, ensure};

use crate::identity::Identity;

/// A committed record.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Row {
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
    kcat.args(["-f", "%h\\t%s\\n", "-b", bootstrap, "-t", topic]);
    let output = kcat.stdin(Stdio::null()).output().context("kcat (apt-get install -y kcat)")?;
    ensure!(output.status.success(), "kcat on {topic}: {}", String::from_utf8_lossy(&output.stderr).trim());
    String::from_utf8_lossy(&output.stdout).lines().map(row).collect()
}

fn row(text: &str) -> Result<Row> {
    let (headers, line) = text.split_once('\t').with_context(|| format!("kcat said {text:?}"))?;
    let source = headers.strip_prefix("il=").and_then(|il| il.get(1..25));
    let source = source.with_context(|| format!("no provenance in {headers:?}"))?.to_owned();
    Ok(Row { headers: headers.to_owned(), source, line: line.to_owned() })
}

/// Fails unless the records of each source stand in the order in which they were written.
pub fn in_order(rows: &[Row]) -> Result<()> {
    let mut last: HashMap<&str, u64> = HashMap::new();
    for Row { source, line, .. } in rows {
        let Some(Identity { sequence, .. }) = Identity::parse(line) else { continue };
        let before = last.insert(source, sequence);
        ensure!(before.is_none_or(|before| before < sequence), "{source}: {sequence} stands after {before:?}");
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn order_is_per_source() {
        let row = |source: &str, sequence| {
            let line = Identity { stream: "s".into(), producer: 1, sequence }.line(40);
            Row { headers: String::new(), source: source.to_owned(), line }
        };
        assert!(in_order(&[row("a", 1), row("b", 1), row("a", 2), row("b", 5)]).is_ok());
        assert!(in_order(&[row("a", 2), row("b", 1), row("a", 1)]).is_err());
    }
}
