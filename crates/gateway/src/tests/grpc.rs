//! The contract of the gRPC door.

use std::collections::HashMap;
use std::time::Duration;

use stream::limits::{BATCH_BYTES_MAX, BATCH_RECORDS_MAX};
use stream::wire::v1::gateway_client::GatewayClient;
use stream::wire::v1::send_reply::Outcome;
use stream::wire::v1::{SendReply, SendRequest};
use stream::{Batch, BatchBuilder, Incarnation, Kind, SourceId};
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::Streaming;

use super::{Gateway, gateway, gateway_with, id, spec};

pub fn batch(name: &str, incarnation: u64, start: u64, bodies: &[&[u8]]) -> Batch {
    let mut builder = BatchBuilder::new(start);
    for body in bodies {
        let end = builder.end() + body.len() as u64 + 1;
        builder.push(Kind::Event, end, None, body);
    }
    builder.take(&id(name), Incarnation(incarnation), SourceId::derive(1, &[name.as_bytes()])).unwrap()
}

/// What a call answers.
pub type Replies = Streaming<SendReply>;

async fn call(gateway: &Gateway) -> (mpsc::Sender<SendRequest>, Replies) {
    let mut client = GatewayClient::connect(format!("http://{}", gateway.grpc)).await.unwrap();
    let (sender, requests) = mpsc::channel(1000);
    let replies = client.send(ReceiverStream::new(requests)).await.unwrap().into_inner();
    (sender, replies)
}

pub fn request(id: u64, batch: &Batch) -> SendRequest {
    SendRequest { id, batch: Some(batch.to_wire()), config_version: 0 }
}

#[tokio::test]
async fn many_batches_of_a_call_are_acknowledged_each() {
    let gateway = gateway().await;
    let (sender, mut replies) = call(&gateway).await;
    for i in 0..600 {
        sender.send(request(i, &batch("a", 7, i * 2, &[b"x"]))).await.unwrap();
    }
    let mut ends = HashMap::new();
    while ends.len() < 600 {
        let reply = replies.message().await.unwrap().expect("the call goes on");
        assert!(reply.credit_bytes > 0);
        match reply.outcome {
            Some(Outcome::Ack(ack)) => assert!(ends.insert(reply.id, ack.end_offset).is_none()),
            other => panic!("{other:?}"),
        }
    }
    assert_eq!(gateway.journal.bodies("a").len(), 600);
    drop(sender);
    assert!(replies.message().await.unwrap().is_none(), "the call ends when all is answered");
    gateway.stop().await;
}

#[tokio::test]
async fn batches_that_are_none_are_refused_each_for_its_reason() {
    let gateway = gateway().await;
    let (sender, mut replies) = call(&gateway).await;
    let many = vec![&b""[..]; BATCH_RECORDS_MAX + 1];
    let half = vec![b'x'; BATCH_BYTES_MAX / 2 + 1];
    let mut torn = request(3, &batch("a", 7, 0, &[b"x"]));
    torn.batch.as_mut().unwrap().body_lengths[0] = 9;
    let cases = [
        (request(0, &batch("nobody", 7, 0, &[b"x"])), "unknown_stream"),
        (request(1, &batch("a", 8, 0, &[b"x"])), "unknown_stream"),
        (SendRequest { id: 2, batch: None, config_version: 0 }, "malformed"),
        (torn, "malformed"),
        (request(4, &batch("a", 7, 0, &many)), "too_large"),
        (request(5, &batch("a", 7, 0, &[&half, &half])), "too_large"),
        // Its sender knows a newer version of the stream, in which this may be allowed.
        (SendRequest { config_version: 2, ..request(6, &batch("a", 7, 0, &[&half, &half])) }, "unavailable"),
    ];
    for (request, reason) in cases {
        let id = request.id;
        sender.send(request).await.unwrap();
        let reply = replies.message().await.unwrap().unwrap();
        match reply.outcome {
            Some(Outcome::Refusal(refusal)) => assert_eq!((reply.id, refusal.reason.as_str()), (id, reason)),
            other => panic!("{reason}: {other:?}"),
        }
    }
    sender.send(request(7, &batch("a", 7, 0, &[b"good"]))).await.unwrap();
    assert!(matches!(replies.message().await.unwrap().unwrap().outcome, Some(Outcome::Ack(_))));
    assert_eq!(gateway.journal.bodies("a"), ["good"]);
    gateway.stop().await;
}

#[tokio::test]
async fn an_open_call_does_not_hold_up_a_shutdown() {
    let gateway = gateway().await;
    let (sender, mut replies) = call(&gateway).await;
    sender.send(request(1, &batch("a", 7, 0, &[b"x"]))).await.unwrap();
    assert!(replies.message().await.unwrap().is_some());
    gateway.stop().await;
    assert!(!matches!(replies.message().await, Ok(Some(_))));
}

#[tokio::test]
async fn an_old_connection_ends_when_all_is_answered() {
    let gateway = gateway_with([spec("a")], |settings| settings.connection_age_max = Duration::from_millis(200)).await;
    let (mut next, mut acks) = (0, 0);
    for _ in 0..3 {
        let (sender, mut replies) = call(&gateway).await;
        let sending = async {
            while sender.send(request(next, &batch("a", 7, next * 2, &[b"x"]))).await.is_ok() {
                next += 1;
            }
        };
        let answering = async {
            while let Some(reply) = replies.message().await.unwrap() {
                assert!(matches!(reply.outcome, Some(Outcome::Ack(_))), "{reply:?}");
                acks += 1;
            }
            // Only now is the call gone for the sending side too.
            drop(replies);
        };
        tokio::join!(sending, answering);
    }
    assert!(acks > 0);
    assert_eq!(gateway.journal.bodies("a").len(), acks, "what was taken was answered");
    gateway.stop().await;
}
