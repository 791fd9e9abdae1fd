//! PHC strings: an accepted hash is within the bounds, is written back unchanged, and can be verified.

use std::{
    sync::{Arc, LazyLock},
    time::Duration,
};

use super::{sample, texts};
use crate::domain::{
    Clock, Password, PasswordHash,
    password::{Cost, HashPool, JobSource, Kernel, PoolSettings, Purpose},
};

/// The cost, in KiB times passes, up to which a hash is also verified. Higher ones only take longer.
const VERIFIED_WORK_MAX: u64 = 512;

pub(super) fn seeds() -> Vec<Vec<u8>> {
    let texts_of_cost = |cost: &str| {
        let salt_and_tag = "AAECAwQFBgcICQoLDA0ODw$AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8";
        format!("$argon2id$v=19${cost}${salt_and_tag}").into_bytes()
    };
    let mut seeds: Vec<_> = [
        "m=19456,t=2,p=1",
        "m=64,t=1,p=1",
        "p=2,t=3,m=64",
        "m=262144,t=16,p=16",
        "m=4194304,t=1,p=1",
        "m=64,t=1,p=1,data=AAAA",
        "m=64,t=1,p=1,keyid=00c0ffee",
        "m=64,m=64,t=1,p=1",
        "m=8,t=1,p=01",
    ]
    .map(texts_of_cost)
    .into();
    seeds.extend(texts(&[
        "$argon2id-md5$v=19$m=64,t=1,p=1$AAECAwQFBgcICQoLDA0ODw$AAECAwQFBgcICQ",
        "$argon2id$v=19$m=64,t=1,p=1$AAECAwQFBgc$AAECAwQFBgcICQ",
        "$argon2id$m=64,t=1,p=1$AAECAwQFBgc$AAECAwQFBgcICQ",
        "$argon2i$v=16$m=64,t=1,p=1$AAECAwQFBgc$$",
        "$2b$12$abcdefghijklmnopqrstuv",
    ]));
    seeds
}

pub(super) fn try_input(input: &[u8]) {
    let Ok(text) = std::str::from_utf8(input) else { return };
    let Ok(hash) = PasswordHash::parse(text) else { return };
    let written = hash.to_phc();
    let again = PasswordHash::parse(&written).expect("a written hash parses");
    assert!(again == hash && again.to_phc() == written, "{written} is another hash than {text}");
    assert!(written.len() <= 256, "{} bytes", written.len());

    let [memory_kib, passes, lanes] = ["m", "t", "p"].map(|name| parameter(&written, name));
    assert!((8 * lanes..=256 * 1_024).contains(&memory_kib), "{memory_kib} KiB");
    assert!((1..=16).contains(&passes) && (1..=16).contains(&lanes), "{passes} passes, {lanes} lanes");
    if memory_kib * passes <= VERIFIED_WORK_MAX {
        assert!(!verifies(hash), "a random tag matches a password");
    }
}

fn parameter(phc: &str, name: &str) -> u64 {
    let mut values = phc.split(['$', ',']).filter_map(|part| part.strip_prefix(name)?.strip_prefix('='));
    values.next().and_then(|value| value.parse().ok()).expect("the parameter is present")
}

/// Verifies a password, as a login does. Panics if the hash cannot be computed.
fn verifies(hash: PasswordHash) -> bool {
    static POOL: LazyLock<(HashPool, Arc<dyn Clock>)> = LazyLock::new(|| {
        let environment = sample::environment();
        (
            HashPool::start(PoolSettings { workers: 1, cost: Cost::DEFAULT }, Kernel::Fast, &environment),
            environment.clock,
        )
    });
    let (pool, clock) = &*POOL;
    sample::wait(async {
        let permit = pool.admit(JobSource::Node, Purpose::Account, clock.monotonic() + Duration::from_secs(60));
        let password = Password::parse("a password".into()).expect("a password");
        permit.expect("the queue is empty").verify(password, hash).await.expect("an accepted hash can be verified")
    })
}
