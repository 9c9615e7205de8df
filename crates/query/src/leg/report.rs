//! Telling admin and the journal where a leg stands, apart from the data path: the leg leaves its latest report in a
//! [`Mailbox`] and goes on; a task delivers it, tries again while admin is away, and merges what comes meanwhile. A
//! mailbox outlives the runs of its leg, so that a run that failed can be told too.
//!
//! Bytes: one report, whose sources are those changed since the last answer.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use http::Method;
use journal::{Journal, KeptPosition};
use stream::control::AdminClient;
use stream::crash;
use stream::facts::{LegReport, Position, ReportReply};
use stream::fate::FateCounts;
use stream::retry::Backoff;
use tokio::sync::{Notify, watch};
use tracing::{debug, warn};

use super::LegKey;

/// The latest report of a leg, until admin has answered it.
pub struct Mailbox {
    state: Mutex<State>,
    news: Notify,
    whole_wanted: Notify,
    kept: watch::Sender<Vec<Position>>,
}

struct State {
    /// What admin has not answered yet.
    unsent: Option<LegReport>,
    /// The last report without its sources, for telling a failure.
    last: LegReport,
}

impl Mailbox {
    /// An empty mailbox.
    pub fn new(key: &LegKey) -> Arc<Self> {
        let last = LegReport {
            stream: key.stream.clone(),
            incarnation: key.incarnation,
            leg: key.sink.clone(),
            commit: 0,
            positions: Vec::new(),
            fates: FateCounts::default(),
            delivered_bytes: 0,
            delay_ms_p50: 0,
            delay_ms_p99: 0,
            whole: false,
            taken: Default::default(),
            failure: None,
            job: None,
        };
        let state = Mutex::new(State { unsent: None, last });
        Arc::new(Self { state, news: Notify::new(), whole_wanted: Notify::new(), kept: watch::channel(Vec::new()).0 })
    }

    /// Leaves a report.
    pub fn put(&self, report: LegReport) {
        self.kept.send_if_modified(|kept| {
            let is_new = *kept != report.positions;
            kept.clone_from(&report.positions);
            is_new
        });
        let mut state = self.lock();
        state.last = LegReport { taken: Default::default(), whole: false, ..report.clone() };
        state.unsent = Some(match state.unsent.take() {
            Some(older) => merge(older, report),
            None => report,
        });
        self.news.notify_one();
    }

    /// Tells that the leg stands still, and why.
    pub fn fail(&self, failure: String) {
        let report = LegReport { failure: Some(failure), ..self.lock().last.clone() };
        self.put(report);
    }

    /// Completes when admin asks for all sources.
    pub async fn whole_wanted(&self) {
        self.whole_wanted.notified().await;
    }

    /// The last report left, without its sources.
    pub fn last(&self) -> LegReport {
        self.lock().last.clone()
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn take(&self) -> Option<LegReport> {
        self.lock().unsent.take()
    }

    /// Puts a report back that was not delivered; what came meanwhile is newer.
    fn put_back(&self, older: LegReport) {
        let mut state = self.lock();
        state.unsent = Some(match state.unsent.take() {
            Some(newer) => merge(older, newer),
            None => older,
        });
    }
}

/// Two reports as one: the newer one's words, and the sources of both. A newer whole report names every source itself.
fn merge(older: LegReport, mut newer: LegReport) -> LegReport {
    if !newer.whole {
        for (source, ranges) in older.taken {
            newer.taken.entry(source).or_insert(ranges);
        }
        newer.whole = older.whole;
    }
    newer
}

/// Delivers reports to admin until it is aborted.
pub async fn deliver(mailbox: Arc<Mailbox>, admin: AdminClient) {
    let mut backoff = Backoff::default();
    loop {
        let Some(report) = mailbox.take() else {
            mailbox.news.notified().await;
            continue;
        };
        match admin.send::<ReportReply>(Method::POST, "/api/v1/legs", &report).await {
            Ok(reply) => {
                crash::point("query.commit.reported");
                backoff.reset();
                if reply.send_whole {
                    mailbox.whole_wanted.notify_one();
                }
            }
            Err(error) => {
                debug!(stream = %report.stream, leg = report.leg, %error, "cannot report; trying again");
                mailbox.put_back(report);
                let wait = backoff.next_wait(Duration::ZERO, &mut rand::rng());
                tokio::time::sleep(wait).await;
            }
        }
    }
}

/// States the leg's committed positions to the journal, for retention to wait for, until it is aborted.
pub async fn keep(mailbox: Arc<Mailbox>, journal: impl Journal, topic: String, reader: String) {
    let (mut kept, mut backoff) = (mailbox.kept.subscribe(), Backoff::default());
    kept.mark_changed();
    while kept.changed().await.is_ok() {
        let positions = kept.borrow_and_update().clone();
        if let Err(error) = keep_all(&journal, &topic, &reader, &positions, false).await {
            warn!(topic, reader, %error, "cannot state the position to the journal; trying again");
            let wait = backoff.next_wait(Duration::ZERO, &mut rand::rng());
            tokio::time::sleep(wait).await;
            kept.mark_changed();
        } else {
            backoff.reset();
        }
    }
}

/// States positions once; `gone`: that the reader is no more.
pub async fn keep_all(
    journal: &impl Journal,
    topic: &str,
    reader: &str,
    positions: &[Position],
    gone: bool,
) -> Result<(), stream::wire::Refusal> {
    for Position { place, offset, .. } in positions {
        let (topic, reader) = (topic.to_owned(), reader.to_owned());
        journal.keep(KeptPosition { topic, place: *place, reader, offset: *offset, gone }).await?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use stream::provenance::{Range, SourceId};

    fn report(commit: u64, source: u8, end: u64, whole: bool) -> LegReport {
        let key =
            LegKey { stream: "a.b.c".parse().unwrap(), incarnation: stream::Incarnation(1), sink: "files".to_owned() };
        let taken = [(SourceId::derive(1, &[&[source]]), [Range::new(0, end)].into_iter().collect())].into();
        LegReport { commit, taken, whole, ..Mailbox::new(&key).last() }
    }

    #[test]
    fn what_was_not_delivered_is_merged_into_what_came_meanwhile() {
        let key =
            LegKey { stream: "a.b.c".parse().unwrap(), incarnation: stream::Incarnation(1), sink: "files".to_owned() };
        let mailbox = Mailbox::new(&key);
        mailbox.put(report(1, 1, 5, true));
        let undelivered = mailbox.take().unwrap();
        mailbox.put(report(2, 1, 9, false));
        mailbox.put(report(3, 2, 4, false));
        mailbox.put_back(undelivered);
        mailbox.fail("stopped".to_owned());
        let merged = mailbox.take().unwrap();
        assert_eq!((merged.commit, merged.whole, merged.failure.as_deref()), (3, true, Some("stopped")));
        let ends: Vec<u64> = merged.taken.values().map(stream::Ranges::end).collect();
        assert_eq!(ends.iter().sum::<u64>(), 9 + 4, "the newer ranges of source 1, and source 2");
        assert!(mailbox.take().is_none());
    }
}
