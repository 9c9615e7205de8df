//! A journal in memory: what it has is durable; it can refuse, hold its answers back, and lose them.

use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, Mutex, MutexGuard};

use stream::config::{Compression, StreamConfig};
use stream::facts::Place;
use stream::wire::{Refusal, RefusalReason};
use stream::{Batch, Kind};
use tokio::sync::watch;

use crate::produce::{Appended, Produce};

/// The journal.
#[derive(Clone)]
pub(super) struct FakeJournal {
    state: Arc<Mutex<State>>,
    /// Answers to `topic/partition`s that contain one of these wait until it is taken away.
    held: Arc<watch::Sender<Vec<String>>>,
}

#[derive(Default)]
struct State {
    topics: HashMap<String, Vec<Batch>>,
    ends: HashMap<String, u64>,
    refusing: BTreeMap<String, (RefusalReason, usize)>,
    losing: usize,
    order: Vec<String>,
}

/// One producer's writer.
pub(super) struct FakeWriter(FakeJournal);

impl Default for FakeJournal {
    fn default() -> Self {
        Self { state: Arc::default(), held: Arc::new(watch::channel(Vec::new()).0) }
    }
}

impl FakeJournal {
    pub(super) fn writer(&self) -> FakeWriter {
        FakeWriter(self.clone())
    }

    /// The next `times` appends to `topic/partition`s that contain `topic` are refused.
    pub(super) fn refuse(&self, topic: &str, reason: RefusalReason, times: usize) {
        self.lock().refusing.insert(topic.to_owned(), (reason, times));
    }

    /// The next `times` appends are stored, but their answers are lost.
    pub(super) fn lose_answers(&self, times: usize) {
        self.lock().losing = times;
    }

    /// Holds back every answer to topics that contain one of `topics`.
    pub(super) fn hold(&self, topics: &[&str]) {
        self.held.send_replace(topics.iter().map(|topic| (*topic).to_owned()).collect());
    }

    /// The batches of the stream's topic in their order.
    pub(super) fn batches(&self, name: &str) -> Vec<Batch> {
        self.lock().topics.get(&topic(name)).cloned().unwrap_or_default()
    }

    /// The bodies of the stream's events in their order.
    pub(super) fn bodies(&self, name: &str) -> Vec<String> {
        let text = |body: &[u8]| String::from_utf8_lossy(body).into_owned();
        let batches = self.batches(name);
        let records = batches.iter().flat_map(|batch| batch.records().filter(|record| record.kind == Kind::Event));
        records.map(|record| text(&record.body)).collect()
    }

    /// The topics in the order in which appends began.
    pub(super) fn order(&self) -> Vec<String> {
        self.lock().order.clone()
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap()
    }
}

/// The key of the topic of a stream made by `super::spec`.
pub(super) fn topic(name: &str) -> String {
    super::spec(name).topic_key()
}

impl State {
    fn refusal(&mut self, topic: &str) -> Option<Refusal> {
        let (_, (reason, times)) = self.refusing.iter_mut().find(|(part, _)| topic.contains(part.as_str()))?;
        *times = times.checked_sub(1)?;
        Some(Refusal::new(*reason, "journal", "told to refuse"))
    }

    fn store(&mut self, topic: &str, partition: u32, batch: &Batch) -> Appended {
        let end = self.ends.entry(format!("{topic}/{partition}")).or_default();
        let offset = *end;
        *end += batch.len() as u64;
        self.topics.entry(topic.to_owned()).or_default().push(batch.clone());
        Appended { partition, offset, offset_end: offset + batch.len() as u64, is_spread: false }
    }
}

impl Produce for FakeWriter {
    fn partitions(&self, config: &StreamConfig) -> u32 {
        config.spec.partitions()
    }

    async fn append(&self, topic: &str, place: Place, batch: &Batch, _: Compression) -> Result<Appended, Refusal> {
        self.0.lock().order.push(topic.to_owned());
        let named = format!("{topic}/{}", place.partition);
        let mut held = self.0.held.subscribe();
        let free = |held: &Vec<String>| !held.iter().any(|part| named.contains(part.as_str()));
        held.wait_for(free).await.expect("the journal outlives its writers");
        let mut state = self.0.lock();
        if let Some(refusal) = state.refusal(&named) {
            return Err(refusal);
        }
        let appended = state.store(topic, place.partition, batch);
        if state.losing > 0 {
            state.losing -= 1;
            return Err(Refusal::new(RefusalReason::Unavailable, "journal", "the answer was lost"));
        }
        Ok(appended)
    }
}
