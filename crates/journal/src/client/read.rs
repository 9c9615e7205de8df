//! The task behind a [`Reader`]: it reads, checks and hands on entries, and after a loss resumes where it was.

use stream::Batch;
use stream::retry::Backoff;
use stream::wire::v1::journal_client::JournalClient as WireClient;
use stream::wire::{Refusal, v1};
use tokio::sync::mpsc;
use tokio::time::Duration;
use tonic::transport::Channel;
use tracing::error;

use super::{away, refusal};
use crate::seam::{Chunk, Entry, Reader};

/// Chunks read ahead of the caller, of about 1 MiB each.
const CHUNKS_AHEAD: usize = 2;
/// Longest wait before a lost call is opened again.
const WAIT_MAX: Duration = Duration::from_secs(1);
/// The journal speaks every second; a call silent for this long is lost.
const SILENCE: Duration = Duration::from_secs(15);

/// Starts reading at `request.offset`.
pub(super) fn start(client: WireClient<Channel>, request: v1::ReadRequest) -> Reader {
    let (sender, receiver) = mpsc::channel(CHUNKS_AHEAD);
    let task = tokio::spawn(run(client, request, sender));
    Reader::new(receiver, task)
}

async fn run(
    mut client: WireClient<Channel>,
    mut request: v1::ReadRequest,
    chunks: mpsc::Sender<Result<Chunk, Refusal>>,
) {
    let mut backoff = Backoff::default();
    loop {
        let lost = call(&mut client, &mut request, &mut backoff, &chunks).await;
        if chunks.send(Err(lost)).await.is_err() {
            return;
        }
        let wait = backoff.next_wait(Duration::ZERO, &mut rand::rng()).min(WAIT_MAX);
        tokio::time::sleep(wait).await;
    }
}

/// One call until it is lost; `request.offset` moves on with what was handed over.
async fn call(
    client: &mut WireClient<Channel>,
    request: &mut v1::ReadRequest,
    backoff: &mut Backoff,
    chunks: &mpsc::Sender<Result<Chunk, Refusal>>,
) -> Refusal {
    let silent = |_| away("the reading was silent for too long");
    let mut replies = match tokio::time::timeout(SILENCE, client.read(request.clone())).await.map_err(silent) {
        Ok(Ok(response)) => response.into_inner(),
        Ok(Err(status)) => return refusal(&status),
        Err(silent) => return silent,
    };
    loop {
        let reply = match tokio::time::timeout(SILENCE, replies.message()).await.map_err(silent) {
            Ok(Ok(Some(reply))) => reply,
            Ok(Ok(None)) => return away("it closed the reading"),
            Ok(Err(status)) => return refusal(&status),
            Err(silent) => return silent,
        };
        backoff.reset();
        let chunk = decode(reply, &mut request.offset);
        if chunks.send(Ok(chunk)).await.is_err() {
            return away("its reader is gone");
        }
    }
}

/// Checks a reply's entries and moves `offset` behind them. The journal checks batches before it takes them, so one that
/// is none here means two versions that disagree: it is passed over aloud, and the ledger names its range.
fn decode(reply: v1::ReadReply, offset: &mut u64) -> Chunk {
    let mut entries = Vec::with_capacity(reply.entries.len());
    for v1::Entry { offset: first, append_time_ms, batch } in reply.entries {
        let wire = batch.unwrap_or_default();
        *offset = first + wire.range_lengths.len().max(1) as u64;
        match Batch::from_wire(wire) {
            Ok(batch) => entries.push(Entry { offset: first, append_time_ms, batch }),
            Err(error) => error!(%error, offset = first, "a journal entry is no batch; it is passed over"),
        }
    }
    Chunk { entries, start_offset: reply.start_offset, end_offset: reply.end_offset, ..Chunk::default() }
}
