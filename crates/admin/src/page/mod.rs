//! The page: what is going on, for people. One for all streams (`/`), one for each (`/streams/{id}`). Both are whole
//! without script; the script draws the charts and exchanges the parts that change for fresh ones every two seconds.
//! Everything is served from here, so the content policy allows nothing else.

mod format;
mod overview;
mod detail;

use std::sync::Arc;

use axum::Router;
use axum::response::{Html, IntoResponse};
use axum::routing::get;
use http::header;
use maud::{DOCTYPE, Markup, html};

use crate::api::Shared;
use crate::status::{Role, RoleHealth};

/// Routes of the pages and their files.
pub fn router() -> Router<Arc<Shared>> {
    let file = |kind: &'static str, text: &'static str| get(move || async move { asset(kind, text) });
    Router::new()
        .route("/", get(overview::page))
        .route("/streams/{id}", get(detail::page))
        .route("/page.css", file("text/css; charset=utf-8", include_str!("page.css")))
        .route("/page.js", file("text/javascript; charset=utf-8", include_str!("page.js")))
}

fn asset(kind: &'static str, text: &'static str) -> impl IntoResponse {
    ([(header::CONTENT_TYPE, kind)], text)
}

/// A whole page. `subject` is what the charts show: a stream's id, or nothing for all.
fn frame(title: &str, subject: Option<&str>, roles: &[RoleHealth], body: Markup) -> Html<String> {
    let page = html! {
        (DOCTYPE)
        html lang="en" {
            head {
                meta charset="utf-8";
                meta name="viewport" content="width=device-width, initial-scale=1";
                meta name="color-scheme" content="light dark";
                title { (title) " · isolane" }
                link rel="icon" href="data:,";
                link rel="stylesheet" href="/page.css";
                script src="/page.js" defer {}
            }
            body data-stream=[subject] {
                header {
                    a.brand href="/" { span.mark aria-hidden="true" {} "isolane" }
                    (health(roles))
                }
                main { (body) }
            }
        }
    };
    Html(page.into_string())
}

/// Who has been heard of, along the way of a record.
fn health(roles: &[RoleHealth]) -> Markup {
    html! {
        ul.roles #roles data-live {
            @for role in roles { (chip(role)) }
            li.role.up { i aria-hidden="true" {} "admin" }
        }
    }
}

fn chip(health: &RoleHealth) -> Markup {
    let name = match health.role {
        Role::Agent => "agent",
        Role::Gateway => "gateway",
        Role::Journal => "journal",
        Role::Query => "query",
    };
    html! {
        li.role.up[health.up].silent[!health.up] title=(health.name) {
            i aria-hidden="true" {}
            (name)
            @if !health.up { small { "silent for " (format::duration(health.silent_ms)) } }
        }
    }
}

/// The two charts; the script draws into them.
fn charts() -> Markup {
    let chart = |id: &str, title: &str, unit: &str, first: &str, second: &str| {
        html! {
            figure.chart #(id) data-unit=(unit) {
                figcaption {
                    b { (title) }
                    span.legend { i.first {} (first) i.second {} (second) output {} }
                }
                svg role="img" aria-label=(title) {}
            }
        }
    };
    html! {
        section.charts aria-label="The last ten minutes" {
            (chart("flow", "Records per second", "/s", "received", "delivered"))
            (chart("delay", "Delay from journal to sink", "ms", "median", "99th percentile"))
        }
        noscript { p.note { "The charts need JavaScript; all numbers are here without it." } }
    }
}

/// One number with its name. `alarm` makes it stand out.
fn tile(name: &str, value: String, note: &str, alarm: bool) -> Markup {
    html! {
        div.tile.alarm[alarm] { dt { (name) } dd { (value) small { (note) } } }
    }
}
