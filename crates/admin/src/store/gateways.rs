//! How all gateways serve their queues.

use sqlx::SqliteConnection;
use stream::config::Snapshot;
use stream::policy::GatewayPolicy;

use super::open::{parse, print};
use super::streams::count_up;
use crate::error::StoreError;

/// Loads the policy.
pub(super) async fn load(connection: &mut SqliteConnection, snapshot: &mut Snapshot) -> Result<(), StoreError> {
    let policy: String = sqlx::query_scalar("SELECT gateways FROM metadata").fetch_one(connection).await?;
    snapshot.gateways = parse("gateways", &policy)?;
    Ok(())
}

/// Changes the policy. The same again changes nothing, not even the version.
pub(super) async fn change(
    connection: &mut SqliteConnection,
    snapshot: &mut Snapshot,
    policy: GatewayPolicy,
) -> Result<(), StoreError> {
    policy.check()?;
    if snapshot.gateways == policy {
        return Ok(());
    }
    sqlx::query("UPDATE metadata SET gateways = ?").bind(print(&policy)?).execute(&mut *connection).await?;
    count_up(connection, snapshot).await?;
    snapshot.gateways = policy;
    Ok(())
}
