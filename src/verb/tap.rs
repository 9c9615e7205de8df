//! `stream tap`: a stream's records as they become durable, with the fate that each leg gives them, and whether the leg has
//! committed it.

use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

use anyhow::{Context, Result};
use journal::{AnyJournal, Chunk, Journal, Reader, Topic};
use query::leg::tap::{Outcome, Tap, Tapped};
use query::sql;
use serde::Serialize;
use stream::config::StreamConfig;
use stream::control::AdminClient;
use stream::facts::{Place, Position};
use stream::fate::Fate;
use tokio::sync::mpsc;
use tokio::time::{MissedTickBehavior, interval};

use super::{excerpt, say, time};
use crate::args::StreamTap;

/// How often the legs' positions are asked for.
const LOOK_EVERY: Duration = Duration::from_millis(500);
/// Bytes held back until they are settled; beyond it the oldest are shown as they stand.
const HELD_BYTES_MAX: usize = 64 << 20;
/// What a record costs beside its body, about.
const RECORD_BYTES: usize = 200;
/// Chunks that wait to be shown.
const CHUNKS_MAX: usize = 4;

/// Shows records until Ctrl-C, or until there have been enough.
pub async fn run(args: StreamTap) -> Result<()> {
    let admin = AdminClient::new(args.admin.admin.clone());
    let config: StreamConfig = admin.get(&format!("/api/v1/streams/{}", args.id)).await?;
    let names: Vec<&str> = config.spec.sinks.iter().map(|sink| sink.name.as_str()).collect();
    let mut tap = Tap::new(sql::check(&config.sql(), &names).context("the stream's job")?);
    let journal: admin::status::JournalAddress = admin.get("/api/v1/journal").await?;
    let address = journal.address.context("admin knows no journal")?;
    let mut chunks = read(&AnyJournal::connect(&address)?, &config, args.from_start).await?;
    let mut legs = Legs { admin, id: args.id.clone(), positions: BTreeMap::new() };
    legs.look().await?;
    let mut held = Held::default();
    let mut left = args.limit.unwrap_or(u64::MAX);
    let mut ticks = interval(LOOK_EVERY);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    // One for the whole run: a signal that comes between two turns is not lost.
    let interrupted = tokio::signal::ctrl_c();
    tokio::pin!(interrupted);
    while left > 0 {
        tokio::select! {
            biased;
            _ = &mut interrupted => break,
            _ = ticks.tick() => {
                if let Err(error) = legs.look().await {
                    eprintln!("admin does not say what is committed: {error:#}; trying again");
                }
            }
            chunk = chunks.recv() => {
                let (place, chunk) = chunk.context("the journal's readers have ended")?;
                chunk.entries.iter().flat_map(|entry| tap.look(place, entry)).for_each(|tapped| held.push(tapped));
            }
        }
        let is_due = |tapped: &Tapped| !args.settled || legs.have(tapped);
        while left > 0
            && let Some(tapped) = held.pop_if(is_due)
        {
            show(&tapped, &legs, args.json)?;
            left -= 1;
        }
    }
    Ok(())
}

/// Records that wait to be shown.
#[derive(Default)]
struct Held {
    records: VecDeque<Tapped>,
    bytes: usize,
}

impl Held {
    fn push(&mut self, tapped: Tapped) {
        self.bytes += tapped.body.len() + RECORD_BYTES;
        self.records.push_back(tapped);
    }

    /// The oldest, if it is due or too much is held.
    fn pop_if(&mut self, is_due: impl Fn(&Tapped) -> bool) -> Option<Tapped> {
        let due = self.records.front().is_some_and(|tapped| self.bytes > HELD_BYTES_MAX || is_due(tapped));
        let tapped = due.then(|| self.records.pop_front()).flatten()?;
        self.bytes -= tapped.body.len() + RECORD_BYTES;
        Some(tapped)
    }
}

/// Reads all places of the stream, from their ends on or from their beginnings.
async fn read(journal: &AnyJournal, config: &StreamConfig, from_start: bool) -> Result<mpsc::Receiver<(Place, Chunk)>> {
    let topic = Topic::of(config);
    let bounds = journal.bounds(std::slice::from_ref(&topic.key)).await.context("asking the journal")?;
    let (sender, chunks) = mpsc::channel(CHUNKS_MAX);
    for place in journal.places(config) {
        let known = bounds.iter().find(|known| known.place == place);
        let offset = known.map_or(0, |known| if from_start { known.start_offset } else { known.end_offset });
        let reader = journal.read(&topic, Position::at(place, offset));
        tokio::spawn(pump(place, offset, reader, sender.clone()));
    }
    Ok(chunks)
}

async fn pump(place: Place, from: u64, mut reader: Reader, sender: mpsc::Sender<(Place, Chunk)>) {
    loop {
        match reader.next().await {
            Ok(mut chunk) => {
                // The first entry may begin before what was asked for.
                chunk.entries.retain(|entry| entry.offset >= from);
                if !chunk.entries.is_empty() && sender.send((place, chunk)).await.is_err() {
                    return;
                }
            }
            Err(refusal) => eprintln!("the journal does not answer: {refusal}; trying again"),
        }
    }
}

/// What the legs have committed.
struct Legs {
    admin: AdminClient,
    id: String,
    positions: BTreeMap<(String, Place), u64>,
}

impl Legs {
    async fn look(&mut self) -> Result<()> {
        let ledger: admin::ledger::Ledger = self.admin.get(&format!("/api/v1/ledger/{}", self.id)).await?;
        for leg in ledger.legs {
            let position = |at: admin::ledger::LegPosition| ((leg.leg.clone(), at.place), at.offset);
            self.positions.extend(leg.positions.into_iter().map(position));
        }
        Ok(())
    }

    fn has(&self, leg: &str, tapped: &Tapped) -> bool {
        self.positions.get(&(leg.to_owned(), tapped.place)).is_some_and(|offset| *offset > tapped.offset)
    }

    /// Whether every leg has committed it.
    fn have(&self, tapped: &Tapped) -> bool {
        tapped.outcomes.keys().all(|leg| self.has(leg, tapped))
    }
}

#[derive(Serialize)]
struct Shown<'a> {
    cluster: u8,
    partition: u32,
    offset: u64,
    appended_ms: i64,
    il: String,
    legs: BTreeMap<&'a str, Fated<'a>>,
    /// The record's bytes, as text.
    body: &'a str,
}

#[derive(Serialize)]
struct Fated<'a> {
    fate: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    cause: Option<&'a str>,
    committed: bool,
}

fn show(tapped: &Tapped, legs: &Legs, json: bool) -> Result<()> {
    let Tapped { place, offset, append_time_ms, header, body, outcomes } = tapped;
    let fated = |(leg, outcome)| {
        let leg: &String = leg;
        let (fate, cause) = worded(outcome);
        (leg.as_str(), Fated { fate, cause, committed: legs.has(leg, tapped) })
    };
    let fates: BTreeMap<&str, Fated<'_>> = outcomes.iter().map(fated).collect();
    let (text, il) = (String::from_utf8_lossy(body), header.to_string());
    let Place { cluster, partition } = *place;
    if json {
        let (offset, appended_ms) = (*offset, *append_time_ms);
        let shown = Shown { cluster, partition, offset, appended_ms, il, legs: fates, body: &text };
        return say(&serde_json::to_string(&shown)?);
    }
    let state = |(leg, Fated { fate, cause, committed }): (&&str, &Fated<'_>)| {
        let cause = cause.map(|cause| format!(" ({})", excerpt(cause))).unwrap_or_default();
        format!("{leg}: {fate}{cause}, {}", if *committed { "committed" } else { "in flight" })
    };
    let states: Vec<String> = fates.iter().map(state).collect();
    let (time, states, text) = (time(*append_time_ms), states.join("; "), excerpt(&text));
    say(&format!("{time}  {cluster}/{partition}@{offset}  {il}  {states}\n    {text}"))
}

fn worded(outcome: &Outcome) -> (&'static str, Option<&str>) {
    match outcome {
        Outcome::Double => ("double", None),
        Outcome::Fate(Fate::Delivered, _) => ("delivered", None),
        Outcome::Fate(Fate::Filtered, _) => ("filtered", None),
        Outcome::Fate(Fate::Quarantined, cause) => ("quarantined", cause.as_deref()),
        Outcome::Fate(Fate::Late, _) => ("late", None),
        Outcome::Fate(Fate::Dropped, _) => ("dropped", None),
    }
}
