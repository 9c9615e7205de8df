//! The configuration, watched by every role with a long poll. The answer is bytes made once per version, so that a
//! change costs one copy a role.

use std::sync::Arc;
use std::time::Duration;

use axum::extract::State;
use axum::response::{IntoResponse, Response};
use http::header;
use serde::Deserialize;
use tokio::select;
use tokio::time::sleep;

use super::Shared;
use super::extract::Parameters;
use crate::metrics;

/// Longest wait, whatever the caller asks for.
const WAIT_MAX: Duration = Duration::from_secs(30);

/// What the caller knows.
#[derive(Deserialize)]
pub struct Known {
    /// The version it has.
    after: Option<u64>,
    /// How long it would wait for another one.
    #[serde(default)]
    wait_ms: u64,
}

/// `GET /api/v1/config?after=V&wait_ms=W`: at once if the version is another than V, else when it changes, at the
/// latest after W ms.
pub async fn watch(State(shared): State<Arc<Shared>>, Parameters(known): Parameters<Known>) -> Response {
    let mut published = shared.published.clone();
    let wait = Duration::from_millis(known.wait_ms).min(WAIT_MAX);
    if known.after == Some(published.borrow().snapshot.version) && !wait.is_zero() {
        let mut ending = shared.ending.clone();
        let _waiting = Waiting::new();
        select! {
            () = async { drop(published.wait_for(|now| Some(now.snapshot.version) != known.after).await) } => {}
            () = async { drop(ending.wait_for(|ending| *ending).await) } => {}
            () = sleep(wait) => {}
        }
    }
    let json = published.borrow().json.clone();
    ([(header::CONTENT_TYPE, "application/json")], json).into_response()
}

/// Counts a poll as long as it waits, also if its caller hangs up.
struct Waiting;

impl Waiting {
    fn new() -> Self {
        metrics::polls_waiting(1.0);
        Self
    }
}

impl Drop for Waiting {
    fn drop(&mut self) {
        metrics::polls_waiting(-1.0);
    }
}
