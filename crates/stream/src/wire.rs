//! The wire: generated messages and services, and the refusals that every role answers with. The only place that
//! knows protobuf.

use std::time::Duration;

use bytes::Bytes;
use prost::Message;

/// Generated from `proto/isolane.proto`.
#[allow(missing_docs, clippy::all, clippy::unwrap_used)]
pub mod v1 {
    tonic::include_proto!("isolane.v1");
}

/// Bytes that are no batch.
#[derive(Debug, thiserror::Error)]
#[error("these bytes are no batch: {0}")]
pub struct NoBatch(#[from] prost::DecodeError);

impl v1::Batch {
    /// The batch as bytes, as it travels and as it is kept.
    pub fn to_bytes(&self) -> Vec<u8> {
        self.encode_to_vec()
    }

    /// The batch in `bytes`, unchecked; its bodies share the buffer.
    pub fn from_bytes(bytes: Bytes) -> Result<Self, NoBatch> {
        Ok(Self::decode(bytes)?)
    }
}

/// Length of a message as it travels.
pub fn message_bytes(message: &impl Message) -> usize {
    message.encoded_len()
}

/// Why a batch was refused. The name on the wire is the variant in snake case.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum RefusalReason {
    /// No stream of this id and incarnation is known. No queue springs up by itself.
    UnknownStream,
    /// The stream's queue is full.
    QueueFull,
    /// The batch cannot be parsed, or contradicts itself.
    Malformed,
    /// A record or the batch is over its limit.
    TooLarge,
    /// The idempotency key was used with another body.
    KeyReused,
    /// The journal could not make it durable before the deadline.
    Unavailable,
    /// The journal's disk is full.
    DiskFull,
    /// Its sender shows no token, or one that is not known.
    Unauthorized,
    /// Its sender's token, or certificate, is not for this stream.
    Forbidden,
    /// The stream, the token or the connection has brought more than its rate.
    RateLimited,
}

impl RefusalReason {
    const NAMES: [(Self, &'static str); 10] = [
        (Self::UnknownStream, "unknown_stream"),
        (Self::QueueFull, "queue_full"),
        (Self::Malformed, "malformed"),
        (Self::TooLarge, "too_large"),
        (Self::KeyReused, "key_reused"),
        (Self::Unavailable, "unavailable"),
        (Self::DiskFull, "disk_full"),
        (Self::Unauthorized, "unauthorized"),
        (Self::Forbidden, "forbidden"),
        (Self::RateLimited, "rate_limited"),
    ];

    /// The name on the wire and in metrics.
    pub fn name(self) -> &'static str {
        Self::NAMES.iter().find(|(reason, _)| *reason == self).map_or("unavailable", |(_, name)| name)
    }

    /// The reason of a name; an unknown one is taken for [`RefusalReason::Unavailable`], which is tried again.
    pub fn from_name(name: &str) -> Self {
        Self::NAMES.iter().find(|(_, known)| *known == name).map_or(Self::Unavailable, |(reason, _)| *reason)
    }

    /// Whether the same batch would be refused again whatever happens: its sender splits it, then sets it apart.
    pub fn for_good(self) -> bool {
        matches!(self, Self::Malformed | Self::TooLarge | Self::KeyReused)
    }
}

/// A refusal: of the whole batch, always with its scope, and a wait where another try makes sense.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{scope}: {message}")]
pub struct Refusal {
    /// Why.
    pub reason: RefusalReason,
    /// What refused, e.g. `stream ads.web.clicks`.
    pub scope: String,
    /// How long to wait before the next try; zero when refused for good.
    pub retry_after: Duration,
    /// What happened and what to do.
    pub message: String,
}

impl Refusal {
    /// A refusal with the wait that fits its reason.
    pub fn new(reason: RefusalReason, scope: impl Into<String>, message: impl Into<String>) -> Self {
        let retry_after = match reason {
            reason if reason.for_good() => Duration::ZERO,
            RefusalReason::QueueFull => Duration::from_millis(100),
            RefusalReason::DiskFull => Duration::from_secs(2),
            _ => Duration::from_secs(1),
        };
        Self { reason, scope: scope.into(), retry_after, message: message.into() }
    }
}

impl From<Refusal> for v1::Refusal {
    fn from(refusal: Refusal) -> Self {
        Self {
            reason: refusal.reason.name().to_owned(),
            scope: refusal.scope,
            retry_after_ms: refusal.retry_after.as_millis() as u64,
            message: refusal.message,
        }
    }
}

impl From<v1::Refusal> for Refusal {
    fn from(refusal: v1::Refusal) -> Self {
        Self {
            reason: RefusalReason::from_name(&refusal.reason),
            scope: refusal.scope,
            retry_after: Duration::from_millis(refusal.retry_after_ms),
            message: refusal.message,
        }
    }
}
