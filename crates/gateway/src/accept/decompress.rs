//! Reads a body, decompressing it as it comes: at most one layer of gzip or zstd, cut at the limit of what comes out.
//! What has come out is charged to the stream's budget while it grows, so that a bomb costs its sender's stream no more
//! than a body at the limit, and nobody else anything.

use std::io::{self, Write};

use axum::http::{HeaderMap, header};
use bytes::Bytes;
use flate2::write::MultiGzDecoder;
use stream::limits::BATCH_BYTES_MAX;
use stream::wire::{Refusal, RefusalReason};
use zstd::stream::raw::{DParameter, Decoder as ZstdDecoder, InBuffer, Operation, OutBuffer};

use crate::accept::answer::Refused;
use crate::budget::Permit;

/// Bytes before decompression: a body at the limit that does not compress at all, and room for its framing. Without
/// this bound a body of empty gzip members would never end.
const ENCODED_BYTES_MAX: usize = BATCH_BYTES_MAX + BATCH_BYTES_MAX / 16;
/// Largest zstd window, as its power of two: the 8 MiB that every decoder is asked to support.
const ZSTD_WINDOW_LOG_MAX: u32 = 23;
/// What is taken at a time of gzip, which may become a thousand times as much, and slowly; and of zstd, where what
/// becomes much is quick.
const GZIP_PIECE_BYTES: usize = 256;
const ZSTD_PIECE_BYTES: usize = 16 * 1024;
/// Bytes that come out of zstd in one step.
const STEP_BYTES: usize = 32 * 1024;

/// How a body travels.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Encoding {
    /// As it is.
    Identity,
    /// gzip, one or more members.
    Gzip,
    /// zstd, one or more frames.
    Zstd,
}

/// The encoding that `headers` state. More than one layer is refused.
pub fn encoding(headers: &HeaderMap) -> Result<Encoding, Refused> {
    let mut stated = headers.get_all(header::CONTENT_ENCODING).iter();
    let (first, second) = (stated.next(), stated.next());
    match (first.map(|value| value.to_str().unwrap_or("?").trim().to_ascii_lowercase()), second) {
        (None, _) => Ok(Encoding::Identity),
        (Some(name), None) if name == "identity" => Ok(Encoding::Identity),
        (Some(name), None) if name == "gzip" || name == "x-gzip" => Ok(Encoding::Gzip),
        (Some(name), None) if name == "zstd" => Ok(Encoding::Zstd),
        (Some(name), _) => {
            Err(Refused::UnknownEncoding(format!("content encoding {name:?}: use one of identity, gzip, zstd")))
        }
    }
}

/// A body that is being read.
pub struct Unpacker {
    layer: Layer,
    encoded_bytes: usize,
}

enum Layer {
    Identity(Sink),
    Gzip(Box<MultiGzDecoder<Sink>>),
    Zstd(Box<Zstd>),
}

struct Zstd {
    decoder: ZstdDecoder<'static>,
    sink: Sink,
    frame_ended: bool,
}

impl Unpacker {
    /// Reads a body that comes in `encoding`, charging `permit`.
    pub fn new(encoding: Encoding, permit: Permit) -> Result<Self, Refusal> {
        let sink = Sink { whole: None, bytes: Vec::new(), permit, refusal: None };
        let layer = match encoding {
            Encoding::Identity => Layer::Identity(sink),
            Encoding::Gzip => Layer::Gzip(Box::new(MultiGzDecoder::new(sink))),
            Encoding::Zstd => {
                let decoder = ZstdDecoder::new().and_then(|mut decoder| {
                    decoder.set_parameter(DParameter::WindowLogMax(ZSTD_WINDOW_LOG_MAX))?;
                    Ok(decoder)
                });
                let decoder = decoder.map_err(|error| malformed(&error))?;
                Layer::Zstd(Box::new(Zstd { decoder, sink, frame_ended: true }))
            }
        };
        Ok(Self { layer, encoded_bytes: 0 })
    }

    /// How much to take at a time, so that no time is longer than some 300 µs.
    pub fn piece_bytes_max(&self) -> usize {
        match self.layer {
            Layer::Identity(_) => usize::MAX,
            Layer::Gzip(_) => GZIP_PIECE_BYTES,
            Layer::Zstd(_) => ZSTD_PIECE_BYTES,
        }
    }

    /// Bytes that went in or came out so far, whichever are more.
    pub fn worked_bytes(&mut self) -> usize {
        self.encoded_bytes.max(self.sink().bytes.len())
    }

    /// [`Unpacker::feed`], to be done elsewhere.
    pub fn fed(mut self, piece: Bytes) -> (Self, Result<(), Refusal>) {
        let fed = self.feed(piece);
        (self, fed)
    }

    /// Takes the next bytes of the body.
    pub fn feed(&mut self, chunk: Bytes) -> Result<(), Refusal> {
        if chunk.is_empty() {
            // HTTP/2 may end a body with one. A decoder that is asked on between two frames wants the next.
            return Ok(());
        }
        self.encoded_bytes += chunk.len();
        if self.encoded_bytes > ENCODED_BYTES_MAX {
            return Err(too_large());
        }
        let fed = match &mut self.layer {
            Layer::Identity(sink) => sink.take(chunk),
            Layer::Gzip(decoder) => decoder.write_all(&chunk),
            Layer::Zstd(zstd) => zstd.feed(&chunk),
        };
        fed.map_err(|error| self.sink().refusal.take().unwrap_or_else(|| malformed(&error)))
    }

    /// The whole body, and the permit that holds it. An encoded body that ends early is malformed.
    pub fn finish(mut self) -> Result<(Bytes, Permit), Refusal> {
        let ended = match &mut self.layer {
            Layer::Identity(_) => Ok(()),
            Layer::Gzip(decoder) => decoder.try_finish(),
            Layer::Zstd(zstd) if zstd.frame_ended => Ok(()),
            Layer::Zstd(_) => Err(io::ErrorKind::UnexpectedEof.into()),
        };
        ended.map_err(|error| self.sink().refusal.take().unwrap_or_else(|| malformed(&error)))?;
        let sink = match self.layer {
            Layer::Identity(sink) => sink,
            Layer::Gzip(decoder) => decoder.finish().map_err(|error| malformed(&error))?,
            Layer::Zstd(zstd) => zstd.sink,
        };
        let body = sink.whole.unwrap_or_else(|| sink.bytes.into_boxed_slice().into());
        Ok((body, sink.permit))
    }

    fn sink(&mut self) -> &mut Sink {
        match &mut self.layer {
            Layer::Identity(sink) => sink,
            Layer::Gzip(decoder) => decoder.get_mut(),
            Layer::Zstd(zstd) => &mut zstd.sink,
        }
    }
}

impl Zstd {
    fn feed(&mut self, chunk: &[u8]) -> io::Result<()> {
        let mut input = InBuffer::around(chunk);
        let mut step = vec![0; STEP_BYTES];
        loop {
            let mut output = OutBuffer::around(step.as_mut_slice());
            let hint = self.decoder.run(&mut input, &mut output)?;
            let (written, full) = (output.pos(), output.pos() == STEP_BYTES);
            self.frame_ended = hint == 0;
            self.sink.write_all(&step[..written])?;
            if input.pos() == chunk.len() && !full {
                return Ok(());
            }
        }
    }
}

/// What has come out so far, within the limit and the budget.
struct Sink {
    /// A body that came in one piece: most do, and need no copy.
    whole: Option<Bytes>,
    bytes: Vec<u8>,
    permit: Permit,
    refusal: Option<Refusal>,
}

impl Write for Sink {
    fn write(&mut self, more: &[u8]) -> io::Result<usize> {
        let needed = self.bytes.len() + more.len();
        let charged = if needed > BATCH_BYTES_MAX { Err(too_large()) } else { self.make_room(needed) };
        if let Err(refusal) = charged {
            self.refusal = Some(refusal);
            return Err(io::ErrorKind::OutOfMemory.into());
        }
        self.bytes.extend_from_slice(more);
        Ok(more.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Sink {
    /// Takes a piece as it is. Only a whole body is kept where it came: a part would hold its connection's buffer for as
    /// long as the rest takes.
    fn take(&mut self, piece: Bytes) -> io::Result<()> {
        if let Some(whole) = self.whole.take() {
            self.write_all(&whole)?;
        }
        let is_whole = self.bytes.is_empty() && piece.len() == self.permit.bytes() && piece.len() <= BATCH_BYTES_MAX;
        if !is_whole {
            return self.write_all(&piece);
        }
        self.whole = Some(piece);
        Ok(())
    }

    /// Doubles the buffer, charged before it grows. What is charged at first is the stated length: a buffer of that size
    /// need not grow.
    fn make_room(&mut self, needed: usize) -> Result<(), Refusal> {
        if needed > self.bytes.capacity() {
            let room = needed.max(2 * self.bytes.capacity()).max(self.permit.bytes()).min(BATCH_BYTES_MAX);
            self.permit.grow(room)?;
            self.bytes.reserve_exact(room - self.bytes.len());
        }
        Ok(())
    }
}

/// The refusal of a body over the limit.
pub fn too_large() -> Refusal {
    let message = format!("the body is longer than {BATCH_BYTES_MAX} bytes; send less at a time");
    Refusal::new(RefusalReason::TooLarge, "request", message)
}

fn malformed(error: &io::Error) -> Refusal {
    let message = format!("the body is not in its content encoding, or ends early: {error}");
    Refusal::new(RefusalReason::Malformed, "request", message)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::budget::Budget;
    use flate2::Compression;
    use flate2::write::GzEncoder;
    use std::sync::Arc;

    fn budget() -> Arc<Budget> {
        let budget = Budget::new(1 << 30, 1 << 30);
        budget.open(1, "stream".into(), 4 * BATCH_BYTES_MAX);
        budget
    }

    fn gzip(body: &[u8]) -> Vec<u8> {
        let mut encoder = GzEncoder::new(Vec::new(), Compression::best());
        encoder.write_all(body).unwrap();
        encoder.finish().unwrap()
    }

    fn zstandard(body: &[u8]) -> Vec<u8> {
        zstd::encode_all(body, 3).unwrap()
    }

    fn unpack(encoding: Encoding, body: &[u8], chunk: usize) -> Result<Bytes, RefusalReason> {
        unpack_chunks(encoding, 0, &body.chunks(chunk).collect::<Vec<_>>())
    }

    fn unpack_chunks(encoding: Encoding, stated_bytes: usize, chunks: &[&[u8]]) -> Result<Bytes, RefusalReason> {
        let budget = budget();
        let mut unpacker = Unpacker::new(encoding, budget.reserve(1, stated_bytes).unwrap()).unwrap();
        let mut fed = chunks.iter().try_for_each(|chunk| {
            let fed = unpacker.feed(Bytes::copy_from_slice(chunk));
            assert!(budget.held(1) <= BATCH_BYTES_MAX, "memory is not flat: {} bytes", budget.held(1));
            fed
        });
        let done = fed.and_then(|()| unpacker.finish());
        fed = done.as_ref().map(|_| ()).map_err(Clone::clone);
        fed.map_err(|refusal| refusal.reason)?;
        Ok(done.unwrap().0)
    }

    #[test]
    fn bodies_come_out_as_they_went_in() {
        let body: Vec<u8> = (0..200_000_u32).flat_map(|i| i.to_string().into_bytes()).take(300_000).collect();
        let two_members = [gzip(&body[..10]), gzip(&body[10..])].concat();
        let two_frames = [zstandard(&body[..10]), zstandard(&body[10..])].concat();
        for chunk in [1_000, 7, 1 << 20] {
            assert_eq!(unpack(Encoding::Identity, &body, chunk).unwrap(), body);
            assert_eq!(unpack(Encoding::Gzip, &gzip(&body), chunk).unwrap(), body);
            assert_eq!(unpack(Encoding::Gzip, &two_members, chunk).unwrap(), body);
            assert_eq!(unpack(Encoding::Zstd, &zstandard(&body), chunk).unwrap(), body);
            assert_eq!(unpack(Encoding::Zstd, &two_frames, chunk).unwrap(), body);
        }
    }

    #[test]
    fn a_body_is_whole_whatever_was_stated() {
        let chunks: [&[u8]; 4] = [b"one\n", b"two\n", b"", b"six\n"];
        for stated_bytes in [0, 3, 4, 8, 12, 100] {
            let body = unpack_chunks(Encoding::Identity, stated_bytes, &chunks).unwrap();
            assert_eq!(body, &b"one\ntwo\nsix\n"[..], "{stated_bytes} stated");
        }
    }

    #[test]
    fn bombs_are_cut_at_the_limit() {
        let bomb = vec![b'\n'; 64 << 20];
        assert_eq!(unpack(Encoding::Gzip, &gzip(&bomb), 4096), Err(RefusalReason::TooLarge));
        assert_eq!(unpack(Encoding::Zstd, &zstandard(&bomb), 4096), Err(RefusalReason::TooLarge));
        let empty_members = gzip(b"").repeat(100_000);
        assert_eq!(unpack(Encoding::Gzip, &empty_members, 4096), Err(RefusalReason::TooLarge));
        let limit = vec![b'x'; BATCH_BYTES_MAX];
        assert_eq!(unpack(Encoding::Gzip, &gzip(&limit), 4096).unwrap().len(), BATCH_BYTES_MAX);
        assert_eq!(unpack(Encoding::Identity, &[b"x", &limit[..]].concat(), 4096), Err(RefusalReason::TooLarge));
    }

    #[test]
    fn whatever_is_cut_or_foreign_is_malformed() {
        let body = b"one\ntwo\nthree\n";
        for (encoding, encoded) in [(Encoding::Gzip, gzip(body)), (Encoding::Zstd, zstandard(body))] {
            for length in 1..encoded.len() {
                let found = unpack(encoding, &encoded[..length], 5);
                assert_eq!(found, Err(RefusalReason::Malformed), "{encoding:?} cut at {length}");
            }
            assert_eq!(unpack_chunks(encoding, 0, &[&encoded, b""]).unwrap(), &body[..], "an empty chunk at the end");
            let trailing = [&encoded[..], b"garbage after the end"].concat();
            assert_eq!(unpack(encoding, &trailing, 5), Err(RefusalReason::Malformed));
            assert_eq!(unpack(encoding, b"plain text, not encoded", 5), Err(RefusalReason::Malformed));
        }
        let mut flipped = gzip(body);
        let checksum = flipped.len() - 8;
        flipped[checksum] ^= 1;
        assert_eq!(unpack(Encoding::Gzip, &flipped, 5), Err(RefusalReason::Malformed));
    }

    #[test]
    fn a_full_queue_stops_a_growing_body() {
        let budget = Budget::new(1 << 30, 1 << 30);
        budget.open(1, "stream".into(), 100_000);
        let _other = budget.reserve(1, 50_000).unwrap();
        let mut unpacker = Unpacker::new(Encoding::Gzip, budget.reserve(1, 0).unwrap()).unwrap();
        let outcome = unpacker.feed(gzip(&[b'x'; 60_000]).into()).and_then(|()| unpacker.finish());
        assert_eq!(outcome.unwrap_err().reason, RefusalReason::QueueFull);
    }

    #[test]
    fn one_layer_of_a_known_encoding() {
        let stated = |values: &[&'static str]| {
            let mut headers = HeaderMap::new();
            for value in values {
                headers.append(header::CONTENT_ENCODING, value.parse().unwrap());
            }
            encoding(&headers)
        };
        assert_eq!(stated(&[]), Ok(Encoding::Identity));
        assert_eq!(stated(&["GZip"]), Ok(Encoding::Gzip));
        assert_eq!(stated(&["zstd"]), Ok(Encoding::Zstd));
        for bad in [&["br"][..], &["gzip, zstd"], &["gzip", "gzip"], &[""]] {
            assert!(matches!(stated(bad), Err(Refused::UnknownEncoding(_))), "{bad:?}");
        }
    }
}
