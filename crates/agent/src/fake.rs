//! The other side, for tests: a gateway that acknowledges, refuses and hangs up as a seed decides, and an admin that
//! keeps facts and leases.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::{Duration, Instant};

use axum::extract::{Path, State};
use axum::http::StatusCode;
use axum::routing::{get, post};
use axum::{Json, Router};
use rand::rngs::ChaCha8Rng;
use rand::{RngExt, SeedableRng};
use stream::facts::SourceFact;
use stream::wire::v1::gateway_server::{Gateway, GatewayServer};
use stream::wire::v1::send_reply::Outcome;
use stream::wire::v1::{Ack, SendReply, SendRequest};
use stream::wire::{Refusal, RefusalReason};
use stream::{Batch, Kind, Record, SourceId};
use tokio::net::TcpListener;
use tokio::sync::mpsc;
use tokio::time::timeout;
use tokio_stream::wrappers::{ReceiverStream, TcpListenerStream};
use tonic::{Request, Response, Status, Streaming};

/// A record with this body is refused for good.
pub const POISON: &[u8] = b"poison";

/// How the gateway behaves.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mood {
    Calm,
    /// Refuses, hangs up before and after taking a batch, answers out of order.
    Wild,
    /// Takes nothing and says nothing.
    Silent,
    Unknown,
}

/// What the gateway took: per source, records by start and kind. A record taken twice must be the same.
#[derive(Default)]
pub struct Taken {
    pub records: BTreeMap<SourceId, BTreeMap<(u64, u8), Record>>,
    pub copies: usize,
    /// Bytes of bodies that came while it was silent.
    pub ignored_bytes: usize,
    pub wrongs: Vec<String>,
}

impl Taken {
    fn take(&mut self, batch: &Batch) {
        let source = self.records.entry(batch.source).or_default();
        for record in batch.records() {
            self.copies += 1;
            let order = if record.kind == Kind::End { 1 } else { 0 };
            let held = source.entry((record.range.start, order)).or_insert_with(|| record.clone());
            if *held != record {
                self.wrongs.push(format!("{}: {held:?} is now {record:?}", batch.source));
            }
        }
    }

    /// The bytes of a source as its records give them back; they must join without a gap.
    pub fn content(&self, source: SourceId) -> Vec<u8> {
        let (mut bytes, mut end) = (Vec::new(), None);
        for record in self.records[&source].values() {
            assert_eq!(record.range.start, end.unwrap_or(record.range.start), "{source}: records do not join");
            end = Some(record.range.end);
            bytes.extend_from_slice(&record.body);
            if record.range.len() > record.body.len() as u64 {
                bytes.push(b'\n');
            }
        }
        bytes
    }

    pub fn contents(&self) -> Vec<Vec<u8>> {
        self.records.keys().map(|source| self.content(*source)).collect()
    }

    pub fn bodies(&self) -> Vec<String> {
        let events = self.records.values().flat_map(BTreeMap::values).filter(|record| record.kind == Kind::Event);
        events.map(|record| String::from_utf8_lossy(&record.body).into_owned()).collect()
    }

    pub fn ended(&self, source: SourceId) -> bool {
        self.records[&source].values().any(|record| record.kind == Kind::End)
    }
}

#[derive(Clone)]
pub struct FakeGateway {
    taken: Arc<Mutex<Taken>>,
    mood: Arc<Mutex<Mood>>,
    dice: Arc<Mutex<ChaCha8Rng>>,
    pub address: SocketAddr,
}

impl FakeGateway {
    pub async fn start(seed: u64) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let gateway = Self {
            taken: Arc::default(),
            mood: Arc::new(Mutex::new(Mood::Calm)),
            dice: Arc::new(Mutex::new(ChaCha8Rng::seed_from_u64(seed))),
            address: listener.local_addr().unwrap(),
        };
        let service = GatewayServer::new(gateway.clone()).max_decoding_message_size(stream::limits::MESSAGE_BYTES_MAX);
        let server = tonic::transport::Server::builder().add_service(service);
        tokio::spawn(server.serve_with_incoming(TcpListenerStream::new(listener)));
        gateway
    }

    pub fn taken(&self) -> MutexGuard<'_, Taken> {
        self.taken.lock().unwrap()
    }

    pub fn set_mood(&self, mood: Mood) {
        *self.mood.lock().unwrap() = mood;
    }

    fn mood(&self) -> Mood {
        *self.mood.lock().unwrap()
    }

    fn chance(&self, p: f64) -> bool {
        self.dice.lock().unwrap().random_bool(p)
    }

    /// The answer to a batch; none: hang up.
    fn answer(&self, request: SendRequest) -> Option<SendReply> {
        let batch = match Batch::from_wire(request.batch.unwrap()) {
            Ok(batch) => batch,
            Err(error) => {
                self.taken().wrongs.push(error.to_string());
                return None;
            }
        };
        let refusal = |reason, wait| {
            let refusal = Refusal { retry_after: wait, ..Refusal::new(reason, "fake", "no") };
            Some(SendReply { id: request.id, outcome: Some(Outcome::Refusal(refusal.into())), credit_bytes: 0 })
        };
        let wild = self.mood() == Mood::Wild;
        if batch.records().any(|record| record.body == POISON) {
            return refusal(RefusalReason::Malformed, Duration::ZERO);
        }
        if self.mood() == Mood::Unknown {
            return refusal(RefusalReason::UnknownStream, Duration::from_millis(5));
        }
        if wild && self.chance(0.1) {
            return None;
        }
        if wild && self.chance(0.2) {
            return refusal(RefusalReason::QueueFull, Duration::from_millis(2));
        }
        self.taken().take(&batch);
        if wild && self.chance(0.1) {
            return None;
        }
        let ack = Ack { partition: 0, end_offset: 0 };
        Some(SendReply { id: request.id, outcome: Some(Outcome::Ack(ack)), credit_bytes: 1 << 20 })
    }
}

#[tonic::async_trait]
impl Gateway for FakeGateway {
    type SendStream = Pin<Box<dyn tokio_stream::Stream<Item = Result<SendReply, Status>> + Send>>;

    async fn send(&self, request: Request<Streaming<SendRequest>>) -> Result<Response<Self::SendStream>, Status> {
        let (gateway, mut requests) = (self.clone(), request.into_inner());
        let (replies, queue) = mpsc::channel(16);
        tokio::spawn(async move {
            let mut late = None;
            loop {
                // An answer held back comes at last, even if nothing else does.
                let Ok(message) = timeout(Duration::from_millis(50), requests.message()).await else {
                    if let Some(reply) = late.take() {
                        let _ = replies.send(Ok(reply)).await;
                    }
                    continue;
                };
                let Ok(Some(request)) = message else { return };
                if gateway.mood() == Mood::Silent {
                    gateway.taken().ignored_bytes += request.batch.unwrap().bodies.len();
                    continue;
                }
                let Some(reply) = gateway.answer(request) else { return };
                if gateway.mood() == Mood::Wild && late.is_none() && gateway.chance(0.2) {
                    late = Some(reply);
                    continue;
                }
                for reply in [Some(reply), late.take()].into_iter().flatten() {
                    if replies.send(Ok(reply)).await.is_err() {
                        return;
                    }
                }
            }
        });
        Ok(Response::new(Box::pin(ReceiverStream::new(queue))))
    }
}

#[derive(Clone)]
pub struct FakeAdmin {
    facts: Arc<Mutex<BTreeMap<SourceId, SourceFact>>>,
    /// Who holds the one lease.
    pub holder: Arc<Mutex<Option<String>>>,
    pub address: SocketAddr,
}

impl FakeAdmin {
    pub async fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let admin = Self { facts: Arc::default(), holder: Arc::default(), address };
        let router = Router::new()
            .route("/api/v1/facts", get(all_facts).post(take_facts))
            .route("/api/v1/agents/{id}/lease", post(lease))
            .with_state(admin.clone());
        tokio::spawn(async move { axum::serve(listener, router).await.unwrap() });
        admin
    }

    pub fn facts(&self) -> BTreeMap<SourceId, SourceFact> {
        self.facts.lock().unwrap().clone()
    }

    pub fn url(&self) -> String {
        format!("http://{}", self.address)
    }
}

async fn all_facts(State(admin): State<FakeAdmin>) -> Json<Vec<SourceFact>> {
    Json(admin.facts().into_values().collect())
}

async fn take_facts(State(admin): State<FakeAdmin>, Json(facts): Json<Vec<SourceFact>>) -> Json<()> {
    let mut held = admin.facts.lock().unwrap();
    held.extend(facts.into_iter().map(|fact| (fact.source, fact)));
    Json(())
}

async fn lease(
    State(admin): State<FakeAdmin>,
    Path(_id): Path<String>,
    Json(request): Json<BTreeMap<String, String>>,
) -> (StatusCode, Json<BTreeMap<String, String>>) {
    let nonce = request["boot_nonce"].clone();
    let mut holder = admin.holder.lock().unwrap();
    let status = match holder.as_ref() {
        Some(other) if *other != nonce => StatusCode::CONFLICT,
        _ => StatusCode::OK,
    };
    if status == StatusCode::OK {
        *holder = Some(nonce);
    }
    (status, Json([("error".to_owned(), "held".to_owned())].into()))
}

/// Waits until `holds`, for at most 30 s.
pub async fn eventually(what: &str, mut holds: impl FnMut() -> bool) {
    let until = Instant::now() + Duration::from_secs(30);
    while !holds() {
        assert!(Instant::now() < until, "not within 30 s: {what}");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}
