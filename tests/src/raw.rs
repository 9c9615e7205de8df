//! Bytes that no well-meaning client sends: raw HTTP/1 and HTTP/2, laid out by hand.

use std::io::{BufReader, ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

use anyhow::{Result, bail};

use crate::http::{Answer, read_answer};

/// How long an answer, or the end of a connection, may take: longer than any deadline of the gateway.
const WITHIN: Duration = Duration::from_secs(45);

/// What came back.
#[derive(Debug)]
pub struct Heard {
    /// The answers before the end, in order.
    pub answers: Vec<Answer>,
    /// Whether the other side closed the connection.
    pub closed: bool,
}

/// A connection.
pub fn connect(address: SocketAddr) -> Result<TcpStream> {
    let stream = TcpStream::connect(address)?;
    stream.set_read_timeout(Some(WITHIN))?;
    stream.set_write_timeout(Some(WITHIN))?;
    stream.set_nodelay(true)?;
    Ok(stream)
}

/// Sends `bytes` as they are and reads one answer, or up to the end if none comes. A connection that is closed while we
/// still send is no error.
pub fn ask(address: SocketAddr, bytes: &[u8]) -> Result<Heard> {
    let mut stream = connect(address)?;
    drop(stream.write_all(bytes));
    hear(stream, 1)
}

/// Sends `bytes` and reads answers until the other side closes.
pub fn ask_until_closed(address: SocketAddr, bytes: &[u8]) -> Result<Heard> {
    let mut stream = connect(address)?;
    drop(stream.write_all(bytes));
    hear(stream, usize::MAX)
}

/// Reads up to `count` answers.
pub fn hear(stream: TcpStream, count: usize) -> Result<Heard> {
    let mut reader = BufReader::new(stream);
    let mut heard = Heard { answers: Vec::new(), closed: false };
    while heard.answers.len() < count {
        match read_answer(&mut reader) {
            Ok(answer) => heard.answers.push(answer),
            Err(error) if is_stalled(&error) => bail!("neither an answer nor an end within {WITHIN:?}: {heard:?}"),
            Err(_) => {
                heard.closed = true;
                break;
            }
        }
    }
    Ok(heard)
}

/// Reads, and forgets, until the other side closes.
pub fn until_closed(mut stream: &TcpStream) -> Result<()> {
    let mut bytes = [0; 4096];
    loop {
        match stream.read(&mut bytes) {
            Ok(0) => return Ok(()),
            Ok(_) => {}
            Err(error) if stalls(&error) => bail!("the connection was not closed within {WITHIN:?}"),
            Err(_) => return Ok(()),
        }
    }
}

fn is_stalled(error: &anyhow::Error) -> bool {
    error.downcast_ref().is_some_and(stalls)
}

fn stalls(error: &std::io::Error) -> bool {
    matches!(error.kind(), ErrorKind::TimedOut | ErrorKind::WouldBlock)
}

/// HTTP/2: https://www.rfc-editor.org/rfc/rfc9113.
pub mod http2 {
    use std::io::Read;
    use std::net::TcpStream;

    use anyhow::Result;

    /// How a connection begins: the preface and empty SETTINGS.
    pub const BEGIN: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0";
    /// Frame types.
    pub const DATA: u8 = 0;
    /// See [`DATA`].
    pub const HEADERS: u8 = 1;
    /// See [`DATA`].
    pub const RST_STREAM: u8 = 3;
    /// See [`DATA`].
    pub const PING: u8 = 6;
    /// See [`DATA`].
    pub const CONTINUATION: u8 = 9;
    /// Flag: the stream ends here.
    pub const END_STREAM: u8 = 1;
    /// Flag: the header block ends here.
    pub const END_HEADERS: u8 = 4;

    /// A frame.
    pub fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
        let length = (payload.len() as u32).to_be_bytes();
        let mut frame = vec![length[1], length[2], length[3], kind, flags];
        frame.extend_from_slice(&stream.to_be_bytes());
        frame.extend_from_slice(payload);
        frame
    }

    /// Reads a frame; gives its type, its flags and its stream.
    pub fn read_frame(mut stream: &TcpStream) -> Result<(u8, u8, u32)> {
        let mut head = [0; 9];
        stream.read_exact(&mut head)?;
        let [high, middle, low, kind, flags, id @ ..] = head;
        let mut payload = vec![0; u32::from_be_bytes([0, high, middle, low]) as usize];
        stream.read_exact(&mut payload)?;
        Ok((kind, flags, u32::from_be_bytes(id)))
    }

    /// A header block without compression: each field a literal that is never indexed.
    pub fn headers(fields: &[(&str, &str)]) -> Vec<u8> {
        let mut block = Vec::new();
        for (name, value) in fields {
            block.push(0x10);
            for text in [name, value] {
                // 7-bit prefix; longer texts go on in the next byte.
                match text.len() {
                    length @ 0..=126 => block.push(length as u8),
                    length => block.extend_from_slice(&[127, (length - 127) as u8]),
                }
                block.extend_from_slice(text.as_bytes());
            }
        }
        block
    }
}
