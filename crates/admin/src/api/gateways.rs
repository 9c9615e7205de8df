//! How all gateways serve their queues: show and change.

use std::sync::Arc;

use axum::Json;
use axum::extract::State;
use stream::policy::GatewayPolicy;

use super::extract::Body;
use super::{Failure, Shared};

/// `GET /api/v1/gateways`: the policy.
pub async fn show(State(shared): State<Arc<Shared>>) -> Json<GatewayPolicy> {
    Json(shared.published.borrow().snapshot.gateways)
}

/// `PUT /api/v1/gateways`: the whole policy anew.
pub async fn change(
    State(shared): State<Arc<Shared>>,
    Body(policy): Body<GatewayPolicy>,
) -> Result<Json<GatewayPolicy>, Failure> {
    shared.store.change_gateways(policy).await?;
    Ok(Json(policy))
}
