//! A set of ordinals of one source, kept as sorted ranges that neither overlap nor touch: what a leg has taken, what a
//! sender has had acknowledged. One range is the steady state.

use serde::{Deserialize, Serialize};

use crate::provenance::Range;

/// Sorted, disjoint, non-touching, non-empty ranges.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(from = "Vec<Range>", into = "Vec<Range>")]
pub struct Ranges(Vec<Range>);

/// How a range lies to a set.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Relation {
    /// No ordinal of it is in the set.
    Disjoint,
    /// Every ordinal of it is in the set.
    Contained,
    /// Some are, some are not: two readings of one source disagree about where records end.
    Overlapping,
}

impl Ranges {
    /// How `range` lies to the set. An empty range is contained.
    pub fn relation(&self, range: Range) -> Relation {
        if range.is_empty() {
            return Relation::Contained;
        }
        let at = self.0.partition_point(|held| held.end <= range.start);
        match self.0.get(at) {
            Some(held) if held.start <= range.start && range.end <= held.end => Relation::Contained,
            Some(held) if held.start < range.end => Relation::Overlapping,
            _ => Relation::Disjoint,
        }
    }

    /// Adds `range`, joining what it overlaps or touches.
    pub fn insert(&mut self, range: Range) {
        if range.is_empty() {
            return;
        }
        let from = self.0.partition_point(|held| held.end < range.start);
        let to = self.0.partition_point(|held| held.start <= range.end);
        let joined = match self.0.get(from..to) {
            Some([first, ..]) => {
                let last = self.0[to - 1];
                Range::new(first.start.min(range.start), last.end.max(range.end))
            }
            _ => range,
        };
        self.0.splice(from..to, [joined]);
    }

    /// Adds every range of `other`: one pass over what lies among them, whatever their number.
    pub fn union(&mut self, other: &Ranges) {
        let (Some(first), Some(last)) = (other.0.first(), other.0.last()) else { return };
        let from = self.0.partition_point(|held| held.end < first.start);
        let to = self.0.partition_point(|held| held.start <= last.end);
        // Two runs in order: a stable sort merges them.
        let mut among = [&self.0[from..to], &other.0].concat();
        among.sort_by_key(|range| range.start);
        among.dedup_by(|next, before| {
            let joins = next.start <= before.end;
            if joins {
                before.end = before.end.max(next.end);
            }
            joins
        });
        self.0.splice(from..to, among);
    }

    /// What is in `self` and not in `other`.
    pub fn difference(&self, other: &Ranges) -> Ranges {
        let mut left = Vec::new();
        for range in &self.0 {
            let mut start = range.start;
            let from = other.0.partition_point(|held| held.end <= range.start);
            for held in other.0[from..].iter().take_while(|held| held.start < range.end) {
                if start < held.start {
                    left.push(Range::new(start, held.start));
                }
                start = start.max(held.end);
            }
            if start < range.end {
                left.push(Range::new(start, range.end));
            }
        }
        Ranges(left)
    }

    /// The ranges in order.
    pub fn as_slice(&self) -> &[Range] {
        &self.0
    }

    /// Ordinals in the set.
    pub fn total(&self) -> u64 {
        self.0.iter().map(Range::len).sum()
    }

    /// Whether the set is empty.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// First ordinal that is missing when counting from 0.
    pub fn contiguous_end(&self) -> u64 {
        self.0.first().filter(|range| range.start == 0).map_or(0, |range| range.end)
    }

    /// One past the last ordinal in the set.
    pub fn end(&self) -> u64 {
        self.0.last().map_or(0, |range| range.end)
    }
}

impl From<Vec<Range>> for Ranges {
    fn from(ranges: Vec<Range>) -> Self {
        ranges.into_iter().collect()
    }
}

impl From<Ranges> for Vec<Range> {
    fn from(ranges: Ranges) -> Self {
        ranges.0
    }
}

impl FromIterator<Range> for Ranges {
    fn from_iter<I: IntoIterator<Item = Range>>(ranges: I) -> Self {
        let mut set = Self::default();
        ranges.into_iter().for_each(|range| set.insert(range));
        set
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::BTreeSet;

    fn ordinals(ranges: &[(u64, u64)]) -> BTreeSet<u64> {
        ranges.iter().flat_map(|(start, length)| *start..start + length).collect()
    }

    fn set(ranges: &[(u64, u64)]) -> Ranges {
        ranges.iter().map(|(start, length)| Range::new(*start, start + length)).collect()
    }

    fn some_ranges() -> impl Strategy<Value = Vec<(u64, u64)>> {
        proptest::collection::vec((0..60_u64, 0..8_u64), 0..12)
    }

    proptest! {
        #[test]
        fn equals_a_set_of_ordinals(held in some_ranges(), other in some_ranges(), (start, length) in (0..60_u64, 1..8_u64)) {
            let (ranges, model) = (set(&held), ordinals(&held));
            prop_assert_eq!(ranges.total(), model.len() as u64);
            prop_assert!(ranges.as_slice().windows(2).all(|pair| pair[0].end < pair[1].start), "not joined: {:?}", ranges);

            let mut both = ranges.clone();
            both.union(&set(&other));
            let one_by_one = held.iter().chain(&other).copied().collect::<Vec<_>>();
            prop_assert_eq!(both, set(&one_by_one));

            let left: BTreeSet<u64> = ranges.difference(&set(&other)).as_slice().iter().flat_map(|r| r.start..r.end).collect();
            prop_assert_eq!(left, model.difference(&ordinals(&other)).copied().collect::<BTreeSet<_>>());

            let inside = (start..start + length).filter(|ordinal| model.contains(ordinal)).count() as u64;
            let expected = match inside {
                0 => Relation::Disjoint,
                all if all == length => Relation::Contained,
                _ => Relation::Overlapping,
            };
            prop_assert_eq!(ranges.relation(Range::new(start, start + length)), expected);
        }
    }
}
