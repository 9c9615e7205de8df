//! Opens the metadata database: locked for this process, checked, brought to the current schema, loaded.

use std::path::{Path, PathBuf};
use std::time::Duration;

use sqlx::migrate::Migrator;
use sqlx::sqlite::{SqliteConnectOptions, SqliteJournalMode, SqliteLockingMode, SqliteSynchronous};
use sqlx::{ConnectOptions, Connection, SqliteConnection};

use super::{Loaded, agents, facts, gateways, legs, streams, tokens};
use crate::error::{AdminError, StoreError};

static MIGRATIONS: Migrator = sqlx::migrate!("./migrations");
/// The database's file in admin's directory.
const FILE: &str = "admin.db";
/// How long to wait for a process that is just ending.
const BUSY: Duration = Duration::from_secs(2);
/// SQLite's primary result codes that matter here.
const SQLITE_BUSY: u8 = 5;
const SQLITE_CORRUPT: u8 = 11;
const SQLITE_NOTADB: u8 = 26;

/// Opens the database under `dir`, making both if needed, and loads what it holds.
pub async fn open(dir: PathBuf) -> Result<(SqliteConnection, Loaded), AdminError> {
    std::fs::create_dir_all(&dir).map_err(|cause| AdminError::Dir { dir: dir.clone(), cause })?;
    let file = dir.join(FILE);
    let options = SqliteConnectOptions::new()
        .filename(&file)
        .create_if_missing(true)
        .locking_mode(SqliteLockingMode::Exclusive)
        .journal_mode(SqliteJournalMode::Wal)
        .synchronous(SqliteSynchronous::Full)
        .busy_timeout(BUSY)
        .disable_statement_logging();
    let mut connection =
        SqliteConnection::connect_with(&options).await.map_err(|error| opening_failed(&file, &error))?;
    check(&mut connection, &file).await?;
    // Not `run`: of its future the compiler cannot see that it is `Send`.
    MIGRATIONS
        .run_direct(None, &mut connection, false)
        .await
        .map_err(|error| AdminError::Open { file: file.clone(), cause: error.to_string() })?;
    let loaded = load(&mut connection).await;
    let loaded = loaded.map_err(|error| AdminError::Damaged { file: file.clone(), cause: error.to_string() })?;
    Ok((connection, loaded))
}

/// Reads every page once, so that damage shows at the start and not in the middle of a change.
async fn check(connection: &mut SqliteConnection, file: &Path) -> Result<(), AdminError> {
    let found: Result<String, _> = sqlx::query_scalar("PRAGMA quick_check(1)").fetch_one(connection).await;
    match found {
        Ok(found) if found == "ok" => Ok(()),
        Ok(found) => Err(AdminError::Damaged { file: file.to_owned(), cause: found }),
        Err(error) => Err(opening_failed(file, &error)),
    }
}

fn opening_failed(file: &Path, error: &sqlx::Error) -> AdminError {
    let code = error.as_database_error().and_then(|error| error.code()).and_then(|code| code.parse::<u32>().ok());
    let (file, cause) = (file.to_owned(), error.to_string());
    match code.map(|code| code as u8) {
        Some(SQLITE_BUSY) => AdminError::InUse { file },
        Some(SQLITE_CORRUPT | SQLITE_NOTADB) => AdminError::Damaged { file, cause },
        _ => AdminError::Open { file, cause },
    }
}

/// Loads all that is stored of living streams.
pub async fn load(connection: &mut SqliteConnection) -> Result<Loaded, StoreError> {
    let mut snapshot = streams::load(connection).await?;
    tokens::load(connection, &mut snapshot).await?;
    gateways::load(connection, &mut snapshot).await?;
    let mut loaded = Loaded { snapshot, ..Loaded::default() };
    facts::load(connection, &mut loaded).await?;
    legs::load(connection, &mut loaded).await?;
    loaded.leases = agents::load(connection).await?;
    Ok(loaded)
}

/// What a JSON column holds.
pub(super) fn parse<T: serde::de::DeserializeOwned>(column: &str, text: &str) -> Result<T, StoreError> {
    serde_json::from_str(text).map_err(|error| StoreError::Database(format!("column {column}: {error}")))
}

/// What a JSON column is given.
pub(super) fn print(value: &impl serde::Serialize) -> Result<String, StoreError> {
    serde_json::to_string(value).map_err(|error| StoreError::Database(error.to_string()))
}
