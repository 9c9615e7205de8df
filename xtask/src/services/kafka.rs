//! Kafka's jars, from Maven: the harness starts two clusters of them (`harness::kafka`).

use std::fs;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result};

use super::{download_jars, folder, install_missing, jdk};
use crate::run::{has, root};

/// The version in `xtask/kafka/pom.xml`; the harness looks for the folder of this name.
const KAFKA_VERSION: &str = "4.3.1";

/// A Kafka distribution and the JDK to run it with.
pub struct Kafka {
    /// The program `java`.
    pub java: PathBuf,
    /// The folder of Kafka's jars and of the nodes' log settings.
    pub libs: PathBuf,
}

impl Kafka {
    /// Tells a program that uses the harness where to find it.
    pub fn tell<'a>(&self, command: &'a mut Command) -> &'a mut Command {
        command.env("ISOLANE_KAFKA_LIBS", &self.libs).env("ISOLANE_JAVA", &self.java)
    }
}

/// Kafka's jars, a JDK, and kcat, the independent reader of topics; downloads and installs what is missing.
pub fn kafka() -> Result<Kafka> {
    install_missing(|| has("kcat", "-V").then_some(()), "kcat", "kcat")?;
    let java = jdk()?;
    let libs = folder().join(format!("kafka-{KAFKA_VERSION}"));
    if !libs.exists() {
        download_kafka(&libs).context("Kafka's jars")?;
    }
    Ok(Kafka { java, libs })
}

/// `services up kafka`: becomes the harness's program, so that a signal for this process reaches it.
pub fn up(arguments: &[&str]) -> Result<()> {
    let kafka = kafka()?;
    let mut run = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    run.args(["run", "--package", "tests", "--bin", "kafka", "--manifest-path"]);
    run.arg(root().join("Cargo.toml")).arg("--").args(arguments);
    Err(kafka.tell(&mut run).exec()).context("running the harness's kafka")
}

/// Copies beside the place and renames at the end: what has its name is whole.
fn download_kafka(libs: &Path) -> Result<()> {
    let sources = root().join("xtask/kafka");
    let jars = download_jars(&sources, "kafka-jars", "Kafka's jars")?;
    fs::copy(sources.join("log4j2.properties"), jars.join("log4j2.properties"))?;
    fs::rename(&jars, libs)?;
    Ok(())
}
