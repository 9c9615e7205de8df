//! Which hosts a door that listens on loopback answers for: only names of this machine, so that a web page elsewhere
//! whose name was turned to this address cannot send through a browser here.

use axum::http::{Request, header};

/// Whether `request` names another machine as its host, or none.
pub fn is_foreign<B>(request: &Request<B>) -> bool {
    let header = request.headers().get(header::HOST).and_then(|host| host.to_str().ok());
    let host = header.or_else(|| request.uri().authority().map(|authority| authority.as_str()));
    !host.is_some_and(is_local)
}

/// Whether `host` (with or without a port) is a name of this machine's loopback.
fn is_local(host: &str) -> bool {
    let name = match host.rsplit_once(':') {
        Some((name, port)) if !port.is_empty() && port.bytes().all(|b| b.is_ascii_digit()) => name,
        _ => host,
    };
    name.eq_ignore_ascii_case("localhost") || name == "127.0.0.1" || name == "[::1]"
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_names_of_this_machine_are_local() {
        for local in ["localhost", "LOCALHOST:7701", "127.0.0.1", "127.0.0.1:1", "[::1]", "[::1]:80"] {
            assert!(is_local(local), "{local}");
        }
        for foreign in ["", "evil.example", "localhost.evil.example", "127.0.0.1.evil:80", "::1", "localhost:x"] {
            assert!(!is_local(foreign), "{foreign}");
        }
    }
}
