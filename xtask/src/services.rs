//! `services fetch NAME`: the real software that tests are held against, downloaded through the registries' ordinary
//! clients, pinned by version and hash, and kept under `target/services/`. Nothing of it is ever committed.
//!
//! One function per service and one arm in [`fetch`]: Flink is here; Kafka and ZooKeeper get theirs beside it.
//! A tool that is missing (a JDK, pip) is installed where that is allowed, or the command that installs it is named.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail, ensure};

use crate::run::{has, is_root, root, step};

/// The version in `xtask/flink/requirements.txt`.
const FLINK_VERSION: &str = "1.20.5";
/// The JDK that Flink 1.20 runs on. Another one gives other answers: the text of a DOUBLE changed in Java 19.
const JAVA_MAJOR: u32 = 17;
const USAGE: &str = "usage: cargo xtask services fetch flink";

/// A Flink distribution and the JDK to run it with.
pub struct Flink {
    /// The program `java`, with a compiler beside it.
    pub java: PathBuf,
    /// The folder of Flink's jars.
    pub lib: PathBuf,
}

/// `services ARGUMENTS`.
pub fn run(arguments: &[String]) -> Result<()> {
    let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    match arguments[..] {
        ["fetch", service] => fetch(service),
        _ => bail!("{USAGE}"),
    }
}

fn fetch(service: &str) -> Result<()> {
    let path = match service {
        "flink" => flink()?.lib,
        other => bail!("unknown service {other:?}\n{USAGE}"),
    };
    eprintln!("== {service}: {}", path.display());
    Ok(())
}

/// Flink's jars and a JDK; downloads and installs what is missing.
pub fn flink() -> Result<Flink> {
    let java = jdk()?;
    let home = folder().join(format!("flink-{FLINK_VERSION}"));
    if !home.exists() {
        download_flink(&home).context("Flink's jars")?;
    }
    Ok(Flink { java, lib: home.join("lib") })
}

/// Where everything is kept.
pub fn folder() -> PathBuf {
    root().join("target/services")
}

/// Unpacks beside the place and renames at the end: what has its name is whole.
fn download_flink(home: &Path) -> Result<()> {
    install_missing(|| has_pip().then_some(()), "pip", "python3-pip")?;
    let (unpacked, archives) = (folder().join("flink-unpacked"), folder().join("flink-archives"));
    for dir in [&unpacked, &archives] {
        if dir.exists() {
            fs::remove_dir_all(dir)?;
        }
        fs::create_dir_all(dir)?;
    }
    let mut pip = Command::new("python3");
    pip.args(["-m", "pip", "download", "--quiet", "--no-deps", "--require-hashes", "--dest"]).arg(&archives);
    step("download Flink", pip.arg("--requirement").arg(root().join("xtask/flink/requirements.txt")))?;
    let archive = format!("apache_flink_libraries-{FLINK_VERSION}");
    let mut tar = Command::new("tar");
    tar.arg("-xzf").arg(archives.join(format!("{archive}.tar.gz"))).arg("-C").arg(&unpacked);
    step("unpack Flink", tar.args(["--strip-components=2", &format!("{archive}/deps")]))?;
    fs::rename(&unpacked, home)?;
    fs::remove_dir_all(&archives)?;
    Ok(())
}

fn has_pip() -> bool {
    Command::new("python3").args(["-m", "pip", "--version"]).output().is_ok_and(|output| output.status.success())
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
