//! Compressed records, unpacked as far as a limit and no further: a batch says what it becomes only by becoming it, and
//! whoever may write to a topic could name a few kilobytes that become all memory. (`kafka-protocol`'s own decompressors
//! have no limit.)

use std::io::{self, Read};

use bytes::Bytes;
use snap::raw::{Decoder as Snappy, decompress_len};

/// Longest batch after decompression: one at the topics' limit, expanded fourfold by its headers.
pub const UNPACKED_BYTES_MAX: usize = 64 << 20;
/// How Snappy's framing for Java begins: magic, version, oldest version that can read it. Then blocks, each with its
/// length before it. https://github.com/xerial/snappy-java#compatibility-notes
const SNAPPY_JAVA: &[u8] = b"\x82SNAPPY\0\0\0\0\x01\0\0\0\x01";

/// The records of a batch whose attributes state this codec.
pub fn unpack(bytes: Bytes, codec: i16) -> Result<Bytes, String> {
    unpack_within(bytes, codec, UNPACKED_BYTES_MAX)
}

fn unpack_within(bytes: Bytes, codec: i16, max: usize) -> Result<Bytes, String> {
    let unpacked = match codec {
        0 => return Ok(bytes),
        1 => read(flate2::read::MultiGzDecoder::new(&bytes[..]), max),
        2 => snappy(&bytes, max),
        3 => lz4(&bytes, max),
        4 => zstd::stream::read::Decoder::with_buffer(&bytes[..]).and_then(|decoder| read(decoder, max)),
        other => return Err(format!("codec {other} is not one that isolane knows")),
    };
    unpacked.map(Bytes::from).map_err(|error| error.to_string())
}

fn too_long(max: usize) -> io::Error {
    io::Error::other(format!("more than {max} bytes unpacked"))
}

fn read(decoder: impl Read, max: usize) -> io::Result<Vec<u8>> {
    let mut unpacked = Vec::new();
    decoder.take(max as u64 + 1).read_to_end(&mut unpacked)?;
    if unpacked.len() > max { Err(too_long(max)) } else { Ok(unpacked) }
}

fn lz4(bytes: &[u8], max: usize) -> io::Result<Vec<u8>> {
    let mut decoder = lz4::Decoder::new(bytes)?;
    let unpacked = read(&mut decoder, max)?;
    // It reads what was cut short as if it had ended.
    decoder.finish().1.map(|()| unpacked)
}

fn snappy(bytes: &[u8], max: usize) -> io::Result<Vec<u8>> {
    let mut unpacked = Vec::new();
    let Some(mut blocks) = bytes.strip_prefix(SNAPPY_JAVA) else {
        snappy_block(bytes, &mut unpacked, max)?;
        return Ok(unpacked);
    };
    while let Some((length, rest)) = blocks.split_first_chunk::<4>() {
        let block = rest.split_at_checked(u32::from_be_bytes(*length) as usize);
        let (block, behind) = block.ok_or(io::ErrorKind::UnexpectedEof)?;
        snappy_block(block, &mut unpacked, max)?;
        blocks = behind;
    }
    if blocks.is_empty() { Ok(unpacked) } else { Err(io::ErrorKind::UnexpectedEof.into()) }
}

/// Adds what a block becomes, which it states before.
fn snappy_block(block: &[u8], unpacked: &mut Vec<u8>, max: usize) -> io::Result<()> {
    let (from, length) = (unpacked.len(), decompress_len(block)?);
    if length > max - from {
        return Err(too_long(max));
    }
    unpacked.resize(from + length, 0);
    Snappy::new().decompress(block, &mut unpacked[from..])?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use bytes::BytesMut;
    use kafka_protocol::compression::{self, Compressor};

    /// What the crate that writes for others makes of `length` zeroes.
    fn packed(codec: i16, length: usize) -> Bytes {
        let mut packed = BytesMut::new();
        let fill = |into: &mut BytesMut| {
            into.resize(length, 0);
            Ok(())
        };
        match codec {
            1 => compression::Gzip::compress(&mut packed, fill),
            2 => compression::Snappy::compress(&mut packed, fill),
            3 => compression::Lz4::compress(&mut packed, fill),
            _ => compression::Zstd::compress(&mut packed, fill),
        }
        .unwrap();
        packed.freeze()
    }

    #[test]
    fn every_codec_is_read_up_to_the_limit_and_no_further() {
        const MAX: usize = 100_000;
        for codec in 1..=4 {
            assert_eq!(unpack_within(packed(codec, MAX), codec, MAX).unwrap(), vec![0; MAX], "codec {codec}");
            let refusal = unpack_within(packed(codec, MAX + 1), codec, MAX).unwrap_err();
            assert!(refusal.contains("more than"), "codec {codec}: {refusal}");
            let whole = packed(codec, MAX);
            assert!(unpack(whole.slice(..whole.len() - 5), codec).is_err(), "codec {codec} cut");
        }
        let raw = snap::raw::Encoder::new().compress_vec(b"raw").unwrap();
        assert_eq!(unpack(raw.into(), 2).unwrap(), &b"raw"[..]);
        assert!(unpack(Bytes::from_static(b"\xff\xff\xff\xff\x0fx"), 2).unwrap_err().contains("more than"));
    }
}
