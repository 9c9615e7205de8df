//! Which journal: what a role's configuration says as text.
//!
//! ```text
//! 127.0.0.1:7703                                          the embedded log's process
//! kafka=k1:9092,k2:9092,k3:9092                           a Kafka cluster
//! kafka=k1:9092,k2:9092,k3:9092;failover=f1:9092          and a second one, which takes over in part
//! ```

use std::fmt;
use std::str::FromStr;

/// Which journal.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Address {
    /// The process of the embedded log, `host:port`.
    Embedded(String),
    /// Kafka's clusters, each by some of its brokers: the normal one, then the failover one if there is one.
    Kafka(Vec<String>),
}

/// A text that names no journal.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum AddressError {
    /// Not of the form of any address.
    #[error("journal address {0:?} must be host:port, or kafka=HOST:PORT,...[;failover=HOST:PORT,...]")]
    Malformed(String),
    /// Kafka, in a program without it.
    #[error(
        "journal {0:?} is Kafka, and this isolane was built without it: build with `cargo build --release --features kafka`"
    )]
    WithoutKafka(String),
}

impl AddressError {
    /// For an address that cannot be used.
    pub(crate) fn new(address: &str) -> Self {
        Self::Malformed(address.to_owned())
    }
}

impl FromStr for Address {
    type Err = AddressError;

    fn from_str(text: &str) -> Result<Self, AddressError> {
        let malformed = || AddressError::new(text);
        let Some(clusters) = text.strip_prefix("kafka=") else {
            let is_plain =
                text.rsplit_once(':').is_some_and(|(host, port)| !host.is_empty() && port.parse::<u16>().is_ok());
            return if is_plain { Ok(Self::Embedded(text.to_owned())) } else { Err(malformed()) };
        };
        let mut clusters = clusters.split(';');
        let normal = clusters.next().filter(|normal| !normal.is_empty()).ok_or_else(malformed)?;
        let mut all = vec![normal.to_owned()];
        for cluster in clusters {
            let failover = cluster.strip_prefix("failover=").filter(|failover| !failover.is_empty() && all.len() == 1);
            all.push(failover.ok_or_else(malformed)?.to_owned());
        }
        Ok(Self::Kafka(all))
    }
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Embedded(address) => f.write_str(address),
            Self::Kafka(clusters) => write!(f, "kafka={}", clusters.join(";failover=")),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_are_read_and_written() {
        for text in ["127.0.0.1:7703", "kafka=a:1", "kafka=a:1,b:2;failover=c:3"] {
            assert_eq!(text.parse::<Address>().map(|address| address.to_string()), Ok(text.to_owned()));
        }
        for bad in ["", "7703", "kafka=", "kafka=a:1;b:2", "kafka=a:1;failover=b:1;failover=c:1", "kafka:a:x"] {
            assert!(bad.parse::<Address>().is_err(), "{bad:?} was taken");
        }
    }
}
