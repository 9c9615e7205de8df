//! All streams: sums, charts, and a row for each.

use std::cmp::Reverse;
use std::sync::Arc;

use axum::extract::State;
use axum::response::Html;
use maud::{Markup, html};
use serde::Deserialize;
use stream::StreamId;

use super::{charts, format, frame, tile};
use crate::api::extract::Parameters;
use crate::api::{Failure, Shared};
use crate::status::{self, Status, StreamStatus};

/// Rows shown at once; a search finds the others.
const ROWS_MAX: usize = 100;

/// What is looked at.
#[derive(Deserialize)]
pub(super) struct View {
    /// The stream whose charts are shown; none: all together.
    stream: Option<StreamId>,
    /// Part of the ids to show.
    #[serde(default)]
    find: String,
}

/// `GET /?stream=&find=`.
pub(super) async fn page(
    State(shared): State<Arc<Shared>>,
    Parameters(view): Parameters<View>,
) -> Result<Html<String>, Failure> {
    let status = status::status(&shared);
    let chosen = view.stream.as_ref().map(StreamId::as_str);
    let body = html! {
        (sums(&status))
        div.title {
            h2 { @match chosen { Some(id) => { "Stream " span.id { (id) } }, None => "All streams together" } }
            @if chosen.is_some() { a href=(link(None, &view.find)) { "show all together" } }
        }
        (charts())
        div.title {
            h2 { "Streams" }
            form method="get" action="/" {
                @if let Some(id) = chosen { input type="hidden" name="stream" value=(id); }
                input type="search" name="find" value=(view.find) placeholder="Find by id" aria-label="Find by id";
            }
        }
        (table(&status, &view))
    };
    Ok(frame("Streams", chosen, &status.roles, body))
}

fn sums(status: &Status) -> Markup {
    let streams = || status.streams.iter();
    let received: f64 = streams().map(|stream| stream.received_records_per_s).sum();
    let bytes: f64 = streams().map(|stream| stream.received_bytes_per_s).sum();
    let delivered: f64 = streams().map(|stream| stream.delivered_records_per_s).sum();
    let total: u64 = streams().map(|stream| stream.fates.delivered).sum();
    let slowest = streams().filter(|stream| moving(stream)).filter_map(|stream| stream.delay_ms_p99).max();
    let in_flight = streams().filter_map(|stream| stream.in_flight).sum();
    let missing: u64 = streams().filter_map(|stream| stream.missing).sum();
    let quarantined: u64 = streams().map(|stream| stream.fates.in_quarantine()).sum();
    html! {
        dl.tiles #sums data-live {
            (tile("Received", format::rate(received), &format!("/s · {}/s", format::bytes(bytes as u64)), false))
            (tile("Delivered", format::rate(delivered), &format!("/s · {} in all", format::count(total)), false))
            (tile("Delay p99", format::delay(slowest), "slowest stream", false))
            (tile("In flight", format::bytes(in_flight), "of sources", false))
            (tile("Quarantined", format::count(quarantined), "records", quarantined > 0))
            (tile("Missing", format::bytes(missing), "of sources", missing > 0))
        }
    }
}

/// Whether anything flows now; what stands still has an old delay.
fn moving(stream: &StreamStatus) -> bool {
    stream.received_records_per_s > 0.0 || stream.delivered_records_per_s > 0.0
}

fn table(status: &Status, view: &View) -> Markup {
    let mut found: Vec<_> = status.streams.iter().filter(|stream| stream.id.as_str().contains(&view.find)).collect();
    found.sort_by_key(|stream| (!troubled(stream), Reverse(stream.received_records_per_s as u64)));
    let left_off = found.len().saturating_sub(ROWS_MAX);
    html! {
        div.table #streams data-live {
            table {
                thead {
                    tr {
                        th { "Stream" }
                        th.n { "Received" } th.n { "/s" } th.n { "Delivered" } th.n { "/s" }
                        th.n { "Delay p50" } th.n { "p99" }
                        th.n { "In flight" } th.n { "Quarantined" } th.n { "Refused" } th.n { "Missing" }
                        th { "State" }
                    }
                }
                tbody { @for stream in found.iter().take(ROWS_MAX) { (row(stream, view)) } }
            }
            @if status.streams.is_empty() {
                p.note { "No stream yet. Create one with " code { "isolane stream create" } "." }
            } @else if found.is_empty() {
                p.note { "No stream's id contains “" (view.find) "”." }
            } @else if left_off > 0 {
                p.note { (format::count(left_off as u64)) " more; search for part of the id." }
            }
        }
    }
}

fn row(stream: &StreamStatus, view: &View) -> Markup {
    let chosen = view.stream.as_ref() == Some(&stream.id);
    let refused: u64 = stream.refusals.values().sum();
    let missing = stream.missing.unwrap_or(0);
    let quarantined = stream.fates.in_quarantine();
    html! {
        tr.chosen[chosen] {
            td {
                a.id href={ "/streams/" (stream.id) } { (stream.id) }
                a.pick href=(link(Some(&stream.id), &view.find)) title="Show in the charts" { "chart" }
            }
            td.n { (format::count(stream.received_records)) }
            td.n { (format::rate(stream.received_records_per_s)) }
            td.n { (format::count(stream.fates.delivered)) }
            td.n { (format::rate(stream.delivered_records_per_s)) }
            td.n { (format::delay(stream.delay_ms_p50)) }
            td.n { (format::delay(stream.delay_ms_p99)) }
            td.n { (stream.in_flight.map_or_else(|| "–".to_owned(), format::bytes)) }
            td.n.warn[quarantined > 0] { (format::count(quarantined)) }
            td.n.warn[refused > 0] { (format::count(refused)) }
            td.n.bad[missing > 0] { (stream.missing.map_or_else(|| "–".to_owned(), format::bytes)) }
            td { (state(stream)) }
        }
    }
}

/// Whether a person should look at it first.
fn troubled(stream: &StreamStatus) -> bool {
    stream.failure.is_some() || stream.missing.is_some_and(|missing| missing > 0)
}

/// What a person would say of it.
pub(super) fn state(stream: &StreamStatus) -> Markup {
    match &stream.failure {
        Some(failure) => html! { span.state.bad title=(failure) { "stopped" } },
        None if troubled(stream) => html! { span.state.bad { "missing" } },
        None if moving(stream) => html! { span.state.good { "flows" } },
        None if stream.in_flight.is_some_and(|ordinals| ordinals > 0) => html! { span.state.warn { "waits" } },
        None => html! { span.state { "idle" } },
    }
}

/// The page with another stream in the charts.
fn link(stream: Option<&StreamId>, find: &str) -> String {
    // Only what ids are made of can find one, and it needs no escaping.
    let find: String = find.chars().filter(|c| c.is_ascii_alphanumeric() || matches!(c, '.' | '-')).collect();
    match (stream, find.as_str()) {
        (None, "") => "/".to_owned(),
        (None, find) => format!("/?find={find}"),
        (Some(id), "") => format!("/?stream={id}"),
        (Some(id), find) => format!("/?stream={id}&find={find}"),
    }
}
