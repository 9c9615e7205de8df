//! What breaks, and when: a seed decides.

use std::sync::Arc;
use std::time::Duration;

use stream::disk::SimDisk;

use crate::admin::Pattern;
use crate::agent::Loss;
use crate::link::Way;
use crate::run::Sim;

/// How long things break.
const BREAKS_MS: std::ops::Range<u64> = 8_000..30_000;

/// Breaks things for a while.
pub async fn rage(sim: &Arc<Sim>) {
    let world = &sim.world;
    let until = world.elapsed_ms() + world.pick(BREAKS_MS);
    // Some seeds are quiet but for one kind of fault, some know them all.
    let only = world.chance(0.3).then(|| world.pick(0..FAULTS.len() as u64) as usize);
    while world.elapsed_ms() < until {
        world.pause(50..1_500).await;
        let fault = only.unwrap_or_else(|| world.pick(0..FAULTS.len() as u64) as usize);
        FAULTS[fault](sim);
    }
}

const FAULTS: [fn(&Arc<Sim>); 14] = [
    cut,
    cut,
    stand,
    stand,
    end_a_call,
    kill_gateway,
    drain_gateway,
    fail_journal,
    break_journal_disk,
    fail_agent,
    break_agent_disk,
    change_config,
    change_life,
    kill_leg,
];

fn cut(sim: &Arc<Sim>) {
    if let Some((ends, link)) = sim.world.one_of(&sim.links.all()) {
        sim.world.note(format!("cut {ends:?}"));
        link.cut();
    }
}

fn stand(sim: &Arc<Sim>) {
    let way = if sim.world.chance(0.5) { Way::There } else { Way::Back };
    let time = if sim.world.chance(0.8) { sim.world.ms(100..3_000) } else { sim.world.ms(3_000..25_000) };
    if let Some((ends, link)) = sim.world.one_of(&sim.links.all()) {
        sim.world.note(format!("stands {ends:?} {way:?} for {} ms", time.as_millis()));
        link.stand(way, time);
    }
}

fn end_a_call(sim: &Arc<Sim>) {
    sim.world.one_of(&sim.gateways).expect("there are gateways").end_a_call();
}

fn kill_gateway(sim: &Arc<Sim>) {
    sim.world.one_of(&sim.gateways).expect("there are gateways").kill();
}

fn drain_gateway(sim: &Arc<Sim>) {
    sim.world.one_of(&sim.gateways).expect("there are gateways").drain();
}

fn some_loss(sim: &Arc<Sim>) -> Loss {
    if sim.world.chance(0.5) { Loss::Power } else { Loss::Process }
}

fn fail_journal(sim: &Arc<Sim>) {
    let loss = some_loss(sim);
    sim.journal.fail(loss);
}

fn break_journal_disk(sim: &Arc<Sim>) {
    break_disk(sim, "journal", sim.journal.disk.clone());
}

fn fail_agent(sim: &Arc<Sim>) {
    let loss = some_loss(sim);
    sim.world.one_of(&sim.agents).expect("there are agents").fail(loss);
}

fn break_agent_disk(sim: &Arc<Sim>) {
    let agent = sim.world.one_of(&sim.agents).expect("there are agents");
    break_disk(sim, "agent", agent.disk.clone());
}

/// The power goes in the middle of what is written next, a sync fails, or there is no room for a while.
fn break_disk(sim: &Arc<Sim>, whose: &str, disk: SimDisk) {
    match sim.world.pick(0..3) {
        0 => {
            let operations = sim.world.pick(0..25);
            sim.world.note(format!("{whose}: ends after {operations} operations"));
            disk.lose_power_after(operations);
        }
        1 => {
            let syncs = sim.world.pick(0..5);
            sim.world.note(format!("{whose}: a sync fails after {syncs}"));
            disk.fail_sync_after(syncs);
        }
        _ => {
            let (room, time) = (sim.world.pick(0..1_500), sim.world.ms(200..4_000));
            sim.world.note(format!("{whose}: {room} bytes of room"));
            disk.set_room(Some(disk.bytes() + room));
            tokio::spawn(async move {
                tokio::time::sleep(time).await;
                disk.set_room(None);
            });
        }
    }
}

fn change_config(sim: &Arc<Sim>) {
    sim.admin.change();
    sim.tell_config();
}

/// Deletes a stream and creates it anew, soon or late.
fn change_life(sim: &Arc<Sim>) {
    let plan = sim.world.one_of(&sim.admin.plans).expect("there are streams").clone();
    // What was rotated away before the new life began would be nobody's.
    if plan.pattern == Pattern::One || sim.world.chance(0.5) {
        return;
    }
    let Some(spec) = sim.admin.now().streams.get(&plan.id).map(|config| config.spec.clone()) else { return };
    sim.admin.delete(&plan.id);
    sim.tell_config();
    let pause = sim.world.ms(0..4_000);
    let sim = Arc::clone(sim);
    tokio::spawn(async move {
        tokio::time::sleep(pause).await;
        sim.admin.create(spec);
        sim.begin_legs();
        sim.tell_config();
    });
}

fn kill_leg(sim: &Arc<Sim>) {
    let legs = sim.legs.lock().unwrap();
    sim.world.one_of(&legs).expect("there are legs").kill();
}

/// Ends whatever is still broken.
pub fn calm(sim: &Arc<Sim>) {
    sim.world.note("calm");
    sim.world.calm_down();
    for disk in sim.agents.iter().map(|agent| &agent.disk).chain([&sim.journal.disk]) {
        disk.set_room(None);
        disk.fail_sync_after(u64::MAX);
    }
    // What would be found by a probe of the connection.
    sim.links.all().iter().filter(|(_, link)| link.is_standing()).for_each(|(_, link)| link.cut());
    sim.admin.lift();
    sim.tell_config();
}

/// How long everything may take to come to rest.
pub const REST_WITHIN: Duration = Duration::from_secs(180);
