//! What must hold once everything has come to rest.
//!
//! Of each file of a stream's present life one source was made, and what its leg delivered of it, with what the agent set
//! apart, is the file, byte for byte, each record once. Whatever was acknowledged was taken. Where order is asked for,
//! records of a source come in theirs, and those of a key from one partition. No gateway holds anything any more.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::sync::Mutex;

use agent::position::SourceState;
use stream::config::{Order, StreamConfig};
use stream::disk::{SimDisk, read_all};
use stream::ranges::Relation;
use stream::wire::v1;
use stream::{Incarnation, Range, SourceId};

use crate::admin::Pattern;
use crate::agent::{AgentHost, Life};
use crate::files::Written;
use crate::leg::{Leg, Row};
use crate::run::Sim;

/// A batch as it was sent.
#[derive(Clone, Debug)]
pub struct Sent {
    life: Life,
    source: SourceId,
    range: Range,
}

impl Sent {
    /// What of a message counts.
    pub fn of(batch: &v1::Batch) -> Option<Self> {
        let batch = stream::Batch::from_wire(batch.clone()).ok()?;
        Some(Self { life: (batch.stream, batch.incarnation), source: batch.source, range: batch.range })
    }
}

/// A request that was acknowledged.
#[derive(Clone, Debug)]
pub struct Posted {
    /// The stream's life that took it.
    pub life: Life,
    /// Its records.
    pub lines: Vec<String>,
    /// Whether it had a key: then its records are there once, however often it was tried.
    pub is_keyed: bool,
    /// Whether no try before may have been stored.
    pub is_clear: bool,
}

/// What was acknowledged.
#[derive(Default)]
pub struct Ledger {
    sent: Mutex<Vec<Sent>>,
    posted: Mutex<Vec<Posted>>,
}

impl Ledger {
    /// A batch was.
    pub fn acknowledged(&self, sent: Sent) {
        self.sent.lock().unwrap().push(sent);
    }

    /// A request was.
    pub fn posted(&self, posted: Posted) {
        self.posted.lock().unwrap().push(posted);
    }
}

/// What is still missing; nothing once everything has come to rest.
pub fn missing(sim: &Sim) -> Option<String> {
    for (id, config) in &sim.admin.now().streams {
        let life = (id.clone(), config.incarnation);
        let Some(leg) = sim.leg(&life) else { return Some(format!("{id} has no leg")) };
        let delivered = by_source(&leg.rows());
        for agent in &sim.agents {
            let Some(state) = agent.remembered(&life) else {
                return Some(format!("{id}: {} knows nothing", agent.number));
            };
            let apart = set_apart(&agent.disk, &AgentHost::state_dir(&life));
            let logs = sim.logs[&(agent.number, id.clone())].lock().unwrap();
            for file in &logs.files {
                let name = format!("{id} life {}: file {} of agent {}", life.1, file.number, agent.number);
                let is_it = |source: &SourceState| source.inode == file.number && source.generation == file.generation;
                let mut of_file = state.sources.iter().filter(|(_, source)| is_it(source));
                let (first, second) = (of_file.next(), of_file.next());
                let Some((source, known)) = first else {
                    if file.content.is_empty() {
                        continue;
                    }
                    return Some(format!("{name} has no source"));
                };
                if second.is_some() {
                    return Some(format!("{name} has two sources"));
                }
                let content = content(delivered.get(source), apart.get(source));
                if content.as_deref() != Ok(file.content.as_slice()) {
                    return Some(format!("{name}: {}", difference(&content, file)));
                }
                if known.position != file.content.len() as u64 {
                    return Some(format!("{name}: its position is {} of {}", known.position, file.content.len()));
                }
                let ends = file.is_rotated && sim.admin.plan(id).pattern == Pattern::One;
                if ends && !known.finished {
                    return Some(format!("{name}: its end is not acknowledged"));
                }
            }
        }
    }
    let sends = sim.clients.lock().unwrap().iter().any(|client| !client.is_finished());
    if sends { Some("a client still sends".to_owned()) } else { held(sim) }
}

/// Whether a gateway still holds something.
fn held(sim: &Sim) -> Option<String> {
    for gateway in &sim.gateways {
        let Some(handle) = gateway.handle() else { return Some(format!("gateway {} is down", gateway.number)) };
        let directory = handle.directory();
        for (id, stream) in &directory.borrow().streams {
            let bytes = handle.budget.held(stream.queue);
            if bytes > 0 {
                return Some(format!("gateway {} holds {bytes} bytes of {id}", gateway.number));
            }
        }
    }
    None
}

/// Everything else that must hold, said as findings.
pub fn judge(sim: &Sim) {
    let snapshot = sim.admin.now();
    for config in snapshot.streams.values() {
        let life = (config.spec.id.clone(), config.incarnation);
        let Some(leg) = sim.leg(&life) else { continue };
        judge_acknowledged(sim, &leg);
        let rows = leg.rows();
        judge_rows(sim, config, &rows);
        judge_posted(sim, &life, &rows);
        judge_sources(sim, &life, &rows);
    }
}

fn judge_acknowledged(sim: &Sim, leg: &Leg) {
    for Sent { source, range, .. } in sim.ledger.sent.lock().unwrap().iter().filter(|sent| sent.life == leg.life) {
        if leg.taken_of(*source).relation(*range) != Relation::Contained {
            sim.world.found(format!("{}: {source} {range:?} was acknowledged and is nowhere", leg.life.0));
        }
    }
}

/// Each record once, in order where that is asked for.
fn judge_rows(sim: &Sim, config: &StreamConfig, rows: &[Row]) {
    let (mut once, mut last) = (BTreeSet::new(), BTreeMap::new());
    let posted = sim.ledger.posted.lock().unwrap();
    let clear: BTreeSet<&[u8]> =
        posted.iter().filter(|posted| posted.is_clear).flat_map(|posted| &posted.lines).map(String::as_bytes).collect();
    let mut of_key: BTreeMap<(SourceId, &[u8]), u32> = BTreeMap::new();
    let id = &config.spec.id;
    let state_dir = AgentHost::state_dir(&life_of(config));
    let apart: Vec<_> = sim.agents.iter().map(|agent| set_apart(&agent.disk, &state_dir)).collect();
    for row @ Row { partition, source, record } in rows {
        if !once.insert((source, record.range)) {
            sim.world.found(format!("{id}: {source} {:?} was delivered twice", record.range));
        }
        // What was refused without a key may still come, behind what was sent after it: its next try is another record.
        let is_void = is_http(row) && !clear.contains(&*record.body);
        // Set apart, and after a crash and under a wider limit delivered all the same: it lost its place when it was set apart.
        let is_apart =
            apart.iter().any(|apart| apart.get(source).is_some_and(|of| of.contains_key(&record.range.start)));
        if config.spec.order == Order::None || is_void || is_apart {
            continue;
        }
        let before = last.insert((source, partition), record.range.start);
        if before.is_some_and(|before| before > record.range.start) {
            sim.world.found(format!("{id}: {source} {:?} came after {before:?}", record.range));
        }
        let key: &[u8] = match config.spec.order {
            Order::Key => record.body.split(|byte| *byte == b',').next().unwrap_or_default(),
            _ => b"",
        };
        if *of_key.entry((*source, key)).or_insert(*partition) != *partition {
            sim.world.found(format!("{id}: {source} {:?} is in partition {partition} too", record.range));
        }
    }
}

fn judge_posted(sim: &Sim, life: &Life, rows: &[Row]) {
    let mut counts: BTreeMap<&[u8], usize> = BTreeMap::new();
    rows.iter().for_each(|row| *counts.entry(&row.record.body).or_default() += 1);
    for Posted { lines, is_keyed, is_clear, .. } in
        sim.ledger.posted.lock().unwrap().iter().filter(|posted| posted.life == *life)
    {
        for line in lines {
            match counts.get(line.as_bytes()).copied().unwrap_or(0) {
                0 => sim.world.found(format!("{}: {line} was acknowledged and is nowhere", life.0)),
                1 => {}
                // Without a key each try is its own.
                count if *is_keyed || *is_clear => {
                    sim.world.found(format!("{}: {line} was delivered {count} times", life.0));
                }
                _ => {}
            }
        }
    }
}

/// Records of agents belong to sources that their agents know.
fn judge_sources(sim: &Sim, life: &Life, rows: &[Row]) {
    let known: BTreeSet<SourceId> = sim
        .agents
        .iter()
        .filter_map(|agent| agent.remembered(life))
        .flat_map(|state| state.sources.into_keys())
        .collect();
    let foreign: BTreeSet<SourceId> =
        rows.iter().filter(|row| !is_http(row)).map(|row| row.source).filter(|id| !known.contains(id)).collect();
    for source in foreign {
        sim.world.found(format!("{}: no agent remembers source {source}", life.0));
    }
}

/// Whether a client sent it, and no agent.
fn is_http(row: &Row) -> bool {
    row.record.body.windows(2).any(|pair| pair == b",h")
}

/// Of each source: where records begin and end, and their bytes.
type Pieces = BTreeMap<u64, (u64, Vec<u8>)>;

fn by_source(rows: &[Row]) -> BTreeMap<SourceId, Pieces> {
    let mut all: BTreeMap<SourceId, Pieces> = BTreeMap::new();
    for Row { source, record, .. } in rows {
        let piece = piece(record.range, &record.body);
        all.entry(*source).or_default().insert(record.range.start, (record.range.end, piece));
    }
    all
}

/// The bytes of the file that a record was made of.
fn piece(range: Range, body: &[u8]) -> Vec<u8> {
    let newline: &[u8] = if range.len() > body.len() as u64 { b"\n" } else { b"" };
    [body, newline].concat()
}

/// The records that a worker has set apart.
fn set_apart(disk: &SimDisk, state_dir: &Path) -> BTreeMap<SourceId, Pieces> {
    let bytes = read_all(disk, &state_dir.join("quarantine.ndjson")).unwrap_or_default();
    let mut all: BTreeMap<SourceId, Pieces> = BTreeMap::new();
    for line in bytes.split(|byte| *byte == b'\n') {
        let Ok(line) = serde_json::from_slice::<serde_json::Value>(line) else { continue };
        let source: SourceId = serde_json::from_value(line["source"].clone()).expect("a source");
        let range: Range = serde_json::from_value(line["range"].clone()).expect("a range");
        let body = line["text"].as_str().unwrap_or_default();
        all.entry(source).or_default().insert(range.start, (range.end, piece(range, body.as_bytes())));
    }
    all
}

/// A source's bytes as its records give them back.
fn content(delivered: Option<&Pieces>, apart: Option<&Pieces>) -> Result<Vec<u8>, String> {
    let mut pieces = apart.cloned().unwrap_or_default();
    pieces.extend(delivered.cloned().unwrap_or_default());
    let mut bytes = Vec::new();
    for (start, (end, piece)) in pieces {
        if start != bytes.len() as u64 {
            return Err(format!("a record begins at {start}, the one before ends at {}", bytes.len()));
        }
        bytes.extend_from_slice(&piece);
        if end != bytes.len() as u64 {
            return Err(format!("the record at {start} has other bytes than its range"));
        }
    }
    Ok(bytes)
}

fn difference(content: &Result<Vec<u8>, String>, file: &Written) -> String {
    match content {
        Err(wrong) => wrong.clone(),
        Ok(bytes) if file.content.starts_with(bytes) => format!("{} of {} bytes came", bytes.len(), file.content.len()),
        Ok(_) => "other bytes came".to_owned(),
    }
}

/// What the present life of a stream is called.
pub fn life_of(config: &StreamConfig) -> (stream::StreamId, Incarnation) {
    (config.spec.id.clone(), config.incarnation)
}
