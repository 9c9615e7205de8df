//! OpenTelemetry logs over HTTP, as protobuf or JSON: an exporter whose endpoint is `/v1/streams/{id}/otlp` sends to
//! `/v1/streams/{id}/otlp/v1/logs`. Each log record is one record: a JSON object with all that it says, and what its
//! resource and scope say; its event time is the time that it states, or else the one of its observation. A record covers
//! one ordinal of its request's source, so that its identity does not hang on how it is written as JSON.
//! Specification: https://opentelemetry.io/docs/specs/otlp/#otlphttp

use axum::http::{HeaderMap, header};
use axum::response::{IntoResponse, Response};
use bytes::Bytes;
use opentelemetry_proto::tonic::collector::logs::v1::{ExportLogsServiceRequest, ExportLogsServiceResponse};
use opentelemetry_proto::tonic::common::v1::{AnyValue, KeyValue, any_value::Value as Any};
use opentelemetry_proto::tonic::logs::v1::LogRecord;
use prost::Message;
use serde_json::{Map, Value, json};
use stream::wire::{Refusal, RefusalReason};

use super::Protocol;
use crate::admit::Gatherer;
use crate::queue::Stored;

const JSON: &str = "application/json";
const PROTOBUF: &str = "application/x-protobuf";
/// How deep values may lie within one another: what is deeper becomes a text that says so.
const DEPTH_MAX: usize = 32;
/// Messages (records, attributes, values) of one request: what is decoded takes up to 200 bytes each, however short it is.
const MESSAGES_MAX: usize = 100_000;

/// See the file's header.
pub struct Otlp;

impl Protocol for Otlp {
    const PATH: &'static str = "otlp/v1/logs";
    // As the specification asks for.
    const EMPTY_IS_FINE: bool = true;

    fn gather(headers: &HeaderMap, body: Bytes, records: &mut Gatherer<'_>) -> Result<(), Refusal> {
        let malformed = |cause: String| Refusal::new(RefusalReason::Malformed, "request", cause);
        let messages = if is_json(headers) { memchr::memchr_iter(b'{', &body).count() } else { messages(&body) };
        if messages > MESSAGES_MAX {
            let cause =
                format!("more than {MESSAGES_MAX} records, attributes and values in the body; send less at a time");
            return Err(Refusal::new(RefusalReason::TooLarge, "request", cause));
        }
        let request = match is_json(headers) {
            true => serde_json::from_slice(&body).map_err(|error| malformed(format!("no OTLP logs as JSON: {error}"))),
            false => ExportLogsServiceRequest::decode(body.as_ref()).map_err(|error| {
                malformed(format!("no OTLP logs as protobuf: {error}; JSON needs content-type {JSON}"))
            }),
        }?;
        let mut end = 0;
        for of_resource in request.resource_logs {
            let resource = object(of_resource.resource.unwrap_or_default().attributes, DEPTH_MAX);
            for of_scope in of_resource.scope_logs {
                let scope = of_scope.scope.unwrap_or_default();
                let attributes = object(scope.attributes, DEPTH_MAX);
                let scope = json!({"name": scope.name, "version": scope.version, "attributes": attributes});
                for log in of_scope.log_records {
                    end += 1;
                    records.push(end, event_time_ms(&log), record(log, &resource, &scope).to_string().as_bytes())?;
                }
            }
        }
        Ok(())
    }

    fn durable(headers: &HeaderMap, _: Stored) -> Response {
        match is_json(headers) {
            true => ([(header::CONTENT_TYPE, JSON)], "{}").into_response(),
            false => ([(header::CONTENT_TYPE, PROTOBUF)], ExportLogsServiceResponse::default().encode_to_vec())
                .into_response(),
        }
    }
}

fn is_json(headers: &HeaderMap) -> bool {
    let stated = headers.get(header::CONTENT_TYPE).and_then(|stated| stated.to_str().ok()).unwrap_or_default();
    stated.split(';').next().is_some_and(|stated| stated.trim().eq_ignore_ascii_case(JSON))
}

/// The messages that decoding `body` would make, counted without making them, and not beyond the bound: message by message
/// from the outermost in, by the fields that hold messages. What is no protobuf ends the count; decoding says so.
fn messages(body: &[u8]) -> usize {
    use prost::encoding::{WireType, decode_key, decode_varint, skip_field};
    let (mut open, mut count) = (vec![(Holder::Request, body)], 0);
    while let Some((holder, mut bytes)) = open.pop() {
        count += 1;
        while !bytes.is_empty() && count + open.len() <= MESSAGES_MAX {
            let Ok((field, wire_type)) = decode_key(&mut bytes) else { return count };
            match (holder.holds(field), wire_type) {
                (Some(held), WireType::LengthDelimited) => {
                    let length = decode_varint(&mut bytes).ok().and_then(|length| usize::try_from(length).ok());
                    let Some((inner, rest)) = length.and_then(|length| bytes.split_at_checked(length)) else {
                        return count;
                    };
                    open.push((held, inner));
                    bytes = rest;
                }
                _ => {
                    if skip_field(wire_type, field, &mut bytes, Default::default()).is_err() {
                        return count;
                    }
                }
            }
        }
        if count + open.len() > MESSAGES_MAX {
            return count + open.len();
        }
    }
    count
}

/// A message that holds others, as `opentelemetry/proto/logs/v1` and `common/v1` number their fields.
#[derive(Clone, Copy)]
enum Holder {
    Request,
    ResourceLogs,
    ScopeLogs,
    LogRecord,
    Resource,
    Scope,
    KeyValue,
    AnyValue,
    Array,
    Map,
}

impl Holder {
    fn holds(self, field: u32) -> Option<Holder> {
        match (self, field) {
            (Self::Request, 1) => Some(Self::ResourceLogs),
            (Self::ResourceLogs, 1) => Some(Self::Resource),
            (Self::ResourceLogs, 2) => Some(Self::ScopeLogs),
            (Self::ScopeLogs, 1) => Some(Self::Scope),
            (Self::ScopeLogs, 2) => Some(Self::LogRecord),
            (Self::LogRecord, 5) | (Self::KeyValue, 2) | (Self::Array, 1) => Some(Self::AnyValue),
            (Self::LogRecord, 6) | (Self::Resource, 1) | (Self::Scope, 3) | (Self::Map, 1) => Some(Self::KeyValue),
            (Self::AnyValue, 5) => Some(Self::Array),
            (Self::AnyValue, 6) => Some(Self::Map),
            _ => None,
        }
    }
}

fn event_time_ms(log: &LogRecord) -> Option<i64> {
    let nanos = if log.time_unix_nano > 0 { log.time_unix_nano } else { log.observed_time_unix_nano };
    (nanos > 0).then_some((nanos / 1_000_000) as i64)
}

fn record(log: LogRecord, resource: &Value, scope: &Value) -> Value {
    let mut record = json!({
        "time_unix_nano": log.time_unix_nano,
        "observed_time_unix_nano": log.observed_time_unix_nano,
        "severity_number": log.severity_number,
        "severity_text": log.severity_text,
        "body": log.body.map_or(Value::Null, |body| value(body, DEPTH_MAX)),
        "attributes": object(log.attributes, DEPTH_MAX),
        "dropped_attributes_count": log.dropped_attributes_count,
        "event_name": log.event_name,
        "flags": log.flags,
        "resource": resource,
        "scope": scope,
    });
    for (name, id) in [("trace_id", log.trace_id), ("span_id", log.span_id)] {
        if !id.is_empty() {
            record[name] = hex(&id).into();
        }
    }
    record
}

fn object(pairs: Vec<KeyValue>, depth: usize) -> Value {
    let pair = |pair: KeyValue| (pair.key, pair.value.map_or(Value::Null, |own| value(own, depth)));
    Value::Object(pairs.into_iter().map(pair).collect::<Map<_, _>>())
}

fn value(any: AnyValue, depth: usize) -> Value {
    let Some(deeper) = depth.checked_sub(1) else { return Value::from("(nested too deeply)") };
    match any.value {
        None => Value::Null,
        Some(Any::StringValue(text)) => text.into(),
        Some(Any::BoolValue(is)) => is.into(),
        Some(Any::IntValue(number)) => number.into(),
        Some(Any::DoubleValue(number)) => number.into(),
        Some(Any::ArrayValue(list)) => list.values.into_iter().map(|one| value(one, deeper)).collect(),
        Some(Any::KvlistValue(list)) => object(list.values, deeper),
        Some(Any::BytesValue(bytes)) => hex(&bytes).into(),
        // A place in a table that logs do not have.
        Some(Any::StringValueStrindex(place)) => place.into(),
    }
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;
    use crate::admit::tests::gathered_with;

    pub(in crate::accept::protocol) fn request() -> ExportLogsServiceRequest {
        let text = r#"{"resourceLogs": [{
            "resource": {"attributes": [{"key": "service.name", "value": {"stringValue": "shop"}}]},
            "scopeLogs": [{"scope": {"name": "checkout", "version": "2"}, "logRecords": [
                {"timeUnixNano": "1795420800123000000", "severityNumber": 9, "severityText": "INFO",
                 "body": {"stringValue": "paid"}, "traceId": "0102030405060708090a0b0c0d0e0f10",
                 "attributes": [{"key": "n", "value": {"intValue": "7"}},
                                {"key": "list", "value": {"arrayValue": {"values": [{"boolValue": true}]}}}]},
                {"observedTimeUnixNano": "1795420800456000000", "body": {"kvlistValue": {"values": []}}}
            ]}]}]}"#;
        serde_json::from_str(text).unwrap()
    }

    #[test]
    fn logs_are_the_same_records_in_either_encoding() {
        let mut headers = HeaderMap::new();
        let protobuf = gathered_with::<Otlp>(&headers, &request().encode_to_vec()).unwrap();
        headers.insert(header::CONTENT_TYPE, "application/json; charset=utf-8".parse().unwrap());
        let json = gathered_with::<Otlp>(&headers, &serde_json::to_vec(&request()).unwrap()).unwrap();
        let records = |batch: &stream::Batch| batch.records().collect::<Vec<_>>();
        assert_eq!(records(&protobuf), records(&json));
        let first: Value = serde_json::from_slice(&records(&json)[0].body).unwrap();
        assert_eq!(first["body"], "paid");
        assert_eq!(first["attributes"], json!({"n": 7, "list": [true]}));
        assert_eq!(first["resource"], json!({"service.name": "shop"}));
        assert_eq!(first["scope"], json!({"name": "checkout", "version": "2", "attributes": {}}));
        assert_eq!(first["trace_id"], "0102030405060708090a0b0c0d0e0f10");
        let times: Vec<_> = json.views().map(|record| record.event_time_ms).collect();
        assert_eq!(times, [Some(1_795_420_800_123), Some(1_795_420_800_456)]);
    }

    #[test]
    fn a_body_of_too_many_messages_is_refused_before_it_is_decoded() {
        assert_eq!(messages(&request().encode_to_vec()), 18);
        let logs = |count: usize| {
            let mut request = request();
            request.resource_logs[0].scope_logs[0].log_records = vec![LogRecord::default(); count];
            request
        };
        let reason = |headers: &HeaderMap, body: &[u8]| gathered_with::<Otlp>(headers, body).unwrap_err();
        let refused = reason(&HeaderMap::new(), &logs(MESSAGES_MAX).encode_to_vec());
        assert!(refused.reason == RefusalReason::TooLarge && refused.message.contains("100000"), "{refused}");
        let mut headers = HeaderMap::new();
        headers.insert(header::CONTENT_TYPE, JSON.parse().unwrap());
        assert_eq!(reason(&headers, &vec![b'{'; MESSAGES_MAX + 1]).reason, RefusalReason::TooLarge);
        assert_eq!(reason(&HeaderMap::new(), &logs(10_001).encode_to_vec()).reason, RefusalReason::TooLarge);
    }

    #[test]
    fn what_is_nested_too_deeply_is_cut_and_nonsense_is_refused() {
        let mut deep = AnyValue { value: Some(Any::BoolValue(true)) };
        for _ in 0..40 {
            let list = opentelemetry_proto::tonic::common::v1::ArrayValue { values: vec![deep] };
            deep = AnyValue { value: Some(Any::ArrayValue(list)) };
        }
        assert!(value(deep, DEPTH_MAX).to_string().contains("nested too deeply"));
        let refusal = gathered_with::<Otlp>(&HeaderMap::new(), b"nonsense").unwrap_err();
        assert_eq!(refusal.reason, RefusalReason::Malformed);
    }
}
