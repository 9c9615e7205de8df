//! The first stream of a new data directory: real log files of this machine, or the file named with `--tail`.

use anyhow::{Context, Result};
use http::Method;
use stream::config::{Input, StreamConfig, StreamSpec};
use stream::control::AdminClient;
use stream::limits;

use crate::args::Up;

/// The first stream's id, and the one of `--tail`.
const HOST_LOGS: &str = "local.host.logs";
const TAILED: &str = "local.host.tail";

/// What is looked for, in order: package manager, kernel, authentication.
const LOGS: [(&str, &[&str]); 3] = [
    ("package manager", &["/var/log/dpkg.log", "/var/log/apt/*.log", "/var/log/pacman.log", "/var/log/dnf*.log"]),
    ("kernel", &["/var/log/kern.log", "/var/log/dmesg", "/var/log/messages", "/var/log/syslog"]),
    ("authentication", &["/var/log/auth.log", "/var/log/secure"]),
];

/// Creates the first stream, unless there is one.
pub async fn create(args: &Up, admin: &AdminClient) -> Result<()> {
    let streams: Vec<StreamConfig> = admin.get("/api/v1/streams").await?;
    let has = |id: &str| streams.iter().any(|stream| stream.spec.id.as_str() == id);
    match &args.tail {
        Some(_) if has(TAILED) => {
            println!("stream {TAILED} is there already; change it with `isolane stream set {TAILED} inputs=...`");
            Ok(())
        }
        Some(path) => create_stream(admin, TAILED, vec![absolute(path)?]).await,
        None if args.no_first_stream || !streams.is_empty() => Ok(()),
        None => create_from_host(admin).await,
    }
}

async fn create_from_host(admin: &AdminClient) -> Result<()> {
    let found = LOGS.iter().find(|(_, patterns)| patterns.iter().any(|pattern| has_content(pattern)));
    let Some((what, patterns)) = found else {
        println!("no log file with content was found on this machine; collect one with --tail PATH");
        return Ok(());
    };
    let patterns = patterns.iter().map(|pattern| (*pattern).to_owned()).collect();
    create_stream(admin, HOST_LOGS, patterns).await?;
    println!("stream {HOST_LOGS} collects the {what}'s logs; what is there is delivered now, what comes as it grows");
    Ok(())
}

async fn create_stream(admin: &AdminClient, id: &str, paths: Vec<String>) -> Result<()> {
    let mut spec = StreamSpec::new(id.parse()?);
    spec.inputs = vec![Input::File { paths }];
    spec.limits.checkpoint_ms = limits::CHECKPOINT_UP.as_millis() as u64;
    let _: StreamConfig = admin.send(Method::POST, "/api/v1/streams", &spec).await?;
    Ok(())
}

fn absolute(path: &str) -> Result<String> {
    let path = std::path::absolute(path).with_context(|| format!("--tail {path}"))?;
    path.into_os_string().into_string().ok().context("--tail takes a path in UTF-8")
}

fn has_content(pattern: &str) -> bool {
    let paths = glob::glob(pattern).into_iter().flatten().flatten();
    paths.into_iter().any(|path| std::fs::metadata(path).is_ok_and(|file| file.is_file() && file.len() > 0))
}
