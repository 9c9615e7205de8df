//! The files that an application writes and an agent reads: real ones in a folder of their own, with lines that are torn,
//! too long, rotated away, or cut off under the reader. Inodes are numbered by the simulation, so that a seed repeats.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::fs::{self, File, Metadata, OpenOptions};
use std::io::Write;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, UNIX_EPOCH};

use agent::collect::identity::FileIdentity;
use stream::clock::Clock;

use crate::world::World;

thread_local! {
    /// Files made on this thread: their number and birth, by device and inode.
    static MADE: RefCell<BTreeMap<(u64, u64), FileIdentity>> = const { RefCell::new(BTreeMap::new()) };
}

/// What a file is, as the simulation numbers them.
pub fn identity_of(metadata: &Metadata) -> FileIdentity {
    MADE.with_borrow(|made| made.get(&(metadata.dev(), metadata.ino())).copied())
        .unwrap_or_else(|| FileIdentity::of(metadata))
}

/// Forgets the files of the seed before.
pub fn forget_all() {
    MADE.with_borrow_mut(BTreeMap::clear);
}

/// A file as it was written.
#[derive(Clone, Debug)]
pub struct Written {
    /// Its number.
    pub number: u64,
    /// How often it was cut off before.
    pub generation: u32,
    /// All bytes of it.
    pub content: Vec<u8>,
    /// Whether it left its path.
    pub is_rotated: bool,
}

/// One application's log.
pub struct Logs {
    world: World,
    /// Where it lies.
    pub dir: PathBuf,
    /// Who writes, within its lines.
    name: String,
    open: File,
    /// All files so far; the last one is open.
    pub files: Vec<Written>,
    lines: u64,
}

impl Logs {
    /// A log in `dir`.
    pub fn new(world: &World, dir: &Path, name: String) -> Self {
        fs::create_dir_all(dir).unwrap();
        let (open, first) = make(world, dir);
        Self { world: world.clone(), dir: dir.to_owned(), name, open, files: vec![first], lines: 0 }
    }

    /// Writes some lines, the last one perhaps not to its end.
    pub fn write(&mut self) {
        let mut text = Vec::new();
        for _ in 0..self.world.pick(1..8) {
            let (key, number) = (self.world.pick(0..4), self.lines);
            self.lines += 1;
            let padding = match self.world.pick(0..10) {
                0 => self.world.pick(100..700),
                _ => self.world.pick(0..30),
            };
            text.extend_from_slice(
                format!("k{key},{}-{number}{}\n", self.name, "x".repeat(padding as usize)).as_bytes(),
            );
        }
        if self.world.chance(0.3) {
            let torn = self.world.pick(1..text.len() as u64 + 1);
            // The rest of the line comes with the next write, as a line of its own.
            text.truncate(torn as usize);
        }
        self.append(&text);
    }

    /// Ends the last line.
    pub fn end_line(&mut self) {
        if !self.current().content.ends_with(b"\n") {
            self.append(b"\n");
        }
    }

    /// The file that is open.
    pub fn current(&self) -> &Written {
        self.files.last().expect("there is always one")
    }

    /// Renames the file and begins another one.
    pub fn rotate(&mut self) {
        let number = self.files.len();
        self.world.note(format!("{}: file {} is rotated", self.name, self.current().number));
        fs::rename(self.dir.join("app.log"), self.dir.join(format!("app.log.{number}"))).unwrap();
        self.files.last_mut().expect("there is always one").is_rotated = true;
        let (open, next) = make(&self.world, &self.dir);
        self.open = open;
        self.files.push(next);
    }

    /// Cuts the file off and begins anew in it, as copytruncate does.
    pub fn truncate(&mut self) {
        let Written { number, generation, .. } = *self.current();
        self.world.note(format!("{}: file {number} is cut off", self.name));
        self.open.set_len(0).unwrap();
        touch(&self.open, &self.world);
        self.files.push(Written { number, generation: generation + 1, content: Vec::new(), is_rotated: false });
    }

    fn append(&mut self, text: &[u8]) {
        self.open.write_all(text).unwrap();
        touch(&self.open, &self.world);
        self.files.last_mut().expect("there is always one").content.extend_from_slice(text);
        self.world.note(format!("{}: {} bytes", self.name, text.len()));
    }
}

fn make(world: &World, dir: &Path) -> (File, Written) {
    let file = OpenOptions::new().create_new(true).append(true).open(dir.join("app.log")).unwrap();
    touch(&file, world);
    let metadata = file.metadata().unwrap();
    let number = MADE.with_borrow_mut(|made| {
        let number = made.len() as u64 + 1;
        let birth_ns = world.now_ms() as u64 * 1_000_000;
        made.insert((metadata.dev(), metadata.ino()), FileIdentity { device: 1, inode: number, birth_ns });
        number
    });
    (file, Written { number, generation: 0, content: Vec::new(), is_rotated: false })
}

/// Gives a file the simulation's time: the machine's would tell two changes apart in one run and not in another.
fn touch(file: &File, world: &World) {
    file.set_modified(UNIX_EPOCH + Duration::from_millis(world.now_ms() as u64)).unwrap();
}
