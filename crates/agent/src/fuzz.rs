//! Fuzz targets of what an agent reads from its disk. Each test is one (decision 0011): with the other tests it runs its
//! corpus in `__fuzz__` and some noise, under `cargo xtask fuzz` whatever reaches new code.

use std::path::Path;
use std::sync::Arc;

use bolero::check;
use stream::disk::{Disk, SharedDisk, SimDisk};
use stream::frame;

use crate::collect::lines::{BEFORE_BYTES, Filled, Lines};
use crate::position::Store;

/// Two slots of a state, cut at the first zero byte: as they are, or framed as a whole slot is.
#[test]
fn state() {
    let dir = Path::new("/state");
    check!(name = "state").for_each(|bytes: &[u8]| {
        let Some((how, slots)) = bytes.split_first() else { return };
        let disk = SimDisk::new();
        disk.create_dir_all(dir).expect("a new disk has room");
        for (name, slot) in ["state.a", "state.b"].into_iter().zip(slots.splitn(2, |byte| *byte == 0)) {
            let mut content = Vec::new();
            match how & 1 {
                1 if !slot.is_empty() => frame::write(&mut content, slot),
                _ => content.extend_from_slice(slot),
            }
            let mut file = disk.create(&dir.join(name)).expect("a new disk has room");
            file.append(&content).expect("a new disk has room");
        }
        let shared: SharedDisk = Arc::new(disk.clone());
        let (mut store, found) = Store::open(Arc::clone(&shared), dir).expect("a disk in memory is read");
        let mut state = found.unwrap_or_default();
        for source in state.sources.values_mut() {
            let (_version, next) = source.version_at(source.position);
            assert!(next > source.position);
            source.forget_passed_cuts();
            let _end = source.end();
        }
        store.write_through(&state).expect("a disk in memory is written");
        let (_, again) = Store::open(shared, dir).expect("a disk in memory is read");
        assert_eq!(again, Some(state));
    });
}

/// A file's bytes, read in pieces and cut into records: what is cut is what was there, whatever the pieces.
#[test]
fn lines() {
    check!(name = "lines").for_each(|bytes: &[u8]| {
        let [piece, record_bytes_max, content @ ..] = bytes else { return };
        let (piece, record_bytes_max) = (usize::from(*piece) + 1, usize::from(*record_bytes_max) + 1);
        let read_at = |at: u64, into: &mut [u8]| {
            let from = content.len().min(at as usize);
            let n = into.len().min(content.len() - from);
            into[..n].copy_from_slice(&content[from..from + n]);
            Ok(n)
        };
        let (mut lines, mut end) = (Lines::default(), 0);
        loop {
            let filled = lines.fill(piece, read_at).expect("a slice is read");
            while let Some(line) = lines.next(record_bytes_max) {
                let (from, to) = (line.start as usize, line.end as usize);
                assert_eq!(line.start, end);
                let covered = &content[from..to];
                assert_eq!(covered.strip_suffix(b"\n").unwrap_or(covered), lines.body(&line));
                assert!(line.body_bytes <= record_bytes_max && !lines.body(&line).contains(&b'\n'));
                assert_eq!(lines.before(line.end), &content[to.saturating_sub(BEFORE_BYTES)..to]);
                end = line.end;
            }
            match filled {
                Filled::Bytes(0) => break,
                Filled::Bytes(_) => {}
                Filled::Replaced => panic!("nothing was replaced"),
            }
        }
        let left = &content[end as usize..];
        assert!(left.len() <= record_bytes_max && !left.contains(&b'\n'));
        assert_eq!(lines.rest().map_or(0, |line| line.body_bytes), left.len());
        // A file that is another one from some byte on is not taken for a longer one.
        let mut other = content.to_vec();
        if let Some(byte) = other.last_mut() {
            *byte ^= 1;
            let mut seen = Lines::at(content.len() as u64, &content[content.len().saturating_sub(BEFORE_BYTES)..]);
            let read_other = |at: u64, into: &mut [u8]| {
                let n = into.len().min(other.len().saturating_sub(at as usize));
                into[..n].copy_from_slice(&other[at as usize..][..n]);
                Ok(n)
            };
            assert_eq!(seen.fill(piece, read_other).expect("a slice is read"), Filled::Replaced);
        }
    });
}
