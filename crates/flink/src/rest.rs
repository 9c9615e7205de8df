//! JSON over HTTP, as Flink's two servers speak it: every call has a deadline, every answer a greatest size.

use std::fmt;
use std::str::FromStr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use bytes::Bytes;
use http::{Method, Request, StatusCode, header};
use http_body_util::{BodyExt, Full, Limited};
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::TokioExecutor;
use serde_json::Value;
use tokio::time::timeout;
use tracing::{info, warn};

/// Longest answer that is taken: an overview of 10,000 jobs has some 5 MB.
const ANSWER_BYTES_MAX: usize = 32 << 20;
/// How long a call may take.
const CALL: Duration = Duration::from_secs(10);
/// Longest cause that is kept of an error: Flink sends whole stack traces.
const CAUSE_CHARS_MAX: usize = 600;

/// Where a server listens.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Address {
    /// Name or number of the machine.
    pub host: String,
    /// The port.
    pub port: u16,
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.host, self.port)
    }
}

/// What is no address.
#[derive(Debug, thiserror::Error)]
#[error("{0:?} is no address: write HOST:PORT")]
pub struct NoAddress(String);

impl FromStr for Address {
    type Err = NoAddress;

    fn from_str(text: &str) -> Result<Self, NoAddress> {
        let parts = text.rsplit_once(':').and_then(|(host, port)| Some((host, port.parse().ok()?)));
        match parts {
            Some((host, port)) if !host.is_empty() => Ok(Self { host: host.to_owned(), port }),
            _ => Err(NoAddress(text.to_owned())),
        }
    }
}

/// Why a call failed.
#[derive(Clone, Debug, thiserror::Error)]
pub enum RestError {
    /// Nobody knows whether the call had an effect.
    #[error("Flink at {at} does not answer: {cause}")]
    Away {
        /// Who was called.
        at: Address,
        /// What happened.
        cause: String,
    },
    /// It answered, with an error.
    #[error("Flink at {at}: {cause}")]
    Refused {
        /// Who was called.
        at: Address,
        /// The HTTP status.
        status: u16,
        /// The innermost cause that it names.
        cause: String,
    },
}

/// A client of one server. It says when the server does not answer, and when it does again: once, whoever calls it.
#[derive(Clone, Debug)]
pub struct Rest {
    at: Address,
    http: Client<HttpConnector, Full<Bytes>>,
    is_away: Arc<AtomicBool>,
}

impl Rest {
    /// A client of the server at this address.
    pub fn new(at: Address) -> Self {
        Self { at, http: Client::builder(TokioExecutor::new()).build_http(), is_away: Arc::default() }
    }

    /// Whom it calls.
    pub fn at(&self) -> &Address {
        &self.at
    }

    /// Calls `path` (with its leading slash); `body` is sent as JSON.
    pub async fn call(&self, method: Method, path: &str, body: Option<&Value>) -> Result<Value, RestError> {
        let answer = self.ask(method, path, body).await;
        let is_away = matches!(answer, Err(RestError::Away { .. }));
        let was_away = self.is_away.swap(is_away, Ordering::Relaxed);
        match &answer {
            Err(error) if is_away && !was_away => warn!(%error, "nothing is done about its jobs until it answers"),
            _ if was_away && !is_away => info!("Flink at {} answers again", self.at),
            _ => (),
        }
        answer
    }

    async fn ask(&self, method: Method, path: &str, body: Option<&Value>) -> Result<Value, RestError> {
        let request = Request::builder()
            .method(method)
            .uri(format!("http://{}{path}", self.at))
            .header(header::CONTENT_TYPE, "application/json")
            .body(Full::new(body.map_or_else(Bytes::new, |body| body.to_string().into())))
            .map_err(|error| self.away(&error.to_string()))?;
        let exchange = timeout(CALL, self.exchange(request)).await;
        let (status, bytes) = exchange.map_err(|_| self.away(&format!("no answer within {} s", CALL.as_secs())))??;
        if !status.is_success() {
            return Err(RestError::Refused { at: self.at.clone(), status: status.as_u16(), cause: cause(&bytes) });
        }
        serde_json::from_slice(if bytes.is_empty() { b"null" } else { &bytes })
            .map_err(|error| self.away(&format!("an answer that is no JSON: {error}")))
    }

    async fn exchange(&self, request: Request<Full<Bytes>>) -> Result<(StatusCode, Bytes), RestError> {
        let response = self.http.request(request).await.map_err(|error| self.away(&root_cause(&error)))?;
        let status = response.status();
        let body = Limited::new(response.into_body(), ANSWER_BYTES_MAX).collect().await;
        Ok((status, body.map_err(|error| self.away(&error.to_string()))?.to_bytes()))
    }

    fn away(&self, cause: &str) -> RestError {
        RestError::Away { at: self.at.clone(), cause: cause.to_owned() }
    }
}

fn root_cause(error: &dyn std::error::Error) -> String {
    let mut cause = error;
    while let Some(source) = cause.source() {
        cause = source;
    }
    cause.to_string()
}

/// What a person needs of the stack traces in `{"errors": [...]}`.
fn cause(answer: &[u8]) -> String {
    let parsed: Value = serde_json::from_slice(answer).unwrap_or_default();
    let mut errors = parsed["errors"].as_array().into_iter().flatten().filter_map(Value::as_str);
    errors.next_back().map_or_else(|| "an error without a text".to_owned(), innermost)
}

/// The innermost cause of a Java stack trace, in one line.
pub fn innermost(trace: &str) -> String {
    let (_, last) = trace.rsplit_once("Caused by: ").unwrap_or(("", trace));
    let lines = last.lines().take_while(|line| !line.trim_start().starts_with("at "));
    let text = lines.map(str::trim).collect::<Vec<_>>().join(" ");
    text.chars().take(CAUSE_CHARS_MAX).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_innermost_cause_is_what_a_person_reads() {
        let trace = "a.b.Outer: outer\n\tat x.y(Z.java:1)\nCaused by: a.b.Inner: Column 'nope' not found\n in any table\n\tat x";
        let answer = serde_json::json!({"errors": ["Internal server error.", trace]}).to_string();
        assert_eq!(cause(answer.as_bytes()), "a.b.Inner: Column 'nope' not found in any table");
        assert_eq!(cause(b"<html>"), "an error without a text");
    }

    /// As Flink 1.20.5 answers through its SQL Gateway when an id is submitted twice.
    #[test]
    fn an_id_that_is_known_is_told_by_its_exception() {
        let trace = "org.apache.flink.util.FlinkException: Failed to execute job 'isolane x'.\n\tat a\n\
            Caused by: org.apache.flink.runtime.rest.util.RestClientException: [Internal server error., <Exception on server side:\n\
            org.apache.flink.runtime.client.DuplicateJobSubmissionException: Job has already been submitted.\n\tat b\n";
        assert!(innermost(trace).contains("DuplicateJobSubmissionException: Job has already been submitted."));
    }

    #[test]
    fn an_address_is_a_host_and_a_port() {
        let address: Address = "flink.example:8081".parse().unwrap();
        assert_eq!((address.host.as_str(), address.port), ("flink.example", 8081));
        assert!([":1", "x", "x:y", ""].iter().all(|bad| bad.parse::<Address>().is_err()));
    }
}
