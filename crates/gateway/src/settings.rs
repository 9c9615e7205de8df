//! What a gateway is told when it starts. Everything else (streams, their limits) comes from the watched configuration.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use stream::clock::{Clock, SystemClock};
use stream::control::AdminClient;
use stream::limits;
use stream::token::Rate;

use crate::accept::tls::TlsFiles;
use crate::access::Access;
use crate::error::ServeError;

/// How long a client may take over the head of a request.
const HEAD_WITHIN: Duration = Duration::from_secs(10);
/// How long a client may take over a body: 1 MiB at 35 KiB/s.
const BODY_WITHIN: Duration = Duration::from_secs(30);
/// Open connections of each door.
const CONNECTIONS_MAX: usize = 10_000;
/// How old a connection gets: long beside what a new one costs, short beside how long a new gateway may stay idle.
const CONNECTION_AGE_MAX: Duration = Duration::from_secs(600);

/// The settings of one gateway process.
#[derive(Clone)]
pub struct GatewaySettings {
    /// Who reports facts and flows: unique among the gateways of an installation.
    pub gateway_id: String,
    /// Which journal, as text: see `journal::address`.
    pub journal_addr: String,
    /// Where facts and flows go.
    pub admin: AdminClient,
    /// Producers (N): writers to the journal, each with its own connection and outstanding bytes. At least 1.
    pub producers: usize,
    /// How many of them one queue may use at a time (K). At least 1.
    pub producers_per_queue: usize,
    /// Bytes that one producer may have outstanding.
    pub producer_outstanding_bytes_max: usize,
    /// How long queues and producers stay bound.
    pub slice: Duration,
    /// How long a batch is tried before it is refused whole; also the longest drain at shutdown.
    pub batch_deadline: Duration,
    /// Bytes of all streams together: being read, queued and in flight.
    pub gateway_bytes_max: usize,
    /// Bytes of those that each stream may hold whatever the others hold.
    pub queue_bytes_floor: usize,
    /// How often facts and flows are reported.
    pub report_every: Duration,
    /// How long a client may take over the head of a request.
    pub head_within: Duration,
    /// How long a client may take over the body of a request.
    pub body_within: Duration,
    /// Open connections of each door.
    pub connections_max: usize,
    /// How old a connection gets before its client is asked to come again.
    pub connection_age_max: Duration,
    /// What one connection may bring.
    pub connection_rate: Rate,
    /// What senders must show. Doors beyond loopback need tokens.
    pub access: Access,
    /// TLS at both doors.
    pub tls: Option<TlsFiles>,
    /// Whether doors beyond loopback may do without TLS, because somebody before them does it.
    pub plaintext: bool,
    /// Wall-clock time: births of sources, the window of idempotency keys.
    pub clock: Arc<dyn Clock>,
}

impl GatewaySettings {
    /// Settings with every default.
    pub fn new(gateway_id: impl Into<String>, journal_addr: impl Into<String>, admin: AdminClient) -> Self {
        Self {
            gateway_id: gateway_id.into(),
            journal_addr: journal_addr.into(),
            admin,
            producers: limits::PRODUCERS,
            producers_per_queue: limits::PRODUCERS_PER_QUEUE,
            producer_outstanding_bytes_max: limits::PRODUCER_OUTSTANDING_BYTES_MAX,
            slice: limits::SLICE,
            batch_deadline: limits::BATCH_DEADLINE,
            gateway_bytes_max: limits::GATEWAY_BYTES_MAX,
            queue_bytes_floor: limits::QUEUE_BYTES_FLOOR,
            report_every: Duration::from_secs(1),
            head_within: HEAD_WITHIN,
            body_within: BODY_WITHIN,
            connections_max: CONNECTIONS_MAX,
            connection_age_max: CONNECTION_AGE_MAX,
            connection_rate: Rate::default(),
            access: Access::default(),
            tls: None,
            plaintext: false,
            clock: Arc::new(SystemClock),
        }
    }

    /// Whether a door may listen at `at`: beyond this machine not without tokens, and not in clear text unless that was
    /// asked for.
    pub fn check_door(&self, at: SocketAddr) -> Result<(), ServeError> {
        match at.ip().is_loopback() {
            true => Ok(()),
            false if self.access == Access::Open => Err(ServeError::Open(at)),
            false if self.tls.is_none() && !self.plaintext => Err(ServeError::Plaintext(at)),
            false => Ok(()),
        }
    }

    /// Whether every bound leaves room for one batch, one producer, one connection.
    pub(crate) fn check(&self) -> Result<(), ServeError> {
        let bounds = [
            ("producers", self.producers, 1),
            ("producers_per_queue", self.producers_per_queue, 1),
            ("producer_outstanding_bytes_max", self.producer_outstanding_bytes_max, 1),
            ("gateway_bytes_max", self.gateway_bytes_max, 4 * limits::BATCH_BYTES_MAX),
            ("connections_max", self.connections_max, 1),
        ];
        match bounds.iter().find(|(_, value, min)| value < min) {
            Some((name, _, min)) => Err(ServeError::Setting(name, *min as u64)),
            None => Ok(()),
        }
    }
}
