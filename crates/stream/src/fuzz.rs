//! Fuzz targets of what this crate reads from elsewhere. Each test is one (decision 0011): with the other tests it runs its
//! corpus in `__fuzz__` and some noise, under `cargo xtask fuzz` whatever reaches new code.

use std::path::{Component, Path};

use bolero::check;
use bytes::Bytes;

use crate::config::StreamSpec;
use crate::provenance::HEADER_BYTES_MAX;
use crate::ranges::Relation;
use crate::wire::v1;
use crate::{Batch, Header, Incarnation, Range, Ranges, StreamId, TopicName};

#[test]
fn header() {
    check!(name = "header").for_each(|bytes: &[u8]| {
        let Ok(Ok(header)) = std::str::from_utf8(bytes).map(str::parse::<Header>) else { return };
        let written = header.to_string();
        assert!(written.len() <= HEADER_BYTES_MAX, "{written}");
        assert_eq!(written.parse(), Ok(header));
    });
}

#[test]
fn batch() {
    check!(name = "batch").for_each(|bytes: &[u8]| {
        let Ok(wire) = v1::Batch::from_bytes(Bytes::copy_from_slice(bytes)) else { return };
        let Ok(batch) = Batch::from_wire(wire) else { return };
        let bodies: usize = batch.views().map(|record| record.body.len()).sum();
        assert_eq!((batch.views().count(), bodies), (batch.len(), batch.body_bytes()));
        let mut end = batch.range.start;
        for record in batch.records() {
            assert!(record.range.start >= end && record.range.end <= batch.range.end);
            end = record.range.end;
        }
        assert_eq!(end, batch.range.end);
        let again = Batch::from_wire(batch.to_wire()).expect("what was checked is a batch");
        assert!(again.records().eq(batch.records()) && again.range == batch.range);
        let parts = batch.part(|record| record.body.len() as u32 % 3);
        assert_eq!(parts.values().map(Batch::len).sum::<usize>(), batch.len());
    });
}

/// A set of ranges, then another one: pairs of numbers.
#[test]
fn ranges() {
    fn set(numbers: &[u64]) -> Ranges {
        let (pairs, _) = numbers.as_chunks::<2>();
        pairs.iter().map(|[a, b]| Range::new(*a.min(b), *a.max(b))).collect()
    }
    fn is_normal(ranges: &Ranges) -> bool {
        let joined = |pair: &[Range]| pair[0].end >= pair[1].start;
        !ranges.as_slice().windows(2).any(joined) && !ranges.as_slice().iter().any(Range::is_empty)
    }
    check!(name = "ranges").for_each(|bytes: &[u8]| {
        let (numbers, _) = bytes.as_chunks::<8>();
        let numbers: Vec<u64> = numbers.iter().map(|number| u64::from_le_bytes(*number)).collect();
        let (one, other) = numbers.split_at(numbers.len() / 2);
        let (one, other) = (set(one), set(other));
        let mut both = one.clone();
        both.union(&other);
        let (left, right) = (both.difference(&one), both.difference(&other));
        assert!([&one, &other, &both, &left, &right].into_iter().all(is_normal));
        assert!(left.as_slice().iter().all(|range| one.relation(*range) == Relation::Disjoint));
        assert!(one.as_slice().iter().all(|range| both.relation(*range) == Relation::Contained));
        assert_eq!(left.total() + one.total(), both.total());
        let json = serde_json::to_string(&both).expect("numbers are JSON");
        assert_eq!(serde_json::from_str::<Ranges>(&json).expect("what was written is read"), both);
    });
}

/// A name is what it was parsed from, and stays below whatever folder it is joined to.
#[test]
fn names() {
    check!(name = "names").for_each(|bytes: &[u8]| {
        let Ok(text) = std::str::from_utf8(bytes) else { return };
        let plain = |name: &str| {
            let path = Path::new("/root").join(name);
            let parts: Vec<Component<'_>> = path.components().collect();
            assert_eq!(
                parts,
                [Component::RootDir, Component::Normal("root".as_ref()), Component::Normal(name.as_ref())]
            );
        };
        if let Ok(id) = text.parse::<StreamId>() {
            assert_eq!(id.as_str(), text);
            assert_eq!(id.parts().join("."), text);
            assert_eq!(
                TopicName::from(&id).as_str().parse::<TopicName>().map(|topic| topic.to_string()),
                Ok(text.into())
            );
            plain(text);
        }
        if let Ok(topic) = text.parse::<TopicName>() {
            assert_eq!(topic.as_str(), text);
            plain(text);
        }
        if let Ok(incarnation) = Incarnation::try_from(text.to_owned()) {
            assert_eq!(Incarnation::try_from(incarnation.to_string()), Ok(incarnation));
        }
    });
}

/// A stream's specification, as JSON (the API) or TOML (a file).
#[test]
fn spec() {
    check!(name = "spec").for_each(|bytes: &[u8]| {
        let Ok(text) = std::str::from_utf8(bytes) else { return };
        let spec = match text.trim_start().starts_with('{') {
            true => serde_json::from_str::<StreamSpec>(text).ok(),
            false => toml::from_str::<StreamSpec>(text).ok(),
        };
        let Some(spec) = spec else { return };
        let (checked, _partitions) = (spec.check(), spec.partitions());
        if let Err(problem) = checked {
            assert!(!problem.to_string().is_empty());
        }
        let json = serde_json::to_string(&spec).expect("a specification has a JSON form");
        assert_eq!(serde_json::from_str::<StreamSpec>(&json).expect("what was written is read"), spec);
    });
}
