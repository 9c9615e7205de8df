//! Reports of the legs, durable when answered.

use std::sync::Arc;

use axum::Json;
use axum::extract::State;
use stream::facts::{LegReport, ReportReply};

use super::extract::Body;
use super::{Failure, Shared};
use crate::metrics;
use crate::status::Role;

/// `POST /api/v1/legs`: what a leg has committed.
pub async fn take(
    State(shared): State<Arc<Shared>>,
    Body(report): Body<LegReport>,
) -> Result<Json<ReportReply>, Failure> {
    let now_ms = shared.clock.now_ms();
    shared.live().heard(Role::Query, "", now_ms);
    if let Some(job) = &report.job {
        metrics::flink_job(&report.stream, job);
    }
    Ok(Json(shared.store.leg(report).await?))
}
