//! Power loss on a real filesystem: an ext4 image behind a loop device that is shut down without flushing its journal, so
//! that whatever was not synced is gone when it is mounted again. This is what killing processes cannot show: the page
//! cache outlives a process.
//!
//! States: mounted; lost (shut down, every call on it fails); mounted again after its journal was replayed. Two control
//! files a loss prove that it was one: the file that was synced comes back whole, the one that was not is short or absent.
//! Mounts live in the mount namespace of the test ([`enter_own_mounts`]), so none outlives its processes, however they end.

use std::fs::{self, File};
use std::io::{BufRead, BufReader, ErrorKind, Write};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};

use crate::poll;

/// Longest time that one command on the disk may take, in seconds; `timeout` ends it then.
const COMMAND_SECONDS_MAX: &str = "60";
/// How long a filesystem may stay busy after its last process was ended.
const UNMOUNT: Duration = Duration::from_secs(20);
/// Size of the image. Sparse: only what is written takes space.
const IMAGE_BYTES: &str = "4G";
/// Size of a control file: too much for an inode, so that it needs blocks.
const CONTROL_BYTES: usize = 64 << 10;
/// No commit of the journal but those that are asked for, and no repair of writers that rename before they sync.
const MOUNT_OPTIONS: &str = "loop,commit=300,noauto_da_alloc";
/// Says when it is ready, waits for a line, writes without syncing, shuts down: `EXT4_IOC_SHUTDOWN`, that is
/// `_IOR('X', 125, __u32)`, with `EXT4_GOING_FLAGS_NOLOGFLUSH`.
const SHUTDOWN: &str = r#"
import fcntl, os, struct, sys
mount = os.open(sys.argv[1], os.O_RDONLY)
print("ready", flush=True)
if not sys.stdin.readline():
    sys.exit("nobody gave the word")
with open(sys.argv[2], "wb") as unsynced:
    unsynced.write(b"u" * int(sys.argv[3]))
fcntl.ioctl(mount, 0x8004587D, struct.pack("I", 2))
"#;
const OWN_MOUNTS: &str = "ISOLANE_OWN_MOUNTS";

/// A mounted filesystem that can lose its power. Dropping it unmounts it.
pub struct LossyDisk {
    image: PathBuf,
    mount: PathBuf,
    is_mounted: bool,
    losses: u64,
}

/// What a loss did to the file that was written just before it and not synced.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Unsynced {
    /// Not even its name came back.
    Absent,
    /// Its name came back, its content not or in part.
    Short,
    /// All of it came back.
    Survived,
}

/// Runs this program again in a mount namespace of its own; returns there. Fails if this is not root.
pub fn enter_own_mounts() -> Result<()> {
    if std::env::var_os(OWN_MOUNTS).is_some() {
        return Ok(());
    }
    ensure!(
        rustix::process::geteuid().is_root(),
        "power loss is tested on a loop mount, which needs root: run `sudo -E cargo xtask power-loss`"
    );
    let mut command = Command::new("unshare");
    command.args(["--mount", "--propagation", "private"]).arg(std::env::current_exe()?);
    let error = command.args(std::env::args_os().skip(1)).env(OWN_MOUNTS, "1").exec();
    Err(error).context("running unshare (apt-get install -y util-linux)")
}

impl LossyDisk {
    /// Makes an empty ext4 image in `scratch` and mounts it.
    pub fn make(scratch: &Path) -> Result<Self> {
        let (image, mount) = (scratch.join("disk.ext4"), scratch.join("disk"));
        fs::create_dir_all(&mount)?;
        run("losetup", &["--find"]).context("no loop device is free (modprobe loop; losetup --list)")?;
        run("truncate", &["--size", IMAGE_BYTES, text(&image)?])?;
        run("mkfs.ext4", &["-q", text(&image)?]).context("mkfs.ext4 (apt-get install -y e2fsprogs)")?;
        let mut disk = Self { image, mount, is_mounted: false, losses: 0 };
        disk.mount()?;
        Ok(disk)
    }

    /// Where it is mounted.
    pub fn path(&self) -> &Path {
        &self.mount
    }

    /// Shuts the filesystem down as soon as `moment` returns. Afterwards every call on it fails.
    pub fn lose_power(&mut self, moment: impl FnOnce()) -> Result<()> {
        self.losses += 1;
        let mut synced = File::create(self.synced())?;
        synced.write_all(&[b's'; CONTROL_BYTES])?;
        synced.sync_all()?;
        File::open(&self.mount)?.sync_all()?;
        let bytes = CONTROL_BYTES.to_string();
        let shutdown = ["-c", SHUTDOWN, text(&self.mount)?, text(&self.unsynced())?, &bytes].map(str::to_owned);
        let mut python = bounded("python3", &shutdown).stdin(Stdio::piped()).stdout(Stdio::piped()).spawn()?;
        let fired = wait_ready(&mut python).and_then(|()| {
            moment();
            Ok(python.stdin.take().context("no pipe to python3")?.write_all(b"now\n")?)
        });
        let ended = succeeded("the shutdown of the filesystem", python.wait_with_output()?);
        fired.and(ended)?;
        let after = fs::write(self.mount.join("after"), b"");
        ensure!(after.is_err(), "the filesystem took a file after its shutdown: it did not lose its power");
        Ok(())
    }

    /// Unmounts, repairs and mounts it again, once no process uses it any more. Says what the loss did.
    pub fn restore(&mut self) -> Result<Unsynced> {
        self.unmount()?;
        // 1 says that the journal was replayed or an orphan removed: what a boot after a power loss does.
        let checked = bounded("e2fsck", &["-p", text(&self.image)?]).output()?;
        if checked.status.code() != Some(1) {
            succeeded("e2fsck -p", checked)?;
        }
        self.mount()?;
        let synced = fs::read(self.synced()).context("the control file that was synced")?;
        ensure!(synced == [b's'; CONTROL_BYTES], "the loss damaged a synced file: {} bytes", synced.len());
        match fs::read(self.unsynced()) {
            Ok(bytes) if bytes == [b'u'; CONTROL_BYTES] => Ok(Unsynced::Survived),
            Ok(_) => Ok(Unsynced::Short),
            Err(error) if error.kind() == ErrorKind::NotFound => Ok(Unsynced::Absent),
            Err(error) => Err(error).context("the control file that was not synced"),
        }
    }

    fn synced(&self) -> PathBuf {
        self.mount.join(format!("control-synced-{}", self.losses))
    }

    fn unsynced(&self) -> PathBuf {
        self.mount.join(format!("control-unsynced-{}", self.losses))
    }

    fn mount(&mut self) -> Result<()> {
        run("mount", &["-t", "ext4", "-o", MOUNT_OPTIONS, text(&self.image)?, text(&self.mount)?])?;
        self.is_mounted = true;
        Ok(())
    }

    /// Waits for the loop device too: a second one on the same image would have a cache of its own.
    fn unmount(&mut self) -> Result<()> {
        poll::until("unmounting", UNMOUNT, || run("umount", &[text(&self.mount)?]).map(Some))?;
        self.is_mounted = false;
        poll::until("the loop device is released", UNMOUNT, || {
            let attached = run("losetup", &["--associated", text(&self.image)?])?;
            ensure!(attached.is_empty(), "{attached}");
            Ok(Some(()))
        })
    }
}

impl Drop for LossyDisk {
    fn drop(&mut self) {
        if !self.is_mounted {
            return;
        }
        if let Err(error) = self.unmount() {
            eprintln!("{error:#}; unmounting once it is no longer used");
            drop(text(&self.mount).and_then(|mount| run("umount", &["--lazy", mount])));
        }
    }
}

fn wait_ready(python: &mut Child) -> Result<()> {
    let mut line = String::new();
    let stdout = python.stdout.as_mut().context("no pipe from python3")?;
    BufReader::new(stdout).read_line(&mut line)?;
    ensure!(line == "ready\n", "python3 did not get ready to shut the filesystem down");
    Ok(())
}

/// Runs a command to its end, which has a bound; gives what it printed.
fn run(program: &str, arguments: &[&str]) -> Result<String> {
    let what = format!("`{program} {}`", arguments.join(" "));
    succeeded(&what, bounded(program, arguments).output().with_context(|| what.clone())?)
}

fn bounded(program: &str, arguments: &[impl AsRef<std::ffi::OsStr>]) -> Command {
    let mut command = Command::new("timeout");
    command.args(["--kill-after=5", COMMAND_SECONDS_MAX, program]).args(arguments);
    command.stdin(Stdio::null()).stderr(Stdio::piped());
    command
}

fn succeeded(what: &str, output: Output) -> Result<String> {
    if !output.status.success() {
        bail!("{what}: {}: {}", output.status, String::from_utf8_lossy(&output.stderr).trim());
    }
    Ok(String::from_utf8_lossy(&output.stdout).trim().to_owned())
}

fn text(path: &Path) -> Result<&str> {
    path.to_str().with_context(|| format!("{} is not UTF-8", path.display()))
}
