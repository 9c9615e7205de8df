//! Functions of time: TO_TIMESTAMP_LTZ, and DATE_FORMAT with the patterns of Java's `DateTimeFormatter`. The session's
//! time zone is UTC.

use std::fmt::Write;

use chrono::Datelike;

use super::super::cursor::excerpt;
use super::super::datum::Datum;
use super::super::eval::Outcome;
use super::super::moment::Moment;
use super::super::types::SqlType;

/// Bounds of TO_TIMESTAMP_LTZ in ms: the beginning of year 0 in the Julian calendar, which Java uses there, and the end
/// of year 9999.
const INSTANT_MS: std::ops::RangeInclusive<i64> = -62_167_392_000_000..=253_402_300_799_999;

/// The instant that many seconds or milliseconds after 1970; NULL outside the years 0 to 9999.
pub fn to_timestamp_ltz(number: i64, seconds: bool) -> Datum<'static> {
    let ms = if seconds { number.checked_mul(1_000) } else { Some(number) };
    ms.filter(|ms| INSTANT_MS.contains(ms)).map_or(Datum::Null, Datum::Ticks)
}

/// A pattern of DATE_FORMAT, taken apart.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Format {
    pieces: Vec<Piece>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Piece {
    Text(String),
    Field(char, usize),
}

/// Letters that are formatted, and the most of each in a row.
const FIELDS: &[(char, usize)] = &[
    ('y', 4),
    ('u', 4),
    ('M', 4),
    ('d', 2),
    ('D', 3),
    ('E', 4),
    ('a', 1),
    ('H', 2),
    ('h', 2),
    ('k', 2),
    ('K', 2),
    ('m', 2),
    ('s', 2),
    ('S', 9),
];

impl Format {
    /// Reads a pattern.
    ///
    /// # Errors
    /// What in it is not understood.
    pub fn new(pattern: &str) -> Result<Self, String> {
        let mut pieces = Vec::new();
        let mut chars = pattern.chars().peekable();
        while let Some(c) = chars.next() {
            match c {
                '\'' if chars.next_if_eq(&'\'').is_some() => push(&mut pieces, '\''),
                '\'' => loop {
                    match chars.next() {
                        Some('\'') if chars.next_if_eq(&'\'').is_some() => push(&mut pieces, '\''),
                        Some('\'') => break,
                        Some(c) => push(&mut pieces, c),
                        None => return Err(format!("DATE_FORMAT: a quote does not end in '{}'", excerpt(pattern))),
                    }
                },
                'A'..='Z' | 'a'..='z' => {
                    let mut count = 1;
                    while chars.next_if_eq(&c).is_some() {
                        count += 1;
                    }
                    let known = FIELDS.iter().any(|(letter, most)| *letter == c && count <= *most);
                    if !known {
                        return Err(unknown(c, count, pattern));
                    }
                    pieces.push(Piece::Field(c, count));
                }
                '[' | ']' | '{' | '}' | '#' => {
                    return Err(format!("DATE_FORMAT: '{c}' in '{}' must stand in quotes", excerpt(pattern)));
                }
                c => push(&mut pieces, c),
            }
        }
        Ok(Self { pieces })
    }

    /// A timestamp as text.
    ///
    /// # Errors
    /// The time lies outside the calendar.
    pub fn show(&self, value: &Datum<'_>, ty: &SqlType) -> Outcome<'static> {
        let (SqlType::Timestamp(digits) | SqlType::TimestampLtz(digits), Datum::Ticks(ticks)) = (ty, value) else {
            return Ok(Datum::Null);
        };
        let moment =
            Moment::of_ticks(*ticks, *digits).ok_or_else(|| "DATE_FORMAT: a time outside the calendar".to_owned())?;
        let mut text = String::new();
        for piece in &self.pieces {
            match piece {
                Piece::Text(piece) => text.push_str(piece),
                Piece::Field(letter, count) => field(&mut text, *letter, *count, &moment),
            }
        }
        Ok(Datum::Text(text.into()))
    }
}

fn push(pieces: &mut Vec<Piece>, c: char) {
    match pieces.last_mut() {
        Some(Piece::Text(text)) => text.push(c),
        _ => pieces.push(Piece::Text(c.into())),
    }
}

fn unknown(letter: char, count: usize, pattern: &str) -> String {
    let field: String = std::iter::repeat_n(letter, count.min(8)).collect();
    let advice = match letter {
        'Y' | 'w' => ": weeks depend on the machine's language; for the year write yyyy",
        _ => "",
    };
    format!("DATE_FORMAT: '{field}' in '{}' is not supported{advice}", excerpt(pattern))
}

fn field(text: &mut String, letter: char, count: usize, moment: &Moment) {
    const MONTHS: [&str; 12] = [
        "January",
        "February",
        "March",
        "April",
        "May",
        "June",
        "July",
        "August",
        "September",
        "October",
        "November",
        "December",
    ];
    const DAYS: [&str; 7] = ["Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday", "Sunday"];
    let date = moment.date;
    // Year of the era: the year before 1 is 1 again.
    let year = if letter == 'u' || date.year() > 0 { date.year() } else { 1 - date.year() };
    let hour = moment.seconds / 3_600;
    let mut named = |name: &str| text.push_str(if count == 4 { name } else { &name[..3] });
    let number = match letter {
        'y' | 'u' if count == 2 => year.rem_euclid(100) as u32,
        'y' | 'u' => {
            let sign = if count == 4 && year > 9_999 { "+" } else { "" };
            let _ = write!(text, "{sign}{year:0count$}");
            return;
        }
        'M' if count > 2 => return named(MONTHS[date.month0() as usize]),
        'M' => date.month(),
        'E' => return named(DAYS[date.weekday().num_days_from_monday() as usize]),
        'a' => return text.push_str(if hour < 12 { "AM" } else { "PM" }),
        'S' => {
            let fraction = format!("{:09}", moment.nanos);
            return text.push_str(&fraction[..count]);
        }
        'd' => date.day(),
        'D' => date.ordinal(),
        'H' => hour,
        'h' => (hour + 11) % 12 + 1,
        'k' => (hour + 23) % 24 + 1,
        'K' => hour % 12,
        'm' => moment.seconds / 60 % 60,
        _ => moment.seconds % 60,
    };
    let _ = write!(text, "{number:0count$}");
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn a_pattern_is_fields_and_text() {
        let show = |pattern: &str| {
            let ms = Datum::Ticks(1_711_848_600_123);
            match Format::new(pattern)?.show(&ms, &SqlType::TimestampLtz(3))? {
                Datum::Text(text) => Ok(text.into_owned()),
                other => Err(format!("{other:?}")),
            }
        };
        assert_eq!(show("dd/MMM/yyyy:HH:mm:ss.SSS").unwrap(), "31/Mar/2024:01:30:00.123");
        assert_eq!(show("'it''s' yy D k").unwrap(), "it's 24 91 1");
        assert!(show("YYYY-MM-dd").unwrap_err().contains("yyyy"));
        assert!(show("yyyy 'x").is_err());
    }

    proptest! {
        #[test]
        fn no_pattern_and_no_time_panics(pattern in "[yuMdDEaHhkKmsSxY'.-]{0,12}", ticks: i64) {
            if let Ok(format) = Format::new(&pattern) {
                let _ = format.show(&Datum::Ticks(ticks), &SqlType::Timestamp(3));
            }
        }
    }
}
