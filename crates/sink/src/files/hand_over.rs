//! The end of a leg that is handed over: its folder is taken from whoever writes there, and its last commit says so.

use std::path::Path;

use stream::disk::SharedDisk;

use super::{FilesSink, Identity, manifest};
use crate::error::SinkError;
use crate::seam::Sink;
use crate::state::LegState;

/// Hands over the leg whose folder it is; answers with where it stands. Again it answers the same. None if no leg has ever
/// committed there.
pub fn hand_over(disk: &SharedDisk, dir: &Path) -> Result<Option<(Identity, LegState)>, SinkError> {
    let Some((identity, _)) = manifest::state(disk.as_ref(), dir)?.filter(|(_, state)| !state.positions.is_empty())
    else {
        return Ok(None);
    };
    let mut sink = FilesSink::new(disk.clone(), dir.to_owned(), identity.clone());
    let mut state = sink.recover()?;
    if !state.is_handed_over {
        let last = state.hand_over();
        state.apply(sink.commit(&last)?, &last);
    }
    Ok(Some((identity, state)))
}
