//! What admin hears of a gateway.

use ::http::StatusCode;
use stream::wire::RefusalReason;

use super::{gateway, until};

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
