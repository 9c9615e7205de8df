//! Rows as Kafka's records: a key, a value, the event's time, and where it came from. Pure.

use arrow_array::cast::AsArray;
use arrow_array::{Array, ArrayRef, BinaryArray, RecordBatch, StringArray};
use arrow_json::writer::{LineDelimited, WriterBuilder};
use arrow_schema::DataType;
use kafka::batch::Record;
use stream::config::{KafkaFormat, KafkaTarget};
use stream::provenance::HEADER_NAME;
use stream::{Header, Kind};
use tracing::error;

use crate::seam::{Origin, Rows, SetApart};

/// The header with the cause of a record that was set apart.
const CAUSE: &str = "il-cause";
/// The header with the time at which the journal took a record that was set apart, in ms since 1970.
const APPENDED: &str = "il-appended";

/// A number or a time as JSON is shorter.
const PRIMITIVE_BYTES_MAX: usize = 64;
/// The lengths of a header's name and value, at most.
const LENGTHS_BYTES: usize = 10;
/// A control character becomes six in JSON.
const JSON_EXPANSION_MAX: usize = 6;

/// A record ready to be written; what it has lies elsewhere.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Laid<'a> {
    /// Its key.
    pub key: Option<&'a [u8]>,
    /// Its value.
    pub value: Option<&'a [u8]>,
    /// The event's time, in ms since 1970.
    pub time_ms: i64,
    /// Its headers, the provenance first.
    pub headers: &'a [(&'a [u8], &'a [u8])],
}

impl Laid<'_> {
    /// Bytes of key, value and headers.
    pub fn bytes(&self) -> usize {
        let headers: usize = self.headers.iter().map(|(name, value)| name.len() + value.len()).sum();
        self.key.map_or(0, <[u8]>::len) + self.value.map_or(0, <[u8]>::len) + headers
    }

    /// What chooses its partition: its key, or where it came from.
    pub fn spread_by(&self) -> &[u8] {
        let source = || self.headers.first().and_then(|(_, il)| il.get(1..25)).unwrap_or_default();
        self.key.unwrap_or_else(source)
    }
}

/// Rows on their way to be records: columns, not a record each, because there are millions of them.
pub struct LaidRows {
    keys: Option<Texts>,
    headers: Vec<(String, Texts)>,
    values: Texts,
    event_times_ms: Vec<i64>,
    origins: Vec<Origin>,
}

/// Keys or values.
enum Texts {
    /// A column of text.
    Text(StringArray),
    /// A column of bytes.
    Binary(BinaryArray),
    /// Lines, and where each ends.
    Lines(Vec<u8>, Vec<usize>),
}

impl Texts {
    fn get(&self, row: usize) -> Option<&[u8]> {
        match self {
            Self::Text(column) => column.is_valid(row).then(|| column.value(row).as_bytes()),
            Self::Binary(column) => column.is_valid(row).then(|| column.value(row)),
            Self::Lines(text, ends) => {
                let start = row.checked_sub(1).map_or(0, |before| ends[before] + 1);
                Some(&text[start..ends[row]])
            }
        }
    }
}

impl LaidRows {
    /// How many.
    pub fn len(&self) -> usize {
        self.origins.len()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.origins.is_empty()
    }

    /// Calls `with` with a row's record; its time is not after `now_ms`.
    pub fn with<T>(&self, row: usize, now_ms: i64, with: impl FnOnce(&Laid<'_>) -> T) -> T {
        let Origin { source, range } = self.origins[row];
        let text = Header { kind: Kind::Event, source, range, lap: 0, event_time_ms: None }.text();
        let il = (HEADER_NAME.as_bytes(), text.as_bytes());
        fn of_row((name, column): &(String, Texts), row: usize) -> Option<(&[u8], &[u8])> {
            Some((name.as_bytes(), column.get(row)?))
        }
        let all: Vec<_>;
        let headers = match &self.headers[..] {
            [] => &[il][..],
            columns => {
                all = std::iter::once(il).chain(columns.iter().filter_map(|one| of_row(one, row))).collect();
                &all
            }
        };
        let key = self.keys.as_ref().and_then(|keys| keys.get(row));
        // A broker refuses what is of the future, for good.
        let time_ms = self.event_times_ms[row].clamp(0, now_ms);
        with(&Laid { key, value: self.values.get(row), time_ms, headers })
    }
}

/// The rows as records. The error says which column does not fit.
pub fn lay_out(rows: Rows, target: &KafkaTarget) -> Result<LaidRows, String> {
    let Rows { batch, event_times_ms, origins } = rows;
    let schema = batch.schema();
    let column = |what, name: &String| -> Result<(usize, Texts), String> {
        let at = schema.index_of(name).map_err(|_| format!("the {what} column {name} is not among the columns"))?;
        Ok((at, texts(batch.column(at), name)?))
    };
    if target.headers.iter().any(|name| name == HEADER_NAME) {
        return Err(format!("header {HEADER_NAME} is the provenance's; give the column another name"));
    }
    let key = target.key.as_ref().map(|name| column("key", name)).transpose()?;
    let headers: Vec<(usize, Texts)> =
        target.headers.iter().map(|name| column("header", name)).collect::<Result<_, _>>()?;
    let is_taken = |at: &usize| key.iter().chain(&headers).any(|(taken, _)| taken == at);
    let others: Vec<usize> = (0..batch.num_columns()).filter(|at| !is_taken(at)).collect();
    let batch = batch.project(&others).map_err(|error| error.to_string())?;
    let keys = key.map(|(_, keys)| keys);
    let headers = target.headers.iter().cloned().zip(headers.into_iter().map(|(_, texts)| texts)).collect();
    let values = match target.format {
        KafkaFormat::Json => json(&batch)?,
        KafkaFormat::Raw => match batch.columns() {
            [only] => texts(only, batch.schema().field(0).name())?,
            columns => {
                return Err(format!("format raw takes one column beside key and headers, there are {}", columns.len()));
            }
        },
    };
    Ok(LaidRows { keys, headers, values, event_times_ms, origins })
}

/// Rows of more than `bytes_max` bytes as records, each with its cause.
pub fn misfits(rows: &RecordBatch, target: &KafkaTarget, bytes_max: usize) -> Vec<(usize, String)> {
    if row_bytes_bound(rows).is_some_and(|bound| bound <= bytes_max) {
        return Vec::new();
    }
    let nowhere = Rows { batch: rows.clone(), event_times_ms: Vec::new(), origins: Vec::new() };
    // What cannot be laid out at all is said by whoever writes it.
    let Ok(laid) = lay_out(nowhere, target) else { return Vec::new() };
    let bytes_of = |row: usize| {
        let length = |column: &Texts| column.get(row).map(<[u8]>::len);
        let headers =
            laid.headers.iter().filter_map(|(name, column)| Some(length(column)? + name.len() + LENGTHS_BYTES));
        let others = laid.keys.iter().chain([&laid.values]).filter_map(length);
        headers.chain(others).sum::<usize>()
    };
    let misfit = |row: usize| {
        let bytes = bytes_of(row);
        let cause = || format!("sink: {bytes} bytes are more than topic {} takes, {bytes_max}", target.topic);
        (bytes > bytes_max).then(|| (row, cause()))
    };
    (0..rows.num_rows()).filter_map(misfit).collect()
}

/// No row is longer than this as a record, found without laying any out; none if that cannot be said.
fn row_bytes_bound(rows: &RecordBatch) -> Option<usize> {
    let longest = |column: &ArrayRef| match column.data_type() {
        DataType::Utf8 => Some(longest(column.as_string::<i32>().value_offsets()) * JSON_EXPANSION_MAX),
        DataType::Binary => Some(longest(column.as_binary::<i32>().value_offsets()) * JSON_EXPANSION_MAX),
        DataType::Boolean => Some(PRIMITIVE_BYTES_MAX),
        kind => kind.primitive_width().map(|_| PRIMITIVE_BYTES_MAX),
    };
    let schema = rows.schema();
    let columns = schema.fields().iter().zip(rows.columns());
    columns.map(|(field, column)| Some(longest(column)? + field.name().len() * JSON_EXPANSION_MAX + 4)).sum()
}

fn longest(offsets: &[i32]) -> usize {
    offsets.windows(2).map(|ends| (ends[1] - ends[0]) as usize).max().unwrap_or(0)
}

/// Calls `with` with a record that could not be converted, its cause among the headers.
pub fn with_apart<T>(record: &SetApart, with: impl FnOnce(&Laid<'_>) -> T) -> T {
    let (il, appended) = (record.header.to_string(), record.append_time_ms.to_string());
    with(&Laid {
        key: None,
        value: Some(&record.body),
        time_ms: record.append_time_ms.max(0),
        headers: &[
            (HEADER_NAME.as_bytes(), il.as_bytes()),
            (CAUSE.as_bytes(), record.cause.as_bytes()),
            (APPENDED.as_bytes(), appended.as_bytes()),
        ],
    })
}

/// A record of the quarantine's topic as it was set apart; none, aloud, if nobody of us did.
pub fn read_apart(record: Record) -> Option<SetApart> {
    let text = |name| record.header(name).and_then(|value| std::str::from_utf8(value).ok());
    let told = || Some((text(HEADER_NAME)?.parse().ok()?, text(CAUSE)?.to_owned(), text(APPENDED)?.parse().ok()?));
    let Some((header, cause, append_time_ms)) = told() else {
        error!(offset = record.offset, "a record of the quarantine's topic that is not isolane's is passed over");
        return None;
    };
    Some(SetApart { header, cause, append_time_ms, body: record.value.unwrap_or_default() })
}

/// Each row as a JSON object, nulls written out, as Flink does.
fn json(batch: &RecordBatch) -> Result<Texts, String> {
    let mut writer = WriterBuilder::new().with_explicit_nulls(true).build::<_, LineDelimited>(Vec::new());
    writer.write(batch).and_then(|()| writer.finish()).map_err(|error| error.to_string())?;
    let text = writer.into_inner();
    // JSON escapes line feeds, so that each one ends a row.
    let ends = text.iter().enumerate().filter(|(_, byte)| **byte == b'\n').map(|(at, _)| at).collect();
    Ok(Texts::Lines(text, ends))
}

/// A column of text or bytes, as it is.
fn texts(column: &ArrayRef, name: &str) -> Result<Texts, String> {
    match column.data_type() {
        DataType::Utf8 => Ok(Texts::Text(column.as_string().clone())),
        DataType::Binary => Ok(Texts::Binary(column.as_binary().clone())),
        other => Err(format!("column {name} is {other}; CAST it AS STRING to use it as it is")),
    }
}

/// The partition of a key: Kafka's own rule (murmur2, as in its Java client), so that a key lies where other producers put
/// it.
pub fn partition_of(key: &[u8], partitions: i32) -> i32 {
    ((murmur2(key) & 0x7fff_ffff) % partitions.max(1) as u32) as i32
}

/// MurmurHash2 with the seed of Kafka's `Utils.murmur2`.
fn murmur2(data: &[u8]) -> u32 {
    const M: u32 = 0x5bd1_e995;
    let mix = |k: u32| {
        let k = k.wrapping_mul(M);
        (k ^ (k >> 24)).wrapping_mul(M)
    };
    let mut hash = 0x9747_b28c ^ data.len() as u32;
    let (words, rest) = data.as_chunks::<4>();
    for word in words {
        hash = hash.wrapping_mul(M) ^ mix(u32::from_le_bytes(*word));
    }
    for (at, byte) in rest.iter().enumerate().rev() {
        hash ^= u32::from(*byte) << (8 * at);
    }
    if !rest.is_empty() {
        hash = hash.wrapping_mul(M);
    }
    hash = (hash ^ (hash >> 13)).wrapping_mul(M);
    hash ^ (hash >> 15)
}

#[cfg(test)]
mod tests {
    use super::*;
    use arrow_array::Int64Array;
    use arrow_schema::{Field, Schema};
    use bytes::Bytes;
    use std::sync::Arc;
    use stream::SourceId;
    use stream::config::Compression;
    use stream::provenance::Range;

    fn rows() -> Rows {
        let schema = Schema::new(vec![
            Field::new("user", DataType::Utf8, true),
            Field::new("line", DataType::Utf8, true),
            Field::new("n", DataType::Int64, true),
        ]);
        let users = StringArray::from(vec![Some("ann"), None]);
        let lines = StringArray::from(vec![Some("a\n\"b\""), Some("ü")]);
        let numbers = Int64Array::from(vec![None, Some(-7)]);
        let batch =
            RecordBatch::try_new(Arc::new(schema), vec![Arc::new(users), Arc::new(lines), Arc::new(numbers)]).unwrap();
        let origin = |start| Origin { source: SourceId::derive(1, &[]), range: Range::new(start, start + 4) };
        Rows { batch, event_times_ms: vec![5, 6], origins: vec![origin(0), origin(4)] }
    }

    fn target(key: Option<&str>, format: KafkaFormat) -> KafkaTarget {
        let (brokers, topic, key) = ("a:1".into(), "t".into(), key.map(str::to_owned));
        KafkaTarget { brokers, topic, partitions: 1, key, headers: Vec::new(), format, compression: Compression::None }
    }

    /// Keys, values and what they are spread by.
    fn laid(rows: Rows, target: &KafkaTarget) -> Vec<[Option<String>; 3]> {
        let laid = lay_out(rows, target).unwrap();
        let text = |bytes: &[u8]| String::from_utf8(bytes.to_vec()).unwrap();
        let mut one =
            |row| laid.with(row, 9, |one| [one.key, one.value, Some(one.spread_by())].map(|bytes| bytes.map(text)));
        (0..laid.len()).map(&mut one).collect()
    }

    #[test]
    fn rows_become_json_or_bytes_with_their_keys() {
        let (ann, source) = (Some("ann".to_owned()), Some(SourceId::derive(1, &[]).to_string()));
        let values = [r#"{"line":"a\n\"b\"","n":null}"#, r#"{"line":"ü","n":-7}"#].map(|text| Some(text.to_owned()));
        let [first, second] = values;
        let expected = [[ann.clone(), first, ann], [None, second, source]];
        assert_eq!(laid(rows(), &target(Some("user"), KafkaFormat::Json)), expected);
        let refused = |target| lay_out(rows(), &target).err().unwrap();
        assert!(refused(target(Some("user"), KafkaFormat::Raw)).contains("one column"));
        assert!(refused(target(Some("who"), KafkaFormat::Json)).contains("who"));
        let mut one = rows();
        one.batch = one.batch.project(&[1]).unwrap();
        let laid = laid(one, &target(None, KafkaFormat::Raw));
        assert_eq!(laid[0][1].as_deref(), Some("a\n\"b\""));
    }

    #[test]
    fn rows_that_are_too_large_are_named() {
        let target = target(None, KafkaFormat::Json);
        let lengths: Vec<usize> =
            laid(rows(), &target).iter().map(|[_, value, _]| value.as_ref().unwrap().len()).collect();
        assert!(lengths[0] > lengths[1], "{lengths:?}");
        assert_eq!(misfits(&rows().batch, &target, lengths[0]), []);
        let found = misfits(&rows().batch, &target, lengths[0] - 1);
        assert!(found.len() == 1 && found[0].0 == 0 && found[0].1.contains(&lengths[0].to_string()), "{found:?}");
        assert_eq!(misfits(&rows().batch, &target, lengths[1] - 1).len(), 2);
    }

    #[test]
    fn columns_become_headers_unless_they_are_null() {
        let target = KafkaTarget { headers: vec!["user".into()], ..target(None, KafkaFormat::Json) };
        let laid = lay_out(rows(), &target).unwrap();
        let headers = |row| {
            laid.with(row, 9, |one| {
                let rest = one.headers[1..].iter().map(|(name, value)| [name.to_vec(), value.to_vec()]);
                (rest.collect::<Vec<_>>(), one.value.map(<[u8]>::to_vec))
            })
        };
        assert_eq!(headers(0).0, [[b"user".to_vec(), b"ann".to_vec()]]);
        assert_eq!(headers(1), (vec![], Some("{\"line\":\"ü\",\"n\":-7}".into())));
        let missing = KafkaTarget { headers: vec!["who".into()], ..target };
        assert!(lay_out(rows(), &missing).err().unwrap().contains("header column who"));
    }

    #[test]
    fn a_record_set_apart_is_read_back() {
        let Origin { source, range } = rows().origins[0];
        let header = Header { kind: Kind::Event, source, range, lap: 2, event_time_ms: Some(7) };
        let apart = SetApart { header, cause: "no JSON".into(), append_time_ms: 9, body: Bytes::from_static(b"\xff{") };
        let record = with_apart(&apart, |laid| {
            let copy = |bytes: &[u8]| Bytes::copy_from_slice(bytes);
            let headers = laid.headers.iter().map(|(name, value)| (copy(name), copy(value))).collect();
            Record { offset: 0, time_ms: 0, key: None, value: laid.value.map(copy), headers }
        });
        assert_eq!(read_apart(record.clone()), Some(apart));
        assert_eq!(read_apart(Record { headers: Vec::new(), ..record }), None);
    }

    #[test]
    fn keys_lie_where_kafkas_own_clients_put_them() {
        // From the unit tests of Kafka's Utils.murmur2.
        for (key, hash) in [
            ("21", -973_932_308_i32),
            ("foobar", -790_332_482),
            ("a-little-bit-long-string", -985_981_536),
            ("a-little-bit-longer-string", -1_486_304_829),
            ("lkjh234lh9fiuh90y23oiuhsafujhadof229phr9h19h89h8", -58_897_971),
        ] {
            assert_eq!(murmur2(key.as_bytes()) as i32, hash, "{key}");
        }
    }
}
