//! The SQL Gateway: sessions, and statements in them. A session lives in the gateway's memory alone: whoever restarts it
//! ends them all, and whatever they were submitting.

use std::time::Duration;

use http::Method;
use serde_json::{Value, json};
use tokio::time::{Instant, sleep};

use crate::job::Session;
use crate::lifecycle::Sighting;
use crate::rest::{Rest, RestError};

/// How long one statement may take: a cold planner takes half a minute on a small machine.
const STATEMENT: Duration = Duration::from_secs(120);
/// How often a statement is looked at.
const STEP: Duration = Duration::from_millis(100);

/// A client of the SQL Gateway.
#[derive(Clone, Debug)]
pub struct Gateway {
    rest: Rest,
}

/// Why a statement failed.
#[derive(Debug, thiserror::Error)]
pub enum StatementError {
    /// Flink does not take it.
    #[error("{0}")]
    Refused(String),
    /// Nobody knows what became of it.
    #[error("{0}")]
    Unknown(String),
}

impl From<RestError> for StatementError {
    fn from(error: RestError) -> Self {
        StatementError::Unknown(error.to_string())
    }
}

impl Gateway {
    /// A client over `rest`.
    pub fn new(rest: Rest) -> Self {
        Self { rest }
    }

    /// Opens a session with these properties.
    ///
    /// # Errors
    /// The gateway is away, or refuses.
    pub async fn open(&self, properties: &Value) -> Result<Session, RestError> {
        let body = json!({ "properties": properties });
        let answer = self.rest.call(Method::POST, "/v2/sessions", Some(&body)).await?;
        match answer["sessionHandle"].as_str() {
            Some(handle) => Ok(Session(handle.to_owned())),
            None => Err(self.foreign("a session without a handle")),
        }
    }

    /// Whether a session is there.
    pub async fn sighting(&self, session: &Session) -> Sighting {
        match self.rest.call(Method::GET, &format!("/v2/sessions/{}", session.0), None).await {
            Ok(_) => Sighting::Present,
            Err(RestError::Refused { cause, .. }) if cause.contains("does not exist") => Sighting::Gone,
            Err(_) => Sighting::Unknown,
        }
    }

    /// Closes a session, and with it whatever runs in it.
    ///
    /// # Errors
    /// The gateway is away, or what runs cannot be ended.
    pub async fn close(&self, session: &Session) -> Result<(), RestError> {
        self.rest.call(Method::DELETE, &format!("/v2/sessions/{}", session.0), None).await.map(drop)
    }

    /// Runs a statement to its end.
    ///
    /// # Errors
    /// Flink does not take it, or nobody knows.
    pub async fn run(&self, session: &Session, statement: &str) -> Result<(), StatementError> {
        let of_session = format!("/v2/sessions/{}", session.0);
        let body = json!({ "statement": statement });
        let answer = self.rest.call(Method::POST, &format!("{of_session}/statements"), Some(&body)).await?;
        let Some(operation) = answer["operationHandle"].as_str() else {
            return Err(self.foreign("a statement without a handle").into());
        };
        let of_operation = format!("{of_session}/operations/{operation}");
        let deadline = Instant::now() + STATEMENT;
        while Instant::now() < deadline {
            let answer = self.rest.call(Method::GET, &format!("{of_operation}/status"), None).await?;
            match answer["status"].as_str() {
                Some("FINISHED") => return Ok(()),
                Some("INITIALIZED" | "PENDING" | "RUNNING") => sleep(STEP).await,
                Some("ERROR") => return Err(self.error_of(&of_operation).await),
                status => return Err(StatementError::Unknown(format!("the statement ended as {status:?}"))),
            }
        }
        Err(StatementError::Unknown(format!("the statement did not end within {} s", STATEMENT.as_secs())))
    }

    /// Why an operation failed: its result says so.
    async fn error_of(&self, operation: &str) -> StatementError {
        match self.rest.call(Method::GET, &format!("{operation}/result/0?rowFormat=JSON"), None).await {
            Err(RestError::Refused { cause, .. }) => StatementError::Refused(cause),
            Err(error) => error.into(),
            Ok(_) => StatementError::Unknown("the statement failed, and its result does not say why".to_owned()),
        }
    }

    fn foreign(&self, what: &str) -> RestError {
        RestError::Away { at: self.rest.at().clone(), cause: format!("an answer that is not understood: {what}") }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fake::server;

    #[tokio::test]
    async fn a_statement_is_followed_to_its_end() {
        let (rest, asked) = server(|line, _| match line {
            line if line.ends_with("/statements") => (200, r#"{"operationHandle": "o"}"#.to_owned()),
            line if line.ends_with("/o/status") => (200, r#"{"status": "ERROR"}"#.to_owned()),
            _ => (
                500,
                r#"{"errors": ["Internal server error.", "x\nCaused by: a.B: no such column\n\tat c"]}"#.to_owned(),
            ),
        })
        .await;
        let failed = Gateway::new(rest).run(&Session("s".into()), "SELECT 'it'").await.unwrap_err();
        assert!(matches!(&failed, StatementError::Refused(cause) if cause == "a.B: no such column"), "{failed:?}");
        assert_eq!(asked.lock().unwrap()[0].1, r#"{"statement":"SELECT 'it'"}"#);
    }

    #[tokio::test]
    async fn only_an_answer_says_that_a_session_is_gone() {
        let gone = r#"{"errors": ["x\nCaused by: a.B: Session 's' does not exist.\n\tat c"]}"#;
        for (status, body, expected) in [
            (200, "{}", Sighting::Present),
            (500, gone, Sighting::Gone),
            (500, r#"{"errors": ["busy"]}"#, Sighting::Unknown),
        ] {
            let (rest, _) = server(move |_, _| (status, body.to_owned())).await;
            assert_eq!(Gateway::new(rest).sighting(&Session("s".into())).await, expected);
        }
        let nobody = Rest::new("127.0.0.1:9".parse().unwrap());
        assert_eq!(Gateway::new(nobody).sighting(&Session("s".into())).await, Sighting::Unknown);
    }
}
