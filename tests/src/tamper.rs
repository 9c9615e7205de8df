//! Injected loss: takes acknowledged records out of a stopped journal's newest segment, as no fault of a disk would: what
//! is left is well formed, its checksums fit. Written from the byte tables in the journal's documentation, with its own
//! checksum and its own protobuf, so that a mistake there is no mistake here.
//!
//! ```text
//! file   frames            frame  u32 length, u32 CRC-32C of length and payload, payload
//! entry  0 u8 kind 3, 1 u8, 2 u16 bytes of the topic, 4 u32 partition, 8 u64 offset of the first record, 16 i64 time,
//!        24 u32 records, 28 topic, then the batch: protobuf, one source, records as columns
//! ```

use std::fs;
use std::ops::Range;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, ensure};

const ENTRY: u8 = 3;
const FRAME_HEAD: usize = 8;
const ENTRY_HEAD: usize = 28;

/// Takes the records of `source` (24 hex digits) that lie in `range` out of the newest segment below `journal`. A batch
/// that keeps records on both sides becomes two; the offsets of what is cut stay unused.
pub fn cut(journal: &Path, source: &str, range: Range<u64>) -> Result<()> {
    let path = newest_segment(journal)?;
    let bytes = fs::read(&path)?;
    let (mut left, mut cut) = (Vec::with_capacity(bytes.len()), 0);
    for frame in frames(&bytes)? {
        let payload = &bytes[frame.start + FRAME_HEAD..frame.end];
        match entry(payload)?.filter(|(_, batch)| hex(&batch.source) == source) {
            None => left.extend_from_slice(&bytes[frame]),
            Some((head, batch)) => {
                let kept = batch.without(&range);
                cut += batch.records.len() - kept.iter().map(|(_, part)| part.records.len()).sum::<usize>();
                kept.iter().for_each(|(skipped, part)| write_frame(&mut left, &part.entry(head, *skipped)));
            }
        }
    }
    ensure!(cut > 0, "{}: nothing of {source} lies in {range:?}", path.display());
    Ok(fs::write(path, left)?)
}

/// Flips a bit in the middle of the first entry of `source` and leaves the checksum as it is.
pub fn flip_bit(journal: &Path, source: &str) -> Result<()> {
    let path = newest_segment(journal)?;
    let mut bytes = fs::read(&path)?;
    for frame in frames(&bytes)? {
        let found = entry(&bytes[frame.start + FRAME_HEAD..frame.end])?;
        if found.is_some_and(|(_, batch)| hex(&batch.source) == source) {
            bytes[(frame.start + frame.end) / 2] ^= 0x10;
            return Ok(fs::write(path, bytes)?);
        }
    }
    anyhow::bail!("{}: no entry of {source}", path.display())
}

fn newest_segment(journal: &Path) -> Result<PathBuf> {
    let entries = fs::read_dir(journal)?.collect::<Result<Vec<_>, _>>()?;
    let is_segment = |path: &PathBuf| path.file_name().is_some_and(|name| name.to_string_lossy().starts_with("wal-"));
    let newest = entries.into_iter().map(|entry| entry.path()).filter(is_segment).max();
    newest.with_context(|| format!("no segment in {}", journal.display()))
}

/// Where the frames of a file lie.
fn frames(bytes: &[u8]) -> Result<Vec<Range<usize>>> {
    let (mut found, mut at) = (Vec::new(), 0);
    while at < bytes.len() {
        let head = bytes.get(at..at + FRAME_HEAD).context("a torn frame")?;
        let length = u32::from_le_bytes(head[..4].try_into()?) as usize;
        let end = at + FRAME_HEAD + length;
        let payload = bytes.get(at + FRAME_HEAD..end).context("a torn frame")?;
        let stated = u32::from_le_bytes(head[4..].try_into()?);
        ensure!(crc32c(&[&head[..4], payload]) == stated, "byte {at}: the checksum does not fit");
        found.push(at..end);
        at = end;
    }
    Ok(found)
}

fn write_frame(out: &mut Vec<u8>, payload: &[u8]) {
    let length = (payload.len() as u32).to_le_bytes();
    out.extend_from_slice(&length);
    out.extend_from_slice(&crc32c(&[&length, payload]).to_le_bytes());
    out.extend_from_slice(payload);
}

/// CRC-32C (Castagnoli), bit by bit.
fn crc32c(parts: &[&[u8]]) -> u32 {
    let shift = |crc: u32| (crc >> 1) ^ (0x82f6_3b78 & (crc & 1).wrapping_neg());
    let byte = |crc: u32, byte: &u8| (0..8).fold(crc ^ u32::from(*byte), |crc, _| shift(crc));
    !parts.iter().flat_map(|part| part.iter()).fold(u32::MAX, byte)
}

/// Head (topic included) and batch of an entry; none if the payload is something else.
fn entry(payload: &[u8]) -> Result<Option<(&[u8], Batch)>> {
    if payload.first() != Some(&ENTRY) {
        return Ok(None);
    }
    let topic_bytes = u16::from_le_bytes(payload.get(2..4).context("a short entry")?.try_into()?);
    let (head, batch) = payload.split_at_checked(ENTRY_HEAD + usize::from(topic_bytes)).context("a short entry")?;
    Ok(Some((head, Batch::decode(batch)?)))
}

/// A batch, by records.
#[derive(Clone, Debug, Default, PartialEq)]
struct Batch {
    stream: Vec<u8>,
    incarnation: [u8; 8],
    source: Vec<u8>,
    start: u64,
    records: Vec<Record>,
}

#[derive(Clone, Debug, PartialEq)]
struct Record {
    length: u64,
    body: Vec<u8>,
    kind: Option<u8>,
    /// As it is encoded.
    event_time: Option<u64>,
}

impl Batch {
    fn decode(mut bytes: &[u8]) -> Result<Self> {
        let mut batch = Self::default();
        let (mut lengths, mut body_lengths, mut times) = (Vec::new(), Vec::new(), Vec::new());
        let (mut kinds, mut bodies): (&[u8], &[u8]) = (&[], &[]);
        while !bytes.is_empty() {
            match varint(&mut bytes)? {
                0x0a => batch.stream = block(&mut bytes)?.to_vec(),
                0x11 => {
                    let (fixed, rest) = bytes.split_first_chunk().context("a short batch")?;
                    (batch.incarnation, bytes) = (*fixed, rest);
                }
                0x1a => batch.source = block(&mut bytes)?.to_vec(),
                0x20 => batch.start = varint(&mut bytes)?,
                0x2a => lengths = varints(block(&mut bytes)?)?,
                0x32 => body_lengths = varints(block(&mut bytes)?)?,
                0x3a => kinds = block(&mut bytes)?,
                0x42 => bodies = block(&mut bytes)?,
                0x4a => times = varints(block(&mut bytes)?)?,
                other => anyhow::bail!("a field with the tag {other:#x}, which the documentation does not name"),
            }
        }
        ensure!(lengths.len() == body_lengths.len(), "columns of different lengths");
        for (i, (length, body_bytes)) in lengths.into_iter().zip(body_lengths).enumerate() {
            let (body, rest) = bodies.split_at_checked(body_bytes as usize).context("bodies are short")?;
            let (kind, event_time) = (kinds.get(i).copied(), times.get(i).copied());
            batch.records.push(Record { length, body: body.to_vec(), kind, event_time });
            bodies = rest;
        }
        Ok(batch)
    }

    fn encode(&self) -> Vec<u8> {
        let records = &self.records;
        let mut out = Vec::new();
        put_block(&mut out, 0x0a, &self.stream);
        out.push(0x11);
        out.extend_from_slice(&self.incarnation);
        put_block(&mut out, 0x1a, &self.source);
        out.push(0x20);
        put_varint(&mut out, self.start);
        put_block(&mut out, 0x2a, &packed(records.iter().map(|record| record.length)));
        put_block(&mut out, 0x32, &packed(records.iter().map(|record| record.body.len() as u64)));
        put_block(&mut out, 0x3a, &records.iter().filter_map(|record| record.kind).collect::<Vec<_>>());
        put_block(&mut out, 0x42, &records.iter().flat_map(|record| record.body.iter().copied()).collect::<Vec<_>>());
        put_block(&mut out, 0x4a, &packed(records.iter().filter_map(|record| record.event_time)));
        out
    }

    /// What is left without `range`: batches, and how many records of this one lie before each.
    fn without(&self, range: &Range<u64>) -> Vec<(usize, Batch)> {
        let (mut left, mut start, mut is_cut): (Vec<(usize, Batch)>, u64, bool) = (Vec::new(), self.start, true);
        for (i, record) in self.records.iter().enumerate() {
            let end = start + record.length;
            let was_cut = is_cut;
            is_cut = range.start <= start && end <= range.end;
            if was_cut && !is_cut {
                left.push((i, Batch { start, records: Vec::new(), ..self.clone() }));
            }
            if let Some((_, part)) = left.last_mut().filter(|_| !is_cut) {
                part.records.push(record.clone());
            }
            start = end;
        }
        left
    }

    /// The entry of this batch, which lay `skipped` records behind the one that `head` belonged to.
    fn entry(&self, head: &[u8], skipped: usize) -> Vec<u8> {
        let mut entry = head.to_vec();
        let mut offset = [0; 8];
        offset.copy_from_slice(&head[8..16]);
        let offset = u64::from_le_bytes(offset) + skipped as u64;
        entry[8..16].copy_from_slice(&offset.to_le_bytes());
        entry[24..28].copy_from_slice(&(self.records.len() as u32).to_le_bytes());
        entry.extend_from_slice(&self.encode());
        entry
    }
}

fn varint(bytes: &mut &[u8]) -> Result<u64> {
    let mut value = 0;
    for shift in (0..64).step_by(7) {
        let (byte, rest) = bytes.split_first().context("a short number")?;
        *bytes = rest;
        value |= u64::from(byte & 0x7f) << shift;
        if byte & 0x80 == 0 {
            return Ok(value);
        }
    }
    anyhow::bail!("a number without an end")
}

fn varints(mut bytes: &[u8]) -> Result<Vec<u64>> {
    let mut values = Vec::new();
    while !bytes.is_empty() {
        values.push(varint(&mut bytes)?);
    }
    Ok(values)
}

fn block<'a>(bytes: &mut &'a [u8]) -> Result<&'a [u8]> {
    let length = varint(bytes)? as usize;
    let (block, rest) = bytes.split_at_checked(length).context("a short field")?;
    *bytes = rest;
    Ok(block)
}

fn put_varint(out: &mut Vec<u8>, mut value: u64) {
    while value >= 0x80 {
        out.push(value as u8 | 0x80);
        value >>= 7;
    }
    out.push(value as u8);
}

fn packed(values: impl Iterator<Item = u64>) -> Vec<u8> {
    let mut out = Vec::new();
    values.for_each(|value| put_varint(&mut out, value));
    out
}

/// A field of bytes; an empty one is left out.
fn put_block(out: &mut Vec<u8>, tag: u8, block: &[u8]) {
    if !block.is_empty() {
        out.push(tag);
        put_varint(out, block.len() as u64);
        out.extend_from_slice(block);
    }
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_checksum_is_castagnolis() {
        assert_eq!(crc32c(&[b"1234", b"56789"]), 0xe306_9283);
    }

    #[test]
    fn a_record_is_cut_out_of_a_batch() -> Result<()> {
        let record = |body: &str| Record {
            length: 300,
            body: body.as_bytes().to_vec(),
            kind: Some(b'e'),
            event_time: Some(u64::MAX),
        };
        let records = ["a", "bb", "", "dddd"].map(record).to_vec();
        let batch = Batch { stream: b"s".to_vec(), incarnation: [7; 8], source: vec![1; 12], start: 1000, records };
        assert_eq!(Batch::decode(&batch.encode())?, batch);

        let left = batch.without(&(1300..1600));
        let places: Vec<_> = left.iter().map(|(skipped, part)| (*skipped, part.start, part.records.len())).collect();
        assert_eq!(places, [(0, 1000, 1), (2, 1600, 2)]);
        assert_eq!(left[1].1.records[1].body, b"dddd");
        assert!(batch.without(&(1000..2200)).is_empty());

        let mut head = vec![0; ENTRY_HEAD];
        head[0] = ENTRY;
        head[8] = 40;
        let entry = left[1].1.entry(&head, left[1].0);
        assert_eq!((entry[8], entry[24]), (42, 2));
        Ok(())
    }
}
