//! Dates and times as text, with the rules of Flink: what is read leniently, what strictly, and how it is written.

use chrono::{Datelike, NaiveDate};

use super::types::ticks_per_second;

const DAY_SECONDS: i64 = 86_400;
/// Days from year 1 to 1970.
const EPOCH_DAYS_FROM_CE: i32 = 719_163;

/// How a timestamp is written in a text.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Style {
    /// What stands between date and time.
    pub separator: u8,
    /// Whether months, days, hours and so on may have one digit, and the time may be absent: CAST's way.
    pub lenient: bool,
    /// Whether a `Z` must follow: instants in JSON.
    pub zulu: bool,
}

/// CAST of a text.
pub const CAST: Style = Style { separator: b' ', lenient: true, zulu: false };

/// A timestamp in ticks since 1970; fraction digits beyond its type's are cut off. A day beyond its month's end means
/// that end, and 24:00:00 the next day's beginning.
pub fn timestamp(text: &str, style: Style, fraction_digits: u8) -> Option<i64> {
    let mut text = Digits(text.as_bytes());
    let year = text.number(4, 4)?;
    text.literal(b'-')?;
    let least = if style.lenient { 1 } else { 2 };
    let month = text.number(least, 2)?;
    text.literal(b'-')?;
    let day = text.number(least, 2)?;
    let (mut seconds, mut nanos) = (0, 0);
    if !(style.lenient && text.0.is_empty()) {
        text.literal(style.separator)?;
        (seconds, nanos) = text.time(least)?;
    }
    if style.zulu {
        text.literal(b'Z')?;
    }
    if !text.0.is_empty() || !(1..=31).contains(&day) || (style.lenient && year == 0) {
        return None;
    }
    let first = NaiveDate::from_ymd_opt(year as i32, month, 1)?;
    let date = first.with_day(day.min(first.num_days_in_month().into()))?;
    let seconds = i64::from(days(date)) * DAY_SECONDS + i64::from(seconds);
    let unit = 10_u32.pow(9 - u32::from(fraction_digits));
    let ticks = ticks_per_second(fraction_digits);
    Some(seconds * ticks + i64::from(nanos / unit * unit) * ticks / 1_000_000_000)
}

/// What is left of a text that is read from its beginning.
struct Digits<'a>(&'a [u8]);

impl Digits<'_> {
    fn literal(&mut self, byte: u8) -> Option<()> {
        self.0 = self.0.strip_prefix(&[byte])?;
        Some(())
    }

    fn number(&mut self, least: usize, most: usize) -> Option<u32> {
        let digits = self.0.iter().take(most).take_while(|byte| byte.is_ascii_digit()).count();
        let (number, rest) = self.0.split_at(digits);
        self.0 = rest;
        (digits >= least).then(|| number.iter().fold(0, |n, digit| n * 10 + u32::from(digit - b'0')))
    }

    /// Seconds of the day and nanoseconds.
    fn time(&mut self, least: usize) -> Option<(u32, u32)> {
        let hour = self.number(least, 2)?;
        self.literal(b':')?;
        let minute = self.number(least, 2)?;
        self.literal(b':')?;
        let second = self.number(least, 2)?;
        let mut nanos = 0;
        if self.literal(b'.').is_some() {
            let before = self.0.len();
            let fraction = self.number(0, 9)?;
            nanos = fraction * 10_u32.pow(9 - (before - self.0.len()) as u32);
        }
        let midnight = (hour, minute, second, nanos) == (24, 0, 0, 0);
        let valid = minute < 60 && second < 60 && (hour < 24 || midnight);
        valid.then_some((hour * 3_600 + minute * 60 + second, nanos))
    }
}

/// CAST of a text to DATE: `y`, `y-m` or `y-m-d`, and whatever stands behind a blank.
pub fn date(text: &str) -> Option<i32> {
    let text = match text.find(' ') {
        Some(at) if at > 0 => &text[..at],
        _ => text,
    };
    let mut parts = text.splitn(3, '-').map(|part| {
        let plain = !part.is_empty() && part.len() <= 9 && part.bytes().all(|b| b.is_ascii_digit());
        plain.then(|| part.parse::<i32>().ok()).flatten()
    });
    let mut next = || parts.next().unwrap_or(Some(1));
    let (year, month, day) = (next()?, next()?, next()?);
    let date = NaiveDate::from_ymd_opt(year, month as u32, day as u32)?;
    (year <= 9_999).then(|| days(date))
}

/// A date in JSON: ten characters, and a day that exists.
pub fn strict_date(text: &str) -> Option<i32> {
    let mut text = Digits(text.as_bytes());
    let year = text.number(4, 4)?;
    text.literal(b'-')?;
    let month = text.number(2, 2)?;
    text.literal(b'-')?;
    let day = text.number(2, 2)?;
    let date = NaiveDate::from_ymd_opt(year as i32, month, day)?;
    text.0.is_empty().then(|| days(date))
}

fn days(date: NaiveDate) -> i32 {
    date.num_days_from_ce() - EPOCH_DAYS_FROM_CE
}

/// A point in time, taken apart.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Moment {
    /// The day.
    pub date: NaiveDate,
    /// Seconds since midnight.
    pub seconds: u32,
    /// Nanoseconds of the second.
    pub nanos: u32,
}

impl Moment {
    /// The moment of a number of ticks; `None` outside the years that a calendar has.
    pub fn of_ticks(ticks: i64, fraction_digits: u8) -> Option<Self> {
        let per_second = ticks_per_second(fraction_digits);
        let seconds = ticks.div_euclid(per_second);
        let date = date_of_days(seconds.div_euclid(DAY_SECONDS).try_into().ok()?)?;
        let nanos = ticks.rem_euclid(per_second) * (1_000_000_000 / per_second);
        Some(Self { date, seconds: seconds.rem_euclid(DAY_SECONDS) as u32, nanos: nanos as u32 })
    }

    /// The moment as CAST writes it.
    pub fn show(&self, fraction_digits: u8) -> String {
        let Self { date, seconds, nanos } = self;
        let (hour, minute, second) = (seconds / 3_600, seconds / 60 % 60, seconds % 60);
        let mut text = format!("{} {hour:02}:{minute:02}:{second:02}", show_date(*date));
        if fraction_digits > 0 {
            let fraction = format!("{nanos:09}");
            text.push('.');
            text.push_str(&fraction[..usize::from(fraction_digits)]);
        }
        text
    }
}

/// The date of a number of days since 1970.
pub fn date_of_days(days: i32) -> Option<NaiveDate> {
    NaiveDate::from_num_days_from_ce_opt(days.checked_add(EPOCH_DAYS_FROM_CE)?)
}

/// A date as CAST writes it.
pub fn show_date(date: NaiveDate) -> String {
    format!("{:04}-{:02}-{:02}", date.year(), date.month(), date.day())
}

/// Days since 1970 of a timestamp. Flink rounds a TIMESTAMP before 1970 towards 1970, an instant to its day.
pub fn days_of_ticks(ticks: i64, fraction_digits: u8, instant: bool) -> i32 {
    let day = ticks_per_second(fraction_digits) * DAY_SECONDS;
    (if instant { ticks.div_euclid(day) } else { ticks / day }) as i32
}

/// The first tick of a day.
pub fn ticks_of_days(days: i32, fraction_digits: u8) -> i64 {
    i64::from(days) * DAY_SECONDS * ticks_per_second(fraction_digits)
}

/// Ticks under another number of fraction digits; digits that go away are cut off towards 1970, as Flink does.
pub fn requantize(ticks: i64, from_digits: u8, to_digits: u8) -> Option<i64> {
    let (from, to) = (ticks_per_second(from_digits), ticks_per_second(to_digits));
    let ticks = if to >= from { ticks.checked_mul(to / from)? } else { ticks / (from / to) };
    let unit = (to / 10_i64.pow(to_digits.into())).max(1);
    Some(ticks / unit * unit)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn strict_style_takes_two_digits_and_its_separator() {
        let iso = Style { separator: b'T', lenient: false, zulu: true };
        assert_eq!(timestamp("1970-01-01T00:00:01.5Z", iso, 3), Some(1_500));
        for refused in ["1970-01-01T00:00:01.5", "1970-01-01 00:00:01Z", "1970-1-01T00:00:01Z", "1970-01-01Z"] {
            assert_eq!(timestamp(refused, iso, 3), None, "{refused}");
        }
    }

    proptest! {
        #[test]
        fn timestamps_survive_their_text(ms in -62_135_596_800_000_i64..253_402_300_799_999) {
            let text = Moment::of_ticks(ms, 3).unwrap().show(3);
            prop_assert_eq!(timestamp(&text, CAST, 3), Some(ms), "{}", text);
        }

        #[test]
        fn nothing_panics_on_any_text(text in "[0-9:. TZ-]{0,30}") {
            let _ = (timestamp(&text, CAST, 6), date(&text), strict_date(&text));
        }

        #[test]
        fn nothing_panics_on_any_ticks(ticks: i64, digits in 0_u8..=6, to in 0_u8..=6) {
            let _ = (Moment::of_ticks(ticks, digits), days_of_ticks(ticks, digits, true), requantize(ticks, digits, to));
        }
    }
}
