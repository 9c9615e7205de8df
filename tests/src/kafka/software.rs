//! What a node runs: Java and Kafka's jars, found or named as missing, in processes that end with this one.

use std::io;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command};
use std::sync::LazyLock;
use std::sync::mpsc::{SyncSender, sync_channel};

use anyhow::{Result, ensure};

/// Where `cargo xtask services fetch kafka` puts the jars; the version is that of `xtask/kafka/pom.xml`.
const LIBS: &str = "../target/services/kafka-4.3.1";
/// Small: the nodes share the machine with what is tested.
const SMALL: [&str; 3] = ["-Xms128m", "-Xmx512m", "-XX:+UseSerialGC"];
/// As Kafka's own scripts start a broker: in a small heap each full collection is a tenth of a second without an answer.
const STEADY: [&str; 4] = ["-Xms1g", "-Xmx1g", "-XX:+UseG1GC", "-XX:MaxGCPauseMillis=20"];
/// Quick to start: the second compiler takes a broker's whole first minute.
const JVM: [&str; 2] = ["-XX:TieredStopAtLevel=1", "-Djava.net.preferIPv4Stack=true"];

/// What runs a node.
#[derive(Clone)]
pub struct Software {
    java: PathBuf,
    libs: PathBuf,
    memory: &'static [&'static str],
}

impl Software {
    /// From `ISOLANE_KAFKA_LIBS` and `ISOLANE_JAVA`, or where xtask puts the jars and the `java` on the path.
    pub fn find() -> Result<Self> {
        let beside = Path::new(env!("CARGO_MANIFEST_DIR")).join(LIBS);
        let libs = std::env::var_os("ISOLANE_KAFKA_LIBS").map_or(beside, PathBuf::from);
        ensure!(
            libs.is_dir(),
            "Kafka's jars are not in {}: run `cargo xtask services fetch kafka`, or set ISOLANE_KAFKA_LIBS",
            libs.display()
        );
        let java = std::env::var_os("ISOLANE_JAVA").unwrap_or_else(|| "java".into()).into();
        Ok(Self { java, libs, memory: &SMALL })
    }

    /// The same with the memory that a broker has where delays are measured.
    pub fn steady(self) -> Self {
        Self { memory: &STEADY, ..self }
    }

    /// A class's `main` in a JVM that dies with this process, in a process group of its own: Ctrl-C at a terminal is
    /// for us, who then end the nodes.
    pub fn command(&self, class: &str) -> Command {
        let mut command = Command::new("setpriv");
        command.args(["--pdeathsig", "KILL", "--"]).arg(&self.java).args(self.memory).args(JVM);
        command.arg(format!("-Dlog4j2.configurationFile={}", self.libs.join("log4j2.properties").display()));
        command.arg("-cp").arg(self.libs.join("*")).arg(class).process_group(0);
        command
    }
}

/// Spawns from a thread that lives as long as this process: PR_SET_PDEATHSIG means the thread that spawned, and a test's
/// thread may end before the clusters that several tests share.
pub fn spawn_for_life(command: Command) -> io::Result<Child> {
    type Order = (Command, SyncSender<io::Result<Child>>);
    static SPAWNER: LazyLock<SyncSender<Order>> = LazyLock::new(|| {
        let (sender, orders) = sync_channel::<Order>(1);
        std::thread::spawn(move || {
            for (mut command, answer) in orders {
                drop(answer.send(command.spawn()));
            }
        });
        sender
    });
    let (answer, spawned) = sync_channel(1);
    SPAWNER.send((command, answer)).map_err(io::Error::other)?;
    spawned.recv().map_err(io::Error::other)?
}
