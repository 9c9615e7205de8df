//! The bare log: one file; frames of what came, one write and one `fdatasync` for all that has come meanwhile.

use std::fs::File;
use std::io::{self, Write};
use std::path::Path;
use std::thread;

use anyhow::{Context, Result};
use bytes::Bytes;
use stream::frame;
use tokio::sync::{mpsc, oneshot};

use super::door::{self, Received};

/// Appends that wait for the next commit.
const WAITING_MAX: usize = 1024;

/// A handle of the log.
#[derive(Clone)]
pub struct BareLog {
    appends: mpsc::Sender<Append>,
}

struct Append {
    bytes: Bytes,
    durable: oneshot::Sender<()>,
}

impl BareLog {
    /// An empty log, written by a thread of its own.
    pub fn create(path: &Path) -> Result<Self> {
        let file = File::create_new(path).with_context(|| path.display().to_string())?;
        let (appends, waiting) = mpsc::channel(WAITING_MAX);
        thread::spawn(move || {
            if let Err(error) = write(file, waiting) {
                eprintln!("error: the bare log: {error}");
            }
        });
        Ok(Self { appends })
    }
}

impl door::Append for BareLog {
    async fn append(&self, received: Received) -> Result<()> {
        let (durable, is_durable) = oneshot::channel();
        self.appends.send(Append { bytes: received.bodies, durable }).await.context("the bare log has ended")?;
        is_durable.await.context("the bare log has ended")
    }
}

fn write(mut file: File, mut waiting: mpsc::Receiver<Append>) -> io::Result<()> {
    let (mut frames, mut answers) = (Vec::new(), Vec::<oneshot::Sender<()>>::new());
    while let Some(first) = waiting.blocking_recv() {
        let mut next = Some(first);
        while let Some(Append { bytes, durable }) = next {
            frame::write(&mut frames, &bytes);
            answers.push(durable);
            next = waiting.try_recv().ok();
        }
        file.write_all(&frames)?;
        file.sync_data()?;
        frames.clear();
        for durable in answers.drain(..) {
            let _caller_gone = durable.send(());
        }
    }
    Ok(())
}
