//! Names of streams and topics. Validated once, here; everything else carries the checked type, so that a name can be
//! joined to a path, a topic or a URL without another look.

use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

/// Longest part of a stream id, in characters.
pub const ID_PART_CHARS_MAX: usize = 32;

/// A stream's id: `department.project.business`, each part 1 to 32 characters of `[a-z0-9-]`.
///
/// Dots and underscores are left out of the parts because Kafka takes them for equal in topic names. Cheap to clone: each
/// batch has it.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct StreamId(Arc<str>);

/// Why a name was refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum NameError {
    /// Not three parts.
    #[error("stream id {0:?} has {1} parts; write department.project.business")]
    Parts(String, usize),
    /// A part or name with characters or a length that are not allowed.
    #[error("{0:?} in {1:?} must be 1 to {2} characters of a-z, 0-9 and '-'")]
    Part(String, String, usize),
}

impl StreamId {
    /// The id as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The three parts: department, project, business.
    pub fn parts(&self) -> [&str; 3] {
        let mut parts = self.0.splitn(3, '.');
        std::array::from_fn(|_| parts.next().unwrap_or_default())
    }
}

impl FromStr for StreamId {
    type Err = NameError;

    fn from_str(text: &str) -> Result<Self, NameError> {
        let count = text.split('.').count();
        if count != 3 {
            return Err(NameError::Parts(excerpt(text), count));
        }
        check_parts(text, ID_PART_CHARS_MAX)?;
        Ok(Self(text.into()))
    }
}

/// The beginning of what somebody sent as a name, for messages: it may have any length.
pub fn excerpt(text: &str) -> String {
    const CHARS_MAX: usize = 3 * ID_PART_CHARS_MAX + 2;
    text.chars().take(CHARS_MAX).collect()
}

/// Checks each dot-separated part of `text`.
pub(crate) fn check_parts(text: &str, chars_max: usize) -> Result<(), NameError> {
    let fits = |part: &&str| {
        !part.is_empty()
            && part.len() <= chars_max
            && part.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-')
    };
    match text.split('.').find(|part| !fits(part)) {
        Some(part) => Err(NameError::Part(excerpt(part), excerpt(text), chars_max)),
        None => Ok(()),
    }
}

/// The topic that carries one stream through the journal: one or more dot-separated parts like those of a stream id.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct TopicName(String);

impl TopicName {
    /// The name as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for TopicName {
    type Err = NameError;

    fn from_str(text: &str) -> Result<Self, NameError> {
        check_parts(text, ID_PART_CHARS_MAX)?;
        Ok(Self(text.to_owned()))
    }
}

impl From<&StreamId> for TopicName {
    fn from(id: &StreamId) -> Self {
        Self(id.as_str().to_owned())
    }
}

macro_rules! text_conversions {
    ($name:ident) => {
        impl TryFrom<String> for $name {
            type Error = NameError;
            fn try_from(text: String) -> Result<Self, NameError> {
                text.parse()
            }
        }
        impl From<$name> for String {
            fn from(name: $name) -> String {
                name.as_str().to_owned()
            }
        }
        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }
    };
}
text_conversions!(StreamId);
text_conversions!(TopicName);

/// One life of a stream: deleted and created again under the same id it is another stream.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Incarnation(pub u64);

impl Incarnation {
    /// Bits that tell apart what is born in one millisecond; those above hold the time of birth.
    pub const VERSION_BITS: u32 = 20;

    /// When the life began, in ms since 1970.
    pub fn born_ms(self) -> i64 {
        (self.0 >> Self::VERSION_BITS) as i64
    }
}

impl fmt::Display for Incarnation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:016x}", self.0)
    }
}

impl TryFrom<String> for Incarnation {
    type Error = std::num::ParseIntError;
    fn try_from(text: String) -> Result<Self, Self::Error> {
        u64::from_str_radix(&text, 16).map(Self)
    }
}

impl From<Incarnation> for String {
    fn from(incarnation: Incarnation) -> String {
        incarnation.to_string()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_are_three_checked_parts() {
        let id: StreamId = "ads.web-shop.clicks".parse().unwrap();
        assert_eq!(id.parts(), ["ads", "web-shop", "clicks"]);
        for bad in ["", "a.b", "a.b.c.d", "a..c", "A.b.c", "a.b_c.d", "../a.b.c", &format!("a.b.{}", "x".repeat(33))] {
            assert!(bad.parse::<StreamId>().is_err(), "{bad:?} was taken");
        }
        for long in ["x".repeat(10_000), format!("a.b.{}", "c".repeat(10_000))] {
            let message = long.parse::<StreamId>().unwrap_err().to_string();
            assert!(message.len() < 400, "{message}");
        }
    }

    #[test]
    fn an_incarnation_survives_text() {
        let incarnation = Incarnation(0xfe);
        assert_eq!(Incarnation::try_from(String::from(incarnation)), Ok(incarnation));
    }
}
