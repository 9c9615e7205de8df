//! Why a sink stopped, by what its leg or its operator must do.

use std::io;
use std::path::{Path, PathBuf};

/// Why a sink stopped. Unless said otherwise the leg recovers and tries again.
#[derive(Debug, thiserror::Error)]
pub enum SinkError {
    /// The disk failed or is full; nothing uncommitted is kept.
    #[error("{}: {cause}", .path.display())]
    Disk {
        /// The file or directory.
        path: PathBuf,
        /// What the disk said.
        cause: io::Error,
    },
    /// Rows do not fit the file's schema, or cannot be written as Parquet.
    #[error("{}: cannot write Parquet: {cause}", .path.display())]
    Parquet {
        /// The file.
        path: PathBuf,
        /// What the writer said.
        cause: String,
    },
    /// A durable file is damaged where no power loss can have damaged it. Needs a person.
    #[error("{} is damaged at byte {byte}: {cause}; restore it from a backup", .file.display())]
    Damaged {
        /// The file.
        file: PathBuf,
        /// Where.
        byte: u64,
        /// What is wrong.
        cause: String,
    },
    /// A committed file is neither under its final nor under its first name. Needs a person.
    #[error("committed file {} is missing, with ranges {ranges}; restore it from a backup", .file.display())]
    Missing {
        /// The file's final path.
        file: PathBuf,
        /// Its ranges per source, as JSON.
        ranges: String,
    },
    /// A file bears the number of a commit that the manifest does not know. Needs a person.
    #[error(
        "{} belongs to commit {commit}, but the manifest ends at commit {known}; restore _isolane from a backup or \
         move the data out of this folder",
        .file.display()
    )]
    Unknown {
        /// The file.
        file: PathBuf,
        /// The commit in its name.
        commit: u64,
        /// The manifest's last commit.
        known: u64,
    },
    /// The file that a job on Flink has left in its folder is not there, so this may be another folder. Needs a person.
    #[error(
        "{} is not there, which the job has left beside its files: mount the folder here as on Flink's machines, for the engine role's \
         user to read and write; if somebody has removed the files on purpose, make an empty file of that name",
        .0.display()
    )]
    Unmarked(PathBuf),
    /// Another job has its files put together in the same folder. Needs a person.
    #[error(
        "{} says that another job has its files put together in this folder too: give each sink a folder of its own; when both jobs \
         stand still (or the engine role has forgotten that one), remove the file",
        .0.display()
    )]
    Shared(PathBuf),
    /// The folder holds another leg's data. Needs a person.
    #[error("{} belongs to leg {owner}; give {wanted} a folder of its own", .dir.display())]
    Foreign {
        /// The folder.
        dir: PathBuf,
        /// Stream and leg that own it.
        owner: String,
        /// Stream and leg that want it.
        wanted: String,
    },
    /// Another writer has recovered this folder; this one must stop.
    #[error("{}: another writer has taken over", .dir.display())]
    Fenced {
        /// The folder.
        dir: PathBuf,
    },
    /// The fates of a commit contradict what was written: a bug in the leg, stopped before it becomes durable.
    #[error("{}: a commit states {stated} {what}, {written} were written", .dir.display())]
    Contradiction {
        /// The folder.
        dir: PathBuf,
        /// What is counted.
        what: &'static str,
        /// As the fates say.
        stated: u64,
        /// As was written.
        written: u64,
    },
    /// The Kafka cluster refused, fell silent, or somebody has taken the leg over; nothing uncommitted is kept.
    #[error("Kafka sink, topic {topic}: {cause}")]
    Kafka {
        /// The topic.
        topic: String,
        /// What happened.
        cause: String,
    },
    /// Call `recover` first.
    #[error("the sink must recover before it goes on")]
    NotRecovered,
}

impl SinkError {
    /// For `map_err`: what the disk said of `path`.
    pub(crate) fn disk(path: &Path) -> impl FnOnce(io::Error) -> SinkError {
        let path = path.to_owned();
        move |cause| SinkError::Disk { path, cause }
    }

    /// Whether trying again makes no sense before a person has acted.
    pub fn needs_a_person(&self) -> bool {
        matches!(self, Self::Damaged { .. } | Self::Missing { .. } | Self::Unknown { .. } | Self::Foreign { .. })
    }
}
