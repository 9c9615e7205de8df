//! `flink`: builds and tests the table connector in `flink/` with Maven, and says how long that took; part of `test`. The first
//! run also downloads what Maven needs. `flink connector`, `flink sink`, `flink engine`, `flink hand-over`, `flink stream` and `flink switch` try the
//! connector, its Kafka sink, the engine that keeps its jobs (`HA=1`: beside a ZooKeeper, `COMPACT=1`: files put together), a stream handed
//! over between the embedded engine and Flink, and a stream that runs there (`LEGS=separate`: as two jobs), on a real Kafka and a real
//! Flink: minutes each, not part of `test`.

use std::fs;
use std::path::Path;
use std::process::Command;

use anyhow::{Result, bail};

use crate::check::WHOLE;
use crate::run::{cargo, root, step};
use crate::services;
use crate::test::python_with_pyarrow;

/// The connector, as Maven packages it.
const CONNECTOR: &str = "isolane-flink-0.1.0.jar";
const USAGE: &str = "usage: cargo xtask flink [connector|sink|engine|hand-over|stream|switch]";

/// `flink ARGUMENTS`.
pub fn run(arguments: &[String]) -> Result<()> {
    let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    match arguments[..] {
        [] => step("the connector: mvn -q verify", &mut maven("verify")?),
        ["connector"] => whole_way("run.sh"),
        ["engine"] => {
            step("the engine", &mut cargo(&["build", "--package", "flink", "--example", "keep"]))?;
            whole_way("engine.sh")
        }
        [script @ ("hand-over" | "stream" | "switch")] => {
            step("isolane", cargo(&["build", "--bin", "isolane"]).args(WHOLE))?;
            whole_way(&format!("{script}.sh"))
        }
        ["sink"] => whole_way("sink.sh"),
        _ => bail!("{USAGE}"),
    }
}

fn maven(goal: &str) -> Result<Command> {
    let java = services::maven()?;
    let mut maven = Command::new("mvn");
    maven.args(["-q", "-B", goal, "-f"]).arg(root().join("flink/pom.xml"));
    if let Some(home) = java.parent().and_then(|bin| bin.parent()).filter(|home| home.is_absolute()) {
        maven.env("JAVA_HOME", home);
    }
    Ok(maven)
}

/// Runs a script of `flink/src/test/e2e` on real services; what it wrote stays in `target/flink-e2e`.
fn whole_way(script: &str) -> Result<()> {
    package()?;
    let work = root().join("target/flink-e2e");
    empty(&work)?;
    run_script(script, &work)
}

/// Packages the connector; `mvn verify` does that too.
pub fn package() -> Result<()> {
    step("the connector: mvn -q package", maven("package")?.arg("-DskipTests"))
}

/// What a JVM needs to run jobs on a small Flink: its jars, those beside them, and the connector, packaged now.
pub fn class_path() -> Result<String> {
    package()?;
    let (flink, beside) = (services::flink()?.lib, services::beside()?);
    let connector = root().join("flink/target").join(CONNECTOR);
    Ok(format!("{}/*:{}/*:{}", flink.display(), beside.display(), connector.display()))
}

/// An empty folder for a script.
pub fn empty(work: &Path) -> Result<()> {
    if work.exists() {
        fs::remove_dir_all(work)?;
    }
    Ok(fs::create_dir_all(work)?)
}

/// Runs a script of `flink/src/test/e2e` in a folder, with the connector as it was packaged last.
pub fn run_script(script: &str, work: &Path) -> Result<()> {
    let (flink, kafka, beside) = (services::flink()?, services::kafka()?, services::beside()?);
    let jars = work.join("jars");
    fs::create_dir_all(&jars)?;
    for jar in fs::read_dir(&beside)? {
        let jar = jar?;
        fs::hard_link(jar.path(), jars.join(jar.file_name()))?;
    }
    fs::copy(root().join("flink/target").join(CONNECTOR), jars.join(CONNECTOR))?;
    let mut whole_way = Command::new(root().join("flink/src/test/e2e").join(script));
    whole_way.arg(work).arg(flink.lib.parent().unwrap_or(Path::new("/"))).arg(&kafka.libs).arg(&jars);
    let built = root().join("target/debug");
    whole_way.env("KEEP", built.join("examples/keep")).env("ISOLANE", built.join("isolane"));
    whole_way.env("PYTHON", python_with_pyarrow()?);
    step(script, &mut whole_way)
}
