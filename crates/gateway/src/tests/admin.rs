//! An admin in memory: it hears what a gateway states, and can be away.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};

use ::http::StatusCode;
use axum::extract::State;
use axum::routing::post;
use axum::{Json, Router};
use stream::SourceId;
use stream::facts::{FlowReport, SourceFact};

use super::{listener, until};

/// The admin.
#[derive(Clone, Default)]
pub(super) struct FakeAdmin {
    facts: Arc<Mutex<BTreeMap<SourceId, SourceFact>>>,
    flows: Arc<Mutex<Vec<FlowReport>>>,
    refusals_left: Arc<Mutex<usize>>,
}

impl FakeAdmin {
    /// The admin, and its URL.
    pub(super) async fn start() -> (Self, String) {
        let admin = Self::default();
        let router = Router::new().route("/api/v1/facts", post(take_facts)).route("/api/v1/flows", post(take_flows));
        let listener = listener().await;
        let base = format!("http://{}", listener.local_addr().unwrap());
        let serving = axum::serve(listener, router.with_state(admin.clone()));
        tokio::spawn(async move { serving.await.unwrap() });
        (admin, base)
    }

    /// Every fact that was stated.
    pub(super) fn facts(&self) -> Vec<SourceFact> {
        self.facts.lock().unwrap().values().cloned().collect()
    }

    /// What was last stated of a stream's flow.
    pub(super) fn flow(&self, name: &str) -> Option<FlowReport> {
        self.flows.lock().unwrap().iter().find(|flow| flow.stream == super::id(name)).cloned()
    }

    /// Waits until the gateway holds `bytes` for a stream.
    pub(super) async fn until_held(&self, name: &str, bytes: u64) {
        until("enough is queued", || self.flow(name).is_some_and(|flow| flow.queue_bytes >= bytes)).await;
    }

    /// Is away for the next `calls` with facts.
    pub(super) fn be_away(&self, calls: usize) {
        *self.refusals_left.lock().unwrap() = calls;
    }
}

async fn take_facts(State(admin): State<FakeAdmin>, Json(facts): Json<Vec<SourceFact>>) -> StatusCode {
    let mut left = admin.refusals_left.lock().unwrap();
    if *left > 0 {
        *left -= 1;
        return StatusCode::SERVICE_UNAVAILABLE;
    }
    admin.facts.lock().unwrap().extend(facts.into_iter().map(|fact| (fact.source, fact)));
    StatusCode::OK
}

async fn take_flows(State(admin): State<FakeAdmin>, Json(flows): Json<Vec<FlowReport>>) {
    *admin.flows.lock().unwrap() = flows;
}
