//! The gRPC door: one call per agent worker, batches in, an Ack or a Refusal for each out, in any order. A batch is
//! acknowledged only after the journal has said that it is durable. A call ends when its connection is to end, after the
//! answers to all that was read: what was not read is sent again over the next one, without any refusal.
//!
//! Bounded: [`UNANSWERED_MAX`] batches of a call at a time; beyond it the call is not read, so that its sender waits.

use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use stream::clock::Clock;
use stream::id::excerpt;
use stream::limits::MESSAGE_BYTES_MAX;
use stream::wire::v1::gateway_server::{Gateway, GatewayServer};
use stream::wire::v1::{Ack, SendReply, SendRequest, send_reply};
use stream::wire::{Refusal, RefusalReason};
use stream::{Batch, wire};
use tokio::sync::{Semaphore, mpsc, oneshot};
use tokio::time::{Instant, timeout};
use tokio_stream::wrappers::ReceiverStream;
use tokio_stream::{Stream, StreamExt};
use tonic::service::Routes;
use tonic::{Code, Request, Response, Status, Streaming};
use tower::util::ServiceExt;

use crate::accept::connection::{Answers, Connection};
use crate::accept::stopped;
use crate::access::{Caller, Shown, bearer};
use crate::admit;
use crate::directory::StreamHandle;
use crate::dispatch::{Handle, Load, closing};
use crate::metrics;
use crate::queue::Outcome;
use crate::rate;

/// Batches of one call that have no reply yet.
const UNANSWERED_MAX: usize = 256;
/// How long a sender may take to hear that its call has ended.
const SEE_OFF_WITHIN: Duration = Duration::from_secs(2);

/// What every call needs.
#[derive(Clone)]
pub struct Door {
    /// Where records go.
    pub handle: Handle,
    /// The times of refusals.
    pub clock: Arc<dyn Clock>,
}

/// The door's service; each call knows its connection.
pub fn router(door: Door) -> Router {
    Routes::new(GatewayServer::new(door).max_decoding_message_size(MESSAGE_BYTES_MAX)).into_axum_router()
}

impl Answers for Router {
    async fn answer(&self, mut request: http::Request<Body>, connection: Arc<Connection>) -> axum::response::Response {
        request.extensions_mut().insert(connection);
        let Ok(response) = self.clone().oneshot(request).await;
        response
    }
}

#[tonic::async_trait]
impl Gateway for Door {
    type SendStream = ReceiverStream<Result<SendReply, Status>>;

    async fn send(&self, request: Request<Streaming<SendRequest>>) -> Result<Response<Self::SendStream>, Status> {
        let connection = request.extensions().get::<Arc<Connection>>().cloned();
        let connection = connection.ok_or_else(|| Status::internal("a call without a connection"))?;
        let secret = request.metadata().get("authorization").and_then(|value| bearer(value.as_encoded_bytes()));
        let secret = secret.map(Arc::from);
        let replies =
            self.call(connection, secret, request.into_inner()).map_err(|refusal| unauthenticated(&refusal))?;
        Ok(Response::new(ReceiverStream::new(replies)))
    }
}

impl Door {
    /// Begins a call of a sender that shows `secret` over `connection`: `requests` come in, what is returned goes out.
    /// The simulation calls it with pipes of its own.
    pub fn call(
        &self,
        connection: Arc<Connection>,
        secret: Option<Arc<[u8]>>,
        requests: impl Stream<Item = Result<SendRequest, Status>> + Unpin + Send + 'static,
    ) -> Result<mpsc::Receiver<Result<SendReply, Status>>, Refusal> {
        let call = Call { handle: self.handle.clone(), clock: Arc::clone(&self.clock), secret, connection };
        call.caller()?;
        let (replies, reader) = mpsc::channel(UNANSWERED_MAX);
        tokio::spawn(call.converse(requests, replies));
        Ok(reader)
    }
}

fn unauthenticated(refusal: &Refusal) -> Status {
    Status::unauthenticated(refusal.message.clone())
}

/// Reads on, and forgets, until the sender has heard that the call has ended: a connection that is closed with bytes
/// unread would take the last answers with it.
async fn see_off(mut requests: impl Stream<Item = Result<SendRequest, Status>> + Unpin) {
    let forget = async { while let Some(Ok(_)) = requests.next().await {} };
    drop(timeout(SEE_OFF_WITHIN, forget).await);
}

/// One call.
#[derive(Clone)]
struct Call {
    handle: Handle,
    clock: Arc<dyn Clock>,
    secret: Option<Arc<[u8]>>,
    connection: Arc<Connection>,
}

impl Call {
    async fn converse(
        self,
        mut requests: impl Stream<Item = Result<SendRequest, Status>> + Unpin + Send,
        replies: mpsc::Sender<Result<SendReply, Status>>,
    ) {
        let unanswered = Arc::new(Semaphore::new(UNANSWERED_MAX));
        let mut ending = self.connection.ending.clone();
        while let Ok(place) = Arc::clone(&unanswered).acquire_owned().await {
            let request = tokio::select! {
                // An end comes once; requests may always be there.
                biased;
                () = stopped(&mut ending) => {
                    drop((place, replies));
                    let _all_answered = unanswered.acquire_many(UNANSWERED_MAX as u32).await;
                    return see_off(requests).await;
                }
                () = replies.closed() => return,
                request = requests.next() => request,
            };
            let SendRequest { id, batch, config_version } = match request {
                Some(Ok(request)) => request,
                None => return,
                Some(Err(status)) => {
                    if let Some(reason) = fault(&status) {
                        metrics::refused_request(reason);
                    }
                    return drop(replies.send(Err(status)).await);
                }
            };
            // Asked for each batch: a token may end while the call goes on. Its sender comes again, with a newer one.
            let caller = match self.caller() {
                Ok(caller) => caller,
                Err(refusal) => return drop(replies.send(Err(unauthenticated(&refusal))).await),
            };
            let (stream, submitted) = self.take(&caller, batch).await;
            let (call, replies) = (self.clone(), replies.clone());
            tokio::spawn(async move {
                let outcome = match submitted {
                    Ok(outcome) => outcome.await.unwrap_or_else(|_| Err(closing())),
                    Err(refusal) => Err(refusal),
                };
                let outcome = outcome.map_err(|refusal| match &stream {
                    Some(stream) => admit::unless_outdated(refusal, &stream.config, config_version),
                    None => refusal,
                });
                let _caller_gone = replies.send(Ok(call.reply(id, stream.as_deref(), outcome))).await;
                drop(place);
            });
        }
    }

    fn caller(&self) -> Result<Caller, Refusal> {
        self.handle.caller(Shown { secret: self.secret.as_deref(), certified: self.connection.certified.as_ref() })
    }

    /// Checks a batch and hands it over.
    async fn take(
        &self,
        caller: &Caller,
        batch: Option<wire::v1::Batch>,
    ) -> (Option<Arc<StreamHandle>>, Result<oneshot::Receiver<Outcome>, Refusal>) {
        let Some(batch) = batch else {
            let message = "there is no batch in the request";
            return (None, Err(Refusal::new(RefusalReason::Malformed, "request", message)));
        };
        let named = batch.stream.clone();
        let stream = match self.handle.stream(caller, &named) {
            Ok(stream) => stream,
            Err(refusal) => return (None, Err(refusal)),
        };
        let malformed = |error: stream::batch::BatchError| {
            Refusal::new(RefusalReason::Malformed, format!("stream {:?}", excerpt(&named)), error.to_string())
        };
        let submitted = match Batch::from_wire(batch).map_err(malformed) {
            Err(refusal) => Err(refusal),
            Ok(batch) if batch.incarnation == stream.config.incarnation => self.submit(caller, &stream, batch).await,
            Ok(_) => Err(admit::unknown_stream(&named)),
        };
        (Some(stream), submitted)
    }

    async fn submit(
        &self,
        caller: &Caller,
        stream: &StreamHandle,
        batch: Batch,
    ) -> Result<oneshot::Receiver<Outcome>, Refusal> {
        admit::check_batch(&stream.config, &batch)?;
        let records = batch.len();
        let permit = self.handle.budget.reserve(stream.queue, admit::cost(batch.body_bytes(), records))?;
        rate::enter(&caller.payers(&stream.rates, &self.connection.rates), Instant::now(), batch.body_bytes())?;
        Ok(self.handle.submit(stream.queue, Load::Batch(batch), records, permit).await)
    }

    fn reply(&self, id: u64, stream: Option<&StreamHandle>, outcome: Outcome) -> SendReply {
        let outcome = match outcome {
            Ok(stored) => send_reply::Outcome::Ack(Ack { partition: stored.partition, end_offset: stored.offset_end }),
            Err(refusal) => {
                match stream {
                    Some(stream) => stream.refused(&refusal, self.clock.now_ms()),
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
