//! Provenance: a record is identified by `(source, range)`, a pure function of the place it was read from.
//!
//! It travels as one ASCII header `il` of at most [`HEADER_BYTES_MAX`] bytes, readable with plain tools:
//!
//! ```text
//! <kind><source>.<start>.<length>.<lap>[.<event time>]
//! e01a2b3c4d5e6f708192a3b4c.1f4.64.0.1795420800000
//! kind        one letter, see Kind
//! source      24 hex digits: 7 of birth (minutes since 1970), 17 of hash
//! start       first ordinal of the range        (hex)
//! length      ordinals covered                  (hex)
//! lap         times pressed back, 0 = first     (one hex digit)
//! event time  ms since 1970, where one is stated (decimal: SQL can turn that into a time, but not hex)
//! ```

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use crate::batch::Kind;

/// Name of the header that carries provenance.
pub const HEADER_NAME: &str = "il";
/// Longest header. The parts' bounds below keep every header within it.
pub const HEADER_BYTES_MAX: usize = 64;
/// First ordinal that a source may not reach: 256 TiB of decompressed bytes.
pub const ORDINAL_MAX: u64 = 1 << 48;
/// How often a record can be pressed back.
pub const LAP_MAX: u8 = 15;
/// Latest and, negated, earliest event time in ms since 1970: the year 2286.
pub const EVENT_TIME_MS_MAX: i64 = 9_999_999_999_999;

/// Room for a header's text even if a part of it is beyond its bound.
const TEXT_BYTES: usize = 80;
const BIRTH_DIGITS: usize = 7;
const SOURCE_DIGITS: usize = 24;
const BIRTH_MASK: u32 = (1 << (4 * BIRTH_DIGITS)) - 1;

/// Something replayable that one collector reads for one stream. Its first 28 bits are its birth in minutes since
/// 1970, the other 68 a hash of what makes it itself (see [`SourceId::derive`]).
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct SourceId([u8; 12]);

impl SourceId {
    /// The id of the source born at `birth_minutes` and made itself by `parts`: each part is hashed with its length,
    /// so that no two lists of parts run into one another.
    pub fn derive(birth_minutes: u32, parts: &[&[u8]]) -> Self {
        let mut hasher = blake3::Hasher::new();
        for part in parts {
            hasher.update(&(part.len() as u64).to_le_bytes());
            hasher.update(part);
        }
        let mut id = [0; 12];
        hasher.finalize_xof().fill(&mut id);
        let birth = (birth_minutes & BIRTH_MASK) << 4 | u32::from(id[3] & 0x0f);
        id[..4].copy_from_slice(&birth.to_be_bytes());
        Self(id)
    }

    /// Birth in minutes since 1970.
    pub fn birth_minutes(&self) -> u32 {
        u32::from_be_bytes([self.0[0], self.0[1], self.0[2], self.0[3]]) >> 4
    }

    /// The 12 bytes that travel in a batch.
    pub fn as_bytes(&self) -> &[u8; 12] {
        &self.0
    }

    /// The source named by `bytes`, if there are twelve of them.
    pub fn from_bytes(bytes: &[u8]) -> Option<Self> {
        bytes.try_into().ok().map(Self)
    }
}

impl fmt::Display for SourceId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut text = Text::default();
        text.put_source(*self);
        f.write_str(text.as_str())
    }
}

impl fmt::Debug for SourceId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl FromStr for SourceId {
    type Err = HeaderError;

    fn from_str(text: &str) -> Result<Self, HeaderError> {
        let bad = || HeaderError { text: text.to_owned(), what: "source is not 24 hex digits" };
        let mut id = [0; 12];
        let (digits, rest) = text.as_bytes().as_chunks::<2>();
        if digits.len() != id.len() || !rest.is_empty() {
            return Err(bad());
        }
        for (byte, [high, low]) in id.iter_mut().zip(digits) {
            *byte = digit(*high).zip(digit(*low)).map(|(high, low)| high << 4 | low).ok_or_else(bad)?;
        }
        Ok(Self(id))
    }
}

impl TryFrom<String> for SourceId {
    type Error = HeaderError;
    fn try_from(text: String) -> Result<Self, HeaderError> {
        text.parse()
    }
}

impl From<SourceId> for String {
    fn from(id: SourceId) -> String {
        id.to_string()
    }
}

/// Ordinals `[start, end)` of a source; decompressed bytes for files and spools.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(from = "(u64, u64)", into = "(u64, u64)")]
pub struct Range {
    /// First ordinal covered.
    pub start: u64,
    /// First ordinal not covered.
    pub end: u64,
}

impl Range {
    /// `[start, end)`.
    pub fn new(start: u64, end: u64) -> Self {
        debug_assert!(start <= end);
        Self { start, end }
    }

    /// Ordinals covered.
    pub fn len(&self) -> u64 {
        self.end - self.start
    }

    /// Whether nothing is covered.
    pub fn is_empty(&self) -> bool {
        self.start == self.end
    }
}

impl From<(u64, u64)> for Range {
    fn from((start, end): (u64, u64)) -> Self {
        Self { start, end: end.max(start) }
    }
}

impl From<Range> for (u64, u64) {
    fn from(range: Range) -> Self {
        (range.start, range.end)
    }
}

/// The header `il`: a record's provenance as it travels beside the record's own bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Header {
    /// What the record is.
    pub kind: Kind,
    /// Where it was read.
    pub source: SourceId,
    /// Which part of the source it is.
    pub range: Range,
    /// How often it was pressed back, at most [`LAP_MAX`].
    pub lap: u8,
    /// Event time in ms since 1970, where a protocol or producer states one; within [`EVENT_TIME_MS_MAX`].
    pub event_time_ms: Option<i64>,
}

/// A header that is none.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("provenance header {text:?}: {what}")]
pub struct HeaderError {
    text: String,
    what: &'static str,
}

/// A header's text, in place. A formatter's calls for its parts were a tenth of a Kafka leg's CPU.
#[derive(Clone, Copy, Debug)]
pub struct Text {
    bytes: [u8; TEXT_BYTES],
    length: usize,
}

impl Default for Text {
    fn default() -> Self {
        Self { bytes: [0; TEXT_BYTES], length: 0 }
    }
}

impl Text {
    /// Its bytes.
    pub fn as_bytes(&self) -> &[u8] {
        &self.bytes[..self.length]
    }

    /// Its text.
    pub fn as_str(&self) -> &str {
        // Only ASCII is put in.
        str::from_utf8(self.as_bytes()).unwrap_or_default()
    }

    fn put(&mut self, byte: u8) {
        self.bytes[self.length] = byte;
        self.length += 1;
    }

    fn put_digit(&mut self, digit: u8) {
        self.put(b"0123456789abcdef"[usize::from(digit)]);
    }

    fn put_source(&mut self, source: SourceId) {
        source.0.into_iter().flat_map(|byte| [byte >> 4, byte & 0xf]).for_each(|digit| self.put_digit(digit));
    }

    /// `number` in base `base`, at most 16, without leading zeros.
    fn put_number(&mut self, number: u64, base: u64) {
        let (mut digits, mut left, mut count) = ([0; 20], number, 0);
        while left > 0 || count == 0 {
            digits[count] = (left % base) as u8;
            (left, count) = (left / base, count + 1);
        }
        digits[..count].iter().rev().for_each(|digit| self.put_digit(*digit));
    }
}

impl Header {
    /// The header as it travels.
    pub fn text(&self) -> Text {
        let Self { kind, source, range, lap, event_time_ms } = self;
        let mut text = Text::default();
        text.put(kind.letter());
        text.put_source(*source);
        for number in [range.start, range.len(), u64::from(*lap)] {
            text.put(b'.');
            text.put_number(number, 16);
        }
        if let Some(ms) = event_time_ms.map(|ms| ms.clamp(-EVENT_TIME_MS_MAX, EVENT_TIME_MS_MAX)) {
            text.put(b'.');
            if ms < 0 {
                text.put(b'-');
            }
            text.put_number(ms.unsigned_abs(), 10);
        }
        text
    }
}

impl fmt::Display for Header {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.text().as_str())
    }
}

impl FromStr for Header {
    type Err = HeaderError;

    fn from_str(text: &str) -> Result<Self, HeaderError> {
        let bad = |what| HeaderError { text: text.chars().take(HEADER_BYTES_MAX).collect(), what };
        if text.len() > HEADER_BYTES_MAX || !text.is_ascii() || text.is_empty() {
            return Err(bad("must be 1 to 64 ASCII characters"));
        }
        let kind = Kind::from_letter(text.as_bytes()[0]).ok_or_else(|| bad("unknown kind"))?;
        let (source, rest) = text[1..].split_at_checked(SOURCE_DIGITS).ok_or_else(|| bad("no source"))?;
        let source = source.parse()?;
        let mut rest = rest.as_bytes();
        let mut number = |what, max| next_hex(&mut rest).filter(|number| *number <= max).ok_or_else(|| bad(what));
        let start = number("bad start", ORDINAL_MAX - 1)?;
        let length = number("bad length", u64::from(u32::MAX))?;
        let lap = number("bad lap", u64::from(LAP_MAX))? as u8;
        let event_time_ms = match rest {
            [] => None,
            [b'.', time @ ..] => Some(event_time(time).ok_or_else(|| bad("bad event time"))?),
            _ => return Err(bad("too many parts")),
        };
        Ok(Self { kind, source, range: Range::new(start, start + length), lap, event_time_ms })
    }
}

/// The number behind the dot that `rest` begins with, and `rest` behind it. Without sign or blanks.
fn next_hex(rest: &mut &[u8]) -> Option<u64> {
    let [b'.', text @ ..] = *rest else { return None };
    let length = text.iter().position(|byte| *byte == b'.').unwrap_or(text.len());
    let (digits, behind) = text.split_at(length);
    *rest = behind;
    let add = |number: u64, byte: &u8| Some(number << 4 | u64::from(digit(*byte)?));
    (1..=16).contains(&length).then(|| digits.iter().try_fold(0, add)).flatten()
}

fn digit(byte: u8) -> Option<u8> {
    match byte {
        b'0'..=b'9' => Some(byte - b'0'),
        b'a'..=b'f' => Some(byte - b'a' + 10),
        b'A'..=b'F' => Some(byte - b'A' + 10),
        _ => None,
    }
}

/// A decimal number with an optional '-', within the bounds of event times.
fn event_time(text: &[u8]) -> Option<i64> {
    let digits = text.strip_prefix(b"-").unwrap_or(text);
    let plain = !digits.is_empty() && digits.iter().all(u8::is_ascii_digit);
    plain.then(|| str::from_utf8(text).ok()?.parse().ok()).flatten().filter(|ms: &i64| ms.abs() <= EVENT_TIME_MS_MAX)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn a_source_keeps_its_birth() {
        let id = SourceId::derive(29_900_123, &[b"agent", b"inode"]);
        assert_eq!(id.birth_minutes(), 29_900_123);
        assert_ne!(id, SourceId::derive(29_900_123, &[b"agenti", b"node"]), "parts must not run together");
        assert_eq!(id.to_string().parse(), Ok(id));
    }

    #[test]
    fn foreign_headers_are_refused() {
        for bad in [
            "",
            "e",
            "x01a2b3c4d5e6f708192a3b4c.1.2.0",
            "e01a2b3c4d5e6f708192a3b4c.1.2",
            "e.1.2.0",
            "e01a2b3c4d5e6f708192a3b4c.+1.2.0",
            "e01a2b3c4d5e6f708192a3b4c.1.2.0.1.1",
            "e01a2b3c4d5e6f708192a3b4c.1.2.10",
            "e01a2b3c4d5e6f708192a3b4c.1.2.0.1f",
            "e01a2b3c4d5e6f708192a3b4c1.2.0.1",
            "e01a2b3c4d5e6f708192a3b4c..2.0",
            "e01a2b3c4d5e6f708192a3b4c.1.2.0.",
            "e01a2b3c4d5e6f708192a3b4c.10000000000000001.2.0",
        ] {
            assert!(bad.parse::<Header>().is_err(), "{bad:?} was taken");
        }
    }

    #[test]
    fn numbers_beyond_their_bounds_find_room() {
        let range = Range { start: u64::MAX - 1, end: u64::MAX };
        let source = SourceId::derive(1, &[]);
        let header = Header { kind: Kind::Event, source, range, lap: u8::MAX, event_time_ms: Some(i64::MIN) };
        assert_eq!(header.to_string(), format!("e{source}.fffffffffffffffe.1.ff.-{EVENT_TIME_MS_MAX}"));
        let range = Range { start: 0, end: u64::MAX };
        assert_eq!(
            Header { range, lap: 0, event_time_ms: None, ..header }.to_string(),
            format!("e{source}.0.{:x}.0", u64::MAX)
        );
    }

    proptest! {
        #[test]
        fn headers_survive_text_within_their_bound(
            start in 0..ORDINAL_MAX, length in 0..=u64::from(u32::MAX), lap in 0..=LAP_MAX,
            time in proptest::option::of(-EVENT_TIME_MS_MAX..=EVENT_TIME_MS_MAX), birth in 0..BIRTH_MASK,
        ) {
            let header = Header {
                kind: Kind::Event, source: SourceId::derive(birth, &[]), lap, event_time_ms: time,
                range: Range::new(start, start + length),
            };
            let text = header.to_string();
            prop_assert!(text.len() <= HEADER_BYTES_MAX, "{} bytes: {text}", text.len());
            prop_assert_eq!(text.parse(), Ok(header));
        }
    }
}
