//! A faulty TCP proxy: stands between two processes and delays, stalls, cuts, or holds one reply, while they run.

use std::io::{Read, Write};
use std::net::{Ipv4Addr, Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::Result;

/// What the proxy does to bytes that come from now on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// Passes everything on.
    None,
    /// Passes each piece on after a wait.
    Delay(Duration),
    /// Passes nothing on; connections stay open (half-open to both sides).
    Stall,
    /// Holds what comes back from the far side, for this long from the first held byte; requests pass.
    HoldReplies(Duration),
    /// Passes nothing more on of the connections that there are, for good (half-open to both sides); new ones are good.
    Abandon,
    /// Refuses new connections and closes those there are.
    Cut,
}

/// A running proxy. Dropped, it closes every connection.
pub struct Proxy {
    /// Where to connect instead of the far side.
    pub address: SocketAddr,
    shared: Arc<Shared>,
}

struct Shared {
    fault: Mutex<Fault>,
    connections: Mutex<Vec<TcpStream>>,
    held_replies: AtomicU64,
    passed_bytes: AtomicU64,
    /// Times that all connections were abandoned.
    abandoned: AtomicU64,
    ended: AtomicBool,
}

/// How often a standing direction looks whether the fault has changed.
const LOOK: Duration = Duration::from_millis(5);

impl Proxy {
    /// A proxy to `far_side` on a free loopback port.
    pub fn start(far_side: SocketAddr) -> Result<Self> {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?;
        let address = listener.local_addr()?;
        let shared = Arc::new(Shared {
            fault: Mutex::new(Fault::None),
            connections: Mutex::default(),
            held_replies: AtomicU64::new(0),
            passed_bytes: AtomicU64::new(0),
            abandoned: AtomicU64::new(0),
            ended: AtomicBool::new(false),
        });
        let accepting = shared.clone();
        thread::spawn(move || accepting.accept(&listener, far_side));
        Ok(Self { address, shared })
    }

    /// Does `fault` from now on.
    pub fn set(&self, fault: Fault) {
        *lock(&self.shared.fault) = fault;
        if fault == Fault::Abandon {
            self.shared.abandoned.fetch_add(1, Ordering::SeqCst);
        }
        if fault == Fault::Cut {
            self.shared.close_all();
        }
    }

    /// How many pieces of replies were held so far: a run in which no fault fired proves nothing.
    pub fn held_replies(&self) -> u64 {
        self.shared.held_replies.load(Ordering::SeqCst)
    }

    /// Bytes passed on so far, both ways.
    pub fn passed_bytes(&self) -> u64 {
        self.shared.passed_bytes.load(Ordering::SeqCst)
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.shared.ended.store(true, Ordering::SeqCst);
        self.shared.close_all();
        // Wakes the accepting thread so that it sees the end.
        drop(TcpStream::connect(self.address));
    }
}

fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Shared {
    fn accept(self: &Arc<Self>, listener: &TcpListener, far_side: SocketAddr) {
        for near in listener.incoming().flatten() {
            if self.ended.load(Ordering::SeqCst) {
                return;
            }
            if *lock(&self.fault) == Fault::Cut {
                continue;
            }
            if let Ok(far) = TcpStream::connect(far_side) {
                drop(self.join(near, far));
            }
        }
    }

    fn join(self: &Arc<Self>, near: TcpStream, far: TcpStream) -> Result<()> {
        lock(&self.connections).extend([near.try_clone()?, far.try_clone()?]);
        let (requests, replies) = (self.clone(), self.clone());
        let (near_back, far_back) = (near.try_clone()?, far.try_clone()?);
        thread::spawn(move || requests.pump(near, far, false));
        thread::spawn(move || replies.pump(far_back, near_back, true));
        Ok(())
    }

    fn pump(&self, mut from: TcpStream, mut to: TcpStream, is_reply: bool) {
        let abandoned = self.abandoned.load(Ordering::SeqCst);
        let mut piece = vec![0; 64 << 10];
        while let Ok(length @ 1..) = from.read(&mut piece) {
            self.wait_out(is_reply, abandoned);
            if to.write_all(&piece[..length]).is_err() {
                break;
            }
            self.passed_bytes.fetch_add(length as u64, Ordering::SeqCst);
        }
        drop(to.shutdown(Shutdown::Both));
        drop(from.shutdown(Shutdown::Both));
    }

    /// Stands here as long as the fault wants this piece to wait.
    fn wait_out(&self, is_reply: bool, abandoned_before: u64) {
        let since = Instant::now();
        let mut counted = false;
        loop {
            let waits = match *lock(&self.fault) {
                _ if self.abandoned.load(Ordering::SeqCst) != abandoned_before => true,
                Fault::None | Fault::Cut | Fault::Abandon => false,
                Fault::Stall => true,
                Fault::Delay(wait) => since.elapsed() < wait,
                Fault::HoldReplies(wait) => is_reply && since.elapsed() < wait,
            };
            if !waits || self.ended.load(Ordering::SeqCst) {
                return;
            }
            if is_reply && !counted {
                self.held_replies.fetch_add(1, Ordering::SeqCst);
                counted = true;
            }
            thread::sleep(LOOK);
        }
    }

    fn close_all(&self) {
        lock(&self.connections).drain(..).for_each(|connection| drop(connection.shutdown(Shutdown::Both)));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn echo_server() -> SocketAddr {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        let address = listener.local_addr().unwrap();
        thread::spawn(move || {
            for mut stream in listener.incoming().flatten() {
                thread::spawn(move || {
                    let mut piece = [0; 64];
                    while let Ok(length @ 1..) = stream.read(&mut piece) {
                        if stream.write_all(&piece[..length]).is_err() {
                            return;
                        }
                    }
                });
            }
        });
        address
    }

    fn exchange(stream: &mut TcpStream) -> std::io::Result<[u8; 2]> {
        let mut reply = [0; 2];
        stream.write_all(b"hi")?;
        stream.read_exact(&mut reply).map(|()| reply)
    }

    #[test]
    fn each_fault_has_its_effect_and_ends() {
        let proxy = Proxy::start(echo_server()).unwrap();
        let mut stream = TcpStream::connect(proxy.address).unwrap();
        stream.set_read_timeout(Some(Duration::from_millis(100))).unwrap();
        assert_eq!(exchange(&mut stream).unwrap(), *b"hi");

        proxy.set(Fault::HoldReplies(Duration::from_secs(30)));
        assert!(exchange(&mut stream).is_err(), "a held reply arrived");
        assert_eq!(proxy.held_replies(), 1);
        proxy.set(Fault::None);
        stream.set_read_timeout(Some(Duration::from_secs(5))).unwrap();
        let mut reply = [0; 2];
        stream.read_exact(&mut reply).unwrap();

        proxy.set(Fault::Abandon);
        stream.set_read_timeout(Some(Duration::from_millis(100))).unwrap();
        assert!(exchange(&mut stream).is_err(), "an abandoned connection answered");
        assert_eq!(exchange(&mut TcpStream::connect(proxy.address).unwrap()).unwrap(), *b"hi");

        proxy.set(Fault::Cut);
        assert!(exchange(&mut stream).is_err(), "a cut connection answered");
        proxy.set(Fault::None);
        assert_eq!(exchange(&mut TcpStream::connect(proxy.address).unwrap()).unwrap(), *b"hi");
    }
}
