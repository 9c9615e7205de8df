//! Requests that must not be taken: one after the other, each with the answer that it must get and the reason under which
//! it must be counted.

use std::collections::BTreeMap;
use std::io::Write;

use anyhow::{Context, Result, ensure};
use flate2::Compression;
use flate2::write::GzEncoder;
use harness::http::Client;
use harness::raw;
use serde_json::json;

use super::{Scene, TARGET, path};

const MIB: usize = 1 << 20;
/// What a bomb becomes.
const BOMB_BYTES: usize = 512 * MIB;
/// What one refused request may cost: a body at its limit, its compressed form, and what decoders hold.
const GROWN_MAX: u64 = 96 << 20;

/// A hostile request: its bytes, and what must come of it.
struct Case {
    name: &'static str,
    bytes: Vec<u8>,
    /// The status; it comes with a JSON body that names `reason` unless `is_bare`.
    status: u16,
    reason: &'static str,
    /// What is no HTTP is answered by the HTTP library, with a status and nothing else, and the connection ends.
    is_bare: bool,
}

fn case(name: &'static str, status: u16, reason: &'static str, bytes: impl Into<Vec<u8>>) -> Case {
    Case { name, bytes: bytes.into(), status, reason, is_bare: reason.starts_with("head_") }
}

/// A `POST` to a path with these header lines and this body as they are.
fn post(path: &str, lines: &str, body: &[u8]) -> Vec<u8> {
    [format!("POST {path} HTTP/1.1\r\nhost: localhost\r\n{lines}\r\n").as_bytes(), body].concat()
}

/// The same with the length of its body.
fn sized(path: &str, lines: &str, body: &[u8]) -> Vec<u8> {
    post(path, &format!("{lines}content-length: {}\r\n", body.len()), body)
}

fn gzip(body: &[u8]) -> Vec<u8> {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::best());
    encoder.write_all(body).expect("a vector takes everything");
    encoder.finish().expect("a vector takes everything")
}

/// A zstd frame of zeroes.
fn zstd_bomb(window_log: u32) -> Result<Vec<u8>> {
    let mut encoder = zstd::Encoder::new(Vec::new(), 1)?;
    encoder.window_log(window_log)?;
    let zeroes = vec![0; MIB];
    (0..BOMB_BYTES / MIB).try_for_each(|_| encoder.write_all(&zeroes))?;
    Ok(encoder.finish()?)
}

fn bombs() -> Result<Vec<Case>> {
    let (lines, array) = (path(TARGET), format!("/v1/streams/{TARGET}/json"));
    let member = gzip(&vec![b'\n'; 8 * MIB]);
    let many_members = member.repeat(BOMB_BYTES / (8 * MIB));
    let one_member = gzip(&vec![0; 64 * MIB]);
    let zstd = zstd_bomb(20)?;
    ensure!(zstd.len() < 64 * 1024, "{} bytes are no bomb", zstd.len());
    let empty_members = gzip(b"").repeat(60_000);
    let (gzipped, zstded) = ("content-encoding: gzip\r\n", "content-encoding: zstd\r\n");
    Ok(vec![
        case("gzip bomb", 413, "too_large", sized(&lines, gzipped, &many_members)),
        case("gzip bomb of one member", 413, "too_large", sized(&lines, gzipped, &one_member)),
        case("gzip members without end", 413, "too_large", sized(&lines, gzipped, &empty_members)),
        case("zstd bomb", 413, "too_large", sized(&lines, zstded, &zstd)),
        case("zstd bomb with a large window", 400, "malformed", sized(&lines, zstded, &zstd_bomb(27)?)),
        case("bomb in a bomb", 400, "malformed", sized(&array, gzipped, &gzip(&member))),
        case("two layers", 415, "unknown_encoding", sized(&lines, "content-encoding: gzip, gzip\r\n", &member)),
        case("two layers in two lines", 415, "unknown_encoding", sized(&lines, &gzipped.repeat(2), &member)),
        case("foreign layer", 415, "unknown_encoding", sized(&lines, "content-encoding: br\r\n", b"x")),
        case("cut gzip", 400, "malformed", sized(&lines, gzipped, &gzip(b"one\ntwo\n")[..12])),
        case("no gzip", 400, "malformed", sized(&lines, gzipped, b"plain")),
    ])
}

/// Heads that two parsers could take for different requests. Behind each stands one more request that must not be seen.
fn smuggling() -> Vec<Case> {
    let lines = path(TARGET);
    let hidden = sized(&lines, "", b"smuggled\n");
    let with_hidden = |head: &str| [post(&lines, head, b"5\r\nshown\r\n0\r\n\r\n"), hidden.clone()].concat();
    let bad = |name, head: &str| case(name, 400, "head_malformed", with_hidden(head));
    let chunked = |name, body: &str| {
        case(
            name,
            400,
            "malformed",
            post(&lines, "transfer-encoding: chunked\r\nconnection: close\r\n", body.as_bytes()),
        )
    };
    vec![
        bad("two lengths", "content-length: 5\r\ncontent-length: 6\r\n"),
        bad("a list of lengths", "content-length: 5, 6\r\n"),
        bad("length with a sign", "content-length: +5\r\n"),
        bad("negative length", "content-length: -5\r\n"),
        bad("length beyond numbers", "content-length: 18446744073709551616\r\n"),
        bad("coding that is not chunked", "transfer-encoding: xchunked\r\n"),
        bad("chunked is not the last", "transfer-encoding: chunked, identity\r\n"),
        bad("folded line", "x: a\r\n content-length: 5\r\n"),
        bad("bare CR", "x: a\rcontent-length: 5\r\n"),
        bad("NUL in a value", "x: a\0b\r\ncontent-length: 5\r\n"),
        bad("blank before the colon", "content-length : 5\r\n"),
        bad("no colon", "content-length 5\r\n"),
        bad("blank in a name", "content length: 5\r\n"),
        chunked("chunk beyond numbers", "fffffffffffffffff\r\nx"),
        chunked("negative chunk", "-1\r\nx\r\n0\r\n\r\n"),
        chunked("no chunk", "zz\r\nx\r\n0\r\n\r\n"),
        chunked("chunk that does not end", "1\r\nxy\r\n0\r\n\r\n"),
        chunked("endless extension", &format!("1;{}\r\nx\r\n0\r\n\r\n", "a".repeat(40_000))),
    ]
}

/// Names that would mean something to a file system, a topic or a log.
fn names() -> Vec<Case> {
    let to = |id: &str| sized(&format!("/v1/streams/{id}/records"), "", b"x\n");
    let unknown = |name, id: &str| case(name, 404, "unknown_stream", to(id));
    vec![
        case("parents", 404, "no_such_path", to("../../etc/passwd")),
        unknown("encoded parents", "..%2f..%2fetc%2fpasswd"),
        unknown("parents as parts", "%2e%2e.%2e%2e.%2e%2e"),
        unknown("NUL", "test.hostile.target%00"),
        unknown("line break", "test.hostile.target%0d%0ainjected"),
        unknown("upper case", "TEST.hostile.target"),
        unknown("underscore", "test.hostile_target.x"),
        unknown("very long", &format!("a.b.{}", "c".repeat(30_000))),
        unknown("nothing", "%20"),
        case("no UTF-8", 400, "malformed", to("%ff%fe")),
        case("encoded twice", 404, "unknown_stream", to("%252e%252e")),
        case("elsewhere", 404, "no_such_path", sized("/", "", b"x\n")),
    ]
}

fn heads() -> Vec<Case> {
    let lines = path(TARGET);
    let many: String = (0..200).map(|i| format!("x-{i}: y\r\n")).collect();
    let start = |line: &str, host: &str| format!("{line}\r\nhost: {host}\r\ncontent-length: 0\r\n\r\n").into_bytes();
    vec![
        case("long header", 431, "head_too_large", sized(&lines, &format!("x: {}\r\n", "y".repeat(300_000)), b"")),
        case("many headers", 431, "head_too_large", sized(&lines, &many, b"x\n")),
        case("wrong method", 405, "method_not_allowed", start(&format!("DELETE {lines} HTTP/1.1"), "localhost")),
        case("get", 405, "method_not_allowed", start(&format!("GET {lines} HTTP/1.1"), "localhost")),
        case("no method", 400, "head_malformed", start(&format!("P@(T {lines} HTTP/1.1"), "localhost")),
        case("no version", 400, "head_malformed", start(&format!("POST {lines} HTTP/7.7"), "localhost")),
        case("binary", 400, "head_malformed", b"\x16\x03\x01\x02\0\x01\0\x01\xfc\x03\x03\r\n\r\n".to_vec()),
        case("foreign host", 403, "foreign_host", start(&format!("POST {lines} HTTP/1.1"), "evil.example")),
        case("no host", 403, "foreign_host", format!("POST {lines} HTTP/1.1\r\ncontent-length: 0\r\n\r\n")),
        case("odd key", 400, "malformed", sized(&lines, "idempotency-key: a b\r\n", b"x\n")),
        case("two keys", 400, "malformed", sized(&lines, &"idempotency-key: a\r\n".repeat(2), b"x\n")),
    ]
}

fn bodies() -> Vec<Case> {
    let of = |protocol: &str| format!("/v1/streams/{TARGET}/{protocol}");
    let (lines, array, otlp) = (path(TARGET), of("json"), of("otlp/v1/logs"));
    let json = "content-type: application/json\r\n";
    let chunked = |bytes: usize| [format!("{bytes:x}\r\n").as_bytes(), &vec![b'x'; bytes], b"\r\n0\r\n\r\n"].concat();
    // A request of resource logs of scope logs of one record, whose body is an array of arrays of arrays.
    let array_in_array = |inner| wrapped(&[0x0a, 0x2a], inner);
    let deep = wrapped(&[0x2a, 0x12, 0x12, 0x0a], (0..2_000).fold(Vec::new(), |inner, _| array_in_array(inner)));
    let empty_records = wrapped(&[0x12, 0x0a], [0x12, 0].repeat(500_000));
    let deep_json = format!("{{\"resourceLogs\":{}", "[".repeat(100_000));
    vec![
        case("nothing", 400, "malformed", sized(&lines, "", b"")),
        case("one byte too many", 413, "too_large", sized(&lines, "", &vec![b'x'; MIB + 1])),
        case(
            "one byte too many, unstated",
            413,
            "too_large",
            post(&lines, "transfer-encoding: chunked\r\n", &chunked(MIB + 1)),
        ),
        case("too many lines", 413, "too_large", sized(&lines, "", &vec![b'\n'; MIB])),
        case("cut JSON", 400, "malformed", sized(&array, "", b"[{\"a\": 1}, {\"a\"")),
        case("no JSON", 400, "malformed", sized(&array, "", b"\xff\xfe nonsense")),
        case("deep and cut JSON", 400, "malformed", sized(&array, "", "[".repeat(MIB / 2).as_bytes())),
        case("no OTLP", 400, "malformed", sized(&otlp, "", b"\xff\xff\xff\xff nonsense")),
        case("deep OTLP", 400, "malformed", sized(&otlp, "", &deep)),
        case("no OTLP JSON", 400, "malformed", sized(&otlp, json, b"[1]")),
        case("deep OTLP JSON", 400, "malformed", sized(&otlp, json, deep_json.as_bytes())),
        case("OTLP of 500,000 records", 413, "too_large", sized(&otlp, "", &empty_records)),
        case("empty event", 400, "malformed", sized(&of("beacon"), "", b"")),
        case(
            "event without parameters",
            400,
            "malformed",
            format!("GET {} HTTP/1.1\r\nhost: localhost\r\n\r\n", of("beacon?")),
        ),
    ]
}

/// Protobuf: `inner` as fields with these tags in one another, the first innermost.
fn wrapped(tags: &[u8], inner: Vec<u8>) -> Vec<u8> {
    tags.iter().fold(inner, |inner, tag| [vec![*tag], varint(inner.len()), inner].concat())
}

fn varint(mut number: usize) -> Vec<u8> {
    let mut bytes = Vec::new();
    while number >= 0x80 {
        bytes.push(number as u8 | 0x80);
        number >>= 7;
    }
    bytes.push(number as u8);
    bytes
}

#[test]
fn what_is_no_request_of_ours_is_refused_with_a_reason_and_counted() -> Result<()> {
    let scene = Scene::begin()?;
    let cases: Vec<Case> = [bombs()?, smuggling(), names(), heads(), bodies()].into_iter().flatten().collect();
    let mut expected: BTreeMap<&str, u64> = BTreeMap::new();
    for case in &cases {
        *expected.entry(case.reason).or_default() += 1;
    }
    let before: BTreeMap<&str, u64> =
        expected.keys().map(|reason| Ok((*reason, scene.refused(reason)?))).collect::<Result<_>>()?;
    let failed = |case: &Case| check(&scene, case).err().map(|error| format!("{}: {error:#}", case.name));
    let failures: Vec<String> = cases.iter().filter_map(failed).collect();
    ensure!(failures.is_empty(), "{}", failures.join("\n"));
    *expected.entry("malformed").or_default() += a_length_beside_chunks_ends_the_connection(&scene)?;
    for (reason, expected) in expected {
        let counted = scene.refused(reason)? - before[reason];
        ensure!(counted == expected, "{counted} requests were counted as {reason}, {expected} were refused");
    }
    nothing_was_let_in(&scene)?;
    scene.end(GROWN_MAX)
}

fn check(scene: &Scene, case: &Case) -> Result<()> {
    let ask = if case.is_bare { raw::ask_until_closed } else { raw::ask };
    let heard = ask(scene.deployment.http, &case.bytes)?;
    let answer = heard.answers.first().context("closed without an answer")?;
    let said = String::from_utf8_lossy(&answer.body).into_owned();
    ensure!(answer.status == case.status, "answered with {} {said:.200}", answer.status);
    // The longest is a decoder's path of fields down to its own limit of depth.
    ensure!(answer.body.len() < 2_500, "an answer of {} bytes", answer.body.len());
    if case.is_bare {
        ensure!(heard.answers.len() == 1 && said.is_empty(), "what stood behind it was answered: {heard:?}");
        return Ok(());
    }
    let body = answer.json()?;
    ensure!(body["reason"] == case.reason, "{body}");
    ensure!(body["error"].as_str().is_some_and(|text| !text.is_empty()) && body["scope"].is_string(), "{body}");
    Ok(())
}

/// Chunks count then (RFC 9112, 6.3), whoever forwarded the request may have gone by the length: nothing that follows on
/// this connection can be trusted.
fn a_length_beside_chunks_ends_the_connection(scene: &Scene) -> Result<u64> {
    let hidden = sized(&path(TARGET), "", b"smuggled\n");
    let (length, chunks) = ("content-length: 200\r\n", "transfer-encoding: chunked\r\n");
    for head in [format!("{length}{chunks}"), format!("{chunks}{length}")] {
        let bytes = [post(&path(TARGET), &head, b"0\r\n\r\n"), hidden.clone()].concat();
        let heard = raw::ask_until_closed(scene.deployment.http, &bytes)?;
        let statuses: Vec<u16> = heard.answers.iter().map(|answer| answer.status).collect();
        ensure!(statuses == [400] && heard.closed, "{statuses:?}");
    }
    Ok(2)
}

/// One record was stored before the attack, so the next one is the second.
fn nothing_was_let_in(scene: &Scene) -> Result<()> {
    let answer = Client::new(scene.deployment.http).exchange("POST", &path(TARGET), &[], b"last\n")?;
    ensure!(answer.json()? == json!({"records": 1, "offset_end": 2}), "{}", String::from_utf8_lossy(&answer.body));
    Ok(())
}
