//! The hand-over object: where a leg stands, as text, for whoever goes on from there, be it another leg or a job on Flink.
//! Pure. The connector describes the same format at `HandOver.java`, and `stream/vectors/hand-over.json` holds the two
//! together.
//!
//! ```text
//! {"format": "isolane.hand-over.1", "topic": "a.b.c.1f", "job": "...", "checkpoint": 7, "horizon_minutes": null,
//!  "positions": [{"place": {"cluster": 0, "partition": 2}, "offset": 17, "append_time_ms": 1795420800000, "log": 1234}],
//!  "sources": {"01a2b3c4d5e6f708192a3b4c": {"taken": [[0, 500]], "finished": 500, "last": [{"place": ..., "offset": 16,
//!   "append_time_ms": 1795420800000}]}}}
//! ```
//!
//! A source without last places has been seen nowhere behind the positions: those stand for them, with their append times
//! or, where one is not known, the latest time that is. Otherwise a leg would forget such a source at once.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::File;
use std::io::Read;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use sink::{LegState, Seen, SourceState};
use stream::facts::{Place, Position};
use stream::provenance::{ORDINAL_MAX, Range, SourceId};

/// The value of `format`.
pub const FORMAT: &str = "isolane.hand-over.1";
/// Longest object, as the connector has it: twice what range sets may take there, as text.
pub const BYTES_MAX: u64 = 256 << 20;
/// Offsets are numbers with a sign in Kafka and in the connector.
const OFFSET_MAX: u64 = i64::MAX as u64;
/// Characters of another format's name that an error shows.
const EXCERPT_CHARS: usize = 64;

/// Where a leg stands.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct HandOver {
    /// The topic's name in Kafka, its stream's incarnation included.
    pub topic: String,
    /// Who wrote it: a leg's name, or the id of a job on Flink.
    #[serde(default)]
    pub job: String,
    /// The commit or checkpoint that it is of.
    #[serde(default)]
    pub checkpoint: u64,
    /// Birth of the youngest source forgotten, in minutes since 1970.
    #[serde(default)]
    pub horizon_minutes: Option<u32>,
    /// How far each place has been taken, sorted by place; of others nothing was.
    pub positions: Vec<Reached>,
    /// What is known of each source.
    #[serde(deserialize_with = "sources")]
    pub sources: BTreeMap<SourceId, SourceState>,
}

/// How far a place has been taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Reached {
    /// Where.
    pub place: Place,
    /// Everything before this offset has been taken.
    pub offset: u64,
    /// When the journal took the last of it, in ms since 1970; 0: not known.
    #[serde(default)]
    pub append_time_ms: i64,
    /// Which log it is; 0: not known.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub log: u64,
}

fn is_zero(log: &u64) -> bool {
    *log == 0
}

/// Why a text is no hand-over object, or none to begin from.
#[derive(Debug, thiserror::Error)]
pub enum HandOverError {
    /// It cannot be read.
    #[error("it cannot be read: {0}; put it there, or change the sink's begin_from")]
    Unread(#[from] std::io::Error),
    /// It is longer than any object.
    #[error("it is longer than {BYTES_MAX} bytes, the most that is read: it is no hand-over object")]
    TooLong,
    /// It is no JSON, or lacks a field.
    #[error("it is no hand-over object: {0}")]
    Text(#[from] serde_json::Error),
    /// It is of another format.
    #[error("its format is {0:?}, this version reads {FORMAT}: write it anew with a version of the same format")]
    Format(String),
    /// It is of another topic, or of another life of the stream.
    #[error("it is of topic {found}, the leg reads {wanted}: take an object of that topic")]
    Topic {
        /// The object's topic.
        found: String,
        /// The leg's.
        wanted: String,
    },
    /// It names a place that the leg does not read.
    #[error(
        "it names partition {} of cluster {}, which the leg does not read: give the stream as many partitions and the \
         journal as many clusters as there were", .0.partition, .0.cluster
    )]
    Strange(Place),
    /// It is older than what the leg had taken when it was handed over.
    #[error(
        "it stands at offset {offset} of partition {} in cluster {}, before {known}, where the leg stood when it was handed \
         over: take the object of whoever took the leg, written when that one was stopped", .place.partition, .place.cluster
    )]
    Older {
        /// Where.
        place: Place,
        /// The object's offset.
        offset: u64,
        /// The leg's.
        known: u64,
    },
    /// There is a newer one of the same job.
    #[error("{} is newer, of the same job, which has delivered more since: take that one", .0.display())]
    Newer(PathBuf),
    /// It cannot be marked as taken, so the job that wrote it would not know.
    #[error("it cannot be marked as taken: {0}; put it where the leg may write, beside the other objects of its job")]
    Unmarked(std::io::Error),
    /// It names a place twice.
    #[error("it names partition {} of cluster {} twice: which position counts cannot be known", .0.partition, .0.cluster)]
    Twice(Place),
    /// An offset that no journal has.
    #[error("offset {offset} of partition {} in cluster {} is beyond any journal's", .place.partition, .place.cluster)]
    Offset {
        /// Where.
        place: Place,
        /// The offset.
        offset: u64,
    },
    /// A source's range or length that is none.
    #[error("source {source_id} has a range or length that is none: {start} to {end}, within 0 and {ORDINAL_MAX}")]
    Range {
        /// The source.
        source_id: SourceId,
        /// Where the range begins; 0 for a length.
        start: u64,
        /// Where it ends.
        end: u64,
    },
    /// Nothing says where a source was seen, or when.
    #[error(
        "nothing says where and when source {0} was last seen, so it would be forgotten at once: take an object whose \
         positions have append times"
    )]
    Unseen(SourceId),
}

/// What is read of a text before anything else.
#[derive(Deserialize)]
struct Head {
    format: String,
}

/// A source as it is read: ranges that are none must be seen.
#[derive(Deserialize)]
struct Source {
    taken: Vec<(u64, u64)>,
    #[serde(default)]
    finished: Option<u64>,
    #[serde(default)]
    last: Vec<Seen>,
}

/// An object as it is written.
#[derive(Serialize)]
struct Written<'a> {
    format: &'static str,
    #[serde(flatten)]
    object: &'a HandOver,
}

impl HandOver {
    /// Where the leg `job` stands that reads `topic`, by its committed state.
    pub fn of(topic: &str, job: &str, state: &LegState) -> Self {
        let reached = |position: &Position| {
            let Position { place, offset, log } = *position;
            Reached { place, offset, append_time_ms: 0, log }
        };
        let mut positions: Vec<Reached> = state.positions.iter().map(reached).collect();
        positions.sort_unstable_by_key(|reached| reached.place);
        Self {
            topic: topic.to_owned(),
            job: job.to_owned(),
            checkpoint: state.commit,
            horizon_minutes: state.horizon_minutes,
            positions,
            sources: state.sources.clone(),
        }
    }

    /// Reads the object in a file, no more of it than the longest may have.
    pub fn open(path: &Path) -> Result<Self, HandOverError> {
        let mut text = Vec::new();
        File::open(path)?.take(BYTES_MAX + 1).read_to_end(&mut text)?;
        Self::read(&text)
    }

    /// Reads an object's text.
    pub fn read(text: &[u8]) -> Result<Self, HandOverError> {
        if text.len() as u64 > BYTES_MAX {
            return Err(HandOverError::TooLong);
        }
        let Head { format } = serde_json::from_slice(text)?;
        if format != FORMAT {
            return Err(HandOverError::Format(format.chars().take(EXCERPT_CHARS).collect()));
        }
        let mut object: Self = serde_json::from_slice(text)?;
        object.positions.sort_unstable_by_key(|reached| reached.place);
        object.check()?;
        Ok(object)
    }

    fn check(&self) -> Result<(), HandOverError> {
        let mut places = BTreeSet::new();
        if let Some(twice) = self.positions.iter().find(|reached| !places.insert(reached.place)) {
            return Err(HandOverError::Twice(twice.place));
        }
        let reached = self.positions.iter().map(|reached| (reached.place, reached.offset));
        let seen = self.sources.values().flat_map(|source| &source.last).map(|seen| (seen.place, seen.offset));
        match reached.chain(seen).find(|(_, offset)| *offset > OFFSET_MAX) {
            Some((place, offset)) => Err(HandOverError::Offset { place, offset }),
            None => Ok(()),
        }
    }

    /// That it stands nowhere before `known`: positions of the same logs.
    pub fn reaches(&self, known: &[Position]) -> Result<(), HandOverError> {
        for Position { place, offset: known, log } in known.iter().copied() {
            let here = self.positions.iter().find(|reached| reached.place == place);
            let (offset, of) = here.map_or((0, 0), |reached| (reached.offset, reached.log));
            let is_same = log == of || log == 0 || of == 0;
            if is_same && offset < known {
                return Err(HandOverError::Older { place, offset, known });
            }
        }
        Ok(())
    }

    /// Its text, as the connector prints it.
    pub fn text(&self) -> Result<String, HandOverError> {
        Ok(serde_json::to_string(&Written { format: FORMAT, object: self })? + "\n")
    }

    /// The state of a leg that begins here: positions, ranges and horizon. What the other delivered is not its own.
    pub fn state(&self) -> Result<LegState, HandOverError> {
        let position = |reached: &Reached| {
            let Reached { place, offset, log, .. } = *reached;
            Position { place, offset, log }
        };
        let stand_in = self.stand_in();
        let mut sources = self.sources.clone();
        for (id, source) in sources.iter_mut().filter(|(_, source)| source.last.is_empty()) {
            if stand_in.is_empty() {
                return Err(HandOverError::Unseen(*id));
            }
            source.last.clone_from(&stand_in);
        }
        Ok(LegState {
            commit: self.checkpoint,
            positions: self.positions.iter().map(position).collect(),
            sources,
            horizon_minutes: self.horizon_minutes,
            ..LegState::default()
        })
    }

    /// The last records of all that was taken, for sources without last places; none if no time is known at all.
    fn stand_in(&self) -> Vec<Seen> {
        let reached = self.positions.iter().map(|reached| reached.append_time_ms);
        let seen = self.sources.values().flat_map(|source| &source.last).map(|seen| seen.append_time_ms);
        let Some(latest_ms) = reached.chain(seen).max().filter(|latest_ms| *latest_ms > 0) else { return Vec::new() };
        let last = |reached: &Reached| {
            let append_time_ms = if reached.append_time_ms > 0 { reached.append_time_ms } else { latest_ms };
            Some(Seen { place: reached.place, offset: reached.offset.checked_sub(1)?, append_time_ms })
        };
        self.positions.iter().filter_map(last).collect()
    }
}

fn sources<'de, D: serde::Deserializer<'de>>(from: D) -> Result<BTreeMap<SourceId, SourceState>, D::Error> {
    let told: BTreeMap<SourceId, Source> = BTreeMap::deserialize(from)?;
    let checked = |(id, source)| Ok((id, source_state(id, source).map_err(serde::de::Error::custom)?));
    told.into_iter().map(checked).collect()
}

fn source_state(source_id: SourceId, Source { taken, finished, last }: Source) -> Result<SourceState, HandOverError> {
    let length = finished.map(|length| (0, length));
    let is_none = |(start, end): &(u64, u64)| start > end || *end > ORDINAL_MAX;
    if let Some((start, end)) = taken.iter().copied().chain(length).find(is_none) {
        return Err(HandOverError::Range { source_id, start, end });
    }
    let taken = taken.into_iter().map(Range::from).collect();
    let mut state = SourceState { taken, finished, last: Vec::new() };
    last.into_iter().for_each(|seen| state.see(seen));
    Ok(state)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const VECTOR: &str = include_str!("../../../stream/vectors/hand-over.json");

    fn vector() -> HandOver {
        HandOver::read(VECTOR.as_bytes()).unwrap()
    }

    #[test]
    fn the_connectors_text_is_read_and_written_byte_for_byte() {
        let object = vector();
        assert_eq!((object.topic.as_str(), object.checkpoint, object.sources.len()), ("a.b.c.1f", 7, 3));
        assert_eq!(object.text().unwrap().trim_end(), VECTOR.trim_end());
        assert!(object.text().unwrap().ends_with("}\n"), "the connector ends it with a line's end");
    }

    #[test]
    fn positions_stand_for_last_places_that_are_not_said() {
        let seen = |cluster, partition, offset, append_time_ms| Seen {
            place: Place { cluster, partition },
            offset,
            append_time_ms,
        };
        let (object, state) = (vector(), vector().state().unwrap());
        let [at_0, at_2, away] = [
            seen(0, 0, 16, 1_795_420_800_000),
            seen(0, 2, (1 << 48) - 2, 1_795_420_800_001),
            seen(1, 0, 0, 1_795_420_799_999),
        ];
        let last: Vec<&[Seen]> = state.sources.values().map(|source| &source.last[..]).collect();
        assert_eq!(last, [&[at_0, at_2, away][..], &[at_0, at_2, away], &[away, at_2]]);
        // A place where nothing was taken says nothing; an unknown time is taken for the latest.
        let mut unsure = object;
        unsure.positions[0].append_time_ms = 0;
        unsure.positions[2].offset = 0;
        let state = unsure.state().unwrap();
        let first = state.sources.values().next().unwrap();
        assert_eq!(first.last, [seen(0, 0, 16, 1_795_420_800_001), at_2]);
    }

    #[test]
    fn what_is_wrong_is_named() {
        let with = |from: &str, to: &str| {
            assert!(VECTOR.contains(from), "{from}");
            let read = HandOver::read(VECTOR.replace(from, to).as_bytes());
            read.and_then(|object| object.state()).unwrap_err().to_string()
        };
        for (from, to, expected) in [
            ("hand-over.1", "hand-over.2", "its format is \"isolane.hand-over.2\""),
            ("\"topic\"", "\"tropic\"", "missing field `topic`"),
            ("\"positions\"", "\"places\"", "missing field `positions`"),
            ("\"sources\"", "\"origins\"", "missing field `sources`"),
            ("\"offset\":17", "\"offset\":-17", "invalid value: integer `-17`"),
            ("\"offset\":17", "\"offset\":9223372036854775808", "offset 9223372036854775808 of partition 0"),
            (
                "\"partition\":2},\"offset\":281474976710655",
                "\"partition\":0},\"offset\":4",
                "partition 0 of cluster 0 twice",
            ),
            ("[0,500],[600", "[500,0],[600", "source 01a2b3c4d5e6f708192a3b4c has a range"),
            ("281474976710656]", "281474976710657]", "within 0 and 281474976710656"),
            ("01a2b3c4d5e6f708192a3b4c", "01a2", "01a2"),
            ("{\"format\"", "[\"format\"", "it is no hand-over object"),
        ] {
            let said = with(from, to);
            assert!(said.contains(expected), "{to}: {said}");
        }
        let mut unseen = vector();
        unseen.positions.clear();
        assert!(matches!(unseen.state(), Err(HandOverError::Unseen(_))), "{unseen:?}");
    }

    /// Ranges, length and last places of a source.
    type Told = (Vec<(u64, u64)>, Option<u64>, BTreeMap<Place, (u64, i64)>);

    /// States as legs commit them: every source was seen somewhere.
    fn states() -> impl Strategy<Value = LegState> {
        let place = || (0..2_u8, 0..5_u32).prop_map(|(cluster, partition)| Place { cluster, partition });
        let positions = proptest::collection::btree_map(place(), (0..=OFFSET_MAX, any::<u64>()), 0..6);
        let seen = (0..=OFFSET_MAX, any::<i64>());
        let source = (
            proptest::collection::vec((0..=ORDINAL_MAX, 0..=ORDINAL_MAX), 0..6),
            proptest::option::of(0..=ORDINAL_MAX),
            proptest::collection::btree_map(place(), seen, 1..4),
        );
        let sources = proptest::collection::btree_map(any::<u32>(), source, 0..5);
        (any::<u64>(), positions, sources, proptest::option::of(any::<u32>())).prop_map(
            |(commit, positions, sources, horizon_minutes)| {
                let position = |(place, (offset, log))| Position { place, offset, log };
                let seen = |(place, (offset, append_time_ms))| Seen { place, offset, append_time_ms };
                let source = |(n, (taken, finished, last)): (u32, Told)| {
                    let taken = taken.into_iter().map(|(a, b)| Range::new(a.min(b), a.max(b))).collect();
                    let last = last.into_iter().map(seen).collect();
                    (SourceId::derive(n, &[]), SourceState { taken, finished, last })
                };
                let sources = sources.into_iter().map(source).collect();
                let positions = positions.into_iter().map(position).collect();
                LegState { commit, positions, sources, horizon_minutes, ..LegState::default() }
            },
        )
    }

    proptest! {
        #[test]
        fn a_state_and_its_object_say_the_same(state in states()) {
            let object = HandOver::of("a.b.c.1f", "files", &state);
            let read = HandOver::read(object.text().unwrap().as_bytes()).unwrap();
            prop_assert_eq!(&read, &object);
            let again = read.state().unwrap();
            prop_assert_eq!(&again, &state);
            prop_assert_eq!(HandOver::of("a.b.c.1f", "files", &again), object);
        }
    }
}
