//! Who may send: a sender shows the secret of a write token, or a certificate that names what it may write to, before
//! anything of a request's body is read. What it may write to is asked per batch, so that a token which ends, ends at once.

use std::sync::Arc;

use serde::{Deserialize, Serialize};
use stream::StreamId;
use stream::token::{Scope, SecretHash, TokenSpec};
use stream::wire::{Refusal, RefusalReason};

use crate::directory::Directory;
use crate::rate::Rates;

/// Whether senders must show anything.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Access {
    /// No: who reaches the doors may send. For loopback only.
    #[default]
    Open,
    /// A write token, or a certificate of the gateway's own authority.
    Tokens,
}

/// A token, with what its senders owe.
#[derive(Debug)]
pub struct TokenHandle {
    /// What its owner asked for.
    pub spec: TokenSpec,
    /// What its senders may bring, together.
    pub rates: Rates,
}

/// What a sender shows.
#[derive(Clone, Copy, Debug)]
pub struct Shown<'a> {
    /// A token's secret.
    pub secret: Option<&'a [u8]>,
    /// What its certificate names.
    pub certified: Option<&'a Arc<[Scope]>>,
}

/// Who sends.
#[derive(Clone, Debug)]
pub enum Caller {
    /// Anybody: nothing is asked.
    Anybody,
    /// Somebody with a token.
    Token(Arc<TokenHandle>),
    /// Somebody with a certificate.
    Certified(Arc<[Scope]>),
}

impl Access {
    /// Who it is that shows this. A token that is shown counts before a certificate.
    pub fn caller(self, directory: &Directory, shown: Shown<'_>) -> Result<Caller, Refusal> {
        match (self, shown.secret, shown.certified) {
            (Access::Open, _, _) => Ok(Caller::Anybody),
            (Access::Tokens, Some(secret), _) => {
                let known = directory.tokens.get(&SecretHash::of(secret)).cloned();
                known.map(Caller::Token).ok_or_else(|| unauthorized("this token is not known, or has ended"))
            }
            (Access::Tokens, None, Some(scopes)) => Ok(Caller::Certified(Arc::clone(scopes))),
            (Access::Tokens, None, None) => {
                Err(unauthorized("show a write token: Authorization: Bearer ilw_...; isolane token create makes one"))
            }
        }
    }
}

impl Caller {
    /// Whether it may send to `id`, known or not: who may not learns nothing of which streams there are.
    pub fn may_send_to(&self, id: &StreamId) -> Result<(), Refusal> {
        let (covers, who) = match self {
            Caller::Anybody => return Ok(()),
            Caller::Token(token) => (token.spec.covers(id), format!("token {}", token.spec.name)),
            Caller::Certified(scopes) => (scopes.iter().any(|scope| scope.covers(id)), "certificate".to_owned()),
        };
        let message = || format!("it is not for stream {id}; use one whose scope covers the stream");
        if covers { Ok(()) } else { Err(Refusal::new(RefusalReason::Forbidden, who, message())) }
    }

    /// Who pays for what it brings to a stream over a connection: both of these, and its token.
    pub fn payers<'a>(&'a self, stream: &'a Rates, connection: &'a Rates) -> Vec<&'a Rates> {
        let mut payers = vec![stream, connection];
        if let Caller::Token(token) = self {
            payers.push(&token.rates);
        }
        payers
    }
}

fn unauthorized(message: &str) -> Refusal {
    Refusal::new(RefusalReason::Unauthorized, "request", message)
}

/// The secret in a header `Authorization`.
pub fn bearer(header: &[u8]) -> Option<&[u8]> {
    let (scheme, secret) = header.split_at_checked(b"bearer ".len())?;
    scheme.eq_ignore_ascii_case(b"bearer ").then(|| secret.trim_ascii())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::HashMap;
    use stream::token::Rate;

    fn directory(scope: &str) -> Directory {
        let spec =
            TokenSpec { name: "web".parse().unwrap(), scopes: vec![scope.parse().unwrap()], rate: Rate::default() };
        let handle = TokenHandle { spec, rates: Rates::new("token web", Rate::default()) };
        let tokens = HashMap::from([(SecretHash::of(b"right"), Arc::new(handle))]);
        Directory { tokens, ..Directory::default() }
    }

    #[test]
    fn a_sender_is_known_by_its_token_or_its_certificate() {
        let directory = directory("ads.web");
        let certified: Arc<[Scope]> = ["ops".parse().unwrap()].into();
        let reason = |access: Access, secret: Option<&[u8]>, certified, id: &str| {
            let shown = Shown { secret, certified };
            let caller = access.caller(&directory, shown).map_err(|refusal| refusal.reason)?;
            caller.may_send_to(&id.parse().unwrap()).map_err(|refusal| refusal.reason)
        };
        let (right, wrong): (Option<&[u8]>, Option<&[u8]>) = (Some(b"right"), Some(b"wrong"));
        for (access, secret, certificate, id, expected) in [
            (Access::Open, None, None, "ads.web.x", Ok(())),
            (Access::Tokens, None, None, "ads.web.x", Err(RefusalReason::Unauthorized)),
            (Access::Tokens, wrong, None, "ads.web.x", Err(RefusalReason::Unauthorized)),
            (Access::Tokens, wrong, Some(&certified), "ops.a.b", Err(RefusalReason::Unauthorized)),
            (Access::Tokens, right, None, "ads.web.x", Ok(())),
            (Access::Tokens, right, None, "ads.app.x", Err(RefusalReason::Forbidden)),
            (Access::Tokens, None, Some(&certified), "ops.a.b", Ok(())),
            (Access::Tokens, None, Some(&certified), "ads.web.x", Err(RefusalReason::Forbidden)),
        ] {
            assert_eq!(reason(access, secret, certificate, id), expected, "{access:?} {secret:?} {id}");
        }
    }

    #[test]
    fn a_secret_is_found_in_its_header() {
        assert_eq!(bearer(b"Bearer abc"), Some(&b"abc"[..]));
        assert_eq!(bearer(b"bearer  abc "), Some(&b"abc"[..]));
        assert_eq!(bearer(b"Basic abc"), None);
        assert_eq!(bearer(b""), None);
    }
}
