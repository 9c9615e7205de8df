//! The gRPC face of the log. It checks what comes in, turns refusals into answers, and bounds what one caller holds:
//! an append call has at most [`APPENDS_MAX`] batches unanswered, a reading at most two replies of about 1 MiB.

use std::sync::Arc;
use std::time::Duration;

use stream::wire::v1::append_reply::Outcome;
use stream::wire::v1::journal_server::{Journal, JournalServer};
use stream::wire::{Refusal, RefusalReason, v1};
use stream::{Batch, limits};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc, watch};
use tokio::time::timeout;
use tokio_stream::wrappers::ReceiverStream;
use tokio_stream::{Stream, StreamExt};
use tonic::{Request, Response, Status, Streaming};
use tracing::error;

use crate::embedded::log::Reply;
use crate::embedded::{EmbeddedLog, StoredChunk};
use crate::metrics;
use crate::seam::KeptPosition;

/// Batches of one append call that are not yet answered; beyond it the call is not read.
pub const APPENDS_MAX: usize = 4096;
/// Bytes of a reply's entries; one entry may be larger.
const REPLY_BYTES: usize = 1 << 20;
/// Replies made ahead of the reader.
const REPLIES_AHEAD: usize = 2;
/// A reading says at least this often where the partition starts and ends.
const SPEAK: Duration = Duration::from_secs(1);

/// The service of one log.
#[derive(Clone)]
pub struct JournalService {
    log: Arc<EmbeddedLog>,
    /// Whether the calls should end.
    stopping: watch::Receiver<bool>,
}

impl JournalService {
    /// A service of `log`, with this house's message limits. Its calls end when `stopping` becomes true.
    pub fn server(log: Arc<EmbeddedLog>, stopping: watch::Receiver<bool>) -> JournalServer<Self> {
        JournalServer::new(Self { log, stopping })
            .max_decoding_message_size(limits::MESSAGE_BYTES_MAX)
            .max_encoding_message_size(2 * limits::MESSAGE_BYTES_MAX)
    }
}

type Replies<T> = std::pin::Pin<Box<dyn Stream<Item = Result<T, Status>> + Send>>;

#[tonic::async_trait]
impl Journal for JournalService {
    type AppendStream = Replies<v1::AppendReply>;
    type ReadStream = ReceiverStream<Result<v1::ReadReply, Status>>;

    async fn append(
        &self,
        request: Request<Streaming<v1::AppendRequest>>,
    ) -> Result<Response<Self::AppendStream>, Status> {
        let (replies, receiver) = mpsc::channel(APPENDS_MAX);
        tokio::spawn(take_appends(self.clone(), request.into_inner(), replies));
        // A batch's permit is held until its reply is taken, so that the channel always has room.
        let replies = ReceiverStream::new(receiver).map(|(reply, _permit): (_, OwnedSemaphorePermit)| Ok(reply));
        Ok(Response::new(Box::pin(replies)))
    }

    async fn read(&self, request: Request<v1::ReadRequest>) -> Result<Response<Self::ReadStream>, Status> {
        let request = request.into_inner();
        let end = self.log.watch_end(&request.topic, request.partition).map_err(|refusal| status(&refusal))?;
        let (replies, receiver) = mpsc::channel(REPLIES_AHEAD);
        tokio::spawn(send_entries(self.clone(), request, end, replies));
        Ok(Response::new(ReceiverStream::new(receiver)))
    }

    async fn bounds(&self, request: Request<v1::BoundsRequest>) -> Result<Response<v1::BoundsReply>, Status> {
        let bounds = self.log.bounds(&request.into_inner().topics);
        Ok(Response::new(v1::BoundsReply { bounds: bounds.into_iter().map(v1::Bounds::from).collect() }))
    }

    async fn keep(&self, request: Request<v1::KeepRequest>) -> Result<Response<v1::KeepReply>, Status> {
        let kept = KeptPosition::from(request.into_inner());
        self.log.keep(&kept).map_err(|refusal| status(&refusal))?;
        Ok(Response::new(v1::KeepReply {}))
    }
}

/// A refused call that is no append.
fn status(refusal: &Refusal) -> Status {
    match refusal.reason {
        RefusalReason::UnknownStream => Status::not_found(refusal.to_string()),
        RefusalReason::Malformed | RefusalReason::TooLarge => Status::invalid_argument(refusal.to_string()),
        _ => Status::unavailable(refusal.to_string()),
    }
}

async fn take_appends(
    service: JournalService,
    mut requests: Streaming<v1::AppendRequest>,
    replies: mpsc::Sender<(v1::AppendReply, OwnedSemaphorePermit)>,
) {
    let room = Arc::new(Semaphore::new(APPENDS_MAX));
    let mut stopping = service.stopping.clone();
    loop {
        let Ok(permit) = Arc::clone(&room).acquire_owned().await else { return };
        // A caller that is gone, or sends what is no message, ends the call; it sends again what was not answered.
        let request = tokio::select! {
            request = requests.message() => request.ok().flatten(),
            _ = stopping.wait_for(|stopping| *stopping) => None,
        };
        let Some(request) = request else { return };
        take_append(&service.log, request, replies.clone(), permit);
    }
}

fn take_append(
    log: &EmbeddedLog,
    request: v1::AppendRequest,
    replies: mpsc::Sender<(v1::AppendReply, OwnedSemaphorePermit)>,
    permit: OwnedSemaphorePermit,
) {
    let v1::AppendRequest { id, topic, partition, batch } = request;
    let reply: Reply = Box::new(move |outcome| {
        let outcome = match outcome {
            Ok(appended) => Outcome::Appended(appended.into()),
            Err(refusal) => Outcome::Refusal(refusal.into()),
        };
        // Fails only when the caller has hung up.
        drop(replies.try_send((v1::AppendReply { id, outcome: Some(outcome) }, permit)));
    });
    match Batch::from_wire(batch.unwrap_or_default()) {
        Ok(batch) => log.append(&topic, partition, &batch, reply),
        Err(error) => {
            metrics::refused(RefusalReason::Malformed);
            let message = format!("{error}; the sender must mend or set apart this batch");
            reply(Err(Refusal::new(RefusalReason::Malformed, format!("topic {topic}"), message)));
        }
    }
}

/// Sends entries as they come, and the bounds at the beginning and whenever nothing came for a while.
async fn send_entries(
    service: JournalService,
    request: v1::ReadRequest,
    mut end: watch::Receiver<u64>,
    replies: mpsc::Sender<Result<v1::ReadReply, Status>>,
) {
    let mut stopping = service.stopping.clone();
    let mut offset = request.offset;
    let mut speak = true;
    while !*stopping.borrow() {
        let at_end = *end.borrow_and_update() <= offset;
        let chunk = match read(&service.log, &request, offset, at_end).await {
            Ok(chunk) => chunk,
            Err(status) => return drop(replies.send(Err(status)).await),
        };
        let moved = chunk.next_offset != offset;
        offset = chunk.next_offset;
        if (speak || !chunk.entries.is_empty()) && replies.send(reply(chunk)).await.is_err() {
            return;
        }
        speak = false;
        if moved {
            continue;
        }
        tokio::select! {
            waited = timeout(SPEAK, end.changed()) => match waited {
                Ok(Ok(())) => {}
                // The topic was dropped: the caller's next call hears so.
                Ok(Err(_)) => return,
                Err(_) => speak = true,
            },
            () = replies.closed() => return,
            _ = stopping.wait_for(|stopping| *stopping) => return,
        }
    }
}

/// Reads on a thread that may block; at the end there is nothing to read, only the bounds to look up.
async fn read(
    log: &Arc<EmbeddedLog>,
    request: &v1::ReadRequest,
    offset: u64,
    at_end: bool,
) -> Result<StoredChunk, Status> {
    if at_end {
        let chunk = log.read(&request.topic, request.partition, offset, REPLY_BYTES);
        return chunk.map_err(|refusal| status(&refusal));
    }
    let (log, topic, partition) = (Arc::clone(log), request.topic.clone(), request.partition);
    let read = tokio::task::spawn_blocking(move || log.read(&topic, partition, offset, REPLY_BYTES));
    match read.await {
        Ok(chunk) => chunk.map_err(|refusal| status(&refusal)),
        Err(error) => Err(Status::internal(format!("the reading failed: {error}"))),
    }
}

fn reply(chunk: StoredChunk) -> Result<v1::ReadReply, Status> {
    let mut entries = Vec::with_capacity(chunk.entries.len());
    for stored in chunk.entries {
        match v1::Batch::from_bytes(stored.batch) {
            Ok(batch) => {
                let (offset, append_time_ms) = (stored.offset, stored.append_time_ms);
                entries.push(v1::Entry { offset, append_time_ms, batch: Some(batch) });
            }
            // Its checksum was right, so it was written like this: by another version.
            Err(error) => error!(%error, offset = stored.offset, "a journal entry is no batch; it is passed over"),
        }
    }
    Ok(v1::ReadReply { entries, start_offset: chunk.start_offset, end_offset: chunk.end_offset })
}
