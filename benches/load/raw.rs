//! Hashes without a service: the maximum rate of the machine.

use std::{
    hint, thread,
    time::{Duration, Instant},
};

use rustix::process::setpriority_process;
use watchword::{common::host, domain::password::Cost};

/// The priority of the server's hash workers, so that other processes of the machine affect both equally.
const NICENESS: i32 = 10;

const PASSWORD: &[u8] = crate::calls::PASSWORD.as_bytes();
pub(crate) const SALT: &[u8] = b"sixteen bytes...";

pub(crate) type Tag = [u8; 32];

/// The service's kernel, used as in a worker of its hash pool: one arena for all hashes.
pub(crate) fn pooled() -> impl FnMut(&mut Tag) + Send {
    use argon2_rust::{Algorithm, Argon2, Params, Version, params::Memory};
    let Cost { memory_kib, passes, lanes } = Cost::DEFAULT;
    let params = Params::builder().memory(Memory::kib(memory_kib.into())).passes(passes).lanes(lanes).threads(1);
    let params = params.build().expect("the default is valid");
    let mut hasher = Argon2::new(Algorithm::Argon2id, Version::V0x13, params).hasher();
    move |tag| hasher.hash_into(PASSWORD, SALT, tag).expect("the default is valid")
}

/// The `argon2` crate, used as in its own example: new memory for each hash.
pub(crate) fn one_shot() -> impl FnMut(&mut Tag) + Send {
    use argon2::{Algorithm, Argon2, Params, Version};
    let Cost { memory_kib, passes, lanes } = Cost::DEFAULT;
    let params = Params::new(memory_kib, passes, lanes, None).expect("the default is valid");
    let argon2 = Argon2::new(Algorithm::Argon2id, Version::V0x13, params);
    move |tag| argon2.hash_password_into(PASSWORD, SALT, tag).expect("the default is valid")
}

/// One worker for each core.
pub(crate) fn workers<W>(new: fn() -> W) -> Vec<W> {
    (0..host::cores()).map(|_| new()).collect()
}

pub(crate) fn tag_of(hash: &mut impl FnMut(&mut Tag)) -> Tag {
    let mut tag = Tag::default();
    hash(&mut tag);
    tag
}

/// Hashes per second of all workers together, each on a separate thread.
pub(crate) fn on_all_cores(workers: &mut [impl FnMut(&mut Tag) + Send], time: Duration) -> f64 {
    thread::scope(|scope| {
        let threads: Vec<_> = workers.iter_mut().map(|hash| scope.spawn(move || rate(hash, time))).collect();
        threads.into_iter().map(|thread| thread.join().expect("a hash does not panic")).sum()
    })
}

fn rate(hash: &mut impl FnMut(&mut Tag), time: Duration) -> f64 {
    // Sets the priority of this thread only.
    setpriority_process(None, NICENESS).expect("a lower priority is never refused");
    let start = Instant::now();
    let mut hashes = 0_u32;
    while start.elapsed() < time {
        hint::black_box(tag_of(hash));
        hashes += 1;
    }
    f64::from(hashes) / start.elapsed().as_secs_f64()
}
