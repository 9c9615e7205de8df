//! `send`: a file's lines to a stream over HTTP, in batches, each under a key of this run, so
//! that a batch that is tried again is delivered once.

use std::fs::File;
use std::io::{self, BufRead, BufReader, IsTerminal};
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use anyhow::{Context, Result, bail};
use bytes::Bytes;
use http::{HeaderValue, Request, StatusCode, header};
use http_body_util::{BodyExt, Full};
use hyper_rustls::{HttpsConnector, HttpsConnectorBuilder};
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::TokioExecutor;
use rustls::crypto::ring;
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;
use rustls::{ClientConfig, RootCertStore};
use stream::StreamId;
use stream::limits;
use stream::retry::Backoff;

use crate::args;

/// How often a batch is tried before the command gives up.
const TRIES: u32 = 12;

/// Sends everything, or says what could not be sent.
pub async fn run(send: args::Send) -> Result<()> {
    let id: StreamId = send.id.parse()?;
    let input: Box<dyn BufRead> = match send.file.as_ref().filter(|file| file.as_os_str() != "-") {
        Some(file) => {
            Box::new(BufReader::new(File::open(file).with_context(|| format!("opening {}", file.display()))?))
        }
        None => Box::new(BufReader::new(io::stdin())),
    };
    let sender = Sender {
        url: format!("{}/v1/streams/{id}/records", send.gateway.trim_end_matches('/')),
        authorization: send.token.as_deref().map(authorization).transpose()?,
        http: Client::builder(TokioExecutor::new()).build(connector(send.ca.as_deref())?),
        run: SystemTime::now().duration_since(UNIX_EPOCH)?.as_secs(),
    };
    sender.send_all(input).await
}

struct Sender {
    url: String,
    authorization: Option<HeaderValue>,
    http: Client<HttpsConnector<HttpConnector>, Full<Bytes>>,
    run: u64,
}

fn authorization(secret: &str) -> Result<HeaderValue> {
    let mut shown = HeaderValue::try_from(format!("Bearer {}", secret.trim())).context("the token is none")?;
    shown.set_sensitive(true);
    Ok(shown)
}

/// For both kinds of URL; trusts `ca` alone, or whom the system trusts.
fn connector(ca: Option<&Path>) -> Result<HttpsConnector<HttpConnector>> {
    let mut roots = RootCertStore::empty();
    match ca {
        None => drop(roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs)),
        Some(file) => {
            let read = CertificateDer::pem_file_iter(file).and_then(Iterator::collect::<Result<Vec<_>, _>>);
            for certificate in read.with_context(|| format!("--ca {}: give a PEM file", file.display()))? {
                roots.add(certificate).with_context(|| format!("--ca {}", file.display()))?;
            }
        }
    }
    let provider = Arc::new(ring::default_provider());
    let config = ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions()?;
    let config = config.with_root_certificates(roots).with_no_client_auth();
    Ok(HttpsConnectorBuilder::new().with_tls_config(config).https_or_http().enable_http1().build())
}

impl Sender {
    async fn send_all(&self, mut input: Box<dyn BufRead>) -> Result<()> {
        let (mut batch, mut lines, mut sent, mut number) = (Vec::new(), 0, 0_u64, 0_u64);
        loop {
            let before = batch.len();
            let ended = input.read_until(b'\n', &mut batch)? == 0;
            lines += usize::from(!ended);
            let full = batch.len() > limits::BATCH_BYTES_MAX / 2 || lines == limits::BATCH_RECORDS_MAX;
            if batch.len() - before > limits::RECORD_BYTES_MAX {
                bail!("line {} is longer than {} bytes", sent + lines as u64, limits::RECORD_BYTES_MAX);
            }
            if (full || ended) && !batch.is_empty() {
                self.post(number, Bytes::from(std::mem::take(&mut batch))).await?;
                sent += lines as u64;
                (lines, number) = (0, number + 1);
                progress(sent);
            }
            if ended {
                println!("sent {sent} records, all acknowledged");
                return Ok(());
            }
        }
    }

    /// One batch, tried again under the same key until it is acknowledged.
    async fn post(&self, number: u64, body: Bytes) -> Result<()> {
        let key = format!("send-{}-{}-{number}", self.run, std::process::id());
        let mut backoff = Backoff::default();
        let mut last = String::new();
        for _ in 0..TRIES {
            let mut request = Request::post(&self.url)
                .header("idempotency-key", &key)
                .header("idempotency-time", self.run.to_string())
                .body(Full::new(body.clone()))?;
            request.headers_mut().extend(self.authorization.clone().map(|shown| (header::AUTHORIZATION, shown)));
            match self.http.request(request).await {
                Ok(answer) if answer.status() == StatusCode::OK => return Ok(()),
                Ok(answer) => {
                    let status = answer.status();
                    let text = answer.into_body().collect().await?.to_bytes();
                    last = format!("{status} {}", String::from_utf8_lossy(&text).trim());
                    if !matches!(status, StatusCode::TOO_MANY_REQUESTS | StatusCode::SERVICE_UNAVAILABLE) {
                        bail!("the gateway refused batch {number}: {last}");
                    }
                }
                Err(error) => last = format!("{} does not answer: {error}", self.url),
            }
            tokio::time::sleep(backoff.next_wait(Duration::from_millis(50), &mut rand::rng())).await;
        }
        bail!("batch {number} was not acknowledged after {TRIES} tries: {last}")
    }
}

fn progress(sent: u64) {
    if io::stderr().is_terminal() {
        eprint!("\r{sent} records sent");
    }
}
