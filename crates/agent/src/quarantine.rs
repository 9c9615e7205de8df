//! The quarantine file of one stream: records that the gateway refused for good, whole, with range and cause.
//!
//! One JSON object a line: `source`, `range`, `cause`, and the body as `text`, or as `hex` where it is not UTF-8. It
//! is durable before the position passes its record; after a crash in between, the record may stand there twice.

use std::io;
use std::path::{Path, PathBuf};

use serde::Serialize;
use stream::disk::{DiskFile, SharedDisk, read_all};
use stream::{Range, Record, SourceId};

/// The quarantine could not be written.
#[derive(Debug, thiserror::Error)]
#[error("quarantine {}: {cause}; make room or mend the disk, the record is kept until then", .path.display())]
pub struct QuarantineError {
    path: PathBuf,
    cause: io::Error,
}

#[derive(Serialize)]
struct Line<'a> {
    source: SourceId,
    range: Range,
    cause: &'a str,
    #[serde(flatten)]
    body: Body<'a>,
}

#[derive(Serialize)]
#[serde(rename_all = "snake_case")]
enum Body<'a> {
    Text(&'a str),
    Hex(String),
}

/// Adds a record, durably.
pub fn set_apart(
    disk: &SharedDisk,
    path: &Path,
    source: SourceId,
    record: &Record,
    cause: &str,
) -> Result<(), QuarantineError> {
    let hex = || record.body.iter().map(|byte| format!("{byte:02x}")).collect();
    let body = std::str::from_utf8(&record.body).map_or_else(|_| Body::Hex(hex()), Body::Text);
    let line = Line { source, range: record.range, cause, body };
    append(disk, path, &line).map_err(|cause| QuarantineError { path: path.to_owned(), cause })
}

fn append(disk: &SharedDisk, path: &Path, line: &Line<'_>) -> io::Result<()> {
    let mut bytes = serde_json::to_vec(line).map_err(io::Error::other)?;
    bytes.push(b'\n');
    let mut file = open(disk, path)?;
    file.append(&bytes)?;
    file.sync()
}

/// Opens the file and cuts off a line that a crash left incomplete.
fn open(disk: &SharedDisk, path: &Path) -> io::Result<Box<dyn DiskFile>> {
    if !disk.exists(path) {
        let file = disk.create(path)?;
        disk.sync_dir(path.parent().unwrap_or(Path::new("/")))?;
        return Ok(file);
    }
    let mut file = disk.open(path)?;
    let mut last = [b'\n'];
    file.read_at(file.len().saturating_sub(1), &mut last)?;
    if last != [b'\n'] {
        let bytes = read_all(disk.as_ref(), path)?;
        let whole = memchr::memrchr(b'\n', &bytes).map_or(0, |at| at + 1);
        file.truncate(whole as u64)?;
    }
    Ok(file)
}

#[cfg(test)]
mod tests {
    use super::*;
    use rand::SeedableRng;
    use std::sync::Arc;
    use stream::Kind;
    use stream::disk::{Disk, SimDisk};

    #[test]
    fn records_lie_there_whole_after_a_power_loss() {
        for seed in 0..50 {
            let sim = SimDisk::new();
            sim.create_dir_all(Path::new("/q")).unwrap();
            let disk: SharedDisk = Arc::new(sim.clone());
            let path = Path::new("/q/quarantine.ndjson");
            let source = SourceId::derive(1, &[]);
            let record = |body: &'static [u8]| Record {
                kind: Kind::Event,
                range: Range::new(3, 9),
                event_time_ms: None,
                body: body.into(),
            };
            set_apart(&disk, path, source, &record(b"plain"), "too large").unwrap();
            sim.lose_power_after(seed % 4);
            let second = set_apart(&disk, path, source, &record(b"\xff\x00"), "malformed");
            sim.power_loss(&mut rand::rngs::ChaCha8Rng::seed_from_u64(seed));
            set_apart(&disk, path, source, &record(b"third"), "malformed").unwrap();
            let text = String::from_utf8_lossy(&read_all(&sim, path).unwrap()).into_owned();
            let lines: Vec<serde_json::Value> =
                text.lines().filter_map(|line| serde_json::from_str(line).ok()).collect();
            assert_eq!((&lines[0]["text"], &lines[0]["range"][1]), (&"plain".into(), &9.into()), "seed {seed}");
            assert_eq!(lines[lines.len() - 1]["text"], "third", "seed {seed}: {text:?}");
            assert!(second.is_err() || lines[1]["hex"] == "ff00", "seed {seed}: {text:?}");
        }
    }
}
