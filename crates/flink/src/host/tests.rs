//! The host against servers that answer as Flink does.

use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};

use serde_json::json;
use stream::clock::SystemClock;
use stream::disk::RealDisk;
use tempfile::TempDir;
use tokio::time::{sleep, timeout};

use super::*;
use crate::fake::server;
use crate::job::LegText;
use crate::rest::Rest;

/// A Flink in as much as its servers show of it.
#[derive(Default)]
struct Flink {
    /// The job that was submitted, and how often.
    submitted: Mutex<Vec<String>>,
    set: Mutex<String>,
    loses_answers: AtomicBool,
    is_finished: AtomicBool,
    /// The marks of the folders whose hidden files were shown; the first time fails.
    shown: Mutex<Vec<PathBuf>>,
    /// What was told of it as a problem.
    problems: Mutex<Vec<String>>,
}

impl Flink {
    fn gateway(&self, line: &str, body: &str) -> (u16, String) {
        let body: serde_json::Value = serde_json::from_str(body).unwrap_or_default();
        let statement = body["statement"].as_str().unwrap_or_default();
        if let Some(id) = statement.strip_prefix("SET '$internal.pipeline.job-id' = '") {
            *self.set.lock().unwrap() = id.trim_end_matches('\'').to_owned();
        }
        if statement.starts_with("EXECUTE") {
            self.submitted.lock().unwrap().push(self.set.lock().unwrap().clone());
            if self.loses_answers.load(Ordering::SeqCst) {
                return (502, "{}".to_owned());
            }
        }
        match line {
            // The session of a submission is gone at once, as after a restart of the gateway.
            "GET /v2/sessions/s" if !self.submitted.lock().unwrap().is_empty() => {
                (500, r#"{"errors": ["Session 's' does not exist."]}"#.to_owned())
            }
            _ => (200, json!({ "sessionHandle": "s", "operationHandle": "o", "status": "FINISHED" }).to_string()),
        }
    }

    fn cluster(&self, line: &str) -> (u16, String) {
        let state = if self.is_finished.load(Ordering::SeqCst) { "FINISHED" } else { "RUNNING" };
        let submitted = self.submitted.lock().unwrap();
        let jobs =
            submitted.first().map(|id| json!({ "jid": id, "name": "isolane a.b.c@000000000000001f", "state": state }));
        match line {
            "GET /jobs/overview" => (200, json!({ "jobs": jobs.into_iter().collect::<Vec<_>>() }).to_string()),
            line if line.starts_with("POST") && line.ends_with("/stop") => {
                self.is_finished.store(true, Ordering::SeqCst);
                (202, "{}".to_owned())
            }
            _ => (404, "{}".to_owned()),
        }
    }
}

impl Flink {
    fn show(&self, mark: &Path) -> io::Result<()> {
        let mut shown = self.shown.lock().unwrap();
        shown.push(mark.to_owned());
        if shown.len() > 1 { Ok(()) } else { Err(io::Error::other("the disk is busy")) }
    }
}

fn wanted(order: Option<Wanted>) -> watch::Receiver<Arc<WantedJobs>> {
    let key: JobKey = "a.b.c@000000000000001f".parse().unwrap();
    watch::channel(Arc::new(order.map(|order| (key, order)).into_iter().collect())).1
}

fn run() -> Option<Wanted> {
    let hidden_in = Some("/hidden".into());
    let (sink_table, insert) = ("CREATE TABLE k (a INT)".into(), "INSERT INTO k SELECT a FROM s".into());
    let leg = LegText { sink_table, insert, hidden_in };
    Some(Text { source: "s".into(), tables: Vec::new(), legs: vec![leg], settings: Vec::new() }.into())
}

/// Serves until what is remembered is as it should be.
async fn until(
    flink: &Arc<Flink>,
    folder: &TempDir,
    order: Option<Wanted>,
    is_so: impl Fn(Option<&Memory>) -> bool + Sync,
) {
    let (own, its, shown, told) = (flink.clone(), flink.clone(), flink.clone(), flink.clone());
    let (gateway, _) = server(move |line, body| own.gateway(line, body)).await;
    let (cluster, _) = server(move |line, _| its.cluster(line)).await;
    let state_dir = folder.path().join("state");
    let file = state_dir.join("a.b.c@000000000000001f.json");
    let settings = Settings {
        gateway: Gateway::new(gateway),
        cluster: Cluster::new(cluster),
        places: Places::new(folder.path().to_owned()),
        disk: Arc::new(RealDisk),
        state_dir,
        clock: Arc::new(SystemClock),
        every: Duration::from_millis(5),
        told: Arc::new(move |_, standing| told.problems.lock().unwrap().extend(standing.problem)),
        shows: Arc::new(move |mark| shown.show(mark)),
    };
    let look = async {
        while !is_so(std::fs::read(&file).ok().and_then(|bytes| serde_json::from_slice(&bytes).ok()).as_ref()) {
            sleep(Duration::from_millis(5)).await;
        }
    };
    timeout(Duration::from_secs(20), serve(settings, wanted(order), look)).await.unwrap().unwrap();
}

/// A savepoint, and its hand-over object.
fn leave_savepoint(root: &Path, job: &str) {
    let own = root.join("a.b.c@000000000000001f");
    let savepoint = own.join("0/savepoints/savepoint-1");
    std::fs::create_dir_all(&savepoint).unwrap();
    let head = [&0x4960_672d_u32.to_be_bytes()[..], &4_u32.to_be_bytes(), &1_u64.to_be_bytes()].concat();
    std::fs::write(savepoint.join("_metadata"), head).unwrap();
    std::fs::create_dir_all(own.join("hand-over")).unwrap();
    std::fs::write(own.join(format!("hand-over/{job}-{:019}.json", 1)), "{}").unwrap();
}

fn is_running(memory: Option<&Memory>) -> bool {
    memory.is_some_and(|memory| matches!(memory.state, State::Running { .. }))
}

#[tokio::test]
async fn a_job_is_submitted_once_found_again_stopped_and_forgotten() {
    let (flink, folder) = (Arc::new(Flink::default()), tempfile::tempdir().unwrap());
    until(&flink, &folder, run(), is_running).await;
    until(&flink, &folder, run(), is_running).await;
    assert_eq!(flink.submitted.lock().unwrap().len(), 1);
    let is_shown = |memory: Option<&Memory>| {
        memory.is_some_and(|memory| matches!(memory.state, State::Idle { end: End::Shown, .. }))
    };
    leave_savepoint(folder.path(), &flink.submitted.lock().unwrap()[0]);
    until(&flink, &folder, Some(Wanted::Stopped), is_shown).await;
    assert_eq!(
        *flink.shown.lock().unwrap(),
        [Path::new("/hidden/.isolane-a.b.c@000000000000001f"); 2],
        "tried again, and not once more"
    );
    let problems = flink.problems.lock().unwrap().clone();
    assert!(problems.iter().any(|problem| problem.contains("cannot be shown: the disk is busy")), "{problems:?}");
    until(&flink, &folder, None, |memory| memory.is_none()).await;
}

#[tokio::test]
async fn a_submission_whose_answer_is_lost_is_looked_for_before_it_is_tried_again() {
    let (flink, folder) = (Arc::new(Flink::default()), tempfile::tempdir().unwrap());
    flink.loses_answers.store(true, Ordering::SeqCst);
    until(&flink, &folder, run(), is_running).await;
    assert_eq!(flink.submitted.lock().unwrap().len(), 1);
}

#[tokio::test]
async fn a_text_that_flink_does_not_take_is_told() {
    let (gateway, _) = server(|line, body| match line {
        _ if body.contains("EXPLAIN") => (200, r#"{"operationHandle": "bad"}"#.to_owned()),
        line if line.contains("/bad/status") => (200, r#"{"status": "ERROR"}"#.to_owned()),
        line if line.contains("/bad/result") => (500, r#"{"errors": ["Caused by: no such column"]}"#.to_owned()),
        _ => (200, json!({ "sessionHandle": "s", "operationHandle": "o", "status": "FINISHED" }).to_string()),
    })
    .await;
    let folder = tempfile::tempdir().unwrap();
    let Some(Wanted::Run { text, .. }) = run() else { unreachable!() };
    let settings = Settings {
        gateway: Gateway::new(gateway),
        cluster: Cluster::new(Rest::new("127.0.0.1:9".parse().unwrap())),
        places: Places::new(folder.path().to_owned()),
        disk: Arc::new(RealDisk),
        state_dir: folder.path().to_owned(),
        clock: Arc::new(SystemClock),
        every: Duration::from_millis(5),
        told: Arc::new(|_, _| ()),
        shows: Arc::new(|_| Ok(())),
    };
    let key = "a.b.c@000000000000001f".parse().unwrap();
    let mut keeper = Keeper::new(Arc::new(settings), key);
    keeper.prepare(&text).await;
    assert_eq!((keeper.answer, keeper.prepared), (Some(Answer::Refused("no such column".into())), None));
}

#[test]
fn a_job_runs_only_when_the_earlier_lives_of_its_stream_are_forgotten() {
    let keys = ["a.b.c@000000000000001e.files", "a.b.c@000000000000001f", "a.b.d@000000000000001f"];
    let [old, new, other] = keys.map(|key| key.parse::<JobKey>().unwrap());
    let run = run().unwrap();
    let wanted: WantedJobs = [(new.clone(), run.clone()), (other.clone(), run.clone())].into();
    let known = BTreeSet::from([old.clone(), new.clone(), other.clone()]);
    assert_eq!(order(&wanted, &known, &old), Wanted::Removed);
    assert_eq!(order(&wanted, &known, &new), Wanted::After(old.clone()));
    assert_eq!(order(&wanted, &known, &other), run);
    assert_eq!(order(&wanted, &BTreeSet::from([new.clone(), other]), &new), run);
    let stopped: WantedJobs = [(new.clone(), Wanted::Stopped)].into();
    assert_eq!(order(&stopped, &known, &new), Wanted::Stopped);
}
