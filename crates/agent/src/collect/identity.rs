//! Which source a file is. The answer is a pure function of the file, so that a wrong one, which would lose data
//! silently, cannot come from where the file lies or when it is looked at.
//!
//! A source's id hashes the agent, the stream's life, the file's inode and birth time, its generation, and the
//! fingerprint of its first record. Its first digits are its birth, which is not hashed: an id found again after the
//! state was lost differs from the old one there at most, and the facts that admin keeps tell the old one.

use std::fs::Metadata;
use std::os::unix::fs::MetadataExt;
use std::time::UNIX_EPOCH;

use stream::facts::SourceFact;
use stream::{Incarnation, SourceId, limits};

use crate::position::State;

/// Generations of one file that are looked for among the facts after the state was lost.
const GENERATIONS_MAX: u32 = 64;

/// What the file system says of a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct FileIdentity {
    /// The device's number; it may change with a boot, so it only helps to find the file.
    pub device: u64,
    /// The inode.
    pub inode: u64,
    /// When the inode was made, in ns since 1970; 0 where the file system does not say.
    pub birth_ns: u64,
}

impl FileIdentity {
    /// Of an open file.
    pub fn of(metadata: &Metadata) -> Self {
        let birth = metadata.created().ok().and_then(|time| time.duration_since(UNIX_EPOCH).ok());
        let birth_ns = birth.map_or(0, |since| u64::try_from(since.as_nanos()).unwrap_or(0));
        Self { device: metadata.dev(), inode: metadata.ino(), birth_ns }
    }
}

/// The birth of a file in minutes since 1970: its inode's, or else its last change.
pub fn birth_minutes(file: &FileIdentity, metadata: &Metadata) -> u32 {
    let ms = file.birth_ns / 1_000_000;
    let ms = if ms == 0 { u64::try_from(metadata.mtime()).unwrap_or(0) * 1000 } else { ms };
    u32::try_from(ms / 60_000).unwrap_or(0)
}

/// The hash of a file's first record.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Fingerprint(pub [u8; 32]);

impl Fingerprint {
    /// Of content that begins with `bytes`: none as long as its first line is incomplete, unless the file will not go
    /// on (`whole`). A longer first line counts by its first MiB, whatever the stream's own longest record is.
    pub fn of(bytes: &[u8], whole: bool) -> Option<Self> {
        let window = &bytes[..bytes.len().min(limits::RECORD_BYTES_MAX)];
        let first = match memchr::memchr(b'\n', window) {
            Some(end) => &window[..end],
            None if window.len() == limits::RECORD_BYTES_MAX || (whole && !window.is_empty()) => window,
            None => return None,
        };
        Some(Self(*blake3::hash(first).as_bytes()))
    }

    /// As text, for the state file.
    pub fn to_hex(self) -> String {
        blake3::Hash::from_bytes(self.0).to_string()
    }
}

/// Who reads.
#[derive(Clone, Debug)]
pub struct Reader {
    /// The agent.
    pub agent_id: String,
    /// The stream's life.
    pub incarnation: Incarnation,
    /// What tells files apart: [`FileIdentity::of`], unless a simulation must not depend on inodes.
    pub identity_of: fn(&Metadata) -> FileIdentity,
}

/// Which source a file is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Identity {
    /// One of the state's.
    Known(SourceId),
    /// One that admin remembers, in this generation.
    Recovered(Box<SourceFact>, u32),
    /// None so far: the id it gets, and its generation.
    New(SourceId, u32),
}

/// Identifies a file. `generation_min` excludes sources that this file was before it was replaced.
pub fn identify(
    reader: &Reader,
    file: &FileIdentity,
    fingerprint: Fingerprint,
    generation_min: u32,
    birth_minutes: u32,
    state: &State,
) -> Identity {
    let hex = fingerprint.to_hex();
    let of_file = || state.sources.iter().filter(|(_, source)| source.is_of(file));
    let same = of_file().filter(|(_, s)| s.fingerprint == hex && s.generation >= generation_min);
    if let Some((id, _)) = same.max_by_key(|(_, source)| source.generation) {
        return Identity::Known(*id);
    }
    let derive = |generation| source_id(reader, file, fingerprint, generation, birth_minutes);
    for generation in (generation_min..generation_min + GENERATIONS_MAX).rev() {
        let id = derive(generation);
        if let Some(fact) = state.recovered.iter().find(|fact| same_but_birth(fact.source, id)) {
            return Identity::Recovered(Box::new(fact.clone()), generation);
        }
    }
    let next = of_file().map(|(_, source)| source.generation + 1).max().unwrap_or(0).max(generation_min);
    Identity::New(derive(next), next)
}

fn source_id(
    reader: &Reader,
    file: &FileIdentity,
    fingerprint: Fingerprint,
    generation: u32,
    birth_minutes: u32,
) -> SourceId {
    SourceId::derive(
        birth_minutes,
        &[
            reader.agent_id.as_bytes(),
            &reader.incarnation.0.to_le_bytes(),
            &file.inode.to_le_bytes(),
            &file.birth_ns.to_le_bytes(),
            &fingerprint.0,
            &generation.to_le_bytes(),
        ],
    )
}

/// Whether two ids are of one source, seen first at perhaps different times: the first 28 bits do not count.
fn same_but_birth(one: SourceId, other: SourceId) -> bool {
    let (one, other) = (one.as_bytes(), other.as_bytes());
    one[3] & 0x0f == other[3] & 0x0f && one[4..] == other[4..]
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::position::SourceState;

    fn reader() -> Reader {
        Reader { agent_id: "a".into(), incarnation: Incarnation(1), identity_of: FileIdentity::of }
    }

    fn file(inode: u64) -> FileIdentity {
        FileIdentity { device: 1, inode, birth_ns: 5 }
    }

    fn print(text: &str) -> Fingerprint {
        Fingerprint::of(text.as_bytes(), true).unwrap()
    }

    fn known(state: &mut State, file: FileIdentity, text: &str) -> SourceId {
        let Identity::New(id, generation) = identify(&reader(), &file, print(text), 0, 10, state) else {
            panic!("not new")
        };
        let source = SourceState::new("/f".into(), &file, print(text), generation);
        state.sources.insert(id, source);
        id
    }

    #[test]
    fn a_file_is_found_again_by_what_it_is() {
        let mut state = State::default();
        let id = known(&mut state, file(1), "first");
        let find =
            |file: &FileIdentity, text, min, state: &State| identify(&reader(), file, print(text), min, 99, state);
        assert_eq!(find(&file(1), "first", 0, &state), Identity::Known(id));
        let moved = FileIdentity { device: 77, ..file(1) };
        assert_eq!(find(&moved, "first", 0, &state), Identity::Known(id), "a device number may change");
        let reused = FileIdentity { birth_ns: 6, ..file(1) };
        assert!(matches!(find(&reused, "first", 0, &state), Identity::New(other, 0) if other != id));
        assert!(matches!(find(&file(1), "other", 0, &state), Identity::New(other, 1) if other != id));
        assert!(matches!(find(&file(1), "first", 1, &state), Identity::New(other, 1) if other != id));
        assert!(matches!(find(&file(2), "first", 0, &state), Identity::New(other, 0) if other != id));
    }

    #[test]
    fn a_lost_state_finds_the_id_that_admin_remembers() {
        let mut before = State::default();
        let id = known(&mut before, file(1), "first");
        let fact = SourceFact {
            stream: "a.b.c".parse().unwrap(),
            incarnation: Incarnation(1),
            source: id,
            collector: "a".into(),
            name: "/f".into(),
            seen: 9,
            acknowledged: 6,
            finished: false,
            set_apart: Vec::new(),
            cuts: Vec::new(),
        };
        let state = State { recovered: vec![fact.clone()], ..State::default() };
        let found = identify(&reader(), &file(1), print("first"), 0, 4242, &state);
        assert_eq!(found, Identity::Recovered(Box::new(fact), 0));
        let other = identify(&reader(), &file(3), print("first"), 0, 4242, &state);
        assert!(matches!(other, Identity::New(..)));
    }

    #[test]
    fn a_fingerprint_needs_a_whole_record() {
        assert_eq!(Fingerprint::of(b"", true), None);
        assert_eq!(Fingerprint::of(b"abc", false), None);
        assert_eq!(Fingerprint::of(b"abc\n", false), Fingerprint::of(b"abc\nmore", false));
        assert_eq!(Fingerprint::of(b"abc", true), Fingerprint::of(b"abc\n", false));
        let long = vec![b'x'; limits::RECORD_BYTES_MAX + 5];
        assert!(Fingerprint::of(&long, false).is_some());
    }
}
