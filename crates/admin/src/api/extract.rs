//! What calls are given, parsed; what cannot be parsed is answered in the API's own form.

use std::str::FromStr;

use axum::body::Bytes;
use axum::extract::{FromRequest, FromRequestParts, Path, Query, Request};
use http::StatusCode;
use http::request::Parts;
use serde::de::DeserializeOwned;

use super::Failure;

/// A JSON body.
pub struct Body<T>(pub T);

impl<T: DeserializeOwned, S: Send + Sync> FromRequest<S> for Body<T> {
    type Rejection = Failure;

    async fn from_request(request: Request, state: &S) -> Result<Self, Failure> {
        let bytes = Bytes::from_request(request, state).await;
        let bytes = bytes.map_err(|rejection| Failure::new(rejection.status(), rejection.body_text()))?;
        let parsed = serde_json::from_slice(&bytes);
        parsed.map(Self).map_err(|error| Failure::new(StatusCode::BAD_REQUEST, format!("body: {error}")))
    }
}

/// The parameters after `?`.
pub struct Parameters<T>(pub T);

impl<T: DeserializeOwned, S: Send + Sync> FromRequestParts<S> for Parameters<T> {
    type Rejection = Failure;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, Failure> {
        let Query(parsed) = Query::from_request_parts(parts, state)
            .await
            .map_err(|rejection| Failure::new(StatusCode::BAD_REQUEST, rejection.body_text()))?;
        Ok(Self(parsed))
    }
}

/// The one variable part of the path.
pub struct Named<T>(pub T);

impl<T: FromStr<Err: std::fmt::Display>, S: Send + Sync> FromRequestParts<S> for Named<T> {
    type Rejection = Failure;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, Failure> {
        let refused = |message: String| Failure::new(StatusCode::BAD_REQUEST, message);
        let Path(text) = Path::<String>::from_request_parts(parts, state)
            .await
            .map_err(|rejection| refused(rejection.body_text()))?;
        text.parse().map(Self).map_err(|error: T::Err| refused(error.to_string()))
    }
}
