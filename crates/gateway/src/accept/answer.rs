//! What an HTTP client hears: the one place that turns outcomes into statuses. Every refusal has the body
//! `{"error": message, "reason": name, "scope": scope}`.
//!
//! ```text
//! 200 durable                  {"records": n, "offset_end": n}
//! 400 malformed                413 too_large           429 queue_full, rate_limited  + Retry-After
//! 401 unauthorized             415 unknown_encoding    503 unavailable, disk_full    + Retry-After
//! 403 forbidden, foreign_host, foreign_origin          408 too_slow
//! 404 unknown_stream, no_such_path
//! 405 method_not_allowed       422 key_reused
//! ```

use axum::Json;
use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use serde::Serialize;
use stream::wire::{Refusal, RefusalReason};

use crate::metrics;
use crate::queue::Stored;

/// Why a request was not taken.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Refused {
    /// Refused as any batch might be.
    Batch(Refusal),
    /// The `Host` is none of this machine's.
    ForeignHost,
    /// A page sends, to where pages may not.
    ForeignOrigin,
    /// There is nothing at this path.
    NoSuchPath,
    /// There is something, but for these methods only.
    MethodNotAllowed(&'static str),
    /// A content encoding that is not known.
    UnknownEncoding(String),
    /// The body took too long.
    TooSlow,
}

/// What a request counts for that is refused for what it is, beside its bytes.
const BYTES_MIN: usize = 100 << 10;

impl Refused {
    /// What is charged to the [`crate::rate::Tarpit`] after so many bytes were read or unpacked: nothing if the journal is to
    /// blame, the bytes if their sender only sent too much, and more if nobody would take them.
    pub fn charged_bytes(&self, bytes: usize) -> Option<usize> {
        let reason = match self {
            Self::Batch(refusal) => refusal.reason,
            _ => return Some(BYTES_MIN + bytes),
        };
        match reason {
            RefusalReason::Unavailable | RefusalReason::DiskFull => None,
            RefusalReason::QueueFull | RefusalReason::RateLimited => Some(bytes),
            _ => Some(BYTES_MIN + bytes),
        }
    }
}

impl From<Refusal> for Refused {
    fn from(refusal: Refusal) -> Self {
        Self::Batch(refusal)
    }
}

#[derive(Serialize)]
struct Body<'a> {
    error: &'a str,
    reason: &'a str,
    scope: &'a str,
}

impl IntoResponse for Stored {
    /// Written by hand, because nearly all requests end here: what makes JSON and headers of anything takes six buffers.
    fn into_response(self) -> Response {
        let Self { records, offset_end, .. } = self;
        let mut response = format!("{{\"records\":{records},\"offset_end\":{offset_end}}}").into_response();
        response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
        response
    }
}

impl IntoResponse for Refused {
    fn into_response(self) -> Response {
        let (status, reason, error) = match &self {
            Self::Batch(refusal) => (status(refusal.reason), refusal.reason.name(), refusal.message.as_str()),
            Self::ForeignHost => (StatusCode::FORBIDDEN, "foreign_host", "this door is open to localhost only"),
            Self::ForeignOrigin => (
                StatusCode::FORBIDDEN,
                "foreign_origin",
                "without a token pages of other origins may send to .../beacon only",
            ),
            Self::NoSuchPath => (
                StatusCode::NOT_FOUND,
                "no_such_path",
                "POST to /v1/streams/{id}/records, or to json, beacon or otlp/v1/logs beside it",
            ),
            Self::MethodNotAllowed(_) => (
                StatusCode::METHOD_NOT_ALLOWED,
                "method_not_allowed",
                "this path takes other methods; the header Allow names them",
            ),
            Self::UnknownEncoding(error) => (StatusCode::UNSUPPORTED_MEDIA_TYPE, "unknown_encoding", error.as_str()),
            Self::TooSlow => (StatusCode::REQUEST_TIMEOUT, "too_slow", "the body took too long; send it again"),
        };
        let scope = match &self {
            Self::Batch(refusal) => refusal.scope.as_str(),
            _ => "request",
        };
        metrics::refused_request(reason);
        let mut response = (status, Json(Body { error, reason, scope })).into_response();
        let headers = response.headers_mut();
        match &self {
            Self::Batch(_) if status == StatusCode::UNAUTHORIZED => {
                headers.insert(header::WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
            }
            Self::Batch(refusal) if may_pass(status) && !refusal.retry_after.is_zero() => {
                headers.insert(header::RETRY_AFTER, HeaderValue::from(whole_seconds(refusal)));
            }
            Self::MethodNotAllowed(methods) => {
                headers.insert(header::ALLOW, HeaderValue::from_static(methods));
            }
            Self::UnknownEncoding(_) => {
                headers.insert(header::ACCEPT_ENCODING, HeaderValue::from_static("identity, gzip, zstd"));
            }
            Self::TooSlow => {
                headers.insert(header::CONNECTION, HeaderValue::from_static("close"));
            }
            _ => {}
        }
        response
    }
}

fn status(reason: RefusalReason) -> StatusCode {
    match reason {
        RefusalReason::UnknownStream => StatusCode::NOT_FOUND,
        RefusalReason::Unauthorized => StatusCode::UNAUTHORIZED,
        RefusalReason::Forbidden => StatusCode::FORBIDDEN,
        RefusalReason::QueueFull | RefusalReason::RateLimited => StatusCode::TOO_MANY_REQUESTS,
        RefusalReason::Malformed => StatusCode::BAD_REQUEST,
        RefusalReason::TooLarge => StatusCode::PAYLOAD_TOO_LARGE,
        RefusalReason::KeyReused => StatusCode::UNPROCESSABLE_ENTITY,
        RefusalReason::Unavailable | RefusalReason::DiskFull => StatusCode::SERVICE_UNAVAILABLE,
    }
}

/// Whether the same request may be taken later, without anybody's doing.
fn may_pass(status: StatusCode) -> bool {
    matches!(status, StatusCode::TOO_MANY_REQUESTS | StatusCode::SERVICE_UNAVAILABLE)
}

/// `Retry-After` knows whole seconds only, and zero would mean at once.
fn whole_seconds(refusal: &Refusal) -> u64 {
    refusal.retry_after.as_millis().div_ceil(1000).max(1) as u64
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_is_to_blame_pays() {
        let of = |reason| Refused::from(Refusal::new(reason, "stream a", "no")).charged_bytes(7);
        assert_eq!(of(RefusalReason::Unavailable), None);
        assert_eq!(of(RefusalReason::QueueFull), Some(7));
        assert_eq!(of(RefusalReason::Unauthorized), Some(7 + BYTES_MIN));
        assert_eq!(Refused::TooSlow.charged_bytes(0), Some(BYTES_MIN));
    }
}
