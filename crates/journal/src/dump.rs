//! Reads a journal's files without the journal: one line of JSON per record, for independent readers. It scans every
//! file from its first frame on, believes no footer, index or state, and shows an entry once although it may lie in a
//! write-ahead segment and in a run. Meant for a journal that stands still.

use std::collections::{BTreeSet, HashMap, VecDeque};
use std::io;
use std::path::{Path, PathBuf};

use bytes::Bytes;
use serde::Serialize;
use stream::disk::{Disk, RealDisk, SharedDisk, read_all};
use stream::wire::v1;
use stream::{Batch, Header, Range, Ranges, Record, SourceId};
use tracing::warn;

use crate::embedded::format::{Entry, FileName, Header as FileHeader, KIND_WAL};
use crate::embedded::scan::{Found, frames};

/// Why a dump stops.
#[derive(Debug, thiserror::Error)]
#[error("journal dump: cannot read {}: {source}", .path.display())]
pub struct DumpError {
    path: PathBuf,
    source: io::Error,
}

/// The records of a journal's directory as lines of JSON, in the order of offsets within a partition:
/// `{"topic","partition","offset","append_time_ms","il","body"}`, with `body_hex` in place of `body` where a body is
/// not UTF-8. `il` is the provenance header as it travels in Kafka.
pub struct Dump {
    disk: SharedDisk,
    dir: PathBuf,
    topic: Option<String>,
    files: VecDeque<(FileName, Option<u64>)>,
    /// Offsets shown, per partition.
    shown: HashMap<(String, u32), Ranges>,
    lines: VecDeque<String>,
}

#[derive(Serialize)]
struct Line<'a> {
    topic: &'a str,
    partition: u32,
    offset: u64,
    append_time_ms: i64,
    il: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    body: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    body_hex: Option<String>,
}

impl Dump {
    /// A dump of the journal in `dir`; of one topic only, if `topic` names one by its key or by its name without the
    /// incarnation.
    pub fn open(dir: &Path, topic: Option<&str>) -> Result<Self, DumpError> {
        Self::of_disk(std::sync::Arc::new(RealDisk), dir, topic)
    }

    /// [`Dump::open`] on any disk.
    pub fn of_disk(disk: SharedDisk, dir: &Path, topic: Option<&str>) -> Result<Self, DumpError> {
        let files = files(disk.as_ref(), dir)?;
        let (dir, topic) = (dir.to_owned(), topic.map(str::to_owned));
        Ok(Self { disk, dir, topic, files, shown: HashMap::new(), lines: VecDeque::new() })
    }

    fn read_file(&mut self, name: FileName, valid: Option<u64>) -> Result<(), DumpError> {
        let path = name.path(&self.dir);
        let bytes = read_all(self.disk.as_ref(), &path).map_err(|source| DumpError { path: path.clone(), source })?;
        let bytes = Bytes::from(bytes);
        let end = valid.map_or(bytes.len(), |valid| bytes.len().min(valid as usize));
        for found in frames(&bytes[..end], 0) {
            match found {
                Found::Frame { payload, .. } => {
                    if let Some(entry) = Entry::read(payload) {
                        let batch = bytes.slice_ref(entry.batch);
                        self.show(&entry, batch);
                    }
                }
                Found::Damaged { from, to } => warn!(path = %path.display(), from, to, "damaged bytes are passed over"),
                Found::Tail { from } => warn!(path = %path.display(), from, "no whole frame from here on"),
            }
        }
        Ok(())
    }

    fn show(&mut self, entry: &Entry<'_>, batch: Bytes) {
        let name = entry.topic.split_once('@').map_or(entry.topic, |(name, _)| name);
        if self.topic.as_deref().is_some_and(|wanted| wanted != entry.topic && wanted != name) {
            return;
        }
        let shown = self.shown.entry((entry.topic.to_owned(), entry.partition)).or_default();
        let range = Range::new(entry.offset, entry.end());
        if shown.relation(range) != stream::ranges::Relation::Disjoint {
            return;
        }
        shown.insert(range);
        let decoded = v1::Batch::from_bytes(batch).map_err(|error| error.to_string());
        match decoded.and_then(|wire| Batch::from_wire(wire).map_err(|error| error.to_string())) {
            Ok(batch) => {
                if batch.len() as u64 != u64::from(entry.records) {
                    let (says, has) = (entry.records, batch.len());
                    warn!(
                        topic = entry.topic,
                        offset = entry.offset,
                        says,
                        has,
                        "an entry has another number of records than it says"
                    );
                }
                let records = batch.records().zip(entry.offset..entry.end());
                self.lines.extend(records.map(|(record, offset)| line(entry, batch.source, offset, &record)));
            }
            Err(error) => warn!(%error, topic = entry.topic, offset = entry.offset, "an entry is no batch"),
        }
    }
}

fn line(entry: &Entry<'_>, source: SourceId, offset: u64, record: &Record) -> String {
    let Record { kind, range, event_time_ms, body } = record;
    let il = Header { kind: *kind, source, range: *range, lap: 0, event_time_ms: *event_time_ms }.to_string();
    let text = std::str::from_utf8(body).ok();
    let body_hex = text.is_none().then(|| body.iter().map(|byte| format!("{byte:02x}")).collect());
    let (topic, partition, append_time_ms) = (entry.topic, entry.partition, entry.append_time_ms);
    let line = Line { topic, partition, offset, append_time_ms, il, body: text, body_hex };
    serde_json::to_string(&line).expect("a struct of texts and numbers has a JSON form")
}

/// The files to read, with the valid bytes where they are stated: runs first, the last generation of each, then the
/// segments that were not copied. So the lines of a partition come in the order of their offsets.
fn files(disk: &dyn Disk, dir: &Path) -> Result<VecDeque<(FileName, Option<u64>)>, DumpError> {
    let failed = |path: PathBuf| move |source| DumpError { path, source };
    let names = disk.list(dir).map_err(failed(dir.to_owned()))?;
    let names: BTreeSet<FileName> = names.iter().filter_map(|name| FileName::parse(name)).collect();
    let mut valid: HashMap<u64, u64> = HashMap::new();
    let mut runs: Vec<(u64, u32)> = Vec::new();
    for name in &names {
        match name {
            FileName::Run(number, generation) => {
                runs.retain(|(other, _)| other != number);
                runs.push((*number, *generation));
            }
            FileName::Wal(_) => {
                let path = name.path(dir);
                let head = read_all(disk, &path).map_err(failed(path))?;
                if let Some(header) = FileHeader::read(&head, KIND_WAL) {
                    valid.insert(header.previous, header.previous_bytes);
                }
            }
        }
    }
    let segments = names.iter().filter_map(|name| match name {
        FileName::Wal(number) if !runs.iter().any(|(run, _)| run == number) => {
            Some((*name, valid.get(number).copied()))
        }
        _ => None,
    });
    Ok(runs.iter().map(|(number, generation)| (FileName::Run(*number, *generation), None)).chain(segments).collect())
}

impl Iterator for Dump {
    type Item = Result<String, DumpError>;

    fn next(&mut self) -> Option<Self::Item> {
        loop {
            if let Some(line) = self.lines.pop_front() {
                return Some(Ok(line));
            }
            let (name, valid) = self.files.pop_front()?;
            if let Err(error) = self.read_file(name, valid) {
                return Some(Err(error));
            }
        }
    }
}
