//! TLS at the doors, with certificates made for the test.

use std::fs;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::Path;

use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair, SanType};
use stream::control::AdminClient;
use stream::wire::v1::gateway_client::GatewayClient;
use stream::wire::v1::send_reply::Outcome;
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::transport::{Certificate, ClientTlsConfig, Endpoint, Identity};
use tonic::{Code, Status};

use super::grpc::{batch, request};
use super::{Gateway, gateway_with, spec};
use crate::{Access, GatewaySettings, ServeError, TlsFiles};

type Authority = CertifiedIssuer<'static, KeyPair>;

fn authority() -> Authority {
    let mut params = CertificateParams::default();
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap()
}

/// A certificate for these names, and its key, as PEM.
fn issue(by: &Authority, names: Vec<SanType>) -> (String, String) {
    let key = KeyPair::generate().unwrap();
    let mut params = CertificateParams::default();
    params.subject_alt_names = names;
    (params.signed_by(&key, by).unwrap().pem(), key.serialize_pem())
}

fn dns(name: &str) -> SanType {
    SanType::DnsName(name.try_into().unwrap())
}

fn uri(uri: &str) -> SanType {
    SanType::URI(uri.try_into().unwrap())
}

fn files(dir: &Path, server: &Authority, clients: &Authority) -> TlsFiles {
    let (certificate, key) = issue(server, vec![dns("localhost")]);
    let write = |name: &str, text: &str| {
        let file = dir.join(name);
        fs::write(&file, text).unwrap();
        file
    };
    TlsFiles {
        certificate: write("gateway.crt", &certificate),
        key: write("gateway.key", &key),
        client_ca: Some(write("clients.crt", &clients.pem())),
    }
}

/// A batch sent over TLS, with this certificate or none.
async fn send(gateway: &Gateway, trusted: &Authority, shown: Option<(String, String)>) -> Result<Outcome, Status> {
    let mut tls = ClientTlsConfig::new().ca_certificate(Certificate::from_pem(trusted.pem()));
    if let Some((certificate, key)) = shown {
        tls = tls.identity(Identity::from_pem(certificate, key));
    }
    let endpoint = Endpoint::from_shared(format!("https://localhost:{}", gateway.grpc.port())).unwrap();
    let connected = endpoint.tls_config(tls).unwrap().connect().await;
    let channel = connected.map_err(|error| Status::from_error(error.into()))?;
    let (sender, requests) = mpsc::channel(1);
    let mut replies = GatewayClient::new(channel).send(ReceiverStream::new(requests)).await?.into_inner();
    sender.send(request(1, &batch("a", 7, 0, &[b"x"]))).await.unwrap();
    Ok(replies.message().await?.unwrap().outcome.unwrap())
}

#[tokio::test]
async fn a_certificate_says_what_its_owner_may_write_to() {
    let (server, clients, strangers) = (authority(), authority(), authority());
    let dir = tempfile::tempdir().unwrap();
    let tls = files(dir.path(), &server, &clients);
    let gateway = gateway_with([spec("a")], |settings| {
        settings.tls = Some(tls);
        settings.access = Access::Tokens;
    })
    .await;
    let mine = issue(&clients, vec![dns("host-1"), uri("isolane:test.gateway")]);
    assert!(matches!(send(&gateway, &server, Some(mine)).await, Ok(Outcome::Ack(_))));
    let other = issue(&clients, vec![uri("isolane:test.elsewhere")]);
    match send(&gateway, &server, Some(other)).await.unwrap() {
        Outcome::Refusal(refusal) => assert_eq!(refusal.reason, "forbidden"),
        other => panic!("{other:?}"),
    }
    assert_eq!(send(&gateway, &server, None).await.unwrap_err().code(), Code::Unauthenticated);
    let stranger = issue(&strangers, vec![uri("isolane:test.gateway")]);
    assert!(send(&gateway, &server, Some(stranger)).await.is_err(), "signed by somebody else");
    assert!(send(&gateway, &strangers, None).await.is_err(), "the gateway is checked too");
    assert_eq!(gateway.journal.bodies("a").len(), 1);
    gateway.stop().await;
}

#[tokio::test]
async fn a_door_beyond_this_machine_needs_tokens_and_tls() {
    let everywhere = SocketAddr::from((Ipv4Addr::UNSPECIFIED, 7701));
    let mut settings = GatewaySettings::new("g", "nowhere:1", AdminClient::new("http://nowhere:1"));
    assert!(matches!(settings.check_door(everywhere), Err(ServeError::Open(_))));
    settings.access = Access::Tokens;
    assert!(matches!(settings.check_door(everywhere), Err(ServeError::Plaintext(_))));
    settings.plaintext = true;
    assert!(settings.check_door(everywhere).is_ok());
}
