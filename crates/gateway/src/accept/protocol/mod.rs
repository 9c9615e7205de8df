//! Protocols over HTTP: each is a file that says where it is spoken, how the body of a request becomes records, and what
//! its client hears. What they share (keys, limits, compression, deadlines) is done in [`super::http`], so a new protocol
//! is one more file here and one more line in the router.

pub mod array;
pub mod beacon;
pub mod lines;
pub mod otlp;

use axum::http::{HeaderMap, StatusCode};
use axum::response::{IntoResponse, Response};
use bytes::Bytes;
use stream::wire::Refusal;

use crate::accept::answer::Refused;
use crate::admit::Gatherer;
use crate::queue::Stored;

/// A protocol.
pub trait Protocol: Send + Sync + 'static {
    /// Where it is spoken, below a stream's own path.
    const PATH: &'static str;

    /// Whether a request without any record is answered as one that was taken.
    const EMPTY_IS_FINE: bool = false;

    /// Adds the records of a request's decompressed body, in order. Their ranges are parts of one source that begins at 0:
    /// a function of the body alone, so that a request sent again is the same records again.
    fn gather(headers: &HeaderMap, body: &Bytes, records: &mut Gatherer<'_>) -> Result<(), Refusal>;

    /// What the client hears when its records are durable.
    fn durable(_headers: &HeaderMap, stored: Stored) -> Response {
        stored.into_response()
    }

    /// What it hears when they are not.
    fn refused(_headers: &HeaderMap, refused: Refused) -> Response {
        refused.into_response()
    }
}

/// An answer without a word.
fn nothing() -> Response {
    StatusCode::NO_CONTENT.into_response()
}
