//! The gateway as its clients see it: whole, over loopback, with a journal and an admin in memory that can be told to
//! fail.

mod journal;
mod admin;
mod http;
mod grpc;
mod access;
mod tls;
mod isolation;
mod keyed;
mod reports;
mod embedded;

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use ::http::{Method, Request, StatusCode};
use bytes::Bytes;
use http_body_util::{BodyExt, Full};
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::TokioExecutor;
use stream::clock::HeldClock;
use stream::config::{Snapshot, StreamConfig, StreamSpec};
use stream::control::AdminClient;
use stream::{Incarnation, StreamId};
use tokio::net::TcpListener;
use tokio::sync::{oneshot, watch};
use tokio::task::JoinHandle;

use crate::{GatewaySettings, ServeError, serve_with};
use admin::FakeAdmin;
use journal::{FakeJournal, FakeWriter};

/// A running gateway.
struct Gateway {
    http: SocketAddr,
    grpc: SocketAddr,
    journal: FakeJournal,
    admin: FakeAdmin,
    clock: HeldClock,
    config: watch::Sender<Arc<Snapshot>>,
    client: Client<HttpConnector, Full<Bytes>>,
    stop: oneshot::Sender<()>,
    ended: JoinHandle<Result<(), ServeError>>,
}

/// An answer over HTTP.
#[derive(Debug)]
struct Answer {
    status: StatusCode,
    allow: Option<String>,
    retry_after: Option<u64>,
    json: serde_json::Value,
}

fn id(name: &str) -> StreamId {
    format!("test.gateway.{name}").parse().unwrap()
}

pub(crate) fn spec(name: &str) -> StreamConfig {
    StreamConfig { incarnation: Incarnation(7), version: 1, spec: StreamSpec::new(id(name)) }
}

pub(crate) fn snapshot(version: u64, streams: impl IntoIterator<Item = StreamConfig>) -> Arc<Snapshot> {
    let streams: BTreeMap<_, _> = streams.into_iter().map(|config| (config.spec.id.clone(), config)).collect();
    Arc::new(Snapshot { version, streams, ..Snapshot::default() })
}

/// A gateway over the streams `a` and `b`, with settings for impatient tests.
async fn gateway() -> Gateway {
    gateway_with([spec("a"), spec("b")], |_| ()).await
}

async fn gateway_with(
    streams: impl IntoIterator<Item = StreamConfig>,
    change: impl FnOnce(&mut GatewaySettings),
) -> Gateway {
    let clock = HeldClock::at(1_700_000_000_000);
    let (admin, admin_url) = FakeAdmin::start().await;
    let mut settings = GatewaySettings::new("gateway-1", "nowhere:1", AdminClient::new(admin_url));
    settings.report_every = Duration::from_millis(10);
    settings.clock = Arc::new(clock.clone());
    settings.batch_deadline = Duration::from_secs(2);
    change(&mut settings);
    let journal = FakeJournal::default();
    let writers: Vec<FakeWriter> = (0..settings.producers).map(|_| journal.writer()).collect();
    let (http, grpc) = (listener().await, listener().await);
    let (http_at, grpc_at) = (http.local_addr().unwrap(), grpc.local_addr().unwrap());
    let (config, watch) = watch::channel(snapshot(1, streams));
    let (stop, stopped) = oneshot::channel();
    let ended = tokio::spawn(serve_with(settings, writers, http, grpc, watch, async move { drop(stopped.await) }));
    let client = Client::builder(TokioExecutor::new()).build_http();
    Gateway { http: http_at, grpc: grpc_at, journal, admin, clock, config, client, stop, ended }
}

async fn listener() -> TcpListener {
    TcpListener::bind("127.0.0.1:0").await.unwrap()
}

impl Gateway {
    async fn call(&self, method: Method, path: &str, headers: &[(&str, &str)], body: impl Into<Bytes>) -> Answer {
        let mut request = Request::builder().method(method).uri(format!("http://{}{path}", self.http));
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        let response = self.client.request(request.body(Full::new(body.into())).unwrap()).await.unwrap();
        let (head, body) = response.into_parts();
        let bytes = body.collect().await.unwrap().to_bytes();
        let allow = head.headers.get("allow").map(|methods| methods.to_str().unwrap().to_owned());
        let retry_after = head.headers.get("retry-after").map(|value| value.to_str().unwrap().parse().unwrap());
        Answer { status: head.status, allow, retry_after, json: serde_json::from_slice(&bytes).unwrap_or_default() }
    }

    async fn post(&self, name: &str, headers: &[(&str, &str)], body: impl Into<Bytes>) -> Answer {
        self.call(Method::POST, &format!("/v1/streams/{}/records", id(name)), headers, body).await
    }

    async fn stop(self) {
        let _stopped = self.stop.send(());
        self.ended.await.unwrap().unwrap();
    }
}

/// Waits until `done`, within a deadline that only a broken test reaches.
async fn until(what: &str, mut done: impl FnMut() -> bool) {
    let deadline = tokio::time::Instant::now() + Duration::from_secs(10);
    while !done() {
        assert!(tokio::time::Instant::now() < deadline, "never: {what}");
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
}
