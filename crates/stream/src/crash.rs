//! Named crash points. With the feature `crash-points` a process aborts at the point whose name stands in the file
//! named by `ISOLANE_CRASH_FILE`, once: the file is removed first, so that the process that takes its place goes on.
//! Without the feature nothing is compiled.

/// Every crash point, in the order of a record's way. The soak visits each one; a point not listed here does not fire.
pub const POINTS: &[&str] = &[
    "agent.position.written",
    "agent.position.renamed",
    "agent.cut.synced",
    "agent.batch.sent",
    "agent.batch.acknowledged",
    "gateway.batch.queued",
    "gateway.batch.produced",
    "journal.commit.written",
    "journal.commit.synced",
    "journal.segment.copied",
    "journal.segment.renamed",
    "journal.wal.removed",
    "sink.file.written",
    "sink.file.synced",
    "sink.manifest.written",
    "sink.manifest.synced",
    "sink.file.renamed",
    "sink.commit.published",
    "query.commit.reported",
    "admin.stream.stored",
];

/// The crash points of a leg that writes to Kafka, which not every soak has.
pub const KAFKA_POINTS: &[&str] = &["kafka.rows.appended", "kafka.state.appended", "kafka.transaction.ended"];

/// Aborts here if this point is the chosen one.
#[inline]
pub fn point(name: &'static str) {
    #[cfg(feature = "crash-points")]
    chosen::visit(name);
    #[cfg(not(feature = "crash-points"))]
    let _ = name;
}

#[cfg(feature = "crash-points")]
mod chosen {
    use std::fs;
    use std::path::PathBuf;
    use std::sync::OnceLock;

    static FILE: OnceLock<Option<PathBuf>> = OnceLock::new();

    pub(super) fn visit(name: &'static str) {
        let Some(file) = FILE.get_or_init(|| std::env::var_os("ISOLANE_CRASH_FILE").map(PathBuf::from)) else { return };
        let chosen = fs::read_to_string(file).is_ok_and(|chosen| chosen.trim() == name);
        if chosen && fs::remove_file(file).is_ok() {
            eprintln!("crash point {name}: aborting");
            std::process::abort();
        }
    }
}
