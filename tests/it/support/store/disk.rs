//! A disk in memory that records every operation, so that a test can compute what a power cut leaves.
//!
//! Writes before the last sync are durable. Each later write can be complete, partial (by sectors) or missing, and the
//! later writes can reach the disk in any order.

use std::{
    fmt, io,
    sync::{Arc, Mutex, MutexGuard},
};

use redb::StorageBackend;

/// Bytes that a disk writes atomically.
const SECTOR: usize = 512;

/// A pseudorandom generator. The same seed gives the same numbers in every run.
#[derive(Clone)]
pub struct SeededRandom(pub u64);

impl SeededRandom {
    /// 0 to `bound - 1`.
    pub fn below(&mut self, bound: usize) -> usize {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        usize::try_from(self.0 >> 33).unwrap() % bound.max(1)
    }
}

/// One operation of a disk.
#[derive(Clone)]
pub enum DiskOperation {
    Write(usize, Arc<[u8]>),
    SetLen(usize),
    Sync,
    /// A mark that the test sets: the number of writes that were acknowledged so far.
    Acknowledged(usize),
}

/// A disk. Clones share their content.
#[derive(Clone, Default)]
pub struct Disk(Arc<Mutex<State>>);

#[derive(Default)]
struct State {
    bytes: Vec<u8>,
    operations: Vec<DiskOperation>,
}

impl Disk {
    /// A disk with this content.
    pub fn with(bytes: Vec<u8>) -> Self {
        Self(Arc::new(Mutex::new(State { bytes, operations: Vec::new() })))
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap()
    }

    /// Records that `count` writes are acknowledged so far.
    pub fn acknowledged(&self, count: usize) {
        self.state().operations.push(DiskOperation::Acknowledged(count));
    }

    /// All operations so far, in their order.
    pub fn operations(&self) -> Vec<DiskOperation> {
        self.state().operations.clone()
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
        state.operations.push(DiskOperation::SetLen(len));
        Ok(())
    }

    fn sync_data(&self) -> io::Result<()> {
        self.state().operations.push(DiskOperation::Sync);
        Ok(())
    }

    fn write(&self, offset: u64, data: &[u8]) -> io::Result<()> {
        let (mut state, offset) = (self.state(), usize::try_from(offset).unwrap());
        write(&mut state.bytes, offset, data);
        state.operations.push(DiskOperation::Write(offset, data.into()));
        Ok(())
    }
}

fn write(bytes: &mut Vec<u8>, offset: usize, data: &[u8]) {
    if bytes.len() < offset + data.len() {
        bytes.resize(offset + data.len(), 0);
    }
    bytes[offset..offset + data.len()].copy_from_slice(data);
}

/// Replays the operations of a disk and computes what a power cut leaves after each of them.
pub struct DiskReplay {
    /// The content that is certainly on the disk.
    durable: Vec<u8>,
    /// The operations since the last sync.
    pending: Vec<DiskOperation>,
    pub acknowledged: usize,
    /// Whether the disk reports a sync that it did not do. This is the control of the power cut tests.
    ignores_syncs: bool,
}

impl DiskReplay {
    pub fn from(durable: Vec<u8>, ignores_syncs: bool) -> Self {
        Self { durable, pending: Vec::new(), acknowledged: 0, ignores_syncs }
    }

    /// Replays one operation.
    pub fn step(&mut self, operation: &DiskOperation) {
        match operation {
            DiskOperation::Write(..) | DiskOperation::SetLen(_) => self.pending.push(operation.clone()),
            DiskOperation::Acknowledged(count) => self.acknowledged = *count,
            // A disk that ignores syncs also writes its cache at some time.
            DiskOperation::Sync if self.ignores_syncs && self.pending.len() < 200 => {}
            DiskOperation::Sync => {
                for operation in self.pending.drain(..) {
                    apply(&mut self.durable, &operation);
                }
            }
        }
    }

    /// The content of the disk after a power cut at this moment.
    pub fn power_cut(&self, random: &mut SeededRandom) -> Vec<u8> {
        let mut image = self.durable.clone();
        let mut pending: Vec<_> = self.pending.clone();
        if random.below(2) == 0 {
            for last in (1..pending.len()).rev() {
                pending.swap(last, random.below(last + 1));
            }
        }
        for operation in &pending {
            match (random.below(3), operation) {
                (0, _) => {}
                (1, DiskOperation::Write(offset, data)) => write_partly(&mut image, *offset, data, random),
                _ => apply(&mut image, operation),
            }
        }
        image
    }
}

fn apply(bytes: &mut Vec<u8>, operation: &DiskOperation) {
    match operation {
        DiskOperation::Write(offset, data) => write(bytes, *offset, data),
        DiskOperation::SetLen(len) => bytes.resize(*len, 0),
        DiskOperation::Sync | DiskOperation::Acknowledged(_) => {}
    }
}

/// Writes a random part of the sectors.
fn write_partly(bytes: &mut Vec<u8>, offset: usize, data: &[u8], random: &mut SeededRandom) {
    for (number, sector) in data.chunks(SECTOR).enumerate() {
        if random.below(2) == 0 {
            write(bytes, offset + number * SECTOR, sector);
        }
    }
}
