//! The cluster's JobManager: which jobs it has, what they have completed, and how they are ended.

use std::collections::BTreeMap;
use std::sync::Arc;

use http::Method;
use serde_json::{Value, json};
use tokio::sync::Mutex;
use tokio::time::Instant;

use crate::job::{Checkpoint, Id};
use crate::lag;
use crate::lifecycle::{Job, Status, Stop};
use crate::rest::{Address, Rest, RestError, innermost};

/// A client of the JobManager.
#[derive(Debug)]
pub struct Cluster {
    rest: Rest,
    /// When it was last asked for, and what came.
    overview: Mutex<Option<(Instant, Overview)>>,
}

/// All jobs by their names, or why they are not known.
type Overview = Result<Arc<BTreeMap<String, Vec<(Id, Status)>>>, RestError>;

impl Cluster {
    /// A client over `rest`.
    pub fn new(rest: Rest) -> Self {
        Self { rest, overview: Mutex::new(None) }
    }

    /// Where it listens: the gateway is told to submit there, so that both mean the same cluster.
    pub fn at(&self) -> &Address {
        self.rest.at()
    }

    /// The jobs with this name. Those that are no attempt of ours are shown by id and status alone. `trigger` is the request
    /// to stop the own one, if there is one.
    ///
    /// # Errors
    /// The cluster does not answer.
    pub async fn jobs(&self, name: &str, own: Option<Id>, trigger: Option<Id>) -> Result<Vec<Job>, RestError> {
        let overview = self.overview().await?;
        let mut jobs = Vec::new();
        for (id, status) in overview.get(name).into_iter().flatten().copied() {
            let mut job = Job { id, status, newest: None, stop: None, cause: None };
            if Some(id) == own {
                job.newest = self.newest(id).await?;
                job.cause = if status == Status::Failed { self.cause(id).await } else { None };
                job.stop = match trigger {
                    Some(trigger) if status.is_alive() => self.stop_of(id, trigger).await?,
                    _ => None,
                };
            }
            jobs.push(job);
        }
        Ok(jobs)
    }

    /// All jobs, asked for after this call began: whoever waits meanwhile shares the answer, as thousands of jobs are looked at.
    async fn overview(&self) -> Overview {
        let called = Instant::now();
        let mut last = self.overview.lock().await;
        if let Some((_, overview)) = last.as_ref().filter(|(asked, _)| *asked >= called) {
            return overview.clone();
        }
        let asked = Instant::now();
        let overview =
            self.rest.call(Method::GET, "/jobs/overview", None).await.and_then(|answer| self.by_name(&answer));
        *last = Some((asked, overview.clone()));
        overview
    }

    fn by_name(&self, answer: &Value) -> Overview {
        let Some(jobs) = answer["jobs"].as_array() else { return Err(self.foreign("an overview without jobs")) };
        let mut by_name: BTreeMap<String, Vec<(Id, Status)>> = BTreeMap::new();
        for job in jobs {
            let text = |key: &str| job[key].as_str().unwrap_or_default().to_owned();
            let Ok(id) = Id::try_from(text("jid")) else { return Err(self.foreign("a job without an id")) };
            by_name.entry(text("name")).or_default().push((id, status(&text("state"))));
        }
        Ok(Arc::new(by_name))
    }

    /// The newest checkpoint or savepoint that a job has completed or restored.
    async fn newest(&self, id: Id) -> Result<Option<Checkpoint>, RestError> {
        let answer = match self.rest.call(Method::GET, &format!("/jobs/{id}/checkpoints"), None).await {
            // Not initialized yet, or gone meanwhile.
            Err(RestError::Refused { .. }) => return Ok(None),
            answer => answer?,
        };
        let checkpoint = |kind: &str| {
            let (number, path) =
                (answer["latest"][kind]["id"].as_u64()?, answer["latest"][kind]["external_path"].as_str()?);
            Some(Checkpoint { number, path: path.to_owned() })
        };
        Ok(["completed", "savepoint", "restored"].into_iter().filter_map(checkpoint).max_by_key(|found| found.number))
    }

    async fn cause(&self, id: Id) -> Option<String> {
        let answer = self.rest.call(Method::GET, &format!("/jobs/{id}/exceptions"), None).await.ok()?;
        answer["root-exception"].as_str().map(innermost)
    }

    /// What became of a request to stop; `None`: it is not known, or done while the job has not ended yet.
    async fn stop_of(&self, id: Id, trigger: Id) -> Result<Option<Stop>, RestError> {
        let answer = match self.rest.call(Method::GET, &format!("/jobs/{id}/savepoints/{trigger}"), None).await {
            Err(RestError::Refused { .. }) => return Ok(None),
            answer => answer?,
        };
        let failure = &answer["operation"]["failure-cause"];
        if !failure.is_null() {
            return Ok(Some(Stop::Failed(innermost(failure["stack-trace"].as_str().unwrap_or("no cause is given")))));
        }
        Ok(Some(Stop::InProgress))
    }

    /// Records that a job is behind the journal, if its connector knows.
    ///
    /// # Errors
    /// The cluster does not answer, or does not know the job.
    pub async fn lag(&self, id: Id) -> Result<Option<u64>, RestError> {
        lag::of(&self.rest, id).await
    }

    /// Asks a job to stop with a savepoint below `folder` (a URL). The same `trigger` again is the same request.
    ///
    /// # Errors
    /// The cluster does not answer, or refuses.
    pub async fn stop(&self, id: Id, trigger: Id, folder: &str) -> Result<(), RestError> {
        let body = json!({ "drain": false, "triggerId": trigger.to_string(), "targetDirectory": folder });
        self.rest.call(Method::POST, &format!("/jobs/{id}/stop"), Some(&body)).await.map(drop)
    }

    /// Cancels a job; its newest checkpoint stays.
    ///
    /// # Errors
    /// The cluster does not answer, or refuses.
    pub async fn cancel(&self, id: Id) -> Result<(), RestError> {
        self.rest.call(Method::PATCH, &format!("/jobs/{id}?mode=cancel"), Some(&Value::Null)).await.map(drop)
    }

    fn foreign(&self, what: &str) -> RestError {
        RestError::Away { at: self.rest.at().clone(), cause: format!("an answer that is not understood: {what}") }
    }
}

fn status(name: &str) -> Status {
    match name {
        "RUNNING" => Status::Running,
        "FINISHED" => Status::Finished,
        "FAILED" => Status::Failed,
        "CANCELED" => Status::Canceled,
        _ => Status::Unsettled,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fake::server;

    const JOB: &str = "000000000000000000000000000000aa";
    const OTHER: &str = "000000000000000000000000000000bb";

    fn id(text: &str) -> Id {
        Id::try_from(text.to_owned()).unwrap()
    }

    fn overview() -> String {
        let job = |id: &str, name: &str, state: &str| json!({ "jid": id, "name": name, "state": state });
        let jobs =
            [job(JOB, "isolane x", "RUNNING"), job(OTHER, "isolane x", "FAILED"), job(OTHER, "theirs", "RUNNING")];
        json!({ "jobs": jobs }).to_string()
    }

    #[tokio::test]
    async fn a_job_is_seen_with_its_newest_checkpoint_and_its_stop() {
        let (rest, asked) = server(|line, _| match line {
            "GET /jobs/overview" => (200, overview()),
            line if line.ends_with("/checkpoints") => {
                let checkpoint = |number: u64| json!({ "id": number, "external_path": format!("file:/c/{number}") });
                (
                    200,
                    json!({ "latest": { "completed": checkpoint(7), "savepoint": null, "restored": checkpoint(9) } })
                        .to_string(),
                )
            }
            line if line.contains("/savepoints/") => {
                let cause = json!({ "stack-trace": "a\nCaused by: b: not now\n\tat c" });
                (200, json!({ "status": { "id": "COMPLETED" }, "operation": { "failure-cause": cause } }).to_string())
            }
            _ => (202, "{}".to_owned()),
        })
        .await;
        let cluster = Cluster::new(rest);
        let jobs = cluster.jobs("isolane x", Some(id(JOB)), Some(id(OTHER))).await.unwrap();
        let newest = Some(Checkpoint { number: 9, path: "file:/c/9".into() });
        let stop = Some(Stop::Failed("b: not now".into()));
        let other = Job { id: id(OTHER), status: Status::Failed, newest: None, stop: None, cause: None };
        assert_eq!(jobs, [Job { id: id(JOB), status: Status::Running, newest, stop, cause: None }, other]);
        cluster.stop(id(JOB), id(OTHER), "file:///s").await.unwrap();
        let (line, body) = asked.lock().unwrap().last().cloned().unwrap();
        assert_eq!(line, format!("POST /jobs/{JOB}/stop"));
        assert!(body.contains(&format!("\"triggerId\":\"{OTHER}\"")) && body.contains("file:///s"), "{body}");
    }

    #[tokio::test]
    async fn who_asks_together_shares_an_answer_that_is_not_older_than_the_question() {
        let (rest, asked) = server(|_, _| (200, overview())).await;
        let cluster = Arc::new(Cluster::new(rest));
        let ask = || {
            let cluster = cluster.clone();
            tokio::spawn(async move { cluster.jobs("none", None, None).await.map(|jobs| jobs.len()) })
        };
        for asker in (0..50).map(|_| ask()).collect::<Vec<_>>() {
            assert_eq!(asker.await.unwrap().unwrap(), 0);
        }
        let times = asked.lock().unwrap().len();
        assert!(times < 50, "{times} times");
        cluster.jobs("none", None, None).await.unwrap();
        assert_eq!(asked.lock().unwrap().len(), times + 1, "a later question has an answer of its own");
    }

    #[tokio::test]
    async fn a_cluster_that_does_not_speak_sense_is_away() {
        for answer in [(503, "{}"), (200, "{}"), (200, "<html>"), (200, r#"{"jobs": [{"jid": "x"}]}"#)] {
            let (rest, _) = server(move |_, _| (answer.0, answer.1.to_owned())).await;
            assert!(Cluster::new(rest).jobs("x", None, None).await.is_err(), "{answer:?}");
        }
    }
}
