//! The words of a job on Flink: what it is to run, from where it begins, and which attempt at it is under way.

use std::fmt;
use std::path::PathBuf;
use std::str::FromStr;

use rand::{Rng, RngExt};
use serde::{Deserialize, Serialize};
use stream::{Incarnation, StreamId};

/// Whose job: one of a stream's life, or one of its legs where they run apart.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct JobKey {
    /// The stream.
    pub stream: StreamId,
    /// The stream's life.
    pub incarnation: Incarnation,
    /// The sink, where each leg has a job of its own; `None`: one job for all of them.
    pub leg: Option<String>,
}

impl fmt::Display for JobKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}@{}", self.stream, self.incarnation)?;
        self.leg.as_ref().map_or(Ok(()), |leg| write!(f, ".{leg}"))
    }
}

/// What names no job.
#[derive(Debug, thiserror::Error)]
#[error("{0:?} names no job: department.project.business@incarnation[.sink]")]
pub struct NoJobKey(String);

impl FromStr for JobKey {
    type Err = NoJobKey;

    fn from_str(text: &str) -> Result<Self, NoJobKey> {
        let parsed = text.split_once('@').and_then(|(stream, rest)| {
            let (incarnation, leg) = rest.split_once('.').map_or((rest, None), |(life, leg)| (life, Some(leg)));
            let incarnation = Incarnation::try_from(incarnation.to_owned()).ok()?;
            Some(Self { stream: stream.parse().ok()?, incarnation, leg: leg.map(str::to_owned) })
        });
        parsed.ok_or_else(|| NoJobKey(stream::id::excerpt(text)))
    }
}

/// A number of 128 bits as Flink writes it: the id of a job, or of a request to stop one.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Id(u128);

impl Id {
    /// One that nobody has yet.
    pub fn random(dice: &mut impl Rng) -> Self {
        Self(dice.random())
    }
}

impl fmt::Display for Id {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:032x}", self.0)
    }
}

impl fmt::Debug for Id {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// What is no id.
#[derive(Debug, thiserror::Error)]
#[error("{0:?} is no id of Flink's: 32 hexadecimal digits")]
pub struct NoId(String);

impl TryFrom<String> for Id {
    type Error = NoId;
    fn try_from(text: String) -> Result<Self, NoId> {
        let plain = text.len() == 32 && text.bytes().all(|byte| byte.is_ascii_hexdigit());
        let number = u128::from_str_radix(&text, 16).ok().filter(|_| plain);
        number.map(Self).ok_or_else(|| NoId(stream::id::excerpt(&text)))
    }
}

impl From<Id> for String {
    fn from(id: Id) -> String {
        id.to_string()
    }
}

/// A session of the SQL Gateway.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Session(pub String);

/// What a job does, in statements of Flink SQL.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Text {
    /// The name of the table that is read.
    pub source: String,
    /// What makes it, and views over it, without what is said per attempt (hand-over objects).
    pub tables: Vec<String>,
    /// What it delivers, in the order of the text.
    pub legs: Vec<LegText>,
    /// `SET key = value` before anything else.
    pub settings: Vec<(String, String)>,
}

/// One INSERT.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct LegText {
    /// The sink's CREATE TABLE.
    pub sink_table: String,
    /// INSERT INTO sink SELECT ...
    pub insert: String,
    /// The folder in which its files stay hidden until they are put together with others, if they are. Which ones are still
    /// to be, Flink's state alone knows.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub hidden_in: Option<PathBuf>,
}

impl Text {
    /// The folders in which a job leaves files hidden.
    pub fn hidden_in(&self) -> Vec<PathBuf> {
        self.legs.iter().filter_map(|leg| leg.hidden_in.clone()).collect()
    }

    /// Whether a job leaves files hidden.
    pub fn hides(&self) -> bool {
        self.legs.iter().any(|leg| leg.hidden_in.is_some())
    }

    /// Whether both deliver to the same sinks in the same order: only then may one take over the state that Flink keeps for
    /// the other's sinks, since Flink knows it by its place in the plan and not by name.
    pub fn is_shaped_like(&self, other: &Text) -> bool {
        let sinks = |text: &Text| text.legs.iter().map(|leg| leg.sink_table.clone()).collect::<Vec<_>>();
        sinks(self) == sinks(other)
    }
}

/// A checkpoint or savepoint. Numbers of one epoch grow from attempt to attempt, since Flink counts on from the one that it
/// restores: the greatest is the newest.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Checkpoint {
    /// Its number.
    pub number: u64,
    /// Where it lies, as a URL.
    pub path: String,
}

impl fmt::Display for Checkpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} at {}", self.number, self.path)
    }
}

/// From where an attempt begins.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Begin {
    /// The topic's beginning: nothing was ever taken.
    Anew,
    /// The state that Flink kept of the same text, or of one that is shaped like it.
    State(Checkpoint),
    /// The hand-over object of a job that was stopped cleanly: positions and ranges, nothing of its sinks.
    HandOver(String),
}

impl Begin {
    /// The number of the checkpoint that Flink restores; 0: none.
    pub fn number(&self) -> u64 {
        match self {
            Begin::State(checkpoint) => checkpoint.number,
            Begin::Anew | Begin::HandOver(_) => 0,
        }
    }
}

/// One job in Flink. Submitted again it is refused, as Flink knows its id.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Attempt {
    /// Its id, ours to choose.
    pub job: Id,
    /// What it runs.
    pub text: Text,
    /// From where.
    pub begin: Begin,
    /// Counts the hand-overs: checkpoints of different epochs are not compared.
    pub epoch: u32,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_job_is_named_both_ways() {
        for text in ["a.b.c@000000000000001f", "a.b.c@000000000000001f.files"] {
            assert_eq!(text.parse::<JobKey>().unwrap().to_string(), text);
        }
        assert!(["", "a.b.c", "a.b@1", "a.b.c@x"].iter().all(|bad| bad.parse::<JobKey>().is_err()));
    }

    #[test]
    fn an_id_is_32_digits_both_ways() {
        let text = "00f2c1d6a4b8e3570000000000000001".to_owned();
        let id = Id::try_from(text.clone()).unwrap();
        assert_eq!(String::from(id), text);
        for bad in ["", "1", "+0f2c1d6a4b8e3570000000000000001", "zz"] {
            assert!(Id::try_from(bad.to_owned()).is_err(), "{bad}");
        }
    }
}
