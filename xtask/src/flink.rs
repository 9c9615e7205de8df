//! `flink`: builds and tests the table connector in `flink/` with Maven, and says how long that took. The first run also
//! downloads what Maven needs; `cargo xtask test` does not run it yet.

use std::process::Command;

use anyhow::{Result, ensure};

use crate::run::{root, step};
use crate::services;

const USAGE: &str = "usage: cargo xtask flink";

/// `flink`.
pub fn run(arguments: &[String]) -> Result<()> {
    ensure!(arguments.is_empty(), "{USAGE}");
    let java = services::maven()?;
    let mut maven = Command::new("mvn");
    maven.args(["-q", "-B", "verify", "-f"]).arg(root().join("flink/pom.xml"));
    if let Some(home) = java.parent().and_then(|bin| bin.parent()).filter(|home| home.is_absolute()) {
        maven.env("JAVA_HOME", home);
    }
    step("the connector: mvn -q verify", &mut maven)
}
