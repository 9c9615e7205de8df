//! The client of a journal process: appends multiplexed over one call, readings that resume by themselves, bounds, keep.
//!
//! It connects when first used and again after each loss, with back-off. Bounded: the batches handed in and not yet
//! answered hold at most [`limits::PRODUCER_OUTSTANDING_BYTES_MAX`]; further appends wait. Clones share the connection,
//! the call and that limit, so N producers are N clients.

mod append;
mod read;

use std::sync::Arc;
use std::time::Duration;

use stream::Batch;
use stream::config::{Compression, Snapshot, StreamConfig};
use stream::facts::{Place, Position};
use stream::limits;
use stream::wire::v1::journal_client::JournalClient as WireClient;
use stream::wire::{Refusal, RefusalReason, message_bytes, v1};
use tokio::sync::{Semaphore, mpsc, oneshot};
use tonic::transport::{Channel, Endpoint};

use crate::address::AddressError;
use crate::seam::{Appended, Bounds, Capabilities, Journal, KeptPosition, Reader, Topic, here};
use append::Command;

/// How long connecting may take before it is tried again.
const CONNECT: Duration = Duration::from_secs(2);
/// How often a silent connection is probed, and how long the answer may take: a peer that hangs counts as lost.
const PROBE: Duration = Duration::from_secs(5);
/// How long bounds and keep may take.
const CALL: Duration = Duration::from_secs(10);
/// What a batch counts at least towards the limit on bytes, so that their number is bounded too.
const APPEND_BYTES_MIN: usize = 1024;
/// Appends under way at most.
const APPENDS_MAX: usize = limits::PRODUCER_OUTSTANDING_BYTES_MAX / APPEND_BYTES_MIN;
/// What the id adds to a request.
const ID_BYTES_MAX: usize = 11;
/// HTTP/2 windows: large enough that a reply or batch of 1 MiB needs no round trip on its way.
const WINDOW_BYTES: u32 = 4 << 20;

/// A client of the journal process. Cheap to clone; needs a tokio runtime where it is made.
#[derive(Clone, Debug)]
pub struct JournalClient {
    channel: Channel,
    commands: mpsc::Sender<Command>,
    outstanding: Arc<Semaphore>,
}

impl JournalClient {
    /// A client of the journal at `addr` (`host:port`). It connects when it is first used.
    pub fn connect(addr: impl Into<String>) -> Result<Self, AddressError> {
        let addr = addr.into();
        let endpoint = Endpoint::from_shared(format!("http://{addr}")).map_err(|_| AddressError::new(&addr))?;
        let channel = endpoint
            .connect_timeout(CONNECT)
            .http2_keep_alive_interval(PROBE)
            .keep_alive_timeout(PROBE)
            .keep_alive_while_idle(true)
            .initial_stream_window_size(WINDOW_BYTES)
            .initial_connection_window_size(WINDOW_BYTES)
            .tcp_nodelay(true)
            .connect_lazy();
        let (commands, receiver) = mpsc::channel(APPENDS_MAX);
        tokio::spawn(append::run(wire(&channel), receiver));
        Ok(Self { channel, commands, outstanding: Arc::new(Semaphore::new(limits::PRODUCER_OUTSTANDING_BYTES_MAX)) })
    }
}

/// A caller of the generated client with this house's message limits.
fn wire(channel: &Channel) -> WireClient<Channel> {
    // A reply holds entries of 1 MiB in all, or one entry and its wrapping.
    WireClient::new(channel.clone())
        .max_decoding_message_size(2 * limits::MESSAGE_BYTES_MAX)
        .max_encoding_message_size(limits::MESSAGE_BYTES_MAX)
}

/// The refusal of a caller whose journal does not answer.
fn away(message: impl std::fmt::Display) -> Refusal {
    let message = format!("the journal does not answer ({message}); try again");
    Refusal::new(RefusalReason::Unavailable, "journal", message)
}

/// A failed call as a refusal.
fn refusal(status: &tonic::Status) -> Refusal {
    match status.code() {
        tonic::Code::NotFound => Refusal::new(RefusalReason::UnknownStream, "journal", status.message()),
        tonic::Code::InvalidArgument => Refusal::new(RefusalReason::Malformed, "journal", status.message()),
        _ => away(status.message()),
    }
}

/// A call with a deadline.
async fn within<T>(call: impl Future<Output = Result<tonic::Response<T>, tonic::Status>> + Send) -> Result<T, Refusal> {
    match tokio::time::timeout(CALL, call).await {
        Ok(Ok(response)) => Ok(response.into_inner()),
        Ok(Err(status)) => Err(refusal(&status)),
        Err(_) => Err(away(format!("no answer within {} s", CALL.as_secs()))),
    }
}

impl Journal for JournalClient {
    fn capabilities(&self) -> Capabilities {
        Capabilities { retention_waits: true, packs: false }
    }

    fn places(&self, _: &StreamConfig) -> Vec<Place> {
        vec![here(0)]
    }

    async fn prepare(&self, _: &Snapshot) -> Result<(), Refusal> {
        // The journal's process watches the configuration itself.
        Ok(())
    }

    async fn append(&self, topic: &str, place: Place, batch: &Batch, _: Compression) -> Result<Appended, Refusal> {
        let batch = batch.to_wire();
        let bytes = message_bytes(&batch).clamp(APPEND_BYTES_MIN, limits::PRODUCER_OUTSTANDING_BYTES_MAX);
        let closed = || away("its client is shutting down");
        let room = Arc::clone(&self.outstanding).acquire_many_owned(bytes as u32).await.map_err(|_| closed())?;
        let (reply, answer) = oneshot::channel();
        let request =
            v1::AppendRequest { id: 0, topic: topic.to_owned(), partition: place.partition, batch: Some(batch) };
        if message_bytes(&request) + ID_BYTES_MAX > limits::MESSAGE_BYTES_MAX {
            // Sent all the same it would end the call, and with it every other append.
            let message = format!("the message would be longer than {} bytes; split it", limits::MESSAGE_BYTES_MAX);
            return Err(Refusal::new(RefusalReason::TooLarge, format!("topic {topic}"), message));
        }
        self.commands.send(Command { request, reply, room }).await.map_err(|_| closed())?;
        answer.await.map_err(|_| closed())?
    }

    fn read(&self, topic: &Topic, from: Position) -> Reader {
        let request =
            v1::ReadRequest { topic: topic.key.clone(), partition: from.place.partition, offset: from.offset };
        read::start(wire(&self.channel), request)
    }

    async fn bounds(&self, topics: &[String]) -> Result<Vec<Bounds>, Refusal> {
        let mut client = wire(&self.channel);
        let reply = within(client.bounds(v1::BoundsRequest { topics: topics.to_vec() })).await?;
        Ok(reply.bounds.into_iter().map(Bounds::from).collect())
    }

    async fn keep(&self, position: KeptPosition) -> Result<(), Refusal> {
        let mut client = wire(&self.channel);
        within(client.keep(v1::KeepRequest::from(position))).await.map(drop)
    }
}
