//! What the entries alone do not tell: the readers' positions, where a trimmed partition starts and ends, and what
//! limits took from readers. One small file, replaced as a whole.
//!
//! ```text
//! state  one frame: JSON {"version":1,"partitions":[{"topic","partition","start","end","overtaken_records","readers"}]}
//! ```
//!
//! It may be some seconds old: positions only grow, and a start that is too low only shows trimmed entries again.
//! It is made durable before the last piece of a partition goes, so that offsets never begin again.

use std::collections::BTreeMap;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use serde::{Deserialize, Serialize};
use stream::disk::{Disk, read_all, write_atomically};
use stream::frame::{self, Parsed};

use super::OpenError;
use super::format::{OFFSET_MAX, VERSION};
use super::index::{Index, Partition};

/// Longest state taken: 10,000 topics with many readers.
const STATE_BYTES_MAX: usize = 256 << 20;

/// The file's content.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct State {
    version: u32,
    partitions: Vec<PartitionState>,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct PartitionState {
    topic: String,
    partition: u32,
    start: u64,
    end: u64,
    overtaken_records: u64,
    readers: BTreeMap<String, u64>,
}

impl State {
    /// What `index` says now, sorted, so that equal states are equal.
    pub fn of(index: &Index) -> Self {
        let state = |(key, held): (&(Arc<str>, u32), &Partition)| PartitionState {
            topic: key.0.to_string(),
            partition: key.1,
            start: held.start,
            end: held.end(),
            overtaken_records: held.overtaken_records,
            readers: held.readers.clone(),
        };
        let mut partitions: Vec<_> = index.partitions.iter().map(state).collect();
        partitions.sort_unstable_by(|a, b| (&a.topic, a.partition).cmp(&(&b.topic, b.partition)));
        Self { version: VERSION, partitions }
    }

    /// Adds what the file told to an index made from the entries.
    pub fn apply(self, index: &mut Index) {
        for known in self.partitions {
            let held = index.partitions.entry((Arc::from(known.topic), known.partition)).or_default();
            let end = held.end().max(known.end);
            held.end.send_replace(end);
            let gone = held.pieces.iter().take_while(|piece| piece.end <= known.start).count();
            held.drop_pieces(gone);
            held.start = held.start.max(known.start);
            held.overtaken_records = known.overtaken_records;
            held.readers = known.readers;
        }
    }

    /// Replaces the file.
    pub fn write(&self, disk: &dyn Disk, dir: &Path) -> io::Result<()> {
        let json = serde_json::to_vec(self).map_err(io::Error::other)?;
        let mut bytes = Vec::with_capacity(json.len() + frame::FRAME_HEADER_BYTES);
        frame::write(&mut bytes, &json);
        write_atomically(disk, &path(dir), &bytes, |_| ())
    }

    /// Reads the file; none if there is none.
    pub fn read(disk: &dyn Disk, dir: &Path) -> Result<Option<Self>, OpenError> {
        let path = path(dir);
        if !disk.exists(&path) {
            return Ok(None);
        }
        let bytes = read_all(disk, &path).map_err(OpenError::io("read", &path))?;
        let damaged = |what| OpenError::Damaged { path: path.clone(), byte: 0, what };
        let Parsed::Frame(json, _) = frame::parse(&bytes, STATE_BYTES_MAX) else {
            return Err(damaged("the checksum of the readers' positions does not fit"));
        };
        let state: Self = serde_json::from_slice(json).map_err(|_| damaged("the readers' positions cannot be read"))?;
        if state.version != VERSION {
            return Err(OpenError::Version { path, found: state.version });
        }
        if state.partitions.iter().any(|known| known.start.max(known.end) > OFFSET_MAX) {
            return Err(damaged("an offset is beyond the last one there is"));
        }
        Ok(Some(state))
    }
}

fn path(dir: &Path) -> PathBuf {
    dir.join("state")
}
