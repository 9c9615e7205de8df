//! Streams that keep the order of keys: batches spread over partitions.

use ::http::StatusCode;
use stream::config::{Order, OrderKey};
use stream::wire::RefusalReason;

use super::journal::topic;
use super::{Gateway, gateway_with, spec};

async fn keyed_gateway() -> Gateway {
    let mut keyed = spec("keyed");
    keyed.spec.partitions = Some(3);
    keyed.spec.order = Order::Key;
    keyed.spec.order_key = Some(OrderKey::Column { number: 1, by: " ".to_owned() });
    gateway_with([keyed], |_| ()).await
}

/// Fifty keys, each twice.
fn lines() -> String {
    (0..100).map(|n| format!("key{} {n}\n", n % 50)).collect()
}

#[tokio::test]
async fn a_part_that_is_durable_is_not_appended_again_with_those_that_failed() {
    let gateway = keyed_gateway().await;
    gateway.journal.refuse(&format!("{}/1", topic("keyed")), RefusalReason::Unavailable, 3);
    let answer = gateway.post("keyed", &[], lines()).await;
    assert_eq!((answer.status, &answer.json["records"]), (StatusCode::OK, &100.into()));
    let batches = gateway.journal.batches("keyed");
    assert_eq!(batches.len(), 3, "a part for each partition, once");
    assert_eq!(gateway.journal.order().len(), 6, "three parts, and three more tries of one");
    let covered = batches.iter().flat_map(|batch| batch.covered().as_slice().to_vec()).collect::<stream::Ranges>();
    assert_eq!((covered.as_slice().len(), covered.total()), (1, lines().len() as u64));
    for key in 0..50 {
        let holders = batches.iter().filter(|batch| {
            let of_key = |record: &stream::View<'_>| record.body.starts_with(format!("key{key} ").as_bytes());
            batch.views().filter(of_key).count() == 2
        });
        assert_eq!(holders.count(), 1, "both records of key {key} are in one partition");
    }
    gateway.stop().await;
}

#[tokio::test]
async fn the_next_batch_waits_for_all_parts_and_a_refusal_is_of_the_whole() {
    let gateway = keyed_gateway().await;
    gateway.journal.refuse(&format!("{}/2", topic("keyed")), RefusalReason::TooLarge, 1);
    let refused = gateway.post("keyed", &[], lines()).await;
    assert_eq!(refused.status, StatusCode::PAYLOAD_TOO_LARGE);
    gateway.journal.hold(&[&format!("{}/0", topic("keyed"))]);
    let before = gateway.journal.order().len();
    let (first, second, ()) = tokio::join!(
        gateway.post("keyed", &[], lines()),
        gateway.post("keyed", &[("idempotency-key", "k")], lines()),
        async {
            super::until("one batch is under way", || gateway.journal.order().len() == before + 3).await;
            gateway.admin.until_held("keyed", 2 * crate::admit::cost(lines().len() - 100, 100) as u64).await;
            assert_eq!(gateway.journal.order().len(), before + 3, "the other waits");
            gateway.journal.hold(&[]);
        }
    );
    assert_eq!((first.status, second.status), (StatusCode::OK, StatusCode::OK));
    gateway.stop().await;
}
