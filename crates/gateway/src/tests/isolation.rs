//! What a flooding or stalled stream does to others, counted in appends and not in time.

use std::time::{Duration, Instant};

use ::http::StatusCode;
use stream::limits::BATCH_BYTES_MAX;

use super::journal::topic;
use super::{gateway_with, spec, until};

/// One producer that all share, and little outstanding, so that every choice of the ring is seen.
fn narrow(settings: &mut crate::GatewaySettings) {
    settings.producers = 1;
    settings.producer_outstanding_bytes_max = 64 * 1024;
    settings.batch_deadline = Duration::from_secs(10);
}

#[tokio::test]
async fn a_flood_delays_a_newcomer_by_one_turn_at_most() {
    let gateway = gateway_with([spec("flood"), spec("quiet")], narrow).await;
    gateway.journal.hold(&["gateway"]);
    let body = vec![b'x'; 60 * 1024];
    let mut floods = tokio::task::JoinSet::new();
    for _ in 0..64 {
        let (client, uri) =
            (gateway.client.clone(), format!("http://{}/v1/streams/{}/records", gateway.http, super::id("flood")));
        let key = floods.len().to_string();
        let request = ::http::Request::post(uri).header("idempotency-key", key);
        let request = request.body(http_body_util::Full::from(body.clone())).unwrap();
        floods.spawn(async move { client.request(request).await.unwrap().status() });
    }
    gateway.admin.until_held("flood", 64 * crate::admit::cost(body.len(), 1) as u64).await;
    let before = gateway.journal.order().len();
    let release = async {
        gateway.admin.until_held("quiet", crate::admit::cost(1, 1) as u64).await;
        assert_eq!(gateway.journal.order().len(), before, "the producer is full");
        gateway.journal.hold(&[]);
    };
    let (quiet, ()) = tokio::join!(gateway.post("quiet", &[], "q\n"), release);
    assert_eq!(quiet.status, StatusCode::OK);
    let order = gateway.journal.order();
    let place = order.iter().position(|name| *name == topic("quiet")).unwrap();
    // A turn is 128 KiB at normal weight: at most three of these batches, however many are queued.
    assert!(place - before <= 3, "{} appends of the flood came first", place - before);
    while let Some(status) = floods.join_next().await {
        assert_eq!(status.unwrap(), StatusCode::OK);
    }
    gateway.stop().await;
}

#[tokio::test]
async fn a_stalled_topic_holds_no_producer() {
    let gateway = gateway_with([spec("stalled"), spec("quiet")], |settings| {
        settings.producers = 1;
        settings.batch_deadline = Duration::from_secs(10);
    })
    .await;
    gateway.journal.hold(&["stalled"]);
    let large = vec![b'x'; BATCH_BYTES_MAX / 2];
    let posts = async {
        let post = || gateway.post("stalled", &[], large.clone());
        tokio::join!(post(), post(), post(), post(), post())
    };
    let others = async {
        until("stalled appends", || !gateway.journal.order().is_empty()).await;
        for _ in 0..50 {
            assert_eq!(gateway.post("quiet", &[], "q\n").await.status, StatusCode::OK);
        }
        assert!(gateway.journal.batches("stalled").is_empty());
        gateway.journal.hold(&[]);
    };
    let (stalled, ()) = tokio::join!(posts, others);
    assert_eq!(stalled.0.status, StatusCode::OK);
    gateway.stop().await;
}

#[tokio::test]
async fn slices_turn_while_records_flow() {
    let streams = ["a", "b", "c", "d", "e"];
    let gateway = gateway_with(streams.map(spec), |settings| {
        settings.producers = 3;
        settings.slice = Duration::from_millis(10);
    })
    .await;
    let (started, mut expected) = (Instant::now(), Vec::new());
    while started.elapsed() < Duration::from_millis(150) {
        expected.push(expected.len().to_string());
        for name in streams {
            let answer = gateway.post(name, &[], format!("{}\n", expected.len() - 1)).await;
            assert_eq!(answer.status, StatusCode::OK);
        }
    }
    streams.iter().for_each(|name| assert_eq!(gateway.journal.bodies(name), expected));
    gateway.stop().await;
}
