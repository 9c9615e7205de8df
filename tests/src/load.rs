//! Offered load with identities: writers that append to files and rotate them, posters that send over HTTP and repeat a
//! request under the same key until it is acknowledged. Load is never paused by a fault; only its end is ordered.

use std::fs::{self, File};
use std::io::Write;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, AtomicI64, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use anyhow::{Result, bail};

use crate::http::Client;
use crate::identity::Identity;
use crate::oracle::Oracle;

/// All load of one run.
pub struct Load {
    shared: Arc<Shared>,
    threads: Vec<JoinHandle<Result<()>>>,
}

struct Shared {
    oracle: Mutex<Oracle>,
    ending: AtomicBool,
    records: AtomicU64,
    unacknowledged_requests: AtomicI64,
    /// Counts the phases of the disk's power, see [`Phase`].
    power: AtomicU64,
}

/// The disk's power, as the count of its phases modulo three.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Phase {
    On,
    Going,
    Gone,
}

impl Phase {
    fn of(count: u64) -> Self {
        match count % 3 {
            0 => Self::On,
            1 => Self::Going,
            _ => Self::Gone,
        }
    }
}

/// One producer of a run.
#[derive(Clone, Debug)]
pub struct Producer {
    /// The stream it offers to.
    pub stream: String,
    /// Unique within the stream.
    pub number: u32,
    /// Records a second.
    pub rate: u64,
    /// Length of a line.
    pub line_bytes: usize,
    /// Records in all; then it is done.
    pub records: u64,
}

/// Lines per append or request.
const GROUP: u64 = 100;
/// Rotated files kept before the oldest is removed.
const ROTATIONS_KEPT: u32 = 4;
/// How long a poster goes on repeating a request after the end was ordered.
const LAST_REQUEST: Duration = Duration::from_secs(90);

impl Default for Load {
    fn default() -> Self {
        let shared = Shared {
            oracle: Mutex::default(),
            ending: AtomicBool::new(false),
            records: AtomicU64::new(0),
            unacknowledged_requests: AtomicI64::new(0),
            power: AtomicU64::new(0),
        };
        Self { shared: Arc::new(shared), threads: Vec::new() }
    }
}

impl Load {
    /// Appends to `path`, renaming it away every `rotate_records` records.
    pub fn write_file(&mut self, producer: Producer, path: PathBuf, rotate_records: u64) {
        let shared = self.shared.clone();
        self.threads.push(thread::spawn(move || shared.write_file(&producer, &path, rotate_records)));
    }

    /// Posts to the gateway at `address`.
    pub fn post(&mut self, producer: Producer, address: SocketAddr) {
        let shared = self.shared.clone();
        self.threads.push(thread::spawn(move || shared.post(&producer, address)));
    }

    /// Records offered so far.
    pub fn records(&self) -> u64 {
        self.shared.records.load(Ordering::SeqCst)
    }

    /// Requests sent and not yet answered with 200.
    pub fn unacknowledged_requests(&self) -> i64 {
        self.shared.unacknowledged_requests.load(Ordering::SeqCst)
    }

    /// Waits, a second at most, until some request is without its answer, and returns at once then.
    pub fn wait_until_unacknowledged(&self) {
        let deadline = Instant::now() + Duration::from_secs(1);
        while self.unacknowledged_requests() == 0 && Instant::now() < deadline {
            thread::yield_now();
        }
    }

    /// The disk's power is going: until it is back, nothing is heard of requests that began before it was gone. On a
    /// machine without power nobody would hear an answer, and a sync that is under way may end well although its bytes
    /// are gone (`docs/decisions/0006`). Such a request is sent again.
    pub fn power_goes(&self) {
        self.shared.power.fetch_add(1, Ordering::SeqCst);
    }

    /// The power is gone: whatever is acknowledged to a request that begins now was promised on a dead disk.
    pub fn power_went(&self) {
        self.shared.power.fetch_add(1, Ordering::SeqCst);
    }

    /// The machine runs again.
    pub fn power_is_back(&self) {
        self.shared.power.fetch_add(1, Ordering::SeqCst);
    }

    /// Whether every producer has offered all of its records.
    pub fn is_done(&self) -> bool {
        self.threads.iter().all(JoinHandle::is_finished)
    }

    /// The oracle of this run.
    pub fn oracle(&self) -> MutexGuard<'_, Oracle> {
        self.shared.oracle()
    }

    /// Orders the end; waits until every producer has come to one.
    pub fn end(&mut self) -> Result<()> {
        self.shared.ending.store(true, Ordering::SeqCst);
        for thread in self.threads.drain(..) {
            match thread.join() {
                Ok(ended) => ended?,
                Err(_) => bail!("a producer panicked"),
            }
        }
        Ok(())
    }
}

impl Shared {
    fn oracle(&self) -> MutexGuard<'_, Oracle> {
        self.oracle.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn is_ending(&self) -> bool {
        self.ending.load(Ordering::SeqCst)
    }

    fn write_file(&self, producer: &Producer, path: &PathBuf, rotate_records: u64) -> Result<()> {
        let open = || File::options().create(true).append(true).open(path);
        let (mut file, mut since_rotation, mut rotation) = (open()?, 0, 0);
        for group in producer.groups() {
            if self.is_ending() {
                break;
            }
            file.write_all(producer.lines(&group).as_bytes())?;
            self.state(producer, &group, true);
            since_rotation += group.end - group.start;
            if since_rotation >= rotate_records {
                rotation += 1;
                fs::rename(path, rotated(path, rotation))?;
                if rotation > ROTATIONS_KEPT {
                    fs::remove_file(rotated(path, rotation - ROTATIONS_KEPT))?;
                }
                (file, since_rotation) = (open()?, 0);
            }
            producer.keep_pace(&group);
        }
        Ok(())
    }

    fn post(&self, producer: &Producer, address: SocketAddr) -> Result<()> {
        let mut client = Client::new(address);
        for group in producer.groups() {
            if self.is_ending() {
                break;
            }
            self.state(producer, &group, false);
            self.post_until_acknowledged(producer, &group, &mut client)?;
            self.oracle_acknowledges(producer, &group);
            producer.keep_pace(&group);
        }
        Ok(())
    }

    fn post_until_acknowledged(&self, producer: &Producer, group: &Group, client: &mut Client) -> Result<()> {
        let body = producer.lines(group);
        let path = format!("/v1/streams/{}/records", producer.stream);
        let key = format!("{}-{}", producer.number, group.start);
        let made = SystemTime::now().duration_since(UNIX_EPOCH)?.as_secs().to_string();
        let headers = [("idempotency-key", key.as_str()), ("idempotency-time", made.as_str())];
        let (mut deadline, first_try) = (None, self.power.load(Ordering::SeqCst));
        self.unacknowledged_requests.fetch_add(1, Ordering::SeqCst);
        let last = loop {
            let power = self.power.load(Ordering::SeqCst);
            let last = match client.exchange("POST", &path, &headers, body.as_bytes()) {
                Ok(_) if !self.is_heard(first_try, power) => "the power went".to_owned(),
                Ok(answer) if answer.status == 200 => break None,
                Ok(answer) if matches!(answer.status, 404 | 429 | 503) => format!("status {}", answer.status),
                Ok(answer) => break Some(format!("{} {}", answer.status, String::from_utf8_lossy(&answer.body))),
                Err(error) => format!("{error:#}"),
            };
            if self.is_ending() && *deadline.get_or_insert(Instant::now() + LAST_REQUEST) < Instant::now() {
                break Some(last);
            }
            thread::sleep(Duration::from_millis(20));
        };
        self.unacknowledged_requests.fetch_sub(1, Ordering::SeqCst);
        match last {
            None => Ok(()),
            Some(last) => bail!("{} {key}: never acknowledged: {last}", producer.stream),
        }
    }

    /// Whether an answer counts that came to a try which began in phase `power`, of a request first sent in `first_try`.
    fn is_heard(&self, first_try: u64, power: u64) -> bool {
        let now = self.power.load(Ordering::SeqCst);
        match Phase::of(now) {
            Phase::On => power == now,
            Phase::Going => false,
            Phase::Gone => first_try == now,
        }
    }

    fn state(&self, producer: &Producer, group: &Group, acknowledged: bool) {
        let mut oracle = self.oracle();
        (group.start..group.end).for_each(|n| oracle.offered(&producer.stream, producer.number, n, acknowledged));
        self.records.fetch_add(group.end - group.start, Ordering::SeqCst);
    }

    fn oracle_acknowledges(&self, producer: &Producer, group: &Group) {
        let mut oracle = self.oracle();
        (group.start..group.end).for_each(|n| oracle.offered(&producer.stream, producer.number, n, true));
    }
}

struct Group {
    start: u64,
    end: u64,
    began: Instant,
}

impl Producer {
    fn groups(&self) -> impl Iterator<Item = Group> + '_ {
        let starts = (0..self.records).step_by(GROUP as usize);
        starts.map(|start| Group { start, end: (start + GROUP).min(self.records), began: Instant::now() })
    }

    fn lines(&self, group: &Group) -> String {
        let mut text = String::with_capacity((self.line_bytes + 1) * GROUP as usize);
        for sequence in group.start..group.end {
            let identity = Identity { stream: self.stream.clone(), producer: self.number, sequence };
            text.push_str(&identity.line(self.line_bytes));
            text.push('\n');
        }
        text
    }

    /// Waits until the group's share of time has passed: an open loop's pace, as long as the far side keeps up.
    fn keep_pace(&self, group: &Group) {
        let share = Duration::from_secs_f64((group.end - group.start) as f64 / self.rate.max(1) as f64);
        thread::sleep(share.saturating_sub(group.began.elapsed()));
    }
}

fn rotated(path: &std::path::Path, rotation: u32) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(format!(".{rotation}"));
    name.into()
}
