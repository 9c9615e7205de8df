//! The limits of a gateway and a journal: the same doors (hyper, tonic), whose only work is to append what comes (to the
//! bare log, or to Kafka) and to answer when it is durable.

use anyhow::Result;
use bytes::Bytes;
use http::{Request, Response, StatusCode};
use http_body_util::{BodyExt, Empty};
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use stream::limits::MESSAGE_BYTES_MAX;
use stream::wire::v1::gateway_server::{Gateway, GatewayServer};
use stream::wire::v1::{Ack, SendReply, SendRequest, send_reply};
use tokio::net::TcpListener;
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::transport::Server;
use tonic::transport::server::TcpIncoming;
use tonic::{Status, Streaming};

/// What a door has received of one request.
pub struct Received {
    /// The stream that it names.
    pub stream: String,
    /// All records' bytes.
    pub bodies: Bytes,
    /// The length of each record, where the door is told; else each ends with a newline.
    pub lengths: Option<Vec<u32>>,
}

/// Where a door appends.
pub trait Append: Clone + Send + Sync + 'static {
    /// Appends; returns once it is durable.
    fn append(&self, received: Received) -> impl Future<Output = Result<()>> + Send;
}

/// Appends the body of every request, and answers 200.
pub async fn http(listener: TcpListener, log: impl Append) -> Result<()> {
    loop {
        let (connection, _) = listener.accept().await?;
        connection.set_nodelay(true)?;
        let log = log.clone();
        let service = service_fn(move |request| take(request, log.clone()));
        tokio::spawn(http1::Builder::new().serve_connection(TokioIo::new(connection), service));
    }
}

async fn take(request: Request<Incoming>, log: impl Append) -> Result<Response<Empty<Bytes>>> {
    // `/v1/streams/ID/records`
    let stream = request.uri().path().split('/').nth(3).unwrap_or_default().to_owned();
    let bodies = request.into_body().collect().await?.to_bytes();
    let mut answer = Response::new(Empty::new());
    if let Err(error) = log.append(Received { stream, bodies, lengths: None }).await {
        eprintln!("   the limit refuses: {error:#}");
        *answer.status_mut() = StatusCode::SERVICE_UNAVAILABLE;
    }
    Ok(answer)
}

/// Appends the bodies of every batch, and acknowledges it.
pub async fn grpc(listener: TcpListener, log: impl Append) -> Result<()> {
    let door = GatewayServer::new(Door { log }).max_decoding_message_size(MESSAGE_BYTES_MAX);
    let incoming = TcpIncoming::from(listener).with_nodelay(Some(true));
    Ok(Server::builder().add_service(door).serve_with_incoming(incoming).await?)
}

struct Door<A> {
    log: A,
}

#[tonic::async_trait]
impl<A: Append> Gateway for Door<A> {
    type SendStream = ReceiverStream<Result<SendReply, Status>>;

    async fn send(
        &self,
        request: tonic::Request<Streaming<SendRequest>>,
    ) -> Result<tonic::Response<Self::SendStream>, Status> {
        let (replies, reader) = mpsc::channel(1);
        let (log, mut requests) = (self.log.clone(), request.into_inner());
        tokio::spawn(async move {
            while let Ok(Some(SendRequest { id, batch, .. })) = requests.message().await {
                let batch = batch.unwrap_or_default();
                let received =
                    Received { stream: batch.stream, bodies: batch.bodies, lengths: Some(batch.body_lengths) };
                let appended = log.append(received).await;
                let outcome = appended.ok().map(|()| send_reply::Outcome::Ack(Ack::default()));
                if replies.send(Ok(SendReply { id, outcome, credit_bytes: 0 })).await.is_err() {
                    return;
                }
            }
        });
        Ok(tonic::Response::new(ReceiverStream::new(reader)))
    }
}
