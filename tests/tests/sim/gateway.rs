//! A gateway's process: the real door, dispatcher and queues over writers of the simulation.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, Weak};
use std::time::Duration;

use gateway::GatewaySettings;
use gateway::accept::connection::Connection;
use gateway::accept::grpc::Door;
use gateway::dispatch::{Dispatcher, Handle};
use gateway::facts::FactBook;
use gateway::rate::Rates;
use stream::config::Snapshot;
use stream::control::AdminClient;
use stream::token::Rate;
use stream::wire::v1::send_reply::Outcome;
use stream::wire::v1::{SendReply, SendRequest};
use tokio::sync::{mpsc, watch};
use tokio::task::{AbortHandle, JoinHandle};
use tokio::time::timeout;
use tokio_stream::wrappers::ReceiverStream;
use tonic::Status;

use crate::admin::Admin;
use crate::journal::JournalHost;
use crate::link::{Ends, Far, Link, Links, Way};
use crate::oracle::{Ledger, Sent};
use crate::world::World;
use crate::writer::Writer;

/// Requests between a sender and its connection, as `agent::send::connect` has them.
const REQUESTS_MAX: usize = 4;
/// Replies under way.
const REPLIES_MAX: usize = 256;

/// The two ends of a call that a sender holds.
pub type Call = (mpsc::Sender<SendRequest>, mpsc::Receiver<Result<SendReply, Status>>);

/// See the module.
pub struct GatewayHost {
    world: World,
    /// Its number.
    pub number: usize,
    admin: Arc<Admin>,
    journal: Arc<JournalHost>,
    links: Arc<Links>,
    state: Mutex<Host>,
}

struct Host {
    copy: Arc<Snapshot>,
    running: Option<Running>,
}

struct Running {
    handle: Handle,
    door: Door,
    config: watch::Sender<Arc<Snapshot>>,
    dispatcher: JoinHandle<()>,
    calls: Vec<(Weak<Link>, watch::Sender<bool>)>,
}

impl GatewayHost {
    /// A gateway that does not run yet.
    pub fn new(
        world: &World,
        number: usize,
        admin: &Arc<Admin>,
        journal: &Arc<JournalHost>,
        links: &Arc<Links>,
    ) -> Arc<Self> {
        Arc::new(Self {
            world: world.clone(),
            number,
            admin: Arc::clone(admin),
            journal: Arc::clone(journal),
            links: Arc::clone(links),
            state: Mutex::new(Host { copy: admin.now(), running: None }),
        })
    }

    /// Starts with what admin says, or with the last good copy.
    pub fn start(self: &Arc<Self>) {
        let mut state = self.state.lock().unwrap();
        if self.world.is_calm() || self.world.chance(0.8) {
            state.copy = self.admin.now();
        }
        self.world.note(format!("gateway {}: starts with config {}", self.number, state.copy.version));
        let settings = self.settings();
        let writer = |_| Writer::new(&self.world, self.number, &self.journal, &self.links);
        let writers: Vec<Writer> = (0..settings.producers).map(writer).collect();
        let (config, watch) = watch::channel(Arc::clone(&state.copy));
        let book = Arc::new(FactBook::new(settings.gateway_id.clone()));
        let (dispatcher, handle) = Dispatcher::new(&settings, writers, watch, book, self.world.fork());
        let door = Door { handle: handle.clone(), clock: Arc::clone(&settings.clock) };
        let dispatcher = tokio::spawn(dispatcher.run());
        state.running = Some(Running { handle, door, config, dispatcher, calls: Vec::new() });
    }

    /// What its doors hold.
    pub fn handle(&self) -> Option<Handle> {
        self.state.lock().unwrap().running.as_ref().map(|running| running.handle.clone())
    }

    /// Hears of a configuration.
    pub fn adopt(&self, config: Arc<Snapshot>) {
        let mut state = self.state.lock().unwrap();
        state.copy = config;
        if let Some(running) = &state.running {
            running.config.send_replace(Arc::clone(&state.copy));
        }
    }

    /// Takes a call of an agent; none if it does not run.
    pub fn accept(&self, agent: usize, links: &Links, ledger: &Arc<Ledger>) -> Option<Call> {
        let mut state = self.state.lock().unwrap();
        let running = state.running.as_mut()?;
        let link = links.open(&self.world, Ends::Agent(agent, self.number));
        let (end, ending) = watch::channel(false);
        let rates = Rates::new("connection", Rate::default());
        let connection = Arc::new(Connection { certified: None, rates, ending });
        let (near, far) = (mpsc::channel(REQUESTS_MAX), mpsc::channel(1));
        let answers = running.door.call(connection, None, ReceiverStream::new(far.1)).ok()?;
        running.calls.retain(|(link, _)| link.strong_count() > 0);
        running.calls.push((Arc::downgrade(&link), end));
        let sent = Arc::new(Mutex::new(HashMap::new()));
        tokio::spawn(bring(Far::new(&link, Way::There, near.1), far.0, Arc::clone(&sent)));
        let (replies, reader) = mpsc::channel(REPLIES_MAX);
        tokio::spawn(bring_back(link, answers, replies, sent, Arc::clone(ledger)));
        Some((near.0, reader))
    }

    /// Asks the sender of one connection to come again.
    pub fn end_a_call(&self) {
        let state = self.state.lock().unwrap();
        let Some(running) = &state.running else { return };
        if let Some((_, end)) = self.world.one_of(&running.calls) {
            self.world.note(format!("gateway {}: a connection is old", self.number));
            end.send_replace(true);
        }
    }

    /// Ends it at once.
    pub fn kill(self: &Arc<Self>) {
        let Some(running) = self.state.lock().unwrap().running.take() else { return };
        self.world.note(format!("gateway {}: is killed", self.number));
        self.cut();
        running.dispatcher.abort();
        self.start_again();
    }

    /// Ends it in an orderly way: what it has taken is answered.
    pub fn drain(self: &Arc<Self>) {
        let Some(running) = self.state.lock().unwrap().running.take() else { return };
        self.world.note(format!("gateway {}: drains", self.number));
        let Running { handle, door, dispatcher, calls, .. } = running;
        for (_, end) in &calls {
            end.send_replace(true);
        }
        drop((handle, door));
        let (host, abort): (_, AbortHandle) = (Arc::clone(self), dispatcher.abort_handle());
        tokio::spawn(async move {
            let within = host.settings().batch_deadline + Duration::from_secs(1);
            let drained = timeout(within, dispatcher).await.is_ok();
            host.world.note(format!("gateway {}: has drained: {drained}", host.number));
            abort.abort();
            host.cut();
            host.start_again();
        });
    }

    fn cut(&self) {
        self.links.cut(|ends| match ends {
            Ends::Agent(_, gateway) | Ends::Gateway(gateway) => gateway == self.number,
        });
    }

    fn start_again(self: &Arc<Self>) {
        let host = Arc::clone(self);
        tokio::spawn(async move {
            host.world.pause(50..4_000).await;
            host.start();
        });
    }

    fn settings(&self) -> GatewaySettings {
        // Nobody is ever asked at this address.
        let admin = AdminClient::new("http://127.0.0.1:1");
        let mut settings = GatewaySettings::new(format!("gateway-{}", self.number), "nowhere:1", admin);
        (settings.producers, settings.producers_per_queue) = (3, 2);
        settings.producer_outstanding_bytes_max = 4_000;
        settings.slice = Duration::from_millis(700);
        settings.batch_deadline = Duration::from_secs(3);
        (settings.gateway_bytes_max, settings.queue_bytes_floor) = (30_000, 2_000);
        settings.clock = Arc::new(self.world.clone());
        settings
    }
}

/// What was sent over a connection and is not answered, by its number.
type Unanswered = Arc<Mutex<HashMap<u64, Sent>>>;

async fn bring(requests: Far<SendRequest>, to: mpsc::Sender<Result<SendRequest, Status>>, sent: Unanswered) {
    let note = move |request: SendRequest| {
        if let Some(batch) = request.batch.as_ref().and_then(Sent::of) {
            sent.lock().unwrap().insert(request.id, batch);
        }
        Ok(request)
    };
    requests.carry(to, note).await;
}

async fn bring_back(
    link: Arc<Link>,
    answers: mpsc::Receiver<Result<SendReply, Status>>,
    to: mpsc::Sender<Result<SendReply, Status>>,
    sent: Unanswered,
    ledger: Arc<Ledger>,
) {
    let note = |answer: Result<SendReply, Status>| {
        if let Ok(SendReply { id, outcome: Some(Outcome::Ack(_)), .. }) = &answer
            && let Some(sent) = sent.lock().unwrap().remove(id)
        {
            ledger.acknowledged(sent);
        }
        answer
    };
    Far::new(&link, Way::Back, answers).carry(to.clone(), note).await;
    if link.is_cut() {
        // The sender of a broken connection hears of it, if not at once.
        drop(to.try_send(Err(Status::unavailable("the connection is gone"))));
    }
}
