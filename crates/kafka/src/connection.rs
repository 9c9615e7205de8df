//! One connection to one broker: frames out, frames in, in order, each answer to whoever asked.
//!
//! States: *open* (requests go out at once; a broker answers one connection's requests in their order), *lost* (every
//! call fails; nobody reconnects here: the owner opens another). A call that is given up leaves its place in the order,
//! so its late answer is passed over.
//!
//! Bounded: the requests under way by its owner, an answer's length by [`ANSWER_BYTES_MAX`].

use std::collections::{HashMap, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use bytes::{BufMut, Bytes, BytesMut};
use kafka_protocol::messages::{ApiVersionsRequest, ResponseHeader};
use kafka_protocol::messages::{RequestHeader, api_versions_response::ApiVersion};
use kafka_protocol::protocol::{Decodable, HeaderVersion, StrBytes, encode_request_header_into_buffer};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::sync::{mpsc, oneshot};
use tokio::task::JoinSet;

use crate::call::Call;
use crate::error::KafkaError;

/// How long connecting, and the first exchange, may take.
const CONNECT: Duration = Duration::from_secs(3);
/// Longest answer taken: a fetch of several record batches at their limit.
const ANSWER_BYTES_MAX: usize = 64 << 20;
/// Frames that wait for the socket.
const FRAMES_MAX: usize = 64;
/// As whom we introduce ourselves.
const CLIENT: &str = "isolane";

/// An open connection. Cheap to clone; it ends with its last clone.
#[derive(Clone, Debug)]
pub struct Connection {
    broker: Arc<str>,
    shared: Arc<Shared>,
    versions: Arc<HashMap<i16, ApiVersion>>,
}

#[derive(Debug)]
struct Shared {
    frames: mpsc::Sender<Bytes>,
    order: Arc<Mutex<Order>>,
    /// Reader and writer; aborted when the last clone is gone.
    _tasks: JoinSet<()>,
}

/// Whoever waits for an answer, in the order of their requests.
#[derive(Debug, Default)]
struct Order {
    waiting: VecDeque<(i32, oneshot::Sender<Result<Bytes, KafkaError>>)>,
    next: i32,
    lost: Option<KafkaError>,
}

fn lock(order: &Mutex<Order>) -> MutexGuard<'_, Order> {
    order.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Order {
    fn lose(&mut self, error: KafkaError) {
        self.waiting.drain(..).for_each(|(_, waiting)| drop(waiting.send(Err(error.clone()))));
        self.lost.get_or_insert(error);
    }
}

impl Connection {
    /// Opens a connection to `broker` (`host:port`) and asks which versions it speaks.
    pub async fn open(broker: &str) -> Result<Self, KafkaError> {
        let failed = |cause: String| KafkaError::Connect { broker: broker.to_owned(), cause };
        let socket = tokio::time::timeout(CONNECT, TcpStream::connect(broker));
        let socket = socket.await.map_err(|_| failed("no answer".to_owned()))?.map_err(|e| failed(e.to_string()))?;
        socket.set_nodelay(true).map_err(|error| failed(error.to_string()))?;
        let mut connection = Self::start(broker, socket);
        let asked = ApiVersionsRequest::default()
            .with_client_software_name(StrBytes::from_static_str(CLIENT))
            .with_client_software_version(StrBytes::from_static_str(env!("CARGO_PKG_VERSION")));
        let answer = connection.call_at(&asked, ApiVersionsRequest::NEWEST, CONNECT).await?;
        KafkaError::check(answer.error_code, || "API versions".to_owned())?;
        connection.versions = Arc::new(answer.api_keys.into_iter().map(|key| (key.api_key, key)).collect());
        Ok(connection)
    }

    fn start(broker: &str, socket: TcpStream) -> Self {
        let broker: Arc<str> = broker.into();
        let (reader, writer) = socket.into_split();
        let (frames, queued) = mpsc::channel(FRAMES_MAX);
        let order = Arc::new(Mutex::new(Order::default()));
        let mut tasks = JoinSet::new();
        tasks.spawn(write(Arc::clone(&broker), writer, queued, Arc::clone(&order)));
        tasks.spawn(read(Arc::clone(&broker), reader, Arc::clone(&order)));
        Self { broker, shared: Arc::new(Shared { frames, order, _tasks: tasks }), versions: Arc::default() }
    }

    /// The broker's address.
    pub fn broker(&self) -> &str {
        &self.broker
    }

    /// Whether nothing can be asked any more.
    pub fn is_lost(&self) -> bool {
        lock(&self.shared.order).lost.is_some()
    }

    /// The version that both sides speak; an error if there is none.
    pub fn version<C: Call>(&self) -> Result<i16, KafkaError> {
        let theirs = self.versions.get(&(C::KEY as i16));
        let newest = theirs.map_or(-1, |theirs| theirs.max_version.min(C::NEWEST));
        let oldest = theirs.map_or(0, |theirs| theirs.min_version.max(C::VERSIONS.min));
        if newest >= oldest { Ok(newest) } else { Err(self.nonsense(format!("no common version of {}", C::NAME))) }
    }

    /// Asks and waits for the answer, `within` at the longest.
    pub async fn call<C: Call>(&self, request: &C, within: Duration) -> Result<C::Answer, KafkaError> {
        self.call_at(request, self.version::<C>()?, within).await
    }

    /// [`Connection::call`] in a version that the caller has chosen because the request depends on it.
    pub async fn call_at<C: Call>(&self, request: &C, version: i16, within: Duration) -> Result<C::Answer, KafkaError> {
        let silent = |_| KafkaError::Silent { broker: self.broker.to_string(), what: C::NAME, within };
        tokio::time::timeout(within, self.exchange(request, version)).await.map_err(silent)?
    }

    async fn exchange<C: Call>(&self, request: &C, version: i16) -> Result<C::Answer, KafkaError> {
        // The place in the order and the place in the queue must be the same, so room is taken first.
        let room = self.shared.frames.reserve().await.map_err(|_| self.lost())?;
        let (sender, answer) = oneshot::channel();
        {
            let mut order = lock(&self.shared.order);
            if let Some(lost) = &order.lost {
                return Err(lost.clone());
            }
            let correlation = order.next;
            let frame = frame(request, version, correlation).map_err(|error| self.nonsense(error.to_string()))?;
            order.next = order.next.wrapping_add(1);
            order.waiting.push_back((correlation, sender));
            room.send(frame);
        }
        let mut bytes = answer.await.map_err(|_| self.lost())??;
        let header = ResponseHeader::decode(&mut bytes, C::Answer::header_version(version));
        let answer = header.and_then(|_| C::Answer::decode(&mut bytes, version));
        answer.map_err(|error| self.nonsense(format!("{}: {error}", C::NAME)))
    }

    fn lost(&self) -> KafkaError {
        lock(&self.shared.order).lost.clone().unwrap_or(KafkaError::Closed)
    }

    fn nonsense(&self, cause: String) -> KafkaError {
        KafkaError::Protocol { broker: self.broker.to_string(), cause }
    }
}

/// A request as it goes over the wire.
fn frame<C: Call>(
    request: &C,
    version: i16,
    correlation: i32,
) -> Result<Bytes, Box<dyn std::error::Error + Send + Sync>> {
    let header = RequestHeader::default()
        .with_request_api_key(C::KEY as i16)
        .with_request_api_version(version)
        .with_correlation_id(correlation)
        .with_client_id(Some(StrBytes::from_static_str(CLIENT)));
    let mut frame = BytesMut::with_capacity(64 + request.compute_size(version)?);
    frame.put_i32(0);
    encode_request_header_into_buffer(&mut frame, &header)?;
    request.encode(&mut frame, version)?;
    let length = i32::try_from(frame.len() - 4)?;
    frame[..4].copy_from_slice(&length.to_be_bytes());
    Ok(frame.freeze())
}

async fn write(
    broker: Arc<str>,
    mut socket: OwnedWriteHalf,
    mut frames: mpsc::Receiver<Bytes>,
    order: Arc<Mutex<Order>>,
) {
    while let Some(frame) = frames.recv().await {
        if let Err(error) = socket.write_all(&frame).await {
            lock(&order).lose(KafkaError::Lost { broker: broker.to_string(), cause: error.to_string() });
            return;
        }
    }
}

async fn read(broker: Arc<str>, mut socket: OwnedReadHalf, order: Arc<Mutex<Order>>) {
    let cause = loop {
        let bytes = match next_frame(&mut socket).await {
            Ok(bytes) => bytes,
            Err(error) => break error.to_string(),
        };
        let Some(correlation) = bytes.first_chunk::<4>().map(|id| i32::from_be_bytes(*id)) else {
            break "an answer without a number".to_owned();
        };
        let Some((expected, waiting)) = lock(&order).waiting.pop_front() else {
            break "an answer to nothing".to_owned();
        };
        if correlation != expected {
            break format!("answer {correlation} came where {expected} was due");
        }
        // Whoever asked may have given up.
        drop(waiting.send(Ok(bytes)));
    };
    lock(&order).lose(KafkaError::Lost { broker: broker.to_string(), cause });
}

async fn next_frame(socket: &mut OwnedReadHalf) -> std::io::Result<Bytes> {
    let length = socket.read_i32().await?;
    let length = usize::try_from(length).ok().filter(|length| *length <= ANSWER_BYTES_MAX);
    let length = length.ok_or_else(|| std::io::Error::other("an answer of an impossible length"))?;
    let mut bytes = BytesMut::with_capacity(length);
    while bytes.len() < length {
        if (&mut *socket).take((length - bytes.len()) as u64).read_buf(&mut bytes).await? == 0 {
            return Err(std::io::ErrorKind::UnexpectedEof.into());
        }
    }
    Ok(bytes.freeze())
}
