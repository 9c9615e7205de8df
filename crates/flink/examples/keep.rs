//! Keeps jobs on a Flink as a file says, until it is killed: what the end-to-end run (`flink/src/test/e2e/engine.sh`) kills
//! and starts again.
//!
//! `keep GATEWAY CLUSTER ROOT STATE WANTED`: `host:port` of the SQL Gateway and of the JobManager, the folder that Flink keeps
//! its checkpoints in, the folder of what is remembered, and a JSON file: the text of each job by its name, `null` for one
//! that is to stand.

use std::collections::BTreeMap;
use std::io;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use flink::{Cluster, Gateway, Places, Rest, Settings, Text, Wanted, WantedJobs};
use stream::clock::SystemClock;
use stream::disk::RealDisk;
use tokio::sync::watch;

/// How often the file and each job are looked at.
const EVERY: Duration = Duration::from_millis(500);

#[tokio::main]
async fn main() -> Result<()> {
    tracing_subscriber::fmt().with_ansi(false).init();
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [gateway, cluster, root, state, file] = &arguments[..] else {
        bail!("usage: keep GATEWAY CLUSTER ROOT STATE WANTED")
    };
    let settings = Settings {
        gateway: Gateway::new(Rest::new(gateway.parse()?)),
        cluster: Cluster::new(Rest::new(cluster.parse()?)),
        places: Places::new(root.into()),
        disk: Arc::new(RealDisk),
        state_dir: state.into(),
        clock: Arc::new(SystemClock),
        every: EVERY,
        told: Arc::new(|_, _| ()),
        shows: Arc::new(|mark| sink::files::hidden::show(&RealDisk, mark).map_err(io::Error::other)),
    };
    let (sender, wanted) = watch::channel(Arc::new(read(Path::new(file))?));
    let follow = async {
        loop {
            tokio::time::sleep(EVERY).await;
            // Half written, it is read again.
            let Ok(now) = read(Path::new(file)) else { continue };
            sender.send_if_modified(|known| {
                let is_new = **known != now;
                *known = Arc::new(now);
                is_new
            });
        }
    };
    tokio::select! {
        served = flink::serve(settings, wanted, std::future::pending()) => Ok(served?),
        () = follow => Ok(()),
    }
}

fn read(file: &Path) -> Result<WantedJobs> {
    let bytes = std::fs::read(file).with_context(|| format!("reading {}", file.display()))?;
    let texts: BTreeMap<String, Option<Text>> = serde_json::from_slice(&bytes)?;
    let wanted = |text: Option<Text>| text.map_or(Wanted::Stopped, Wanted::from);
    texts.into_iter().map(|(key, text)| Ok((key.parse()?, wanted(text)))).collect()
}
