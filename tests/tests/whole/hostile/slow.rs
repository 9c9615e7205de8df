//! Clients that open connections and take their time: more of them than the door has places, in every state that a
//! connection can be stuck in. They press out one another; whoever comes with a request is served.

use std::io::Write;
use std::net::{SocketAddr, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::{self, JoinHandle};

use anyhow::{Context, Result, anyhow, ensure};
use harness::raw::{self, http2};
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

use super::{SOON, Scene, TARGET, path};

/// The mission's number of slow clients, and more than the door has places.
const CONNECTIONS: usize = 10_500;
/// What so many connections may cost: 48 KiB each.
const GROWN_MAX: u64 = CONNECTIONS as u64 * (48 << 10);
/// Bodies that never end, and connections that fall asleep after one request.
const OTHERS: usize = 200;

/// Connections that say one of these and nothing more: nothing; part of a head; part of HTTP/2's preface; HTTP/2 without
/// a request; HTTP/2 with a header block that never ends.
fn beginnings() -> [Vec<u8>; 5] {
    let block = http2::headers(&[(":method", "POST")]);
    let endless = [http2::BEGIN, &http2::frame(http2::HEADERS, 0, 1, &block)].concat();
    let head = format!("POST {} HTTP/1.1\r\nhost: localhost\r\nx-slow: ", path(TARGET));
    [Vec::new(), head.into_bytes(), b"PRI * HTTP/2.0\r\n".to_vec(), http2::BEGIN.to_vec(), endless]
}

/// Opens connections without end, each in place of the oldest once there are `count`.
struct Loris {
    opened: Arc<AtomicU64>,
    ending: Arc<AtomicBool>,
    thread: JoinHandle<Result<()>>,
}

impl Loris {
    fn start(address: SocketAddr, count: usize) -> Self {
        let (opened, ending) = (Arc::new(AtomicU64::new(0)), Arc::new(AtomicBool::new(false)));
        let (counted, end) = (Arc::clone(&opened), Arc::clone(&ending));
        let attack = move || {
            let mut open: Vec<TcpStream> = Vec::with_capacity(count);
            for (nth, beginning) in (0..).zip(beginnings().iter().cycle()) {
                if end.load(Ordering::SeqCst) {
                    break;
                }
                let mut connection = TcpStream::connect(address).context("opening a slow connection")?;
                // It may have had to make place already.
                drop(connection.write_all(beginning));
                if open.len() < count {
                    open.push(connection);
                } else {
                    open[nth % count] = connection;
                }
                counted.fetch_add(1, Ordering::SeqCst);
            }
            Ok(())
        };
        Self { opened, ending, thread: thread::spawn(attack) }
    }

    fn has_opened(&self, count: u64) -> Result<()> {
        harness::poll::until("slow connections are open", SOON, || {
            ensure!(!self.thread.is_finished(), "the attack ended");
            Ok((self.opened.load(Ordering::SeqCst) >= count).then_some(()))
        })
    }

    fn stop(self) -> Result<()> {
        self.ending.store(true, Ordering::SeqCst);
        self.thread.join().map_err(|_| anyhow!("the attack panicked"))?
    }
}

/// So many connections as this process may open, with room for everything else.
fn connections() -> Result<usize> {
    let limit = getrlimit(Resource::Nofile);
    setrlimit(Resource::Nofile, Rlimit { current: limit.maximum, ..limit })?;
    let most = limit.maximum.map_or(usize::MAX, |most| most as usize).saturating_sub(1_500);
    ensure!(most >= 2_000, "`ulimit -Hn` is {:?}: too low to be slow", limit.maximum);
    Ok(most.min(CONNECTIONS))
}

/// A request that is complete but for its body's end; its answer is read later.
fn slow_body(address: SocketAddr) -> Result<TcpStream> {
    let mut connection = raw::connect(address)?;
    let head = format!("POST {} HTTP/1.1\r\nhost: localhost\r\ncontent-length: 1000\r\n\r\nx", path(TARGET));
    connection.write_all(head.as_bytes())?;
    Ok(connection)
}

#[test]
fn ten_thousand_slow_connections_lock_nobody_out() -> Result<()> {
    let scene = Scene::begin()?;
    let (address, count) = (scene.deployment.http, connections()?);
    let slow_bodies: Vec<TcpStream> = (0..OTHERS).map(|_| slow_body(address)).collect::<Result<_>>()?;
    let attack = Loris::start(address, count);
    attack.has_opened(count as u64)?;
    scene.healthy.sends(500)?;
    harness::poll::until("slow connections make place for others", SOON, || {
        let shed = scene.refused("connection_shed")?;
        ensure!(shed >= 2_000, "{shed} of {} did", attack.opened.load(Ordering::SeqCst));
        Ok(Some(()))
    })?;
    scene.healthy.sends(500)?;
    attack.stop()?;

    for connection in slow_bodies {
        let heard = raw::hear(connection, 1)?;
        let answer = heard.answers.first().context("a slow body was not answered")?;
        ensure!(answer.status == 408 && answer.json()?["reason"] == "too_slow", "{answer:?}");
        ensure!(answer.header("connection") == Some("close"), "{answer:?}");
    }
    ensure!(scene.refused("too_slow")? == OTHERS as u64, "slow bodies are not counted");
    scene.end(GROWN_MAX)
}

#[test]
fn who_says_nothing_is_let_go() -> Result<()> {
    let scene = Scene::begin()?;
    let silent = beginnings();
    let mut open = Vec::new();
    for beginning in silent.iter().cycle().take(OTHERS) {
        let mut connection = raw::connect(scene.deployment.http)?;
        connection.write_all(beginning)?;
        open.push(connection);
    }
    let mut asleep = Vec::new();
    for _ in 0..OTHERS {
        let mut connection = raw::connect(scene.deployment.http)?;
        connection.write_all(b"GET /health HTTP/1.1\r\nhost: localhost\r\n\r\n")?;
        asleep.push(connection);
    }
    open.iter().try_for_each(raw::until_closed)?;
    asleep.iter().try_for_each(raw::until_closed)?;
    let counted = scene.refused("head_too_slow")?;
    ensure!(counted == OTHERS as u64, "{counted} silent connections were counted");
    scene.end(GROWN_MAX)
}
