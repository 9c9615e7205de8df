//! Walks the frames of a file's bytes and finds its feet again after damage, so that one damaged frame costs no more
//! than itself.

use stream::frame::{FRAME_HEADER_BYTES, Parsed, parse};

use super::format::{KIND_ENTRY, KIND_FOOTER, PAYLOAD_BYTES_MAX};

/// What stands in the bytes, in order.
#[derive(Debug, PartialEq, Eq)]
pub enum Found<'a> {
    /// A whole frame.
    Frame {
        /// Where it begins.
        position: usize,
        /// The bytes it takes, its head included.
        bytes: usize,
        /// What it carries.
        payload: &'a [u8],
    },
    /// No frame from here, but a whole one further on.
    Damaged {
        /// Where the damage begins.
        from: usize,
        /// Where the next whole frame begins.
        to: usize,
    },
    /// No whole frame from here to the end: a torn tail, or damage that reaches the end.
    Tail {
        /// Where it begins.
        from: usize,
    },
}

/// The frames of `bytes` from `position` on.
pub fn frames(bytes: &[u8], position: usize) -> impl Iterator<Item = Found<'_>> {
    let mut at = position;
    std::iter::from_fn(move || {
        let rest = bytes.get(at..).filter(|rest| !rest.is_empty())?;
        let position = at;
        if let Parsed::Frame(payload, taken) = parse(rest, PAYLOAD_BYTES_MAX) {
            at += taken;
            return Some(Found::Frame { position, bytes: taken, payload });
        }
        at = next_frame(bytes, position + 1).unwrap_or(bytes.len());
        Some(if at == bytes.len() { Found::Tail { from: position } } else { Found::Damaged { from: position, to: at } })
    })
}

/// Where the next whole frame begins. The kind is looked at first, so that few places cost a checksum.
fn next_frame(bytes: &[u8], from: usize) -> Option<usize> {
    let kinds = bytes.get(from + FRAME_HEADER_BYTES..)?;
    let plausible = kinds.iter().enumerate().filter(|(_, kind)| matches!(**kind, KIND_ENTRY | KIND_FOOTER));
    plausible.map(|(i, _)| from + i).find(|at| matches!(parse(&bytes[*at..], PAYLOAD_BYTES_MAX), Parsed::Frame(..)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn file(bodies: &[Vec<u8>]) -> (Vec<u8>, Vec<usize>) {
        let (mut bytes, mut starts) = (Vec::new(), Vec::new());
        for body in bodies {
            starts.push(bytes.len());
            stream::frame::write(&mut bytes, &[&[KIND_ENTRY], body.as_slice()].concat());
        }
        (bytes, starts)
    }

    proptest! {
        #[test]
        fn one_flipped_bit_costs_one_frame(
            bodies in proptest::collection::vec(proptest::collection::vec(any::<u8>(), 0..60), 2..12), at: usize, bit in 0..8_u8,
        ) {
            let (mut bytes, starts) = file(&bodies);
            let at = at % bytes.len();
            bytes[at] ^= 1 << bit;
            let hit = starts.partition_point(|start| *start <= at) - 1;
            let whole: Vec<usize> = frames(&bytes, 0)
                .filter_map(|found| match found { Found::Frame { position, .. } => Some(position), _ => None })
                .collect();
            let expected: Vec<usize> = starts.iter().enumerate().filter(|(i, _)| *i != hit).map(|(_, start)| *start).collect();
            prop_assert_eq!(whole, expected);
        }

        #[test]
        fn a_torn_tail_is_a_tail(
            bodies in proptest::collection::vec(proptest::collection::vec(any::<u8>(), 0..60), 1..12), at: usize, zeroes in 0..40_usize,
        ) {
            let (mut bytes, starts) = file(&bodies);
            let at = at % bytes.len();
            let torn = bytes.split_off(at);
            bytes.resize(at + zeroes, 0);
            // Zeroes may be just what was torn off: a frame that they make whole again is whole.
            let same = at + torn.iter().take(zeroes).take_while(|byte| **byte == 0).count();
            let whole = starts.partition_point(|start| *start <= same) - usize::from(same < at + torn.len());
            let end_of_whole = starts.get(whole).copied().unwrap_or(same);
            let found: Vec<_> = frames(&bytes, 0).collect();
            let tail = matches!(found.last(), Some(Found::Tail { from }) if *from == end_of_whole);
            prop_assert!(tail || bytes.len() == end_of_whole, "{found:?}");
            prop_assert_eq!(found.len(), whole + usize::from(tail));
        }
    }
}
