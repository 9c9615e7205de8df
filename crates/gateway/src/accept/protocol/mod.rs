//! Protocols over HTTP: each is a file that says where it is spoken, how the body of a request becomes records, and what
//! its client hears. What they share (keys, limits, compression, deadlines) is done in [`super::http`], so a new protocol
//! is one more file here and one more line in [`Answers`](super::connection::Answers) of that door.

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
    /// Longest body that is taken apart where it arrives: some 100 µs of work. Longer ones wait for their turn.
    const AT_ONCE_BYTES_MAX: usize = 16 * 1024;

    /// Whether a request without any record is answered as one that was taken.
    const EMPTY_IS_FINE: bool = false;

    /// Whether pages of any origin may send it from a browser.
    const FROM_PAGES: bool = false;

    /// Adds the records of a request's decompressed body, in order. Their ranges are parts of one source that begins at 0:
    /// a function of the request alone, so that one sent again is the same records again.
    fn gather(headers: &HeaderMap, body: Bytes, records: &mut Gatherer<'_>) -> Result<(), Refusal>;

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

#[cfg(test)]
mod tests {
    use axum::http::header;
    use proptest::prelude::*;

    use super::array::Array;
    use super::beacon::Beacon;
    use super::lines::Lines;
    use super::otlp::{Otlp, tests::request};
    use super::*;
    use crate::admit::tests::gathered_with;
    use prost::Message;

    /// Whatever a body is, it is refused, or its records join from 0 on.
    fn takes_or_refuses<P: Protocol>(headers: &HeaderMap, body: &[u8]) -> Result<(), TestCaseError> {
        if let Ok(batch) = gathered_with::<P>(headers, body) {
            prop_assert!(batch.range.start == 0 && !batch.has_gaps());
            prop_assert!(batch.views().all(|record| !record.range.is_empty()));
            if P::PATH != Otlp::PATH {
                prop_assert_eq!(batch.range.end, body.len() as u64);
            }
        }
        Ok(())
    }

    fn all(body: &[u8]) -> Result<(), TestCaseError> {
        let mut headers = HeaderMap::new();
        takes_or_refuses::<Lines>(&headers, body)?;
        takes_or_refuses::<Array>(&headers, body)?;
        takes_or_refuses::<Beacon>(&headers, body)?;
        takes_or_refuses::<Otlp>(&headers, body)?;
        headers.insert(header::CONTENT_TYPE, header::HeaderValue::from_static("application/json"));
        takes_or_refuses::<Otlp>(&headers, body)
    }

    proptest! {
        #[test]
        fn whatever_comes_is_taken_or_refused(
            noise in proptest::collection::vec(any::<u8>(), 0..200),
            json in r#"[\[\]{}",:0-9a-z \\\n]{0,60}"#,
            damage in proptest::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 0..6), cut in any::<prop::sample::Index>(),
        ) {
            all(&noise)?;
            all(json.as_bytes())?;
            for mut body in [request().encode_to_vec(), serde_json::to_vec(&request()).unwrap()] {
                let length = body.len();
                damage.iter().for_each(|(at, byte)| body[at.index(length)] = *byte);
                all(&body)?;
                body.truncate(cut.index(length) + 1);
                all(&body)?;
            }
        }
    }
}
