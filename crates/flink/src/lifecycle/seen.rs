//! What is seen of a job before it is decided about.

use crate::job::{Checkpoint, Id, Session, Text};

/// What was seen, and what chance gives.
#[derive(Clone, Debug)]
pub struct Seen {
    /// The session that the state names.
    pub session: Sighting,
    /// The jobs of this name; `None`: the cluster does not answer.
    pub jobs: Option<Vec<Job>>,
    /// The newest checkpoint that can be restored, if any; `None`: the storage does not answer, or does not answer the same
    /// before and after the jobs were looked at: then something is still writing there.
    pub retained: Option<Option<Retained>>,
    /// A session in which a text's tables are made and its plan was found good.
    pub prepared: Option<Prepared>,
    /// What the last action brought.
    pub answer: Option<Answer>,
    /// An id that nobody has.
    pub fresh: Id,
}

/// Whether something is there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Sighting {
    /// It is.
    Present,
    /// It is not.
    Gone,
    /// Nobody answered.
    Unknown,
}

/// A job as its cluster shows it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Job {
    /// Its id.
    pub id: Id,
    /// Where Flink says that it stands.
    pub status: Status,
    /// The newest checkpoint or savepoint that it has completed or restored.
    pub newest: Option<Checkpoint>,
    /// What became of the request to stop it.
    pub stop: Option<Stop>,
    /// Why it failed.
    pub cause: Option<String>,
}

/// Flink's job states, as far as they differ here.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Status {
    /// All else that may still run or run again: initializing, restarting, cancelling, suspended ...
    Unsettled,
    /// Running.
    Running,
    /// Over for good, by its own end or with a savepoint.
    Finished,
    /// Over for good.
    Failed,
    /// Over for good.
    Canceled,
}

/// A request to stop with a savepoint.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Stop {
    /// Under way.
    InProgress,
    /// It came to nothing.
    Failed(String),
}

/// A checkpoint that can be restored, and the hand-over object of the same moment.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Retained {
    /// The checkpoint.
    pub checkpoint: Checkpoint,
    /// The object's URL, if it is there.
    pub hand_over: Option<String>,
}

/// A session that is ready for the INSERTs of a text.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Prepared {
    /// The session.
    pub session: Session,
    /// The text.
    pub text: Text,
}

/// What an action brought, if that says more than a look.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Answer {
    /// Flink does not take the text; nothing was submitted.
    Refused(String),
    /// The id was submitted before: Flink knows it.
    Known,
    /// What the job had left hidden is shown.
    Shown,
    /// Something else, for a person to read.
    Failed(String),
}

impl Status {
    /// Whether the job runs or may run again.
    pub fn is_alive(self) -> bool {
        matches!(self, Status::Unsettled | Status::Running)
    }
}
