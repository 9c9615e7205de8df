//! `stream create|list|show|set|delete`.

use std::path::Path;

use anyhow::{Context, Result, bail};
use http::Method;
use serde_json::{Value, json};
use stream::StreamId;
use stream::config::{Checked, Format, Input, StreamConfig, StreamSpec};
use stream::control::AdminClient;

use super::table;
use crate::args::{self, StreamCreate};
use crate::config;

/// Runs the verb.
pub async fn run(verb: args::Stream) -> Result<()> {
    match verb {
        args::Stream::Create(create) => self::create(create).await,
        args::Stream::List(admin) => list(&AdminClient::new(admin.admin)).await,
        args::Stream::Show { id, admin } => show(&AdminClient::new(admin.admin), &id.parse()?).await,
        args::Stream::Set { id, changes, admin } => set(&AdminClient::new(admin.admin), &id.parse()?, &changes).await,
        args::Stream::Tap(tap) => super::tap::run(tap).await,
        args::Stream::Delete { id, admin } => delete(&AdminClient::new(admin.admin), &id.parse()?).await,
    }
}

async fn create(create: StreamCreate) -> Result<()> {
    let spec = match (&create.file, &create.id) {
        (Some(file), _) => from_file(file)?,
        (None, Some(id)) => from_options(id, &create)?,
        (None, None) => bail!("name the stream: department.project.business"),
    };
    let admin = AdminClient::new(create.admin.admin);
    let Checked { config, warnings } = admin.send(Method::POST, "/api/v1/streams", &spec).await?;
    println!("created {} (incarnation {})", config.spec.id, config.incarnation);
    warn(&warnings);
    Ok(())
}

/// A stream's specification, TOML or JSON.
pub fn from_file(path: &Path) -> Result<StreamSpec> {
    if path.extension().is_some_and(|extension| extension == "json") {
        let text = std::fs::read_to_string(path).with_context(|| format!("reading {}", path.display()))?;
        return serde_json::from_str(&text).with_context(|| path.display().to_string());
    }
    config::read(path)
}

fn from_options(id: &str, create: &StreamCreate) -> Result<StreamSpec> {
    let mut spec = StreamSpec::new(id.parse()?);
    if !create.tail.is_empty() {
        spec.inputs = vec![Input::File { paths: create.tail.clone() }];
    }
    if let Some(path) = &create.sql {
        spec.sql = Some(std::fs::read_to_string(path).with_context(|| format!("reading {}", path.display()))?);
    }
    if create.json {
        spec.format = Format::Json;
    }
    Ok(spec)
}

async fn list(admin: &AdminClient) -> Result<()> {
    let streams: Vec<StreamConfig> = admin.get("/api/v1/streams").await?;
    let row = |stream: &StreamConfig| {
        let sinks: Vec<&str> = stream.spec.sinks.iter().map(|sink| sink.name.as_str()).collect();
        vec![
            stream.spec.id.to_string(),
            stream.topic().to_string(),
            format!("{:?}", stream.spec.priority).to_lowercase(),
            sinks.join(","),
            stream.version.to_string(),
        ]
    };
    table::print(&["stream", "topic", "priority", "sinks", "version"], &streams.iter().map(row).collect::<Vec<_>>());
    Ok(())
}

async fn show(admin: &AdminClient, id: &StreamId) -> Result<()> {
    let stream: StreamConfig = admin.get(&path(id)).await?;
    println!("{}", serde_json::to_string_pretty(&stream)?);
    Ok(())
}

async fn set(admin: &AdminClient, id: &StreamId, changes: &[String]) -> Result<()> {
    let stream: StreamConfig = admin.get(&path(id)).await?;
    let mut spec = serde_json::to_value(&stream.spec)?;
    for change in changes {
        apply(&mut spec, change)?;
    }
    let spec: StreamSpec = serde_json::from_value(spec).context("the changed stream")?;
    let Checked { config, warnings } = admin.send(Method::PUT, &path(id), &spec).await?;
    println!("{id} is at version {}", config.version);
    warn(&warnings);
    Ok(())
}

/// What the check of a job says of a text that it has taken.
fn warn(warnings: &[String]) {
    warnings.iter().for_each(|warning| eprintln!("warning: {warning}"));
}

async fn delete(admin: &AdminClient, id: &StreamId) -> Result<()> {
    admin.send::<Option<Value>>(Method::DELETE, &path(id), &Value::Null).await?;
    println!("deleted {id}; its published files stay");
    Ok(())
}

fn path(id: &StreamId) -> String {
    format!("/api/v1/streams/{id}")
}

/// Applies `field=value`, fields of fields with dots. The value is JSON where it can be read so, text otherwise.
pub fn apply(spec: &mut Value, change: &str) -> Result<()> {
    let (field, value) = change.split_once('=').with_context(|| format!("{change:?}: write field=value"))?;
    let value = match value.strip_prefix('@') {
        Some(file) => Value::String(std::fs::read_to_string(file).with_context(|| format!("reading {file}"))?),
        None => serde_json::from_str(value).unwrap_or_else(|_| Value::String(value.to_owned())),
    };
    let mut place = spec;
    // What has its default may not stand there. A name that is no field's is refused when the whole is read.
    for part in field.split('.') {
        let fields = place.as_object_mut().with_context(|| format!("{field:?}: there are no fields in it"))?;
        place = fields.entry(part).or_insert_with(|| json!({}));
    }
    *place = value;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fields_are_set_by_name() {
        let mut spec = serde_json::to_value(StreamSpec::new("a.b.c".parse().unwrap())).unwrap();
        apply(&mut spec, "priority=high").unwrap();
        apply(&mut spec, "limits.checkpoint_ms=2000").unwrap();
        let changed: StreamSpec = serde_json::from_value(spec.clone()).unwrap();
        assert_eq!(changed.limits.checkpoint_ms, 2000);
        assert_eq!(changed.priority, stream::config::Level::High);
        apply(&mut spec, "limits.rate.bytes_per_second_max=5").unwrap();
        let changed: StreamSpec = serde_json::from_value(spec.clone()).unwrap();
        assert_eq!(changed.limits.rate.bytes_per_second_max, 5);
        assert!(apply(&mut spec, "priority").is_err());
        assert!(apply(&mut spec, "priority.x=1").is_err());
        apply(&mut spec, "colour=red").unwrap();
        assert!(serde_json::from_value::<StreamSpec>(spec).unwrap_err().to_string().contains("colour"));
    }
}
