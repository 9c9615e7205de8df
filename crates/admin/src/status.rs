//! What is going on now: the answer of `GET /api/v1/status`, for the CLI, the progress line of `up` and the page.
//!
//! Totals of the receiving side come from the gateways' reports and are as old as those gateways (or this admin, if it
//! saw them start again); exact numbers are the ledger's.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use stream::config::{Engine, Input, StreamConfig, StreamSpec};
use stream::facts::{FlinkJob, LegReport, RefusedLast};
use stream::fate::FateCounts;
use stream::{Incarnation, StreamId, TopicName};

use crate::api::Shared;
use crate::history::Rates;
use crate::live::{Live, Standing};
use crate::store::book::Entry;

/// The answer of `GET /api/v1/status`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Status {
    /// When it was made, in ms since 1970.
    pub at_ms: i64,
    /// Version of the metadata.
    pub version: u64,
    /// Who has been heard of, agents first, then along the way of a record.
    pub roles: Vec<RoleHealth>,
    /// The streams by id.
    pub streams: Vec<StreamStatus>,
}

/// Where the journal is, for verbs that read it themselves.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct JournalAddress {
    /// As text, see `journal::address`; none if admin was told none.
    pub address: Option<String>,
}

/// One process that reports to admin, or that admin asks.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RoleHealth {
    /// `agent`, `gateway`, `journal` or `query`.
    pub role: Role,
    /// Its own name; empty where there is one only.
    pub name: String,
    /// Time since it was last heard of, in ms.
    pub silent_ms: u64,
    /// Whether that is within what is usual for its role.
    pub up: bool,
}

/// The roles beside admin itself, along the way of a record.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Role {
    /// Collects and sends.
    Agent,
    /// Takes in.
    Gateway,
    /// Keeps.
    Journal,
    /// Runs the jobs.
    Query,
}

/// One stream now. Amounts of records and bytes are totals over all reporters and legs; rates are means of the last
/// 10 s.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct StreamStatus {
    /// The stream.
    pub id: StreamId,
    /// Its life.
    pub incarnation: Incarnation,
    /// Version of its configuration.
    pub version: u64,
    /// Its topic.
    pub topic: TopicName,
    /// Path patterns of its inputs; HTTP and gRPC are always open.
    pub inputs: Vec<String>,
    /// Its sinks: one leg each.
    pub sinks: Vec<String>,
    /// Records made durable.
    pub received_records: u64,
    /// Bytes of bodies made durable.
    pub received_bytes: u64,
    /// Records made durable a second.
    pub received_records_per_s: f64,
    /// Bytes made durable a second.
    pub received_bytes_per_s: f64,
    /// Bytes queued in gateways.
    pub queue_bytes: u64,
    /// Batches refused by gateways, by reason.
    pub refusals: BTreeMap<String, u64>,
    /// Its lane in each gateway that has reported within the last hour.
    pub gateways: Vec<GatewayLane>,
    /// Records per fate and removed doubles, all legs together.
    pub fates: FateCounts,
    /// Bytes of bodies delivered.
    pub delivered_bytes: u64,
    /// Records delivered a second.
    pub delivered_records_per_s: f64,
    /// Median time from append to commit of the last commit, in ms; the slowest leg's.
    pub delay_ms_p50: Option<u64>,
    /// 99th percentile of the same.
    pub delay_ms_p99: Option<u64>,
    /// Ordinals in flight in the leg that is furthest behind; `None` before the first audit.
    pub in_flight: Option<u64>,
    /// Ordinals missing in the worst leg; `None` before the first audit.
    pub missing: Option<u64>,
    /// Ordinals set apart by agents.
    pub set_apart: u64,
    /// Why a leg stands still, if one does.
    pub failure: Option<String>,
    /// What runs its job.
    #[serde(default)]
    pub engine: Engine,
    /// How its jobs on Flink stand, if it runs there and they have been heard of: one, or one for each leg.
    #[serde(default)]
    pub jobs: Vec<FlinkJob>,
}

/// A stream's lane in one gateway.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct GatewayLane {
    /// The gateway.
    pub gateway: String,
    /// Bytes queued there.
    pub queue_bytes: u64,
    /// The producers that the queue is bound to in this slice.
    pub producers: Vec<usize>,
    /// Why it refused last.
    pub refused_last: Option<RefusedLast>,
}

/// What is going on now.
pub fn status(shared: &Shared) -> Status {
    let published = shared.published.borrow().clone();
    let now_ms = shared.clock.now_ms();
    let configs = || published.snapshot.streams.values();
    let rates: Vec<Rates> = {
        let rings = shared.rings();
        configs().map(|config| rings.rates(config.incarnation)).collect()
    };
    let book = shared.store.book();
    let live = shared.live();
    Status {
        at_ms: now_ms,
        version: published.snapshot.version,
        roles: live.roles(now_ms),
        streams: configs()
            .zip(rates)
            .map(|(config, rates)| one(config, rates, book.look(config.incarnation), &live, now_ms))
            .collect(),
    }
}

fn one(config: &StreamConfig, rates: Rates, entry: Option<&Entry>, live: &Live, now_ms: i64) -> StreamStatus {
    let spec = &config.spec;
    let flow = live.flow(config.incarnation);
    let received = flow.map(|flow| flow.received).unwrap_or_default();
    let standing = live.standing(config.incarnation);
    let legs = || spec.sinks.iter().filter_map(|sink| Some(&entry?.legs.get(&sink.name)?.report));
    // Flink does not say when a record became visible.
    let timed = || legs().filter(|report| report.job.is_none());
    let slowest = |delay: fn(&LegReport) -> u64| timed().map(delay).max();
    let mut fates = FateCounts::default();
    legs().for_each(|report| fates.add(&report.fates));
    StreamStatus {
        id: spec.id.clone(),
        incarnation: config.incarnation,
        version: config.version,
        topic: config.topic(),
        inputs: spec.inputs.iter().flat_map(|Input::File { paths }| paths).cloned().collect(),
        sinks: spec.sinks.iter().map(|sink| sink.name.clone()).collect(),
        received_records: received.records,
        received_bytes: received.bytes,
        received_records_per_s: rates.received_records,
        received_bytes_per_s: rates.received_bytes,
        queue_bytes: flow.map_or(0, |flow| flow.queue_bytes(now_ms)),
        refusals: flow.map(|flow| flow.refusals.clone()).unwrap_or_default(),
        gateways: flow.map(|flow| flow.gateways(now_ms)).unwrap_or_default(),
        fates,
        delivered_bytes: legs().map(|report| report.delivered_bytes).sum(),
        delivered_records_per_s: rates.delivered_records,
        delay_ms_p50: slowest(|report| report.delay_ms_p50),
        delay_ms_p99: slowest(|report| report.delay_ms_p99),
        in_flight: standing.map(|standing| standing.in_flight),
        missing: standing.map(|standing| standing.missing),
        set_apart: standing.map_or(0, |Standing { set_apart, .. }| set_apart),
        failure: legs().find_map(|report| Some(format!("{}: {}", report.leg, report.failure.as_ref()?))),
        engine: spec.engine,
        jobs: jobs(spec, legs().filter_map(|report| report.job.clone())),
    }
}

/// Of a job that all legs share each of them tells; once is enough.
fn jobs(spec: &StreamSpec, told: impl Iterator<Item = FlinkJob>) -> Vec<FlinkJob> {
    let is_own = |job: &FlinkJob| spec.engine == Engine::Flink && job.leg.is_none() == spec.legs.are_together();
    let mut jobs: Vec<FlinkJob> = told.filter(is_own).collect();
    jobs.dedup_by(|next, kept| next.leg == kept.leg);
    jobs
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_job_is_told_once_and_those_of_legs_each() {
        let mut spec = StreamSpec { engine: Engine::Flink, ..StreamSpec::new("a.b.c".parse().unwrap()) };
        let job = |leg: Option<&str>| FlinkJob {
            leg: leg.map(str::to_owned),
            state: stream::facts::JobState::Running,
            object: None,
            attempt: None,
            checkpoint: Some(7),
            lag_records: None,
        };
        let told = || [None, None, Some("x"), Some("y")].map(job).into_iter();
        assert_eq!(jobs(&spec, told()), [job(None)], "those of legs are of another time");
        spec.legs = stream::config::Legs::Separate;
        assert_eq!(jobs(&spec, told()), [job(Some("x")), job(Some("y"))]);
        spec.engine = Engine::Embedded;
        assert_eq!(jobs(&spec, told()), []);
    }
}
