//! What is remembered of a job, and what is wanted of it.

use serde::{Deserialize, Serialize};
use stream::facts::JobState;

use super::seen::Job;
use crate::job::{Attempt, Checkpoint, Id, JobKey, Session, Text};

/// What is remembered of a job, durably.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Memory {
    /// Where it stands.
    pub state: State,
    /// The newest checkpoint of this epoch that was ever seen: beginning at an older one would deliver rows again.
    pub mark: Option<Checkpoint>,
    /// When the mark was last moved.
    pub marked_ms: i64,
    /// Attempts in a row that completed no checkpoint.
    pub failures: u32,
    /// Before this time nothing is submitted.
    pub until_ms: i64,
    /// What a person should know.
    pub problem: Option<String>,
    /// The hand-over object of somebody else that it last began from.
    #[serde(default)]
    pub begun_from: Option<String>,
    /// Checkpoints of the epochs before this one.
    #[serde(default)]
    pub checkpoints_before: u64,
}

/// Where a job stands.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "state", rename_all = "snake_case")]
pub enum State {
    /// Nothing of it was ever submitted.
    #[default]
    Fresh,
    /// The attempt was, or is just being, submitted in this session.
    Submitting {
        /// The attempt.
        attempt: Attempt,
        /// The session.
        session: Session,
    },
    /// Flink has it.
    Running {
        /// The attempt.
        attempt: Attempt,
    },
    /// It was asked to stop with a savepoint.
    Stopping {
        /// The attempt.
        attempt: Attempt,
        /// Names the request, so that asking again is the same request.
        trigger: Id,
        /// Since when.
        since_ms: i64,
    },
    /// Flink does not have it.
    Idle {
        /// The attempt that was last.
        last: Attempt,
        /// How that ended.
        end: End,
        /// Since when.
        since_ms: i64,
    },
}

/// How an attempt ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum End {
    /// Nobody knows whether it ever began: it may turn up.
    Open,
    /// It was there, and is not any more.
    Gone,
    /// It stopped with a savepoint, and all its sinks have committed.
    Clean,
    /// So it did, or it is not wanted any more, and what its sinks had left hidden is being shown. The state that Flink kept names those
    /// files and cannot be restored any more: whatever goes on does so from the hand-over object.
    Showing,
    /// That is shown.
    Shown,
}

impl End {
    /// Whether all its sinks have committed.
    pub fn is_clean(self) -> bool {
        matches!(self, Self::Clean | Self::Showing | Self::Shown)
    }
}

/// What is wanted of a job.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Wanted {
    /// That it runs.
    Run {
        /// This.
        text: Text,
        /// From this hand-over object of somebody else, unless it has begun from it before; a URL.
        begin_from: Option<String>,
    },
    /// That it stands, to go on another time.
    Stopped,
    /// That it stands until this other job is forgotten: an earlier life of the same stream, whose folders may be the same.
    After(JobKey),
    /// That it stands, and nobody remembers it.
    Removed,
}

impl From<Text> for Wanted {
    fn from(text: Text) -> Self {
        Wanted::Run { text, begin_from: None }
    }
}

impl Wanted {
    /// Whether the job is to run.
    pub fn runs(&self) -> bool {
        matches!(self, Self::Run { .. })
    }

    /// The object of somebody else to begin from.
    pub fn begin_from(&self) -> Option<&str> {
        match self {
            Wanted::Run { begin_from, .. } => begin_from.as_deref(),
            Wanted::Stopped | Wanted::After(_) | Wanted::Removed => None,
        }
    }
}

impl State {
    /// What is said of it.
    pub fn told(&self) -> JobState {
        match self {
            State::Fresh => JobState::Fresh,
            State::Submitting { .. } => JobState::Submitting,
            State::Running { .. } => JobState::Running,
            State::Stopping { .. } => JobState::Stopping,
            State::Idle { end: End::Open, .. } => JobState::Unsettled,
            State::Idle { end: End::Gone, .. } => JobState::Gone,
            State::Idle { last, end: End::Clean | End::Showing, .. } if last.text.hides() => JobState::Stopping,
            State::Idle { end: End::Clean | End::Showing | End::Shown, .. } => JobState::Idle,
        }
    }
}

impl Memory {
    /// The attempt that is under way, or was last.
    pub fn attempt(&self) -> Option<&Attempt> {
        match &self.state {
            State::Fresh => None,
            State::Submitting { attempt, .. } | State::Running { attempt } | State::Stopping { attempt, .. } => {
                Some(attempt)
            }
            State::Idle { last, .. } => Some(last),
        }
    }

    /// Whether a job has begun at an older checkpoint than the newest.
    pub fn is_behind(&self, job: &Job) -> bool {
        job.newest.as_ref().is_some_and(|newest| self.is_newer_than(newest))
    }

    /// Whether a newer checkpoint is known than this one.
    pub fn is_newer_than(&self, other: &Checkpoint) -> bool {
        self.mark.as_ref().is_some_and(|mark| mark.number > other.number)
    }
}
