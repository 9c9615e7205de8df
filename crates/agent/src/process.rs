//! Where a record ends. A pure function of the bytes and the longest record allowed, so that the same bytes read again
//! make the same records, whatever the sizes in which they were read.
//!
//! A record is a line; its newline belongs to its range and not to its body. An over-long line is cut into pieces of
//! the longest length allowed; a piece is recognised by its range being no longer than its body: no newline was there.

/// The first record of some bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Extent {
    /// Bytes of its body, from the first byte on.
    pub body_bytes: usize,
    /// Bytes that it covers.
    pub range_bytes: usize,
}

/// The first record of `bytes`, or none if it does not end in them. No newline is looked for in the first `scanned`
/// bytes: they are known to have none.
pub fn first_record(bytes: &[u8], scanned: usize, record_bytes_max: usize) -> Option<Extent> {
    let window = bytes.len().min(record_bytes_max + 1);
    let from = scanned.min(window);
    match memchr::memchr(b'\n', &bytes[from..window]) {
        Some(at) => Some(Extent { body_bytes: from + at, range_bytes: from + at + 1 }),
        None if bytes.len() > record_bytes_max => {
            Some(Extent { body_bytes: record_bytes_max, range_bytes: record_bytes_max })
        }
        None => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// What the rule says, one byte at a time.
    fn model(bytes: &[u8], max: usize) -> Vec<(Vec<u8>, usize)> {
        let (mut records, mut body) = (Vec::new(), Vec::new());
        for byte in bytes {
            match byte {
                b'\n' => {
                    let range = body.len() + 1;
                    records.push((std::mem::take(&mut body), range));
                }
                _ if body.len() == max => {
                    records.push((std::mem::replace(&mut body, vec![*byte]), max));
                }
                byte => body.push(*byte),
            }
        }
        records
    }

    proptest! {
        #[test]
        fn records_do_not_depend_on_how_bytes_arrive(
            bytes in proptest::collection::vec(prop_oneof![Just(b'\n'), Just(b'a'), Just(0)], 0..200),
            chunks in proptest::collection::vec(1..20_usize, 1..50), max in 1..12_usize,
        ) {
            let (mut records, mut held, mut scanned) = (Vec::new(), Vec::new(), 0);
            let mut rest = &bytes[..];
            for size in chunks.iter().cycle().take(200) {
                let (chunk, after) = rest.split_at((*size).min(rest.len()));
                held.extend_from_slice(chunk);
                rest = after;
                while let Some(extent) = first_record(&held, scanned, max) {
                    records.push((held[..extent.body_bytes].to_vec(), extent.range_bytes));
                    held.drain(..extent.range_bytes);
                    scanned = 0;
                }
                scanned = held.len();
            }
            prop_assert_eq!(records, model(&bytes, max));
            prop_assert!(held.len() <= max);
        }
    }
}
