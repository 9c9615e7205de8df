//! Real input for the whole way: two public log files that are not part of the repository. CI fails without them; a clone
//! of one's own falls back to data of the same shape made here.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, ensure};

/// An access log in combined format: 10,000 lines, one of which lacks its closing quote.
pub fn access_log(scratch: &Path) -> Result<PathBuf> {
    find("apache_access.log", scratch, made_access_log)
}

/// 500 nested JSON objects.
pub fn status_samples(scratch: &Path) -> Result<PathBuf> {
    find("nginx_status.ndjson", scratch, made_status_samples)
}

fn find(name: &str, scratch: &Path, make: fn() -> String) -> Result<PathBuf> {
    let beside = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../shared/data");
    let folder = std::env::var_os("ISOLANE_DATA").map_or(beside, PathBuf::from);
    let path = folder.join(name);
    if path.is_file() {
        return fs::canonicalize(&path).context("the real data's path");
    }
    ensure!(
        std::env::var_os("CI").is_none(),
        "{} is missing: CI needs the real data; set ISOLANE_DATA",
        path.display()
    );
    let made = scratch.join(name);
    fs::write(&made, make())?;
    Ok(made)
}

fn made_access_log() -> String {
    let line = |n: u64| {
        let closing = if n == 8_898 { "" } else { "\"" };
        format!(
            "10.0.{}.{} - - [17/May/2015:{:02}:{:02}:{:02} +0000] \"GET /page/{} HTTP/1.1\" {} {} \"-\" \"agent/{} é{closing}\n",
            n % 7,
            n % 250,
            n / 3600 % 24,
            n / 60 % 60,
            n % 60,
            n % 983,
            [200, 304, 404][(n % 3) as usize],
            n * 37 % 9000,
            n % 5
        )
    };
    (0..10_000).map(line).collect()
}

fn made_status_samples() -> String {
    let line = |n: u64| {
        format!(
            "{{\"version\":8,\"nginx_version\":\"1.11.{}\",\"address\":\"10.0.0.{}\",\"generation\":{},\"timestamp\":{},\"pid\":{},\
             \"connections\":{{\"accepted\":{},\"dropped\":0,\"active\":{},\"idle\":{}}},\"ssl\":{{\"handshakes\":{n}}}}}\n",
            n % 3,
            n % 9,
            n % 4,
            1_400_000_000_000 + n * 1000,
            100 + n,
            n * 7,
            n % 11,
            n % 13
        )
    };
    (0..500).map(line).collect()
}
