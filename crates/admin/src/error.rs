//! Why admin cannot start or go on, and why the store refuses. How a refusal becomes an HTTP status is decided once,
//! in `api`.

use std::net::SocketAddr;
use std::path::PathBuf;

use stream::config::{Engine, SpecError};
use stream::policy::PolicyError;
use stream::token::TokenName;
use stream::{StreamId, TopicName};

/// Why admin cannot start or go on.
#[derive(Debug, thiserror::Error)]
pub enum AdminError {
    /// The directory cannot be made or read.
    #[error("admin directory {}: {cause}; give a directory that this user can write", .dir.display())]
    Dir {
        /// The directory.
        dir: PathBuf,
        /// What the system said.
        cause: std::io::Error,
    },
    /// The database file is damaged, or is none.
    #[error("metadata database {} is damaged: {cause}; put a backup in its place, or move it away to start empty", .file.display())]
    Damaged {
        /// The file.
        file: PathBuf,
        /// What was found.
        cause: String,
    },
    /// The database cannot be opened.
    #[error("metadata database {} cannot be opened: {cause}", .file.display())]
    Open {
        /// The file.
        file: PathBuf,
        /// What was found.
        cause: String,
    },
    /// Another process holds the database.
    #[error("metadata database {} is in use by another admin; stop it, or give another directory", .file.display())]
    InUse {
        /// The file.
        file: PathBuf,
    },
    /// There is no authentication yet, so nothing beyond this machine may reach the API.
    #[error("admin may not listen on {0}: without authentication it listens on loopback only")]
    Exposed(SocketAddr),
    /// The listener's address cannot be read.
    #[error("admin's listener: {0}")]
    Listener(std::io::Error),
    /// The journal's address is none.
    #[error(transparent)]
    Journal(#[from] journal::AddressError),
    /// The configuration cannot be published.
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// Why the store refuses a change.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum StoreError {
    /// The spec contradicts itself.
    #[error(transparent)]
    Spec(#[from] SpecError),
    /// The gateways' policy is outside its bounds.
    #[error(transparent)]
    Policy(#[from] PolicyError),
    /// There is no such stream.
    #[error("there is no stream {0}")]
    NoStream(StreamId),
    /// There is one already.
    #[error("stream {0} exists already; change it, or delete it first")]
    Exists(StreamId),
    /// Another stream has the topic.
    #[error("stream {stream}: topic {topic} belongs to stream {owner}; a topic carries one stream")]
    TopicTaken {
        /// The stream to be stored.
        stream: StreamId,
        /// The topic.
        topic: TopicName,
        /// Whose it is.
        owner: StreamId,
    },
    /// Two sinks write into one folder, and one of them has its files put together there.
    #[error(
        "stream {stream}: the folder {} of sink {sink} is, holds or lies in that of another one, of stream {owner}; where `compaction` is \
         on, a folder is one sink's alone",
        .folder.display()
    )]
    FolderTaken {
        /// The stream to be stored.
        stream: StreamId,
        /// Its sink.
        sink: String,
        /// The sink's folder.
        folder: PathBuf,
        /// Whose the other is.
        owner: StreamId,
    },
    /// The topic of a living stream may not change: what lies in the old one would never be read.
    #[error("stream {0}: its topic is {1} for its whole life; delete the stream and create it anew to change it")]
    TopicFixed(StreamId, TopicName),
    /// Partitions would be given up, or a source or key would move to another one.
    #[error(
        "stream {0}: its topic has {1} partitions; they can grow only, and neither they nor the order can change where \
         order is source or key"
    )]
    Partitions(StreamId, u32),
    /// The other engine would begin from nothing, or from where it once stood.
    #[error(
        "stream {stream}: sink {sink} has committed on engine {from}; on {to} it would begin from nothing and deliver all of it \
         again. Name the hand-over object of where it stands as begin_from of each sink in the same change: that which `isolane \
         hand-over` prints of a leg, as a file that was not named before, or that which `isolane status` shows of a job on Flink"
    )]
    Engine {
        /// The stream.
        stream: StreamId,
        /// A sink that has committed.
        sink: String,
        /// The engine that it has committed on.
        from: Engine,
        /// The engine that is asked for.
        to: Engine,
    },
    /// A job on Flink that has begun would begin once more.
    #[error(
        "stream {0}: its job on flink has begun; begin_from says where one begins that has not, and can be changed together with \
         the engine, or removed"
    )]
    Begun(StreamId),
    /// Jobs on Flink would be made one, or many.
    #[error(
        "stream {0}: its jobs are on flink, and others would begin beside them; legs changes only together with the engine: go back \
         to the embedded engine first"
    )]
    Legs(StreamId),
    /// One job has one beginning.
    #[error(
        "stream {0}: its sinks have committed each at a place of its own, and one job begins at one; say legs=separate too, which \
         gives each a job"
    )]
    Places(StreamId),
    /// Jobs on Flink may deliver more than is known.
    #[error(
        "stream {0}: what its jobs on flink deliver last is not known; say suspended=true, and change the engine when `isolane status` \
         shows each of them idle. One that is gone has ended without a savepoint: say suspended=false, and suspend it when it runs"
    )]
    Runs(StreamId),
    /// Somebody else has changed the stream.
    #[error("stream {0} is at version {1}, not {2}; read it again")]
    Version(StreamId, u64, u64),
    /// No room for another stream.
    #[error("{0} streams exist, the most that one installation keeps; delete one first")]
    Full(usize),
    /// A token that could write to nothing, or whose list of scopes has no end.
    #[error("token {0}: give it 1 to {1} scopes: a department, department.project or department.project.business")]
    TokenScopes(TokenName, usize),
    /// There is one already.
    #[error("token {0} exists already; rotate it for another secret, or delete it first")]
    TokenExists(TokenName),
    /// There is no such token.
    #[error("there is no token {0}")]
    NoToken(TokenName),
    /// No room for another token.
    #[error("{0} tokens exist, the most that one installation keeps; delete one first")]
    TokensFull(usize),
    /// Another machine runs under the agent's id.
    #[error("agent id {0} is in use by another running agent; give this one a state directory of its own")]
    Leased(String),
    /// The database failed; nothing of the change was stored.
    #[error("the metadata database failed: {0}; try again")]
    Database(String),
}

impl From<sqlx::Error> for StoreError {
    fn from(error: sqlx::Error) -> Self {
        Self::Database(error.to_string())
    }
}
