//! One seed from its beginning to its end.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::fmt;
use std::sync::{Arc, Mutex, Once, PoisonError};
use std::time::Duration;

use stream::StreamId;
use tokio::runtime::Builder;
use tokio::task::JoinHandle;
use tokio::time::{Instant, sleep};

use crate::admin::{Admin, Pattern};
use crate::agent::{AgentHost, Life};
use crate::chaos::{self, REST_WITHIN};
use crate::client::Client;
use crate::files::{self, Logs, Written};
use crate::gateway::GatewayHost;
use crate::journal::JournalHost;
use crate::leg::Leg;
use crate::link::Links;
use crate::oracle::{self, Ledger};
use crate::world::World;

thread_local! {
    /// Panics of tasks on this thread.
    static PANICS: RefCell<Vec<String>> = const { RefCell::new(Vec::new()) };
}

/// How a seed, or several, ended.
#[derive(Clone, Debug, Default)]
pub struct Ended {
    /// What is wrong.
    pub findings: Vec<String>,
    /// A hash of all that happened, and of how much that was.
    pub trace: (u64, u64),
    /// Seconds that passed in the simulation.
    pub seconds: u64,
    /// Records that legs read, and doubles among them.
    pub records: (u64, u64),
}

impl Ended {
    /// Adds another one.
    pub fn add(&mut self, other: &Self) {
        self.trace.1 += other.trace.1;
        self.seconds += other.seconds;
        self.records = (self.records.0 + other.records.0, self.records.1 + other.records.1);
    }
}

impl fmt::Display for Ended {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (events, (records, doubles)) = (self.trace.1, self.records);
        write!(f, "{} s simulated, {events} events, {records} records read, {doubles} of them doubles", self.seconds)
    }
}

/// All that takes part.
pub struct Sim {
    pub world: World,
    pub admin: Arc<Admin>,
    pub links: Arc<Links>,
    pub ledger: Arc<Ledger>,
    pub journal: Arc<JournalHost>,
    pub gateways: Vec<Arc<GatewayHost>>,
    pub agents: Vec<Arc<AgentHost>>,
    pub logs: BTreeMap<(usize, StreamId), Arc<Mutex<Logs>>>,
    pub legs: Mutex<Vec<Arc<Leg>>>,
    pub clients: Mutex<Vec<JoinHandle<()>>>,
}

/// Runs a seed, in a folder of its own that is this process's while it runs: paths are kept in what agents remember, and a
/// longer one would be another power loss.
pub fn run(seed: u64) -> Ended {
    static TURN: Mutex<()> = Mutex::new(());
    let _turn = TURN.lock().unwrap_or_else(PoisonError::into_inner);
    watch_panics();
    files::forget_all();
    PANICS.take();
    let dir = tempfile::tempdir().unwrap();
    std::env::set_current_dir(&dir).unwrap();
    let runtime = Builder::new_current_thread().enable_time().start_paused(true).build().unwrap();
    let simulated = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| runtime.block_on(simulate(seed))));
    drop(runtime);
    std::env::set_current_dir("/").unwrap();
    let mut ended = simulated.unwrap_or_default();
    ended.findings.extend(PANICS.take());
    ended
}

/// Notes the panics of this thread: a task's own is otherwise only known to who waits for it.
fn watch_panics() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        std::panic::set_hook(Box::new(|panic| {
            eprintln!("{panic}");
            PANICS.with_borrow_mut(|panics| panics.push(panic.to_string()));
        }));
    });
}

async fn simulate(seed: u64) -> Ended {
    let sim = Sim::new(seed);
    sim.begin();
    chaos::rage(&sim).await;
    chaos::calm(&sim);
    // Applications write a last time within two seconds; then nothing may wait for a newline.
    sleep(Duration::from_secs(2)).await;
    sim.logs.values().for_each(|logs| logs.lock().unwrap().end_line());
    let until = Instant::now() + REST_WITHIN;
    let mut rested = 0;
    while rested < 3 && sim.world.findings().is_empty() {
        sleep(Duration::from_millis(500)).await;
        match oracle::missing(&sim) {
            None => rested += 1,
            Some(missing) if Instant::now() > until => sim.world.found(format!("does not come to rest: {missing}")),
            Some(_) => rested = 0,
        }
    }
    if sim.world.findings().is_empty() {
        oracle::judge(&sim);
    }
    sim.ended()
}

impl Sim {
    fn new(seed: u64) -> Arc<Self> {
        let world = World::new(seed);
        let admin = Arc::new(Admin::new(&world));
        let (links, ledger) = (Arc::new(Links::default()), Arc::new(Ledger::default()));
        let journal = JournalHost::new(&world, &admin, &links);
        let gateways: Vec<_> =
            (0..2).map(|number| GatewayHost::new(&world, number, &admin, &journal, &links)).collect();
        let agent = |number| {
            let files = format!("agent-{number}").into();
            AgentHost::new(&world, number, &admin, &gateways, (&links, &ledger), files)
        };
        let agents: Vec<_> = (0..world.pick(1..4) as usize).map(agent).collect();
        let mut logs = BTreeMap::new();
        for (agent, (stream, plan)) in
            agents.iter().flat_map(|agent| admin.plans.iter().enumerate().map(move |planned| (agent, planned)))
        {
            let name = format!("a{}s{stream}", agent.number);
            let of_stream = Logs::new(&world, &agent.files_of(&plan.id), name);
            logs.insert((agent.number, plan.id.clone()), Arc::new(Mutex::new(of_stream)));
        }
        let (legs, clients) = (Mutex::default(), Mutex::default());
        Arc::new(Self { world, admin, links, ledger, journal, gateways, agents, logs, legs, clients })
    }

    fn begin(self: &Arc<Self>) {
        self.journal.start();
        self.gateways.iter().for_each(GatewayHost::start);
        self.agents.iter().for_each(AgentHost::start);
        self.begin_legs();
        for (agent, id) in self.logs.keys() {
            tokio::spawn(Arc::clone(self).write(*agent, id.clone()));
        }
        // Several at a time: what is queued behind another one must stay behind it.
        for plan in &self.admin.plans {
            for _ in 0..self.world.pick(1..5) {
                let (world, stream, gateways) = (self.world.clone(), plan.id.clone(), self.gateways.clone());
                let mut clients = self.clients.lock().unwrap();
                let (number, ledger) = (clients.len(), Arc::clone(&self.ledger));
                let client = Client { world, number, stream, gateways, ledger };
                clients.push(tokio::spawn(client.run()));
            }
        }
    }

    /// A leg for each life that has none.
    pub fn begin_legs(&self) {
        for config in self.admin.now().streams.values() {
            if self.leg(&oracle::life_of(config)).is_none() {
                let leg = Leg::new(&self.world, config, &self.journal);
                tokio::spawn(Arc::clone(&leg).run());
                self.legs.lock().unwrap().push(leg);
            }
        }
    }

    /// The leg of a life.
    pub fn leg(&self, life: &Life) -> Option<Arc<Leg>> {
        self.legs.lock().unwrap().iter().find(|leg| leg.life == *life).cloned()
    }

    /// Everybody hears of the configuration, each in its time.
    pub fn tell_config(self: &Arc<Self>) {
        let told = |adopt: Box<dyn FnOnce(&Sim) + Send>| {
            let (sim, wait) = (Arc::clone(self), self.world.ms(0..2_000));
            tokio::spawn(async move {
                sleep(wait).await;
                adopt(&sim);
            });
        };
        told(Box::new(|sim| sim.journal.adopt(sim.admin.now())));
        for number in 0..self.gateways.len() {
            told(Box::new(move |sim| sim.gateways[number].adopt(sim.admin.now())));
        }
        for number in 0..self.agents.len() {
            told(Box::new(move |sim| sim.agents[number].adopt(sim.admin.now())));
        }
    }

    /// An application writes its log until nothing breaks any more.
    async fn write(self: Arc<Self>, agent: usize, id: StreamId) {
        let logs = Arc::clone(&self.logs[&(agent, id.clone())]);
        while !self.world.is_calm() {
            self.world.pause(50..1_500).await;
            if self.world.chance(0.1) {
                self.turn_over(agent, &id, &logs);
            }
            logs.lock().unwrap().write();
        }
    }

    /// Rotates a log, or cuts it off, where nothing that was promised is lost by that.
    fn turn_over(&self, agent: usize, id: &StreamId, logs: &Mutex<Logs>) {
        let mut logs = logs.lock().unwrap();
        if self.admin.plan(id).pattern == Pattern::All {
            // It stays named, so it is never taken for ended: nothing may wait for a newline.
            logs.end_line();
            return logs.rotate();
        }
        let Some(life) = self.admin.now().streams.get(id).map(oracle::life_of) else { return };
        let state = self.agents[agent].remembered(&life).unwrap_or_default();
        let Written { number, generation, content, .. } = logs.current();
        let mut sources = state.sources.values();
        let known = sources.find(|source| source.inode == *number && source.generation == *generation);
        // What no pattern names any more is found again only if it was seen before.
        match known.map(|source| source.position) {
            Some(position) if position == content.len() as u64 => logs.truncate(),
            Some(_) => logs.rotate(),
            None => {}
        }
    }

    fn ended(&self) -> Ended {
        let legs = self.legs.lock().unwrap();
        let read = legs.iter().map(|leg| leg.read_so_far());
        let records = read.fold((0, 0), |sum, (read, doubles)| (sum.0 + read, sum.1 + doubles));
        let (findings, trace) = (self.world.findings(), self.world.trace());
        Ended { findings, trace, seconds: self.world.elapsed_ms() / 1000, records }
    }
}
