//! Agent: a file that is already there, to a gateway that acknowledges at once. Ours is the real worker in a process of
//! its own, beside the real admin; only the worker's CPU counts.

use std::fs::File;
use std::io::{BufWriter, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use anyhow::{Context, Result};
use stream::clock::{Clock, SystemClock};
use stream::config::{Input, StreamSpec};
use stream::limits::{MESSAGE_BYTES_MAX, QUEUE_BYTES_MAX};
use stream::wire::v1::gateway_server::{Gateway, GatewayServer};
use stream::wire::v1::{Ack, SendReply, SendRequest, send_reply};
use tokio::sync::{mpsc, watch};
use tokio::time::timeout;
use tokio_stream::wrappers::ReceiverStream;
use tonic::transport::Server;
use tonic::transport::server::TcpIncoming;
use tonic::{Request, Response, Status, Streaming};

use super::Plan;
use crate::child::{Order, listen};
use crate::load::Lines;
use crate::measure::{Sample, Stretch, alternate};
use crate::report::Report;
use crate::stage::{Child, Stage};

/// The file is so many times as long as the runs of other cases: reading is fast, and CPU is counted in steps of 10 ms.
const FILE_RUNS: usize = 2;
/// A run that takes longer has failed.
const RUN_WITHIN: Duration = Duration::from_secs(300);

/// Runs the case for records of `size` bytes.
pub async fn run(plan: &Plan, size: usize, report: &mut Report) -> Result<()> {
    eprintln!("== agent, {size} B");
    let scratch = tempfile::tempdir_in(&plan.dir)?;
    let file = scratch.path().join("records.log");
    let records = (FILE_RUNS * plan.bytes).div_ceil(size) as u64;
    write_file(&file, size, records)?;
    let sample = |wall, cpu| Sample { records, bytes: records * size as u64, wall, cpu, parts: Vec::new() };
    let pair = alternate(
        plan.rounds,
        async || limit(&file, records).await.map(|(wall, cpu)| sample(wall, cpu)),
        async || ours(plan, &file, records).await.map(|(wall, cpu)| sample(wall, cpu)),
    );
    report.add("agent file → gateway", size, pair.await?);
    Ok(())
}

fn write_file(path: &Path, size: usize, records: u64) -> Result<()> {
    let (mut lines, now_ms) = (Lines::new(size, 0), SystemClock.now_ms());
    let mut file = BufWriter::new(File::create_new(path)?);
    let mut line = Vec::new();
    for _ in 0..records {
        line.clear();
        lines.push(&mut line, now_ms);
        file.write_all(&line)?;
    }
    // Nothing of it is still on its way to the disk while it is read.
    Ok(file.into_inner()?.sync_all()?)
}

async fn limit(file: &Path, records: u64) -> Result<(Duration, Duration)> {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?;
    let sink = listener.local_addr()?;
    let taking = tokio::task::spawn_blocking(move || crate::limit::agent::acknowledge(&listener, records));
    let child = Child::start(&Order::LimitAgent { file: file.to_owned(), sink }).await?;
    let wall = taking.await??;
    Ok((wall, child.cpu()?))
}

async fn ours(plan: &Plan, file: &Path, records: u64) -> Result<(Duration, Duration)> {
    let stage = Stage::new(&plan.dir).await?;
    let mut spec = StreamSpec::new("bench.agent.file".parse()?);
    spec.inputs = vec![Input::File { paths: vec![file.to_string_lossy().into_owned()] }];
    let config = stage.create(&spec).await?;
    let mut stub = Stub::serve().await?;
    let settings = agent::WorkerSettings {
        stream: config.spec.id,
        incarnation: config.incarnation,
        agent_id: "bench".to_owned(),
        state_dir: stage.path("worker"),
        gateway: agent::Gateway::at(format!("http://{}", stub.address)),
        admin: stage.admin_url(),
        supervisor: None,
        pace: agent::Pace::default(),
    };
    let child = Child::start(&Order::Worker(Box::new(settings))).await?;
    let all = timeout(RUN_WITHIN, stub.taken.wait_for(|taken| *taken >= records)).await;
    all.context("the worker has not sent everything in time")??;
    Ok((stub.length(), child.cpu()?))
}

/// A gateway that counts and acknowledges.
struct Stub {
    address: SocketAddr,
    taken: watch::Receiver<u64>,
    stretch: Arc<Mutex<Stretch>>,
}

#[derive(Clone)]
struct Service {
    taken: watch::Sender<u64>,
    stretch: Arc<Mutex<Stretch>>,
}

impl Stub {
    async fn serve() -> Result<Self> {
        let (listener, address) = listen().await?;
        let (sender, taken) = watch::channel(0);
        let stretch = Arc::new(Mutex::new(Stretch::new()));
        let service = Service { taken: sender, stretch: stretch.clone() };
        let service = GatewayServer::new(service).max_decoding_message_size(MESSAGE_BYTES_MAX);
        let incoming = TcpIncoming::from(listener).with_nodelay(Some(true));
        tokio::spawn(Server::builder().add_service(service).serve_with_incoming(incoming));
        Ok(Self { address, taken, stretch })
    }

    fn length(&self) -> Duration {
        self.stretch.lock().unwrap_or_else(PoisonError::into_inner).length()
    }
}

impl Service {
    fn take(&self, SendRequest { id, batch, .. }: SendRequest) -> SendReply {
        self.stretch.lock().unwrap_or_else(PoisonError::into_inner).mark();
        let records = batch.map_or(0, |batch| batch.body_lengths.len() as u64);
        self.taken.send_modify(|taken| *taken += records);
        let outcome = Some(send_reply::Outcome::Ack(Ack::default()));
        SendReply { id, outcome, credit_bytes: QUEUE_BYTES_MAX as u64 }
    }
}

#[tonic::async_trait]
impl Gateway for Service {
    type SendStream = ReceiverStream<Result<SendReply, Status>>;

    async fn send(&self, request: Request<Streaming<SendRequest>>) -> Result<Response<Self::SendStream>, Status> {
        let (replies, reader) = mpsc::channel(64);
        let (service, mut requests) = (self.clone(), request.into_inner());
        tokio::spawn(async move {
            while let Ok(Some(request)) = requests.message().await {
                if replies.send(Ok(service.take(request))).await.is_err() {
                    return;
                }
            }
        });
        Ok(Response::new(ReceiverStream::new(reader)))
    }
}
