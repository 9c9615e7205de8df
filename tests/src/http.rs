//! A small blocking HTTP/1.1 client: enough to post records and to read the admin API, and foreign to isolane.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

use anyhow::{Context, Result, bail};

/// How long one exchange may stand still.
const STALL: Duration = Duration::from_secs(15);
/// Longest answer taken.
const ANSWER_BYTES_MAX: usize = 64 << 20;

/// One connection, opened when needed and again after an error.
pub struct Client {
    address: SocketAddr,
    connection: Option<BufReader<TcpStream>>,
}

/// An answer.
#[derive(Debug)]
pub struct Answer {
    /// The status.
    pub status: u16,
    /// Header lines as `name: value`, names in lower case.
    pub headers: Vec<String>,
    /// The body.
    pub body: Vec<u8>,
}

impl Answer {
    /// The body as JSON.
    pub fn json(&self) -> Result<serde_json::Value> {
        serde_json::from_slice(&self.body).with_context(|| String::from_utf8_lossy(&self.body).into_owned())
    }

    /// The value of a header.
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find_map(|line| line.strip_prefix(name)?.strip_prefix(": "))
    }
}

impl Client {
    /// A client of `address`.
    pub fn new(address: SocketAddr) -> Self {
        Self { address, connection: None }
    }

    /// Asks for `path`.
    pub fn get(&mut self, path: &str) -> Result<Answer> {
        self.exchange("GET", path, &[], b"")
    }

    /// Sends a request and reads its answer. After an error it is not known whether the request had its effect.
    pub fn exchange(&mut self, method: &str, path: &str, headers: &[(&str, &str)], body: &[u8]) -> Result<Answer> {
        let mut head =
            format!("{method} {path} HTTP/1.1\r\nhost: {}\r\ncontent-length: {}\r\n", self.address, body.len());
        headers.iter().for_each(|(name, value)| head.push_str(&format!("{name}: {value}\r\n")));
        head.push_str("\r\n");
        self.send(&[head.as_bytes(), body].concat())
    }

    /// Sends a request as it stands and reads its answer.
    pub fn send(&mut self, request: &[u8]) -> Result<Answer> {
        let mut connection = match self.connection.take() {
            Some(connection) => connection,
            None => self.connect()?,
        };
        connection.get_mut().write_all(request)?;
        let answer = read_answer(&mut connection)?;
        if answer.header("connection") != Some("close") {
            self.connection = Some(connection);
        }
        Ok(answer)
    }

    fn connect(&self) -> Result<BufReader<TcpStream>> {
        let stream = TcpStream::connect_timeout(&self.address, STALL)?;
        stream.set_read_timeout(Some(STALL))?;
        stream.set_write_timeout(Some(STALL))?;
        stream.set_nodelay(true)?;
        Ok(BufReader::new(stream))
    }
}

/// Reads one answer.
pub fn read_answer(connection: &mut BufReader<TcpStream>) -> Result<Answer> {
    let status_line = line(connection)?;
    let status = status_line.split(' ').nth(1).and_then(|code| code.parse().ok());
    let status = status.with_context(|| format!("not an HTTP answer: {status_line:?}"))?;
    let mut headers = Vec::new();
    loop {
        let line = line(connection)?;
        let Some((name, value)) = line.split_once(':') else { break };
        headers.push(format!("{}: {}", name.to_ascii_lowercase(), value.trim()));
    }
    let mut answer = Answer { status, headers, body: Vec::new() };
    answer.body = match answer.header("content-length").map(str::parse::<usize>) {
        Some(length) => exactly(connection, length?)?,
        None if answer.header("transfer-encoding") == Some("chunked") => chunks(connection)?,
        None => Vec::new(),
    };
    Ok(answer)
}

fn line(connection: &mut BufReader<TcpStream>) -> Result<String> {
    let mut line = String::new();
    if connection.by_ref().take(64 << 10).read_line(&mut line)? == 0 {
        bail!("the connection was closed");
    }
    Ok(line.trim_end().to_owned())
}

fn exactly(connection: &mut BufReader<TcpStream>, length: usize) -> Result<Vec<u8>> {
    anyhow::ensure!(length <= ANSWER_BYTES_MAX, "an answer of {length} bytes");
    let mut body = vec![0; length];
    connection.read_exact(&mut body)?;
    Ok(body)
}

fn chunks(connection: &mut BufReader<TcpStream>) -> Result<Vec<u8>> {
    let mut body = Vec::new();
    loop {
        let size = usize::from_str_radix(&line(connection)?, 16)?;
        body.extend(exactly(connection, size)?);
        line(connection)?;
        if size == 0 {
            return Ok(body);
        }
    }
}
