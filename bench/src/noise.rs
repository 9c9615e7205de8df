//! A noisy client: one process with many connections to a gateway's HTTP door, on one thread that costs little, so that
//! what it asks for is more than a gateway can do and its own CPU is not what the others wait for. Its share of a core
//! and its place are given (see [`crate::place`]).
//!
//! Requests have their moments, as in [`crate::pace`], but a connection sends its next one only after the answer to the
//! last: what is behind is sent at once. Without a rate this is a closed loop, which finds what a gateway can do at most.

use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::rc::Rc;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use harness::poison;
use serde::{Deserialize, Serialize};
use stream::clock::{Clock, SystemClock};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpSocket, TcpStream};
use tokio::task::LocalSet;
use tokio::time::{Instant, sleep, sleep_until, timeout, timeout_at};

use crate::load::Lines;
use crate::{child, measure, place};

/// Records of a plain request, and bytes of each.
pub const RECORDS: usize = 10;
/// See [`RECORDS`].
pub const RECORD_BYTES: usize = 200;
/// Records of a bulky request: some 60 kB, so that a connection for each fills a stream's queue.
const BULK_RECORDS: usize = 300;
/// How long a connection rests after it broke.
const BROKEN: Duration = Duration::from_millis(5);
/// A slow reader takes a byte so often, out of a buffer as small as the system lets it be.
const SLOW_BYTE: Duration = Duration::from_millis(50);
const SLOW_BUFFER_BYTES: u32 = 2_048;
/// After the end a slow reader looks at what is there, until nothing has come for so long.
const SLOW_REST: Duration = Duration::from_millis(200);

/// What is wrong with a client.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Kind {
    /// Nothing but, maybe, its rate.
    Plain,
    /// The same; each request has a key, and so a source of its own, of which admin is told.
    Keyed,
    /// Its requests are large.
    Bulky,
    /// It sends what cannot be taken: [`poison::broken`].
    Broken,
    /// It sends giant lines and bombs: [`poison::giant`].
    Giant,
    /// It sends one request after the other and reads the answers byte by byte.
    Slow,
    /// Its token is not the stream's.
    Foreign,
}

/// What a noisy client is told.
#[derive(Debug, Serialize, Deserialize)]
pub struct Noise {
    /// The gateway's door.
    pub door: SocketAddr,
    /// What is wrong with it.
    pub kind: Kind,
    /// What it shows of its right to send, but for [`Kind::Foreign`].
    pub shown: String,
    /// The streams that it sends to, in turn.
    pub streams: Vec<String>,
    /// Its connections.
    pub connections: usize,
    /// Requests a second over all connections; `None`: as fast as they are answered.
    pub per_second: Option<f64>,
    /// How long.
    pub lasting: Duration,
    /// The control group to be in.
    pub group: Option<PathBuf>,
    /// The core to run on.
    pub core: Option<usize>,
}

/// What became of its requests.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct Heard {
    /// Requests sent.
    pub sent: u64,
    /// Those that were answered with 200.
    pub taken: u64,
    /// Answers that refuse, by their status.
    pub refused: BTreeMap<u16, u64>,
    /// Connections that broke.
    pub broken: u64,
    /// From the first moment to the end.
    pub wall: Duration,
    /// CPU that the client used.
    pub cpu: Duration,
}

impl Heard {
    fn note(&mut self, status: u16) {
        match status {
            200 => self.taken += 1,
            status => *self.refused.entry(status).or_default() += 1,
        }
    }
}

impl Noise {
    /// Goes where the client is to run. What threads there will be come after.
    pub fn take_place(&self) -> Result<()> {
        self.group.as_deref().map_or(Ok(()), place::enter)?;
        self.core.map_or(Ok(()), place::pin)
    }
}

/// The client's whole life; says `ready` when it has begun, and what it heard, as JSON, when it ends.
pub async fn run(noise: Noise) -> Result<()> {
    let templates = templates(&noise)?;
    let heard = LocalSet::new().run_until(make(noise, templates)).await?;
    println!("{}", serde_json::to_string(&heard)?);
    Ok(())
}

/// A request, with the place for what must differ each time.
struct Template {
    head: Vec<u8>,
    /// Behind the number; `None`: there is no number.
    tail: Option<Vec<u8>>,
}

impl Template {
    /// A request of lines for `stream`, whose number stands behind `header`.
    fn lines(door: SocketAddr, stream: &str, records: usize, header: &str) -> Self {
        let mut body = Vec::new();
        let mut lines = Lines::new(RECORD_BYTES, 0);
        (0..records).for_each(|_| lines.push(&mut body, SystemClock.now_ms()));
        let path = format!("/v1/streams/{stream}/records");
        let length = body.len();
        let head = format!("POST {path} HTTP/1.1\r\nhost: {door}\r\ncontent-length: {length}\r\n{header}");
        Self { head: head.into_bytes(), tail: Some([b"\r\n\r\n", body.as_slice()].concat()) }
    }

    /// The bytes of the request of this number.
    fn bytes<'a>(&'a self, number: u64, buffer: &'a mut Vec<u8>) -> &'a [u8] {
        let Some(tail) = &self.tail else { return &self.head };
        let mut text = String::new();
        // Writing to a string does not fail.
        let _ = write!(text, "{number}");
        buffer.clear();
        [&self.head, text.as_bytes(), tail].into_iter().for_each(|part| buffer.extend_from_slice(part));
        buffer
    }
}

fn templates(noise: &Noise) -> Result<Vec<Template>> {
    let run: u32 = rand::random();
    let shown = &noise.shown;
    let numbered = format!("authorization: {shown}\r\nrequest: ");
    let key = format!("authorization: {shown}\r\nidempotency-key: {run}-");
    let lines = |records: usize, header: &str| {
        noise.streams.iter().map(|stream| Template::lines(noise.door, stream, records, header)).collect()
    };
    let stream = noise.streams.first().context("no stream")?;
    let as_they_are = |requests: Vec<poison::Request>| {
        let template = |request: poison::Request| {
            let request = request.with("authorization", shown.as_str());
            Template { head: request.to_bytes(noise.door, stream), tail: None }
        };
        requests.into_iter().map(template).collect()
    };
    Ok(match noise.kind {
        Kind::Plain | Kind::Slow => lines(RECORDS, &numbered),
        Kind::Keyed => lines(RECORDS, &key),
        Kind::Bulky => lines(BULK_RECORDS, &numbered),
        Kind::Foreign => lines(RECORDS, &format!("authorization: Bearer of-somebody-else-{run}-")),
        Kind::Broken => as_they_are(poison::broken()?),
        Kind::Giant => as_they_are(poison::giant()?),
    })
}

/// What all connections share.
struct Shared {
    noise: Noise,
    templates: Vec<Template>,
    began: Instant,
    ends: Instant,
    next: Cell<u64>,
    heard: RefCell<Heard>,
}

async fn make(noise: Noise, templates: Vec<Template>) -> Result<Heard> {
    let connections = connect_all(&noise).await?;
    child::ready(&[]);
    let (cpu, began) = (measure::process_cpu(std::process::id())?, Instant::now());
    let ends = began + noise.lasting;
    let shared = Shared { noise, templates, began, ends, next: Cell::new(0), heard: RefCell::default() };
    let shared = Rc::new(shared);
    let talks: Vec<_> = connections
        .into_iter()
        .map(|connection| match shared.noise.kind {
            Kind::Slow => tokio::task::spawn_local(dawdle(Rc::clone(&shared), connection)),
            _ => tokio::task::spawn_local(talk(Rc::clone(&shared), connection)),
        })
        .collect();
    sleep_until(ends).await;
    let wall = began.elapsed();
    for talk in talks {
        talk.await?;
    }
    let cpu = measure::process_cpu(std::process::id())?.saturating_sub(cpu);
    Ok(Heard { wall, cpu, ..shared.heard.take() })
}

async fn connect_all(noise: &Noise) -> Result<Vec<TcpStream>> {
    let mut connections = Vec::new();
    for _ in 0..noise.connections {
        connections.push(connect(noise).await?);
    }
    Ok(connections)
}

async fn connect(noise: &Noise) -> Result<TcpStream> {
    let socket = TcpSocket::new_v4()?;
    if noise.kind == Kind::Slow {
        socket.set_recv_buffer_size(SLOW_BUFFER_BYTES)?;
    }
    let connection = socket.connect(noise.door).await?;
    connection.set_nodelay(true)?;
    Ok(connection)
}

impl Shared {
    /// The number of the next request, at its moment; `None` at the end.
    async fn moment(&self) -> Option<u64> {
        let number = self.next.get();
        self.next.set(number + 1);
        let behind = self.noise.per_second.map_or(0.0, |per_second| number as f64 / per_second);
        let due = self.began + Duration::from_secs_f64(behind);
        if due >= self.ends || Instant::now() >= self.ends {
            return None;
        }
        if due > Instant::now() {
            sleep_until(due).await;
        }
        Some(number)
    }

    async fn write(&self, to: &mut (impl AsyncWriteExt + Unpin), number: u64, buffer: &mut Vec<u8>) -> Result<()> {
        let template = &self.templates[number as usize % self.templates.len()];
        self.heard.borrow_mut().sent += 1;
        Ok(to.write_all(template.bytes(number, buffer)).await?)
    }

    async fn exchange(&self, connection: &mut TcpStream, number: u64, buffer: &mut Vec<u8>) -> Result<bool> {
        self.write(connection, number, buffer).await?;
        let (mut answers, mut bytes) = (Answers::default(), [0; 2_048]);
        loop {
            let length = connection.read(&mut bytes).await?;
            if length == 0 {
                bail!("the door hung up");
            }
            let found = answers.feed(&bytes[..length])?;
            self.note(&found);
            if let Some(answer) = found.first() {
                return Ok(answer.is_last);
            }
        }
    }

    fn note(&self, answers: &[Answer]) {
        answers.iter().for_each(|answer| self.heard.borrow_mut().note(answer.status));
    }
}

/// One request after the other, each after the answer to the last.
async fn talk(shared: Rc<Shared>, connection: TcpStream) {
    let (mut connection, mut buffer) = (Some(connection), Vec::new());
    while let Some(number) = shared.moment().await {
        let exchange = async {
            let open = match &mut connection {
                Some(open) => open,
                none => none.insert(connect(&shared.noise).await?),
            };
            shared.exchange(open, number, &mut buffer).await
        };
        match timeout_at(shared.ends, exchange).await {
            Ok(Ok(false)) => {}
            Ok(Ok(true)) => connection = None,
            Ok(Err(_)) => {
                shared.heard.borrow_mut().broken += 1;
                connection = None;
                sleep(BROKEN).await;
            }
            Err(_) => return,
        }
    }
}

/// One request after the other, as long as the door takes any; the answers byte by byte.
async fn dawdle(shared: Rc<Shared>, connection: TcpStream) {
    let (mut reader, mut writer) = connection.into_split();
    let writing = async {
        let mut buffer = Vec::new();
        while let Some(number) = shared.moment().await {
            shared.write(&mut writer, number, &mut buffer).await?;
        }
        anyhow::Ok(())
    };
    let mut answers = Answers::default();
    let reading = async {
        let mut byte = [0];
        while reader.read(&mut byte).await? > 0 {
            shared.note(&answers.feed(&byte)?);
            sleep(SLOW_BYTE).await;
        }
        anyhow::Ok(())
    };
    let both = async { tokio::try_join!(writing, reading) };
    if let Ok(Err(_)) = timeout_at(shared.ends, both).await {
        shared.heard.borrow_mut().broken += 1;
    }
    let mut bytes = [0; 16_384];
    while let Ok(Ok(length @ 1..)) = timeout(SLOW_REST, reader.read(&mut bytes)).await {
        let Ok(found) = answers.feed(&bytes[..length]) else { return };
        shared.note(&found);
    }
}

/// What a door answered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Answer {
    status: u16,
    /// Whether the door hangs up.
    is_last: bool,
}

/// Reads answers as they come, of which only the status counts. All have a stated length.
#[derive(Debug, Default)]
struct Answers {
    head: Vec<u8>,
    /// An answer whose head is there, and what is missing of its body.
    begun: Option<(Answer, usize)>,
}

impl Answers {
    /// The answers that end with these bytes.
    fn feed(&mut self, mut bytes: &[u8]) -> Result<Vec<Answer>> {
        let mut ended = Vec::new();
        loop {
            if let Some((answer, left)) = &mut self.begun {
                let length = bytes.len().min(*left);
                (*left, bytes) = (*left - length, &bytes[length..]);
                if *left > 0 {
                    return Ok(ended);
                }
                ended.push(*answer);
                self.begun = None;
            }
            let known = self.head.len();
            let from = known.saturating_sub(3);
            self.head.extend_from_slice(bytes);
            let Some(end) = self.head[from..].windows(4).position(|four| four == b"\r\n\r\n") else {
                return Ok(ended);
            };
            let end = from + end + 4;
            self.begun = Some(parse(&self.head[..end])?);
            bytes = &bytes[end - known..];
            self.head.clear();
        }
    }
}

/// An answer's head, and the length of its body.
fn parse(head: &[u8]) -> Result<(Answer, usize)> {
    let head = std::str::from_utf8(head)?.to_ascii_lowercase();
    let status = head.split(' ').nth(1).context("no status")?.parse()?;
    let header = |name: &str| head.lines().find_map(|line| Some(line.strip_prefix(name)?.trim()));
    let length = header("content-length:").map_or(Ok(0), str::parse)?;
    Ok((Answer { status, is_last: header("connection:") == Some("close") }, length))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn answers_are_told_apart_wherever_they_are_cut() {
        let text = b"HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\nabcHTTP/1.1 429 Too Many Requests\r\n\
            connection: close\r\ncontent-length: 0\r\n\r\n";
        let expected = [Answer { status: 200, is_last: false }, Answer { status: 429, is_last: true }];
        for step in 1..text.len() {
            let mut answers = Answers::default();
            let found: Vec<Answer> = text.chunks(step).flat_map(|bytes| answers.feed(bytes).unwrap()).collect();
            assert_eq!(found, expected, "{step} bytes at a time");
        }
        assert!(Answers::default().feed(b"nonsense\r\n\r\n").is_err());
    }

    #[test]
    fn each_request_has_a_number_of_its_own() {
        let template = Template::lines("127.0.0.1:1".parse().unwrap(), "a.b.c", 1, "idempotency-key: 7-");
        let mut buffer = Vec::new();
        let text = String::from_utf8(template.bytes(12, &mut buffer).to_vec()).unwrap();
        assert!(text.contains("\r\nidempotency-key: 7-12\r\n\r\n{\"lane\""), "{text}");
        assert!(text.contains("content-length: 200\r\n"), "{text}");
    }
}
