//! What ends a gateway before its time.

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
