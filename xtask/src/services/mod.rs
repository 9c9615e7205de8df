//! `services fetch NAME`: the real software that tests are held against, downloaded through the registries' ordinary
//! clients, pinned by version and hash, and kept under `target/services/`. Nothing of it is ever committed.
//! `services up NAME`: the same software running, for a person, on ports of its own.
//!
//! One file per service and one arm in [`fetch`]. A tool that is missing (a JDK, pip, Maven) is installed where that is
//! allowed, or the command that installs it is named.

mod flink;
mod kafka;

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail, ensure};

pub use flink::{Flink, beside, flink};
pub use kafka::kafka;

use crate::run::{has, is_root, root, step};

/// The JDK that Flink 1.20 runs on, and Kafka too. Another one gives other answers: the text of a DOUBLE changed in
/// Java 19.
const JAVA_MAJOR: u32 = 17;
const USAGE: &str = "usage: cargo xtask services fetch flink|kafka
       cargo xtask services up kafka [--dir DIR]";

/// `services ARGUMENTS`.
pub fn run(arguments: &[String]) -> Result<()> {
    let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    match arguments[..] {
        ["fetch", service] => fetch(service),
        ["up", "kafka", ref rest @ ..] => kafka::up(rest),
        _ => bail!("{USAGE}"),
    }
}

fn fetch(service: &str) -> Result<()> {
    let path = match service {
        "flink" => flink()?.lib,
        "kafka" => kafka()?.libs,
        other => bail!("unknown service {other:?}\n{USAGE}"),
    };
    eprintln!("== {service}: {}", path.display());
    Ok(())
}

/// Where everything is kept.
pub fn folder() -> PathBuf {
    root().join("target/services")
}

/// Maven, and `java` of a JDK to run it with.
pub fn maven() -> Result<PathBuf> {
    install_missing(|| has("mvn", "--version").then_some(()), "Maven", "maven")?;
    jdk()
}

/// The jars that `sources/pom.xml` names, from Maven, in a fresh folder; each is what `sources/jars.sha256` says.
fn download_jars(sources: &Path, fresh: &str, what: &str) -> Result<PathBuf> {
    maven()?;
    let jars = empty(fresh)?;
    let mut maven = Command::new("mvn");
    maven.args(["-q", "-B", "dependency:copy-dependencies", "-DincludeScope=runtime", "-f"]);
    maven.arg(sources.join("pom.xml")).arg(format!("-DoutputDirectory={}", jars.display()));
    step(&format!("download {what}"), &mut maven)?;
    let mut sums = Command::new("sha256sum");
    sums.args(["--check", "--strict", "--quiet"]).arg(sources.join("jars.sha256"));
    step(&format!("check {what}"), sums.current_dir(&jars))?;
    Ok(jars)
}

/// `java` of a JDK of the right version: in `JAVA_HOME`, on the path, or where Debian puts it.
fn jdk() -> Result<PathBuf> {
    install_missing(find_jdk, &format!("a JDK {JAVA_MAJOR}"), &format!("openjdk-{JAVA_MAJOR}-jdk-headless"))
}

fn find_jdk() -> Option<PathBuf> {
    let home = std::env::var_os("JAVA_HOME").map(|home| PathBuf::from(home).join("bin"));
    let packaged = fs::read_dir("/usr/lib/jvm").into_iter().flatten().flatten().map(|entry| entry.path().join("bin"));
    let mut dirs = home.into_iter().chain([PathBuf::new()]).chain(packaged);
    dirs.find(|dir| is_jdk(dir)).map(|dir| dir.join("java"))
}

/// Whether a folder (an empty one: the path) has both programs, in the right version.
fn is_jdk(dir: &Path) -> bool {
    let right = |output: std::process::Output| {
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        text.split([' ', '.', '\n']).nth(1).is_some_and(|major| major == JAVA_MAJOR.to_string())
    };
    ["java", "javac"].iter().all(|name| Command::new(dir.join(name)).arg("--version").output().is_ok_and(right))
}

/// An empty folder below [`folder`], for what is not whole yet.
fn empty(name: &str) -> Result<PathBuf> {
    let dir = folder().join(name);
    if dir.exists() {
        fs::remove_dir_all(&dir)?;
    }
    fs::create_dir_all(&dir)?;
    Ok(dir)
}

/// What `find` finds, after installing `package` if need be and allowed.
fn install_missing<T>(find: impl Fn() -> Option<T>, what: &str, package: &str) -> Result<T> {
    if let Some(found) = find() {
        return Ok(found);
    }
    let install = format!("apt-get install -y --no-install-recommends {package}");
    ensure!(is_root() && has("apt-get", "--version"), "{what} is missing: {install}");
    step("package lists", Command::new("apt-get").args(["update", "-q"]))?;
    step(&install, Command::new("sh").args(["-c", &install]).env("DEBIAN_FRONTEND", "noninteractive"))?;
    find().with_context(|| format!("{what} is missing even after: {install}"))
}
