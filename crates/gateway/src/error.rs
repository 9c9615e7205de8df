//! What ends a gateway before its time.

use std::net::SocketAddr;

use crate::accept::tls::TlsError;

/// Why [`crate::serve`] gave up. What concerns single batches is a [`stream::wire::Refusal`] instead.
#[derive(Debug, thiserror::Error)]
pub enum ServeError {
    /// A listener is of no use.
    #[error("the gateway cannot listen ({door}): {cause}")]
    Listen {
        /// `http` or `grpc`.
        door: &'static str,
        /// What the system said.
        cause: String,
    },
    /// A door that anybody could send to.
    #[error("{0} is beyond this machine, where senders must show a token: set access = \"tokens\"")]
    Open(SocketAddr),
    /// A door at which tokens would travel in clear text.
    #[error("{0} is beyond this machine: give it [tls], or set plaintext = true if a balancer before it ends TLS")]
    Plaintext(SocketAddr),
    /// The files for TLS are of no use.
    #[error("TLS: {0}")]
    Tls(#[from] TlsError),
    /// A setting makes no sense.
    #[error("gateway setting {0} must be at least {1}")]
    Setting(&'static str, u64),
    /// The journal's address is none.
    #[error("the gateway cannot find its journal: {0}")]
    Journal(#[from] journal::AddressError),
    /// A task of the gateway ended; start it anew.
    #[error("the gateway broke: {0}")]
    Broken(String),
}
