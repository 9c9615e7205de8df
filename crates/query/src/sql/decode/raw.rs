//! Format `raw`: the record is one value.

use std::borrow::Cow;

use super::super::datum::Datum;
use super::super::types::SqlType;

/// The record as STRING or BYTES.
///
/// # Errors
/// A STRING that is not UTF-8, with the first byte that is wrong.
pub fn decode<'a>(body: &'a [u8], ty: &SqlType) -> Result<Datum<'a>, String> {
    if *ty == SqlType::Bytes {
        return Ok(Datum::Bytes(Cow::Borrowed(body)));
    }
    let wrong = |error: std::str::Utf8Error| format!("raw: no UTF-8 from byte {} on", error.valid_up_to());
    std::str::from_utf8(body).map(Datum::text).map_err(wrong)
}
