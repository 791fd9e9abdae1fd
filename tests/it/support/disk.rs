//! A disk in memory that remembers all that was asked of it, so that a test can see what a power cut leaves.
//!
//! What was written before the last sync is there. Of what came after it any part may be: each write whole, in part (by
//! sectors) or not at all, and in any order.

use std::{
    fmt, io,
    sync::{Arc, Mutex, MutexGuard},
};

use redb::StorageBackend;

/// What a disk writes at once or not at all.
const SECTOR: usize = 512;

/// Random numbers that are the same in every run.
#[derive(Clone)]
pub struct SeededRandom(pub u64);

impl SeededRandom {
    /// 0 to `bound - 1`.
    pub fn below(&mut self, bound: usize) -> usize {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        usize::try_from(self.0 >> 33).unwrap() % bound.max(1)
    }
}

/// One thing that was asked of a disk, in the order of asking.
#[derive(Clone)]
pub enum DiskOperation {
    Write(usize, Arc<[u8]>),
    SetLen(usize),
    Sync,
    /// The test's own mark: by now this much was acknowledged.
    Acknowledged(usize),
}

/// A disk; clones are the same one.
#[derive(Clone, Default)]
pub struct Disk(Arc<Mutex<State>>);

#[derive(Default)]
struct State {
    bytes: Vec<u8>,
    asked: Vec<DiskOperation>,
}

impl Disk {
    /// A disk with something on it.
    pub fn with(bytes: Vec<u8>) -> Self {
        Self(Arc::new(Mutex::new(State { bytes, asked: Vec::new() })))
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap()
    }

    /// Remembers that `count` things are acknowledged by now.
    pub fn acknowledged(&self, count: usize) {
        self.state().asked.push(DiskOperation::Acknowledged(count));
    }

    /// All that was asked until now.
    pub fn operations(&self) -> Vec<DiskOperation> {
        self.state().asked.clone()
    }
}

impl fmt::Debug for Disk {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Disk")
    }
}

impl StorageBackend for Disk {
    fn len(&self) -> io::Result<u64> {
        Ok(self.state().bytes.len() as u64)
    }

    fn read(&self, offset: u64, out: &mut [u8]) -> io::Result<()> {
        let (state, offset) = (self.state(), usize::try_from(offset).unwrap());
        let part = state.bytes.get(offset..offset + out.len()).ok_or(io::ErrorKind::UnexpectedEof)?;
        out.copy_from_slice(part);
        Ok(())
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        let (mut state, len) = (self.state(), usize::try_from(len).unwrap());
        state.bytes.resize(len, 0);
        state.asked.push(DiskOperation::SetLen(len));
        Ok(())
    }

    fn sync_data(&self) -> io::Result<()> {
        self.state().asked.push(DiskOperation::Sync);
        Ok(())
    }

    fn write(&self, offset: u64, data: &[u8]) -> io::Result<()> {
        let (mut state, offset) = (self.state(), usize::try_from(offset).unwrap());
        write(&mut state.bytes, offset, data);
        state.asked.push(DiskOperation::Write(offset, data.into()));
        Ok(())
    }
}

fn write(bytes: &mut Vec<u8>, offset: usize, data: &[u8]) {
    if bytes.len() < offset + data.len() {
        bytes.resize(offset + data.len(), 0);
    }
    bytes[offset..offset + data.len()].copy_from_slice(data);
}

/// Follows a disk's story and answers what a power cut would leave at each of its moments.
pub struct DiskReplay {
    /// What is on the disk for sure.
    durable: Vec<u8>,
    /// What was asked since the last sync.
    pending: Vec<DiskOperation>,
    pub acknowledged: usize,
    /// A disk that lies: it says that it synced and did not. The control of every test here.
    lies: bool,
}

impl DiskReplay {
    pub fn from(durable: Vec<u8>, lies: bool) -> Self {
        Self { durable, pending: Vec::new(), acknowledged: 0, lies }
    }

    pub fn step(&mut self, asked: &DiskOperation) {
        match asked {
            DiskOperation::Write(..) | DiskOperation::SetLen(_) => self.pending.push(asked.clone()),
            DiskOperation::Acknowledged(count) => self.acknowledged = *count,
            // Even a liar's cache gets to the platter at some time.
            DiskOperation::Sync if self.lies && self.pending.len() < 200 => {}
            DiskOperation::Sync => {
                for asked in self.pending.drain(..) {
                    apply(&mut self.durable, &asked);
                }
            }
        }
    }

    /// What is there when the power goes now.
    pub fn power_cut(&self, chance: &mut SeededRandom) -> Vec<u8> {
        let mut image = self.durable.clone();
        let mut pending: Vec<_> = self.pending.clone();
        if chance.below(2) == 0 {
            for last in (1..pending.len()).rev() {
                pending.swap(last, chance.below(last + 1));
            }
        }
        for asked in &pending {
            match (chance.below(3), asked) {
                (0, _) => {}
                (1, DiskOperation::Write(offset, data)) => tear(&mut image, *offset, data, chance),
                _ => apply(&mut image, asked),
            }
        }
        image
    }
}

fn apply(bytes: &mut Vec<u8>, asked: &DiskOperation) {
    match asked {
        DiskOperation::Write(offset, data) => write(bytes, *offset, data),
        DiskOperation::SetLen(len) => bytes.resize(*len, 0),
        DiskOperation::Sync | DiskOperation::Acknowledged(_) => {}
    }
}

/// Writes some of the sectors.
fn tear(bytes: &mut Vec<u8>, offset: usize, data: &[u8], chance: &mut SeededRandom) {
    for (number, sector) in data.chunks(SECTOR).enumerate() {
        if chance.below(2) == 0 {
            write(bytes, offset + number * SECTOR, sector);
        }
    }
}
