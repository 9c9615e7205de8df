//! Write tokens: list, create, rotate, retire, delete. A secret is made here, answered once, and forgotten.

use std::sync::Arc;

use axum::Json;
use axum::extract::State;
use http::StatusCode;
use serde::{Deserialize, Serialize};
use stream::token::{Secret, SecretHash, Token, TokenName, TokenSpec};

use super::extract::{Body, Named};
use super::{Failure, Shared};
use crate::store::tokens::TokenChange;

/// A token as people see it.
#[derive(Debug, Serialize, Deserialize)]
pub struct Listed {
    /// What was asked for.
    #[serde(flatten)]
    pub spec: TokenSpec,
    /// Secrets that are good now: 1, or 2 while senders change from the old to the new one.
    pub secrets_live: usize,
}

/// The one answer that holds a secret.
#[derive(Debug, Serialize, Deserialize)]
pub struct Issued {
    /// Whose it is.
    pub name: TokenName,
    /// What senders show; kept nowhere.
    pub secret: String,
}

/// `GET /api/v1/tokens`: every token, by name.
pub async fn list(State(shared): State<Arc<Shared>>) -> Json<Vec<Listed>> {
    let published = shared.published.borrow().clone();
    let listed = |token: &Token| Listed { spec: token.spec.clone(), secrets_live: token.secrets.len() };
    Json(published.snapshot.tokens.values().map(listed).collect())
}

/// `POST /api/v1/tokens`: a new token; 201 with its secret.
pub async fn create(
    State(shared): State<Arc<Shared>>,
    Body(spec): Body<TokenSpec>,
) -> Result<(StatusCode, Json<Issued>), Failure> {
    let (name, secret) = (spec.name.clone(), Secret::new(&mut rand::rng()));
    shared.store.create_token(spec, SecretHash::of(secret.as_str().as_bytes())).await?;
    Ok((StatusCode::CREATED, Json(Issued { name, secret: secret.as_str().to_owned() })))
}

/// `POST /api/v1/tokens/{name}/rotate`: a new secret; the one before it stays good until it is retired.
pub async fn rotate(State(shared): State<Arc<Shared>>, Named(name): Named<TokenName>) -> Result<Json<Issued>, Failure> {
    let secret = Secret::new(&mut rand::rng());
    let hash = SecretHash::of(secret.as_str().as_bytes());
    shared.store.change_token(name.clone(), TokenChange::Rotate(hash)).await?;
    Ok(Json(Issued { name, secret: secret.as_str().to_owned() }))
}

/// `POST /api/v1/tokens/{name}/retire`: ends every secret but the newest; 204.
pub async fn retire(State(shared): State<Arc<Shared>>, Named(name): Named<TokenName>) -> Result<StatusCode, Failure> {
    shared.store.change_token(name, TokenChange::Retire).await?;
    Ok(StatusCode::NO_CONTENT)
}

/// `DELETE /api/v1/tokens/{name}`: ends the token; 204.
pub async fn delete(State(shared): State<Arc<Shared>>, Named(name): Named<TokenName>) -> Result<StatusCode, Failure> {
    shared.store.delete_token(name).await?;
    Ok(StatusCode::NO_CONTENT)
}
