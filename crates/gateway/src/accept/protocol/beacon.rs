//! A single event from a page or an app: the whole body of a `POST`, as `navigator.sendBeacon` sends it, or the query of a
//! `GET`, for what can only load a picture; then the record is a JSON object of the parameters. The answer is empty.
//!
//! A browser sends it from pages of other origins, so this path alone answers when they ask whether they may, and takes a
//! token from the query: `navigator.sendBeacon` has no headers. A token that stands in a page can only write.

use std::collections::BTreeMap;

use axum::http::{HeaderMap, HeaderValue, header};
use axum::response::{IntoResponse, Response};
use bytes::Bytes;
use stream::wire::{Refusal, RefusalReason};

use super::{Protocol, nothing};
use crate::accept::answer::Refused;
use crate::admit::Gatherer;
use crate::queue::Stored;

/// See the file's header.
pub struct Beacon;

impl Protocol for Beacon {
    const PATH: &'static str = "beacon";
    const FROM_PAGES: bool = true;

    fn gather(_: &HeaderMap, body: Bytes, records: &mut Gatherer<'_>) -> Result<(), Refusal> {
        // Nothing was sent: refused as the empty request that it is.
        if body.is_empty() { Ok(()) } else { records.push(body.len() as u64, None, &body) }
    }

    fn durable(headers: &HeaderMap, _: Stored) -> Response {
        allow(headers, nothing())
    }

    fn refused(headers: &HeaderMap, refused: Refused) -> Response {
        allow(headers, refused.into_response())
    }
}

/// The parameter that shows a token; never part of a record.
const TOKEN: &str = "token";

/// The token in a query.
pub fn token_of(query: &str) -> Option<String> {
    let parameters: Vec<(String, String)> = serde_urlencoded::from_str(query).ok()?;
    parameters.into_iter().find_map(|(name, value)| (name == TOKEN).then_some(value))
}

/// The record of a `GET`: its parameters but the token as a JSON object of texts; of one that stands there twice the last.
pub fn record_of(query: &str) -> Result<Bytes, Refusal> {
    let malformed = |cause: String| Refusal::new(RefusalReason::Malformed, "request", cause);
    let parameters: BTreeMap<String, String> = serde_urlencoded::from_str::<Vec<(String, String)>>(query)
        .map_err(|error| malformed(format!("the query is not urlencoded: {error}")))?
        .into_iter()
        .filter(|(name, _)| name != TOKEN)
        .collect();
    if parameters.is_empty() {
        return Err(malformed("the query is empty; name at least one parameter".to_owned()));
    }
    serde_json::to_vec(&parameters).map(Bytes::from).map_err(|error| malformed(error.to_string()))
}

/// Lets a page of any origin send, which cannot read more than that it was taken: a beacon carries no right of its own.
pub fn allow(headers: &HeaderMap, mut response: Response) -> Response {
    let Some(origin) = headers.get(header::ORIGIN) else { return response };
    let allowed = response.headers_mut();
    allowed.insert(header::ACCESS_CONTROL_ALLOW_ORIGIN, origin.clone());
    allowed.insert(header::ACCESS_CONTROL_ALLOW_CREDENTIALS, HeaderValue::from_static("true"));
    allowed.insert(
        header::ACCESS_CONTROL_ALLOW_HEADERS,
        HeaderValue::from_static("authorization, content-type, content-encoding, idempotency-key, idempotency-time"),
    );
    allowed.insert(header::VARY, HeaderValue::from_static("origin"));
    response
}

/// The answer to a browser that asks whether it may send.
pub fn preflight(headers: &HeaderMap) -> Response {
    allow(headers, nothing())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_query_is_an_object_of_texts() {
        let record = record_of("page=%2Fhome&x=1+2&x=3&%C3%A4=%22").unwrap();
        assert_eq!(record, r#"{"page":"/home","x":"3","ä":"\""}"#);
        let with_token = "token=ilw_1&x=1";
        assert_eq!(record_of(with_token).unwrap(), r#"{"x":"1"}"#);
        assert_eq!(token_of(with_token).as_deref(), Some("ilw_1"));
        assert_eq!((token_of("x=1"), token_of("")), (None, None));
        assert_eq!(record_of("").unwrap_err().reason, RefusalReason::Malformed);
    }
}
