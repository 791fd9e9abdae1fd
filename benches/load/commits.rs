//! The store alone: the number of acknowledgements for each commit.

use std::{
    fs, io,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use redb::{StorageBackend, backends::FileBackend};
use tokio::{runtime::Runtime, task::JoinSet};
use watchword::{
    domain::{Store, System},
    store::{Embedded, TypedStore},
};

use crate::{
    Plan,
    redis::Redis,
    report::{Gate::AtLeast, Report},
    server::scratch,
    users::claim,
};

/// Concurrent registrations.
const WRITERS: u64 = 64;

/// A file that counts its syncs.
#[derive(Debug)]
struct SyncCounter {
    file: FileBackend,
    syncs: Arc<AtomicU64>,
}

pub(crate) fn measure(plan: &Plan, runtime: &Runtime, report: &mut Report) {
    let (folder, syncs) = (scratch(), Arc::new(AtomicU64::new(0)));
    let file = fs::File::options().read(true).write(true).create_new(true).open(folder.path().join("counted.redb"));
    let file = FileBackend::new(file.expect("the folder is new")).expect("it is not locked");
    let counted = SyncCounter { file, syncs: syncs.clone() };
    let _runtime = runtime.enter();
    let embedded = Embedded::open_on(counted, Arc::new(System)).expect("a new file can be opened");
    let (mut per_commit, mut rates, mut ratios) = (Vec::new(), Vec::new(), Vec::new());
    let embedded: Arc<dyn Store> = Arc::new(TypedStore::over(Arc::new(embedded)));
    let redis = Redis::start();
    let shared = runtime.block_on(redis.open());
    let (names, arm) = (AtomicU64::new(0), plan.arm / 2);
    for number in 1..=plan.repetitions {
        println!("commits: repetition {number} of {}", plan.repetitions);
        let before = syncs.load(Ordering::Relaxed);
        let acknowledged = runtime.block_on(claim_for(&embedded, arm, &names)) as f64;
        // Two-phase commit: one sync for the new data, one for the commit.
        let commits = (syncs.load(Ordering::Relaxed) - before) as f64 / 2.0;
        per_commit.push(acknowledged / commits);
        rates.push(acknowledged / arm.as_secs_f64());
        ratios.push(runtime.block_on(claim_for(&shared, arm, &names)) as f64 / acknowledged);
    }
    report.gate("store alone, 64 writers: acknowledgements a commit", "", AtLeast(8.0, 30.0), per_commit);
    report.show("store alone, 64 writers: claims/s, Redis / embedded", "", ratios);
    report.show("store alone, 64 writers: claims/s, embedded", "/s", rates);
}

/// Claims new usernames with 64 concurrent writers for `time`; returns their number.
async fn claim_for(store: &Arc<dyn Store>, time: Duration, names: &AtomicU64) -> u64 {
    let (end, first) = (Instant::now() + time, names.fetch_add(1 << 32, Ordering::Relaxed));
    let mut writers = JoinSet::new();
    for writer in 0..WRITERS {
        let store = store.clone();
        writers.spawn(async move {
            let mut done = 0;
            while Instant::now() < end {
                claim(&*store, first + (done * WRITERS + writer)).await;
                done += 1;
            }
            done
        });
    }
    writers.join_all().await.into_iter().sum()
}

impl StorageBackend for SyncCounter {
    fn len(&self) -> io::Result<u64> {
        self.file.len()
    }

    fn read(&self, offset: u64, out: &mut [u8]) -> io::Result<()> {
        self.file.read(offset, out)
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        self.file.set_len(len)
    }

    fn sync_data(&self) -> io::Result<()> {
        self.syncs.fetch_add(1, Ordering::Relaxed);
        self.file.sync_data()
    }

    fn write(&self, offset: u64, data: &[u8]) -> io::Result<()> {
        self.file.write(offset, data)
    }
}
