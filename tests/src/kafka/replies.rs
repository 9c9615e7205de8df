//! A proxy before each broker that clients reach, which knows where a request and a reply end, and can hold a single reply
//! of a kind: the broker has done what it was asked, and whoever asked does not hear of it.

use std::collections::{HashMap, VecDeque};
use std::io::{self, Read, Write};
use std::net::{Ipv4Addr, Shutdown, SocketAddr, SocketAddrV4, TcpListener, TcpStream};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::Duration;

use anyhow::Result;

/// Longest frame passed on.
const FRAME_BYTES_MAX: usize = 128 << 20;

/// Kinds of requests, by their numbers in Kafka's protocol.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Api {
    /// Appends.
    Produce = 0,
    /// Tells a transaction's coordinator where it is going to write.
    AddPartitionsToTxn = 24,
    /// Commits a transaction.
    EndTxn = 26,
}

/// What is to be held, and what was; all proxies share it.
#[derive(Clone, Default)]
pub struct Holds(Arc<Mutex<HashMap<i16, Hold>>>);

#[derive(Clone, Copy, Default)]
struct Hold {
    next: Option<Duration>,
    released: u64,
}

impl Holds {
    /// Holds the next reply of this kind, whichever broker gives it, for so long; then lets it pass.
    pub fn hold_next(&self, api: Api, held: Duration) {
        self.lock().entry(api as i16).or_default().next = Some(held);
    }

    /// How many replies of this kind were held and let pass since.
    pub fn released(&self, api: Api) -> u64 {
        self.lock().get(&(api as i16)).map_or(0, |hold| hold.released)
    }

    fn take(&self, api: i16) -> Option<Duration> {
        self.lock().get_mut(&api)?.next.take()
    }

    fn release(&self, api: i16) {
        self.lock().entry(api).or_default().released += 1;
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<i16, Hold>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Starts a proxy to `broker`; answers where it listens. It ends with the process.
pub fn start(broker: SocketAddrV4, holds: Holds) -> Result<SocketAddr> {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?;
    let address = listener.local_addr()?;
    thread::spawn(move || {
        for client in listener.incoming().flatten() {
            let holds = holds.clone();
            // A broker that is away looks like one to the client too.
            thread::spawn(move || TcpStream::connect(broker).and_then(|server| join(client, server, holds)));
        }
    });
    Ok(address)
}

/// Passes frames both ways until one side ends.
fn join(client: TcpStream, server: TcpStream, holds: Holds) -> io::Result<()> {
    client.set_nodelay(true)?;
    server.set_nodelay(true)?;
    // Replies come in the order of their requests.
    let asked: Arc<Mutex<VecDeque<i16>>> = Arc::default();
    let (mut requests, mut replies) = ((client.try_clone()?, server.try_clone()?), (server, client));
    let noted = Arc::clone(&asked);
    thread::spawn(move || {
        let (from, to) = &mut requests;
        let passed = pass(from, to, |frame| {
            let api = frame.first_chunk::<2>().map_or(-1, |bytes| i16::from_be_bytes(*bytes));
            noted.lock().unwrap_or_else(PoisonError::into_inner).push_back(api);
        });
        drop((passed, from.shutdown(Shutdown::Both), to.shutdown(Shutdown::Both)));
    });
    let (from, to) = &mut replies;
    let passed = pass(from, to, |_| {
        let api = asked.lock().unwrap_or_else(PoisonError::into_inner).pop_front();
        if let Some((api, held)) = api.and_then(|api| Some((api, holds.take(api)?))) {
            thread::sleep(held);
            holds.release(api);
        }
    });
    drop((from.shutdown(Shutdown::Both), to.shutdown(Shutdown::Both)));
    passed
}

fn pass(from: &mut TcpStream, to: &mut TcpStream, mut before: impl FnMut(&[u8])) -> io::Result<()> {
    loop {
        let mut length = [0; 4];
        from.read_exact(&mut length)?;
        let bytes = usize::try_from(i32::from_be_bytes(length)).ok().filter(|bytes| *bytes <= FRAME_BYTES_MAX);
        let mut frame = vec![0; bytes.ok_or_else(|| io::Error::other("no frame of Kafka's"))?];
        from.read_exact(&mut frame)?;
        before(&frame);
        to.write_all(&length)?;
        to.write_all(&frame)?;
    }
}
