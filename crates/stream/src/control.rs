//! How a role speaks with admin: JSON over HTTP. The configuration is watched by a long poll and kept as a last good
//! copy on disk, so that a role goes on, and starts, while admin is away; a role without any copy refuses to start.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::{Method, Request, StatusCode, header};
use http_body_util::{BodyExt, Full, Limited};
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::TokioExecutor;
use serde::Serialize;
use serde::de::DeserializeOwned;
use tokio::sync::watch;
use tokio::time::timeout;
use tracing::{info, warn};

use crate::config::Snapshot;
use crate::disk::{SharedDisk, read_all, write_atomically};
use crate::retry::Backoff;

/// Longest answer taken from admin: 10,000 streams with long SQL.
const ANSWER_BYTES_MAX: usize = 256 << 20;
/// How long admin may hold a long poll.
const POLL: Duration = Duration::from_secs(20);
/// How long any other call may take.
const CALL: Duration = Duration::from_secs(10);

/// A client of the admin API.
#[derive(Clone)]
pub struct AdminClient {
    base: String,
    http: Client<HttpConnector, Full<Bytes>>,
}

/// Why a call to admin failed, by what the caller must do.
#[derive(Debug, thiserror::Error)]
pub enum ControlError {
    /// Try again later.
    #[error("admin at {base} does not answer: {cause}")]
    Away {
        /// Its URL.
        base: String,
        /// What happened.
        cause: String,
    },
    /// Change the request.
    #[error("{message}")]
    Refused {
        /// The HTTP status.
        status: u16,
        /// Admin's own words.
        message: String,
    },
    /// The two sides are of different versions.
    #[error("admin at {base} answered what this version does not understand: {cause}")]
    Foreign {
        /// Its URL.
        base: String,
        /// What was not understood.
        cause: String,
    },
    /// Neither admin nor a last good copy.
    #[error("no configuration: {away}; and there is no last good copy in {}", .copy.display())]
    NoCopy {
        /// Why admin could not be asked.
        away: Box<ControlError>,
        /// Where the copy would be.
        copy: PathBuf,
    },
}

/// The body of a refusal by the admin API.
#[derive(Debug, Serialize, serde::Deserialize)]
pub struct ApiError {
    /// What happened and what to do.
    pub error: String,
}

impl AdminClient {
    /// A client of the admin at `base`, e.g. `http://127.0.0.1:7700`.
    pub fn new(base: impl Into<String>) -> Self {
        let http = Client::builder(TokioExecutor::new()).build_http();
        Self { base: base.into().trim_end_matches('/').to_owned(), http }
    }

    /// Asks for `path` (with its leading slash).
    pub async fn get<T: DeserializeOwned>(&self, path: &str) -> Result<T, ControlError> {
        self.call(Method::GET, path, Bytes::new(), CALL).await
    }

    /// Sends `body` as JSON.
    pub async fn send<T: DeserializeOwned>(
        &self,
        method: Method,
        path: &str,
        body: &impl Serialize,
    ) -> Result<T, ControlError> {
        let body = serde_json::to_vec(body).map_err(|error| self.foreign(&error))?;
        self.call(method, path, body.into(), CALL).await
    }

    async fn call<T: DeserializeOwned>(
        &self,
        method: Method,
        path: &str,
        body: Bytes,
        within: Duration,
    ) -> Result<T, ControlError> {
        let request = Request::builder()
            .method(method)
            .uri(format!("{}{path}", self.base))
            .header(header::CONTENT_TYPE, "application/json")
            .body(Full::new(body))
            .map_err(|error| self.foreign(&error))?;
        let (status, bytes) = match timeout(within, self.exchange(request)).await {
            Ok(answer) => answer?,
            Err(_) => return Err(self.away(&format!("no answer within {} s", within.as_secs()))),
        };
        if status.is_success() {
            return serde_json::from_slice(if bytes.is_empty() { b"null" } else { &bytes })
                .map_err(|e| self.foreign(&e));
        }
        let message = match serde_json::from_slice::<ApiError>(&bytes) {
            Ok(refusal) => refusal.error,
            Err(_) => format!("admin answered {status}"),
        };
        Err(ControlError::Refused { status: status.as_u16(), message })
    }

    async fn exchange(&self, request: Request<Full<Bytes>>) -> Result<(StatusCode, Bytes), ControlError> {
        let response = self.http.request(request).await.map_err(|error| self.away(&root_cause(&error)))?;
        let status = response.status();
        let body = Limited::new(response.into_body(), ANSWER_BYTES_MAX).collect().await;
        Ok((status, body.map_err(|error| self.away(&error.to_string()))?.to_bytes()))
    }

    fn away(&self, cause: &str) -> ControlError {
        ControlError::Away { base: self.base.clone(), cause: cause.to_owned() }
    }

    fn foreign(&self, cause: &dyn std::error::Error) -> ControlError {
        ControlError::Foreign { base: self.base.clone(), cause: cause.to_string() }
    }

    async fn poll(&self, after: u64, wait: Duration) -> Result<Snapshot, ControlError> {
        let path = format!("/api/v1/config?after={after}&wait_ms={}", wait.as_millis());
        self.call(Method::GET, &path, Bytes::new(), wait + CALL).await
    }
}

/// The innermost error: what a person needs to know.
fn root_cause(error: &dyn std::error::Error) -> String {
    let mut cause = error;
    while let Some(source) = cause.source() {
        cause = source;
    }
    cause.to_string()
}

/// The configuration as it changes.
pub type ConfigWatch = watch::Receiver<Arc<Snapshot>>;

/// Starts watching the configuration. `copy` is the file of the last good copy. Returns once there is a configuration:
/// admin's, or else the copy. The watching task ends when every receiver is gone.
pub async fn watch_config(admin: AdminClient, disk: SharedDisk, copy: PathBuf) -> Result<ConfigWatch, ControlError> {
    let first = match admin.poll(0, Duration::ZERO).await {
        Ok(snapshot) => {
            keep(&disk, &copy, &snapshot);
            snapshot
        }
        Err(away) => match kept(&disk, &copy) {
            Some(snapshot) => {
                warn!(%away, version = snapshot.version, "going on with the last good copy of the configuration");
                snapshot
            }
            None => return Err(ControlError::NoCopy { away: Box::new(away), copy }),
        },
    };
    let (sender, receiver) = watch::channel(Arc::new(first));
    tokio::spawn(follow(admin, disk, copy, sender));
    Ok(receiver)
}

async fn follow(admin: AdminClient, disk: SharedDisk, copy: PathBuf, sender: watch::Sender<Arc<Snapshot>>) {
    let mut backoff = Backoff::default();
    while !sender.is_closed() {
        let known = sender.borrow().version;
        match admin.poll(known, POLL).await {
            Ok(snapshot) if snapshot.version != known => {
                info!(version = snapshot.version, streams = snapshot.streams.len(), "configuration changed");
                keep(&disk, &copy, &snapshot);
                sender.send_replace(Arc::new(snapshot));
                backoff.reset();
            }
            Ok(_) => backoff.reset(),
            Err(error) => {
                let wait = backoff.next_wait(Duration::from_millis(50), &mut rand::rng()).min(Duration::from_secs(1));
                warn!(%error, "cannot watch the configuration; trying again");
                tokio::time::sleep(wait).await;
            }
        }
    }
}

fn keep(disk: &SharedDisk, copy: &std::path::Path, snapshot: &Snapshot) {
    let written = serde_json::to_vec(snapshot)
        .map_err(std::io::Error::other)
        .and_then(|bytes| write_atomically(disk.as_ref(), copy, &bytes, |_| ()));
    if let Err(error) = written {
        warn!(%error, copy = %copy.display(), "cannot keep the last good copy of the configuration");
    }
}

fn kept(disk: &SharedDisk, copy: &std::path::Path) -> Option<Snapshot> {
    let bytes = read_all(disk.as_ref(), copy).ok()?;
    serde_json::from_slice(&bytes)
        .map_err(|error| warn!(%error, copy = %copy.display(), "the last good copy is damaged"))
        .ok()
}
