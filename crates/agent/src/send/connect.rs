//! One connection to the gateway and the one call over it: found, taken, and found dead in time.

use std::path::{Path, PathBuf};
use std::time::Duration;

use serde::{Deserialize, Serialize};
use stream::limits;
use stream::wire::v1::gateway_client::GatewayClient;
use stream::wire::v1::{SendReply, SendRequest};
use tokio::sync::mpsc;
use tokio::time::timeout;
use tokio_stream::Stream;
use tokio_stream::wrappers::ReceiverStream;
use tonic::metadata::{Ascii, MetadataValue};
use tonic::transport::{Certificate, ClientTlsConfig, Endpoint, Identity};
use tonic::{Request, Status, Streaming};

/// How long a connection may take, and a call to be taken.
const CONNECT: Duration = Duration::from_secs(5);
/// How often a silent gateway is asked whether it is there, and how long it may take over the answer: together less than
/// the 20 s within which a dead one is to be found.
const PING_EVERY: Duration = Duration::from_secs(8);
const PING_WITHIN: Duration = Duration::from_secs(8);
/// Requests between the sender and the connection; HTTP/2 holds back by itself.
const REQUESTS_MAX: usize = 4;

/// Where the gateway is, and what is shown to it. The files are read for each connection, so that a new token or
/// certificate needs no restart.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Gateway {
    /// Its gRPC door: `http://host:port`, or `https://host:port`.
    pub url: String,
    /// The file that holds a write token's secret.
    #[serde(default)]
    pub token_file: Option<PathBuf>,
    /// The authority of its certificate (PEM); none: those that the system trusts.
    #[serde(default)]
    pub ca: Option<PathBuf>,
    /// This agent's certificate (PEM) and its private key.
    #[serde(default)]
    pub identity: Option<(PathBuf, PathBuf)>,
}

impl Gateway {
    /// A gateway to which nothing is shown.
    pub fn at(url: impl Into<String>) -> Self {
        Self { url: url.into(), ..Self::default() }
    }
}

/// Why there is no connection.
#[derive(Debug, thiserror::Error)]
pub enum ConnectError {
    /// The URL is none.
    #[error("{0:?} is not an address")]
    Address(String),
    /// A file cannot be read, or holds something else.
    #[error("{}: {cause}", .file.display())]
    File {
        /// The file.
        file: PathBuf,
        /// What is wrong with it.
        cause: String,
    },
    /// There is nobody, or nobody to be trusted.
    #[error("{}", root_cause(.0))]
    Transport(#[from] tonic::transport::Error),
    /// The gateway does not take the call.
    #[error("{}", .0.message())]
    Call(#[from] tonic::Status),
    /// The gateway is slow.
    #[error("the gateway did not take the call within {} s", CONNECT.as_secs())]
    Slow,
}

/// How a sender comes to its call: over the network, or, in the simulation, over pipes that a seed cuts.
pub trait Connect: Send {
    /// The answers of a call.
    type Replies: Stream<Item = Result<SendReply, Status>> + Unpin + Send;

    /// Opens a connection and the call.
    fn connect(
        &mut self,
    ) -> impl Future<Output = Result<(mpsc::Sender<SendRequest>, Self::Replies), ConnectError>> + Send;
}

impl Connect for Gateway {
    type Replies = Streaming<SendReply>;

    async fn connect(&mut self) -> Result<(mpsc::Sender<SendRequest>, Self::Replies), ConnectError> {
        connect(self).await
    }
}

async fn connect(to: &Gateway) -> Result<(mpsc::Sender<SendRequest>, Streaming<SendReply>), ConnectError> {
    let endpoint = Endpoint::from_shared(to.url.clone()).map_err(|_| ConnectError::Address(to.url.clone()))?;
    let endpoint = if to.url.starts_with("https:") { endpoint.tls_config(tls(to).await?)? } else { endpoint };
    let endpoint = endpoint
        .connect_timeout(CONNECT)
        .tcp_nodelay(true)
        .http2_keep_alive_interval(PING_EVERY)
        .keep_alive_timeout(PING_WITHIN)
        .initial_stream_window_size(limits::WORKER_OUTSTANDING_BYTES_MAX as u32);
    let channel = endpoint.connect().await?;
    let (requests, queue) = mpsc::channel(REQUESTS_MAX);
    let mut request = Request::new(ReceiverStream::new(queue));
    if let Some(file) = &to.token_file {
        request.metadata_mut().insert("authorization", authorization(file).await?);
    }
    let mut client = GatewayClient::new(channel).max_decoding_message_size(limits::MESSAGE_BYTES_MAX);
    let call = timeout(CONNECT, client.send(request)).await.map_err(|_| ConnectError::Slow)?;
    Ok((requests, call?.into_inner()))
}

async fn tls(to: &Gateway) -> Result<ClientTlsConfig, ConnectError> {
    let mut tls = ClientTlsConfig::new();
    tls = match &to.ca {
        Some(file) => tls.ca_certificate(Certificate::from_pem(read(file).await?)),
        None => tls.with_native_roots(),
    };
    if let Some((certificate, key)) = &to.identity {
        tls = tls.identity(Identity::from_pem(read(certificate).await?, read(key).await?));
    }
    Ok(tls)
}

async fn authorization(file: &Path) -> Result<MetadataValue<Ascii>, ConnectError> {
    let secret = read(file).await?;
    let wrong = || ConnectError::File { file: file.to_owned(), cause: "there is no token in it".to_owned() };
    let secret = str::from_utf8(&secret).map(str::trim).ok().filter(|secret| !secret.is_empty()).ok_or_else(wrong)?;
    let mut shown: MetadataValue<Ascii> = format!("Bearer {secret}").parse().map_err(|_| wrong())?;
    shown.set_sensitive(true);
    Ok(shown)
}

async fn read(file: &Path) -> Result<Vec<u8>, ConnectError> {
    let cause = |error: std::io::Error| ConnectError::File { file: file.to_owned(), cause: error.to_string() };
    tokio::fs::read(file).await.map_err(cause)
}

/// The innermost error: what a person needs to know.
fn root_cause(error: &dyn std::error::Error) -> String {
    let mut cause = error;
    while let Some(source) = cause.source() {
        cause = source;
    }
    cause.to_string()
}
