//! What admin keeps: streams, tokens, facts, legs and leases, in one SQLite database with one writer.
//!
//! The writer is a task. It takes what has queued up (at most [`COMMANDS_PER_COMMIT_MAX`]), applies it in one
//! transaction, and answers each command only after the commit is on disk (WAL, `synchronous=FULL`): 4,000 reporters
//! share one fsync. Readers never touch the database: they read the published configuration, ready as bytes, and the
//! [`Book`] of facts and reports in memory. Facts and reports are true whether stored or not, so the book shows them a
//! moment before the commit; a configuration is published only after it. When the database fails, the whole commit is
//! refused and the memory is loaded anew from what is stored.
//!
//! The database is locked for one process; its file is checked when it is opened.

pub mod open;
pub mod book;
pub mod streams;
mod folders;
pub mod facts;
pub mod legs;
pub mod agents;
pub mod tokens;
pub mod gateways;

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use sqlx::{Connection, SqliteConnection};
use stream::clock::Clock;
use stream::config::{Snapshot, StreamConfig, StreamSpec};
use stream::facts::{LegReport, ReportReply, SourceFact};
use stream::policy::GatewayPolicy;
use stream::token::{SecretHash, TokenName, TokenSpec};
use stream::{StreamId, crash};
use tokio::sync::{mpsc, oneshot, watch};
use tokio::task::JoinHandle;
use tracing::error;

use crate::error::StoreError;
use crate::metrics;
use agents::Leases;
pub use book::Book;
use tokens::TokenChange;

/// Commands that wait for the writer; beyond it their senders wait.
const COMMANDS_QUEUED_MAX: usize = 1_024;
/// Commands of one transaction: bounds what a failure refuses and what a caller waits for.
const COMMANDS_PER_COMMIT_MAX: usize = 256;

/// A configuration as the roles take it.
#[derive(Debug, Default)]
pub struct Published {
    /// The streams.
    pub snapshot: Snapshot,
    /// The same as JSON, made once for all who watch.
    pub json: axum::body::Bytes,
}

impl Published {
    fn new(snapshot: &Snapshot) -> Result<Self, StoreError> {
        let json = serde_json::to_vec(snapshot).map_err(|error| StoreError::Database(error.to_string()))?;
        Ok(Self { snapshot: snapshot.clone(), json: json.into() })
    }
}

/// What is loaded into memory when the database is opened.
#[derive(Default)]
pub struct Loaded {
    /// The living streams.
    pub snapshot: Snapshot,
    /// Their facts and reports.
    pub book: Book,
    /// Agents' leases.
    pub leases: Leases,
}

type Reply<T> = oneshot::Sender<Result<T, StoreError>>;

enum Command {
    Create(Box<StreamSpec>, Reply<StreamConfig>),
    Change(Box<StreamSpec>, Option<u64>, Reply<StreamConfig>),
    Delete(StreamId, Reply<()>),
    Facts(Vec<SourceFact>, Reply<()>),
    Leg(Box<LegReport>, Reply<ReportReply>),
    Lease { agent: String, boot_nonce: String, reply: Reply<()> },
    CreateToken(TokenSpec, SecretHash, Reply<()>),
    ChangeToken(TokenName, TokenChange, Reply<()>),
    DeleteToken(TokenName, Reply<()>),
    ChangeGateways(GatewayPolicy, Reply<()>),
}

/// A handle to the store. Cheap to clone.
#[derive(Clone)]
pub struct Store {
    commands: mpsc::Sender<Command>,
    published: watch::Receiver<Arc<Published>>,
    book: Arc<Mutex<Book>>,
}

impl Store {
    /// Starts the writer on an opened database. It ends, and closes the database, when every handle is gone.
    pub fn start(
        connection: SqliteConnection,
        loaded: Loaded,
        clock: Arc<dyn Clock>,
    ) -> Result<(Self, JoinHandle<()>), StoreError> {
        let (commands, queue) = mpsc::channel(COMMANDS_QUEUED_MAX);
        let (publish, published) = watch::channel(Arc::new(Published::new(&loaded.snapshot)?));
        let book = Arc::new(Mutex::new(loaded.book));
        let writer =
            Writer { connection, clock, snapshot: loaded.snapshot, leases: loaded.leases, book: book.clone(), publish };
        let writer = tokio::spawn(writer.run(queue));
        Ok((Self { commands, published, book }, writer))
    }

    /// The configuration as it changes.
    pub fn published(&self) -> watch::Receiver<Arc<Published>> {
        self.published.clone()
    }

    /// Facts and reports. Held for moments only, never across an await.
    pub fn book(&self) -> MutexGuard<'_, Book> {
        locked(&self.book)
    }

    /// Stores a new stream.
    pub async fn create(&self, spec: StreamSpec) -> Result<StreamConfig, StoreError> {
        self.ask(|reply| Command::Create(Box::new(spec), reply)).await
    }

    /// Changes a stream; `if_version` is the version that the caller has read.
    pub async fn change(&self, spec: StreamSpec, if_version: Option<u64>) -> Result<StreamConfig, StoreError> {
        self.ask(|reply| Command::Change(Box::new(spec), if_version, reply)).await
    }

    /// Ends a stream's life, with its facts and reports.
    pub async fn delete(&self, id: StreamId) -> Result<(), StoreError> {
        self.ask(|reply| Command::Delete(id, reply)).await
    }

    /// Merges facts. Those of unknown lives are counted and left out: their stream is gone.
    pub async fn facts(&self, facts: Vec<SourceFact>) -> Result<(), StoreError> {
        self.ask(|reply| Command::Facts(facts, reply)).await
    }

    /// Takes a leg's report.
    pub async fn leg(&self, report: LegReport) -> Result<ReportReply, StoreError> {
        self.ask(|reply| Command::Leg(Box::new(report), reply)).await
    }

    /// Takes or renews an agent's lease.
    pub async fn lease(&self, agent: String, boot_nonce: String) -> Result<(), StoreError> {
        self.ask(|reply| Command::Lease { agent, boot_nonce, reply }).await
    }

    /// Stores a new token with the hash of its first secret.
    pub async fn create_token(&self, spec: TokenSpec, secret: SecretHash) -> Result<(), StoreError> {
        self.ask(|reply| Command::CreateToken(spec, secret, reply)).await
    }

    /// Changes a token's secrets.
    pub async fn change_token(&self, name: TokenName, change: TokenChange) -> Result<(), StoreError> {
        self.ask(|reply| Command::ChangeToken(name, change, reply)).await
    }

    /// Ends a token.
    pub async fn delete_token(&self, name: TokenName) -> Result<(), StoreError> {
        self.ask(|reply| Command::DeleteToken(name, reply)).await
    }

    /// Changes how gateways serve their queues.
    pub async fn change_gateways(&self, policy: GatewayPolicy) -> Result<(), StoreError> {
        self.ask(|reply| Command::ChangeGateways(policy, reply)).await
    }

    async fn ask<T>(&self, command: impl FnOnce(Reply<T>) -> Command) -> Result<T, StoreError> {
        let (reply, answer) = oneshot::channel();
        let gone = || StoreError::Database("the change was not stored".into());
        self.commands.send(command(reply)).await.map_err(|_| gone())?;
        answer.await.unwrap_or_else(|_| Err(gone()))
    }
}

/// A poisoned lock is taken all the same: every change of what is in it is a single insertion or replacement.
pub(crate) fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// An outcome that waits for the commit to be told.
type Answer = Box<dyn FnOnce(Result<(), StoreError>) + Send>;

struct Writer {
    connection: SqliteConnection,
    clock: Arc<dyn Clock>,
    snapshot: Snapshot,
    leases: Leases,
    book: Arc<Mutex<Book>>,
    publish: watch::Sender<Arc<Published>>,
}

impl Writer {
    async fn run(mut self, mut queue: mpsc::Receiver<Command>) {
        let mut batch = Vec::new();
        while queue.recv_many(&mut batch, COMMANDS_PER_COMMIT_MAX).await > 0 {
            let started = Instant::now();
            metrics::commit_commands(batch.len());
            let mut answers = Vec::with_capacity(batch.len());
            let committed = self.commit(&mut batch, &mut answers).await;
            metrics::commit_seconds(started.elapsed(), committed.is_ok());
            if let Err(error) = &committed {
                error!(%error, "a change of the metadata was not stored");
                self.reload().await;
            }
            answers.into_iter().for_each(|answer| answer(committed.clone()));
        }
        if let Err(error) = self.connection.close().await {
            error!(%error, "closing the metadata database");
        }
    }

    /// Applies a batch in one transaction, then publishes.
    async fn commit(&mut self, batch: &mut Vec<Command>, answers: &mut Vec<Answer>) -> Result<(), StoreError> {
        let version = self.snapshot.version;
        let mut transaction = self.connection.begin().await?;
        for command in batch.drain(..) {
            let mut writing = Writing {
                connection: &mut transaction,
                now_ms: self.clock.now_ms(),
                snapshot: &mut self.snapshot,
                leases: &mut self.leases,
                book: &self.book,
            };
            answers.push(writing.apply(command).await?);
        }
        transaction.commit().await?;
        if self.snapshot.version != version {
            crash::point("admin.stream.stored");
            metrics::configuration(self.snapshot.version, self.snapshot.streams.len());
            self.publish.send_replace(Arc::new(Published::new(&self.snapshot)?));
        }
        Ok(())
    }

    /// Goes back to what is stored.
    async fn reload(&mut self) {
        match open::load(&mut self.connection).await {
            Ok(loaded) => {
                (self.snapshot, self.leases) = (loaded.snapshot, loaded.leases);
                *locked(&self.book) = loaded.book;
            }
            Err(error) => error!(%error, "the metadata database cannot be read; going on with what is in memory"),
        }
    }
}

/// What a command works on: the open transaction and the memory that goes with it.
struct Writing<'a> {
    connection: &'a mut SqliteConnection,
    now_ms: i64,
    snapshot: &'a mut Snapshot,
    leases: &'a mut Leases,
    book: &'a Mutex<Book>,
}

impl Writing<'_> {
    /// Applies one command. Only a failure of the database is an error here; a refusal is an answer.
    async fn apply(&mut self, command: Command) -> Result<Answer, StoreError> {
        let Self { connection, now_ms, snapshot, leases, book } = self;
        match command {
            Command::Create(spec, reply) => answer(reply, streams::create(connection, snapshot, *spec, *now_ms).await),
            Command::Change(spec, if_version, reply) => {
                answer(reply, streams::change(connection, snapshot, book, *spec, if_version).await)
            }
            Command::Delete(id, reply) => {
                answer(reply, streams::delete(connection, snapshot, book, &id, *now_ms).await)
            }
            Command::Facts(stated, reply) => answer(reply, facts::merge_all(connection, snapshot, book, stated).await),
            Command::Leg(report, reply) => answer(reply, legs::take(connection, snapshot, book, *report).await),
            Command::Lease { agent, boot_nonce, reply } => {
                answer(reply, agents::lease(connection, leases, agent, boot_nonce, *now_ms).await)
            }
            Command::CreateToken(spec, secret, reply) => {
                answer(reply, tokens::create(connection, snapshot, spec, secret).await)
            }
            Command::ChangeToken(name, change, reply) => {
                answer(reply, tokens::change(connection, snapshot, name, change).await)
            }
            Command::ChangeGateways(policy, reply) => {
                answer(reply, gateways::change(connection, snapshot, policy).await)
            }
            Command::DeleteToken(name, reply) => answer(reply, tokens::delete(connection, snapshot, name).await),
        }
    }
}

/// Holds an outcome back until the commit is known. A caller that has hung up is no error.
fn answer<T: Send + 'static>(reply: Reply<T>, outcome: Result<T, StoreError>) -> Result<Answer, StoreError> {
    match outcome {
        Err(StoreError::Database(cause)) => Err(StoreError::Database(cause)),
        outcome => Ok(Box::new(move |committed| drop(reply.send(committed.and(outcome))))),
    }
}
