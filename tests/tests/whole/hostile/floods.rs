//! HTTP/2 floods: frames that cost their sender little and a careless server much. Each ends with its connection.

use std::io::Write;
use std::thread;

use anyhow::{Result, ensure};
use harness::raw::{self, http2};

use super::{Scene, TARGET, path};

/// What a flood may cost while it lasts.
const GROWN_MAX: u64 = 64 << 20;
/// Streams reset at once: CVE-2023-44487 needed some hundred thousand a second.
const RESETS: u32 = 50_000;
/// Frames of one header block.
const CONTINUATIONS: usize = 2_000;
/// Pings, each of which wants an answer that nobody reads.
const PINGS: usize = 500_000;

fn request() -> Vec<u8> {
    let path = path(TARGET);
    http2::headers(&[(":method", "POST"), (":scheme", "http"), (":authority", "localhost"), (":path", &path)])
}

/// Sends frames until the other side has had enough, which it must.
fn is_ended(scene: &Scene, frames: impl Iterator<Item = Vec<u8>>) -> Result<()> {
    let frames: Vec<Vec<u8>> = frames.collect();
    let mut stream = raw::connect(scene.deployment.http)?;
    stream.write_all(http2::BEGIN)?;
    let mut writer = stream.try_clone()?;
    thread::scope(|scope| {
        scope.spawn(move || frames.chunks(100).try_for_each(|chunk| writer.write_all(&chunk.concat())));
        raw::until_closed(&stream)
    })
}

#[test]
fn http2_floods_end_with_their_connection() -> Result<()> {
    let scene = Scene::begin()?;
    let before = scene.refused("http2_violation")?;
    let block = request();
    let resets = (0..RESETS).map(|i| 2 * i + 1).map(|stream| {
        let flags = http2::END_STREAM | http2::END_HEADERS;
        let reset = http2::frame(http2::RST_STREAM, 0, stream, &8_u32.to_be_bytes());
        [http2::frame(http2::HEADERS, flags, stream, &block), reset].concat()
    });
    is_ended(&scene, resets)?;
    let field = http2::headers(&[("x-flood", &"y".repeat(200))]);
    let begin = http2::frame(http2::HEADERS, 0, 1, &block);
    let more = std::iter::repeat_with(|| http2::frame(http2::CONTINUATION, 0, 1, &field.repeat(70)));
    is_ended(&scene, std::iter::once(begin).chain(more.take(CONTINUATIONS)))?;
    let counted = scene.refused("http2_violation")? - before;
    ensure!(counted == 2, "{counted} floods were counted");
    scene.end(GROWN_MAX)
}

#[test]
fn answers_that_nobody_reads_do_not_pile_up() -> Result<()> {
    let scene = Scene::begin()?;
    let mut stream = raw::connect(scene.deployment.http)?;
    stream.set_write_timeout(Some(std::time::Duration::from_secs(2)))?;
    stream.write_all(http2::BEGIN)?;
    let pings = http2::frame(http2::PING, 0, 0, b"01234567").repeat(1_000);
    // A server that waits until its answers are read takes no more; one that does not must not keep them.
    let _taken = (0..PINGS / 1_000).try_for_each(|_| stream.write_all(&pings));
    scene.end(GROWN_MAX)
}

#[test]
fn a_message_that_is_none_ends_its_call_alone() -> Result<()> {
    let scene = Scene::begin()?;
    let block = http2::headers(&[
        (":method", "POST"),
        (":scheme", "http"),
        (":authority", "localhost"),
        (":path", "/isolane.v1.Gateway/Send"),
        ("content-type", "application/grpc"),
        ("te", "trailers"),
    ]);
    let messages: [&[u8]; 3] = [b"\0\xff\xff\xff\xff", b"\x01\0\0\0\x01x", b"\0\0\0\0\x03\xff\xff\xff"];
    let before = [scene.refused("too_large")?, scene.refused("malformed")?];
    let mut stream = raw::connect(scene.deployment.grpc)?;
    stream.write_all(http2::BEGIN)?;
    let mut open: Vec<u32> = Vec::new();
    for (nth, message) in (0..).zip(messages) {
        let id = 2 * nth + 1;
        stream.write_all(&http2::frame(http2::HEADERS, http2::END_HEADERS, id, &block))?;
        stream.write_all(&http2::frame(http2::DATA, 0, id, message))?;
        open.push(id);
    }
    while !open.is_empty() {
        let (kind, flags, id) = http2::read_frame(&stream)?;
        let is_end = kind == http2::RST_STREAM || flags & http2::END_STREAM != 0;
        open.retain(|stream| *stream != id || !is_end);
    }
    stream.write_all(&http2::frame(http2::PING, 0, 0, b"01234567"))?;
    while http2::read_frame(&stream)?.0 != http2::PING {}
    let counted = [scene.refused("too_large")? - before[0], scene.refused("malformed")? - before[1]];
    ensure!(counted == [1, 2], "{counted:?} were counted");
    scene.end(GROWN_MAX)
}
