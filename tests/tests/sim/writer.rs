//! A gateway's connection to the journal, in the place of `journal::client`: many appends under way at a time, refused
//! when the connection is lost, opened again after a while.

use std::sync::{Arc, Mutex};

use gateway::produce::{Appended, Produce};
use stream::Batch;
use stream::config::{Compression, StreamConfig};
use stream::facts::Place;
use stream::wire::{Refusal, RefusalReason};
use tokio::sync::{mpsc, oneshot};
use tokio::time::Instant;

use crate::journal::JournalHost;
use crate::link::{Ends, Far, Link, Links, Way};
use crate::world::World;

/// Appends under way on one connection.
const APPENDS_MAX: usize = 4_096;

type Answer = Result<journal::Appended, Refusal>;

/// An append on its way to the journal.
struct Append {
    topic: String,
    partition: u32,
    batch: Batch,
    answer: oneshot::Sender<Answer>,
}

/// See the module.
pub struct Writer {
    world: World,
    gateway: usize,
    journal: Arc<JournalHost>,
    links: Arc<Links>,
    open: Mutex<Open>,
}

#[derive(Default)]
struct Open {
    connection: Option<(Arc<Link>, mpsc::Sender<Append>)>,
    not_before: Option<Instant>,
}

impl Writer {
    /// One that connects when it is first used.
    pub fn new(world: &World, gateway: usize, journal: &Arc<JournalHost>, links: &Arc<Links>) -> Self {
        let (journal, links) = (Arc::clone(journal), Arc::clone(links));
        Self { world: world.clone(), gateway, journal, links, open: Mutex::default() }
    }

    /// The connection, opened if there is none and the journal is there.
    fn connection(&self) -> Option<mpsc::Sender<Append>> {
        let mut open = self.open.lock().unwrap();
        if open.connection.as_ref().is_some_and(|(link, _)| link.is_cut()) {
            open.connection = None;
            open.not_before = Some(Instant::now() + self.world.ms(0..500));
        }
        if let Some((_, appends)) = &open.connection {
            return Some(appends.clone());
        }
        if !self.journal.is_up() || open.not_before.is_some_and(|until| Instant::now() < until) {
            return None;
        }
        let link = self.links.open(&self.world, Ends::Gateway(self.gateway));
        let (appends, queue) = mpsc::channel(APPENDS_MAX);
        tokio::spawn(serve(Arc::clone(&self.journal), Arc::clone(&link), queue));
        open.connection = Some((link, appends.clone()));
        Some(appends)
    }
}

impl Produce for Writer {
    fn partitions(&self, config: &StreamConfig) -> u32 {
        config.spec.partitions()
    }

    async fn append(
        &self,
        topic: &str,
        place: Place,
        batch: &Batch,
        _compression: Compression,
    ) -> Result<Appended, Refusal> {
        let (answer, answered) = oneshot::channel();
        let append = Append { topic: topic.to_owned(), partition: place.partition, batch: batch.clone(), answer };
        let connection = self.connection().ok_or_else(away)?;
        // In the order in which appends were begun: nothing is awaited before this.
        connection.try_send(append).map_err(|_| away())?;
        let appended = answered.await.map_err(|_| away())??;
        let (offset, offset_end) = (appended.offset, appended.end_offset);
        Ok(Appended { partition: place.partition, offset, offset_end, is_spread: false })
    }
}

fn away() -> Refusal {
    Refusal::new(RefusalReason::Unavailable, "journal", "the connection is gone")
}

/// The journal's side of a connection.
async fn serve(journal: Arc<JournalHost>, link: Arc<Link>, appends: mpsc::Receiver<Append>) {
    let (answers, queue) = mpsc::channel(APPENDS_MAX);
    let mut back = Far::new(&link, Way::Back, queue);
    tokio::spawn(async move {
        while let Some((answer, outcome)) = back.next().await {
            let answer: oneshot::Sender<Answer> = answer;
            drop(answer.send(outcome));
        }
    });
    let mut far = Far::new(&link, Way::There, appends);
    while let Some(Append { topic, partition, batch, answer }) = far.next().await {
        let answers = answers.clone();
        journal.append(&topic, partition, &batch, Box::new(move |outcome| drop(answers.try_send((answer, outcome)))));
    }
}
