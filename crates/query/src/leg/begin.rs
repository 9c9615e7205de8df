//! Where a leg begins that has never committed, or was handed over: from nothing, or where another stood, by its hand-over
//! object.
//!
//! The object is read only then, so a leg that has begun needs it no longer. One that cannot be read, is of another topic or
//! stands before what is known stops the leg: it is tried again, and never begins from nothing instead. A leg that was handed
//! over stands still without an object, as whoever took it delivers what comes. Beside an object that it begins from the leg
//! leaves a mark, `<object>.taken`, before it begins: the connector delivers no more for a job whose object was taken.

use std::path::{Path, PathBuf};

use sink::{Commit, LegState, Sink};
use stream::disk::{SharedDisk, write_atomically};
use stream::facts::{Place, Position};
use tracing::info;

use super::LegKey;
use super::hand_over::{HandOver, HandOverError};
use crate::error::LegError;

/// What a leg begins from that has never committed, or was handed over.
#[derive(Clone)]
pub struct Begin {
    /// The disk that it lies on.
    pub disk: SharedDisk,
    /// Where the object lies.
    pub path: PathBuf,
    /// The topic that the leg reads, by its name in Kafka.
    pub topic: String,
}

impl Begin {
    /// The state to begin from, for a leg that stood at `known` when it was handed over.
    fn state(&self, places: &[Place], known: &[Position]) -> Result<(String, LegState), HandOverError> {
        let object = HandOver::open(&self.path)?;
        if object.topic != self.topic {
            return Err(HandOverError::Topic { found: object.topic, wanted: self.topic.clone() });
        }
        if let Some(newer) = newer(&self.path, &object) {
            return Err(HandOverError::Newer(newer));
        }
        object.reaches(known)?;
        match object.positions.iter().find(|reached| !places.contains(&reached.place)) {
            Some(strange) => Err(HandOverError::Strange(strange.place)),
            None => object.state().map(|state| (object.job, state)),
        }
    }
}

/// Behind an object's name: the mark that a leg has begun from it. It names the leg that was the last to.
const TAKEN: &str = ".taken";

/// Marks the object as taken.
fn mark(begin: &Begin, key: &LegKey) -> Result<(), HandOverError> {
    let mut path = begin.path.clone().into_os_string();
    path.push(TAKEN);
    let leg = format!("{}@{} {}\n", key.stream, key.incarnation, key.sink);
    write_atomically(begin.disk.as_ref(), Path::new(&path), leg.as_bytes(), |_| ()).map_err(HandOverError::Unmarked)
}

/// A newer object beside one that the connector named, of the same job: that has gone on, and delivered more.
fn newer(path: &Path, object: &HandOver) -> Option<PathBuf> {
    let number = |path: &Path| {
        let name = path.file_name()?.to_str()?.strip_prefix(&object.job)?.strip_prefix('-')?;
        name.strip_suffix(".json")?.parse::<u64>().ok()
    };
    number(path).filter(|number| *number == object.checkpoint)?;
    let beside = std::fs::read_dir(path.parent()?).ok()?.filter_map(|entry| Some(entry.ok()?.path()));
    beside.filter(|other| number(other) > Some(object.checkpoint)).max_by_key(|other| number(other))
}

/// The state to go on from: `state`, as the sink has recovered it, or if nothing was ever committed in this life of the
/// stream, or the leg was handed over, what the object says. That is then a commit, made here, before anything is read.
pub fn begin(
    begin: Option<&Begin>,
    key: &LegKey,
    places: &[Place],
    sink: &mut dyn Sink,
    mut state: LegState,
) -> Result<LegState, LegError> {
    let is_to_begin = state.positions.is_empty() || state.is_handed_over;
    let begin = match begin.filter(|_| is_to_begin) {
        Some(begin) => begin,
        None if state.is_handed_over => return Err(LegError::HandedOver { commit: state.commit }),
        None => return Ok(state),
    };
    let told = begin.state(places, &state.positions).and_then(|told| mark(begin, key).map(|()| told));
    let (job, from) = told.map_err(|cause| LegError::HandOver { path: begin.path.clone(), cause })?;
    let LegState { mut positions, sources, horizon_minutes, .. } = from;
    // A first commit names every place: an object of nothing must not be read again after it.
    for place in places {
        if !positions.iter().any(|position| position.place == *place) {
            positions.push(Position::at(*place, 0));
        }
    }
    positions.sort_unstable_by_key(|position| position.place);
    // What a leg that was handed over knew by itself is added: whoever took it has that too, or has forgotten it.
    let commit = Commit { positions, sources, horizon_minutes, replay: state.replay, ..Commit::default() };
    let number = sink.commit(&commit)?;
    state.apply(number, &commit);
    let (path, sources) = (begin.path.display(), state.sources.len());
    info!(stream = %key.stream, leg = key.sink, %path, job, sources, "the leg goes on where another stood");
    Ok(state)
}
