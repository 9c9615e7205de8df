//! What is going on: status, history, health.

use std::sync::Arc;

use axum::Json;
use axum::extract::State;
use serde::Deserialize;
use stream::StreamId;

use super::extract::Parameters;
use super::ledger::living;
use super::{Failure, Shared};
use crate::history::History;
use crate::status::{self, JournalAddress, Status};

/// `GET /api/v1/status`.
pub async fn show(State(shared): State<Arc<Shared>>) -> Json<Status> {
    Json(status::status(&shared))
}

/// `GET /api/v1/journal`: where the journal is.
pub async fn journal(State(shared): State<Arc<Shared>>) -> Json<JournalAddress> {
    Json(JournalAddress { address: shared.journal_addr.clone() })
}

/// Whose history is asked for.
#[derive(Deserialize)]
pub struct Whose {
    stream: Option<StreamId>,
}

/// `GET /api/v1/history?stream=`: the last ten minutes of one stream, or of all together.
pub async fn history(
    State(shared): State<Arc<Shared>>,
    Parameters(whose): Parameters<Whose>,
) -> Result<Json<History>, Failure> {
    let stream = whose.stream.map(|id| living(&shared, id)).transpose()?;
    let stream = stream.map(|config| (config.spec.id, config.incarnation));
    Ok(Json(shared.rings().history(stream)))
}

/// `GET /health`: admin answers, and this is its metadata version.
pub async fn health(State(shared): State<Arc<Shared>>) -> Json<serde_json::Value> {
    let version = shared.published.borrow().snapshot.version;
    Json(serde_json::json!({ "role": "admin", "up": true, "version": version }))
}
