//! The key of a record, where a stream keeps the order of each key. Pure. A record is never refused for its key: one that
//! has none is ordered with those of its source that have none either.

use std::fmt;

use serde::Deserializer;
use serde::de::{DeserializeSeed, IgnoredAny, MapAccess, Visitor};
use stream::config::OrderKey;

/// A hash of the record's key, the same in every process and version; `None` if it has no key.
pub fn hash_of(key: &OrderKey, body: &[u8]) -> Option<u64> {
    match key {
        OrderKey::Json { field } => json_field(field, body),
        OrderKey::Column { number, by } => column(*number, by.as_bytes(), body).map(hash),
    }
}

/// FNV-1a with 64 bits: http://www.isthe.com/chongo/tech/comp/fnv/.
fn hash(bytes: &[u8]) -> u64 {
    bytes.iter().fold(0xcbf2_9ce4_8422_2325, |hash, byte| (hash ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3))
}

fn column<'a>(number: u32, by: &[u8], line: &'a [u8]) -> Option<&'a [u8]> {
    let mut rest = line;
    for _ in 1..number {
        let at = rest.windows(by.len()).position(|window| window == by)?;
        rest = &rest[at + by.len()..];
    }
    let end = rest.windows(by.len()).position(|window| window == by).unwrap_or(rest.len());
    Some(&rest[..end])
}

/// The first field of this name at the top of a JSON object. What stands behind it is not read.
fn json_field(name: &str, body: &[u8]) -> Option<u64> {
    let mut found = None;
    let mut reader = serde_json::Deserializer::from_slice(body);
    // Reading stops at the field, which serde takes for an object cut short.
    let _ = reader.deserialize_map(Object { name, found: &mut found });
    found
}

struct Object<'a> {
    name: &'a str,
    found: &'a mut Option<u64>,
}

impl<'de> Visitor<'de> for Object<'_> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut fields: A) -> Result<(), A::Error> {
        while let Some(is_it) = fields.next_key_seed(Named(self.name))? {
            if is_it {
                *self.found = fields.next_value_seed(Scalar)?;
                return Ok(());
            }
            fields.next_value::<IgnoredAny>()?;
        }
        Ok(())
    }
}

/// Whether a field's name is this one.
struct Named<'a>(&'a str);

impl<'de> DeserializeSeed<'de> for Named<'_> {
    type Value = bool;

    fn deserialize<D: Deserializer<'de>>(self, name: D) -> Result<bool, D::Error> {
        name.deserialize_str(self)
    }
}

impl Visitor<'_> for Named<'_> {
    type Value = bool;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a field's name")
    }

    fn visit_str<E>(self, name: &str) -> Result<bool, E> {
        Ok(name == self.0)
    }
}

/// The hash of a value's text.
struct Scalar;

impl<'de> DeserializeSeed<'de> for Scalar {
    type Value = Option<u64>;

    fn deserialize<D: Deserializer<'de>>(self, value: D) -> Result<Self::Value, D::Error> {
        value.deserialize_any(self)
    }
}

impl Visitor<'_> for Scalar {
    type Value = Option<u64>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a text, a number or a boolean")
    }

    fn visit_str<E>(self, text: &str) -> Result<Self::Value, E> {
        Ok(Some(hash(text.as_bytes())))
    }

    fn visit_u64<E>(self, number: u64) -> Result<Self::Value, E> {
        Ok(Some(hash(number.to_string().as_bytes())))
    }

    fn visit_i64<E>(self, number: i64) -> Result<Self::Value, E> {
        Ok(Some(hash(number.to_string().as_bytes())))
    }

    fn visit_f64<E>(self, number: f64) -> Result<Self::Value, E> {
        Ok(Some(hash(number.to_string().as_bytes())))
    }

    fn visit_bool<E>(self, is: bool) -> Result<Self::Value, E> {
        Ok(Some(hash(is.to_string().as_bytes())))
    }

    fn visit_unit<E>(self) -> Result<Self::Value, E> {
        Ok(None)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn a_field_is_found_wherever_it_stands() {
        let key = OrderKey::Json { field: "user".to_owned() };
        let of = |body: &str| hash_of(&key, body.as_bytes());
        let anna = Some(hash(b"anna"));
        for body in [
            r#"{"user":"anna"}"#,
            r#" { "x" : {"user": "eve"}, "user" : "\u0061nna" , "user": "eve"}"#,
            r#"{"list":[1,{"user":2}],"user":"anna","cut sh"#,
        ] {
            assert_eq!(of(body), anna, "{body}");
        }
        assert_eq!(of(r#"{"user": 17}"#), Some(hash(b"17")));
        assert_eq!(of(r#"{"user": -1.5}"#), Some(hash(b"-1.5")));
        assert_eq!(of(r#"{"user": true}"#), Some(hash(b"true")));
        for none in ["", "[]", "17", "{", r#"{"user": null}"#, r#"{"user": [1]}"#, r#"{"users": "anna"}"#, "\u{0}"] {
            assert_eq!(of(none), None, "{none}");
        }
    }

    proptest! {
        #[test]
        fn a_key_is_found_in_anything_or_not(
            noise in proptest::collection::vec(any::<u8>(), 0..100), json in r#"[\[\]{}",:0-9user \\]{0,40}"#, value in "\\PC{0,20}",
        ) {
            let key = OrderKey::Json { field: "user".to_owned() };
            let _found = (hash_of(&key, &noise), hash_of(&key, json.as_bytes()));
            let body = serde_json::json!({"a": [value.clone()], "user": value.clone()}).to_string();
            prop_assert_eq!(hash_of(&key, body.as_bytes()), Some(hash(value.as_bytes())));
        }
    }

    #[test]
    fn columns_count_from_one() {
        let of = |number, line: &'static str| column(number, b", ", line.as_bytes());
        assert_eq!(of(1, "a, b, c"), Some(&b"a"[..]));
        assert_eq!(of(2, "a, b, c"), Some(&b"b"[..]));
        assert_eq!(of(3, "a, b, c"), Some(&b"c"[..]));
        assert_eq!(of(4, "a, b, c"), None);
        assert_eq!(of(1, ""), Some(&b""[..]));
    }
}
