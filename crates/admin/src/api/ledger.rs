//! The ledger of one stream.

use std::sync::Arc;

use axum::Json;
use axum::extract::State;
use stream::StreamId;
use stream::config::StreamConfig;

use super::extract::Named;
use super::{Failure, Shared};
use crate::audit;
use crate::error::StoreError;
use crate::ledger::Ledger;

/// `GET /api/v1/ledger/{id}`: made anew for each call.
pub async fn show(State(shared): State<Arc<Shared>>, Named(id): Named<StreamId>) -> Result<Json<Ledger>, Failure> {
    let config = living(&shared, id)?;
    Ok(Json(audit::ledger(&shared, &config).await))
}

/// The living stream of this id.
pub fn living(shared: &Shared, id: StreamId) -> Result<StreamConfig, StoreError> {
    shared.published.borrow().snapshot.streams.get(&id).cloned().ok_or(StoreError::NoStream(id))
}
