//! Write tokens and the gateways' policy: what is kept, shown once, published, and kept over a restart.

use http::Method;
use serde_json::json;
use stream::config::Snapshot;
use stream::policy::GatewayPolicy;
use stream::token::SecretHash;

use super::harness::{Admin, refused};
use crate::api::tokens::{Issued, Listed};

const TOKENS: &str = "/api/v1/tokens";

/// The hashes that gateways know of a token.
async fn published(admin: &Admin) -> Vec<SecretHash> {
    let snapshot = admin.get::<Snapshot>("/api/v1/config").await;
    snapshot.tokens.into_values().flat_map(|token| token.secrets).collect()
}

fn hash(issued: &Issued) -> SecretHash {
    SecretHash::of(issued.secret.as_bytes())
}

#[tokio::test]
async fn a_token_lives_from_creation_to_deletion() {
    let dir = tempfile::tempdir().unwrap();
    let admin = Admin::start(dir.path()).await;
    let spec = json!({"name": "web", "scopes": ["ads.web"], "rate": {"bytes_per_second_max": 5}});
    let first: Issued = admin.client.send(Method::POST, TOKENS, &spec).await.unwrap();
    assert_eq!(published(&admin).await, [hash(&first)]);
    let listed = serde_json::to_string(&admin.get::<Vec<Listed>>(TOKENS).await).unwrap();
    assert!(listed.contains("ads.web") && !listed.contains(&first.secret), "{listed}");

    let rotate = || admin.client.send::<Issued>(Method::POST, "/api/v1/tokens/web/rotate", &());
    let second = rotate().await.unwrap();
    assert_eq!(published(&admin).await, [hash(&first), hash(&second)]);
    let third = rotate().await.unwrap();
    assert_eq!(published(&admin).await, [hash(&second), hash(&third)], "two live at most");
    admin.stop().await;

    let admin = Admin::start(dir.path()).await;
    assert_eq!(published(&admin).await, [hash(&second), hash(&third)], "a restart keeps everything");
    let retired: () = admin.client.send(Method::POST, "/api/v1/tokens/web/retire", &()).await.unwrap();
    assert_eq!(retired, ());
    assert_eq!(published(&admin).await, [hash(&third)]);
    let deleted: () = admin.client.send(Method::DELETE, "/api/v1/tokens/web", &()).await.unwrap();
    assert_eq!(deleted, ());
    assert!(published(&admin).await.is_empty());
    admin.stop().await;
}

#[tokio::test]
async fn tokens_that_would_be_none_are_refused() {
    let dir = tempfile::tempdir().unwrap();
    let admin = Admin::start(dir.path()).await;
    let create = |spec: serde_json::Value| {
        let client = admin.client.clone();
        async move { client.send::<Issued>(Method::POST, TOKENS, &spec).await }
    };
    create(json!({"name": "web", "scopes": ["ads"]})).await.unwrap();
    for (spec, status, says) in [
        (json!({"name": "web", "scopes": ["ads"]}), 409, "exists"),
        (json!({"name": "none", "scopes": []}), 400, "scopes"),
        (json!({"name": "all", "scopes": ["*"]}), 400, "a-z"),
        (json!({"name": "../x", "scopes": ["ads"]}), 400, "a-z"),
        (json!({"name": "odd", "scopes": ["ads"], "colour": 1}), 400, "colour"),
    ] {
        let (found, message) = refused(create(spec.clone()).await);
        assert!(found == status && message.contains(says), "{spec}: {found} {message}");
    }
    let unknown = admin.client.send::<Issued>(Method::POST, "/api/v1/tokens/nobody/rotate", &()).await;
    assert_eq!(refused(unknown).0, 404);
    admin.stop().await;
}

#[tokio::test]
async fn the_gateways_policy_is_published_and_kept() {
    let dir = tempfile::tempdir().unwrap();
    let admin = Admin::start(dir.path()).await;
    let policy = GatewayPolicy { producers_per_queue: Some(3), slice_seconds: None };
    let put = |policy: GatewayPolicy| {
        let client = admin.client.clone();
        async move { client.send::<GatewayPolicy>(Method::PUT, "/api/v1/gateways", &policy).await }
    };
    assert_eq!(put(policy).await.unwrap(), policy);
    assert_eq!(put(policy).await.unwrap(), policy);
    let snapshot = admin.get::<Snapshot>("/api/v1/config").await;
    assert_eq!((snapshot.version, snapshot.gateways), (1, policy), "the same again changes nothing");
    let none = GatewayPolicy { slice_seconds: Some(0), ..policy };
    assert_eq!(refused(put(none).await).0, 400);
    admin.stop().await;
    let admin = Admin::start(dir.path()).await;
    assert_eq!(admin.get::<GatewayPolicy>("/api/v1/gateways").await, policy);
    admin.stop().await;
}
