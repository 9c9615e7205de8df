//! Requests that a gateway is not meant to take, or only just: broken bodies, lines at and over its limits, and bombs, a
//! few kB that become megabytes. They are made here byte by byte, since no honest client would send them.

use std::io::Write;
use std::net::SocketAddr;

use anyhow::Result;
use flate2::Compression;
use flate2::write::GzEncoder;

/// What a gateway takes in one body.
const BODY_BYTES_MAX: usize = 1 << 20;
/// What the gzip bomb becomes: gzip makes at most a thousandth of anything.
const GZIP_BOMB_BYTES: usize = 16 << 20;
/// The longest block of zstd. One that repeats a byte takes four.
const ZSTD_BLOCK_BYTES: u32 = 128 << 10;
/// Blocks of the zstd bomb: 16 kB that become 512 MiB.
const ZSTD_BLOCKS: u32 = 4_096;
/// A window of 8 MiB, the largest that every decoder is asked to support: 2 to the power of 10 + 13.
const ZSTD_WINDOW: u8 = 13 << 3;

/// A request to a stream.
#[derive(Clone, Debug)]
pub struct Request {
    /// What is wrong with it.
    pub name: &'static str,
    /// What stands behind `/v1/streams/{id}/`.
    path: &'static str,
    /// Beside host and length.
    headers: Vec<(&'static str, String)>,
    body: Vec<u8>,
    /// One chunk, so that nobody knows the length beforehand.
    is_chunked: bool,
}

impl Request {
    fn new(name: &'static str, path: &'static str, body: Vec<u8>) -> Self {
        Self { name, path, headers: Vec::new(), body, is_chunked: false }
    }

    /// The same with one header more.
    pub fn with(mut self, name: &'static str, value: impl Into<String>) -> Self {
        self.headers.push((name, value.into()));
        self
    }

    fn chunked(self) -> Self {
        Self { is_chunked: true, ..self }
    }

    /// As it goes to `door` for `stream`.
    pub fn to_bytes(&self, door: SocketAddr, stream: &str) -> Vec<u8> {
        let mut bytes = format!("POST /v1/streams/{stream}/{} HTTP/1.1\r\nhost: {door}\r\n", self.path).into_bytes();
        self.headers.iter().for_each(|(name, value)| bytes.extend(format!("{name}: {value}\r\n").into_bytes()));
        if self.is_chunked {
            bytes.extend(format!("transfer-encoding: chunked\r\n\r\n{:x}\r\n", self.body.len()).into_bytes());
            bytes.extend([&self.body, &b"\r\n0\r\n\r\n"[..]].concat());
        } else {
            bytes.extend(format!("content-length: {}\r\n\r\n", self.body.len()).into_bytes());
            bytes.extend(&self.body);
        }
        bytes
    }
}

/// What no gateway takes: each is broken in another way.
pub fn broken() -> Result<Vec<Request>> {
    let lines = b"{\"number\":1,\"text\":\"a line like any other\"}\n".repeat(1_000);
    let array = [b"[".as_slice(), &b"{\"number\":1,\"text\":\"an element like any other\"},".repeat(4_000)].concat();
    let zipped = gzip(&lines)?;
    let cut = zipped[..zipped.len() / 2].to_vec();
    let noise: Vec<u8> = (0..10_000_u32).map(|i| (i.wrapping_mul(2_654_435_761) >> 24) as u8).collect();
    Ok(vec![
        Request::new("gzip that is none", "records", noise.clone()).with("content-encoding", "gzip"),
        Request::new("gzip cut short", "records", cut).with("content-encoding", "gzip"),
        Request::new("zstd that is none", "records", noise.clone()).with("content-encoding", "zstd"),
        Request::new("encoding that nobody knows", "records", lines.clone()).with("content-encoding", "br"),
        Request::new("array without an end", "json", array),
        Request::new("protobuf that is none", "otlp/v1/logs", noise).with("content-type", "application/x-protobuf"),
        Request::new("logs as JSON cut short", "otlp/v1/logs", lines[..2_000].to_vec())
            .with("content-type", "application/json"),
        Request::new("key that is too long", "records", lines).with("idempotency-key", "k".repeat(200)),
        Request::new("body over the limit", "records", line(BODY_BYTES_MAX + BODY_BYTES_MAX / 8)),
    ])
}

/// Lines as long as a body may be, or longer, and bombs. Only the first may be taken.
pub fn giant() -> Result<Vec<Request>> {
    Ok(vec![
        Request::new("line at the limit", "records", line(BODY_BYTES_MAX)),
        Request::new("line over the limit, of no stated length", "records", line(BODY_BYTES_MAX * 3 / 2)).chunked(),
        Request::new("gzip bomb", "records", gzip(&vec![b'x'; GZIP_BOMB_BYTES])?).with("content-encoding", "gzip"),
        Request::new("zstd bomb", "records", zstd_bomb()).with("content-encoding", "zstd"),
    ])
}

/// One line of so many bytes with its newline.
fn line(bytes: usize) -> Vec<u8> {
    let mut line = vec![b'x'; bytes - 1];
    line.push(b'\n');
    line
}

fn gzip(body: &[u8]) -> Result<Vec<u8>> {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::best());
    encoder.write_all(body)?;
    Ok(encoder.finish()?)
}

/// A zstd frame (RFC 8878) of blocks that each repeat one byte: magic number, no flags, window, blocks. A block's header
/// has three bytes: whether it is the last, its kind (1: repeated), its length.
fn zstd_bomb() -> Vec<u8> {
    let mut frame = vec![0x28, 0xb5, 0x2f, 0xfd, 0, ZSTD_WINDOW];
    for block in 1..=ZSTD_BLOCKS {
        let header = u32::from(block == ZSTD_BLOCKS) | 1 << 1 | ZSTD_BLOCK_BYTES << 3;
        frame.extend(&header.to_le_bytes()[..3]);
        frame.push(b'x');
    }
    frame
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bombs_are_small() {
        let bombs: Vec<_> = giant().unwrap().into_iter().filter(|request| request.name.ends_with("bomb")).collect();
        assert!(bombs.len() == 2 && bombs.iter().all(|bomb| bomb.body.len() < 17_000), "{}", bombs[0].body.len());
    }

    #[test]
    fn requests_state_their_length_or_none() {
        let door = "127.0.0.1:1".parse().unwrap();
        let request = Request::new("", "records", b"ab\n".to_vec()).with("a", "b");
        let text = |request: &Request| String::from_utf8(request.to_bytes(door, "s")).unwrap();
        let head = "POST /v1/streams/s/records HTTP/1.1\r\nhost: 127.0.0.1:1\r\na: b\r\n";
        assert_eq!(text(&request), format!("{head}content-length: 3\r\n\r\nab\n"));
        let chunked = format!("{head}transfer-encoding: chunked\r\n\r\n3\r\nab\n\r\n0\r\n\r\n");
        assert_eq!(text(&request.chunked()), chunked);
    }
}
