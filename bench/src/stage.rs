//! A scratch folder, the real admin, and the roles that a case needs: child processes, which end with the stage.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use admin::api::tokens::Issued;
use anyhow::{Context, Result, ensure};
use gateway::Access;
use http::Method;
use serde::de::IgnoredAny;
use stream::StreamId;
use stream::config::{StreamConfig, StreamSpec};
use stream::control::AdminClient;
use stream::token::{Rate, TokenSpec};
use tempfile::TempDir;
use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader, Lines};
use tokio::process::{ChildStdout, Command};
use tokio::time::timeout;

use crate::child::{self, Order};
use crate::measure;

/// How long a child may take to be ready.
const READY_WITHIN: Duration = Duration::from_secs(30);

/// A child process; killed when dropped.
pub struct Child {
    pid: u32,
    addresses: Vec<SocketAddr>,
    said: Lines<BufReader<ChildStdout>>,
    process: tokio::process::Child,
}

impl Child {
    /// Starts a child and waits until it is ready.
    pub async fn start(order: &Order) -> Result<Self> {
        let mut process = Command::new(std::env::current_exe()?)
            .arg(child::COMMAND)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .kill_on_drop(true)
            .spawn()
            .with_context(|| format!("starting {order:?}"))?;
        let pid = process.id().context("the child has ended")?;
        // Dropped when all is written, so that the child sees its end.
        let mut stdin = process.stdin.take().context("no standard input")?;
        stdin.write_all(&serde_json::to_vec(order)?).await?;
        drop(stdin);
        let stdout = process.stdout.take().context("no standard output")?;
        let mut said = BufReader::new(stdout).lines();
        let line = timeout(READY_WITHIN, said.next_line()).await;
        let line = line.with_context(|| format!("{order:?} is not ready"))??;
        let line = line.with_context(|| format!("{order:?} has ended"))?;
        let mut words = line.split(' ').filter(|word| !word.is_empty());
        ensure!(words.next() == Some("ready"), "{order:?} said {line:?}");
        let addresses = words.map(|word| word.parse().context("address")).collect::<Result<_>>()?;
        Ok(Self { pid, addresses, said, process })
    }

    /// The address at which it serves; the second one is a gateway's gRPC door.
    pub fn address(&self, which: usize) -> Result<SocketAddr> {
        self.addresses.get(which).copied().context("the child serves no such address")
    }

    /// CPU that it has used so far.
    pub fn cpu(&self) -> Result<Duration> {
        measure::process_cpu(self.pid)
    }

    /// What a child that ends by itself said last.
    pub async fn last_words(mut self, within: Duration) -> Result<String> {
        let line = timeout(within, self.said.next_line()).await.context("a child does not end")??;
        let line = line.context("a child has ended without a word")?;
        self.process.wait().await?;
        Ok(line)
    }

    /// The most memory that it held since [`Self::forget_peak`].
    pub fn resident_bytes_peak(&self) -> Result<u64> {
        measure::resident_bytes_peak(self.pid)
    }

    /// Counts its peak of memory anew.
    pub fn forget_peak(&self) -> Result<()> {
        measure::forget_peak(self.pid)
    }

    /// Memory that it holds now.
    pub fn resident_bytes(&self) -> Result<u64> {
        measure::resident_bytes(self.pid)
    }
}

/// See the file's header.
pub struct Stage {
    scratch: TempDir,
    admin: AdminClient,
    admin_url: String,
    admin_child: Child,
}

impl Stage {
    /// A stage in a new folder below `dir`.
    pub async fn new(dir: &Path) -> Result<Self> {
        Self::on(dir, None).await
    }

    /// The same with a journal that is already there: Kafka, in whose clusters admin makes the topics.
    pub async fn on(dir: &Path, journal: Option<String>) -> Result<Self> {
        let scratch = tempfile::tempdir_in(dir).with_context(|| format!("cannot write {}", dir.display()))?;
        let child = Child::start(&Order::Admin { dir: scratch.path().join("admin"), journal }).await?;
        let admin_url = format!("http://{}", child.address(0)?);
        Ok(Self { scratch, admin: AdminClient::new(&admin_url), admin_url, admin_child: child })
    }

    /// A path in the stage's folder.
    pub fn path(&self, name: &str) -> PathBuf {
        self.scratch.path().join(name)
    }

    /// Admin's URL.
    pub fn admin_url(&self) -> String {
        self.admin_url.clone()
    }

    /// Admin's process.
    pub fn admin(&self) -> &Child {
        &self.admin_child
    }

    /// Creates a stream.
    pub async fn create(&self, spec: &StreamSpec) -> Result<StreamConfig> {
        let _created: IgnoredAny = self.admin.send(Method::POST, "/api/v1/streams", spec).await?;
        Ok(self.admin.get(&format!("/api/v1/streams/{}", spec.id)).await?)
    }

    /// Creates a write token for all streams below `scope`; answers its secret.
    pub async fn create_token(&self, scope: &str) -> Result<String> {
        let spec = TokenSpec { name: "bench".parse()?, scopes: vec![scope.parse()?], rate: Rate::default() };
        let issued: Issued = self.admin.send(Method::POST, "/api/v1/tokens", &spec).await?;
        Ok(issued.secret)
    }

    /// Changes a stream.
    pub async fn change(&self, spec: &StreamSpec) -> Result<()> {
        let _changed: IgnoredAny = self.admin.send(Method::PUT, &format!("/api/v1/streams/{}", spec.id), spec).await?;
        Ok(())
    }

    /// A stream's ledger.
    pub async fn ledger(&self, id: &StreamId) -> Result<admin::ledger::Ledger> {
        Ok(self.admin.get(&format!("/api/v1/ledger/{id}")).await?)
    }

    /// Starts the journal.
    pub async fn journal(&self) -> Result<Child> {
        Child::start(&Order::Journal { dir: self.path("journal"), admin: self.admin_url() }).await
    }

    /// Starts a gateway before `journal`, an address as text.
    pub async fn gateway(&self, journal: String) -> Result<Child> {
        self.gateway_with(journal, None, Access::Open).await
    }

    /// The same with so many bytes for all streams together, and only for who shows a token.
    pub async fn guarded_gateway(&self, journal: String, bytes_max: usize) -> Result<Child> {
        self.gateway_with(journal, Some(bytes_max), Access::Tokens).await
    }

    async fn gateway_with(&self, journal: String, bytes_max: Option<usize>, access: Access) -> Result<Child> {
        let (dir, admin) = (self.path("gateway"), self.admin_url());
        Child::start(&Order::Gateway { dir, journal, admin, bytes_max, access }).await
    }

    /// Starts the jobs behind `journal`, an address as text.
    pub async fn query(&self, journal: String, checkpoint: Duration) -> Result<Child> {
        self.query_into(journal, checkpoint, &self.path("out")).await
    }

    /// The same with the folder below which the jobs publish.
    pub async fn query_into(&self, journal: String, checkpoint: Duration, out: &Path) -> Result<Child> {
        let (dir, out) = (self.path("query"), out.to_owned());
        Child::start(&Order::Query { dir, out, journal, admin: self.admin_url(), checkpoint }).await
    }
}
