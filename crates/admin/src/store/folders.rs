//! Where files are put together, a folder is one sink's alone: what is still to be is shown, when its job has stopped, by whoever
//! finds it there. Only folders that are named are known here; the default ones bear the stream's and the sink's name.

use std::path::Path;

use stream::StreamId;
use stream::config::{SinkKind, Snapshot, StreamSpec};

use crate::error::StoreError;

/// Refuses a stream whose folders are not free.
pub(super) fn folders_free(snapshot: &Snapshot, spec: &StreamSpec) -> Result<(), StoreError> {
    let others = snapshot.streams.values().map(|config| &config.spec).filter(|other| other.id != spec.id);
    let all = || others.clone().chain([spec]).flat_map(folders);
    for (_, sink, folder, is_compacted) in folders(spec) {
        let is_shared = |(owner, other, path, compacts): &(&StreamId, &str, &Path, bool)| {
            let is_same_sink = *owner == &spec.id && *other == sink;
            !is_same_sink && (is_compacted || *compacts) && (path.starts_with(folder) || folder.starts_with(path))
        };
        if let Some((owner, ..)) = all().find(is_shared) {
            let (stream, sink) = (spec.id.clone(), sink.to_owned());
            return Err(StoreError::FolderTaken { stream, sink, folder: folder.to_owned(), owner: owner.clone() });
        }
    }
    Ok(())
}

/// The folders that a stream's files sinks name, and whether files are put together there.
fn folders(spec: &StreamSpec) -> impl Iterator<Item = (&StreamId, &str, &Path, bool)> + Clone {
    spec.sinks.iter().filter_map(|sink| match &sink.kind {
        SinkKind::Files { path: Some(path), compaction, .. } => {
            Some((&spec.id, sink.name.as_str(), path.as_path(), *compaction))
        }
        SinkKind::Files { path: None, .. } | SinkKind::Kafka(_) => None,
    })
}
