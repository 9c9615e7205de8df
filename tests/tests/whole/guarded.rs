//! A gateway that asks who sends: TLS, tokens that are rotated, connections that grow old, a drain, all while an agent
//! sends on.

use std::fs::{self, File};
use std::io::Write;
use std::net::SocketAddr;
use std::path::Path;
use std::time::Duration;

use anyhow::{Result, ensure};
use harness::http::Client;
use harness::roles::{Extra, Roles};
use harness::{parquet_rows, poll};
use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair};
use serde_json::json;

const STREAM: &str = "test.guarded.tailed";
const DELIVERED: Duration = Duration::from_secs(60);
/// Records that are written in one go.
const RECORDS: u64 = 1_000;

/// An authority, and a certificate of it for this machine.
fn certificates(dir: &Path) -> Result<()> {
    let mut params = CertificateParams::default();
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    let authority = CertifiedIssuer::self_signed(params, KeyPair::generate()?)?;
    let key = KeyPair::generate()?;
    let own = CertificateParams::new(vec!["localhost".to_owned()])?.signed_by(&key, &authority)?;
    fs::write(dir.join("ca.crt"), authority.pem())?;
    fs::write(dir.join("gateway.crt"), own.pem())?;
    fs::write(dir.join("gateway.key"), key.serialize_pem())?;
    Ok(())
}

struct Guarded {
    roles: Roles,
    log: File,
    written: u64,
}

impl Guarded {
    fn write(&mut self) -> Result<()> {
        for _ in 0..RECORDS {
            self.written += 1;
            writeln!(self.log, "record {}", self.written)?;
        }
        Ok(())
    }

    fn all_delivered(&self) -> Result<()> {
        let out = self.roles.out(STREAM);
        poll::until(&format!("{} rows", self.written), DELIVERED, || {
            let rows = parquet_rows::rows(&out)?;
            ensure!(rows >= self.written, "{rows} rows");
            Ok(Some(()))
        })?;
        assert_eq!(parquet_rows::rows(&out)?, self.written, "each once");
        Ok(())
    }

    /// What a verb wrote.
    fn verb(&self, arguments: &[&str]) -> Result<String> {
        let output = self.roles.verb(arguments, &[])?;
        ensure!(output.status.success(), "{arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
        Ok(String::from_utf8(output.stdout)?.trim().to_owned())
    }

    /// Batches that the gateway refused since it started.
    fn refused(&self) -> Result<Vec<String>> {
        let metrics = Client::new(self.roles.gateway_ops).get("/metrics")?.body;
        let text = String::from_utf8(metrics)?;
        Ok(text.lines().filter(|line| line.starts_with("isolane_gateway_refused_batches")).map(str::to_owned).collect())
    }
}

#[test]
fn an_agent_sends_on_through_tls_rotated_tokens_old_connections_and_a_drain() -> Result<()> {
    let scratch = tempfile::tempdir()?;
    let dir = scratch.path();
    certificates(dir)?;
    let (token, ca, tailed) = (dir.join("token"), dir.join("ca.crt"), dir.join("tailed.log"));
    let gateway = format!(
        "access = \"tokens\"\nconnection_age_seconds_max = 1\n[tls]\ncertificate = {:?}\nkey = {:?}",
        dir.join("gateway.crt"),
        dir.join("gateway.key")
    );
    let agent = format!("gateway_token_file = {token:?}\n[gateway_tls]\nca = {ca:?}");
    let mut over_tls = |grpc: SocketAddr| Ok(format!("https://localhost:{}", grpc.port()));
    let extra = Extra { gateway: &gateway, agent: &agent, agent_to: &mut over_tls };
    let roles = Roles::start(dir, extra)?;
    let mut guarded = Guarded { roles, log: File::create(&tailed)?, written: 0 };
    let spec = json!({"id": STREAM, "inputs": [{"kind": "file", "paths": [tailed]}], "limits": {"checkpoint_ms": 300}});
    let created = guarded.roles.api("POST", "/api/v1/streams", &spec.to_string())?;
    ensure!(created.status == 201, "{}", String::from_utf8_lossy(&created.body));

    // The agent has waited for its token meanwhile.
    guarded.write()?;
    let first = guarded.verb(&["token", "create", "agents", "--scope", "test.guarded"])?;
    fs::write(&token, &first)?;
    guarded.all_delivered()?;

    // A second one, then only that one.
    let second = guarded.verb(&["token", "rotate", "agents"])?;
    ensure!(first != second && second.starts_with("ilw_"), "{first} {second}");
    fs::write(&token, &second)?;
    guarded.write()?;
    guarded.verb(&["token", "retire", "agents"])?;
    guarded.write()?;
    guarded.all_delivered()?;
    assert_eq!(guarded.refused()?, [] as [&str; 0], "no batch was refused, whatever changed");

    // A drain in the middle of it.
    guarded.write()?;
    guarded.roles.restart("gateway")?;
    guarded.write()?;
    guarded.all_delivered()?;
    assert_eq!(guarded.refused()?, [] as [&str; 0]);

    people_send_with_a_token(&mut guarded, &second, &ca)
}

fn people_send_with_a_token(guarded: &mut Guarded, token: &str, ca: &Path) -> Result<()> {
    let lines = guarded.roles.out(STREAM).join("../../../lines");
    fs::write(&lines, "one\ntwo\n")?;
    let (lines, ca) = (lines.to_string_lossy(), ca.to_string_lossy());
    let gateway = format!("https://localhost:{}", guarded.roles.http.port());
    let send = |token: &str| {
        let environment = [("ISOLANE_GATEWAY", gateway.as_str()), ("ISOLANE_CA", &ca), ("ISOLANE_TOKEN", token)];
        guarded.roles.verb(&["send", STREAM, &lines], &environment)
    };
    let refused = send("ilw_wrong")?;
    let said = String::from_utf8_lossy(&refused.stderr).into_owned();
    ensure!(!refused.status.success() && said.contains("401") && said.contains("token"), "{said}");
    let sent = send(token)?;
    ensure!(sent.status.success(), "{}", String::from_utf8_lossy(&sent.stderr));
    guarded.written += 2;
    guarded.all_delivered()
}
