//! The supervisor with workers that only say that they run.

use std::fs;
use std::sync::Arc;
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process, test_kill_process};
use stream::Incarnation;
use stream::config::{Input, Snapshot, StreamConfig, StreamSpec};
use stream::disk::RealDisk;
use tokio::sync::{oneshot, watch};

use super::{SuperviseError, supervise};
use crate::fake::{FakeAdmin, eventually};
use crate::settings::{AgentSettings, Pace};

fn snapshot(incarnations: &[u64]) -> Arc<Snapshot> {
    let mut spec = StreamSpec::new("a.b.c".parse().unwrap());
    spec.inputs = vec![Input::File { paths: vec!["/nowhere/*".into()] }];
    let config = |n: &u64| StreamConfig { incarnation: Incarnation(*n), version: 1, spec: spec.clone() };
    let streams = incarnations.iter().map(|n| (spec.id.clone(), config(n))).collect();
    Arc::new(Snapshot { version: 1, streams, ..Snapshot::default() })
}

fn settings(dir: &tempfile::TempDir, admin: &FakeAdmin) -> AgentSettings {
    let script = format!("echo $$ \"$0\" >> {}/started; exec sleep 60", dir.path().display());
    AgentSettings {
        agent_id: None,
        state_dir: dir.path().join("state"),
        gateway: crate::Gateway::at("http://127.0.0.1:1"),
        admin: admin.url(),
        worker_command: vec!["sh".into(), "-c".into(), script],
        pace: Pace { lease: Duration::from_millis(50), ..Pace::default() },
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn workers_follow_the_configuration_and_are_started_again() {
    let (dir, admin) = (tempfile::tempdir().unwrap(), FakeAdmin::start().await);
    let (config, watched) = watch::channel(snapshot(&[1]));
    let (stop, stopped) = oneshot::channel::<()>();
    let shutdown = async move { drop(stopped.await) };
    let supervisor = tokio::spawn(supervise(settings(&dir, &admin), Arc::new(RealDisk), watched, shutdown));
    let started = || {
        let text = fs::read_to_string(dir.path().join("started")).unwrap_or_default();
        let pid = |line: &str| Pid::from_raw(line.split(' ').next().unwrap().parse().unwrap()).unwrap();
        text.lines().map(|line| (pid(line), line.to_owned())).collect::<Vec<_>>()
    };
    eventually("the first start", || started().len() == 1).await;
    assert!(started()[0].1.contains(r#""incarnation":"0000000000000001""#), "{:?}", started());
    kill_process(started()[0].0, Signal::KILL).unwrap();
    eventually("the second start", || started().len() == 2).await;
    config.send_replace(snapshot(&[2]));
    eventually("another life", || started().len() == 3).await;
    assert!(started()[2].1.contains(r#""incarnation":"0000000000000002""#), "{:?}", started());
    eventually("the old one's end", || test_kill_process(started()[1].0).is_err()).await;
    config.send_replace(snapshot(&[]));
    eventually("no worker", || test_kill_process(started()[2].0).is_err()).await;
    drop(stop);
    supervisor.await.unwrap().unwrap();
    let id = fs::read_to_string(dir.path().join("state/agent-id")).unwrap();
    assert!(id.len() == 16 && started()[0].1.contains(&id));
}

#[tokio::test(flavor = "multi_thread")]
async fn an_id_in_use_elsewhere_is_refused() {
    let (dir, admin) = (tempfile::tempdir().unwrap(), FakeAdmin::start().await);
    *admin.holder.lock().unwrap() = Some("another machine".into());
    let (_config, watched) = watch::channel(snapshot(&[1]));
    let ended = supervise(settings(&dir, &admin), Arc::new(RealDisk), watched, std::future::pending()).await;
    assert!(matches!(ended, Err(SuperviseError::IdTaken { .. })), "{ended:?}");
    assert!(!dir.path().join("started").exists() && !dir.path().join("state/agent-id").exists());
}
