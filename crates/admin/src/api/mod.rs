//! The admin API: JSON over HTTP under `/api/v1`, a file a group of calls. Every error is an
//! [`stream::control::ApiError`]; which HTTP status a refusal gets is decided here, once.

pub mod guard;
pub mod extract;
pub mod streams;
pub mod tokens;
pub mod gateways;
pub mod config;
pub mod facts;
pub mod legs;
pub mod agents;
pub mod ledger;
pub mod status;

use std::sync::{Arc, Mutex, MutexGuard};

use axum::extract::DefaultBodyLimit;
use axum::response::{IntoResponse, Response};
use axum::routing::{delete, get, post};
use axum::{Json, Router, middleware};
use http::StatusCode;
use stream::clock::Clock;
use stream::control::ApiError;
use tokio::sync::watch;

use crate::ends::Ends;
use crate::error::StoreError;
use crate::history::Rings;
use crate::live::Live;
use crate::settings::SqlCheck;
use crate::store::{Published, Store, locked};
use crate::{metrics, page};

/// Longest stream spec: its SQL, and room.
const SPEC_BYTES_MAX: usize = 1 << 20;
/// Longest list of facts or flows: thousands of sources with their cuts.
const FACTS_BYTES_MAX: usize = 32 << 20;
/// Longest leg report: a whole one holds every range of a leg whose memory is bounded by
/// [`stream::limits::RANGE_SET_BYTES_MAX`], printed.
const REPORT_BYTES_MAX: usize = 4 * stream::limits::RANGE_SET_BYTES_MAX;

/// What every call can reach.
pub struct Shared {
    /// Streams, facts, legs, leases.
    pub store: Store,
    /// The configuration as it changes.
    pub published: watch::Receiver<Arc<Published>>,
    /// Where topics end.
    pub ends: Arc<dyn Ends>,
    /// Checks a job's SQL.
    pub sql_check: SqlCheck,
    /// Which journal, as text: see `journal::address`.
    pub journal_addr: Option<String>,
    /// The wall clock.
    pub clock: Arc<dyn Clock>,
    /// When this admin started, in ms since 1970.
    pub started_ms: i64,
    /// True once admin is to end: whoever waits answers.
    pub ending: watch::Receiver<bool>,
    live: Mutex<Live>,
    rings: Mutex<Rings>,
}

impl Shared {
    /// What is shared from the start.
    pub fn new(
        store: Store,
        ends: Arc<dyn Ends>,
        sql_check: SqlCheck,
        journal_addr: Option<String>,
        clock: Arc<dyn Clock>,
        ending: watch::Receiver<bool>,
    ) -> Self {
        let (published, started_ms) = (store.published(), clock.now_ms());
        let (live, rings) = (Mutex::default(), Mutex::default());
        Self { store, published, ends, sql_check, journal_addr, clock, started_ms, ending, live, rings }
    }

    /// What is heard now. Held for moments only; taken after the book where both are needed.
    pub fn live(&self) -> MutexGuard<'_, Live> {
        locked(&self.live)
    }

    /// The last ten minutes. Held for moments only.
    pub fn rings(&self) -> MutexGuard<'_, Rings> {
        locked(&self.rings)
    }
}

/// All routes, guarded.
pub fn router(shared: Arc<Shared>) -> Router {
    Router::new()
        .route("/api/v1/streams", get(streams::list).post(streams::create))
        .route("/api/v1/streams/{id}", get(streams::show).put(streams::change).delete(streams::delete))
        .layer(DefaultBodyLimit::max(SPEC_BYTES_MAX))
        .merge(
            Router::new()
                .route("/api/v1/facts", get(facts::list).post(facts::take))
                .route("/api/v1/flows", post(facts::take_flows))
                .layer(DefaultBodyLimit::max(FACTS_BYTES_MAX)),
        )
        .merge(Router::new().route("/api/v1/legs", post(legs::take)).layer(DefaultBodyLimit::max(REPORT_BYTES_MAX)))
        .route("/api/v1/gateways", get(gateways::show).put(gateways::change))
        .route("/api/v1/tokens", get(tokens::list).post(tokens::create))
        .route("/api/v1/tokens/{name}", delete(tokens::delete))
        .route("/api/v1/tokens/{name}/rotate", post(tokens::rotate))
        .route("/api/v1/tokens/{name}/retire", post(tokens::retire))
        .route("/api/v1/config", get(config::watch))
        .route("/api/v1/agents/{id}/lease", post(agents::lease))
        .route("/api/v1/ledger/{id}", get(ledger::show))
        .route("/api/v1/status", get(status::show))
        .route("/api/v1/journal", get(status::journal))
        .route("/api/v1/history", get(status::history))
        .route("/health", get(status::health))
        .merge(page::router())
        .fallback(|| async { Failure::new(StatusCode::NOT_FOUND, "there is nothing under this path") })
        .method_not_allowed_fallback(|| async {
            Failure::new(StatusCode::METHOD_NOT_ALLOWED, "this path does not take this method")
        })
        .layer(middleware::from_fn(guard::guard))
        .with_state(shared)
}

/// A call that failed.
#[derive(Debug)]
pub struct Failure {
    status: StatusCode,
    message: String,
}

impl Failure {
    /// A failure that tells the caller `message`.
    pub fn new(status: StatusCode, message: impl Into<String>) -> Self {
        Self { status, message: message.into() }
    }
}

impl From<StoreError> for Failure {
    fn from(error: StoreError) -> Self {
        let status = match &error {
            StoreError::Spec(_) | StoreError::TokenScopes(..) | StoreError::Policy(_) => StatusCode::BAD_REQUEST,
            StoreError::NoStream(_) | StoreError::NoToken(_) => StatusCode::NOT_FOUND,
            StoreError::Exists(_)
            | StoreError::TopicTaken { .. }
            | StoreError::FolderTaken { .. }
            | StoreError::TopicFixed(..)
            | StoreError::Partitions(..)
            | StoreError::Engine { .. }
            | StoreError::Begun(..)
            | StoreError::Runs(..)
            | StoreError::Legs(..)
            | StoreError::Places(..)
            | StoreError::Full(_)
            | StoreError::TokenExists(_)
            | StoreError::TokensFull(_)
            | StoreError::Leased(_) => StatusCode::CONFLICT,
            StoreError::Version(..) => StatusCode::PRECONDITION_FAILED,
            StoreError::Database(_) => StatusCode::SERVICE_UNAVAILABLE,
        };
        Self::new(status, error.to_string())
    }
}

impl IntoResponse for Failure {
    fn into_response(self) -> Response {
        metrics::refused(self.status.as_u16());
        (self.status, Json(ApiError { error: self.message })).into_response()
    }
}
