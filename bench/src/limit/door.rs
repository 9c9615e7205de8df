//! The limits of a gateway and a journal: the same doors (hyper, tonic), whose only work is to append what comes to the
//! bare log and to answer when it is durable.

use anyhow::Result;
use bytes::Bytes;
use http::{Request, Response};
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

use super::log::BareLog;

/// Appends the body of every request, and answers 200.
pub async fn http(listener: TcpListener, log: BareLog) -> Result<()> {
    loop {
        let (connection, _) = listener.accept().await?;
        connection.set_nodelay(true)?;
        let log = log.clone();
        let service = service_fn(move |request| take(request, log.clone()));
        tokio::spawn(http1::Builder::new().serve_connection(TokioIo::new(connection), service));
    }
}

async fn take(request: Request<Incoming>, log: BareLog) -> Result<Response<Empty<Bytes>>> {
    let body = request.into_body().collect().await?.to_bytes();
    log.append(body).await?;
    Ok(Response::new(Empty::new()))
}

/// Appends the bodies of every batch, and acknowledges it.
pub async fn grpc(listener: TcpListener, log: BareLog) -> Result<()> {
    let door = GatewayServer::new(Door { log }).max_decoding_message_size(MESSAGE_BYTES_MAX);
    let incoming = TcpIncoming::from(listener).with_nodelay(Some(true));
    Ok(Server::builder().add_service(door).serve_with_incoming(incoming).await?)
}

struct Door {
    log: BareLog,
}

#[tonic::async_trait]
impl Gateway for Door {
    type SendStream = ReceiverStream<Result<SendReply, Status>>;

    async fn send(
        &self,
        request: tonic::Request<Streaming<SendRequest>>,
    ) -> Result<tonic::Response<Self::SendStream>, Status> {
        let (replies, reader) = mpsc::channel(1);
        let (log, mut requests) = (self.log.clone(), request.into_inner());
        tokio::spawn(async move {
            while let Ok(Some(SendRequest { id, batch })) = requests.message().await {
                let appended = log.append(batch.unwrap_or_default().bodies).await;
                let outcome = appended.ok().map(|()| send_reply::Outcome::Ack(Ack::default()));
                if replies.send(Ok(SendReply { id, outcome, credit_bytes: 0 })).await.is_err() {
                    return;
                }
            }
        });
        Ok(tonic::Response::new(ReceiverStream::new(reader)))
    }
}
