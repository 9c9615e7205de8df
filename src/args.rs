//! The command line.

use std::path::PathBuf;

use clap::{Args as ClapArgs, Parser, Subcommand};
use stream::TopicName;

/// Streaming data transport: every stream in a lane of its own, everything exactly once, provably.
#[derive(Parser)]
#[command(
    version,
    after_help = "Example: collect a log file into Parquet on this machine, without any server\n\n  \
    isolane up --data-dir data --tail /var/log/syslog\n\n\
    Then look at http://127.0.0.1:7700 and at data/out."
)]
pub struct Args {
    /// What to do.
    #[command(subcommand)]
    pub command: Command,
}

/// Roles and verbs.
#[derive(Subcommand)]
pub enum Command {
    /// Run everything on this machine with embedded defaults.
    Up(Up),
    /// Role: keep streams and ledger, serve UI and API.
    Admin(RoleFile),
    /// Role: keep acknowledged records on this machine's disk.
    Journal(Journal),
    /// Role: take records over HTTP and gRPC.
    Gateway(RoleFile),
    /// Role: run the streams' jobs.
    Query(RoleFile),
    /// Role: keep the jobs of streams with engine "flink" on Apache Flink.
    Engine(RoleFile),
    /// Role: collect files, a worker process per stream.
    Agent(RoleFile),
    /// A worker of an agent; started by it.
    #[command(hide = true)]
    Worker {
        /// What the agent tells it.
        settings: String,
    },
    /// Create, list, show, change and delete streams.
    #[command(subcommand)]
    Stream(Stream),
    /// How all gateways serve their queues: show and change.
    #[command(subcommand)]
    Gateways(Gateways),
    /// Who may send to which streams: create, list, rotate, retire and delete write tokens.
    #[command(subcommand)]
    Token(Token),
    /// Show what every stream receives and delivers.
    Status(Status),
    /// Send a file's lines, or standard input's, to a stream.
    Send(Send),
    /// Check a job's SQL without starting anything.
    #[command(subcommand)]
    Sql(Sql),
    /// Account for every record of a stream.
    Ledger(Ledger),
    /// Records that could not be converted: list, show, take again.
    #[command(subcommand)]
    Quarantine(Quarantine),
    /// End a leg, and print where it stands, as a hand-over object for whoever goes on from there.
    HandOver(HandOver),
    /// Open transactions of a Kafka cluster: list, abort.
    #[cfg(feature = "kafka")]
    #[command(subcommand)]
    Transactions(Transactions),
}

/// `up`.
#[derive(ClapArgs)]
pub struct Up {
    /// Where everything is kept.
    #[arg(long, env = "ISOLANE_DATA_DIR", default_value = "isolane-data")]
    pub data_dir: PathBuf,
    /// Collect this file's lines instead of the machine's own logs; may be a glob pattern.
    #[arg(long, value_name = "PATH")]
    pub tail: Option<String>,
    /// Create no first stream.
    #[arg(long, conflicts_with = "tail")]
    pub no_first_stream: bool,
    /// Keep acknowledged records in Kafka instead of this machine's disk (needs a build with `--features kafka`).
    #[arg(long, value_name = "kafka=HOST:PORT,..[;failover=HOST:PORT,..]")]
    pub journal: Option<String>,
    /// Port of the UI and the admin API; 0 picks a free one.
    #[arg(long, default_value_t = 7700)]
    pub ui_port: u16,
    /// Port that takes records over HTTP; 0 picks a free one.
    #[arg(long, default_value_t = 7701)]
    pub http_port: u16,
    /// Port that takes records over gRPC; 0 picks a free one.
    #[arg(long, default_value_t = 7702)]
    pub grpc_port: u16,
}

/// A role's configuration.
#[derive(ClapArgs)]
pub struct RoleFile {
    /// The role's configuration file (TOML); see `config/` for a commented example.
    #[arg(long, value_name = "FILE")]
    pub config: PathBuf,
    /// End when this process is gone; set by `up`.
    #[arg(long, hide = true)]
    pub parent: Option<u32>,
}

/// `journal`: the role, or its dump.
#[derive(ClapArgs)]
#[command(args_conflicts_with_subcommands = true)]
pub struct Journal {
    /// A verb instead of the role.
    #[command(subcommand)]
    pub verb: Option<JournalVerb>,
    /// The role's configuration file (TOML); see `config/journal.toml`.
    #[arg(long, value_name = "FILE")]
    pub config: Option<PathBuf>,
    /// End when this process is gone; set by `up`.
    #[arg(long, hide = true)]
    pub parent: Option<u32>,
}

/// Verbs on a journal's files.
#[derive(Subcommand)]
pub enum JournalVerb {
    /// Write every record of the journal's files as JSON lines, for independent readers.
    Dump {
        /// The journal's directory, e.g. `isolane-data/journal`.
        dir: PathBuf,
        /// Only this topic, by its name or its key (name@incarnation).
        #[arg(long)]
        topic: Option<String>,
    },
}

/// Where admin answers.
#[derive(ClapArgs)]
pub struct AdminUrl {
    /// The admin API.
    #[arg(long, env = "ISOLANE_ADMIN", default_value = "http://127.0.0.1:7700")]
    pub admin: String,
}

/// Verbs on streams.
#[derive(Subcommand)]
pub enum Stream {
    /// Create a stream from a file (JSON or TOML) or from options.
    Create(StreamCreate),
    /// List the streams.
    List(AdminUrl),
    /// Show one stream's configuration.
    Show {
        /// `department.project.business`.
        id: String,
        /// Where admin answers.
        #[command(flatten)]
        admin: AdminUrl,
    },
    /// Change fields of a stream, e.g. `priority=high` or `limits.checkpoint_ms=2000`.
    Set {
        /// `department.project.business`.
        id: String,
        /// `field=value`; the value is JSON or plain text; `sql=@FILE` reads a file.
        #[arg(required = true, value_name = "FIELD=VALUE")]
        changes: Vec<String>,
        /// Where admin answers.
        #[command(flatten)]
        admin: AdminUrl,
    },
    /// Show records as they become durable, with the fates that the job gives them (a destination may still refuse a row).
    Tap(StreamTap),
    /// Delete a stream. Its files stay; created again it is another stream.
    Delete {
        /// `department.project.business`.
        id: String,
        /// Where admin answers.
        #[command(flatten)]
        admin: AdminUrl,
    },
}

/// `stream create`.
#[derive(ClapArgs)]
pub struct StreamCreate {
    /// `department.project.business`.
    #[arg(required_unless_present = "file")]
    pub id: Option<String>,
    /// The whole stream as JSON or TOML; see `config/stream.toml`.
    #[arg(long, value_name = "FILE", conflicts_with = "id")]
    pub file: Option<PathBuf>,
    /// Collect these files (absolute path or glob pattern; may be repeated).
    #[arg(long, value_name = "PATH")]
    pub tail: Vec<String>,
    /// The job's SQL.
    #[arg(long, value_name = "FILE")]
    pub sql: Option<PathBuf>,
    /// Records are JSON objects.
    #[arg(long)]
    pub json: bool,
    /// Where admin answers.
    #[command(flatten)]
    pub admin: AdminUrl,
}

/// Verbs on the gateways' policy.
#[derive(Subcommand)]
#[command(after_help = "Example: let a queue hold three producers, and turn every five minutes\n\n  \
    isolane gateways set producers_per_queue=3 slice_seconds=300")]
pub enum Gateways {
    /// Show what was set.
    Show(AdminUrl),
    /// Change it; takes effect within a second, without a restart.
    Set {
        /// `producers_per_queue=N` (1 to 64), `slice_seconds=N` (1 to 86400); `null` sets one back.
        #[arg(required = true, value_name = "FIELD=VALUE")]
        changes: Vec<String>,
        /// Where admin answers.
        #[command(flatten)]
        admin: AdminUrl,
    },
}

/// Verbs on write tokens.
#[derive(Subcommand)]
#[command(
    after_help = "Example: a token for all streams of a project, changed a while later without any refusal\n\n  \
    isolane token create web-shop --scope sales.shop\n  \
    isolane token rotate web-shop      # both secrets are good now: give senders the new one\n  \
    isolane token retire web-shop      # now only the new one is"
)]
pub enum Token {
    /// Make a token and show its secret, this once.
    Create(TokenCreate),
    /// List the tokens, without their secrets.
    List(AdminUrl),
    /// Make a token's next secret and show it, this once; the one before it stays good until it is retired.
    Rotate(TokenName),
    /// End every secret of a token but the newest.
    Retire(TokenName),
    /// End a token. Gateways refuse it within a second.
    Delete(TokenName),
}

/// A token.
#[derive(ClapArgs)]
pub struct TokenName {
    /// Its name.
    pub name: String,
    /// Where admin answers.
    #[command(flatten)]
    pub admin: AdminUrl,
}

/// `token create`.
#[derive(ClapArgs)]
pub struct TokenCreate {
    /// Its name: 1 to 32 characters of a-z, 0-9 and '-'.
    pub name: String,
    /// What it may write to: a department, department.project or department.project.business; may be repeated.
    #[arg(long, required = true)]
    pub scope: Vec<String>,
    /// Bytes of records a second that each gateway takes from all its senders together; 0: no limit.
    #[arg(long, default_value_t = 0, value_name = "BYTES")]
    pub bytes_per_second_max: u64,
    /// Requests a second, likewise.
    #[arg(long, default_value_t = 0, value_name = "REQUESTS")]
    pub requests_per_second_max: u64,
    /// Where admin answers.
    #[command(flatten)]
    pub admin: AdminUrl,
}

/// `stream tap`.
#[derive(ClapArgs)]
pub struct StreamTap {
    /// `department.project.business`.
    pub id: String,
    /// From the oldest record that the journal keeps; else from now on.
    #[arg(long)]
    pub from_start: bool,
    /// Show a record only when every leg has committed it.
    #[arg(long)]
    pub settled: bool,
    /// End after so many records.
    #[arg(long, value_name = "RECORDS")]
    pub limit: Option<u64>,
    /// Write a JSON object a line.
    #[arg(long)]
    pub json: bool,
    /// Where admin answers.
    #[command(flatten)]
    pub admin: AdminUrl,
}

/// Verbs on quarantines.
#[derive(Subcommand)]
#[command(after_help = "Example: mend a job, then deliver what it could not convert\n\n  \
    isolane quarantine show sales.shop.orders --causes\n  \
    isolane stream set sales.shop.orders sql=@mended.sql\n  \
    isolane quarantine replay sales.shop.orders")]
pub enum Quarantine {
    /// How many records each leg has in quarantine, and how many were taken again.
    List {
        /// `department.project.business`; none: every stream that ever had any.
        id: Option<String>,
        /// Where admin answers.
        #[command(flatten)]
        admin: AdminUrl,
    },
    /// Show records in quarantine, oldest first, with their causes.
    Show(QuarantineShow),
    /// Take what is in quarantine again, after the job was mended: each record is delivered once, or set apart anew.
    Replay {
        /// `department.project.business`.
        id: String,
        /// Only this leg; else all of the stream's.
        #[arg(long)]
        leg: Option<String>,
        /// Where admin answers.
        #[command(flatten)]
        admin: AdminUrl,
    },
}

/// Verbs on a Kafka cluster's open transactions.
#[cfg(feature = "kafka")]
#[derive(Subcommand)]
pub enum Transactions {
    /// What is open, the oldest first. A leg's transactional id is its stream, the stream's incarnation and its sink.
    List {
        /// The cluster: `HOST:PORT,...`
        #[arg(long)]
        brokers: String,
    },
    /// End one, without its rows unless its commit was decided already: e.g. of a leg that is gone and holds up the topic's readers.
    Abort {
        /// The transactional id.
        id: String,
        /// The cluster: `HOST:PORT,...`
        #[arg(long)]
        brokers: String,
    },
}

/// `hand-over`.
#[derive(ClapArgs)]
#[command(after_help = "Example: jobs on Flink go on where the legs of a stream stood\n\n  \
    isolane hand-over isolane-data/out/sales.shop.orders/files > files.json\n  \
    isolane hand-over sales.shop.orders.000000000000001f.topic --brokers k1:9092 > topic.json\n\n\
    A sink with `begin_from = \"/path/of/object.json\"` goes the other way.")]
pub struct HandOver {
    /// The leg: its folder, or with --brokers its name, `<stream>.<incarnation>.<sink>`. Stop it first: one that runs is shut out, and
    /// what it has not committed is left to whoever goes on.
    pub leg: String,
    /// The cluster of a leg that writes to Kafka: `HOST:PORT,...`
    #[arg(long)]
    pub brokers: Option<String>,
    /// The stream's topic, if it is not named as the stream.
    #[arg(long)]
    pub topic: Option<TopicName>,
}

/// `quarantine show`.
#[derive(ClapArgs)]
pub struct QuarantineShow {
    /// `department.project.business`.
    pub id: String,
    /// Only this leg; else all of the stream's.
    #[arg(long)]
    pub leg: Option<String>,
    /// Records shown of each leg.
    #[arg(long, default_value_t = 20, value_name = "RECORDS")]
    pub limit: usize,
    /// Count all records by cause instead.
    #[arg(long)]
    pub causes: bool,
    /// Write a JSON object a record.
    #[arg(long, conflicts_with = "causes")]
    pub json: bool,
    /// Where `up` keeps everything; for legs that write files.
    #[arg(long, env = "ISOLANE_DATA_DIR", default_value = "isolane-data")]
    pub data_dir: PathBuf,
    /// Where admin answers.
    #[command(flatten)]
    pub admin: AdminUrl,
}

/// `status`.
#[derive(ClapArgs)]
pub struct Status {
    /// One stream, `department.project.business`, with its lanes in the gateways; none: a line for each.
    pub id: Option<String>,
    /// Write JSON.
    #[arg(long)]
    pub json: bool,
    /// Where admin answers.
    #[command(flatten)]
    pub admin: AdminUrl,
}

/// `send`.
#[derive(ClapArgs)]
pub struct Send {
    /// `department.project.business`.
    pub id: String,
    /// The file; `-` or none is standard input.
    pub file: Option<PathBuf>,
    /// The gateway's HTTP door.
    #[arg(long, env = "ISOLANE_GATEWAY", default_value = "http://127.0.0.1:7701")]
    pub gateway: String,
    /// A write token's secret, where the gateway asks for one.
    #[arg(long, env = "ISOLANE_TOKEN", hide_env_values = true, value_name = "SECRET")]
    pub token: Option<String>,
    /// The authority of the gateway's certificate (PEM); else those that the system trusts.
    #[arg(long, env = "ISOLANE_CA", value_name = "FILE")]
    pub ca: Option<PathBuf>,
}

/// Verbs on SQL.
#[derive(Subcommand)]
pub enum Sql {
    /// Say whether a job's text runs, and if not, where and why.
    Check {
        /// The file with the job's text.
        file: PathBuf,
        /// Names of the stream's sinks.
        #[arg(long, default_value = "files")]
        sink: Vec<String>,
        /// What is to run it.
        #[arg(long, default_value = "embedded", value_parser = ["embedded", "flink"])]
        engine: String,
    },
    /// Write a job's text for Apache Flink: the same job over the table connector in `flink/`.
    Flink {
        /// The file with the job's text.
        file: PathBuf,
        /// Names of the stream's sinks, if all of them are files.
        #[arg(long, default_value = "files")]
        sink: Vec<String>,
        /// The stream's specification (TOML or JSON), whose sinks are taken as they stand there.
        #[arg(long, value_name = "FILE", conflicts_with = "sink")]
        stream: Option<PathBuf>,
        /// The one sink that the job is to be for; else it is for all.
        #[arg(long, value_name = "SINK")]
        leg: Option<String>,
        /// The Kafka clusters of the stream's topic.
        #[arg(long, value_name = "normal=HOST:PORT,..[;failover=HOST:PORT,..]")]
        clusters: String,
        /// The topic's name in Kafka.
        #[arg(long)]
        topic: String,
        /// The folder of what is set apart, and of the folders of sinks that name none, as a URL that Flink knows.
        #[arg(long, value_name = "URL")]
        out: String,
        /// The hand-over object to begin from: `isolane hand-over` prints a leg's.
        #[arg(long, value_name = "URL")]
        hand_over_from: Option<String>,
        /// The folder that gets an object with each completed checkpoint and with stop-with-savepoint.
        #[arg(long, value_name = "URL")]
        hand_over_to: Option<String>,
    },
}

/// `ledger`.
#[derive(ClapArgs)]
pub struct Ledger {
    /// `department.project.business`.
    pub id: String,
    /// Write JSON.
    #[arg(long)]
    pub json: bool,
    /// Read the committed data too, and look for losses, doubles and damage in the files themselves.
    #[arg(long)]
    pub verify: bool,
    /// Where `up` keeps everything; for --verify.
    #[arg(long, env = "ISOLANE_DATA_DIR", default_value = "isolane-data")]
    pub data_dir: PathBuf,
    /// Where admin answers.
    #[command(flatten)]
    pub admin: AdminUrl,
}
