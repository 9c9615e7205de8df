//! Frames of durable files: length, checksum, payload. One framing for the journal, positions and manifests, so that
//! torn tails and flipped bits are found in one way.
//!
//! ```text
//! 0  u32 LE  length of the payload
//! 4  u32 LE  CRC-32C of length and payload
//! 8  payload
//! ```
//!
//! A zero length is never written, so that a run of zeroes (a hole, preallocated space) is no frame.

/// Bytes before the payload.
pub const FRAME_HEADER_BYTES: usize = 8;

/// What stands at a place in a file.
#[derive(Debug, PartialEq, Eq)]
pub enum Parsed<'a> {
    /// A whole frame: its payload, and the bytes it takes in all.
    Frame(&'a [u8], usize),
    /// The bytes end before the frame does: a torn tail, or more must be read.
    Short,
    /// No frame: wrong checksum, or a length of zero or beyond `payload_bytes_max`.
    Damaged,
}

/// Appends a frame to `out`.
pub fn write(out: &mut Vec<u8>, payload: &[u8]) {
    write_parts(out, &[payload]);
}

/// Appends a frame to `out` whose payload is these parts, one behind another: nobody has to join them first.
pub fn write_parts(out: &mut Vec<u8>, parts: &[&[u8]]) {
    let bytes = parts.iter().map(|part| part.len()).sum::<usize>();
    debug_assert!(bytes > 0);
    let length = (bytes as u32).to_le_bytes();
    let checksum = parts.iter().fold(crc32c::crc32c(&length), |sum, part| crc32c::crc32c_append(sum, part));
    out.reserve(FRAME_HEADER_BYTES + bytes);
    out.extend_from_slice(&length);
    out.extend_from_slice(&checksum.to_le_bytes());
    parts.iter().for_each(|part| out.extend_from_slice(part));
}

/// Reads the frame at the start of `bytes`.
pub fn parse(bytes: &[u8], payload_bytes_max: usize) -> Parsed<'_> {
    let Some((length, rest)) = bytes.split_first_chunk::<4>() else { return Parsed::Short };
    let Some((stated, rest)) = rest.split_first_chunk::<4>() else { return Parsed::Short };
    let payload_bytes = u32::from_le_bytes(*length) as usize;
    if payload_bytes == 0 || payload_bytes > payload_bytes_max {
        return Parsed::Damaged;
    }
    match rest.get(..payload_bytes) {
        None => Parsed::Short,
        Some(payload) if checksum(*length, payload) == u32::from_le_bytes(*stated) => {
            Parsed::Frame(payload, FRAME_HEADER_BYTES + payload_bytes)
        }
        Some(_) => Parsed::Damaged,
    }
}

fn checksum(length: [u8; 4], payload: &[u8]) -> u32 {
    crc32c::crc32c_append(crc32c::crc32c(&length), payload)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn any_cut_or_flip_is_noticed(payload in proptest::collection::vec(any::<u8>(), 1..200), at: usize, bit in 0..8_u8) {
            let mut bytes = Vec::new();
            write(&mut bytes, &payload);
            prop_assert_eq!(parse(&bytes, 1000), Parsed::Frame(&payload, bytes.len()));
            let (mut joined, (before, behind)) = (Vec::new(), payload.split_at(at % payload.len()));
            write_parts(&mut joined, &[before, &[], behind]);
            prop_assert_eq!(&joined, &bytes);
            let at = at % bytes.len();
            prop_assert_eq!(parse(&bytes[..at], 1000), Parsed::Short);
            bytes[at] ^= 1 << bit;
            prop_assert!(!matches!(parse(&bytes, 1000), Parsed::Frame(..)));
        }
    }

    #[test]
    fn zeroes_are_no_frame() {
        assert_eq!(parse(&[0; 64], 1000), Parsed::Damaged);
    }
}
