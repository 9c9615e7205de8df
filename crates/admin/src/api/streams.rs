//! Streams as data: list, create, show, change, delete. What is answered with success is stored and published.

use std::sync::Arc;

use axum::Json;
use axum::extract::State;
use axum::response::{IntoResponse, Response};
use http::{HeaderMap, StatusCode, header};
use stream::StreamId;
use stream::config::{Checked, StreamConfig, StreamSpec};

use super::extract::{Body, Named};
use super::{Failure, Shared};
use crate::error::StoreError;

/// `GET /api/v1/streams`: every stream, by id.
pub async fn list(State(shared): State<Arc<Shared>>) -> Response {
    let published = shared.published.borrow().clone();
    Json(published.snapshot.streams.values().collect::<Vec<_>>()).into_response()
}

/// `POST /api/v1/streams`: a new stream; 201 with its configuration, and warnings if the check has any.
pub async fn create(
    State(shared): State<Arc<Shared>>,
    Body(spec): Body<StreamSpec>,
) -> Result<impl IntoResponse, Failure> {
    let warnings = check(&shared, &spec).await?;
    let config = shared.store.create(spec).await?;
    Ok((StatusCode::CREATED, tagged(&config, warnings)))
}

/// `GET /api/v1/streams/{id}`: one stream, its version as `ETag`.
pub async fn show(State(shared): State<Arc<Shared>>, Named(id): Named<StreamId>) -> Result<Response, Failure> {
    let published = shared.published.borrow().clone();
    let config = published.snapshot.streams.get(&id).ok_or(StoreError::NoStream(id))?;
    Ok(tagged(config, Vec::new()).into_response())
}

/// `PUT /api/v1/streams/{id}`: the whole spec anew; with `If-Match` only on the version that the caller has read.
pub async fn change(
    State(shared): State<Arc<Shared>>,
    Named(id): Named<StreamId>,
    headers: HeaderMap,
    Body(spec): Body<StreamSpec>,
) -> Result<Response, Failure> {
    if spec.id != id {
        let message = format!("the path names stream {id}, the body {}; an id cannot be changed", spec.id);
        return Err(Failure::new(StatusCode::BAD_REQUEST, message));
    }
    let warnings = check(&shared, &spec).await?;
    let config = shared.store.change(spec, version_read(&headers)?).await?;
    Ok(tagged(&config, warnings).into_response())
}

/// `DELETE /api/v1/streams/{id}`: ends the stream's life; 204. Created again it is another stream.
pub async fn delete(State(shared): State<Arc<Shared>>, Named(id): Named<StreamId>) -> Result<StatusCode, Failure> {
    shared.store.delete(id).await?;
    Ok(StatusCode::NO_CONTENT)
}

/// Checks what needs no other stream, the SQL on a thread of its own.
async fn check(shared: &Shared, spec: &StreamSpec) -> Result<Vec<String>, Failure> {
    spec.check().map_err(StoreError::from)?;
    let (sql_check, spec) = (shared.sql_check.clone(), spec.clone());
    let checked = tokio::task::spawn_blocking(move || sql_check(&spec)).await;
    let checked = checked.unwrap_or_else(|_| Err("the check of this text failed; report it with the text".into()));
    checked.map_err(|cause| Failure::new(StatusCode::BAD_REQUEST, format!("sql: {cause}")))
}

fn tagged(config: &StreamConfig, warnings: Vec<String>) -> impl IntoResponse + use<> {
    let checked = Checked { config: config.clone(), warnings };
    ([(header::ETAG, format!("\"{}\"", config.version))], Json(checked))
}

/// The version in `If-Match`; `*` is any.
fn version_read(headers: &HeaderMap) -> Result<Option<u64>, Failure> {
    let Some(value) = headers.get(header::IF_MATCH) else { return Ok(None) };
    let text = value.to_str().unwrap_or_default().trim().trim_matches('"');
    if text == "*" {
        return Ok(None);
    }
    let message = "If-Match must be a stream's version, as its ETag states it";
    text.parse().map(Some).map_err(|_| Failure::new(StatusCode::BAD_REQUEST, message))
}
