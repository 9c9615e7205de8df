//! How it starts, says where to look, and refuses to start: a clear message and a non-zero exit, never a panic.

use std::fs;
use std::net::TcpListener;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;

use anyhow::{Result, ensure};
use harness::deployment::{Deployment, binary};
use harness::poll;

const SOON: Duration = Duration::from_secs(60);

/// Runs `isolane up` until it ends by itself, which it must; gives what it wrote.
fn refusal(dir: &Path, arguments: &[&str]) -> Result<String> {
    let mut child = Command::new(binary()?)
        .args(["up", "--data-dir"])
        .arg(dir)
        .args(["--ui-port", "0", "--http-port", "0", "--grpc-port", "0"])
        .args(arguments)
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()?;
    let ended = poll::until("the refusal", SOON, || Ok(child.try_wait()?));
    if ended.is_err() {
        child.kill()?;
    }
    let output = child.wait_with_output()?;
    let text = String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr);
    ensure!(ended.is_ok(), "it did not end: {text}");
    ensure!(!output.status.success(), "it started: {text}");
    ensure!(!text.contains("panicked"), "it panicked: {text}");
    Ok(text)
}

#[test]
fn what_cannot_start_says_why() -> Result<()> {
    let scratch = tempfile::tempdir()?;
    let taken = TcpListener::bind("127.0.0.1:0")?;
    let port = taken.local_addr()?.port().to_string();
    let used = Command::new(binary()?)
        .args(["up", "--data-dir"])
        .arg(scratch.path().join("a"))
        .args(["--ui-port", &port, "--http-port", "0", "--grpc-port", "0"])
        .output()?;
    let text = String::from_utf8_lossy(&used.stderr);
    ensure!(!used.status.success() && text.contains(&port) && text.contains("--ui-port"), "{text}");

    let file = scratch.path().join("file");
    fs::write(&file, "")?;
    let text = refusal(&file.join("data"), &[])?;
    ensure!(text.contains("not writable") && text.contains("--data-dir"), "{text}");
    Ok(())
}

#[test]
fn damaged_state_is_named() -> Result<()> {
    let scratch = tempfile::tempdir()?;
    let dir = scratch.path().join("data");
    let mut deployment = Deployment::start_bare(&dir)?;
    deployment.stop()?;
    for file in fs::read_dir(dir.join("admin"))? {
        fs::write(file?.path(), "this is no database, it is a text that is long enough to be looked at as one")?;
    }
    let text = refusal(&dir, &["--no-first-stream"])?;
    ensure!(text.contains("admin cannot start"), "{text}");
    Ok(())
}

#[test]
fn the_first_stream_is_delivered_and_the_screen_says_where() -> Result<()> {
    let scratch = tempfile::tempdir()?;
    let log = scratch.path().join("some.log");
    fs::write(&log, "hello\nworld\n")?;
    let mut deployment = Deployment::new(&scratch.path().join("data"), &["--tail", &log.to_string_lossy()])?;
    deployment.start()?;
    poll::until("the first rows", Duration::from_secs(20), || {
        Ok((harness::parquet_rows::rows(&deployment.out("local.host.tail"))? == 2).then_some(()))
    })?;
    let screen = fs::read_to_string(deployment.dir.join("up.out"))?;
    for word in [deployment.ui.to_string(), deployment.http.to_string(), deployment.grpc.to_string(), "out".into()] {
        ensure!(screen.contains(&word), "the screen does not say {word}: {screen}");
    }
    let second = refusal(&deployment.dir, &[])?;
    ensure!(second.contains("another isolane runs"), "{second}");
    deployment.stop()
}
