//! One run of a worker: its state opened, the real loop turned in the simulation's time, the real sender beside it.

use std::sync::Arc;
use std::time::Duration;

use agent::collect::Collector;
use agent::collect::identity::Reader;
use agent::facts::{Collector as Stated, Outbox};
use agent::position::{ENTRIES_MAX, Positions, Store};
use agent::send::connect::{Connect, ConnectError};
use agent::send::{Known, Sender};
use agent::supervise::hold::HeldBySupervisor;
use agent::work::lane::{Event, Lane, Next, Parts, SETTLE};
use agent::{Pace, WorkError};
use stream::config::StreamConfig;
use stream::disk::SharedDisk;
use stream::wire::v1::{SendReply, SendRequest};
use tokio::sync::mpsc;
use tokio::task::JoinSet;
use tokio::time::{Instant, timeout};
use tokio_stream::wrappers::ReceiverStream;
use tonic::Status;

use crate::agent::{AgentHost, Life};
use crate::files::identity_of;

impl AgentHost {
    /// One run of a worker.
    pub async fn work(self: &Arc<Self>, life: &Life) -> Result<(), WorkError> {
        let (event, mut events) = mpsc::unbounded_channel();
        let (batches, queue) = mpsc::channel(2 * ENTRIES_MAX);
        let Some(config) = self.join(life, &event) else { return Ok(()) };
        let parts = self.parts(life, config)?;
        let known = {
            let (host, id) = (Arc::clone(self), life.0.clone());
            move || Known::of(host.config().streams.get(&id))
        };
        let gateway = Balancer { host: Arc::clone(self) };
        let verdict = move |verdict| drop(event.send(Event::Verdict(verdict)));
        let (unknown_for_max, dice) = (parts.pace.unknown_stream, self.world.fork());
        let sender = Sender::new(life.0.clone(), gateway, queue, unknown_for_max, Box::new(known), dice, verdict);
        // Ends with this run.
        let mut tasks = JoinSet::new();
        tasks.spawn(sender.run());

        let mut out = |collected| batches.try_send(collected).expect("position bounds what is outstanding");
        let mut lane = Lane::begin(parts, now(), &mut out)?;
        loop {
            let wait = lane.turn(now(), &mut out)?;
            if self.ends_here() {
                return Ok(());
            }
            let Ok(first) = timeout(wait, events.recv()).await else {
                lane.rested();
                continue;
            };
            let mut event = first;
            while let Some(happened) = event {
                if lane.take(happened)? == Next::Stop {
                    return settle(lane, &mut events).await;
                }
                event = events.try_recv().ok();
            }
        }
    }

    fn parts(&self, life: &Life, config: Arc<StreamConfig>) -> Result<Parts, WorkError> {
        let disk: SharedDisk = Arc::new(self.disk.clone());
        let dir = Self::state_dir(life);
        let (mut store, found) = Store::open(Arc::clone(&disk), &dir)?;
        let without_state = found.is_none();
        let state = found.unwrap_or_default();
        if without_state {
            store.write_through(&state)?;
        }
        let agent_id = format!("agent-{}", self.number);
        let reader = Reader { agent_id: agent_id.clone(), incarnation: life.1, identity_of };
        let (pace, clock) = (pace(), Arc::new(self.world.clone()));
        let nobody = HeldBySupervisor::nobody();
        Ok(Parts {
            collector: Collector::new(reader, Arc::clone(&config), pace, clock, nobody, Vec::new(), without_state),
            positions: Positions::new(store, state),
            config,
            outbox: Outbox::default(),
            facts: Stated { stream: life.0.clone(), incarnation: life.1, agent_id },
            quarantine: dir.join("quarantine.ndjson"),
            disk,
            pace,
        })
    }
}

/// As `work::lane` settles on its own thread.
async fn settle(mut lane: Lane, events: &mut mpsc::UnboundedReceiver<Event>) -> Result<(), WorkError> {
    let until = now() + SETTLE;
    while !lane.is_settled() && now() < until {
        if let Ok(Some(event)) = timeout(pace().poll_min, events.recv()).await {
            lane.take(event)?;
        }
    }
    lane.remember();
    Ok(())
}

fn now() -> std::time::Instant {
    Instant::now().into_std()
}

fn pace() -> Pace {
    Pace {
        poll_min: Duration::from_millis(50),
        poll_max: Duration::from_millis(400),
        discover: Duration::from_millis(900),
        finish_after: Duration::from_secs(2),
        positions: Duration::from_millis(200),
        facts: Duration::from_secs(3_600),
        lease: Duration::from_secs(3_600),
        unknown_stream: Duration::from_secs(5),
    }
}

/// What stands before the gateways: each connection goes to one of them.
struct Balancer {
    host: Arc<AgentHost>,
}

impl Connect for Balancer {
    type Replies = ReceiverStream<Result<SendReply, Status>>;

    async fn connect(&mut self) -> Result<(mpsc::Sender<SendRequest>, Self::Replies), ConnectError> {
        let AgentHost { world, number, gateways, links, ledger, .. } = &*self.host;
        world.pause(0..30).await;
        let gateway = world.one_of(gateways).expect("there are gateways");
        match gateway.accept(*number, links, ledger) {
            Some((requests, replies)) => Ok((requests, ReceiverStream::new(replies))),
            None => {
                world.pause(1..300).await;
                Err(ConnectError::Slow)
            }
        }
    }
}
