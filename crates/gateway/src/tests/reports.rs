//! What admin hears of a gateway.

use std::collections::BTreeSet;
use std::sync::Arc;

use ::http::StatusCode;
use stream::config::Snapshot;
use stream::policy::GatewayPolicy;
use stream::wire::RefusalReason;

use super::{gateway, gateway_with, snapshot, spec, until};

#[tokio::test]
async fn admin_hears_of_every_source_and_flow() {
    let gateway = gateway().await;
    let admin = gateway.admin.clone();
    admin.be_away(2);
    gateway.journal.refuse("gateway.a", RefusalReason::DiskFull, 1);
    assert_eq!(gateway.post("a", &[], "void\n").await.status, StatusCode::SERVICE_UNAVAILABLE);
    assert_eq!(gateway.post("a", &[], "one\ntwo\n").await.status, StatusCode::OK);
    let key = "a-key-longer-than-sixteen";
    assert_eq!(gateway.post("a", &[("idempotency-key", key)], "three\n").await.status, StatusCode::OK);
    until("both sources stated", || admin.facts().len() == 2).await;

    let facts = admin.facts();
    let keyed = facts.iter().find(|fact| fact.name == key[..16]).unwrap();
    assert_eq!((keyed.seen, keyed.acknowledged, keyed.finished), (6, 6, true));
    let unkeyed = || admin.facts().into_iter().find(|fact| fact.name == "http").unwrap();
    until("the unkeyed source is whole", || unkeyed().acknowledged == 13).await;
    let voids: Vec<_> = unkeyed().set_apart.iter().map(|apart| (apart.range.start, apart.range.end)).collect();
    assert_eq!((unkeyed().seen, unkeyed().finished, voids), (13, false, vec![(0, 5)]));
    assert!(facts.iter().all(|fact| fact.collector == "gateway-1"));

    let flow = || admin.flow("a");
    until("the flow is stated", || flow().is_some_and(|flow| flow.records == 3)).await;
    let flow = flow().unwrap();
    assert_eq!((flow.bytes, flow.queue_bytes, flow.refusals["disk_full"]), (11, 0, 1));
    gateway.stop().await;
    assert!(unkeyed().finished, "a gateway that goes down says that its source has ended");
}

#[tokio::test]
async fn a_changed_policy_binds_the_queues_anew_while_records_flow() {
    let gateway = gateway_with([spec("a")], |_| ()).await;
    let policy = |version, producers, slice| {
        let gateways = GatewayPolicy { producers_per_queue: Some(producers), slice_seconds: slice };
        Arc::new(Snapshot { gateways, ..Arc::unwrap_or_clone(snapshot(version, [spec("a")])) })
    };
    let bound = || gateway.admin.flow("a").map(|flow| flow.producers.len()).unwrap_or_default();
    until("the default is told", || bound() == 2).await;
    gateway.config.send_replace(policy(2, 3, None));
    until("three serve it", || bound() == 3).await;
    gateway.config.send_replace(policy(3, 1, Some(1)));
    until("one serves it", || bound() == 1).await;
    // With a slice of a second it is another one soon.
    let mut seen = BTreeSet::new();
    let deadline = tokio::time::Instant::now() + std::time::Duration::from_secs(20);
    while seen.len() < 3 {
        assert!(tokio::time::Instant::now() < deadline, "{seen:?}");
        assert_eq!(gateway.post("a", &[], "x\n").await.status, StatusCode::OK);
        seen.extend(gateway.admin.flow("a").map(|flow| flow.producers));
    }
    gateway.stop().await;
}

#[tokio::test]
async fn admin_hears_why_a_batch_was_refused() {
    let gateway = gateway().await;
    let huge = vec![b'x'; stream::limits::RECORD_BYTES_MAX + 1];
    assert_eq!(gateway.post("a", &[], huge).await.status, StatusCode::PAYLOAD_TOO_LARGE);
    let last = || gateway.admin.flow("a").and_then(|flow| flow.refused_last);
    until("it is told", || last().is_some_and(|last| last.message.contains("send less at a time"))).await;
    gateway.stop().await;
}
