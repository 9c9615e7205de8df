//! The limit of an agent: read a file, split it into lines, send the same bytes over loopback to a sink that
//! acknowledges; and that sink.
//!
//! A frame is: u32 LE number of lines, u32 LE bytes of the body, a u32 LE length per line, the body. The answer is one
//! byte per frame.

use std::fs::File;
use std::io::{BufReader, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::Path;
use std::time::Duration;

use anyhow::{Result, bail};
use stream::limits::{BATCH_BYTES_MAX, BATCH_RECORDS_MAX, WORKER_OUTSTANDING_BYTES_MAX};

use crate::measure::Stretch;

/// Reads, splits and sends `file`; returns when everything is acknowledged.
pub fn send_file(file: &Path, sink: SocketAddr) -> Result<()> {
    let mut file = File::open(file)?;
    let mut sender = Sender::connect(sink)?;
    let (mut bytes, mut filled) = (vec![0; 2 * BATCH_BYTES_MAX], 0);
    loop {
        let read = file.read(&mut bytes[filled..])?;
        if read == 0 {
            break;
        }
        filled += read;
        let sent = sender.send_lines(&bytes[..filled])?;
        bytes.copy_within(sent..filled, 0);
        filled -= sent;
    }
    sender.wait_below(1)
}

struct Sender {
    sink: TcpStream,
    outstanding: std::collections::VecDeque<usize>,
    outstanding_bytes: usize,
    lengths: Vec<u32>,
    head: Vec<u8>,
}

impl Sender {
    fn connect(sink: SocketAddr) -> Result<Self> {
        let sink = TcpStream::connect(sink)?;
        sink.set_nodelay(true)?;
        let outstanding = std::collections::VecDeque::new();
        Ok(Self { sink, outstanding, outstanding_bytes: 0, lengths: Vec::new(), head: Vec::new() })
    }

    /// Sends the whole lines of `bytes`; answers how many bytes they are.
    fn send_lines(&mut self, bytes: &[u8]) -> Result<usize> {
        let (mut sent, mut start) = (0, 0);
        for newline in memchr::memchr_iter(b'\n', bytes) {
            self.lengths.push((newline - start) as u32);
            start = newline + 1;
            if self.lengths.len() == BATCH_RECORDS_MAX {
                self.send_frame(&bytes[sent..start])?;
                sent = start;
            }
        }
        if start > sent {
            self.send_frame(&bytes[sent..start])?;
        }
        Ok(start)
    }

    fn send_frame(&mut self, body: &[u8]) -> Result<()> {
        self.wait_below(WORKER_OUTSTANDING_BYTES_MAX)?;
        self.head.clear();
        self.head.extend_from_slice(&(self.lengths.len() as u32).to_le_bytes());
        self.head.extend_from_slice(&(body.len() as u32).to_le_bytes());
        self.lengths.drain(..).for_each(|length| self.head.extend_from_slice(&length.to_le_bytes()));
        self.sink.write_all(&self.head)?;
        self.sink.write_all(body)?;
        self.outstanding.push_back(body.len());
        self.outstanding_bytes += body.len();
        Ok(())
    }

    /// Takes answers until fewer than `bytes` are outstanding.
    fn wait_below(&mut self, bytes: usize) -> Result<()> {
        let mut answers = [0; 64];
        while self.outstanding_bytes >= bytes {
            let count = self.sink.read(&mut answers)?;
            if count == 0 {
                bail!("the sink hung up");
            }
            self.outstanding.drain(..count).for_each(|frame| self.outstanding_bytes -= frame);
        }
        Ok(())
    }
}

/// Takes and acknowledges `records` lines of one connection; answers how long that took from the first frame on.
pub fn acknowledge(listener: &TcpListener, records: u64) -> Result<Duration> {
    let (mut answers, _) = listener.accept()?;
    answers.set_nodelay(true)?;
    let mut frames = BufReader::with_capacity(BATCH_BYTES_MAX, answers.try_clone()?);
    let (mut stretch, mut taken, mut rest) = (Stretch::new(), 0, Vec::new());
    while taken < records {
        let mut head = [0; 8];
        frames.read_exact(&mut head)?;
        stretch.mark();
        let [lines, bytes] =
            [&head[..4], &head[4..]].map(|part| part.iter().rev().fold(0, |n, b| n << 8 | usize::from(*b)));
        rest.resize(4 * lines + bytes, 0);
        frames.read_exact(&mut rest)?;
        answers.write_all(&[1])?;
        taken += lines as u64;
    }
    stretch.mark();
    Ok(stretch.length())
}
