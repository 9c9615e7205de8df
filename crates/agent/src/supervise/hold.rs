//! Open files held twice: the supervisor keeps a duplicate of each descriptor that a worker reads, so that a file that
//! was rotated away or deleted survives the worker's death.
//!
//! They talk over a pair of `SOCK_SEQPACKET` sockets; the worker's end is its standard input. Each message is a letter,
//! device and inode (17 bytes), and a descriptor where one is handed over:
//!
//! ```text
//! supervisor → worker, at its start   h device inode + fd    held for you, once per file
//!                                     .                      that is all
//! worker → supervisor                 h device inode + fd    hold this
//!                                     r device inode         let go of this
//! ```

use std::collections::HashMap;
use std::fs::File;
use std::io::{self, IoSlice, IoSliceMut};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use rustix::net::{
    AddressFamily, RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, SendAncillaryBuffer, SendAncillaryMessage,
    SendFlags, SocketFlags, SocketType, recvmsg, sendmsg, socketpair,
};
use tokio::io::Interest;
use tokio::net::UnixDatagram;
use tracing::warn;

use crate::collect::discover::FILES_MAX;
use crate::collect::identity::FileIdentity;

const HOLD: u8 = b'h';
const RELEASE: u8 = b'r';
const ALL: u8 = b'.';
const MESSAGE_BYTES: usize = 17;

/// What names a held file: device and inode, which no other file has as long as the descriptor is open.
type Key = (u64, u64);

/// The worker's side.
pub struct HeldBySupervisor(Option<OwnedFd>);

impl HeldBySupervisor {
    /// Nobody holds anything.
    pub fn nobody() -> Self {
        Self(None)
    }

    /// The files held for this worker, and where to hand over more. Blocks until the supervisor has told them all.
    pub fn connect(socket: OwnedFd) -> io::Result<(Self, Vec<File>)> {
        let mut files = Vec::new();
        loop {
            match receive(socket.as_fd(), RecvFlags::empty())? {
                Some((HOLD, _, Some(fd))) => files.push(File::from(fd)),
                Some((ALL, ..)) => return Ok((Self(Some(socket)), files)),
                Some(_) => {}
                None => return Err(io::Error::new(io::ErrorKind::UnexpectedEof, "the supervisor is gone")),
            }
        }
    }

    /// Has a file held. A supervisor that does not listen holds up nothing.
    pub fn hold(&self, file: &File, identity: &FileIdentity) {
        self.tell(HOLD, identity, Some(file.as_fd()));
    }

    /// Lets go of a file.
    pub fn release(&self, identity: &FileIdentity) {
        self.tell(RELEASE, identity, None);
    }

    fn tell(&self, letter: u8, identity: &FileIdentity, fd: Option<BorrowedFd<'_>>) {
        let Some(socket) = &self.0 else { return };
        if let Err(error) = send(socket.as_fd(), letter, (identity.device, identity.inode), fd, SendFlags::DONTWAIT) {
            warn!(%error, inode = identity.inode, "the supervisor does not hold this file");
        }
    }
}

/// The supervisor's side, for one stream; it outlives the workers.
#[derive(Default)]
pub struct Holder {
    files: HashMap<Key, OwnedFd>,
}

impl Holder {
    /// A pair of sockets: the supervisor's, and the worker's standard input.
    pub fn pair() -> io::Result<(OwnedFd, OwnedFd)> {
        let (ours, theirs) = socketpair(AddressFamily::UNIX, SocketType::SEQPACKET, SocketFlags::CLOEXEC, None)?;
        rustix::io::ioctl_fionbio(&ours, true)?;
        Ok((ours, theirs))
    }

    /// Serves one worker until it is gone. May be dropped at any time; what is held stays held.
    pub async fn serve(&mut self, socket: OwnedFd) -> io::Result<()> {
        // Only its readiness is asked for; the messages themselves go through `send` and `receive`.
        let socket = UnixDatagram::from_std(socket.into())?;
        for (key, fd) in &self.files {
            tell(&socket, HOLD, *key, Some(fd.as_fd())).await?;
        }
        tell(&socket, ALL, (0, 0), None).await?;
        loop {
            let received = || receive(socket.as_fd(), RecvFlags::DONTWAIT);
            match socket.async_io(Interest::READABLE, received).await? {
                Some((HOLD, key, Some(fd))) if self.files.len() < FILES_MAX => drop(self.files.insert(key, fd)),
                Some((RELEASE, key, _)) => drop(self.files.remove(&key)),
                Some(_) => {}
                None => return Ok(()),
            }
        }
    }

    /// Files held now.
    pub fn held(&self) -> usize {
        self.files.len()
    }
}

async fn tell(socket: &UnixDatagram, letter: u8, key: Key, fd: Option<BorrowedFd<'_>>) -> io::Result<()> {
    let sent = || send(socket.as_fd(), letter, key, fd, SendFlags::DONTWAIT);
    socket.async_io(Interest::WRITABLE, sent).await
}

fn send(
    socket: BorrowedFd<'_>,
    letter: u8,
    (device, inode): Key,
    fd: Option<BorrowedFd<'_>>,
    flags: SendFlags,
) -> io::Result<()> {
    let mut message = [letter; MESSAGE_BYTES];
    message[1..9].copy_from_slice(&device.to_le_bytes());
    message[9..].copy_from_slice(&inode.to_le_bytes());
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
    let mut ancillary = SendAncillaryBuffer::new(&mut space);
    let fds: Vec<BorrowedFd<'_>> = fd.into_iter().collect();
    if !fds.is_empty() {
        ancillary.push(SendAncillaryMessage::ScmRights(&fds));
    }
    sendmsg(socket, &[IoSlice::new(&message)], &mut ancillary, flags | SendFlags::NOSIGNAL)?;
    Ok(())
}

/// The next message; none once the other side is gone.
fn receive(socket: BorrowedFd<'_>, flags: RecvFlags) -> io::Result<Option<(u8, Key, Option<OwnedFd>)>> {
    let mut message = [0; MESSAGE_BYTES];
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
    let mut ancillary = RecvAncillaryBuffer::new(&mut space);
    let flags = flags | RecvFlags::CMSG_CLOEXEC;
    let received = recvmsg(socket, &mut [IoSliceMut::new(&mut message)], &mut ancillary, flags)?;
    if received.bytes == 0 {
        return Ok(None);
    }
    let mut fds = ancillary.drain().flat_map(|message| match message {
        RecvAncillaryMessage::ScmRights(fds) => fds.collect::<Vec<_>>(),
        _ => Vec::new(),
    });
    let number = |at: usize| {
        let mut bytes = [0; 8];
        bytes.copy_from_slice(&message[at..at + 8]);
        u64::from_le_bytes(bytes)
    };
    Ok(Some((message[0], (number(1), number(9)), fds.next())))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Read;
    use std::time::Duration;

    async fn connect(holder: &mut Holder, then: impl FnOnce(HeldBySupervisor, Vec<File>) + Send + 'static) {
        let (ours, theirs) = Holder::pair().unwrap();
        let worker = tokio::task::spawn_blocking(move || {
            let (held, files) = HeldBySupervisor::connect(theirs).unwrap();
            then(held, files);
        });
        let served = tokio::time::timeout(Duration::from_secs(5), holder.serve(ours)).await;
        served.expect("the worker ends").unwrap();
        worker.await.unwrap();
    }

    #[tokio::test]
    async fn a_deleted_file_survives_its_worker() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("f");
        std::fs::write(&path, "still here").unwrap();
        let identity = FileIdentity::of(&std::fs::metadata(&path).unwrap());
        let mut holder = Holder::default();
        let opened = path.clone();
        connect(&mut holder, move |held, files| {
            assert!(files.is_empty());
            held.hold(&File::open(&opened).unwrap(), &identity);
        })
        .await;
        std::fs::remove_file(&path).unwrap();
        connect(&mut holder, move |held, files| {
            let mut text = String::new();
            (&files[0]).read_to_string(&mut text).unwrap();
            assert_eq!(text, "still here");
            held.release(&identity);
        })
        .await;
        assert_eq!(holder.held(), 0);
    }
}
