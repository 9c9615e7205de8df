//! The task that owns a client's append call: it numbers the batches, matches the answers, and after a loss refuses what
//! was under way (its sender tries again) and opens a new call.
//!
//! States: *idle* (no call; the next batch opens one), *open* (batches and answers flow), *waiting* (after a failure,
//! until the back-off has passed; what is handed in meanwhile is refused at once).

use std::collections::HashMap;

use stream::retry::Backoff;
use stream::wire::v1::append_reply::Outcome;
use stream::wire::v1::journal_client::JournalClient as WireClient;
use stream::wire::{Refusal, v1};
use tokio::sync::{OwnedSemaphorePermit, mpsc, oneshot};
use tokio::time::{Duration, Instant, timeout_at};
use tokio_stream::wrappers::ReceiverStream;
use tonic::transport::Channel;
use tracing::warn;

use super::{away, refusal};
use crate::seam::Appended;

/// Longest wait before a lost call is opened again: on one machine the journal is back within a second.
const WAIT_MAX: Duration = Duration::from_secs(1);
/// How long the journal may take to accept the call.
const OPEN: Duration = Duration::from_secs(5);

/// A batch to append.
#[derive(Debug)]
pub(super) struct Command {
    /// The request; its id is set here.
    pub(super) request: v1::AppendRequest,
    /// Where the answer goes.
    pub(super) reply: oneshot::Sender<Result<Appended, Refusal>>,
    /// The batch's share of the client's limit, held until it is answered.
    pub(super) room: OwnedSemaphorePermit,
}

struct Waiting {
    reply: oneshot::Sender<Result<Appended, Refusal>>,
    _room: OwnedSemaphorePermit,
}

/// Runs until the last handle of the client is gone.
pub(super) async fn run(mut client: WireClient<Channel>, mut commands: mpsc::Receiver<Command>) {
    let mut backoff = Backoff::default();
    while let Some(first) = commands.recv().await {
        let (lost, answered) = call(&mut client, first, &mut commands).await;
        let Some(lost) = lost else { return };
        if answered {
            backoff.reset();
        }
        let wait = backoff.next_wait(Duration::ZERO, &mut rand::rng()).min(WAIT_MAX);
        warn!(error = %lost, wait_ms = wait.as_millis() as u64, "the append call to the journal was lost");
        let until = Instant::now() + wait;
        while let Ok(Some(command)) = timeout_at(until, commands.recv()).await {
            drop(command.reply.send(Err(lost.clone())));
        }
    }
}

/// One call, from its first batch to its loss. Returns why it was lost (none: the client is gone) and whether anything
/// was answered.
async fn call(
    client: &mut WireClient<Channel>,
    first: Command,
    commands: &mut mpsc::Receiver<Command>,
) -> (Option<Refusal>, bool) {
    let mut open = Open { waiting: HashMap::new(), next_id: 0 };
    // As many as the client's limit lets be under way, so that sending never waits and answers are always read.
    let (requests, receiver) = mpsc::channel(super::APPENDS_MAX);
    drop(requests.try_send(open.admit(first)));
    let opened = tokio::time::timeout(OPEN, client.append(ReceiverStream::new(receiver))).await;
    let mut replies = match opened {
        Ok(Ok(response)) => response.into_inner(),
        Ok(Err(status)) => return (Some(open.lose(refusal(&status))), false),
        Err(_) => return (Some(open.lose(away("the call was not accepted"))), false),
    };
    let mut answered = false;
    let lost = loop {
        tokio::select! {
            reply = replies.message() => match reply {
                Ok(Some(reply)) => { open.answer(reply); answered = true; }
                Ok(None) => break away("it closed the call"),
                Err(status) => break refusal(&status),
            },
            command = commands.recv() => {
                let Some(command) = command else { return (None, answered) };
                if requests.try_send(open.admit(command)).is_err() {
                    break away("the connection was lost");
                }
            },
        }
    };
    (Some(open.lose(lost)), answered)
}

/// What an open call is waiting for.
struct Open {
    waiting: HashMap<u64, Waiting>,
    next_id: u64,
}

impl Open {
    fn admit(&mut self, command: Command) -> v1::AppendRequest {
        let Command { mut request, reply, room } = command;
        request.id = self.next_id;
        self.next_id += 1;
        self.waiting.insert(request.id, Waiting { reply, _room: room });
        request
    }

    fn answer(&mut self, reply: v1::AppendReply) {
        let Some(waiting) = self.waiting.remove(&reply.id) else {
            warn!(id = reply.id, "the journal answered a batch that is not under way");
            return;
        };
        let outcome = match reply.outcome {
            Some(Outcome::Appended(appended)) => Ok(appended.into()),
            Some(Outcome::Refusal(refusal)) => Err(refusal.into()),
            None => Err(away("its answer is empty")),
        };
        drop(waiting.reply.send(outcome));
    }

    /// Refuses all that was under way.
    fn lose(&mut self, why: Refusal) -> Refusal {
        for (_, waiting) in self.waiting.drain() {
            drop(waiting.reply.send(Err(why.clone())));
        }
        why
    }
}
