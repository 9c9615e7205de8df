//! Names in a leg's folder: pure functions.
//!
//! ```text
//! _isolane/manifest-0000000007.log                       state and list of files, see manifest.rs
//! dt=2015-05-17/hour=10/part-0000000042-0.parquet        rows whose event time lies in that hour (UTC), commit 42
//! dt=2015-05-17/hour=10/.part-0000000042-0.inflight      the same before it is committed
//! _quarantine/part-0000000042-1.parquet                  records set apart by commit 42
//! ```
//!
//! Readers of Hive-style folders skip names that begin with `_` or `.`.

use chrono::{DateTime, Datelike, Timelike};

/// The folder of the manifest.
pub const META: &str = "_isolane";
/// The folder of records set apart.
pub const QUARANTINE: &str = "_quarantine";
/// What Hive and its kin call a partition whose value is no value: event times outside the years 1 to 9999.
const NO_VALUE: &str = "__HIVE_DEFAULT_PARTITION__";
const HOUR_MS: i64 = 3_600_000;

/// The hour of an event time, counted from 1970; all times outside the years 1 to 9999 share one.
pub fn hour_of(event_time_ms: i64) -> i64 {
    let hour = event_time_ms.div_euclid(HOUR_MS);
    if time_of(hour).is_some() { hour } else { i64::MAX }
}

/// The folder of an hour.
pub fn folder_of(hour: i64) -> String {
    match time_of(hour) {
        Some(time) => {
            format!("dt={:04}-{:02}-{:02}/hour={:02}", time.year(), time.month(), time.day(), time.hour())
        }
        None => format!("dt={NO_VALUE}/hour={NO_VALUE}"),
    }
}

fn time_of(hour: i64) -> Option<DateTime<chrono::Utc>> {
    let time = DateTime::from_timestamp_millis(hour.checked_mul(HOUR_MS)?)?;
    (1..=9999).contains(&time.year()).then_some(time)
}

/// A file's final name.
pub fn final_name(commit: u64, part: usize) -> String {
    format!("part-{commit:010}-{part}.parquet")
}

/// A file's name before it is committed.
pub fn inflight_name(commit: u64, part: usize) -> String {
    format!(".part-{commit:010}-{part}.inflight")
}

/// The commit that a final name bears.
pub fn commit_of(name: &str) -> Option<u64> {
    let (commit, part) = name.strip_prefix("part-")?.strip_suffix(".parquet")?.split_once('-')?;
    part.parse::<u64>().ok()?;
    commit.parse().ok()
}

/// The number of the file within its commit, which a final name bears too.
pub fn part_of(name: &str) -> Option<u64> {
    name.strip_suffix(".parquet")?.rsplit_once('-')?.1.parse().ok()
}

/// Whether a name is that of a file before its commit.
pub fn is_inflight(name: &str) -> bool {
    name.starts_with(".part-") && name.ends_with(".inflight")
}

/// The name of a manifest segment.
pub fn segment_name(number: u64) -> String {
    format!("manifest-{number:010}.log")
}

/// The number of a manifest segment.
pub fn segment_of(name: &str) -> Option<u64> {
    name.strip_prefix("manifest-")?.strip_suffix(".log")?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hours_become_folders() {
        for (event_time_ms, folder) in [
            (0, "dt=1970-01-01/hour=00"),
            (-1, "dt=1969-12-31/hour=23"),
            (1_431_857_103_000, "dt=2015-05-17/hour=10"),
            (i64::MAX, "dt=__HIVE_DEFAULT_PARTITION__/hour=__HIVE_DEFAULT_PARTITION__"),
            (i64::MIN, "dt=__HIVE_DEFAULT_PARTITION__/hour=__HIVE_DEFAULT_PARTITION__"),
        ] {
            assert_eq!(folder_of(hour_of(event_time_ms)), folder, "{event_time_ms}");
        }
    }

    #[test]
    fn names_are_read_back() {
        assert_eq!(commit_of(&final_name(42, 3)), Some(42));
        assert_eq!(segment_of(&segment_name(7)), Some(7));
        assert!(is_inflight(&inflight_name(42, 3)) && !is_inflight(&final_name(42, 3)));
        for foreign in ["part-x-1.parquet", "part-1.parquet", "other.parquet", "part-1-1.parquet.tmp"] {
            assert_eq!(commit_of(foreign), None, "{foreign}");
        }
    }
}
