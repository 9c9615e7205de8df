//! Who reports which leg to admin: a task per leg, told by a watch how its job stands.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use flink::{JobKey, Places, Standing};
use query::leg::LegKey;
use query::leg::report::{Mailbox, deliver};
use stream::control::AdminClient;
use tokio::sync::watch;
use tokio::task::{JoinSet, spawn_blocking};
use tracing::error;
#[cfg(feature = "kafka")]
use {super::jobs::Told, stream::retry::Backoff, tracing::warn};

use super::account::Account;
use super::jobs::FlinkLeg;

/// How often a leg looks whether its job has completed another checkpoint.
const EVERY: Duration = Duration::from_secs(1);

/// The legs, and how their jobs stand.
pub struct Board {
    admin: AdminClient,
    places: Places,
    standings: Mutex<BTreeMap<JobKey, watch::Sender<Option<Standing>>>>,
    legs: Mutex<BTreeMap<LegKey, (FlinkLeg, JoinSet<()>)>>,
}

impl Board {
    /// Without legs yet.
    pub fn new(admin: AdminClient, places: Places) -> Self {
        Self { admin, places, standings: Mutex::default(), legs: Mutex::default() }
    }

    /// Takes how a job stands.
    pub fn tell(&self, key: &JobKey, standing: Standing) {
        let mut standings = lock(&self.standings);
        let known = standings.entry(key.clone()).or_insert_with(|| watch::channel(None).0);
        known.send_if_modified(|known| {
            let is_new = known.as_ref() != Some(&standing);
            *known = Some(standing);
            is_new
        });
    }

    /// Reports these legs from now on, and no others.
    pub fn follow(&self, legs: Vec<FlinkLeg>) {
        let wanted: BTreeMap<LegKey, FlinkLeg> = legs.into_iter().map(|leg| (leg.key.clone(), leg)).collect();
        let mut running = lock(&self.legs);
        running.retain(|key, (leg, _)| wanted.get(key) == Some(leg));
        let mut standings = lock(&self.standings);
        let jobs: BTreeSet<&JobKey> = wanted.values().map(|leg| &leg.job).collect();
        standings.retain(|key, _| jobs.contains(key));
        drop(jobs);
        for (key, leg) in wanted {
            let standing = standings.entry(leg.job.clone()).or_insert_with(|| watch::channel(None).0).subscribe();
            let start = || {
                let (mailbox, mut tasks) = (Mailbox::new(&key), JoinSet::new());
                #[cfg(feature = "kafka")]
                tasks.spawn(prepare(leg.rows.clone()));
                tasks.spawn(deliver(mailbox.clone(), self.admin.clone()));
                tasks.spawn(report(Account::new(leg.clone(), self.places.clone()), mailbox, standing));
                (leg.clone(), tasks)
            };
            running.entry(key.clone()).or_insert_with(start);
        }
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Makes the topic that a leg writes to, if it is not there: Flink's sink wants it to be.
#[cfg(feature = "kafka")]
async fn prepare(rows: Told) {
    let Told::Topic(target, _) = rows else { return };
    let mut backoff = Backoff::default();
    while let Err(error) = sink::kafka::delivered::prepare(&target).await {
        warn!(%error, "the sink's topic cannot be made; trying again");
        let wait = backoff.next_wait(Duration::ZERO, &mut rand::rng());
        tokio::time::sleep(wait).await;
    }
}

/// Reports one leg until the task is dropped.
async fn report(mut account: Account, mailbox: Arc<Mailbox>, mut standing: watch::Receiver<Option<Standing>>) {
    let mut whole = true;
    loop {
        let now = standing.borrow_and_update().clone();
        let looked = spawn_blocking(move || {
            let report = account.look(now.as_ref(), whole);
            (account, report)
        });
        let told;
        (account, told) = match looked.await {
            Ok(looked) => looked,
            Err(broken) => return error!(%broken, "a leg's account broke off; start the role again to go on with it"),
        };
        if let Some(report) = told {
            whole &= !report.whole;
            mailbox.put(report);
        }
        tokio::select! {
            _ = standing.changed() => (),
            () = mailbox.whole_wanted() => whole = true,
            () = tokio::time::sleep(EVERY) => (),
        }
    }
}
