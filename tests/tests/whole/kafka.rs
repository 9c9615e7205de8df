//! The clusters that the Kafka sinks are tested with can be broken node by node, and say so themselves.

use std::collections::BTreeSet;
use std::time::Duration;

use anyhow::{Result, ensure};
use harness::kafka::Clusters;
use harness::poll;

/// The controller waits for the end of a broker's session, 6 s, and the machine is shared.
const NOTICED: Duration = Duration::from_secs(60);

fn wait_seen(clusters: &Clusters, by: &[&str], brokers: &[i32]) -> Result<()> {
    let expected: BTreeSet<i32> = brokers.iter().copied().collect();
    for node in by {
        poll::until(&format!("{node} sees {brokers:?}"), NOTICED, || {
            let seen = clusters.brokers_seen_by(node)?;
            ensure!(seen == expected, "it sees {seen:?}");
            Ok(Some(()))
        })?;
    }
    Ok(())
}

#[test]
fn a_broker_dies_freezes_and_comes_back_and_the_other_cluster_notices_nothing() -> Result<()> {
    let scratch = tempfile::tempdir()?;
    let mut clusters = Clusters::start(scratch.path())?;
    let bootstrap = clusters.normal_bootstrap();
    ensure!(bootstrap.split(',').count() == 3 && clusters.failover_bootstrap().split(',').count() == 1, "{bootstrap}");

    clusters.kill("normal-2")?;
    ensure!(clusters.brokers_seen_by("normal-2").is_err(), "a dead broker answers");
    ensure!(clusters.kill("normal-2").is_err(), "it was killed twice");
    wait_seen(&clusters, &["normal-1", "normal-3"], &[1, 3])?;
    wait_seen(&clusters, &["failover-201"], &[201])?;

    clusters.restart("normal-2")?;
    wait_seen(&clusters, &["normal-1", "normal-2", "normal-3"], &[1, 2, 3])?;
    ensure!(clusters.normal_bootstrap() == bootstrap, "it came back on another port");

    clusters.pause("normal-3")?;
    ensure!(clusters.brokers_seen_by("normal-3").is_err(), "a frozen broker answers");
    clusters.resume("normal-3")?;
    wait_seen(&clusters, &["normal-3"], &[1, 2, 3])?;

    clusters.stop_cleanly("normal-1")?;
    wait_seen(&clusters, &["normal-2", "normal-3"], &[2, 3])?;
    wait_seen(&clusters, &["failover-201"], &[201])
}
