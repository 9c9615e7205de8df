//! The end of a leg that is handed over: its transactional id is taken from whoever writes under it, and its last commit says
//! so.

use kafka::transaction::{Settings, TransactionalProducer};
use kafka::{Cluster, KafkaError};
use stream::Incarnation;

use super::{STATE_TOPIC, STEP, TRANSACTION_MARGIN, append_state, name_of, read_state, state_place};
use crate::error::SinkError;
use crate::files::Identity;
use crate::state::LegState;

/// The leg of a name, `department.project.business.incarnation.sink`; none if it is no leg's.
pub fn identity(name: &str) -> Option<Identity> {
    let (rest, leg) = name.rsplit_once('.')?;
    let (stream, incarnation) = rest.rsplit_once('.')?;
    let incarnation = Incarnation::try_from(incarnation.to_owned()).ok()?;
    let leg = Identity { stream: stream.parse().ok()?, incarnation, leg: leg.to_owned() };
    // An incarnation that is written shorter is another transactional id.
    (name_of(&leg) == name).then_some(leg)
}

/// Hands over the leg whose sink is in the cluster at `brokers`; answers with where it stands. Again it answers the same. None if
/// no such leg has ever committed there.
pub async fn hand_over(brokers: &str, leg: &Identity) -> Result<Option<LegState>, SinkError> {
    let failed = |cause| SinkError::Kafka { topic: STATE_TOPIC.to_owned(), cause };
    let told = take(brokers, &name_of(leg)).await.map_err(|error| failed(error.to_string()))?;
    let state = told.map_err(failed)?;
    Ok((!state.positions.is_empty()).then_some(state))
}

async fn take(brokers: &str, name: &str) -> Result<Result<LegState, String>, KafkaError> {
    let cluster = Cluster::new(brokers)?;
    let settings = Settings { id: name.to_owned(), transaction_timeout: TRANSACTION_MARGIN, step_within: STEP };
    let mut producer = TransactionalProducer::start(cluster.clone(), settings).await?;
    let place = state_place(name);
    let (mut state, mut book) = match read_state(&cluster, &place, name).await?.finish() {
        Ok(found) => found,
        Err(cause) => return Ok(Err(cause)),
    };
    if !state.positions.is_empty() && !state.is_handed_over {
        let last = state.hand_over();
        state.apply(state.commit + 1, &last);
        append_state(&mut producer, &place, book.records(name, &state, &last)).await?;
        producer.end(true).await?;
    }
    Ok(Ok(state))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_legs_name_is_read_as_it_is_written() {
        let leg = Identity { stream: "a.b.c".parse().unwrap(), incarnation: Incarnation(31), leg: "topic".into() };
        assert_eq!(identity(&name_of(&leg)), Some(leg));
        for none in ["", "topic", "a.b.c.topic", "a.b.000000000000001f.topic", "a.b.c.31f.topic"] {
            assert_eq!(identity(none), None, "{none}");
        }
    }
}
