//! Write tokens: create, rotate, retire, delete. Only hashes of secrets come here.

use sqlx::{Row, SqliteConnection};
use stream::config::Snapshot;
use stream::token::{SecretHash, Token, TokenName, TokenSpec};

use super::open::{parse, print};
use super::streams::count_up;
use crate::error::StoreError;

/// Tokens of one installation: a few a project.
const TOKENS_MAX: usize = 10_000;
/// Scopes of one token.
const SCOPES_MAX: usize = 64;

/// A change of a token that exists.
#[derive(Clone, Copy, Debug)]
pub enum TokenChange {
    /// A new secret beside the newest.
    Rotate(SecretHash),
    /// Only the newest secret stays.
    Retire,
}

/// Loads the tokens.
pub(super) async fn load(connection: &mut SqliteConnection, snapshot: &mut Snapshot) -> Result<(), StoreError> {
    for row in sqlx::query("SELECT token FROM tokens").fetch_all(connection).await? {
        let token: Token = parse("token", row.try_get("token")?)?;
        snapshot.tokens.insert(token.spec.name.clone(), token);
    }
    Ok(())
}

/// Stores a new token with its first secret.
pub(super) async fn create(
    connection: &mut SqliteConnection,
    snapshot: &mut Snapshot,
    spec: TokenSpec,
    secret: SecretHash,
) -> Result<(), StoreError> {
    if !(1..=SCOPES_MAX).contains(&spec.scopes.len()) {
        return Err(StoreError::TokenScopes(spec.name, SCOPES_MAX));
    }
    if snapshot.tokens.contains_key(&spec.name) {
        return Err(StoreError::TokenExists(spec.name));
    }
    if snapshot.tokens.len() >= TOKENS_MAX {
        return Err(StoreError::TokensFull(TOKENS_MAX));
    }
    put(connection, snapshot, Token::new(spec, secret)).await
}

/// Changes a token's secrets.
pub(super) async fn change(
    connection: &mut SqliteConnection,
    snapshot: &mut Snapshot,
    name: TokenName,
    change: TokenChange,
) -> Result<(), StoreError> {
    let Some(mut token) = snapshot.tokens.get(&name).cloned() else { return Err(StoreError::NoToken(name)) };
    match change {
        TokenChange::Rotate(secret) => token.rotate(secret),
        TokenChange::Retire => token.retire(),
    }
    put(connection, snapshot, token).await
}

/// Ends a token with all its secrets.
pub(super) async fn delete(
    connection: &mut SqliteConnection,
    snapshot: &mut Snapshot,
    name: TokenName,
) -> Result<(), StoreError> {
    if !snapshot.tokens.contains_key(&name) {
        return Err(StoreError::NoToken(name));
    }
    sqlx::query("DELETE FROM tokens WHERE name = ?").bind(name.to_string()).execute(&mut *connection).await?;
    count_up(connection, snapshot).await?;
    snapshot.tokens.remove(&name);
    Ok(())
}

async fn put(connection: &mut SqliteConnection, snapshot: &mut Snapshot, token: Token) -> Result<(), StoreError> {
    sqlx::query("INSERT OR REPLACE INTO tokens (name, token) VALUES (?, ?)")
        .bind(token.spec.name.to_string())
        .bind(print(&token)?)
        .execute(&mut *connection)
        .await?;
    count_up(connection, snapshot).await?;
    snapshot.tokens.insert(token.spec.name.clone(), token);
    Ok(())
}
