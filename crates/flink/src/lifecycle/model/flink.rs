//! What happens in the model by itself: the cluster works, submissions travel, things break and are mended.

use rand::RngExt;

use super::{Pending, Running, Stored, World, text};
use crate::job::{Attempt, Begin, Checkpoint};
use crate::lifecycle::{Status, TURN_UP_MS, Wanted};

impl World {
    pub(super) fn some_events(&mut self) {
        for _ in 0..self.dice.random_range(0..4) {
            self.event();
            self.check();
        }
    }

    fn event(&mut self) {
        self.now_ms += self.dice.random_range(1..3_000);
        self.head += self.dice.random_range(0..10);
        match self.dice.random_range(0..10) {
            0..=3 => self.jobs_work(),
            4..=5 => self.submissions_move(),
            6 => self.repair(),
            _ if self.faults => self.fault(),
            _ => {}
        }
    }

    pub(super) fn repair(&mut self) {
        self.gateway_is_up = true;
        self.cluster_is_reachable = true;
        self.cluster_is_up = true;
        self.storage_is_up = true;
    }

    fn fault(&mut self) {
        match self.dice.random_range(0..24) {
            0 => self.cluster_crashes(),
            1 => {
                self.say("gateway crashes");
                self.gateway_is_up = false;
                self.sessions.clear();
                self.submitting.clear();
            }
            2 => self.cluster_is_reachable = false,
            3 => self.storage_is_up = false,
            4 => {
                self.say("engine crashes");
                (self.memory, self.prepared, self.answer) = (self.durable.clone(), None, None);
            }
            5 => self.a_job(|job| job.status = Status::Failed),
            6 => self.a_job(|job| job.status = Status::Canceled),
            7..=8 => self.a_job(|job| job.status = Status::Unsettled),
            // Who is removed does not come back.
            9 | 10 if self.wanted == Wanted::Removed => {}
            9 => {
                let version = self.dice.random_range(0..11);
                self.say(format!("wanted: version {version}"));
                self.wanted = text(version, self.hides).into();
            }
            10 => self.wanted = Wanted::Stopped,
            11 => drop(self.sessions.pop_first()),
            _ => {}
        }
    }

    fn a_job(&mut self, change: impl Fn(&mut Running)) {
        if !self.cluster_is_up {
            return;
        }
        if let Some(job) = self.jobs.values_mut().find(|job| job.status.is_alive()) {
            change(job);
            let (id, status) = (job.attempt.job, job.status);
            self.say(format!("job {id:?} is {status:?}"));
        }
    }

    fn cluster_crashes(&mut self) {
        self.say("cluster crashes");
        self.cluster_is_up = false;
        self.received.clear();
        if self.has_ha {
            self.jobs.values_mut().filter(|job| job.status.is_alive()).for_each(|job| {
                job.status = Status::Unsettled;
                job.stop = None;
            });
        } else {
            self.jobs.clear();
            self.known.clear();
        }
    }

    /// What has arrived is taken within the time that the engine waits for it, or never.
    fn submissions_move(&mut self) {
        let now_ms = self.now_ms;
        self.received.retain(|(since_ms, _)| now_ms - since_ms < TURN_UP_MS);
        if !self.submitting.is_empty() && self.cluster_is_up {
            let at = self.dice.random_range(0..self.submitting.len());
            let (_, attempt) = self.submitting.remove(at);
            self.received.push((self.now_ms, attempt));
        }
        if self.cluster_is_up && !self.received.is_empty() && self.chance(0.7) {
            let at = self.dice.random_range(0..self.received.len());
            let (_, attempt) = self.received.remove(at);
            self.accept(attempt);
        }
    }

    fn accept(&mut self, attempt: Attempt) {
        if !self.known.insert(attempt.job) {
            self.say(format!("{:?} is refused: known", attempt.job));
            return;
        }
        self.say(format!("{:?} is accepted: {:?}", attempt.job, attempt.begin));
        let mut hidden = Vec::new();
        let (position, newest, status) = match &attempt.begin {
            Begin::Anew => (0, 0, Status::Running),
            Begin::HandOver(object) => (self.objects[object], 0, Status::Running),
            Begin::State(checkpoint) => match self
                .stored
                .iter()
                .find(|stored| stored.checkpoint == *checkpoint)
                .cloned()
            {
                None => (0, 0, Status::Failed),
                Some(stored) => {
                    assert!(attempt.text.is_shaped_like(&stored.text), "state of other sinks\n{}", self.log.join("\n"));
                    let named = stored.hidden.iter().chain(&stored.pending);
                    let lost = named.filter(|(file, _)| self.shown.contains(file)).count();
                    assert_eq!(lost, 0, "the state names files that were shown\n{}", self.log.join("\n"));
                    hidden.extend(stored.hidden);
                    hidden.extend(self.rename(stored.pending));
                    (stored.position, checkpoint.number, Status::Running)
                }
            },
        };
        self.is_marked |= status == Status::Running;
        let (newest_path, pending) = (None, Vec::new());
        let job = Running { position, newest, newest_path, status, pending, hidden, stop: None, attempt };
        self.jobs.insert(job.attempt.job, job);
    }

    fn jobs_work(&mut self) {
        if !self.cluster_is_up {
            return;
        }
        let Some(id) = self.jobs.values().find(|job| job.status.is_alive()).map(|job| job.attempt.job) else { return };
        let Some(mut job) = self.jobs.remove(&id) else { return };
        match (job.status, &job.stop) {
            // Restored from its newest checkpoint, which is committed then.
            (Status::Unsettled, _) => {
                job.status = Status::Running;
                self.commit(&mut job);
            }
            (_, Some((_, None))) => self.stops(&mut job),
            _ if self.chance(0.3) => self.put_together(&mut job),
            _ if self.chance(0.5) => self.commit(&mut job),
            _ => self.checkpoint(&mut job, false),
        }
        self.jobs.insert(id, job);
    }

    pub(super) fn commit(&mut self, job: &mut Running) {
        let committed = self.rename(std::mem::take(&mut job.pending));
        job.hidden.extend(committed);
    }

    /// Gives committed files their names: what comes back is hidden, and known to the job alone.
    fn rename(&mut self, committed: Pending) -> Pending {
        if !self.hides {
            self.delivered.extend(committed);
            return Vec::new();
        }
        let is_in_another = |(file, _): &(u64, _)| self.delivered.contains_key(file);
        self.hidden.extend(committed.iter().copied().filter(|file| !is_in_another(file)));
        committed
    }

    /// Puts hidden files together, each once however often it is asked for.
    pub(super) fn put_together(&mut self, job: &mut Running) {
        for (file, range) in job.hidden.drain(..) {
            self.hidden.remove(&file);
            self.delivered.insert(file, range);
        }
    }

    pub(super) fn checkpoint(&mut self, job: &mut Running, is_savepoint: bool) {
        self.files += 1;
        if self.head > job.position {
            job.pending.push((self.files, (job.position, self.head)));
        }
        job.position = self.head;
        job.newest += 1;
        let path = format!("{:?}/{}", job.attempt.job, job.newest);
        let keeps = |stored: &Stored| {
            let begin = matches!(&job.attempt.begin, Begin::State(begin) if *begin == stored.checkpoint);
            is_savepoint || !(begin || Some(&stored.checkpoint.path) == job.newest_path.as_ref())
        };
        self.stored.retain(keeps);
        job.newest_path = Some(path.clone());
        let has_object = self.dice.random_bool(0.8);
        let hand_over = has_object.then(|| format!("object {path}"));
        self.objects.extend(hand_over.iter().map(|object| (object.clone(), job.position)));
        let checkpoint = Checkpoint { number: job.newest, path };
        let (epoch, position, text) = (job.attempt.epoch, job.position, job.attempt.text.clone());
        let (pending, hidden) = (job.pending.clone(), job.hidden.clone());
        self.stored.push(Stored { epoch, checkpoint, position, pending, hidden, text, is_savepoint, hand_over });
    }

    /// A stop with a savepoint: done, or failed before the savepoint, or failed between the savepoint and its commit.
    fn stops(&mut self, job: &mut Running) {
        let luck = if self.faults { self.dice.random_range(0..5) } else { 4 };
        if luck == 0 {
            job.stop = job.stop.take().map(|(trigger, _)| (trigger, Some("no luck".into())));
            return;
        }
        self.checkpoint(job, true);
        if luck == 1 {
            job.status = Status::Failed;
            return;
        }
        self.commit(job);
        job.status = Status::Finished;
        let own = format!("{:?}/", job.attempt.job);
        self.stored.retain(|stored| stored.is_savepoint || !stored.checkpoint.path.starts_with(&own));
        self.say(format!("{:?} has stopped", job.attempt.job));
    }
}
