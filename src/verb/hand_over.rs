//! `hand-over`: ends a leg for good, and says where it stands, for whoever goes on from there.

use std::path::Path;
use std::sync::Arc;

use anyhow::{Context, Result};
use query::leg::hand_over::HandOver;
use sink::{Identity, LegState};
use stream::TopicName;
use stream::disk::{RealDisk, SharedDisk};

use super::say;
use crate::args;

/// Runs the verb.
pub async fn run(args::HandOver { leg, brokers, topic }: args::HandOver) -> Result<()> {
    let (Identity { stream, incarnation, leg }, state) = match brokers {
        Some(brokers) => from_topic(&brokers, &leg).await?,
        None => from_folder(Path::new(&leg))?,
    };
    let topic = topic.unwrap_or_else(|| TopicName::from(&stream));
    // As Kafka has it, see `journal::Topic::name`.
    let object = HandOver::of(&format!("{topic}.{incarnation}"), &leg, &state);
    say(object.text()?.trim_end())
}

fn from_folder(dir: &Path) -> Result<(Identity, LegState)> {
    let disk: SharedDisk = Arc::new(RealDisk);
    let found = sink::files::hand_over::hand_over(&disk, dir)?;
    found.with_context(|| format!("{} is no leg's folder, or the leg has never committed", dir.display()))
}

#[cfg(feature = "kafka")]
async fn from_topic(brokers: &str, name: &str) -> Result<(Identity, LegState)> {
    use sink::kafka::hand_over::{hand_over, identity};
    let leg = identity(name).with_context(|| {
        format!("{name:?} is no leg's name: department.project.business.incarnation.sink, see `isolane stream show`")
    })?;
    let state = hand_over(brokers, &leg).await?;
    let state = state.with_context(|| format!("no leg {name} has ever committed in the cluster at {brokers}"))?;
    Ok((leg, state))
}

#[cfg(not(feature = "kafka"))]
async fn from_topic(_: &str, _: &str) -> Result<(Identity, LegState)> {
    anyhow::bail!("this isolane was built without Kafka: build with `cargo build --release --features kafka`")
}
