//! Measures the stores: what each makes of a login and of a registration, and how many acknowledgements share a commit.
//! With `-- --scale` also what a million users take of disk, memory and start-up. `cargo bench --bench stores` takes under
//! two minutes, with `--scale` about six.
//!
//! Real servers in processes of their own on the disk of the target folder, and a real redis-server that syncs its file
//! at every write. Rates are ratios of arms that take turns in one run; `embedded / embedded` is the control. The
//! million users are loaded through `domain::Store`, not by hashing.
//!
//! Prints one table, and writes the same to `bench/stores.json` in the target folder.

#![expect(clippy::disallowed_methods, reason = "measures the real time, and waits for it to pass")]
#![expect(clippy::print_stdout, reason = "the table is the output")]

#[path = "common/load.rs"]
#[expect(dead_code, reason = "the other bench uses the rest")]
mod load;
#[path = "common/redis.rs"]
mod redis;
#[path = "common/report.rs"]
#[expect(dead_code, reason = "the other bench uses the rest")]
mod report;
#[path = "common/server.rs"]
#[expect(dead_code, reason = "the other bench uses the rest")]
mod server;
#[path = "common/users.rs"]
mod users;

use std::{
    env, fs, io,
    os::unix::fs::MetadataExt,
    path::Path,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    thread,
    time::{Duration, Instant},
};

use redb::{StorageBackend, backends::FileBackend};
use tokio::{
    runtime::{self, Runtime},
    task::JoinSet,
};
use watchword::{
    domain::{Store, System},
    store::{self, Embedded, Records, Seal, Settings},
};

use self::{
    load::Load,
    redis::Redis,
    report::{
        Gate::{AtLeast, AtMost},
        Report,
    },
    server::{Server, scratch},
    users::{claim, load_all, world},
};

const REPETITIONS: usize = 6;
const ARM: Duration = Duration::from_secs(3);

/// Registrations that wait at once at the store alone.
const WRITERS: u64 = 64;

const SCALE_USERS: u64 = 1_000_000;

fn main() {
    let asked = |flag: &str| env::args().any(|argument| argument == flag);
    // `cargo test --all-targets` runs this program too, without the flag that `cargo bench` adds.
    if !asked("--bench") {
        return;
    }
    let runtime = runtime::Builder::new_multi_thread().enable_all().build().expect("a runtime can be had");
    let mut report = Report::default();
    measure_rates(&runtime, &mut report);
    measure_commits(&runtime, &mut report);
    if asked("--scale") {
        measure_scale(&runtime, &mut report);
    }
    report.publish("stores");
}

// === rates ===

fn measure_rates(runtime: &Runtime, report: &mut Report) {
    let (folder, redis) = (scratch(), Redis::start());
    let (on_file, on_redis) = (folder.path().join("a"), folder.path().join("b"));
    let embedded = Server::start(&on_file);
    let shared = Server::start_on(&on_redis, &["--store", &redis.url()]);
    let (embedded, shared) = (Load::new(runtime, &embedded), Load::new(runtime, &shared));
    let mut samples: [Vec<f64>; 4] = Default::default();
    for number in 0..=REPETITIONS {
        println!("rates: repetition {number} of {REPETITIONS}");
        let arm = if number == 0 { ARM / 6 } else { ARM };
        let login = embedded.login(arm).rate();
        let login_shared = shared.login(arm).rate();
        let register = embedded.register(arm).rate();
        let register_shared = shared.register(arm).rate();
        let again = embedded.login(arm).rate();
        // The first one warms up.
        if number > 0 {
            let mean = f64::midpoint(login, again);
            for (samples, ratio) in
                samples.iter_mut().zip([again / login, login_shared / mean, register / mean, register_shared / mean])
            {
                samples.push(ratio);
            }
        }
    }
    let [control, login, register, register_shared] = samples;
    report.show("logins/s, embedded / embedded (control)", "", control);
    report.show("logins/s, Redis / embedded", "", login);
    report.gate("registrations/s / logins/s, embedded", "", AtLeast(0.9), register);
    report.gate("registrations/s / logins/s, Redis", "", AtLeast(0.9), register_shared);
}

// === commits ===

/// A file that counts how often it is synced.
#[derive(Debug)]
struct Counted {
    file: FileBackend,
    syncs: Arc<AtomicU64>,
}

impl StorageBackend for Counted {
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

fn measure_commits(runtime: &Runtime, report: &mut Report) {
    let (folder, syncs) = (scratch(), Arc::new(AtomicU64::new(0)));
    let file = fs::File::options().read(true).write(true).create_new(true).open(folder.path().join("counted.redb"));
    let file = FileBackend::new(file.expect("the folder is new")).expect("it is not locked");
    let counted = Counted { file, syncs: syncs.clone() };
    let _runtime = runtime.enter();
    let embedded = Embedded::open_on(counted, Arc::new(System)).expect("a new file can be opened");
    let (mut per_commit, mut rates, mut rates_shared) = (Vec::new(), Vec::new(), Vec::new());
    let embedded: Arc<dyn Store> = Arc::new(Records::over(Arc::new(embedded)));
    let redis = Redis::start();
    let shared = runtime.block_on(redis.open());
    let names = AtomicU64::new(0);
    for number in 1..=REPETITIONS {
        println!("commits: repetition {number} of {REPETITIONS}");
        let before = syncs.load(Ordering::Relaxed);
        let acknowledged = runtime.block_on(claim_for(&embedded, ARM / 2, &names));
        // Two-phase commit: one sync for what is new, one to make it count.
        let commits = (syncs.load(Ordering::Relaxed) - before) as f64 / 2.0;
        per_commit.push(acknowledged as f64 / commits);
        rates.push(acknowledged as f64 / (ARM / 2).as_secs_f64());
        rates_shared.push(runtime.block_on(claim_for(&shared, ARM / 2, &names)) as f64 / (ARM / 2).as_secs_f64());
    }
    report.gate("64 writers, acknowledgements a commit", "", AtLeast(8.0), per_commit);
    let ratios = rates_shared.iter().zip(&rates).map(|(shared, rate)| shared / rate).collect();
    report.show("64 writers, claims/s, Redis / embedded", "", ratios);
    report.show("64 writers, claims/s, embedded", "/s", rates);
}

/// Claims new names, 64 at once, for a while; answers how many.
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

// === scale ===

fn measure_scale(runtime: &Runtime, report: &mut Report) {
    let folder = scratch();
    println!("scale: {SCALE_USERS} users in redb");
    let settings = Settings::Embedded(folder.path().to_owned());
    let store = runtime.block_on(store::open(&settings, Arc::new(Seal::none()), &world())).expect("a new store opens");
    runtime.block_on(load_all(&store, SCALE_USERS));
    runtime.block_on(store.close());
    drop(store);
    let file = fs::metadata(folder.path().join("watchword.redb")).expect("the store is there");
    report.show("1 000 000 users: redb, on disk", "B/user", vec![file.blocks() as f64 * 512.0 / SCALE_USERS as f64]);
    measure_reopening(runtime, folder.path(), report);
    drop(folder);

    println!("scale: {SCALE_USERS} users in Redis");
    let redis = Redis::start();
    let before = redis.info("used_memory");
    let store = runtime.block_on(redis.open());
    runtime.block_on(load_all(&store, SCALE_USERS));
    let memory = (redis.info("used_memory") - before) / SCALE_USERS as f64;
    report.show("1 000 000 users: Redis, memory", "B/user", vec![memory]);
    let log = redis.info("aof_current_size") / SCALE_USERS as f64;
    report.show("1 000 000 users: Redis, append-only file", "B/user", vec![log]);
}

/// Kills a node in the middle of registrations and starts it again.
fn measure_reopening(runtime: &Runtime, folder: &Path, report: &mut Report) {
    let (mut after_kill, mut after_end, mut memory) = (Vec::new(), Vec::new(), Vec::new());
    for _ in 0..10 {
        let server = Server::start(folder);
        let load = Load::new(runtime, &server);
        load.register(Duration::from_millis(200));
        server.kill();
        let begun = Instant::now();
        let server = Server::start(folder);
        after_kill.push(begun.elapsed().as_secs_f64() * 1e3);
        thread::sleep(Duration::from_millis(200));
        memory.push(server.memory_mib("VmRSS:"));
        drop(server);
        let begun = Instant::now();
        drop(Server::start(folder));
        after_end.push(begun.elapsed().as_secs_f64() * 1e3);
    }
    report.gate("1 000 000 users: exec to listening, killed", "ms", AtMost(50.0), after_kill);
    report.show("1 000 000 users: exec to listening and end", "ms", after_end);
    report.show("1 000 000 users: memory then", "MiB", memory);
}
