//! The gateway before the embedded journal itself, which stops and starts again meanwhile.

use std::net::SocketAddr;
use std::path::Path;

use ::http::StatusCode;
use ::journal::{Journal, JournalClient, JournalSettings, LogSettings};
use stream::control::AdminClient;
use tokio::net::TcpListener;
use tokio::sync::{oneshot, watch};
use tokio::task::JoinSet;

use super::{id, listener, snapshot, spec};
use crate::GatewaySettings;

/// A journal that runs until the sender is used.
async fn journal(at: SocketAddr, dir: &Path) -> (oneshot::Sender<()>, SocketAddr, tokio::task::JoinHandle<()>) {
    let listener = TcpListener::bind(at).await.unwrap();
    let at = listener.local_addr().unwrap();
    let (stop, stopped) = oneshot::channel::<()>();
    let settings = JournalSettings { dir: dir.to_owned(), log: LogSettings::default() };
    let (config, watch) = watch::channel(snapshot(1, [spec("a")]));
    let running = tokio::spawn(async move {
        ::journal::serve(settings, listener, watch, async move { drop(stopped.await) }).await.unwrap();
        drop(config);
    });
    (stop, at, running)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_journal_that_restarts_loses_and_refuses_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let (stop, at, running) = journal("127.0.0.1:0".parse().unwrap(), dir.path()).await;
    let (http, grpc) = (listener().await, listener().await);
    let url = format!("http://{}/v1/streams/{}/records", http.local_addr().unwrap(), id("a"));
    let settings = GatewaySettings::new("gateway-1", at.to_string(), AdminClient::new("http://127.0.0.1:1"));
    let (_config, watch) = watch::channel(snapshot(1, [spec("a")]));
    let (stop_gateway, stopped) = oneshot::channel::<()>();
    let gateway = tokio::spawn(crate::serve(settings, http, grpc, watch, async move { drop(stopped.await) }));

    let client = hyper_util::client::legacy::Client::builder(hyper_util::rt::TokioExecutor::new()).build_http();
    let mut posts = JoinSet::new();
    let post = |posts: &mut JoinSet<StatusCode>, i: usize| {
        let body = http_body_util::Full::new(bytes::Bytes::from(format!("{i}\n")));
        let request = ::http::Request::post(&url).header("idempotency-key", i.to_string()).body(body).unwrap();
        let client = client.clone();
        posts.spawn(async move { client.request(request).await.unwrap().status() });
    };
    (0..50).for_each(|i| post(&mut posts, i));
    assert_eq!(posts.join_next().await.unwrap().unwrap(), StatusCode::OK);
    stop.send(()).unwrap();
    running.await.unwrap();
    (50..100).for_each(|i| post(&mut posts, i));
    let (stop, _, running) = journal(at, dir.path()).await;
    while let Some(status) = posts.join_next().await {
        assert_eq!(status.unwrap(), StatusCode::OK);
    }
    let topic = spec("a").topic_key();
    let bounds = JournalClient::connect(at.to_string()).unwrap().bounds(&[topic]).await.unwrap();
    assert!(bounds[0].end_offset >= 200, "100 events and 100 ends, and perhaps doubles: {bounds:?}");

    stop_gateway.send(()).unwrap();
    gateway.await.unwrap().unwrap();
    stop.send(()).unwrap();
    running.await.unwrap();
}
