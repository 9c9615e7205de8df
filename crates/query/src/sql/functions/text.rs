//! Functions of text. Positions and lengths count code points, as in Flink.

use stream::limits::RECORD_BYTES_MAX;

use super::super::datum::Datum;

/// `text` without the characters of `what` at its ends.
pub fn trim<'a>(text: &'a str, what: &str, leading: bool, trailing: bool) -> &'a str {
    let text = if leading { text.trim_start_matches(|c| what.contains(c)) } else { text };
    if trailing { text.trim_end_matches(|c| what.contains(c)) } else { text }
}

/// The characters from `start` (1 is the first, -1 the last, 0 is taken for 1), at most `length` of them. `None` for a
/// negative length.
pub fn substring(text: &str, start: i64, length: Option<i64>) -> Option<&str> {
    let length = match length {
        Some(length) => usize::try_from(length).ok()?,
        None => usize::MAX,
    };
    let skipped = match start {
        1.. => start as u64 - 1,
        0 => 0,
        _ => match (text.chars().count() as u64).checked_sub(start.unsigned_abs()) {
            Some(skipped) => skipped,
            None => return Some(""),
        },
    };
    let end = |text: &str, chars: usize| text.char_indices().nth(chars).map_or(text.len(), |(at, _)| at);
    let rest = &text[end(text, skipped as usize)..];
    Some(&rest[..end(rest, length)])
}

/// All parts in a row.
///
/// # Errors
/// The text would be longer than a record may be.
pub fn concat(parts: &[&str]) -> Result<String, String> {
    let bytes: usize = parts.iter().map(|part| part.len()).sum();
    if bytes > RECORD_BYTES_MAX {
        return Err(format!("CONCAT: a text of {bytes} bytes, more than {RECORD_BYTES_MAX}"));
    }
    Ok(parts.concat())
}

/// The part at `index` (from 0) between separators: a text, or the code of a character. An empty separator stands for
/// any white space.
pub fn split_index<'a>(text: &'a str, separator: &Datum<'_>, index: i64) -> Option<&'a str> {
    let index = usize::try_from(index).ok()?;
    match separator {
        _ if text.is_empty() => None,
        Datum::Text(separator) if separator.is_empty() => text.split(char::is_whitespace).nth(index),
        Datum::Text(separator) => text.split(separator.as_ref()).nth(index),
        Datum::Int(code @ 1..=255) => text.split(char::from(*code as u8)).nth(index),
        _ => None,
    }
}

/// A LIKE pattern: `%` stands for any text, `_` for one character.
#[derive(Clone, Debug)]
pub struct Like {
    pieces: Vec<Piece>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Piece {
    Any,
    One,
    Char(char),
}

impl Like {
    /// Reads a pattern.
    ///
    /// # Errors
    /// The escape character stands before something that needs none.
    pub fn new(pattern: &str, escape: Option<char>) -> Result<Self, String> {
        let mut pieces: Vec<Piece> = Vec::new();
        let mut chars = pattern.chars();
        while let Some(c) = chars.next() {
            let piece = match c {
                _ if Some(c) == escape => match chars.next() {
                    Some(next) if matches!(next, '%' | '_') || Some(next) == escape => Piece::Char(next),
                    _ => return Err(format!("'{c}' escapes nothing in the pattern '{pattern}'")),
                },
                '%' if pieces.last() == Some(&Piece::Any) => continue,
                '%' => Piece::Any,
                '_' => Piece::One,
                c => Piece::Char(c),
            };
            pieces.push(piece);
        }
        Ok(Self { pieces })
    }

    /// Whether the whole text matches. Goes back to the last `%` only, so the work is at most text times pattern.
    pub fn matches(&self, text: &str) -> bool {
        let (mut rest, mut piece) = (text.chars(), 0);
        let mut retry: Option<(std::str::Chars<'_>, usize)> = None;
        loop {
            let before = rest.clone();
            let next = rest.next();
            match (self.pieces.get(piece), next) {
                (Some(Piece::Any), _) => {
                    piece += 1;
                    retry = Some((before.clone(), piece));
                    rest = before;
                }
                (None, None) => return true,
                (Some(Piece::One), Some(_)) => piece += 1,
                (Some(Piece::Char(wanted)), Some(c)) if c == *wanted => piece += 1,
                _ => {
                    let Some((from, after)) = &mut retry else { return false };
                    if from.next().is_none() {
                        return false;
                    }
                    (rest, piece) = (from.clone(), *after);
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn an_escaped_wildcard_is_itself() {
        let like = Like::new("100!%_", Some('!')).unwrap();
        assert!(like.matches("100%x"));
        assert!(!like.matches("1000x"));
        assert!(Like::new("a!b", Some('!')).is_err());
    }

    proptest! {
        #[test]
        fn like_agrees_with_a_regular_expression(text in "[ab]{0,8}", pattern in "[ab_%]{0,6}") {
            let regex = format!("^{}$", pattern.replace('%', ".*").replace('_', "."));
            let expected = regex::Regex::new(&regex).unwrap().is_match(&text);
            prop_assert_eq!(Like::new(&pattern, None).unwrap().matches(&text), expected, "{} like {}", text, pattern);
        }

        #[test]
        fn substring_never_panics(text in "\\PC{0,8}", start: i64, length: Option<i64>) {
            let _ = substring(&text, start, length);
            let _ = substring(&text, start % 10, length.map(|length| length % 10));
        }
    }
}
