//! One stream: its numbers, its charts, its ledger, its configuration.

use std::collections::BTreeMap;
use std::sync::Arc;

use axum::extract::State;
use axum::response::Html;
use maud::{Markup, html};
use stream::StreamId;
use stream::config::{Format, Level, SinkKind, StreamConfig};
use stream::facts::FlinkJob;

use super::{charts, format, frame, overview, tile};
use crate::api::extract::Named;
use crate::api::ledger::living;
use crate::api::{Failure, Shared};
use crate::audit;
use crate::ledger::{Account, Collected, Ledger, LegBalance, MissingSource};
use crate::status::{self, GatewayLane, StreamStatus};

/// Sources and missing ranges shown; the API has all.
const SHOWN_MAX: usize = 50;

/// `GET /streams/{id}`.
pub(super) async fn page(
    State(shared): State<Arc<Shared>>,
    Named(id): Named<StreamId>,
) -> Result<Html<String>, Failure> {
    let config = living(&shared, id)?;
    let ledger = audit::ledger(&shared, &config).await;
    let status = status::status(&shared);
    let own = status.streams.iter().find(|stream| stream.id == config.spec.id);
    let body = html! {
        div.title {
            h1 { span.id { (config.spec.id) } }
            span #state data-live { @if let Some(own) = own { (overview::state(own)) } }
            @if let Some(failure) = own.and_then(|own| own.failure.as_ref()) { span.failure { (failure) } }
            a href={ "/api/v1/ledger/" (config.spec.id) } { "ledger as JSON" }
        }
        @if let Some(own) = own { (sums(own, &ledger)) }
        (charts())
        @if let Some(own) = own { (gateways(own, status.at_ms)) }
        @if let Some(own) = own.filter(|own| !own.jobs.is_empty()) { (flink_jobs(&own.jobs)) }
        (ledger_section(&ledger))
        (configuration(&config))
    };
    Ok(frame(config.spec.id.as_str(), Some(config.spec.id.as_str()), &status.roles, body))
}

fn sums(stream: &StreamStatus, ledger: &Ledger) -> Markup {
    let missing = ledger.legs.iter().map(|leg| leg.missing).max().unwrap_or(0);
    let in_flight = ledger.legs.iter().map(|leg| leg.in_flight).max().unwrap_or(0);
    let per_s = |rate: f64, all: u64| (format::rate(rate), format!("/s · {} in all", format::count(all)));
    let (received, received_all) = per_s(stream.received_records_per_s, stream.received_records);
    let (delivered, delivered_all) = per_s(stream.delivered_records_per_s, stream.fates.delivered);
    html! {
        dl.tiles #sums data-live {
            (tile("Received", received, &received_all, false))
            (tile("Delivered", delivered, &delivered_all, false))
            (tile("Delay p99", format::delay(stream.delay_ms_p99), "last commit", false))
            (tile("In flight", format::bytes(in_flight), "of sources", false))
            (tile("Quarantined", format::count(stream.fates.in_quarantine()), "records", stream.fates.in_quarantine() > 0))
            (tile("Missing", format::bytes(missing), "of sources", missing > 0))
        }
    }
}

/// Its lanes in the gateways: what is queued, who serves it, what was refused and why.
fn gateways(stream: &StreamStatus, now_ms: i64) -> Markup {
    html! {
        section #gateways data-live {
            h2 { "Gateways" }
            @if stream.gateways.is_empty() { p.note { "No gateway has reported yet." } }
            @else {
                div.table {
                    table {
                        thead { tr { th { "Gateway" } th.n { "Queued" } th { "Producers in this slice" } th { "Refused last" } } }
                        tbody { @for lane in &stream.gateways { (gateway_row(lane, now_ms)) } }
                    }
                }
                @if !stream.refusals.is_empty() { p.note { "Batches refused: " (refusals(&stream.refusals)) } }
            }
        }
    }
}

fn gateway_row(lane: &GatewayLane, now_ms: i64) -> Markup {
    let ago = |at_ms: i64| format::duration(u64::try_from(now_ms - at_ms).unwrap_or(0));
    let producers: Vec<String> = lane.producers.iter().map(ToString::to_string).collect();
    html! {
        tr {
            td { (lane.gateway) }
            td.n { (format::bytes(lane.queue_bytes)) }
            td { (producers.join(", ")) }
            td {
                @match &lane.refused_last {
                    Some(last) => { (ago(last.at_ms)) " ago: " (last.message) }
                    None => "–"
                }
            }
        }
    }
}

/// Counts by reason.
fn refusals(by_reason: &BTreeMap<String, u64>) -> String {
    let one = |(reason, count): (&String, &u64)| format!("{} {reason}", format::count(*count));
    by_reason.iter().map(one).collect::<Vec<_>>().join(", ")
}

/// Its jobs on Flink.
fn flink_jobs(jobs: &[FlinkJob]) -> Markup {
    html! {
        section #jobs data-live {
            h2 { "On Flink" }
            @for job in jobs { p.note {
                @match &job.leg { Some(leg) => { "Job of " (leg) ": " }, None => { "Job: " } }
                (job.state)
                @if let Some(attempt) = &job.attempt { " · id " code { (attempt) } }
                @if let Some(checkpoint) = job.checkpoint { " · checkpoint " (format::count(checkpoint)) }
                @if let Some(lag) = job.lag_records { " · " (format::count(lag)) " records behind" }
                @if let Some(object) = &job.object { " · hand-over object " code { (object.display()) } }
            } }
        }
    }
}

fn ledger_section(ledger: &Ledger) -> Markup {
    html! {
        section #ledger data-live {
            h2 { "Ledger" }
            @if let Some(cause) = &ledger.ends_unknown {
                p.note { "The journal's ends are unknown (" (cause) "), so nothing is called missing." }
            }
            (legs(&ledger.legs))
            (sources(&ledger.collected))
        }
    }
}

fn legs(legs: &[LegBalance]) -> Markup {
    html! {
        div.table {
            table {
                thead {
                    tr {
                        th { "Leg" } th.n { "Commit" }
                        th.n { "Delivered" } th.n { "Filtered" } th.n { "Quarantined" } th.n { "Late" } th.n { "Dropped" }
                        th.n { "Doubles removed" } th.n { "Taken" } th.n { "In flight" } th.n { "Missing" }
                        th { "Position" }
                    }
                }
                tbody { @for leg in legs { (leg_row(leg)) } }
            }
        }
        @for leg in legs.iter().filter(|leg| leg.missing > 0) { (missing(leg)) }
    }
}

fn leg_row(leg: &LegBalance) -> Markup {
    let fates = &leg.fates;
    html! {
        tr {
            td { span.id { (leg.leg) } @if let Some(failure) = &leg.failure { span.failure { (failure) } } }
            td.n { (format::count(leg.commit)) }
            @for value in [
                Some(fates.delivered), leg.counted(fates.filtered), Some(fates.in_quarantine()), leg.counted(fates.late),
                leg.counted(fates.dropped), leg.counted(fates.doubles),
            ] {
                td.n { (value.map_or_else(|| "–".to_owned(), format::count)) }
            }
            td.n { (format::bytes(leg.taken)) }
            td.n { (format::bytes(leg.in_flight)) }
            td.n.bad[leg.missing > 0] { (format::bytes(leg.missing)) }
            td {
                @for at in &leg.positions {
                    span.at {
                        @if leg.positions.len() > 1 { (at.place.cluster) "/" (at.place.partition) ": " }
                        (format::count(at.offset)) " of "
                        (at.end.map_or_else(|| "?".to_owned(), format::count))
                        @if at.overtaken_records > 0 {
                            span.failure { (format::count(at.overtaken_records)) " removed unread" }
                        }
                    }
                }
            }
        }
    }
}

fn missing(leg: &LegBalance) -> Markup {
    let range_text = |source: &MissingSource| {
        let ranges = source.ranges.as_slice();
        let shown: Vec<_> = ranges.iter().take(5).map(|range| format!("[{}, {})", range.start, range.end)).collect();
        format!("{}{}", shown.join(" "), if ranges.len() > 5 { " …" } else { "" })
    };
    html! {
        div.missing {
            b { "Missing in leg " (leg.leg) }
            ul {
                @for source in leg.missing_ranges.iter().take(SHOWN_MAX) {
                    li { code { (source.source) } " " (source.name) ": bytes " (range_text(source)) }
                }
            }
        }
    }
}

fn sources(collected: &Collected) -> Markup {
    let left_off = collected.sources_total.saturating_sub(SHOWN_MAX as u64);
    html! {
        p.note {
            (format::count(collected.sources_total)) @if collected.sources_total == 1 { " source" } @else { " sources" } " · " (format::bytes(collected.seen)) " seen · "
            (format::bytes(collected.acknowledged)) " acknowledged · " (format::bytes(collected.set_apart)) " set apart"
        }
        @if !collected.sources.is_empty() {
            div.table {
                table {
                    thead {
                        tr {
                            th { "Source" } th { "Id" } th { "Read by" }
                            th.n { "Seen" } th.n { "Acknowledged" } th.n { "Set apart" } th { "State" }
                        }
                    }
                    tbody {
                        @for source in collected.sources.iter().take(SHOWN_MAX) {
                            (source_row(&source.source.to_string(), &source.account))
                        }
                    }
                }
            }
            @if left_off > 0 { p.note { (format::count(left_off)) " more sources in the JSON." } }
        }
    }
}

fn source_row(id: &str, account: &Account) -> Markup {
    html! {
        tr {
            td { (account.name) }
            td { code { (id) } }
            td { (account.collectors.join(", ")) }
            td.n { (format::count(account.seen)) }
            td.n { (format::count(account.acknowledged)) }
            td.n { (format::count(account.apart().total())) }
            td { @if account.finished { "ended" } @else { "open" } }
        }
    }
}

fn configuration(config: &StreamConfig) -> Markup {
    let spec = &config.spec;
    let limits = &spec.limits;
    let level = |level: Level| match level {
        Level::Low => "low",
        Level::Normal => "normal",
        Level::High => "high",
    };
    html! {
        section.config {
            h2 { "Configuration" }
            div.columns {
                dl {
                    dt { "Incarnation" } dd { code { (config.incarnation) } " · version " (config.version) }
                    dt { "Topic" } dd { (config.topic()) }
                    dt { "Inputs" }
                    dd {
                        @for stream::config::Input::File { paths } in &spec.inputs {
                            @for path in paths { code { (path) } br; }
                        }
                        "HTTP and gRPC at the gateway"
                    }
                    dt { "Format" } dd { @match spec.format { Format::Raw => "raw lines", Format::Json => "JSON objects" } }
                    dt { "Engine" } dd { (spec.engine) @if spec.suspended { " · suspended" } }
                    dt { "Sinks" }
                    dd {
                        @for sink in &spec.sinks {
                            (sink.name) ": "
                            @match &sink.kind {
                                SinkKind::Files { path: None, .. } => "Parquet files",
                                SinkKind::Files { path: Some(path), .. } => { "Parquet files in " code { (path.display()) } }
                                SinkKind::Kafka(target) => { "Kafka topic " code { (target.topic) } " at " (target.brokers) }
                            }
                            br;
                        }
                    }
                    dt { "Priority" }
                    dd {
                        (level(spec.priority)) " · importance " (level(spec.importance)) " · value " (level(spec.value))
                    }
                    dt { "Limits" }
                    dd {
                        "record " (format::bytes(limits.record_bytes_max as u64))
                        " · queue " (format::bytes(limits.queue_bytes_max as u64))
                        " · kept " (format::duration(limits.retention_seconds.saturating_mul(1_000)))
                        " or " (format::bytes(limits.retention_bytes))
                        @if limits.retention_waits { ", but until read" }
                        " · commit every " (format::duration(limits.checkpoint_ms))
                        @if limits.rate.bytes_per_second_max > 0 {
                            " · " (format::bytes(limits.rate.bytes_per_second_max)) "/s at each gateway"
                        }
                        @if limits.rate.requests_per_second_max > 0 {
                            " · " (format::count(limits.rate.requests_per_second_max)) " requests/s at each gateway"
                        }
                    }
                }
                div { h3 { "Job" } pre { (config.sql()) } }
            }
        }
    }
}
