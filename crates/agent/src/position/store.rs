//! The state file, in two slots that are written in turn, so that a damaged one falls back to the other.
//!
//! Each slot is one frame around JSON `{"sequence": n, "state": {...}}`, replaced atomically; the highest sequence that
//! is whole counts. Positions go to one slot: an older position only means that records are sent again. What must not
//! be forgotten (a new source, a cut) goes to both before anything is sent that depends on it.

use std::io;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use stream::disk::{SharedDisk, read_all, write_atomically};
use stream::{crash, frame};
use tracing::error;

use super::state::State;

const SLOTS: [&str; 2] = ["state.a", "state.b"];
/// Longest state: some hundred thousand sources.
const STATE_BYTES_MAX: usize = 256 << 20;

/// The state could not be written or read.
#[derive(Debug, thiserror::Error)]
#[error("worker state in {}: {cause}; mend the disk and start again, nothing acknowledged is lost", .dir.display())]
pub struct StoreError {
    dir: PathBuf,
    cause: io::Error,
}

/// The writer of one worker's state. It is the only one.
pub struct Store {
    disk: SharedDisk,
    dir: PathBuf,
    sequence: u64,
}

#[derive(Deserialize)]
struct Slot {
    sequence: u64,
    state: State,
}

#[derive(Serialize)]
struct SlotRef<'a> {
    sequence: u64,
    state: &'a State,
}

impl Store {
    /// Opens the state in `dir`, which is made if needed; none if there is none, or none that is whole.
    pub fn open(disk: SharedDisk, dir: &Path) -> Result<(Self, Option<State>), StoreError> {
        let fail = |cause| StoreError { dir: dir.to_owned(), cause };
        disk.create_dir_all(dir).map_err(fail)?;
        // Renamed, but perhaps no more than that when the process died: durable before anything is sent that depends on it.
        disk.sync_dir(dir).map_err(fail)?;
        let newest = newest(&disk, dir)?;
        let sequence = newest.as_ref().map_or(0, |slot| slot.sequence);
        Ok((Self { disk, dir: dir.to_owned(), sequence }, newest.map(|slot| slot.state)))
    }

    /// What lies in `dir`, for whoever only looks.
    pub fn look(disk: &SharedDisk, dir: &Path) -> Result<Option<State>, StoreError> {
        Ok(newest(disk, dir)?.map(|slot| slot.state))
    }

    /// Writes positions: into the older slot.
    pub fn write(&mut self, state: &State) -> Result<(), StoreError> {
        let fail = |cause| StoreError { dir: self.dir.clone(), cause };
        let sequence = self.sequence + 1;
        let payload = serde_json::to_vec(&SlotRef { sequence, state }).map_err(|e| fail(io::Error::other(e)))?;
        let mut bytes = Vec::with_capacity(payload.len() + frame::FRAME_HEADER_BYTES);
        frame::write(&mut bytes, &payload);
        let path = self.dir.join(SLOTS[(sequence % 2) as usize]);
        write_atomically(self.disk.as_ref(), &path, &bytes, visit).map_err(fail)?;
        self.sequence = sequence;
        Ok(())
    }

    /// Writes what must not be forgotten: into both slots.
    pub fn write_through(&mut self, state: &State) -> Result<(), StoreError> {
        self.write(state)?;
        self.write(state)
    }
}

/// The whole slot with the highest sequence.
fn newest(disk: &SharedDisk, dir: &Path) -> Result<Option<Slot>, StoreError> {
    let mut newest: Option<Slot> = None;
    for name in SLOTS {
        let path = dir.join(name);
        match read_all(disk.as_ref(), &path) {
            Ok(bytes) => match parse(&bytes) {
                Some(slot) if newest.as_ref().is_none_or(|held| held.sequence < slot.sequence) => {
                    newest = Some(slot);
                }
                Some(_) => {}
                None => {
                    error!(path = %path.display(), "a slot of the state is damaged; the other one counts")
                }
            },
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(cause) => return Err(StoreError { dir: dir.to_owned(), cause }),
        }
    }
    Ok(newest)
}

fn visit(step: &str) {
    match step {
        "written" => crash::point("agent.position.written"),
        _ => crash::point("agent.position.renamed"),
    }
}

fn parse(bytes: &[u8]) -> Option<Slot> {
    match frame::parse(bytes, STATE_BYTES_MAX) {
        frame::Parsed::Frame(payload, _) => serde_json::from_slice(payload).ok(),
        frame::Parsed::Short | frame::Parsed::Damaged => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rand::rngs::ChaCha8Rng;
    use rand::{RngExt, SeedableRng};
    use std::sync::Arc;
    use stream::disk::{Disk, SimDisk};

    fn state(version: u64) -> State {
        State { record_bytes_max: [(version, 1)].into(), ..State::default() }
    }

    fn version(state: Option<State>) -> u64 {
        state.map_or(0, |state| *state.record_bytes_max.keys().next().unwrap())
    }

    #[test]
    fn what_a_start_found_survives_a_power_loss() {
        for seed in 0..50 {
            let (disk, dir) = (SimDisk::new(), Path::new("/state/a.b.c"));
            let (mut store, _) = Store::open(Arc::new(disk.clone()), dir).unwrap();
            disk.lose_power_after(seed % 8);
            drop(store.write(&state(1)));
            disk.process_loss();
            let (_, found) = Store::open(Arc::new(disk.clone()), dir).unwrap();
            disk.power_loss(&mut ChaCha8Rng::seed_from_u64(seed));
            let (_, after) = Store::open(Arc::new(disk.clone()), dir).unwrap();
            assert_eq!(version(after), version(found), "seed {seed}: it was gone on with, and is forgotten");
        }
    }

    #[test]
    fn a_power_loss_at_any_operation_keeps_what_was_written() {
        let seeds = std::env::var("ISOLANE_SEEDS").ok().and_then(|n| n.parse().ok()).unwrap_or(200);
        let (mut lost_in_flight, mut kept_in_flight) = (0, 0);
        for seed in 0..seeds {
            let mut dice = ChaCha8Rng::seed_from_u64(seed);
            let disk = SimDisk::new();
            let dir = Path::new("/state/a.b.c");
            let (mut written, mut through) = (0, 0);
            for _life in 0..3 {
                disk.lose_power_after(dice.random_range(0..40));
                let mut attempted = written;
                if let Ok((mut store, found)) = Store::open(Arc::new(disk.clone()), dir) {
                    assert!(version(found) >= written, "seed {seed}");
                    while !disk.power_is_gone() {
                        attempted += 1;
                        let both = dice.random_bool(0.3);
                        let result =
                            if both { store.write_through(&state(attempted)) } else { store.write(&state(attempted)) };
                        if result.is_ok() {
                            written = attempted;
                            through = if both { attempted } else { through };
                        }
                    }
                }
                disk.power_loss(&mut dice);
                let (_, found) = Store::open(Arc::new(disk.clone()), dir).unwrap();
                let found = version(found);
                assert!(found >= written && found <= attempted, "seed {seed}: {found} of {written}..={attempted}");
                if attempted > written {
                    if found == written { lost_in_flight += 1 } else { kept_in_flight += 1 }
                }
                written = found;
            }
            let slot = dir.join(SLOTS[dice.random_range(0..2)]);
            if disk.exists(&slot) {
                disk.flip_bit(&slot, dice.random_range(0..20), 3).unwrap();
                let (_, found) = Store::open(Arc::new(disk.clone()), dir).unwrap();
                assert!(version(found) >= through, "seed {seed}: a damaged slot forgot what went to both");
            }
        }
        assert!(
            lost_in_flight > 0 && kept_in_flight > 0,
            "the seeds explore little: {lost_in_flight}, {kept_in_flight}"
        );
    }
}
