//! Desired state and its proof. Admin keeps streams as data, lets every role watch them, takes in what the roles state
//! of them, and answers where each record is.
//!
//! A record never passes through here; what is said about it does:
//!
//! 1. A user writes a stream ([`api`] → [`store`]): checked, stored, published as a new configuration version.
//! 2. The roles' long polls wake with it (`api/config.rs`); the record is collected under it.
//! 3. The collecting side states facts (seen, acknowledged), gateways their flows, the legs their fates and ranges
//!    (`api/facts.rs`, `api/legs.rs`); facts and fates are durable before they are answered, flows live in [`live`].
//!    [`topics`] has the journal make what the streams need.
//! 4. [`audit`] reads facts, then the journal's ends ([`ends`]), then legs, and [`ledger`] says which ordinals are
//!    delivered, in flight or missing.
//! 5. [`status`], [`history`] and [`page`] show it.

pub mod settings;
pub mod error;
pub mod serve;
pub mod api;
pub mod store;
pub mod topics;
pub mod ends;
pub mod audit;
pub mod ledger;
pub mod live;
pub mod history;
pub mod status;
pub mod page;
pub mod metrics;

pub use error::AdminError;
pub use serve::serve;
pub use settings::{AdminSettings, SqlCheck};

#[cfg(test)]
mod tests;
