//! Record batches, Kafka's format of version 2, written and read here: the header that every record of ours carries
//! makes the crate's encoder cost 2.5 times this one (decision 0001), and its decoder loses the append time.
//!
//! ```text
//!  0  i64  first offset          21  i16  attributes: codec, log append time, transactional, control
//!  8  i32  bytes from 12 on      23  i32  last offset - first offset
//! 12  i32  leader's epoch        27  i64  first timestamp        35  i64  last timestamp
//! 16  i8   2                     43  i64  producer's id          51  i16  its epoch
//! 17  u32  CRC-32C from 21 on    53  i32  first sequence         57  i32  records        61  records
//! record: length, attributes (0), timestamp - first, offset - first, key, value, headers; all lengths are zigzag varints
//! ```

use std::io::{self, Write};

use bytes::{Buf, BufMut, Bytes, BytesMut};
use stream::config::Compression;

use crate::unpack::unpack;

/// Bytes before the first record.
pub const HEAD_BYTES: usize = 61;
const VERSION: i8 = 2;
const LOG_APPEND_TIME: i16 = 1 << 3;
const TRANSACTIONAL: i16 = 1 << 4;
const CONTROL: i16 = 1 << 5;

/// Who writes, in a transaction.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Stamp {
    /// The producer's id.
    pub producer_id: i64,
    /// Its epoch.
    pub epoch: i16,
    /// Sequence of the batch's first record in its partition.
    pub sequence: i32,
}

/// The codecs' numbers in a batch's attributes.
const LZ4: i16 = 3;
const ZSTD: i16 = 4;
/// The fastest levels: what is better packed costs the gateway more than it spares the brokers.
const LZ4_LEVEL: u32 = 1;
const ZSTD_LEVEL: i32 = 1;

/// A batch being written.
#[derive(Debug)]
pub struct BatchWriter {
    bytes: BytesMut,
    records: i32,
    first_ms: i64,
    last_ms: i64,
    compression: Compression,
}

impl BatchWriter {
    /// An empty batch of records made at `time_ms` (ms since 1970) or around it, with room for `bytes`.
    pub fn new(time_ms: i64, bytes: usize) -> Self {
        let mut buffer = BytesMut::with_capacity(HEAD_BYTES + bytes);
        buffer.put_bytes(0, HEAD_BYTES);
        Self { bytes: buffer, records: 0, first_ms: time_ms, last_ms: time_ms, compression: Compression::None }
    }

    /// The same, packed in the end.
    pub fn packed(self, compression: Compression) -> Self {
        Self { compression, ..self }
    }

    /// Adds a record.
    pub fn push(&mut self, time_ms: i64, key: Option<&[u8]>, value: Option<&[u8]>, headers: &[(&[u8], &[u8])]) {
        let (time, offset) = (zigzag(time_ms - self.first_ms), zigzag(self.records.into()));
        let field =
            |bytes: Option<&[u8]>| bytes.map_or(1, |bytes| varint_bytes(zigzag(bytes.len() as i64)) + bytes.len());
        let headers_bytes: usize = headers.iter().map(|(name, value)| field(Some(name)) + field(Some(value))).sum();
        let length = 1
            + varint_bytes(time)
            + varint_bytes(offset)
            + field(key)
            + field(value)
            + varint_bytes(zigzag(headers.len() as i64))
            + headers_bytes;
        put_varint(&mut self.bytes, zigzag(length as i64));
        self.bytes.put_u8(0);
        put_varint(&mut self.bytes, time);
        put_varint(&mut self.bytes, offset);
        put_field(&mut self.bytes, key);
        put_field(&mut self.bytes, value);
        put_varint(&mut self.bytes, zigzag(headers.len() as i64));
        for (name, value) in headers {
            put_field(&mut self.bytes, Some(name));
            put_field(&mut self.bytes, Some(value));
        }
        self.records += 1;
        self.last_ms = self.last_ms.max(time_ms);
    }

    /// Records so far.
    pub fn len(&self) -> usize {
        self.records as usize
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.records == 0
    }

    /// Bytes so far.
    pub fn bytes(&self) -> usize {
        self.bytes.len()
    }

    /// The batch as it goes into a produce request.
    pub fn finish(mut self, stamp: Option<Stamp>) -> Bytes {
        let codec = self.pack();
        let length = (self.bytes.len() - 12) as i32;
        let attributes = codec | if stamp.is_some() { TRANSACTIONAL } else { 0 };
        let stamp = stamp.unwrap_or(Stamp { producer_id: -1, epoch: -1, sequence: -1 });
        let mut head = &mut self.bytes[..HEAD_BYTES];
        head.put_i64(0);
        head.put_i32(length);
        head.put_i32(-1);
        head.put_i8(VERSION);
        head.put_u32(0);
        head.put_i16(attributes);
        head.put_i32(self.records - 1);
        head.put_i64(self.first_ms);
        head.put_i64(self.last_ms);
        head.put_i64(stamp.producer_id);
        head.put_i16(stamp.epoch);
        head.put_i32(stamp.sequence);
        head.put_i32(self.records);
        let crc = crc32c::crc32c(&self.bytes[21..]);
        self.bytes[17..21].copy_from_slice(&crc.to_be_bytes());
        self.bytes.freeze()
    }
}

impl BatchWriter {
    /// Packs the records, if that makes them smaller; answers the codec.
    fn pack(&mut self) -> i16 {
        let records = &self.bytes[HEAD_BYTES..];
        let (codec, packed) = match self.compression {
            Compression::None => return 0,
            Compression::Lz4 => (LZ4, lz4(records)),
            Compression::Zstd => (ZSTD, zstd::bulk::compress(records, ZSTD_LEVEL)),
        };
        match packed {
            Ok(packed) if packed.len() < records.len() => {
                self.bytes.truncate(HEAD_BYTES);
                self.bytes.extend_from_slice(&packed);
                codec
            }
            // Random bytes, or no memory for a packer: they go as they are.
            Ok(_) | Err(_) => 0,
        }
    }
}

fn lz4(records: &[u8]) -> io::Result<Vec<u8>> {
    let packed = Vec::with_capacity(records.len() / 2);
    let mut packer =
        lz4::EncoderBuilder::new().level(LZ4_LEVEL).block_mode(lz4::BlockMode::Independent).build(packed)?;
    packer.write_all(records)?;
    let (packed, ended) = packer.finish();
    ended.map(|()| packed)
}

fn put_field(out: &mut BytesMut, bytes: Option<&[u8]>) {
    match bytes {
        None => put_varint(out, zigzag(-1)),
        Some(bytes) => {
            put_varint(out, zigzag(bytes.len() as i64));
            out.put_slice(bytes);
        }
    }
}

fn zigzag(value: i64) -> u64 {
    ((value << 1) ^ (value >> 63)) as u64
}

fn varint_bytes(value: u64) -> usize {
    (64 - (value | 1).leading_zeros() as usize).div_ceil(7)
}

fn put_varint(out: &mut BytesMut, mut value: u64) {
    while value >= 0x80 {
        out.put_u8(value as u8 | 0x80);
        value >>= 7;
    }
    out.put_u8(value as u8);
}

/// A record as it was read. Its bytes share the answer's buffer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Record {
    /// Its offset.
    pub offset: i64,
    /// When the broker took it, or where the topic says so when it was made, in ms since 1970.
    pub time_ms: i64,
    /// Its key.
    pub key: Option<Bytes>,
    /// Its value.
    pub value: Option<Bytes>,
    /// Its headers, in order.
    pub headers: Vec<(Bytes, Bytes)>,
}

impl Record {
    /// The value of a header.
    pub fn header(&self, name: &str) -> Option<&Bytes> {
        self.headers.iter().find(|(found, _)| found == name).map(|(_, value)| value)
    }
}

/// One batch as it was read.
#[derive(Debug)]
pub struct Batch {
    /// Offset of the first record that it had when it was written; compaction may have taken some.
    pub first_offset: i64,
    /// One past the last one.
    pub end_offset: i64,
    /// Who wrote it in a transaction; none outside.
    pub transaction_of: Option<i64>,
    /// Whether it ends its producer's transaction.
    pub is_control: bool,
    /// Its records; none in a control batch.
    pub records: Vec<Record>,
}

/// Bytes that are no batch.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("record batch at offset {offset}: {what}")]
pub struct BatchError {
    offset: i64,
    what: String,
}

/// The whole batches in `bytes`. A fetch may end in the middle of one: the rest is left.
pub fn read_batches(mut bytes: Bytes) -> Result<Vec<Batch>, BatchError> {
    let mut batches = Vec::new();
    while bytes.len() >= HEAD_BYTES {
        let length = i32::from_be_bytes([bytes[8], bytes[9], bytes[10], bytes[11]]);
        let Some(length) = usize::try_from(length).ok().map(|length| length + 12).filter(|n| *n >= HEAD_BYTES) else {
            return Err(BatchError { offset: (&bytes[..8]).get_i64(), what: format!("a length of {length}") });
        };
        if length > bytes.len() {
            break;
        }
        batches.push(read_batch(bytes.split_to(length))?);
    }
    Ok(batches)
}

fn read_batch(mut bytes: Bytes) -> Result<Batch, BatchError> {
    let crc_of = crc32c::crc32c(&bytes[21..]);
    let first_offset = bytes.get_i64();
    let bad = |what: &str| BatchError { offset: first_offset, what: what.to_owned() };
    bytes.advance(8);
    let version = bytes.get_i8();
    let crc = bytes.get_u32();
    if version != VERSION {
        return Err(bad("a format older than version 2"));
    }
    if crc != crc_of {
        return Err(bad("the checksum does not fit"));
    }
    let attributes = bytes.get_i16();
    // The first offset stands outside the checksum.
    let end_offset = first_offset.checked_add(i64::from(bytes.get_i32()) + 1).filter(|_| first_offset >= 0);
    let end_offset = end_offset.ok_or_else(|| bad("an impossible offset"))?;
    let (first_ms, last_ms, producer_id) = (bytes.get_i64(), bytes.get_i64(), bytes.get_i64());
    bytes.advance(6);
    let count = bytes.get_i32();
    let is_control = attributes & CONTROL != 0;
    let transaction_of = (attributes & TRANSACTIONAL != 0).then_some(producer_id);
    let mut batch = Batch { first_offset, end_offset, transaction_of, is_control, records: Vec::new() };
    if is_control {
        return Ok(batch);
    }
    let mut body = unpack(bytes, attributes & 7).map_err(|what| bad(&what))?;
    let appended_ms = (attributes & LOG_APPEND_TIME != 0).then_some(last_ms);
    for _ in 0..count {
        let mut record = read_record(&mut body, first_offset, first_ms).ok_or_else(|| bad("a record is cut short"))?;
        record.time_ms = appended_ms.unwrap_or(record.time_ms);
        batch.records.push(record);
    }
    Ok(batch)
}

fn read_record(body: &mut Bytes, first_offset: i64, first_ms: i64) -> Option<Record> {
    let length = usize::try_from(varint(body)?).ok()?;
    if length > body.len() || length == 0 {
        return None;
    }
    let mut bytes = body.split_to(length);
    bytes.advance(1);
    let time_ms = first_ms.checked_add(varint(&mut bytes)?)?;
    let offset = first_offset.checked_add(varint(&mut bytes)?).filter(|offset| *offset >= 0)?;
    let (key, value) = (field(&mut bytes)?, field(&mut bytes)?);
    let count = usize::try_from(varint(&mut bytes)?).ok()?;
    let mut headers = Vec::with_capacity(count.min(8));
    for _ in 0..count {
        headers.push((field(&mut bytes)??, field(&mut bytes)?.unwrap_or_default()));
    }
    Some(Record { offset, time_ms, key, value, headers })
}

/// `Some(None)`: a null.
fn field(bytes: &mut Bytes) -> Option<Option<Bytes>> {
    let length = varint(bytes)?;
    if length < 0 {
        return Some(None);
    }
    let length = usize::try_from(length).ok().filter(|length| *length <= bytes.len())?;
    Some(Some(bytes.split_to(length)))
}

fn varint(bytes: &mut Bytes) -> Option<i64> {
    let mut value = 0_u64;
    for shift in (0..64).step_by(7) {
        let byte = *bytes.first()?;
        bytes.advance(1);
        value |= u64::from(byte & 0x7f) << shift;
        if byte < 0x80 {
            return Some((value >> 1) as i64 ^ -((value & 1) as i64));
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;
    use kafka_protocol::records::RecordBatchDecoder;
    use proptest::prelude::*;

    type Parts = (i64, Option<Vec<u8>>, Option<Vec<u8>>, Vec<u8>);

    fn written(records: &[Parts], stamp: Option<Stamp>, compression: Compression) -> Bytes {
        let mut writer = BatchWriter::new(records[0].0, 0).packed(compression);
        for (time_ms, key, value, header) in records {
            writer.push(*time_ms, key.as_deref(), value.as_deref(), &[(b"il", header)]);
        }
        writer.finish(stamp)
    }

    fn some_records() -> impl Strategy<Value = Vec<Parts>> {
        let bytes = || proptest::collection::vec(any::<u8>(), 0..200);
        let optional = move || proptest::option::of(bytes());
        proptest::collection::vec((0..4_000_000_000_000_i64, optional(), optional(), bytes()), 1..40)
    }

    proptest! {
        #[test]
        fn what_is_written_is_read_here_and_by_the_crate(
            records in some_records(), in_transaction: bool,
            compression in prop_oneof![Just(Compression::None), Just(Compression::Lz4), Just(Compression::Zstd)],
        ) {
            let stamp = in_transaction.then_some(Stamp { producer_id: 7, epoch: 2, sequence: 11 });
            let bytes = written(&records, stamp, compression);
            let theirs = RecordBatchDecoder::decode(&mut bytes.clone()).unwrap().records;
            let ours = read_batches(bytes).unwrap();
            prop_assert_eq!(ours.len(), 1);
            prop_assert_eq!(ours[0].transaction_of, stamp.map(|stamp| stamp.producer_id));
            prop_assert_eq!(ours[0].end_offset, records.len() as i64);
            prop_assert_eq!(theirs.len(), records.len());
            for (i, (time_ms, key, value, header)) in records.iter().enumerate() {
                let (theirs, ours) = (&theirs[i], &ours[0].records[i]);
                prop_assert_eq!((theirs.offset, theirs.timestamp), (i as i64, *time_ms));
                prop_assert_eq!((&theirs.key, &theirs.value), (&ours.key, &ours.value));
                prop_assert_eq!((ours.offset, ours.time_ms), (i as i64, *time_ms));
                prop_assert_eq!(ours.key.as_deref(), key.as_deref());
                prop_assert_eq!(ours.value.as_deref(), value.as_deref());
                prop_assert_eq!(ours.header("il").map(|bytes| &bytes[..]), Some(&header[..]));
            }
        }

        #[test]
        fn damage_is_noticed_and_never_a_panic(records in some_records(), at: usize, bit in 0..8_u8, cut: usize) {
            let whole = written(&records, None, Compression::None);
            let mut damaged = whole.to_vec();
            // The first 16 bytes (offset, length, epoch) are outside the checksum.
            let at = 17 + at % (damaged.len() - 17);
            damaged[at] ^= 1 << bit;
            prop_assert!(read_batches(damaged.into()).is_err());
            prop_assert_eq!(read_batches(whole.slice(..cut % whole.len())).map(|batches| batches.len()), Ok(0));
        }
    }

    #[test]
    fn what_repeats_is_packed_and_what_does_not_is_left() {
        let bytes = |compression, value: &[u8]| {
            let mut writer = BatchWriter::new(0, 0).packed(compression);
            (0..100).for_each(|_| writer.push(0, None, Some(value), &[]));
            let bytes = writer.finish(None);
            assert_eq!(read_batches(bytes.clone()).unwrap()[0].records.len(), 100);
            bytes.len()
        };
        let plain = bytes(Compression::None, &[b'x'; 200]);
        for compression in [Compression::Lz4, Compression::Zstd] {
            assert!(bytes(compression, &[b'x'; 200]) < plain / 10, "{compression:?}");
        }
        let mut writer = BatchWriter::new(0, 0).packed(Compression::Zstd);
        writer.push(0, None, Some(&rand::random::<[u8; 32]>()), &[]);
        let attributes = writer.finish(None)[22];
        assert_eq!(attributes, 0, "nothing was gained");
    }
}
