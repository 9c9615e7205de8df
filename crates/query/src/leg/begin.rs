//! Where a leg begins that has never committed: from nothing, or where another stood, by its hand-over object.
//!
//! The object is read only then, so a leg that has begun needs it no longer. One that cannot be read or is of another topic
//! stops the leg: it is tried again, and never begins from nothing instead.

use std::fs::File;
use std::io::Read;
use std::path::PathBuf;

use sink::{Commit, LegState, Sink};
use stream::facts::{Place, Position};
use tracing::info;

use super::LegKey;
use super::hand_over::{self, HandOver, HandOverError};
use crate::error::LegError;

/// What a leg that has never committed begins from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Begin {
    /// Where the object lies.
    pub path: PathBuf,
    /// The topic that the leg reads, by its name in Kafka.
    pub topic: String,
}

impl Begin {
    /// The state to begin from.
    fn state(&self, places: &[Place]) -> Result<(String, LegState), HandOverError> {
        let mut text = Vec::new();
        File::open(&self.path)?.take(hand_over::BYTES_MAX + 1).read_to_end(&mut text)?;
        let object = HandOver::read(&text)?;
        if object.topic != self.topic {
            return Err(HandOverError::Topic { found: object.topic, wanted: self.topic.clone() });
        }
        match object.positions.iter().find(|reached| !places.contains(&reached.place)) {
            Some(strange) => Err(HandOverError::Strange(strange.place)),
            None => object.state().map(|state| (object.job, state)),
        }
    }
}

/// The state to go on from: `state`, as the sink has recovered it, or if nothing was ever committed in this life of the
/// stream what the object says. That is then the leg's first commit, made here, before anything is read.
pub fn begin(
    begin: Option<&Begin>,
    key: &LegKey,
    places: &[Place],
    sink: &mut dyn Sink,
    mut state: LegState,
) -> Result<LegState, LegError> {
    let Some(begin) = begin.filter(|_| state.positions.is_empty()) else { return Ok(state) };
    let told = begin.state(places);
    let (job, from) = told.map_err(|cause| LegError::HandOver { path: begin.path.clone(), cause })?;
    let LegState { mut positions, sources, horizon_minutes, .. } = from;
    // A first commit names every place: an object of nothing must not be read again after it.
    for place in places {
        if !positions.iter().any(|position| position.place == *place) {
            positions.push(Position::at(*place, 0));
        }
    }
    positions.sort_unstable_by_key(|position| position.place);
    let commit = Commit { positions, sources, horizon_minutes, replay: state.replay, ..Commit::default() };
    let number = sink.commit(&commit)?;
    state.apply(number, &commit);
    let (path, sources) = (begin.path.display(), state.sources.len());
    info!(stream = %key.stream, leg = key.sink, %path, job, sources, "the leg goes on where another stood");
    Ok(state)
}
