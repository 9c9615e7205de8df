//! Flink's jars, from PyPI: the answers of the embedded SQL engine are held against it. And, from Maven, what lies beside them
//! where jobs of ours run.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result};

use super::{download_jars, empty, folder, install_missing, jdk};
use crate::run::{root, step};

/// The version in `xtask/flink/requirements.txt`.
const FLINK_VERSION: &str = "1.20.5";

/// A Flink distribution and the JDK to run it with.
pub struct Flink {
    /// The program `java`, with a compiler beside it.
    pub java: PathBuf,
    /// The folder of Flink's jars.
    pub lib: PathBuf,
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

/// The jars that jobs of ours need beside Flink's own: the SQL Gateway, Kafka's and Parquet's sides. Downloads what is missing.
pub fn beside() -> Result<PathBuf> {
    let jars = folder().join(format!("flink-{FLINK_VERSION}-beside"));
    if !jars.exists() {
        let unchecked = download_jars(&root().join("xtask/flink"), "flink-beside", "the jars beside Flink's");
        fs::rename(unchecked.context("the jars beside Flink's")?, &jars)?;
    }
    Ok(jars)
}

/// Unpacks beside the place and renames at the end: what has its name is whole.
fn download_flink(home: &Path) -> Result<()> {
    install_missing(|| has_pip().then_some(()), "pip", "python3-pip")?;
    let (unpacked, archives) = (empty("flink-unpacked")?, empty("flink-archives")?);
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
