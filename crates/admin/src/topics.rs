//! Has the journal make what the streams need: at the start, whenever the streams change, and from time to time, in case
//! somebody changed a topic by hand. What fails is tried again; the gateways refuse meanwhile, and senders wait.

use std::sync::Arc;
use std::time::Duration;

use journal::{AnyJournal, Journal};
use stream::retry::Backoff;
use tokio::sync::watch;
use tokio::time::timeout;
use tracing::warn;

use crate::store::Published;

/// How often topics are compared with what they should be although no stream has changed.
const LOOK_AGAIN: Duration = Duration::from_secs(60);

/// Runs until the task is dropped.
pub async fn run(journal: AnyJournal, mut published: watch::Receiver<Arc<Published>>) {
    let mut backoff = Backoff::default();
    loop {
        let snapshot = published.borrow_and_update().snapshot.clone();
        let wait = match journal.prepare(&snapshot).await {
            Ok(()) => {
                backoff.reset();
                LOOK_AGAIN
            }
            Err(refusal) => {
                warn!(%refusal, "the journal does not have what every stream needs; trying again");
                backoff.next_wait(Duration::from_millis(200), &mut rand::rng())
            }
        };
        // Whether time has passed or a stream has changed: the same look.
        drop(timeout(wait, published.changed()).await);
    }
}
