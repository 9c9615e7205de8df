//! Write tokens: who may send to which streams, and how much.
//!
//! A token is a name with a scope, a rate and one or two live *secrets*: two while senders change from the old to the new
//! one. A secret can only write. Admin shows it once and keeps its hash; gateways find a token by that hash, so no
//! secret is compared in a time that could tell something of it. A secret has 256 random bits, which nobody tries out:
//! a fast hash keeps it as safe as a slow one, which passwords need.

use std::fmt;
use std::str::FromStr;

use rand::Rng;
use serde::{Deserialize, Serialize};

use crate::id::{ID_PART_CHARS_MAX, NameError, StreamId, check_parts};

/// How a secret begins, so that people and scanners of leaked secrets know it.
const SECRET_PREFIX: &str = "ilw_";
/// Random bytes of a secret.
const SECRET_BYTES: usize = 32;
/// Secrets that a token has at a time.
const SECRETS_LIVE_MAX: usize = 2;

/// A token's name: 1 to 32 characters of `[a-z0-9-]`.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct TokenName(String);

/// What may be written to: one stream, or all streams of a department or of one of its projects.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Scope(String);

/// How much may come in a second; 0 is no limit. What a gateway has taken beyond a rate is a debt, which passes with
/// time: until then nothing more is taken. Each gateway counts for itself.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Rate {
    /// Bytes of records, decompressed.
    #[serde(skip_serializing_if = "is_zero")]
    pub bytes_per_second_max: u64,
    /// HTTP requests, or batches over gRPC.
    #[serde(skip_serializing_if = "is_zero")]
    pub requests_per_second_max: u64,
}

/// A token as its owner asks for it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TokenSpec {
    /// Its name.
    pub name: TokenName,
    /// What it may write to; at least one.
    pub scopes: Vec<Scope>,
    /// How much, all its senders together.
    #[serde(default)]
    pub rate: Rate,
}

/// A token as the gateways see it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Token {
    /// What was asked for.
    pub spec: TokenSpec,
    /// The hashes of its live secrets, the newest last.
    pub secrets: Vec<SecretHash>,
}

/// A secret, just made: the one moment at which it is known.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret(String);

/// The BLAKE3 hash of a secret's text.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct SecretHash([u8; 32]);

fn is_zero(number: &u64) -> bool {
    *number == 0
}

impl Rate {
    /// Whether there is any limit.
    pub fn is_limited(&self) -> bool {
        *self != Self::default()
    }
}

impl Scope {
    /// Whether `id` lies within it.
    pub fn covers(&self, id: &StreamId) -> bool {
        id.as_str().strip_prefix(&self.0).is_some_and(|rest| rest.is_empty() || rest.starts_with('.'))
    }
}

impl TokenSpec {
    /// Whether it may write to `id`.
    pub fn covers(&self, id: &StreamId) -> bool {
        self.scopes.iter().any(|scope| scope.covers(id))
    }
}

impl Token {
    /// A token with its first secret.
    pub fn new(spec: TokenSpec, secret: SecretHash) -> Self {
        Self { spec, secrets: vec![secret] }
    }

    /// A new secret; the one before it lives on until [`Token::retire`], older ones end now.
    pub fn rotate(&mut self, secret: SecretHash) {
        self.secrets.push(secret);
        let ended = self.secrets.len().saturating_sub(SECRETS_LIVE_MAX);
        self.secrets.drain(..ended);
    }

    /// Ends every secret but the newest.
    pub fn retire(&mut self) {
        let ended = self.secrets.len().saturating_sub(1);
        self.secrets.drain(..ended);
    }
}

impl Secret {
    /// A new secret.
    pub fn new(dice: &mut impl Rng) -> Self {
        let mut bytes = [0; SECRET_BYTES];
        dice.fill_bytes(&mut bytes);
        Self(format!("{SECRET_PREFIX}{}", hex(&bytes)))
    }

    /// Its text, to be shown once.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl SecretHash {
    /// The hash of what a sender shows.
    pub fn of(secret: &[u8]) -> Self {
        Self(*blake3::hash(secret).as_bytes())
    }
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret(..)")
    }
}

impl fmt::Debug for SecretHash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "SecretHash({}..)", hex(&self.0[..4]))
    }
}

impl From<SecretHash> for String {
    fn from(hash: SecretHash) -> Self {
        hex(&hash.0)
    }
}

impl TryFrom<String> for SecretHash {
    type Error = &'static str;

    fn try_from(text: String) -> Result<Self, Self::Error> {
        let wrong = "a secret's hash is 64 hex digits";
        let hash = blake3::Hash::from_hex(&text).map_err(|_| wrong)?;
        Ok(Self(*hash.as_bytes()))
    }
}

impl FromStr for TokenName {
    type Err = NameError;

    fn from_str(text: &str) -> Result<Self, NameError> {
        if text.contains('.') {
            return Err(NameError::Part(text.to_owned(), text.to_owned(), ID_PART_CHARS_MAX));
        }
        check_parts(text, ID_PART_CHARS_MAX)?;
        Ok(Self(text.to_owned()))
    }
}

impl FromStr for Scope {
    type Err = NameError;

    fn from_str(text: &str) -> Result<Self, NameError> {
        let parts = text.split('.').count();
        if parts > 3 {
            return Err(NameError::Parts(text.to_owned(), parts));
        }
        check_parts(text, ID_PART_CHARS_MAX)?;
        Ok(Self(text.to_owned()))
    }
}

macro_rules! text {
    ($type:ty) => {
        impl TryFrom<String> for $type {
            type Error = NameError;

            fn try_from(text: String) -> Result<Self, NameError> {
                text.parse()
            }
        }

        impl From<$type> for String {
            fn from(named: $type) -> Self {
                named.0
            }
        }

        impl fmt::Display for $type {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }
    };
}
text!(TokenName);
text!(Scope);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_scope_covers_whole_parts_only() {
        let covers = |scope: &str, id: &str| scope.parse::<Scope>().unwrap().covers(&id.parse().unwrap());
        for scope in ["ads", "ads.web", "ads.web.clicks"] {
            assert!(covers(scope, "ads.web.clicks"), "{scope}");
        }
        for scope in ["ad", "web", "ads.we", "ads.web.click", "ads.web.clicks-2", "clicks"] {
            assert!(!covers(scope, "ads.web.clicks"), "{scope}");
        }
        for wrong in ["", ".", "ads.", "*", "ads.*", "a.b.c.d", "Ads", "../x"] {
            assert!(wrong.parse::<Scope>().is_err(), "{wrong:?}");
        }
        for wrong in ["", "a.b", "A", "a b"] {
            assert!(wrong.parse::<TokenName>().is_err(), "{wrong:?}");
        }
    }

    #[test]
    fn two_secrets_live_at_most() {
        let hash = |text: &str| SecretHash::of(text.as_bytes());
        let spec = TokenSpec { name: "web".parse().unwrap(), scopes: vec![], rate: Rate::default() };
        let mut token = Token::new(spec, hash("1"));
        token.rotate(hash("2"));
        assert_eq!(token.secrets, [hash("1"), hash("2")]);
        token.rotate(hash("3"));
        assert_eq!(token.secrets, [hash("2"), hash("3")]);
        token.retire();
        assert_eq!(token.secrets, [hash("3")]);
        token.retire();
        assert_eq!(token.secrets, [hash("3")]);
    }

    #[test]
    fn a_secret_is_long_new_and_not_printed() {
        let (one, other) = (Secret::new(&mut rand::rng()), Secret::new(&mut rand::rng()));
        assert_ne!(one, other);
        assert_eq!(one.as_str().len(), SECRET_PREFIX.len() + 2 * SECRET_BYTES);
        assert_eq!(format!("{one:?}"), "Secret(..)");
        let hash = SecretHash::of(one.as_str().as_bytes());
        let text = serde_json::to_string(&hash).unwrap();
        assert_eq!(serde_json::from_str::<SecretHash>(&text).unwrap(), hash);
        assert!(!text.contains(&one.as_str()[SECRET_PREFIX.len()..]));
    }
}
