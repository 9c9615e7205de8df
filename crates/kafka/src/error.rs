//! What can go wrong with a cluster. Cloned to everybody who waits for the same answer.

use std::time::Duration;

use kafka_protocol::ResponseError;

/// Why a call to a cluster failed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum KafkaError {
    /// No bootstrap address, or one that is none.
    #[error("Kafka address {0:?} must be host:port[,host:port]...")]
    Address(String),
    /// The broker cannot be reached.
    #[error("cannot connect to the Kafka broker {broker}: {cause}")]
    Connect {
        /// Its address.
        broker: String,
        /// What the system said.
        cause: String,
    },
    /// The connection ended with answers outstanding: what was asked may have been done.
    #[error("the connection to the Kafka broker {broker} was lost: {cause}")]
    Lost {
        /// Its address.
        broker: String,
        /// What the system said.
        cause: String,
    },
    /// No answer in time: what was asked may have been done.
    #[error("the Kafka broker {broker} did not answer {what} within {} ms", .within.as_millis())]
    Silent {
        /// Its address.
        broker: String,
        /// What was asked.
        what: &'static str,
        /// How long was waited.
        within: Duration,
    },
    /// The broker answered with an error.
    #[error("Kafka refused {what}: {code}")]
    Refused {
        /// What was asked, of what.
        what: String,
        /// Its answer.
        code: ResponseError,
    },
    /// The partition has no leader now.
    #[error("partition {partition} of topic {topic} has no leader")]
    NoLeader {
        /// The topic.
        topic: String,
        /// The partition.
        partition: i32,
    },
    /// Bytes that are not what the protocol says.
    #[error("the Kafka broker {broker} and this program do not understand each other: {cause}")]
    Protocol {
        /// Its address.
        broker: String,
        /// What is wrong.
        cause: String,
    },
    /// A client that is shutting down.
    #[error("the Kafka client is shutting down")]
    Closed,
}

impl KafkaError {
    /// What is asked for is not there any more.
    pub fn out_of_range(what: String) -> Self {
        Self::Refused { what, code: ResponseError::OffsetOutOfRange }
    }

    /// The broker's refusal with this code, if `code` is one.
    pub fn check(code: i16, what: impl FnOnce() -> String) -> Result<(), Self> {
        match ResponseError::try_from_code(code) {
            None => Ok(()),
            Some(code) => Err(Self::Refused { what: what(), code }),
        }
    }

    /// The code of a refusal.
    pub fn code(&self) -> Option<ResponseError> {
        match self {
            Self::Refused { code, .. } => Some(*code),
            _ => None,
        }
    }

    /// Whether the partition's leader may be somebody else by now.
    pub fn is_about_leaders(&self) -> bool {
        use ResponseError::{
            FencedLeaderEpoch, KafkaStorageError, LeaderNotAvailable, NotLeaderOrFollower, ReplicaNotAvailable,
            UnknownLeaderEpoch, UnknownTopicId, UnknownTopicOrPartition,
        };
        match self {
            Self::Connect { .. } | Self::Lost { .. } | Self::Silent { .. } | Self::NoLeader { .. } => true,
            Self::Refused { code, .. } => matches!(
                code,
                FencedLeaderEpoch
                    | KafkaStorageError
                    | LeaderNotAvailable
                    | NotLeaderOrFollower
                    | ReplicaNotAvailable
                    | UnknownLeaderEpoch
                    | UnknownTopicId
                    | UnknownTopicOrPartition
            ),
            _ => false,
        }
    }

    /// Whether the same call may succeed later without a person's help.
    pub fn passes(&self) -> bool {
        match self {
            Self::Refused { code, .. } => code.is_retriable(),
            Self::Address(_) | Self::Protocol { .. } | Self::Closed => false,
            _ => true,
        }
    }

    /// Whether the cluster does not have the topic, or not under the id that was named.
    pub fn is_unknown_topic(&self) -> bool {
        matches!(self.code(), Some(ResponseError::UnknownTopicOrPartition | ResponseError::UnknownTopicId))
    }

    /// Whether what was handed over is larger than the topic takes.
    pub fn is_too_large(&self) -> bool {
        matches!(self.code(), Some(ResponseError::MessageTooLarge | ResponseError::RecordListTooLarge))
    }
}
