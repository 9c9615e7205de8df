//! What a worker must remember over its end, as it lies in the state file.

use std::collections::BTreeMap;
use std::path::PathBuf;

use serde::{Deserialize, Serialize};
use stream::SourceId;
use stream::facts::{Cut, CutKind, SetApart, SourceFact};

use crate::collect::identity::{FileIdentity, Fingerprint};

/// All that one worker remembers.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct State {
    /// Every source, ended ones included as long as there is room: a file found again must not be read again.
    pub sources: BTreeMap<SourceId, SourceState>,
    /// The longest record under each configuration version that a cut names.
    pub record_bytes_max: BTreeMap<u64, usize>,
    /// What admin remembered when this state began: sources whose files have not been found yet.
    pub recovered: Vec<SourceFact>,
}

/// One source.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SourceState {
    /// Where the file was last seen. Only helps to find it, and people.
    pub path: PathBuf,
    /// The inode.
    pub inode: u64,
    /// The inode's birth in ns since 1970.
    pub file_birth_ns: u64,
    /// The fingerprint of the first record, in hex.
    pub fingerprint: String,
    /// How often the file was replaced under its inode before.
    pub generation: u32,
    /// Everything before it is acknowledged.
    pub position: u64,
    /// [`before_hash`] of the bytes before the position; none if they were never seen by this state.
    pub before: Option<u64>,
    /// The file's length so far.
    pub seen: u64,
    /// Whether its end is acknowledged too.
    pub finished: bool,
    /// Refused for good.
    pub set_apart: Vec<SetApart>,
    /// Decisions that were not the bytes' own, in order.
    pub cuts: Vec<Cut>,
}

impl SourceState {
    /// A source at its beginning.
    pub fn new(path: PathBuf, file: &FileIdentity, fingerprint: Fingerprint, generation: u32) -> Self {
        Self {
            path,
            inode: file.inode,
            file_birth_ns: file.birth_ns,
            fingerprint: fingerprint.to_hex(),
            generation,
            position: 0,
            before: None,
            seen: 0,
            finished: false,
            set_apart: Vec::new(),
            cuts: Vec::new(),
        }
    }

    /// Whether the file is the one that this source was read from, by its inode; its content is looked at later.
    pub fn is_of(&self, file: &FileIdentity) -> bool {
        self.inode == file.inode && self.file_birth_ns == file.birth_ns
    }

    /// Where the source ends, once that is decided.
    pub fn end(&self) -> Option<u64> {
        self.cuts.iter().find(|cut| cut.kind == CutKind::EndOfFile).map(|cut| cut.at)
    }

    /// The configuration version under which the record at `ordinal` is read, and where the next one starts.
    pub fn version_at(&self, ordinal: u64) -> (Option<u64>, u64) {
        let configs = || self.cuts.iter().filter(|cut| cut.kind == CutKind::Config);
        let version = configs().rfind(|cut| cut.at <= ordinal).map(|cut| cut.config_version);
        let until = configs().map(|cut| cut.at).filter(|at| *at > ordinal).min();
        (version, until.unwrap_or(u64::MAX))
    }

    /// Forgets configuration cuts that no record still to be read depends on.
    pub fn forget_passed_cuts(&mut self) {
        let passed = |cut: &Cut| cut.kind == CutKind::Config && cut.at <= self.position;
        let passed = self.cuts.iter().filter(|cut| passed(cut)).count();
        let mut left = passed.saturating_sub(1);
        let position = self.position;
        self.cuts.retain(|cut| {
            let forget = left > 0 && cut.kind == CutKind::Config && cut.at <= position;
            left -= usize::from(forget);
            !forget
        });
    }
}

/// A hash of the bytes before a position, by which the file's content is recognised.
pub fn before_hash(bytes: &[u8]) -> u64 {
    let mut first = [0; 8];
    first.copy_from_slice(&blake3::hash(bytes).as_bytes()[..8]);
    u64::from_le_bytes(first)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cuts_say_what_is_read_how() {
        let file = FileIdentity { device: 1, inode: 2, birth_ns: 3 };
        let print = Fingerprint::of(b"x\n", false).unwrap();
        let mut source = SourceState::new("/f".into(), &file, print, 0);
        let config = |at, config_version| Cut { at, kind: CutKind::Config, config_version };
        source.cuts = vec![config(0, 1), config(10, 2), config(10, 3), config(30, 4)];
        assert_eq!(source.version_at(9), (Some(1), 10));
        assert_eq!(source.version_at(10), (Some(3), 30));
        assert_eq!(source.version_at(30), (Some(4), u64::MAX));
        source.position = 12;
        source.forget_passed_cuts();
        assert_eq!(source.cuts, [config(10, 3), config(30, 4)]);
        assert_eq!(source.end(), None);
        source.cuts.push(Cut { at: 40, kind: CutKind::EndOfFile, config_version: 4 });
        assert_eq!(source.end(), Some(40));
    }
}
