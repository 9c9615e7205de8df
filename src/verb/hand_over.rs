//! `hand-over`: where a leg that writes files stands, read from its folder, for whoever goes on from there.

use anyhow::{Context, Result};
use query::leg::hand_over::HandOver;
use sink::Identity;
use sink::files::manifest;
use stream::TopicName;
use stream::disk::RealDisk;

use super::say;
use crate::args;

/// Runs the verb.
pub fn run(args::HandOver { dir, topic }: &args::HandOver) -> Result<()> {
    let found = manifest::state(&RealDisk, dir)?;
    let (Identity { stream, incarnation, leg }, state) =
        found.with_context(|| format!("{} is no leg's folder: it has no manifest in _isolane", dir.display()))?;
    let topic = topic.clone().unwrap_or_else(|| TopicName::from(&stream));
    // As Kafka has it, see `journal::Topic::name`.
    let object = HandOver::of(&format!("{topic}.{incarnation}"), &leg, &state);
    say(object.text()?.trim_end())
}
