//! The gateways' policy: show and change.

use ::stream::control::AdminClient;
use ::stream::policy::GatewayPolicy;
use anyhow::{Context, Result};
use http::Method;

use super::say;
use super::stream::apply;
use crate::args::Gateways;

const PATH: &str = "/api/v1/gateways";

/// Runs the verb.
pub async fn run(gateways: Gateways) -> Result<()> {
    let (admin, changes) = match gateways {
        Gateways::Show(admin) => (admin, Vec::new()),
        Gateways::Set { changes, admin } => (admin, changes),
    };
    let admin = AdminClient::new(admin.admin);
    let mut policy: GatewayPolicy = admin.get(PATH).await?;
    if !changes.is_empty() {
        let mut changed = serde_json::to_value(policy)?;
        changes.iter().try_for_each(|change| apply(&mut changed, change))?;
        let changed: GatewayPolicy = serde_json::from_value(changed).context("the changed policy")?;
        policy = admin.send(Method::PUT, PATH, &changed).await?;
    }
    say(&serde_json::to_string_pretty(&policy)?)
}
