//! What to do about a job next: a pure function of what is remembered, what is wanted and what was seen.
//!
//! Two rules hold everywhere. *Only an answer proves anything*: a cluster that does not answer leaves all as it is, and a
//! job is gone only when its cluster answers without it, after the session that submitted it is gone too. *What is
//! remembered is durable before it is acted on*: an attempt has its id before it is submitted, so that whoever comes back
//! from a crash knows what to look for, and submits the same id again, which Flink refuses if it has it.
//!
//! What is seen is to be read in this order, so that one thing proves the next: the session, the checkpoints, the jobs, the
//! checkpoints again.

mod memory;
mod seen;

use std::fmt;
use std::path::PathBuf;

pub use memory::{End, Memory, State, Wanted};
pub use seen::{Answer, Job, Prepared, Retained, Seen, Sighting, Status, Stop};

use crate::job::{Attempt, Begin, Checkpoint, Id, Session, Text};

/// How long a job may take to begin to stop with a savepoint before it is cancelled, to go on from its newest checkpoint.
pub const STOP_PATIENCE_MS: i64 = 120_000;
/// How long a savepoint may be under way. Flink gives one up after ten minutes (`execution.checkpointing.timeout`) and says so;
/// putting files together holds it up.
pub const SAVEPOINT_MS: i64 = 660_000;
/// How long a submission without an answer may turn up after all: the longest that Flink's own client waits is a minute.
pub const TURN_UP_MS: i64 = 120_000;
/// First and longest wait before a job that failed is submitted again.
const WAIT_MS: (i64, i64) = (1_000, 60_000);
/// How often the newest checkpoint is remembered while nothing else changes: each time is a sync.
const MARK_EVERY_MS: i64 = 30_000;

/// What to do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Action {
    /// Nothing; look again later.
    Wait,
    /// Open a session, make the text's tables and have its plan made.
    Prepare(Text),
    /// Submit the attempt that the state names, in its session.
    Submit,
    /// Close this session, and with it whatever it is still submitting.
    Close(Session),
    /// Ask the job to stop with a savepoint.
    Stop(Id, Id),
    /// Cancel the job; its checkpoints stay.
    Cancel(Id),
    /// Show the files that it has committed and left hidden in these folders.
    Show(Vec<PathBuf>),
    /// Remove its marks from these folders: it has nothing there any more.
    Unmark(Vec<PathBuf>),
    /// Forget the job: there is nothing left to do for it.
    Forget,
}

impl fmt::Display for Action {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Action::Wait => f.write_str("wait"),
            Action::Prepare(_) => f.write_str("prepare a session"),
            Action::Submit => f.write_str("submit"),
            Action::Close(_) => f.write_str("close the session"),
            Action::Stop(job, _) => write!(f, "stop {job} with a savepoint"),
            Action::Cancel(job) => write!(f, "cancel {job}"),
            Action::Show(_) => f.write_str("show the files that it left hidden"),
            Action::Unmark(_) => f.write_str("remove its marks"),
            Action::Forget => f.write_str("forget"),
        }
    }
}

/// What became of the attempt that is remembered.
enum Fate<'a> {
    Absent,
    Alive(&'a Job),
    Over(&'a Job),
}

/// The next state and what to do, once the state is durable.
pub fn next(memory: &Memory, wanted: &Wanted, seen: &Seen, now_ms: i64) -> (Memory, Action) {
    let Some(jobs) = &seen.jobs else { return (memory.clone(), Action::Wait) };
    let own = memory.attempt().map(|attempt| attempt.job);
    if let Some(stray) = jobs.iter().find(|job| Some(job.id) != own && job.status.is_alive()) {
        return of_stray(memory, stray);
    }
    let fate = match jobs.iter().find(|job| Some(job.id) == own) {
        None => Fate::Absent,
        Some(job) if job.status.is_alive() => Fate::Alive(job),
        Some(job) => Fate::Over(job),
    };
    let step = Step { memory: memory.clone(), begin_from: wanted.begin_from(), seen, now_ms };
    match (&memory.state, fate, wanted) {
        (State::Fresh, _, Wanted::Run { text, .. }) => step.begin(text),
        (State::Fresh, _, Wanted::Removed) => step.stay(Action::Forget),
        (State::Fresh, _, Wanted::Stopped | Wanted::After(_)) => step.stay(Action::Wait),

        (State::Submitting { session, .. }, _, _) if seen.session == Sighting::Present => {
            step.stay(Action::Close(session.clone()))
        }
        (State::Submitting { attempt, .. }, Fate::Alive(job), _) => step.running(attempt, job),
        (State::Submitting { attempt, .. }, Fate::Over(job), _) => step.over(attempt, job),
        (State::Submitting { attempt, .. }, Fate::Absent, _) => step.not_there(attempt),

        (State::Running { attempt }, Fate::Alive(job), _) if memory.is_behind(job) => step.older(attempt, job),
        (State::Running { attempt }, Fate::Alive(job), Wanted::Run { text, .. }) if attempt.text == *text => {
            step.running(attempt, job)
        }
        (State::Running { attempt }, Fate::Alive(job), _) => step.stop(attempt, job, now_ms),
        (State::Running { attempt }, Fate::Over(job), _) => step.over(attempt, job),
        (State::Running { attempt }, Fate::Absent, _) => step.idle(attempt, End::Gone, None),

        (State::Stopping { attempt, trigger, since_ms }, Fate::Alive(job), _) => match &job.stop {
            stop if now_ms - since_ms > patience_ms(stop.as_ref()) => step.stay(Action::Cancel(attempt.job)),
            Some(Stop::InProgress) => step.stay(Action::Wait),
            Some(Stop::Failed(_)) => step.stop(attempt, job, *since_ms),
            None => step.stay(Action::Stop(attempt.job, *trigger)),
        },
        (State::Stopping { attempt, .. }, Fate::Over(job), _) => step.over(attempt, job),
        (State::Stopping { attempt, .. }, Fate::Absent, _) => step.idle(attempt, End::Gone, None),

        (State::Idle { end: End::Showing | End::Shown, .. }, Fate::Alive(job), _) => step.too_late(job),
        (State::Idle { last, .. }, Fate::Alive(job), _) => step.running(last, job),
        (State::Idle { last, end: End::Open, .. }, Fate::Over(job), _) => step.over(last, job),
        (State::Idle { end: End::Open, since_ms, .. }, _, Wanted::Removed) if now_ms - since_ms < TURN_UP_MS => {
            step.stay(Action::Wait)
        }
        (State::Idle { last, end, .. }, _, Wanted::Removed) => step.remove(last, *end),
        (State::Idle { last, end: End::Showing, .. }, _, _) => step.show(last),
        (State::Idle { last, end: End::Clean, .. }, _, _) if step.may_show(last) => step.idle(last, End::Showing, None),
        (State::Idle { last, end: End::Clean, .. }, _, Wanted::Stopped | Wanted::After(_)) if last.text.hides() => {
            step.stay_hidden()
        }
        (State::Idle { last, end: End::Open, since_ms }, _, Wanted::Run { text, .. })
            if step.may_turn_up(last, text, *since_ms) =>
        {
            step.again(last, text)
        }
        (State::Idle { last, end, .. }, _, Wanted::Run { text, .. }) => step.resume(last, *end, text),
        (State::Idle { last, end: End::Open, since_ms }, _, Wanted::Stopped | Wanted::After(_))
            if now_ms - since_ms >= TURN_UP_MS =>
        {
            step.idle(last, End::Gone, None)
        }
        (State::Idle { .. }, _, Wanted::Stopped | Wanted::After(_)) => step.stay(Action::Wait),
    }
}

fn patience_ms(stop: Option<&Stop>) -> i64 {
    match stop {
        Some(Stop::InProgress) => SAVEPOINT_MS,
        Some(Stop::Failed(_)) | None => STOP_PATIENCE_MS,
    }
}

/// A job of this name that is not the attempt: a copy must not run. If nothing is remembered it may be the one and only.
fn of_stray(memory: &Memory, stray: &Job) -> (Memory, Action) {
    let mut memory = memory.clone();
    if memory.state == State::Fresh {
        let problem = format!(
            "job {} of this name runs, and nothing is remembered of it: put the engine's state file back, or stop that job \
             with a savepoint below the stream's checkpoints",
            stray.id
        );
        memory.problem = Some(problem);
        return (memory, Action::Wait);
    }
    memory.problem = Some(format!("a second copy of the job, {}, ran and was cancelled", stray.id));
    (memory, Action::Cancel(stray.id))
}

/// One step: the memory as it will be, and what it is decided by.
struct Step<'a> {
    memory: Memory,
    begin_from: Option<&'a str>,
    seen: &'a Seen,
    now_ms: i64,
}

impl Step<'_> {
    fn stay(self, action: Action) -> (Memory, Action) {
        (self.memory, action)
    }

    /// Remembers a checkpoint that is newer than all that are known.
    fn mark(&mut self, seen: Option<&Checkpoint>) {
        let newer = |seen: &&Checkpoint| self.memory.mark.as_ref().is_none_or(|mark| seen.number > mark.number);
        if let Some(newest) = seen.filter(newer) {
            self.memory.mark = Some(newest.clone());
            self.memory.marked_ms = self.now_ms;
        }
    }

    fn running(mut self, attempt: &Attempt, job: &Job) -> (Memory, Action) {
        let is_new = !matches!(self.memory.state, State::Running { .. });
        if job.newest.as_ref().is_some_and(|newest| newest.number > attempt.begin.number()) {
            (self.memory.failures, self.memory.problem) = (0, None);
        }
        if is_new || self.now_ms - self.memory.marked_ms >= MARK_EVERY_MS {
            self.mark(job.newest.as_ref());
        }
        self.memory.state = State::Running { attempt: attempt.clone() };
        self.stay(Action::Wait)
    }

    fn older(mut self, attempt: &Attempt, job: &Job) -> (Memory, Action) {
        if let (Some(mark), Some(newest)) = (&self.memory.mark, &job.newest) {
            self.memory.problem = Some(format!(
                "the job had begun at checkpoint {newest}, though {mark} is newer: it was cancelled; verify what it delivered"
            ));
        }
        self.stay(Action::Cancel(attempt.job))
    }

    fn stop(mut self, attempt: &Attempt, job: &Job, since_ms: i64) -> (Memory, Action) {
        if let Some(Stop::Failed(cause)) = &job.stop {
            self.memory.problem = Some(format!("the job could not be stopped with a savepoint: {cause}"));
        }
        self.mark(job.newest.as_ref());
        let trigger = self.seen.fresh;
        self.memory.state = State::Stopping { attempt: attempt.clone(), trigger, since_ms };
        self.stay(Action::Stop(attempt.job, trigger))
    }

    /// Flink's servers show an old picture of a job for some seconds: what it has left is looked for in the storage too.
    fn over(mut self, attempt: &Attempt, job: &Job) -> (Memory, Action) {
        let Some(retained) = &self.seen.retained else { return self.stay(Action::Wait) };
        self.mark(job.newest.as_ref());
        self.mark(retained.as_ref().map(|retained| &retained.checkpoint));
        let end = if job.status == Status::Finished { End::Clean } else { End::Gone };
        self.idle(attempt, end, job.cause.clone())
    }

    /// The session is not there, or does not answer, and the cluster does not have the attempt.
    fn not_there(self, attempt: &Attempt) -> (Memory, Action) {
        let (Sighting::Gone, Some(retained)) = (self.seen.session, &self.seen.retained) else {
            return self.stay(Action::Wait);
        };
        let newest = retained.as_ref().map_or(0, |retained| retained.checkpoint.number);
        let lived = newest > attempt.begin.number() || self.seen.answer == Some(Answer::Known);
        let cause = match &self.seen.answer {
            Some(Answer::Failed(cause)) => Some(cause.clone()),
            _ => None,
        };
        self.idle(attempt, if lived { End::Gone } else { End::Open }, cause)
    }

    fn idle(mut self, last: &Attempt, end: End, cause: Option<String>) -> (Memory, Action) {
        self.memory.state = State::Idle { last: last.clone(), end, since_ms: self.now_ms };
        if !end.is_clean() {
            self.put_off(cause);
        }
        self.stay(Action::Wait)
    }

    fn put_off(&mut self, cause: Option<String>) {
        let (first, longest) = WAIT_MS;
        self.memory.until_ms = self.now_ms + (first << self.memory.failures.min(10)).min(longest);
        self.memory.failures = self.memory.failures.saturating_add(1);
        self.memory.problem = cause.or(self.memory.problem.take());
    }

    fn begin(mut self, text: &Text) -> (Memory, Action) {
        match &self.seen.retained {
            None => self.stay(Action::Wait),
            Some(None) => {
                let begin = self.begin_from.map_or(Begin::Anew, |object| Begin::HandOver(object.to_owned()));
                let attempt = Attempt { job: self.seen.fresh, text: text.clone(), begin, epoch: 0 };
                self.submit(attempt)
            }
            Some(Some(left)) => {
                self.memory.problem = Some(format!(
                    "nothing is remembered of this job, but checkpoint {} of it is there: put the engine's state file back; \
                     beginning anew would deliver rows again",
                    left.checkpoint
                ));
                self.stay(Action::Wait)
            }
        }
    }

    /// Whether an attempt that nobody has seen is to be submitted again as it is, and no other in its place: as long as it has
    /// left no trace and may still be on its way; the same one for as long as it is wanted.
    fn may_turn_up(&self, last: &Attempt, wanted: &Text, since_ms: i64) -> bool {
        let newest =
            self.seen.retained.as_ref().map(|retained| retained.as_ref().map_or(0, |left| left.checkpoint.number));
        self.taken_over().is_none()
            && newest.is_none_or(|newest| newest <= last.begin.number())
            && (last.text == *wanted || self.now_ms - since_ms < TURN_UP_MS)
    }

    /// Whether the files that the job has left hidden can be shown before anything else: once somebody can go on without the state
    /// that Flink kept of it, from the savepoint's own hand-over object or from another.
    fn may_show(&self, last: &Attempt) -> bool {
        let newest = self.seen.retained.iter().flatten().find(|left| !self.memory.is_newer_than(&left.checkpoint));
        let is_spare = newest.is_some_and(|left| left.hand_over.is_some()) || self.taken_over().is_some();
        is_spare && last.text.hides()
    }

    fn stay_hidden(mut self) -> (Memory, Action) {
        if self.seen.retained.is_some() {
            self.memory.problem = Some(
                "the job stopped, but the hand-over object of its savepoint is not there, so its last files stay hidden until it goes \
                 on: let it run until it has completed a checkpoint, then stop it again"
                    .to_owned(),
            );
        }
        self.stay(Action::Wait)
    }

    fn show(mut self, last: &Attempt) -> (Memory, Action) {
        match &self.seen.answer {
            Some(Answer::Shown) => {
                (self.memory.failures, self.memory.problem) = (0, None);
                let (memory, _) = self.idle(last, End::Shown, None);
                (memory, Action::Unmark(last.text.hidden_in()))
            }
            Some(Answer::Failed(cause)) => {
                self.put_off(Some(cause.clone()));
                self.stay(Action::Wait)
            }
            _ if self.now_ms < self.memory.until_ms => self.stay(Action::Wait),
            _ => self.stay(Action::Show(last.text.hidden_in())),
        }
    }

    /// Forgets the job, once what it has left hidden is shown: all of it is committed, and nobody goes on from its state any more.
    fn remove(self, last: &Attempt, end: End) -> (Memory, Action) {
        match (end, &self.seen.retained) {
            _ if end == End::Shown || !last.text.hides() => self.stay(Action::Forget),
            (End::Showing, _) => self.show(last),
            // Without a checkpoint it has committed nothing.
            (_, Some(None)) if self.memory.mark.is_none() => self.stay(Action::Forget),
            (_, None) if self.memory.mark.is_none() => self.stay(Action::Wait),
            _ => self.idle(last, End::Showing, None),
        }
    }

    /// A job that its cluster has brought back: the state that it would go on from names files that are not hidden any more.
    fn too_late(mut self, job: &Job) -> (Memory, Action) {
        self.memory.problem = Some(format!(
            "job {} had stopped and came back when the files that it had left hidden were shown: it was cancelled; verify what it \
             delivered",
            job.id
        ));
        self.stay(Action::Cancel(job.id))
    }

    /// The same attempt, under its id; for another text it is only waited for.
    fn again(self, last: &Attempt, text: &Text) -> (Memory, Action) {
        match self.seen.retained {
            Some(_) if last.text == *text => self.submit(last.clone()),
            _ => self.stay(Action::Wait),
        }
    }

    /// The object of somebody else to begin from, if that has not been done.
    fn taken_over(&self) -> Option<&str> {
        self.begin_from.filter(|object| self.memory.begun_from.as_deref() != Some(*object))
    }

    /// Begins where somebody else stood. What this job has written must be committed, or be nothing.
    fn take_over(mut self, object: String, last: &Attempt, end: End, text: &Text) -> (Memory, Action) {
        let is_nothing = end == End::Gone && self.seen.retained == Some(None) && self.memory.mark.is_none();
        if !end.is_clean() && !is_nothing {
            self.memory.problem = Some(format!(
                "the job is to begin from {object}, but was not stopped with a savepoint: what it has not committed would be \
                 lost. Remove begin_from, so that it goes on and can be stopped; then hand over anew"
            ));
            return self.stay(Action::Wait);
        }
        let (begin, epoch) = (Begin::HandOver(object), last.epoch + 1);
        let attempt = Attempt { job: self.seen.fresh, text: text.clone(), begin, epoch };
        self.submit(attempt)
    }

    fn resume(mut self, last: &Attempt, end: End, text: &Text) -> (Memory, Action) {
        if let Some(object) = self.taken_over().map(str::to_owned) {
            return self.take_over(object, last, end, text);
        }
        let Some(retained) = &self.seen.retained else { return self.stay(Action::Wait) };
        let newest = retained.as_ref().map_or(0, |retained| retained.checkpoint.number);
        if let Some(mark) = self.memory.mark.as_ref().filter(|mark| mark.number > newest) {
            let left = retained.as_ref().map_or("none".to_owned(), |retained| retained.checkpoint.to_string());
            self.memory.problem = Some(format!(
                "the newest checkpoint that can be restored is {left}, but {mark} is known: beginning there would deliver rows \
                 again. Put the newer one back; the job then goes on by itself"
            ));
            return self.stay(Action::Wait);
        }
        if end == End::Shown && retained.as_ref().is_none_or(|retained| retained.hand_over.is_none()) {
            self.memory.problem = Some(
                "the hand-over object of the job's savepoint is not there any more, and the savepoint itself cannot be restored, as \
                 the files that it names are shown: put the object back; the job then goes on by itself"
                    .to_owned(),
            );
            return self.stay(Action::Wait);
        }
        let attempt = Attempt { job: self.seen.fresh, ..after(last, end, retained.as_ref(), text) };
        self.submit(attempt)
    }

    /// Submits an attempt, in a session that is prepared for it.
    fn submit(mut self, attempt: Attempt) -> (Memory, Action) {
        if self.now_ms < self.memory.until_ms {
            return self.stay(Action::Wait);
        }
        if let Some(Answer::Refused(cause)) = &self.seen.answer {
            self.put_off(Some(cause.clone()));
            return self.stay(Action::Wait);
        }
        let Some(prepared) = self.seen.prepared.as_ref().filter(|prepared| prepared.text == attempt.text) else {
            return self.stay(Action::Prepare(attempt.text));
        };
        let epoch = self.memory.attempt().map_or(0, |last| last.epoch);
        if epoch != attempt.epoch {
            self.memory.checkpoints_before += self.memory.mark.as_ref().map_or(0, |mark| mark.number);
        }
        if let (Begin::HandOver(object), Some(from)) = (&attempt.begin, self.begin_from)
            && object == from
        {
            self.memory.begun_from = Some(from.to_owned());
        }
        self.memory.mark = match &attempt.begin {
            Begin::State(checkpoint) => Some(checkpoint.clone()),
            _ => self.memory.mark.filter(|_| epoch == attempt.epoch),
        };
        self.memory.state = State::Submitting { attempt, session: prepared.session.clone() };
        (self.memory, Action::Submit)
    }
}

/// The attempt that follows one that has ended, but for its id. A changed text takes over positions and ranges, from a
/// clean stop; Flink's own state only if it delivers to the same sinks: else the old text has to be stopped cleanly first.
fn after(last: &Attempt, end: End, newest: Option<&Retained>, text: &Text) -> Attempt {
    let Some(Retained { checkpoint, hand_over }) = newest else {
        return Attempt { text: text.clone(), ..last.clone() };
    };
    let state = Begin::State(checkpoint.clone());
    if last.text == *text && end != End::Shown {
        return Attempt { begin: state, ..last.clone() };
    }
    match hand_over {
        Some(object) if end.is_clean() => {
            let begin = Begin::HandOver(object.clone());
            Attempt { text: text.clone(), begin, epoch: last.epoch + 1, ..last.clone() }
        }
        _ if text.is_shaped_like(&last.text) => Attempt { text: text.clone(), begin: state, ..last.clone() },
        _ => Attempt { begin: state, ..last.clone() },
    }
}

#[cfg(test)]
mod model;
#[cfg(test)]
mod tests;
