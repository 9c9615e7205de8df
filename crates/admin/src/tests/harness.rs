//! An admin to talk to, whose clock stands and whose journal says what the test says.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::path::Path;
use std::pin::Pin;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use http::Method;
use serde::de::DeserializeOwned;
use stream::SourceId;
use stream::clock::HeldClock;
use stream::config::{StreamConfig, StreamSpec};
use stream::control::{AdminClient, ControlError};
use stream::facts::{LegReport, Place, Position, SourceFact};
use stream::fate::FateCounts;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::oneshot;
use tokio::task::JoinHandle;

use crate::ends::{Ends, EndsAnswer};
use crate::ledger::End;
use crate::serve::serve_with;
use crate::{AdminError, AdminSettings};

/// When the clock stands at first.
pub(super) const START_MS: i64 = 1_700_000_000_000;

/// Ends as the test states them; `None`: the journal is away.
#[derive(Default)]
pub(super) struct StatedEnds(pub(super) Mutex<Option<HashMap<String, u64>>>);

impl Ends for StatedEnds {
    fn ends(&self, topics: Vec<String>) -> Pin<Box<dyn Future<Output = EndsAnswer> + Send + '_>> {
        let stated = self.0.lock().unwrap().clone();
        let end = |offset| End { place: Place { cluster: 0, partition: 0 }, offset, overtaken_records: 0 };
        Box::pin(async move {
            let stated = stated.ok_or("the journal is away")?;
            let known = topics.into_iter().filter_map(|topic| Some((topic.clone(), vec![end(*stated.get(&topic)?)])));
            Ok(known.collect())
        })
    }
}

pub(super) struct Admin {
    pub(super) client: AdminClient,
    pub(super) address: SocketAddr,
    pub(super) clock: HeldClock,
    pub(super) ends: Arc<StatedEnds>,
    stop: oneshot::Sender<()>,
    task: JoinHandle<Result<(), AdminError>>,
}

impl Admin {
    pub(super) async fn start(dir: &Path) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let (clock, ends) = (HeldClock::at(START_MS), Arc::new(StatedEnds::default()));
        let (stop, stopped) = oneshot::channel();
        let serving = serve_with(settings(dir, &clock), ends.clone(), None, listener, async { drop(stopped.await) });
        let task = tokio::spawn(serving);
        Self { client: AdminClient::new(format!("http://{address}")), address, clock, ends, stop, task }
    }

    pub(super) async fn stop(self) {
        let _ = self.stop.send(());
        self.task.await.unwrap().unwrap();
    }

    pub(super) async fn get<T: DeserializeOwned>(&self, path: &str) -> T {
        self.client.get(path).await.unwrap()
    }

    pub(super) async fn create(&self, spec: &str) -> Result<StreamConfig, ControlError> {
        let spec: StreamSpec = serde_json::from_str(spec).unwrap();
        self.client.send(Method::POST, "/api/v1/streams", &spec).await
    }

    /// States where the stream's topic ends.
    pub(super) fn end_at(&self, config: &StreamConfig, offset: u64) {
        self.ends.0.lock().unwrap().get_or_insert_default().insert(config.topic_key(), offset);
    }

    /// One request as it is written: the status and the rest of the answer.
    pub(super) async fn raw(&self, request_line: &str, headers: &[&str], body: &str) -> (u16, String) {
        let mut socket = TcpStream::connect(self.address).await.unwrap();
        let headers: String = headers.iter().map(|header| format!("{header}\r\n")).collect();
        let length = body.len();
        let text =
            format!("{request_line} HTTP/1.1\r\n{headers}Connection: close\r\nContent-Length: {length}\r\n\r\n{body}");
        socket.write_all(text.as_bytes()).await.unwrap();
        let mut answer = String::new();
        socket.read_to_string(&mut answer).await.unwrap();
        let status = answer.split(' ').nth(1).and_then(|status| status.parse().ok()).unwrap();
        (status, answer)
    }
}

pub(super) fn settings(dir: &Path, clock: &HeldClock) -> AdminSettings {
    let sql_check = |spec: &StreamSpec| match spec.sql.as_deref() {
        Some("bad") => Err("line 1: not a statement".to_owned()),
        Some("panic") => panic!("the checker's own fault"),
        Some("odd") => Ok(vec!["line 1: odd".to_owned()]),
        _ => Ok(Vec::new()),
    };
    AdminSettings {
        dir: dir.to_owned(),
        journal_addr: None,
        sql_check: Arc::new(sql_check),
        clock: Arc::new(clock.clone()),
    }
}

/// The status and message of a refusal.
pub(super) fn refused<T: std::fmt::Debug>(answer: Result<T, ControlError>) -> (u16, String) {
    match answer {
        Err(ControlError::Refused { status, message }) => (status, message),
        other => panic!("not a refusal: {other:?}"),
    }
}

/// Asks until the answer fits, for five seconds.
pub(super) async fn until<T: DeserializeOwned + std::fmt::Debug>(
    admin: &Admin,
    path: &str,
    fits: impl Fn(&T) -> bool,
) -> T {
    let deadline = Instant::now() + Duration::from_secs(5);
    loop {
        let answer: T = admin.get(path).await;
        if fits(&answer) {
            return answer;
        }
        assert!(Instant::now() < deadline, "{path} still answers {answer:?}");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

pub(super) fn source(number: u32) -> SourceId {
    SourceId::derive(number, &[])
}

pub(super) fn fact(config: &StreamConfig, number: u32, acknowledged: u64) -> SourceFact {
    SourceFact {
        stream: config.spec.id.clone(),
        incarnation: config.incarnation,
        source: source(number),
        collector: "agent-1".into(),
        name: format!("/var/log/{number}.log"),
        seen: acknowledged + 10,
        acknowledged,
        finished: false,
        set_apart: Vec::new(),
        cuts: Vec::new(),
    }
}

pub(super) fn report(config: &StreamConfig, commit: u64, offset: u64, taken: &[(u32, u64)]) -> LegReport {
    let all = |end: u64| vec![(0, end).into()].into();
    LegReport {
        stream: config.spec.id.clone(),
        incarnation: config.incarnation,
        leg: "files".into(),
        commit,
        positions: vec![Position::at(Place { cluster: 0, partition: 0 }, offset)],
        fates: FateCounts { delivered: 10 * commit, quarantined: 1, doubles: 3, ..FateCounts::default() },
        delivered_bytes: 1_000 * commit,
        delay_ms_p50: 12,
        delay_ms_p99: 34,
        whole: true,
        taken: taken.iter().map(|(number, end)| (source(*number), all(*end))).collect(),
        failure: None,
        job: None,
    }
}
