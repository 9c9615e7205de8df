//! Who may send, and how fast.

use std::sync::Arc;
use std::time::Duration;

use ::http::{Method, StatusCode};
use stream::config::{Snapshot, StreamConfig};
use stream::token::{Rate, SecretHash, Token, TokenSpec};
use stream::wire::v1::SendRequest;
use stream::wire::v1::gateway_client::GatewayClient;
use stream::wire::v1::send_reply::Outcome;
use tokio::sync::mpsc;
use tokio::time::Instant;
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Code, Request, Status};

use super::grpc::{Replies, batch, request};
use super::{Gateway, gateway, gateway_with, id, snapshot, spec};
use crate::Access;

fn hash(secret: &str) -> SecretHash {
    SecretHash::of(secret.as_bytes())
}

fn token(name: &str, scope: &str, secret: &str) -> Token {
    let spec = TokenSpec { name: name.parse().unwrap(), scopes: vec![scope.parse().unwrap()], rate: Rate::default() };
    Token::new(spec, hash(secret))
}

fn with_tokens(tokens: impl IntoIterator<Item = Token>) -> Arc<Snapshot> {
    let mut snapshot = Arc::unwrap_or_clone(snapshot(1, [spec("a"), spec("b")]));
    snapshot.tokens = tokens.into_iter().map(|token| (token.spec.name.clone(), token)).collect();
    Arc::new(snapshot)
}

/// A gateway that asks for tokens; `one` is the secret of a token for stream a.
async fn guarded() -> Gateway {
    let gateway = gateway_with([spec("a"), spec("b")], |settings| settings.access = Access::Tokens).await;
    gateway.config.send_replace(with_tokens([token("web", "test.gateway.a", "one")]));
    until_status(&gateway, "one", StatusCode::OK).await;
    gateway
}

async fn status(gateway: &Gateway, name: &str, secret: &str) -> StatusCode {
    gateway.post(name, &[("authorization", &format!("Bearer {secret}"))], "x\n").await.status
}

/// Waits until the gateway has heard of a change.
async fn until_status(gateway: &Gateway, secret: &str, expected: StatusCode) {
    let deadline = Instant::now() + Duration::from_secs(10);
    while status(gateway, "a", secret).await != expected {
        assert!(Instant::now() < deadline, "never {expected}");
    }
}

#[tokio::test]
async fn only_who_may_send_to_a_stream_may() {
    let gateway = guarded().await;
    let none = gateway.post("a", &[], "x\n").await;
    assert_eq!((none.status, none.json["reason"].as_str()), (StatusCode::UNAUTHORIZED, Some("unauthorized")));
    assert_eq!(status(&gateway, "a", "wrong").await, StatusCode::UNAUTHORIZED);
    assert_eq!(status(&gateway, "unknown", "wrong").await, StatusCode::UNAUTHORIZED);
    assert_eq!(status(&gateway, "a", "one").await, StatusCode::OK);
    let other = gateway.post("b", &[("authorization", "Bearer one")], "x\n").await;
    assert_eq!((other.status, other.json["reason"].as_str()), (StatusCode::FORBIDDEN, Some("forbidden")));
    assert_eq!(other.json["scope"], "token web");
    assert_eq!(status(&gateway, "unknown", "one").await, StatusCode::FORBIDDEN, "it learns nothing of other streams");
    assert!(gateway.journal.bodies("b").is_empty());
    gateway.stop().await;
}

#[tokio::test]
async fn a_page_shows_its_token_in_the_query() {
    let gateway = guarded().await;
    let (beacon, page) = (format!("/v1/streams/{}/beacon", id("a")), [("origin", "https://shop.example")]);
    let before = gateway.journal.bodies("a").len();
    assert_eq!(gateway.call(Method::POST, &beacon, &page, "{}").await.status, StatusCode::UNAUTHORIZED);
    let with_token = format!("{beacon}?token=one&page=1");
    assert_eq!(gateway.call(Method::POST, &with_token, &page, "{}").await.status, StatusCode::NO_CONTENT);
    assert_eq!(gateway.call(Method::GET, &with_token, &[], "").await.status, StatusCode::NO_CONTENT);
    assert_eq!(gateway.journal.bodies("a")[before..], ["{}", r#"{"page":"1"}"#]);
    let lines = format!("/v1/streams/{}/records?token=one", id("a"));
    assert_eq!(gateway.call(Method::POST, &lines, &[], "x\n").await.status, StatusCode::UNAUTHORIZED);
    gateway.stop().await;
}

#[tokio::test]
async fn two_secrets_are_good_while_a_token_is_rotated() {
    let gateway = guarded().await;
    let mut web = token("web", "test.gateway.a", "one");
    web.rotate(hash("two"));
    gateway.config.send_replace(with_tokens([web.clone()]));
    until_status(&gateway, "two", StatusCode::OK).await;
    assert_eq!(status(&gateway, "a", "one").await, StatusCode::OK);
    web.retire();
    gateway.config.send_replace(with_tokens([web]));
    until_status(&gateway, "one", StatusCode::UNAUTHORIZED).await;
    assert_eq!(status(&gateway, "a", "two").await, StatusCode::OK);
    gateway.stop().await;
}

/// A call that shows `secret`.
async fn call(gateway: &Gateway, secret: &str) -> Result<(mpsc::Sender<SendRequest>, Replies), Status> {
    let mut client = GatewayClient::connect(format!("http://{}", gateway.grpc)).await.unwrap();
    let (sender, requests) = mpsc::channel(100);
    let mut request = Request::new(ReceiverStream::new(requests));
    request.metadata_mut().insert("authorization", format!("Bearer {secret}").parse().unwrap());
    Ok((sender, client.send(request).await?.into_inner()))
}

#[tokio::test]
async fn a_call_is_known_by_its_token_and_ends_with_it() {
    let gateway = guarded().await;
    let refused = call(&gateway, "wrong").await.map(drop).unwrap_err();
    assert_eq!(refused.code(), Code::Unauthenticated);
    let (sender, mut replies) = call(&gateway, "one").await.unwrap();
    sender.send(request(1, &batch("a", 7, 0, &[b"x"]))).await.unwrap();
    let reply = replies.message().await.unwrap().unwrap();
    assert!(matches!(reply.outcome, Some(Outcome::Ack(_))), "{reply:?}");
    sender.send(request(2, &batch("b", 7, 0, &[b"x"]))).await.unwrap();
    match replies.message().await.unwrap().unwrap().outcome {
        Some(Outcome::Refusal(refusal)) => assert_eq!(refusal.reason, "forbidden"),
        other => panic!("{other:?}"),
    }
    gateway.config.send_replace(with_tokens([]));
    until_status(&gateway, "one", StatusCode::UNAUTHORIZED).await;
    sender.send(request(3, &batch("a", 7, 2, &[b"x"]))).await.unwrap();
    assert_eq!(replies.message().await.unwrap_err().code(), Code::Unauthenticated);
    gateway.stop().await;
}

#[tokio::test]
async fn an_open_gateway_takes_no_records_from_pages_but_beacons() {
    let gateway = gateway().await;
    let page = [("origin", "https://evil.example"), ("content-type", "text/plain")];
    let refused = gateway.post("a", &page, "x\n").await;
    assert_eq!((refused.status, refused.json["reason"].as_str()), (StatusCode::FORBIDDEN, Some("foreign_origin")));
    assert!(gateway.journal.bodies("a").is_empty());
    gateway.stop().await;
}

fn limited(name: &str, rate: Rate) -> StreamConfig {
    let mut config = spec(name);
    config.spec.limits.rate = rate;
    config
}

#[tokio::test]
async fn who_brings_more_than_its_rate_is_told_to_wait_and_the_others_are_not() {
    let rate = Rate { bytes_per_second_max: 1, ..Rate::default() };
    let gateway = gateway_with([limited("a", rate), spec("b")], |_| ()).await;
    // Taken, and paid for in the next thousand seconds.
    assert_eq!(gateway.post("a", &[], "x".repeat(1_000)).await.status, StatusCode::OK);
    let refused = gateway.post("a", &[], "x").await;
    assert_eq!(refused.status, StatusCode::TOO_MANY_REQUESTS);
    assert_eq!(refused.json["reason"], "rate_limited");
    assert!(refused.retry_after.unwrap() > 900, "{refused:?}");
    assert_eq!(gateway.post("b", &[], "x".repeat(1_000)).await.status, StatusCode::OK);
    gateway.config.send_replace(snapshot(2, [spec("a"), spec("b")]));
    until_status(&gateway, "", StatusCode::OK).await;
    gateway.stop().await;
}
