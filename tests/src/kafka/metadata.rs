//! The two questions that tell whether a node serves, in Kafka's own protocol: a client library would reconnect, cache
//! and answer for the other brokers. Fields: <https://kafka.apache.org/protocol.html>.

use std::collections::BTreeSet;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

use anyhow::{Context, Result, ensure};

/// Longest wait for a connection, and then for an answer; the caller asks again.
const ANSWER: Duration = Duration::from_secs(2);
/// Both answers take less than 1 KiB.
const ANSWER_BYTES_MAX: usize = 64 << 10;
/// Tells that an answer belongs to its request.
const CORRELATION: i32 = 7;

/// `Metadata`, version 1, for no topic: the ids of the brokers that live.
pub fn brokers(address: SocketAddr) -> Result<BTreeSet<i32>> {
    let answer = exchange(address, 3, 1, &0_i32.to_be_bytes())?;
    let mut fields = Fields(&answer);
    let count = fields.i32()?;
    let mut found = BTreeSet::new();
    for _ in 0..count {
        found.insert(fields.i32()?);
        fields.skip_string().context("host")?;
        fields.i32().context("port")?;
        fields.skip_string().context("rack")?;
    }
    Ok(found)
}

/// `ApiVersions`, version 0: whether the node answers at all, the one question that a controller takes too.
pub fn answers(address: SocketAddr) -> Result<()> {
    let answer = exchange(address, 18, 0, &[])?;
    let error = Fields(&answer).i16()?;
    ensure!(error == 0, "{address} answers with error {error}");
    Ok(())
}

/// One request on a connection of its own; gives the answer's body.
fn exchange(address: SocketAddr, api: i16, version: i16, body: &[u8]) -> Result<Vec<u8>> {
    let mut stream =
        TcpStream::connect_timeout(&address, ANSWER).with_context(|| format!("connecting to {address}"))?;
    stream.set_read_timeout(Some(ANSWER))?;
    stream.set_write_timeout(Some(ANSWER))?;
    let no_client_id = (-1_i16).to_be_bytes();
    let header = [&api.to_be_bytes()[..], &version.to_be_bytes(), &CORRELATION.to_be_bytes(), &no_client_id].concat();
    let length = i32::try_from(header.len() + body.len())?;
    stream.write_all(&[&length.to_be_bytes()[..], &header, body].concat())?;
    let mut length = [0; 4];
    stream.read_exact(&mut length).with_context(|| format!("no answer from {address}"))?;
    let length = usize::try_from(i32::from_be_bytes(length))?;
    ensure!(length <= ANSWER_BYTES_MAX, "{address} answers with {length} bytes");
    let mut answer = vec![0; length];
    stream.read_exact(&mut answer).with_context(|| format!("half an answer from {address}"))?;
    let mut fields = Fields(&answer);
    ensure!(fields.i32()? == CORRELATION, "{address} answers another request");
    Ok(fields.0.to_vec())
}

/// What is left to read of an answer.
struct Fields<'a>(&'a [u8]);

impl Fields<'_> {
    fn take<const N: usize>(&mut self) -> Result<[u8; N]> {
        let (taken, rest) = self.0.split_first_chunk().context("the answer ends too early")?;
        self.0 = rest;
        Ok(*taken)
    }

    fn i16(&mut self) -> Result<i16> {
        Ok(i16::from_be_bytes(self.take()?))
    }

    fn i32(&mut self) -> Result<i32> {
        Ok(i32::from_be_bytes(self.take()?))
    }

    /// A length of -1 means null.
    fn skip_string(&mut self) -> Result<()> {
        let length = usize::try_from(self.i16()?.max(0))?;
        self.0 = self.0.get(length..).context("the answer ends too early")?;
        Ok(())
    }
}
