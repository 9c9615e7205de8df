//! Fuzz targets of a leg's state as it is found again, and of the names that its files get. Each test is one (decision 0011):
//! with the other tests it runs its corpus in `__fuzz__` and some noise, under `cargo xtask fuzz` whatever reaches new code.

use std::path::{Component, Path};
use std::sync::Arc;

use bolero::check;
use stream::disk::{Disk, SharedDisk, SimDisk};
use stream::{Incarnation, frame};

use crate::files::{Identity, layout, manifest};
use crate::seam::Sink;
use crate::{Commit, FilesSink};

/// Frames of a manifest, cut at zero bytes: as they are, or framed as whole ones are.
#[test]
fn manifest() {
    let dir = Path::new("/out");
    check!(name = "manifest").for_each(|bytes: &[u8]| {
        let Some((how, content)) = bytes.split_first() else { return };
        let disk = SimDisk::new();
        let meta = dir.join(layout::META);
        disk.create_dir_all(&meta).expect("a new disk has room");
        let mut segment = Vec::new();
        match how & 1 {
            0 => segment.extend_from_slice(content),
            _ => content.split(|byte| *byte == 0).filter(|p| !p.is_empty()).for_each(|p| frame::write(&mut segment, p)),
        }
        let mut file = disk.create(&meta.join(layout::segment_name(1))).expect("a new disk has room");
        file.append(&segment).expect("a new disk has room");
        let Ok(read) = manifest::read(&disk, dir, 1) else { return };
        let identity =
            Identity { stream: "a.b.c".parse().expect("an id"), incarnation: Incarnation(1), leg: "files".into() };
        let commits = read.commits.len();
        let (_state, last) = read.end();
        assert!(commits == 0 || last.is_some());
        let shared: SharedDisk = Arc::new(disk);
        let mut sink = FilesSink::new(Arc::clone(&shared), dir.to_owned(), identity.clone());
        let Ok(recovered) = sink.recover() else { return };
        let next = Commit { positions: recovered.positions.clone(), ..Commit::default() };
        if recovered.commit < u64::MAX && sink.commit(&next).is_ok() {
            let mut again = FilesSink::new(shared, dir.to_owned(), identity);
            assert_eq!(again.recover().expect("it was recovered a moment ago").commit, recovered.commit + 1);
        }
    });
}

/// An event time's folder lies two levels below the leg's, and says the hour; a name says its commit.
#[test]
fn names() {
    check!(name = "names").for_each(|bytes: &[u8]| {
        let Some((time, text)) = bytes.split_first_chunk::<8>() else { return };
        let hour = layout::hour_of(i64::from_le_bytes(*time));
        let folder = layout::folder_of(hour);
        let path = Path::new("/root").join(&folder);
        let below: Vec<Component<'_>> = path.components().skip(2).collect();
        assert!(below.len() == 2 && below.iter().all(|part| matches!(part, Component::Normal(_))), "{folder}");
        let stated = folder.split(['=', '-', '/']).filter_map(|part| part.parse::<i64>().ok()).collect::<Vec<_>>();
        match stated[..] {
            [year, month, day, of_day] => {
                let date = chrono::NaiveDate::from_ymd_opt(year as i32, month as u32, day as u32).expect("a date");
                assert_eq!(date.signed_duration_since(chrono::NaiveDate::default()).num_hours() + of_day, hour);
            }
            _ => assert!(hour == i64::MAX && stated.is_empty(), "{folder}"),
        }
        let number = u64::from_le_bytes(*time);
        let name = layout::final_name(number, text.len());
        assert_eq!((layout::commit_of(&name), layout::part_of(&name)), (Some(number), Some(text.len() as u64)));
        assert_eq!(layout::segment_of(&layout::segment_name(number)), Some(number));
        let foreign = String::from_utf8_lossy(text);
        let _either = (layout::commit_of(&foreign), layout::segment_of(&foreign), layout::is_inflight(&foreign));
    });
}

/// Records of a state topic: key, headers and value between zero bytes, then the next record.
#[cfg(feature = "kafka")]
#[test]
fn kafka_state() {
    use crate::kafka::state::Folded;
    use kafka::batch::Record;

    check!(name = "kafka_state").for_each(|bytes: &[u8]| {
        let parts: Vec<bytes::Bytes> = bytes.split(|byte| *byte == 0).map(bytes::Bytes::copy_from_slice).collect();
        let mut folded = Folded::default();
        for (offset, record) in (0..).zip(parts.chunks_exact(4)) {
            let [key, commit, other, value] = record else { continue };
            let name = if key.contains(&b's') { "pieces" } else { "base" };
            let headers = vec![("commit".into(), commit.clone()), (name.into(), other.clone())];
            folded.add(
                "leg",
                &Record { offset, time_ms: 0, key: Some(key.clone()), value: Some(value.clone()), headers },
            );
        }
        let Ok((state, mut book)) = folded.finish() else { return };
        let mut next = state.clone();
        let commit = Commit::default();
        next.apply(state.commit.saturating_add(1), &commit);
        assert!(!book.records("leg", &next, &commit).is_empty());
    });
}
