//! Whichever journal an address names.

use stream::Batch;
use stream::config::{Compression, Snapshot, StreamConfig};
use stream::facts::{Place, Position};
use stream::wire::Refusal;

use crate::address::{Address, AddressError};
use crate::client::JournalClient;
#[cfg(feature = "kafka")]
use crate::kafka::KafkaJournal;
use crate::seam::{Appended, Bounds, Capabilities, Journal, KeptPosition, Reader, Topic};

/// The embedded log's client, or Kafka.
#[derive(Clone)]
pub enum AnyJournal {
    /// The embedded log.
    Embedded(JournalClient),
    /// Kafka.
    #[cfg(feature = "kafka")]
    Kafka(KafkaJournal),
}

impl AnyJournal {
    /// The journal at `address`. It connects when it is first used.
    pub fn connect(address: &str) -> Result<Self, AddressError> {
        match address.parse()? {
            Address::Embedded(address) => Ok(Self::Embedded(JournalClient::connect(address)?)),
            #[cfg(feature = "kafka")]
            Address::Kafka(clusters) => {
                KafkaJournal::connect(&clusters).map(Self::Kafka).map_err(|_| AddressError::new(address))
            }
            #[cfg(not(feature = "kafka"))]
            Address::Kafka(_) => Err(AddressError::WithoutKafka(address.to_owned())),
        }
    }
}

/// Producers (N) for the journal at `address`, each with connections and bounds of its own.
pub fn producers(address: &str, count: usize) -> Result<Vec<AnyJournal>, AddressError> {
    let first = AnyJournal::connect(address)?;
    let another = |_| match &first {
        AnyJournal::Embedded(_) => AnyJournal::connect(address),
        // What is known of the topics is known to all.
        #[cfg(feature = "kafka")]
        AnyJournal::Kafka(journal) => Ok(AnyJournal::Kafka(journal.another())),
    };
    (0..count).map(another).collect()
}

macro_rules! whichever {
    ($self:ident, $journal:ident => $call:expr) => {
        match $self {
            Self::Embedded($journal) => $call,
            #[cfg(feature = "kafka")]
            Self::Kafka($journal) => $call,
        }
    };
}

impl Journal for AnyJournal {
    fn capabilities(&self) -> Capabilities {
        whichever!(self, journal => journal.capabilities())
    }

    fn places(&self, config: &StreamConfig) -> Vec<Place> {
        whichever!(self, journal => journal.places(config))
    }

    async fn prepare(&self, streams: &Snapshot) -> Result<(), Refusal> {
        whichever!(self, journal => journal.prepare(streams).await)
    }

    async fn append(
        &self,
        topic: &str,
        place: Place,
        batch: &Batch,
        compression: Compression,
    ) -> Result<Appended, Refusal> {
        whichever!(self, journal => journal.append(topic, place, batch, compression).await)
    }

    fn read(&self, topic: &Topic, from: Position) -> Reader {
        whichever!(self, journal => journal.read(topic, from))
    }

    async fn bounds(&self, topics: &[String]) -> Result<Vec<Bounds>, Refusal> {
        whichever!(self, journal => journal.bounds(topics).await)
    }

    async fn keep(&self, position: KeptPosition) -> Result<(), Refusal> {
        whichever!(self, journal => journal.keep(position).await)
    }
}
