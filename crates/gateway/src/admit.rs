//! What a batch must be to be let in: checks of its size against the limits, pure and before any queue sees it.

use bytes::BytesMut;
use stream::config::StreamConfig;
use stream::id::excerpt;
use stream::limits::{BATCH_BYTES_MAX, BATCH_RECORDS_MAX, EVENT_TIME_AHEAD_MAX};
use stream::wire::{Refusal, RefusalReason};
use stream::{Batch, BatchBuilder, Kind, StreamId};

/// Records of one HTTP request. More than a batch on the wire may hold: an HTTP client knows no batches, and a body
/// within its byte limit should not fail for its short lines.
pub const REQUEST_RECORDS_MAX: usize = 10_000;
/// What a record costs beside its body: its entries in a batch's columns.
const RECORD_BYTES: usize = 16;
/// What a batch costs beside its records: its place in a queue, its answer.
const BATCH_BYTES: usize = 512;

/// Memory that a batch is charged for; counts what tiny records cost, so that they are bounded too.
pub fn cost(body_bytes: usize, records: usize) -> usize {
    body_bytes + records * RECORD_BYTES + BATCH_BYTES
}

/// Checks a batch that came over gRPC.
pub fn check_batch(config: &StreamConfig, batch: &Batch) -> Result<(), Refusal> {
    let id = &config.spec.id;
    if batch.has_gaps() {
        let message = "its records do not join; send what lies between them, or other batches";
        return Err(Refusal::new(RefusalReason::Malformed, scope(id), message));
    }
    within(id, "bytes of bodies in the batch", batch.body_bytes(), BATCH_BYTES_MAX)?;
    within(id, "records in the batch", batch.len(), BATCH_RECORDS_MAX)?;
    within(id, "bytes in the longest record", batch.body_bytes_longest(), config.spec.limits.record_bytes_max)
}

/// Takes the records of one request, within the limits of its stream: none more than they allow is kept.
#[derive(Debug)]
pub struct Gatherer<'a> {
    config: &'a StreamConfig,
    gathered: BatchBuilder,
    now_ms: i64,
    times_left_out: usize,
}

impl<'a> Gatherer<'a> {
    /// For a request that comes at `now_ms`.
    pub fn new(config: &'a StreamConfig, now_ms: i64) -> Self {
        Self { config, gathered: BatchBuilder::new(0), now_ms, times_left_out: 0 }
    }

    /// Makes room for so many records, as far as they are allowed, and bytes of bodies that will be pushed.
    pub fn expect(&mut self, records: usize, body_bytes: usize) {
        self.gathered.reserve(records.min(REQUEST_RECORDS_MAX), body_bytes);
    }

    /// Takes a record of so many bytes, whose body [`Gatherer::set_bodies`] brings; see [`Gatherer::push`].
    pub fn push_length(&mut self, range_end: u64, body_bytes: usize) -> Result<(), Refusal> {
        self.check(body_bytes)?;
        self.gathered.push_length(Kind::Event, range_end, None, body_bytes);
        Ok(())
    }

    /// The bodies of all records, one behind another: no more than a body may be long, so that no limit is left to check.
    pub fn set_bodies(&mut self, bodies: BytesMut) {
        self.gathered.set_bodies(bodies);
    }

    /// Takes a record, whose range ends at `range_end` of the request's own source.
    pub fn push(&mut self, range_end: u64, event_time_ms: Option<i64>, body: &[u8]) -> Result<(), Refusal> {
        self.check(body.len())?;
        within(
            &self.config.spec.id,
            "bytes of records in the body",
            self.gathered.body_bytes() + body.len(),
            BATCH_BYTES_MAX,
        )?;
        let sane = event_time_ms.filter(|ms| is_sane(*ms, self.now_ms));
        self.times_left_out += usize::from(sane != event_time_ms);
        self.gathered.push(Kind::Event, range_end, sane, body);
        Ok(())
    }

    /// Whether another record may come, of so many bytes.
    fn check(&self, body_bytes: usize) -> Result<(), Refusal> {
        let spec = &self.config.spec;
        within(&spec.id, "records in the body", self.gathered.len() + 1, REQUEST_RECORDS_MAX)?;
        within(&spec.id, "bytes in the longest record", body_bytes, spec.limits.record_bytes_max)
    }

    /// Event times that cannot be true, and were left out.
    pub fn times_left_out(&self) -> usize {
        self.times_left_out
    }

    /// Whether nothing was taken yet.
    pub fn is_empty(&self) -> bool {
        self.gathered.is_empty()
    }

    /// What was taken; refused if there is nothing.
    pub fn finish(self) -> Result<BatchBuilder, Refusal> {
        let empty = || {
            let message = "there is no record in the body; send at least one";
            Refusal::new(RefusalReason::Malformed, scope(&self.config.spec.id), message)
        };
        let mut gathered = self.gathered;
        gathered.shrink();
        if gathered.is_empty() { Err(empty()) } else { Ok(gathered) }
    }
}

/// Whether an event may have happened at `event_time_ms`.
fn is_sane(event_time_ms: i64, now_ms: i64) -> bool {
    (1..=now_ms.saturating_add(EVENT_TIME_AHEAD_MAX.as_millis() as i64)).contains(&event_time_ms)
}

/// `refusal`, unless it is for good and its sender knows a newer version of the stream than `config` is: what is refused
/// here may be allowed by now, and must wait until this gateway has heard of it.
pub fn unless_outdated(refusal: Refusal, config: &StreamConfig, sender_version: u64) -> Refusal {
    if !refusal.reason.for_good() || sender_version <= config.version {
        return refusal;
    }
    let known = config.version;
    let message = format!(
        "this gateway knows version {known} of the stream, not yet {sender_version}; send it again (refused: {refusal})"
    );
    Refusal::new(RefusalReason::Unavailable, scope(&config.spec.id), message)
}

/// The scope of a refusal that concerns one stream.
pub fn scope(id: &StreamId) -> String {
    format!("stream {id}")
}

/// The refusal of a stream that no queue exists for.
pub fn unknown_stream(id: &str) -> Refusal {
    let message = "no such stream, or another life of it; create it, or read the configuration again";
    Refusal::new(RefusalReason::UnknownStream, format!("stream {}", excerpt(id)), message)
}

/// The refusal of a stream that was deleted while its batch was on its way.
pub fn deleted_stream(scope: impl Into<String>) -> Refusal {
    Refusal::new(RefusalReason::UnknownStream, scope, "the stream was deleted")
}

fn within(id: &StreamId, what: &str, found: usize, max: usize) -> Result<(), Refusal> {
    if found <= max {
        return Ok(());
    }
    let message = format!("{found} {what}, the limit is {max}; send less at a time");
    Err(Refusal::new(RefusalReason::TooLarge, scope(id), message))
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use crate::accept::protocol::Protocol;
    use crate::accept::protocol::lines::Lines;
    use axum::http::HeaderMap;
    use bytes::Bytes;
    use stream::config::StreamSpec;
    use stream::{Incarnation, Range, SourceId};

    pub fn config(record_bytes_max: usize) -> StreamConfig {
        let mut spec = StreamSpec::new("a.b.c".parse().unwrap());
        spec.limits.record_bytes_max = record_bytes_max;
        StreamConfig { incarnation: Incarnation(1), version: 1, spec }
    }

    fn gather<P: Protocol>(config: &StreamConfig, headers: &HeaderMap, body: &[u8]) -> Result<Batch, Refusal> {
        let mut records = Gatherer::new(config, 2_000_000_000_000);
        P::gather(headers, Bytes::copy_from_slice(body), &mut records)?;
        let source = SourceId::derive(1, &[]);
        Ok(records.finish()?.take(&config.spec.id, config.incarnation, source).unwrap())
    }

    /// What a protocol makes of a body with these headers.
    pub fn gathered_with<P: Protocol>(headers: &HeaderMap, body: &[u8]) -> Result<Batch, Refusal> {
        gather::<P>(&config(1_000), headers, body)
    }

    /// The ranges and bodies that a protocol makes of a body.
    pub fn gathered<P: Protocol>(body: &[u8]) -> Result<Vec<(Range, Bytes)>, Refusal> {
        let batch = gathered_with::<P>(&HeaderMap::new(), body)?;
        Ok(batch.records().map(|record| (record.range, record.body)).collect())
    }

    #[test]
    fn a_time_that_cannot_be_true_is_left_out_and_its_event_is_not() {
        let (config, now_ms, hour_ms) = (config(5), 1_700_000_000_000, 3_600_000);
        let mut records = Gatherer::new(&config, now_ms);
        let times = [Some(now_ms + hour_ms), Some(now_ms + hour_ms + 1), Some(-1), Some(1), None, Some(i64::MAX)];
        (1..).zip(times).for_each(|(end, time)| records.push(end, time, b"x").unwrap());
        assert_eq!(records.times_left_out(), 3);
        let batch = records.finish().unwrap().take(&config.spec.id, Incarnation(1), SourceId::derive(1, &[])).unwrap();
        let taken: Vec<_> = batch.views().map(|record| record.event_time_ms).collect();
        assert_eq!(taken, [times[0], None, None, times[3], None, None]);
    }

    #[test]
    fn what_is_over_a_limit_is_refused() {
        let of = |body: &[u8]| gather::<Lines>(&config(5), &HeaderMap::new(), body);
        let reason = |body: &[u8]| of(body).map(|batch| batch.len()).map_err(|refusal| refusal.reason);
        assert_eq!(reason(b"12345\n\n"), Ok(2));
        assert_eq!(reason(b"1\n123456\n"), Err(RefusalReason::TooLarge));
        assert_eq!(reason(b""), Err(RefusalReason::Malformed));
        assert_eq!(reason(&[b'\n'; REQUEST_RECORDS_MAX]), Ok(REQUEST_RECORDS_MAX));
        assert_eq!(reason(&[b'\n'; REQUEST_RECORDS_MAX + 1]), Err(RefusalReason::TooLarge));
    }
}
