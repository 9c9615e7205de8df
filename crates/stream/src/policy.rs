//! What is decided for all gateways together, and can change while they run.

use serde::{Deserialize, Serialize};

/// How all gateways serve their queues; takes effect while they run. What is not said is as each of them was started.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct GatewayPolicy {
    /// How many of its producers one queue may hold at a time (K).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub producers_per_queue: Option<usize>,
    /// How long queues and producers stay bound.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub slice_seconds: Option<u64>,
}

impl GatewayPolicy {
    /// Checks its bounds.
    pub fn check(&self) -> Result<(), PolicyError> {
        let bounds = [
            ("producers_per_queue", self.producers_per_queue.map(|producers| producers as u64), 1, 64),
            ("slice_seconds", self.slice_seconds, 1, 24 * 3600),
        ];
        match bounds.into_iter().find(|(_, value, min, max)| value.is_some_and(|value| value < *min || value > *max)) {
            Some((name, _, min, max)) => Err(PolicyError(name, min, max)),
            None => Ok(()),
        }
    }
}

/// A field of the gateways' policy outside its bounds.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("gateways: {0} must be between {1} and {2}")]
pub struct PolicyError(&'static str, u64, u64);
