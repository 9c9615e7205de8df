//! Runs other programs, says which and how long they took.

use std::ffi::OsStr;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Instant;

use anyhow::{Context, Result, ensure};

/// The workspace's folder.
pub fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().map(Path::to_owned).unwrap_or_default()
}

/// `cargo` with arguments, in the workspace.
pub fn cargo(arguments: &[&str]) -> Command {
    let mut command = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    command.args(arguments).current_dir(root());
    command
}

/// Runs a step to its end; fails if it fails.
pub fn step(what: &str, command: &mut Command) -> Result<()> {
    eprintln!("== {what}");
    let began = Instant::now();
    let status = command.status().with_context(|| format!("{what}: cannot run {:?}", command.get_program()))?;
    eprintln!("== {what}: {:.0} s", began.elapsed().as_secs_f64());
    ensure!(status.success(), "{what}: {status}");
    Ok(())
}

/// Whether a program runs at all.
pub fn has(program: impl AsRef<OsStr>, argument: &str) -> bool {
    Command::new(program).arg(argument).output().is_ok_and(|output| output.status.success())
}

/// Whether this is root.
pub fn is_root() -> bool {
    Command::new("id").arg("-u").output().is_ok_and(|output| output.stdout.trim_ascii() == b"0")
}
