//! The configuration, as admin has it: who must know hears of a change sooner or later.

use std::sync::{Arc, Mutex};

use stream::config::{Input, Level, Order, OrderKey, Snapshot, StreamConfig, StreamSpec};
use stream::token::Rate;
use stream::{Incarnation, StreamId};

use crate::world::World;

/// Whether rotated files keep a name that the pattern matches.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Pattern {
    /// `app.log`
    One,
    /// `app.log*`
    All,
}

/// A stream as the simulation sees it: what stays, whatever its configuration.
#[derive(Clone, Debug)]
pub struct Plan {
    /// The stream.
    pub id: StreamId,
    /// What its agents read.
    pub pattern: Pattern,
}

/// The one configuration.
pub struct Admin {
    world: World,
    /// The streams there ever are.
    pub plans: Vec<Plan>,
    truth: Mutex<Truth>,
}

struct Truth {
    snapshot: Arc<Snapshot>,
    lives: u64,
}

impl Admin {
    /// Some streams.
    pub fn new(world: &World) -> Self {
        let streams = world.pick(2..4);
        let mut plans = Vec::new();
        let mut snapshot = Snapshot { version: 1, ..Snapshot::default() };
        for number in 0..streams {
            let id: StreamId = format!("sim.seed.s{number}").parse().unwrap();
            let order = [Order::None, Order::Source, Order::Key][number as usize % 3];
            let partitions = if order == Order::Key { 2 } else { world.pick(1..3) as u32 };
            let pattern = if world.chance(0.5) { Pattern::All } else { Pattern::One };
            let mut spec = StreamSpec::new(id.clone());
            (spec.order, spec.partitions) = (order, Some(partitions));
            spec.order_key = (order == Order::Key).then(|| OrderKey::Column { number: 1, by: ",".into() });
            vary(world, &mut spec);
            plans.push(Plan { id: id.clone(), pattern });
            snapshot.streams.insert(id, StreamConfig { incarnation: Incarnation(number + 1), version: 1, spec });
        }
        let truth = Truth { snapshot: Arc::new(snapshot), lives: streams };
        Self { world: world.clone(), plans, truth: Mutex::new(truth) }
    }

    /// What is configured now.
    pub fn now(&self) -> Arc<Snapshot> {
        Arc::clone(&self.truth.lock().unwrap().snapshot)
    }

    /// The plan of a stream.
    pub fn plan(&self, id: &StreamId) -> &Plan {
        self.plans.iter().find(|plan| plan.id == *id).expect("streams are made by plan")
    }

    /// Changes how gateways serve their queues, or a stream's limits.
    pub fn change(&self) {
        if self.world.chance(0.2) {
            let (producers, seconds) = (self.world.pick(1..4) as usize, self.world.pick(1..4));
            self.edit(|snapshot| {
                snapshot.gateways.producers_per_queue = Some(producers);
                snapshot.gateways.slice_seconds = Some(seconds);
                Some(format!("queues have {producers} producers for {seconds} s"))
            });
            return;
        }
        let plan = self.world.one_of(&self.plans).expect("there are streams").clone();
        self.edit(|snapshot| {
            let config = snapshot.streams.get_mut(&plan.id)?;
            vary(&self.world, &mut config.spec);
            config.version += 1;
            Some(format!("{} has limits {:?}", plan.id, config.spec.limits))
        });
    }

    /// Lifts every limit that would make the end take long.
    pub fn lift(&self) {
        for plan in &self.plans {
            self.edit(|snapshot| {
                let config = snapshot.streams.get_mut(&plan.id)?;
                config.spec.limits.rate = Rate::default();
                config.version += 1;
                Some(format!("{} has no rate", plan.id))
            });
        }
    }

    /// Deletes a stream; true if it was there.
    pub fn delete(&self, id: &StreamId) -> bool {
        self.edit(|snapshot| snapshot.streams.remove(id).map(|_| format!("{id} is deleted")))
    }

    /// Creates a stream anew.
    pub fn create(&self, spec: StreamSpec) {
        let life = {
            let mut truth = self.truth.lock().unwrap();
            truth.lives += 1;
            truth.lives
        };
        self.edit(|snapshot| {
            let id = spec.id.clone();
            let config = StreamConfig { incarnation: Incarnation(life), version: 1, spec };
            snapshot.streams.insert(id.clone(), config);
            Some(format!("{id} is created, life {life}"))
        });
    }

    fn edit(&self, change: impl FnOnce(&mut Snapshot) -> Option<String>) -> bool {
        let mut truth = self.truth.lock().unwrap();
        let mut snapshot = Snapshot::clone(&truth.snapshot);
        let Some(what) = change(&mut snapshot) else { return false };
        snapshot.version += 1;
        self.world.note(format!("config {}: {what}", snapshot.version));
        truth.snapshot = Arc::new(snapshot);
        true
    }
}

/// The inputs of an agent whose files lie in `dir`.
pub fn inputs(dir: &std::path::Path, pattern: Pattern) -> Vec<Input> {
    let name = match pattern {
        Pattern::One => "app.log",
        Pattern::All => "app.log*",
    };
    vec![Input::File { paths: vec![dir.join(name).display().to_string()] }]
}

/// What may change in a stream's life.
fn vary(world: &World, spec: &mut StreamSpec) {
    spec.priority = *world.one_of(&[Level::Low, Level::Normal, Level::High]).expect("three levels");
    let own = &mut spec.limits;
    own.queue_bytes_max = world.pick(600..20_000) as usize;
    own.retention_bytes = world.pick(500..20_000);
    own.retention_seconds = world.pick(1..20);
    own.rate = Rate::default();
    if world.chance(0.3) {
        own.rate.bytes_per_second_max = world.pick(500..5_000);
        own.rate.requests_per_second_max = world.pick(5..50);
    }
    own.record_bytes_max = world.pick(30..400) as usize;
}
