//! What is heard now, in memory only: who reports, what gateways measure, how the last audit of each stream stood,
//! and which marks its legs have passed.
//! Lost with the process and heard again within seconds.
//!
//! Gateways count from their own start, so their counters fall when they start again; totals here add what was counted
//! since. Two totals are kept: `received` for people, and `counted` for rates, which leaves out what an older stream's
//! gateways had counted before this admin first heard of them.

use std::collections::{BTreeMap, HashMap};

use stream::Incarnation;
use stream::facts::FlowReport;

use crate::ledger::Marks;
use crate::status::{GatewayLane, Role, RoleHealth};

/// A reporter silent for longer is forgotten.
const REPORTER_KEPT_MS: i64 = 3_600_000;
/// A queue reported longer ago is no longer counted: gateways report one every second while something is queued.
const QUEUE_FRESH_MS: i64 = 10_000;

/// What is heard now.
#[derive(Default)]
pub struct Live {
    flows: HashMap<Incarnation, Flow>,
    heard: BTreeMap<(Role, String), i64>,
    standings: HashMap<Incarnation, Standing>,
    marks: HashMap<Incarnation, BTreeMap<String, Marks>>,
}

/// What gateways measure of one stream.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Flow {
    /// Made durable, as far as this admin or its gateways remember.
    pub received: Amount,
    /// Made durable while this admin watched.
    pub counted: Amount,
    /// Batches refused, by reason.
    pub refusals: BTreeMap<String, u64>,
    reporters: HashMap<String, (FlowReport, i64)>,
}

/// Records and bytes of their bodies.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Amount {
    /// Records.
    pub records: u64,
    /// Bytes.
    pub bytes: u64,
}

/// How the last audit of a stream stood, in ordinals.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Standing {
    /// In flight in the leg that is furthest behind.
    pub in_flight: u64,
    /// Missing in the worst leg.
    pub missing: u64,
    /// Set apart by agents.
    pub set_apart: u64,
}

impl Live {
    /// Someone of `role` has been heard of.
    pub fn heard(&mut self, role: Role, name: &str, now_ms: i64) {
        self.heard.insert((role, name.to_owned()), now_ms);
    }

    /// Somebody who collects: a gateway, if it is known as one, else an agent.
    pub fn heard_collector(&mut self, name: &str, now_ms: i64) {
        let gateway = self.heard.contains_key(&(Role::Gateway, name.to_owned()));
        self.heard(if gateway { Role::Gateway } else { Role::Agent }, name, now_ms);
    }

    /// Takes a report. `born_here`: the stream is younger than this admin's start, so that everything was counted
    /// while it watched.
    pub fn take_flow(&mut self, report: FlowReport, born_here: bool, now_ms: i64) {
        self.heard(Role::Gateway, &report.reporter, now_ms);
        let flow = self.flows.entry(report.incarnation).or_default();
        let known = flow.reporters.get(&report.reporter).map(|(known, _)| known);
        let added = Amount {
            records: grown(known.map(|known| known.records), report.records),
            bytes: grown(known.map(|known| known.bytes), report.bytes),
        };
        for (reason, count) in &report.refusals {
            let before = known.and_then(|known| known.refusals.get(reason)).copied();
            *flow.refusals.entry(reason.clone()).or_default() += grown(before, *count);
        }
        flow.received.add(added);
        if born_here || !flow.reporters.is_empty() {
            flow.counted.add(added);
        }
        flow.reporters.retain(|_, (_, at_ms)| now_ms - *at_ms < REPORTER_KEPT_MS);
        flow.reporters.insert(report.reporter.clone(), (report, now_ms));
    }

    /// What gateways measure of a stream.
    pub fn flow(&self, incarnation: Incarnation) -> Option<&Flow> {
        self.flows.get(&incarnation)
    }

    /// Remembers an audit.
    pub fn audited(&mut self, incarnation: Incarnation, standing: Standing) {
        self.standings.insert(incarnation, standing);
    }

    /// How the last audit stood.
    pub fn standing(&self, incarnation: Incarnation) -> Option<Standing> {
        self.standings.get(&incarnation).copied()
    }

    /// What a leg has to pass and has passed.
    pub fn marks(&mut self, incarnation: Incarnation, leg: &str) -> &mut Marks {
        self.marks.entry(incarnation).or_default().entry(leg.to_owned()).or_default()
    }

    /// Forgets the lives that are over.
    pub fn retain(&mut self, lives: impl Fn(&Incarnation) -> bool) {
        self.flows.retain(|incarnation, _| lives(incarnation));
        self.standings.retain(|incarnation, _| lives(incarnation));
        self.marks.retain(|incarnation, _| lives(incarnation));
    }

    /// Who has been heard of within the last hour.
    pub fn roles(&self, now_ms: i64) -> Vec<RoleHealth> {
        let since = |at_ms: i64| u64::try_from(now_ms - at_ms).unwrap_or(0);
        let recent = self.heard.iter().filter(|(_, at_ms)| now_ms - **at_ms < REPORTER_KEPT_MS);
        recent
            .map(|((role, name), at_ms)| RoleHealth {
                role: *role,
                name: name.clone(),
                silent_ms: since(*at_ms),
                up: since(*at_ms) <= usual_silence_ms(*role),
            })
            .collect()
    }
}

/// How long a role is silent at most while all is well: agents renew their lease every 10 s, gateways report every
/// ten seconds at least, the journal is asked every 5 s; a leg without records has nothing to report.
fn usual_silence_ms(role: Role) -> u64 {
    match role {
        Role::Agent => 30_000,
        Role::Gateway | Role::Journal => 15_000,
        Role::Query => 60_000,
    }
}

impl Flow {
    /// What each gateway reported last.
    pub fn gateways(&self, now_ms: i64) -> Vec<GatewayLane> {
        let lane = |(report, at_ms): &(FlowReport, i64)| GatewayLane {
            gateway: report.reporter.clone(),
            queue_bytes: if now_ms - at_ms < QUEUE_FRESH_MS { report.queue_bytes } else { 0 },
            producers: report.producers.clone(),
            refused_last: report.refused_last.clone(),
        };
        let mut lanes: Vec<_> = self.reporters.values().map(lane).collect();
        lanes.sort_by(|a, b| a.gateway.cmp(&b.gateway));
        lanes
    }

    /// Bytes queued, as reported just now.
    pub fn queue_bytes(&self, now_ms: i64) -> u64 {
        let fresh = self.reporters.values().filter(|(_, at_ms)| now_ms - at_ms < QUEUE_FRESH_MS);
        fresh.map(|(report, _)| report.queue_bytes).sum()
    }
}

impl Amount {
    fn add(&mut self, other: Amount) {
        self.records += other.records;
        self.bytes += other.bytes;
    }
}

/// What a counter has grown by; a smaller one has started again.
fn grown(before: Option<u64>, now: u64) -> u64 {
    match before {
        Some(before) if before <= now => now - before,
        _ => now,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn report(reporter: &str, records: u64) -> FlowReport {
        FlowReport {
            stream: "a.b.c".parse().unwrap(),
            incarnation: Incarnation(1),
            reporter: reporter.into(),
            records,
            bytes: 10 * records,
            refusals: [("queue_full".to_owned(), records / 10)].into(),
            queue_bytes: 5,
            producers: Vec::new(),
            refused_last: None,
        }
    }

    #[test]
    fn counters_that_start_again_lose_nothing() {
        let mut live = Live::default();
        for (reporter, records) in [("g1", 100), ("g1", 150), ("g2", 10), ("g1", 20), ("g1", 20)] {
            live.take_flow(report(reporter, records), true, 0);
        }
        let flow = live.flow(Incarnation(1)).unwrap();
        assert_eq!(flow.received, Amount { records: 180, bytes: 1_800 });
        assert_eq!(flow.refusals["queue_full"], 18);
        assert_eq!((flow.queue_bytes(1), flow.queue_bytes(QUEUE_FRESH_MS)), (10, 0));
    }

    #[test]
    fn what_was_received_before_admin_started_makes_no_rate() {
        let mut live = Live::default();
        live.take_flow(report("g1", 1_000), false, 0);
        live.take_flow(report("g1", 1_010), false, 0);
        let flow = live.flow(Incarnation(1)).unwrap();
        assert_eq!((flow.received.records, flow.counted.records), (1_010, 10));
    }

    #[test]
    fn silence_beyond_the_usual_shows() {
        let mut live = Live::default();
        live.heard(Role::Gateway, "g1", 0);
        live.heard_collector("g1", 1_000);
        live.heard_collector("a1", 1_000);
        let up = |now_ms| live.roles(now_ms).iter().map(|role| (role.role, role.up)).collect::<Vec<_>>();
        assert_eq!(up(16_000), [(Role::Agent, true), (Role::Gateway, true)]);
        assert_eq!(up(17_000), [(Role::Agent, true), (Role::Gateway, false)]);
        assert_eq!(up(REPORTER_KEPT_MS + 1_000), []);
    }
}
