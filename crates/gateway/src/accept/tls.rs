//! TLS at the doors: the gateway's certificate, and the authority of its clients' certificates where there is one. The
//! files are read again when they change, so that short-lived certificates need no restart.
//!
//! A client's certificate says what it may write to in URIs among its alternative names: `isolane:ads.web` is the
//! project `ads.web`. Others of the same authority may connect, and then show a token.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use serde::{Deserialize, Serialize};
use stream::token::Scope;
use tokio::sync::watch;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::rustls::crypto::{CryptoProvider, ring};
use tokio_rustls::rustls::pki_types::pem::PemObject;
use tokio_rustls::rustls::pki_types::{CertificateDer, PrivateKeyDer};
use tokio_rustls::rustls::server::WebPkiClientVerifier;
use tokio_rustls::rustls::{RootCertStore, ServerConfig};
use tracing::{info, warn};

/// How often the files are looked at.
const LOOK_EVERY: Duration = Duration::from_secs(5);
/// How a URI begins that names a scope.
const SCHEME: &str = "isolane:";
/// What is spoken inside, the better first.
const PROTOCOLS: [&[u8]; 2] = [b"h2", b"http/1.1"];

/// The files, all PEM.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TlsFiles {
    /// The gateway's certificate and those between it and its authority.
    pub certificate: PathBuf,
    /// Its private key.
    pub key: PathBuf,
    /// The authorities of clients' certificates; none: no client's certificate is looked at.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub client_ca: Option<PathBuf>,
}

/// Why there is no TLS.
#[derive(Debug, thiserror::Error)]
#[error("{}: {cause}; give a PEM file", .file.display())]
pub struct TlsError {
    file: PathBuf,
    cause: String,
}

/// What connections are accepted with, as it changes.
pub type Tls = watch::Receiver<TlsAcceptor>;

/// Reads the files now, and again whenever they have changed. What cannot be read then leaves the last good ones in
/// place.
pub fn start(files: TlsFiles) -> Result<Tls, TlsError> {
    let mut seen = changed_at(&files);
    let (sender, receiver) = watch::channel(acceptor(&files)?);
    tokio::spawn(async move {
        while !sender.is_closed() {
            tokio::time::sleep(LOOK_EVERY).await;
            let now = changed_at(&files);
            if now == seen {
                continue;
            }
            seen = now;
            match acceptor(&files) {
                Ok(acceptor) => {
                    sender.send_replace(acceptor);
                    info!(certificate = %files.certificate.display(), "the certificate was read anew");
                }
                Err(error) => warn!(%error, "going on with the certificate from before"),
            }
        }
    });
    Ok(receiver)
}

fn changed_at(files: &TlsFiles) -> Vec<Option<SystemTime>> {
    let all = [Some(&files.certificate), Some(&files.key), files.client_ca.as_ref()];
    let changed = |file: &PathBuf| std::fs::metadata(file).and_then(|metadata| metadata.modified()).ok();
    all.into_iter().flatten().map(changed).collect()
}

fn acceptor(files: &TlsFiles) -> Result<TlsAcceptor, TlsError> {
    let chain = certificates(&files.certificate)?;
    let key = PrivateKeyDer::from_pem_file(&files.key).map_err(|cause| wrong(&files.key, &cause))?;
    let provider: Arc<CryptoProvider> = Arc::new(ring::default_provider());
    let builder = ServerConfig::builder_with_provider(Arc::clone(&provider)).with_safe_default_protocol_versions();
    let builder = builder.map_err(|cause| wrong(&files.certificate, &cause))?;
    let builder = match &files.client_ca {
        None => builder.with_no_client_auth(),
        Some(file) => {
            let mut roots = RootCertStore::empty();
            for authority in certificates(file)? {
                roots.add(authority).map_err(|cause| wrong(file, &cause))?;
            }
            let verifier = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider);
            let verifier = verifier.allow_unauthenticated().build().map_err(|cause| wrong(file, &cause))?;
            builder.with_client_cert_verifier(verifier)
        }
    };
    let mut config = builder.with_single_cert(chain, key).map_err(|cause| wrong(&files.certificate, &cause))?;
    config.alpn_protocols = PROTOCOLS.map(<[u8]>::to_vec).to_vec();
    Ok(TlsAcceptor::from(Arc::new(config)))
}

fn certificates(file: &Path) -> Result<Vec<CertificateDer<'static>>, TlsError> {
    let read = CertificateDer::pem_file_iter(file).and_then(Iterator::collect::<Result<Vec<_>, _>>);
    match read {
        Ok(found) if found.is_empty() => Err(wrong(file, &"there is no certificate in it")),
        Ok(found) => Ok(found),
        Err(cause) => Err(wrong(file, &cause)),
    }
}

fn wrong(file: &Path, cause: &dyn std::fmt::Display) -> TlsError {
    TlsError { file: file.to_owned(), cause: cause.to_string() }
}

/// What a client's verified certificate lets it write to; `None` if it names nothing.
pub fn scopes(certificate: &CertificateDer<'_>) -> Option<Arc<[Scope]>> {
    let certificate = webpki::EndEntityCert::try_from(certificate).ok()?;
    let named = certificate.valid_uri_names().filter_map(|uri| uri.strip_prefix(SCHEME)?.parse().ok());
    let scopes: Arc<[Scope]> = named.collect();
    (!scopes.is_empty()).then_some(scopes)
}

#[cfg(test)]
mod tests {
    use super::*;
    use rcgen::{CertificateParams, KeyPair, SanType};

    #[test]
    fn a_certificate_names_its_scopes() {
        let mut params = CertificateParams::new(vec!["host-1.example".to_owned()]).unwrap();
        for uri in ["isolane:ads.web", "https://example.org", "isolane:../x", "isolane:ops"] {
            params.subject_alt_names.push(SanType::URI(uri.try_into().unwrap()));
        }
        let certificate = params.self_signed(&KeyPair::generate().unwrap()).unwrap();
        let found: Vec<String> = scopes(certificate.der()).unwrap().iter().map(Scope::to_string).collect();
        assert_eq!(found, ["ads.web", "ops"]);
        let plain = rcgen::generate_simple_self_signed(vec!["host-1.example".to_owned()]).unwrap();
        assert!(scopes(plain.cert.der()).is_none());
    }

    #[test]
    fn a_file_that_is_none_is_named() {
        let dir = tempfile::tempdir().unwrap();
        let empty = dir.path().join("gateway.crt");
        std::fs::write(&empty, "").unwrap();
        let files = TlsFiles { certificate: empty.clone(), key: empty.clone(), client_ca: None };
        let error = acceptor(&files).map(drop).unwrap_err().to_string();
        assert!(error.contains("gateway.crt") && error.contains("no certificate"), "{error}");
    }

    #[tokio::test(start_paused = true)]
    async fn new_files_are_read_and_bad_ones_left_alone() {
        let dir = tempfile::tempdir().unwrap();
        let (certificate, key) = (dir.path().join("gateway.crt"), dir.path().join("gateway.key"));
        let write = || {
            let made = rcgen::generate_simple_self_signed(vec!["localhost".to_owned()]).unwrap();
            std::fs::write(&key, made.signing_key.serialize_pem()).unwrap();
            std::fs::write(&certificate, made.cert.pem()).unwrap();
        };
        write();
        let files = TlsFiles { certificate: certificate.clone(), key: key.clone(), client_ca: None };
        let mut tls = start(files).unwrap();
        std::fs::write(&certificate, "no certificate").unwrap();
        tokio::time::sleep(3 * LOOK_EVERY).await;
        assert!(!tls.has_changed().unwrap());
        write();
        tokio::time::timeout(3 * LOOK_EVERY, tls.changed()).await.expect("in time").unwrap();
    }
}
