//! What the roles state: facts, reports, flows, leases; and what admin concludes.

use http::Method;
use stream::facts::{FlowReport, LegReport, ReportReply, SourceFact};

use super::harness::{Admin, fact, refused, report, source, until};
use crate::history::History;
use crate::ledger::Ledger;
use crate::status::{Role, Status};

async fn post_facts(admin: &Admin, facts: &[SourceFact]) {
    admin.client.send::<()>(Method::POST, "/api/v1/facts", &facts).await.unwrap();
}

async fn post_report(admin: &Admin, report: &LegReport) -> ReportReply {
    admin.client.send(Method::POST, "/api/v1/legs", report).await.unwrap()
}

#[tokio::test]
async fn facts_are_merged_by_maximum_and_kept() {
    let dir = tempfile::tempdir().unwrap();
    let admin = Admin::start(dir.path()).await;
    let config = admin.create(r#"{"id": "a.b.c"}"#).await.unwrap();
    let path = format!("/api/v1/facts?stream=a.b.c&incarnation={}&collector=agent-1", config.incarnation);
    for acknowledged in [50, 100, 100, 30] {
        post_facts(&admin, &[fact(&config, 1, acknowledged), fact(&config, 2, 5)]).await;
    }
    let mut elsewhere = fact(&config, 1, 70);
    elsewhere.collector = "agent-2".into();
    let mut gone = fact(&config, 3, 1);
    gone.incarnation.0 += 1;
    post_facts(&admin, &[elsewhere, gone]).await;
    let mut expected = vec![fact(&config, 1, 100), fact(&config, 2, 5)];
    expected.sort_by_key(|fact| fact.source);
    assert_eq!(admin.get::<Vec<SourceFact>>(&path).await, expected);
    let collected = admin.get::<Ledger>("/api/v1/ledger/a.b.c").await.collected;
    assert_eq!((collected.sources_total, collected.acknowledged, collected.seen), (2, 105, 125));
    admin.stop().await;

    let admin = Admin::start(dir.path()).await;
    assert_eq!(admin.get::<Vec<SourceFact>>(&path).await, expected, "a restart keeps them");
    admin.stop().await;
}

#[tokio::test]
async fn the_ledger_follows_a_stream_to_its_loss() {
    let dir = tempfile::tempdir().unwrap();
    let admin = Admin::start(dir.path()).await;
    let config = admin.create(r#"{"id": "a.b.c"}"#).await.unwrap();
    let ledger = async || admin.get::<Ledger>("/api/v1/ledger/a.b.c").await;
    let leg = async || ledger().await.legs.remove(0);

    post_facts(&admin, &[fact(&config, 1, 100), fact(&config, 2, 60)]).await;
    assert_eq!((leg().await.commit, leg().await.in_flight), (0, 160), "no report yet");
    assert_eq!(ledger().await.ends_unknown.as_deref(), Some("the journal is away"));

    admin.end_at(&config, 20);
    post_report(&admin, &report(&config, 1, 10, &[(1, 100)])).await;
    assert_eq!((leg().await.in_flight, leg().await.missing), (60, 0), "not read to the end yet");
    post_report(&admin, &report(&config, 2, 20, &[(1, 100), (2, 40)])).await;
    let lost = leg().await;
    assert_eq!((lost.in_flight, lost.missing, lost.fates.doubles), (0, 20, 3));
    assert_eq!((lost.missing_ranges[0].source, lost.missing_ranges[0].name.as_str()), (source(2), "/var/log/2.log"));
    assert_eq!(lost.missing_ranges[0].ranges.as_slice(), [(40, 60).into()]);
    let status: Status = until(&admin, "/api/v1/status", |status: &Status| status.streams[0].missing == Some(20)).await;
    assert_eq!(status.streams[0].in_flight, Some(0));

    post_report(&admin, &report(&config, 3, 20, &[(2, 60)])).await;
    assert_eq!((leg().await.missing, leg().await.taken), (0, 160), "found after all");
    let before = ledger().await;
    admin.stop().await;

    let admin = Admin::start(dir.path()).await;
    admin.end_at(&config, 20);
    assert_eq!(admin.get::<Ledger>("/api/v1/ledger/a.b.c").await, before, "a restart keeps it");
    admin.stop().await;
}

#[tokio::test]
async fn a_partial_report_needs_something_to_build_on() {
    let dir = tempfile::tempdir().unwrap();
    let admin = Admin::start(dir.path()).await;
    let config = admin.create(r#"{"id": "a.b.c"}"#).await.unwrap();
    let partial = |commit, taken| LegReport { whole: false, ..report(&config, commit, commit, taken) };
    let taken = async || admin.get::<Ledger>("/api/v1/ledger/a.b.c").await.legs[0].taken;

    assert!(post_report(&admin, &partial(4, &[(1, 10)])).await.send_whole);
    assert_eq!(taken().await, 0);
    assert!(!post_report(&admin, &report(&config, 4, 4, &[(1, 10)])).await.send_whole);
    assert!(!post_report(&admin, &partial(5, &[(2, 7)])).await.send_whole);
    assert_eq!(taken().await, 17);
    assert!(!post_report(&admin, &partial(4, &[(2, 1)])).await.send_whole);
    assert_eq!(taken().await, 17, "a straggler changes nothing");
    assert!(!post_report(&admin, &report(&config, 1, 1, &[(3, 5)])).await.send_whole);
    assert_eq!(taken().await, 5, "the leg started anew");
    assert!(post_report(&admin, &partial(2, &[(3, 6)])).await.send_whole);
    assert!(!post_report(&admin, &report(&config, 2, 2, &[(3, 6)])).await.send_whole);
    assert!(post_report(&admin, &partial(3, &[(3, 7)])).await.send_whole, "below the highest commit, whole ones alone");
    assert!(!post_report(&admin, &report(&config, 5, 5, &[(3, 8)])).await.send_whole);
    assert!(!post_report(&admin, &partial(6, &[(3, 9)])).await.send_whole);
    assert_eq!(taken().await, 9);
    admin.stop().await;
}

#[tokio::test]
async fn one_agent_id_is_one_running_agent() {
    let dir = tempfile::tempdir().unwrap();
    let admin = Admin::start(dir.path()).await;
    let lease = async |admin: &Admin, nonce: &str| {
        let body = serde_json::json!({ "boot_nonce": nonce });
        admin.client.send::<()>(Method::POST, "/api/v1/agents/a1/lease", &body).await
    };
    lease(&admin, "n1").await.unwrap();
    let (status, message) = refused(lease(&admin, "n2").await);
    assert!(status == 409 && message.contains("a1"), "{status} {message}");
    admin.clock.advance(20_000);
    lease(&admin, "n1").await.unwrap();
    admin.clock.advance(20_000);
    assert_eq!(refused(lease(&admin, "n2").await).0, 409, "it was renewed");
    admin.clock.advance(10_000);
    lease(&admin, "n2").await.unwrap();
    assert_eq!(refused(lease(&admin, "").await).0, 400);
    let clock = admin.clock.clone();
    admin.stop().await;

    let admin = Admin::start(dir.path()).await;
    admin.clock.advance(50_000 + 1_000);
    assert_eq!(refused(lease(&admin, "n1").await).0, 409, "a restart of admin frees no lease");
    drop(clock);
    admin.stop().await;
}

#[tokio::test]
async fn status_and_history_show_what_flows() {
    let dir = tempfile::tempdir().unwrap();
    let admin = Admin::start(dir.path()).await;
    let config =
        admin.create(r#"{"id": "a.b.c", "inputs": [{"kind": "file", "paths": ["/var/log/*.log"]}]}"#).await.unwrap();
    until(&admin, "/api/v1/history", |history: &History| history.end_ms > 0).await;
    let flow = FlowReport {
        stream: config.spec.id.clone(),
        incarnation: config.incarnation,
        reporter: "gateway-1".into(),
        records: 500,
        bytes: 50_000,
        refusals: [("queue_full".to_owned(), 2)].into(),
        queue_bytes: 77,
        producers: Vec::new(),
        refused_last: None,
    };
    admin.client.send::<()>(Method::POST, "/api/v1/flows", &[flow]).await.unwrap();
    post_facts(&admin, &[fact(&config, 1, 50_000)]).await;
    let mut stopped = report(&config, 9, 500, &[(1, 50_000)]);
    stopped.failure = Some("disk full".into());
    post_report(&admin, &stopped).await;

    let status: Status = admin.get("/api/v1/status").await;
    let stream = &status.streams[0];
    assert_eq!((stream.received_records, stream.received_bytes, stream.queue_bytes), (500, 50_000, 77));
    assert_eq!((stream.fates.delivered, stream.fates.quarantined, stream.refusals["queue_full"]), (90, 1, 2));
    assert_eq!((stream.delay_ms_p50, stream.delay_ms_p99), (Some(12), Some(34)));
    assert_eq!((stream.inputs[0].as_str(), stream.sinks[0].as_str()), ("/var/log/*.log", "files"));
    assert_eq!(stream.failure.as_deref(), Some("files: disk full"));
    let roles: Vec<_> = status.roles.iter().map(|health| (health.role, health.up)).collect();
    for role in [Role::Agent, Role::Gateway, Role::Query] {
        assert!(roles.contains(&(role, true)), "{role:?} in {roles:?}");
    }

    let whole = until(&admin, "/api/v1/history", |history: &History| {
        history.received.iter().sum::<u32>() == 500 && history.delivered.iter().sum::<u32>() == 90
    })
    .await;
    assert!(whole.delay_ms_p99.contains(&Some(34)));
    let own: History = admin.get("/api/v1/history?stream=a.b.c").await;
    assert_eq!(own.received.iter().sum::<u32>(), 500);
    assert_eq!(refused(admin.client.get::<History>("/api/v1/history?stream=a.b.x").await).0, 404);
    admin.stop().await;
}
