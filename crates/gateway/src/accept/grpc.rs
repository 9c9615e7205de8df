//! The gRPC door: one call per agent worker, batches in, an Ack or a Refusal for each out, in any order. A batch is
//! acknowledged only after the journal has said that it is durable.
//!
//! Bounded: [`UNANSWERED_MAX`] batches of a call at a time; beyond it the call is not read, so that its sender waits.

use std::sync::Arc;

use axum::Router;
use stream::id::excerpt;
use stream::limits::MESSAGE_BYTES_MAX;
use stream::wire::v1::gateway_server::{Gateway, GatewayServer};
use stream::wire::v1::{Ack, SendReply, SendRequest, send_reply};
use stream::wire::{Refusal, RefusalReason};
use stream::{Batch, wire};
use tokio::sync::{Semaphore, mpsc, oneshot, watch};
use tokio_stream::wrappers::ReceiverStream;
use tonic::service::Routes;
use tonic::{Code, Request, Response, Status, Streaming};

use crate::admit;
use crate::directory::StreamHandle;
use crate::dispatch::{Handle, Load, closing};
use crate::metrics;
use crate::queue::Outcome;

/// Batches of one call that have no reply yet.
const UNANSWERED_MAX: usize = 256;

/// What a call needs.
#[derive(Clone)]
pub struct Door {
    /// Where records go.
    pub handle: Handle,
    /// Turns true when the gateway goes down: calls are read no further and end when all is answered.
    pub stop: watch::Receiver<bool>,
}

/// The door's service.
pub fn router(door: Door) -> Router {
    Routes::new(GatewayServer::new(door).max_decoding_message_size(MESSAGE_BYTES_MAX)).into_axum_router()
}

#[tonic::async_trait]
impl Gateway for Door {
    type SendStream = ReceiverStream<Result<SendReply, Status>>;

    async fn send(&self, request: Request<Streaming<SendRequest>>) -> Result<Response<Self::SendStream>, Status> {
        let (replies, reader) = mpsc::channel(UNANSWERED_MAX);
        tokio::spawn(self.clone().converse(request.into_inner(), replies));
        Ok(Response::new(ReceiverStream::new(reader)))
    }
}

impl Door {
    async fn converse(
        mut self,
        mut requests: Streaming<SendRequest>,
        replies: mpsc::Sender<Result<SendReply, Status>>,
    ) {
        let unanswered = Arc::new(Semaphore::new(UNANSWERED_MAX));
        let mut stop = self.stop.clone();
        while let Ok(place) = Arc::clone(&unanswered).acquire_owned().await {
            let request = tokio::select! {
                request = requests.message() => request,
                _ = stop.wait_for(|stop| *stop) => return,
                () = replies.closed() => return,
            };
            let SendRequest { id, batch } = match request {
                Ok(Some(request)) => request,
                Ok(None) => return,
                Err(status) => {
                    if let Some(reason) = fault(&status) {
                        metrics::refused_request(reason);
                    }
                    return drop(replies.send(Err(status)).await);
                }
            };
            let (stream, submitted) = self.take(batch).await;
            let (door, replies) = (self.clone(), replies.clone());
            tokio::spawn(async move {
                let outcome = match submitted {
                    Ok(outcome) => outcome.await.unwrap_or_else(|_| Err(closing())),
                    Err(refusal) => Err(refusal),
                };
                let _caller_gone = replies.send(Ok(door.reply(id, stream.as_deref(), outcome))).await;
                drop(place);
            });
        }
    }

    /// Checks a batch and hands it over.
    async fn take(
        &mut self,
        batch: Option<wire::v1::Batch>,
    ) -> (Option<Arc<StreamHandle>>, Result<oneshot::Receiver<Outcome>, Refusal>) {
        let named = batch.as_ref().map(|batch| batch.stream.clone()).unwrap_or_default();
        let stream = named.parse().ok().and_then(|id| self.handle.stream(&id));
        let checked = Batch::from_wire(batch.unwrap_or_default());
        let malformed = |error: stream::batch::BatchError| {
            Refusal::new(RefusalReason::Malformed, format!("stream {:?}", excerpt(&named)), error.to_string())
        };
        let submitted = match (checked.map_err(malformed), &stream) {
            (Err(refusal), _) => Err(refusal),
            (Ok(batch), Some(stream)) if batch.incarnation == stream.config.incarnation => {
                self.submit(stream, batch).await
            }
            (Ok(_), _) => Err(admit::unknown_stream(&named)),
        };
        (stream, submitted)
    }

    async fn submit(&self, stream: &StreamHandle, batch: Batch) -> Result<oneshot::Receiver<Outcome>, Refusal> {
        admit::check_batch(&stream.config, &batch)?;
        let records = batch.len();
        let permit = self.handle.budget.reserve(stream.queue, admit::cost(batch.body_bytes(), records))?;
        Ok(self.handle.submit(stream.queue, Load::Batch(batch), records, permit).await)
    }

    fn reply(&self, id: u64, stream: Option<&StreamHandle>, outcome: Outcome) -> SendReply {
        let outcome = match outcome {
            Ok(stored) => send_reply::Outcome::Ack(Ack { partition: stored.partition, end_offset: stored.offset_end }),
            Err(refusal) => {
                match stream {
                    Some(stream) => stream.refused(refusal.reason),
                    None => metrics::refused_request(refusal.reason.name()),
                }
                send_reply::Outcome::Refusal(refusal.into())
            }
        };
        let credit_bytes = stream.map_or(0, |stream| self.handle.budget.room(stream.queue) as u64);
        SendReply { id, outcome: Some(outcome), credit_bytes }
    }
}

/// What is wrong with a message that ends its call, unless the call broke off.
fn fault(status: &Status) -> Option<&'static str> {
    match status.code() {
        Code::OutOfRange => Some("too_large"),
        Code::Internal | Code::Unimplemented => Some("malformed"),
        _ => None,
    }
}
