//! Leases of agent ids.

use std::sync::Arc;

use axum::Json;
use axum::extract::State;
use http::StatusCode;
use serde::Deserialize;

use super::extract::{Body, Named};
use super::{Failure, Shared};
use crate::status::Role;

/// Longest agent id or boot nonce.
const NAME_BYTES_MAX: usize = 64;

/// Who asks.
#[derive(Deserialize)]
pub struct Start {
    /// One start of the agent, chosen by it at random.
    boot_nonce: String,
}

/// `POST /api/v1/agents/{id}/lease`: 200, or 409 while another start holds the id.
pub async fn lease(
    State(shared): State<Arc<Shared>>,
    Named(agent): Named<String>,
    Body(Start { boot_nonce }): Body<Start>,
) -> Result<Json<()>, Failure> {
    let fits = |name: &str| !name.is_empty() && name.len() <= NAME_BYTES_MAX;
    if !fits(&agent) || !fits(&boot_nonce) {
        let message = format!("agent id and boot_nonce must be 1 to {NAME_BYTES_MAX} bytes");
        return Err(Failure::new(StatusCode::BAD_REQUEST, message));
    }
    let now_ms = shared.clock.now_ms();
    shared.store.lease(agent.clone(), boot_nonce).await?;
    shared.live().heard(Role::Agent, &agent, now_ms);
    Ok(Json(()))
}
