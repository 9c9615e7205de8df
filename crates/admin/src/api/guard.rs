//! Who may call. Admin listens on loopback without authentication, so what a browser on this machine can be talked
//! into must not reach it: a foreign name that resolves to this machine is seen by its `Host`, a foreign page's form by
//! its content type, a foreign script by its `Origin`. Calls that change something must also end in time.

use std::time::Duration;

use axum::extract::Request;
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use http::{HeaderMap, HeaderValue, Method, StatusCode, header};
use tokio::time::timeout;

use super::Failure;

/// How long a changing call may take, its body included. Reading calls bound themselves.
const CALL: Duration = Duration::from_secs(30);
/// What pages may load: their own files, nothing else and from nowhere else.
const POLICY: HeaderValue = HeaderValue::from_static(
    "default-src 'self'; frame-ancestors 'none'; base-uri 'none'; form-action 'self'; object-src 'none'",
);

/// Lets a call through, or answers it.
pub async fn guard(request: Request, next: Next) -> Response {
    let mut response = match check(request.method(), request.headers()) {
        Err(failure) => failure.into_response(),
        Ok(()) if request.method().is_safe() => next.run(request).await,
        Ok(()) => match timeout(CALL, next.run(request)).await {
            Ok(response) => response,
            Err(_) => Failure::new(StatusCode::REQUEST_TIMEOUT, "the call took too long").into_response(),
        },
    };
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_SECURITY_POLICY, POLICY);
    headers.insert(header::X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    headers.insert(header::REFERRER_POLICY, HeaderValue::from_static("no-referrer"));
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    response
}

fn check(method: &Method, headers: &HeaderMap) -> Result<(), Failure> {
    let text = |name| headers.get(name).and_then(|value: &HeaderValue| value.to_str().ok());
    let host = text(header::HOST).unwrap_or_default();
    if !is_loopback(host) {
        let message = "the Host header must name this machine: localhost, 127.0.0.1 or [::1]";
        return Err(Failure::new(StatusCode::FORBIDDEN, message));
    }
    if method.is_safe() {
        return Ok(());
    }
    if headers.contains_key(header::ORIGIN) && text(header::ORIGIN) != Some(&format!("http://{host}")) {
        return Err(Failure::new(StatusCode::FORBIDDEN, "changes are not taken from pages of another origin"));
    }
    let json = text(header::CONTENT_TYPE).is_some_and(is_json);
    // A DELETE has no body to state a type of, and browsers send none to another origin without asking first.
    if !json && method != Method::DELETE {
        let message = "changes must have the content type application/json";
        return Err(Failure::new(StatusCode::UNSUPPORTED_MEDIA_TYPE, message));
    }
    Ok(())
}

/// Whether a `Host` is this machine, at any port.
fn is_loopback(host: &str) -> bool {
    let name = match host.rsplit_once(':') {
        Some((name, port)) if port.bytes().all(|b| b.is_ascii_digit()) => name,
        _ => host,
    };
    name.eq_ignore_ascii_case("localhost") || name == "127.0.0.1" || name == "[::1]"
}

fn is_json(content_type: &str) -> bool {
    content_type.split(';').next().is_some_and(|kind| kind.trim().eq_ignore_ascii_case("application/json"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn status(method: Method, headers: &[(header::HeaderName, &'static str)]) -> u16 {
        let headers = headers.iter().map(|(name, value)| (name.clone(), HeaderValue::from_static(value))).collect();
        check(&method, &headers).map_or_else(|failure| failure.status.as_u16(), |()| 200)
    }

    #[test]
    fn only_this_machine_is_served() {
        for host in ["localhost", "LOCALHOST:7700", "127.0.0.1:1", "[::1]", "[::1]:7700"] {
            assert_eq!(status(Method::GET, &[(header::HOST, host)]), 200, "{host}");
        }
        for host in ["", "example.org", "localhost.example.org:7700", "127.0.0.1.example.org", "example.org:localhost"]
        {
            assert_eq!(status(Method::GET, &[(header::HOST, host)]), 403, "{host}");
        }
    }

    #[test]
    fn changes_come_as_json_from_here() {
        let host = (header::HOST, "localhost:7700");
        let json = (header::CONTENT_TYPE, "application/json; charset=utf-8");
        let cases = [
            (Method::POST, vec![host.clone(), json.clone()], 200),
            (Method::POST, vec![host.clone(), json.clone(), (header::ORIGIN, "http://localhost:7700")], 200),
            (Method::POST, vec![host.clone(), json.clone(), (header::ORIGIN, "http://example.org")], 403),
            (Method::POST, vec![host.clone(), json, (header::ORIGIN, "null")], 403),
            (Method::POST, vec![host.clone()], 415),
            (Method::PUT, vec![host.clone(), (header::CONTENT_TYPE, "text/plain")], 415),
            (Method::DELETE, vec![host.clone()], 200),
            (Method::DELETE, vec![host, (header::ORIGIN, "http://example.org")], 403),
        ];
        for (method, headers, expected) in cases {
            assert_eq!(status(method.clone(), &headers), expected, "{method} {headers:?}");
        }
    }
}
