//! Facts of the collecting side, durable when answered; and flows, kept in memory.

use std::sync::Arc;

use axum::Json;
use axum::extract::State;
use serde::Deserialize;
use stream::facts::{FlowReport, SourceFact};
use stream::{Incarnation, StreamId};

use super::extract::{Body, Parameters};
use super::{Failure, Shared};
use crate::metrics;

/// Whose facts are asked for.
#[derive(Deserialize)]
pub struct Whose {
    stream: StreamId,
    incarnation: Incarnation,
    collector: Option<String>,
}

/// `GET /api/v1/facts?stream=&incarnation=&collector=`: for a worker that has lost its state; without a collector
/// everybody's.
pub async fn list(State(shared): State<Arc<Shared>>, Parameters(whose): Parameters<Whose>) -> Json<Vec<SourceFact>> {
    let facts = shared.store.book().entry(whose.incarnation).facts;
    let asked = |fact: &&SourceFact| {
        fact.stream == whose.stream && whose.collector.as_ref().is_none_or(|collector| fact.collector == *collector)
    };
    Json(facts.values().filter(asked).cloned().collect())
}

/// `POST /api/v1/facts`: merged by maximum.
pub async fn take(State(shared): State<Arc<Shared>>, Body(facts): Body<Vec<SourceFact>>) -> Result<Json<()>, Failure> {
    let now_ms = shared.clock.now_ms();
    if let Some(fact) = facts.first() {
        shared.live().heard_collector(&fact.collector, now_ms);
    }
    shared.store.facts(facts).await?;
    Ok(Json(()))
}

/// `POST /api/v1/flows`: each replaces what its reporter said of the stream before.
pub async fn take_flows(State(shared): State<Arc<Shared>>, Body(flows): Body<Vec<FlowReport>>) -> Json<()> {
    let now_ms = shared.clock.now_ms();
    let published = shared.published.borrow().clone();
    let streams = &published.snapshot.streams;
    let (living, gone): (Vec<_>, Vec<_>) = flows
        .into_iter()
        .partition(|flow| streams.get(&flow.stream).is_some_and(|config| config.incarnation == flow.incarnation));
    metrics::left_out("flow", gone.len());
    let mut live = shared.live();
    for flow in living {
        let born_here = flow.incarnation.born_ms() >= shared.started_ms;
        live.take_flow(flow, born_here, now_ms);
    }
    Json(())
}
