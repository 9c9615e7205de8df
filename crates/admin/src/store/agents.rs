//! Leases of agent ids: two machines with one id would derive the same sources for different bytes, so the second one
//! is refused.

use std::collections::HashMap;

use sqlx::{Row, SqliteConnection};

use crate::error::StoreError;

/// How long a lease lives without renewal; agents renew every 10 s.
pub const LEASE_MS: i64 = 30_000;

/// A lease.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Lease {
    /// One start of one agent.
    pub boot_nonce: String,
    /// When it was last renewed.
    pub renewed_ms: i64,
}

/// Leases by agent id.
pub type Leases = HashMap<String, Lease>;

/// Whether the agent that started as `boot_nonce` may run beside what is held. A clock that went back keeps a lease
/// no longer than its life.
pub fn grants(held: Option<&Lease>, boot_nonce: &str, now_ms: i64) -> bool {
    held.is_none_or(|held| held.boot_nonce == boot_nonce || (now_ms - held.renewed_ms).abs() >= LEASE_MS)
}

/// Takes or renews a lease.
pub(super) async fn lease(
    connection: &mut SqliteConnection,
    leases: &mut Leases,
    agent: String,
    boot_nonce: String,
    now_ms: i64,
) -> Result<(), StoreError> {
    if !grants(leases.get(&agent), &boot_nonce, now_ms) {
        return Err(StoreError::Leased(agent));
    }
    sqlx::query("INSERT OR REPLACE INTO agents (id, boot_nonce, renewed_ms) VALUES (?, ?, ?)")
        .bind(&agent)
        .bind(&boot_nonce)
        .bind(now_ms)
        .execute(connection)
        .await?;
    leases.insert(agent, Lease { boot_nonce, renewed_ms: now_ms });
    Ok(())
}

/// Loads the leases.
pub(super) async fn load(connection: &mut SqliteConnection) -> Result<Leases, StoreError> {
    let rows = sqlx::query("SELECT id, boot_nonce, renewed_ms FROM agents").fetch_all(connection).await?;
    rows.into_iter()
        .map(|row| {
            let lease = Lease { boot_nonce: row.try_get("boot_nonce")?, renewed_ms: row.try_get("renewed_ms")? };
            Ok((row.try_get("id")?, lease))
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_lease_is_one_start_s_while_it_lives() {
        let held = Lease { boot_nonce: "n1".into(), renewed_ms: 100_000 };
        for (held, nonce, now_ms, granted) in [
            (None, "n1", 0, true),
            (Some(&held), "n1", 100_001, true),
            (Some(&held), "n2", 100_001, false),
            (Some(&held), "n2", 100_000 + LEASE_MS - 1, false),
            (Some(&held), "n2", 100_000 + LEASE_MS, true),
            (Some(&held), "n2", 100_000 - LEASE_MS, true),
        ] {
            assert_eq!(grants(held, nonce, now_ms), granted, "{nonce} at {now_ms}");
        }
    }
}
