//! Batches as Kafka's records, and records as batches again.

use kafka::batch::{BatchWriter, Record};
use kafka::produce::Records;
use stream::config::Compression;
use stream::limits::{BATCH_BYTES_MAX, BATCH_RECORDS_MAX};
use stream::provenance::HEADER_NAME;
use stream::{Batch, BatchBuilder, Header, SourceId, View};
use tracing::error;

use crate::metrics;
use crate::seam::{Entry, Topic};

/// A batch as records: one event, one record.
pub struct Laid(pub Batch, pub Compression);

impl Records for Laid {
    fn count(&self) -> usize {
        self.0.len()
    }

    fn bytes(&self) -> usize {
        self.0.body_bytes()
    }

    fn compression(&self) -> Compression {
        self.1
    }

    fn write(&self, out: &mut BatchWriter) {
        for View { kind, range, event_time_ms, body } in self.0.views() {
            let il = Header { kind, source: self.0.source, range, lap: 0, event_time_ms }.text();
            out.push(0, None, Some(body), &[(HEADER_NAME.as_bytes(), il.as_bytes())]);
        }
    }
}

/// What a record of ours says.
struct Told<'a> {
    header: Header,
    offset: u64,
    append_time_ms: i64,
    body: &'a [u8],
}

/// Records as entries: neighbours of one source whose offsets join and whose ranges go up are one batch. A record without
/// our header is somebody else's: it is passed over, aloud and counted.
pub fn entries(topic: &Topic, records: &[Record]) -> Vec<Entry> {
    let (mut entries, mut open): (Vec<Entry>, Option<Open>) = (Vec::new(), None);
    let mut left = records.len();
    for record in records {
        left -= 1;
        let Some(told) = told(topic, record) else { continue };
        if let Some(full) = open.take_if(|open| !open.takes(&told)) {
            entries.extend(full.close(topic));
        }
        open.get_or_insert_with(|| Open::begin(&told, left)).push(&told);
    }
    entries.extend(open.and_then(|open| open.close(topic)));
    entries
}

fn told<'a>(topic: &Topic, record: &'a Record) -> Option<Told<'a>> {
    let text = record.header(HEADER_NAME).and_then(|value| std::str::from_utf8(value).ok());
    let header = text.map(str::parse::<Header>);
    let header = match header {
        Some(Ok(header)) => header,
        other => {
            let why = other.and_then(Result::err).map_or("no header il".to_owned(), |error| error.to_string());
            error!(topic = topic.key, offset = record.offset, why, "a record that is not isolane's is passed over");
            metrics::foreign(&topic.key);
            return None;
        }
    };
    let body = record.value.as_deref().unwrap_or_default();
    Some(Told { header, offset: record.offset as u64, append_time_ms: record.time_ms, body })
}

/// An entry being gathered.
struct Open {
    source: SourceId,
    offset: u64,
    append_time_ms: i64,
    builder: BatchBuilder,
}

impl Open {
    /// An entry that begins with `first`, after which `left` records may follow, as long as it.
    fn begin(first: &Told<'_>, left: usize) -> Self {
        let Header { source, range, .. } = first.header;
        let (offset, append_time_ms) = (first.offset, first.append_time_ms);
        let records = (left + 1).min(BATCH_RECORDS_MAX);
        let builder = BatchBuilder::with_room(range.start, records, (records * first.body.len()).min(BATCH_BYTES_MAX));
        Self { source, offset, append_time_ms, builder }
    }

    fn takes(&self, next: &Told<'_>) -> bool {
        next.header.source == self.source
            && next.header.range.start >= self.builder.end()
            && next.offset == self.offset + self.builder.len() as u64
            && next.append_time_ms == self.append_time_ms
            && self.builder.len() < BATCH_RECORDS_MAX
            && self.builder.body_bytes() < BATCH_BYTES_MAX
    }

    fn push(&mut self, told: &Told<'_>) {
        let Header { kind, range, event_time_ms, .. } = told.header;
        self.builder.skip_to(range.start);
        self.builder.push(kind, range.end, event_time_ms, told.body);
    }

    fn close(mut self, topic: &Topic) -> Option<Entry> {
        let batch = self.builder.take(&topic.stream, topic.incarnation, self.source)?;
        Some(Entry { offset: self.offset, append_time_ms: self.append_time_ms, batch })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use kafka::batch::read_batches;
    use stream::{Incarnation, Kind};

    #[test]
    fn a_batch_survives_kafka_and_strangers_are_passed_over() {
        let (stream, incarnation): (stream::StreamId, _) = ("a.b.c".parse().unwrap(), Incarnation(7));
        let topic = Topic { key: "a.b.c@7".to_owned(), stream: stream.clone(), incarnation };
        let batch = |start: u64, source: u8| {
            let mut builder = BatchBuilder::new(start);
            builder.push(Kind::Event, start + 4, None, b"abc");
            builder.push(Kind::Mark, start + 9, None, b"");
            builder.push(Kind::Event, start + 11, Some(1_795_420_800_000), b"\xffd");
            builder.take(&stream, incarnation, SourceId::derive(3, &[&[source]])).unwrap()
        };
        let (one, next, other) = (batch(10, 1), batch(21, 1), batch(21, 2));
        let mut writer = BatchWriter::new(0, 0);
        [&one, &next].into_iter().for_each(|batch| Laid(batch.clone(), Compression::None).write(&mut writer));
        writer.push(0, None, Some(b"stranger"), &[]);
        Laid(other.clone(), Compression::None).write(&mut writer);
        let records = read_batches(writer.finish(None)).unwrap().remove(0).records;
        let entries = entries(&topic, &records);
        let offsets: Vec<u64> = entries.iter().map(|entry| entry.offset).collect();
        assert_eq!(offsets, [0, 7], "neighbours are one entry, a stranger parts them");
        let all = |batches: &[&Batch]| batches.iter().flat_map(|batch| batch.records()).collect::<Vec<_>>();
        assert_eq!(all(&[&entries[0].batch]), all(&[&one, &next]));
        assert_eq!(entries[1].batch, other);
    }

    #[test]
    fn a_part_of_a_batch_is_one_entry_and_a_copy_begins_another() {
        let topic = Topic { key: "a.b.c@7".to_owned(), stream: "a.b.c".parse().unwrap(), incarnation: Incarnation(7) };
        let mut builder = BatchBuilder::new(0);
        (1..=9).for_each(|n| builder.push(Kind::Event, n * 10, None, &[b'0' + n as u8 % 3]));
        let whole = builder.take(&topic.stream, topic.incarnation, SourceId::derive(3, &[])).unwrap();
        let part = whole.part(|record| u32::from(record.body[0])).remove(&u32::from(b'1')).unwrap();
        let mut writer = BatchWriter::new(0, 0);
        [&part, &part].into_iter().for_each(|batch| Laid(batch.clone(), Compression::None).write(&mut writer));
        let records = read_batches(writer.finish(None)).unwrap().remove(0).records;
        let entries = entries(&topic, &records);
        assert_eq!(entries.iter().map(|entry| &entry.batch).collect::<Vec<_>>(), [&part, &part]);
        assert_eq!(part.covered().as_slice().len(), 3);
    }
}
