//! `quarantine`: what legs have set apart, with its causes; and the order to take it again.

use std::collections::BTreeMap;
use std::path::Path;

use anyhow::{Context, Result, ensure};
use http::Method;
use serde::Serialize;
use sink::{SetApart, files};
use stream::StreamId;
use stream::clock::{Clock, SystemClock};
use stream::config::{SinkKind, SinkSpec, StreamConfig};
use stream::control::AdminClient;
use stream::disk::RealDisk;

use super::{excerpt, folder_of, say, table, time};
use crate::args;

/// Causes shown; the others are one line.
const CAUSES_MAX: usize = 30;

/// Runs the verb.
pub async fn run(verb: args::Quarantine) -> Result<()> {
    match verb {
        args::Quarantine::List { id, admin } => list(&AdminClient::new(admin.admin), id.as_deref()).await,
        args::Quarantine::Show(show) => self::show(show).await,
        args::Quarantine::Replay { id, leg, admin } => {
            replay(&AdminClient::new(admin.admin), &id.parse()?, leg.as_deref()).await
        }
    }
}

async fn list(admin: &AdminClient, id: Option<&str>) -> Result<()> {
    let streams: Vec<StreamId> = match id {
        Some(id) => vec![id.parse()?],
        None => {
            let status: admin::status::Status = admin.get("/api/v1/status").await?;
            let has_some = |stream: &admin::status::StreamStatus| stream.fates.quarantined > 0;
            status.streams.into_iter().filter(has_some).map(|stream| stream.id).collect()
        }
    };
    let mut rows = Vec::new();
    for id in streams {
        let ledger: admin::ledger::Ledger = admin.get(&format!("/api/v1/ledger/{id}")).await?;
        for leg in ledger.legs {
            let counts = [leg.fates.in_quarantine(), leg.fates.replayed].map(|count| count.to_string());
            rows.push([id.to_string(), leg.leg].into_iter().chain(counts).collect());
        }
    }
    table::print(&["stream", "leg", "in quarantine", "replayed"], &rows);
    Ok(())
}

/// A record in a quarantine, as it is shown.
#[derive(Serialize)]
struct Shown<'a> {
    leg: &'a str,
    il: String,
    appended_ms: i64,
    cause: &'a str,
    /// The record's bytes, as text.
    body: String,
}

async fn show(show: args::QuarantineShow) -> Result<()> {
    let config: StreamConfig =
        AdminClient::new(show.admin.admin.clone()).get(&format!("/api/v1/streams/{}", show.id)).await?;
    for spec in legs(&config, show.leg.as_deref())? {
        let mut quarantine = Quarantine::open(&config, spec, &show.data_dir).await?;
        if show.causes {
            print_causes(&spec.name, &mut quarantine).await?;
            continue;
        }
        let mut left = show.limit;
        while left > 0 {
            let records = quarantine.more().await?;
            if records.is_empty() {
                break;
            }
            records.iter().take(left).try_for_each(|record| print(&spec.name, record, show.json))?;
            left = left.saturating_sub(records.len());
        }
    }
    Ok(())
}

/// Counts all records by cause, and shows the most frequent ones.
async fn print_causes(leg: &str, quarantine: &mut Quarantine) -> Result<()> {
    let mut causes: BTreeMap<String, u64> = BTreeMap::new();
    loop {
        let records = quarantine.more().await?;
        if records.is_empty() {
            break;
        }
        for record in &records {
            *causes.entry(kind_of(&record.cause)).or_default() += 1;
        }
    }
    let mut causes: Vec<(String, u64)> = causes.into_iter().collect();
    causes.sort_by_key(|(_, count)| std::cmp::Reverse(*count));
    let others: u64 = causes.iter().skip(CAUSES_MAX).map(|(_, count)| count).sum();
    causes.truncate(CAUSES_MAX);
    if others > 0 {
        causes.push(("other causes".to_owned(), others));
    }
    let row = |(cause, count): (String, u64)| vec![leg.to_owned(), count.to_string(), excerpt(&cause)];
    table::print(&["leg", "records", "cause"], &causes.into_iter().map(row).collect::<Vec<_>>());
    Ok(())
}

/// A cause without what is the single record's own: values in quotes, and numbers.
fn kind_of(cause: &str) -> String {
    let (mut kind, mut quote, mut is_number) = (String::new(), None, false);
    for letter in cause.chars() {
        let was_number = std::mem::replace(&mut is_number, letter.is_ascii_digit());
        match (quote, letter) {
            (Some(open), letter) if letter == open => {
                quote = None;
                kind.push('…');
                kind.push(letter);
            }
            (Some(_), _) => {}
            (None, '\'' | '"') => {
                quote = Some(letter);
                kind.push(letter);
            }
            (None, letter) if letter.is_ascii_digit() => kind.push_str(if was_number { "" } else { "#" }),
            (None, letter) => kind.push(letter),
        }
    }
    // A quote that is never closed hides the rest.
    if quote.is_some() { kind + "…" } else { kind }
}

fn print(leg: &str, SetApart { header, cause, append_time_ms, body }: &SetApart, json: bool) -> Result<()> {
    let text = String::from_utf8_lossy(body).into_owned();
    if json {
        let shown = Shown { leg, il: header.to_string(), appended_ms: *append_time_ms, cause, body: text };
        return say(&serde_json::to_string(&shown)?);
    }
    say(&format!("{}  {leg}  {header}  {}\n    {}", time(*append_time_ms), excerpt(cause), excerpt(&text)))
}

/// The stream's sinks, or the one that is asked for.
fn legs<'a>(config: &'a StreamConfig, leg: Option<&str>) -> Result<Vec<&'a SinkSpec>> {
    let found: Vec<&SinkSpec> =
        config.spec.sinks.iter().filter(|sink| leg.is_none_or(|leg| sink.name == leg)).collect();
    let names = || config.spec.sinks.iter().map(|sink| sink.name.as_str()).collect::<Vec<_>>().join(", ");
    ensure!(!found.is_empty(), "{} has no leg {:?}; there are {}", config.spec.id, leg.unwrap_or_default(), names());
    Ok(found)
}

/// A leg's quarantine, wherever it lies.
enum Quarantine {
    Files(files::apart::Quarantine<'static>),
    #[cfg(feature = "kafka")]
    Kafka(sink::kafka::apart::Quarantine),
}

impl Quarantine {
    async fn open(config: &StreamConfig, spec: &SinkSpec, data_dir: &Path) -> Result<Self> {
        match &spec.kind {
            SinkKind::Files { path, .. } => {
                let dir = folder_of(config, &spec.name, path.as_deref(), data_dir);
                ensure!(dir.exists(), "{} is not there: is --data-dir the one that `up` uses?", dir.display());
                Ok(Self::Files(files::apart::Quarantine::open(&RealDisk, dir)?))
            }
            #[cfg(feature = "kafka")]
            SinkKind::Kafka(target) => {
                let (stream, incarnation, leg) = (config.spec.id.clone(), config.incarnation, spec.name.clone());
                let identity = sink::Identity { stream, incarnation, leg };
                Ok(Self::Kafka(sink::kafka::apart::Quarantine::open(target, &identity).await?))
            }
            #[cfg(not(feature = "kafka"))]
            SinkKind::Kafka(_) => {
                anyhow::bail!("{} writes to Kafka, and this isolane was built without it", spec.name)
            }
        }
    }

    /// Some more records; none at the end.
    async fn more(&mut self) -> Result<Vec<SetApart>> {
        match self {
            Self::Files(files) => Ok(files.more()?),
            #[cfg(feature = "kafka")]
            Self::Kafka(kafka) => Ok(kafka.more().await?),
        }
    }
}

async fn replay(admin: &AdminClient, id: &StreamId, leg: Option<&str>) -> Result<()> {
    let path = format!("/api/v1/streams/{id}");
    let config: StreamConfig = admin.get(&path).await?;
    let now_ms = u64::try_from(SystemClock.now_ms()).context("the clock is before 1970")?;
    let folder = "the folder set-apart beside the stream's sinks";
    ensure!(
        config.spec.engine.is_embedded(),
        "{id}: a job on flink does not take again what it has set apart, in {folder}"
    );
    let names: Vec<String> = legs(&config, leg)?.into_iter().map(|sink| sink.name.clone()).collect();
    let mut spec = config.spec;
    for sink in spec.sinks.iter_mut().filter(|sink| names.contains(&sink.name)) {
        // Later than the last order even if the clock was set back.
        sink.replay_ms = now_ms.max(sink.replay_ms + 1);
    }
    let _changed: StreamConfig = admin.send(Method::PUT, &path, &spec).await?;
    println!(
        "{id}: {} will take what is in quarantine again; `isolane quarantine list {id}` shows what is left",
        names.join(", ")
    );
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn causes_that_differ_in_the_record_only_are_one() {
        assert_eq!(kind_of("CAST: 'p107' is no INT"), kind_of("CAST: 'p2' is no INT"));
        assert_eq!(kind_of("field `n`: \"p107\" is no INT"), "field `n`: \"…\" is no INT");
        assert_eq!(
            kind_of("sink: 3001 bytes are more than topic t takes, 1744"),
            kind_of("sink: 9 bytes are more than topic t takes, 2")
        );
        assert_eq!(kind_of("'never closed"), "'…");
    }
}
