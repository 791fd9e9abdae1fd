//! The accounts of the test: one kind for each cause of a refusal, with random names and stored hashes.

use std::{
    sync::Arc,
    time::{Duration, SystemTime},
};

use crate::{
    common::files::KEY_BYTES,
    domain::{
        Clock, Entropy, Environment, HashPool, KeptCode, Password, PasswordHash, System, User, UserData, Username,
        password::{Cost, JobSource, Kernel, Md5Hex, Pepper, PoolSettings, Purpose, QueuePermit},
    },
};

/// Random bytes in a name and in a password. All have equal lengths.
pub(super) const NAME_BYTES: usize = 8;
const PASSWORD_BYTES: usize = 12;

/// The kind of an account. No password of any of them is known.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum AccountKind {
    /// A user with a current password hash.
    User,
    /// Another such user.
    Another,
    /// No user has the name.
    Unknown,
    /// A user of the original service, whose MD5 hash is wrapped in Argon2id.
    Md5,
    /// A user who is disabled.
    Disabled,
    /// A user who is locked out after too many failed attempts.
    Locked,
    /// A user who has no password.
    WithoutPassword,
    /// A user with a reset code.
    WithCode,
    /// A user whose password hash needs a pepper key that the node lacks.
    KeyMissing,
    /// Planted: a user whose stored hash has the lowest cost, as if there were no hash.
    NoCost,
    /// Planted: a user whose stored hash costs a twentieth less.
    LessCost,
}

/// Stored hashes of random passwords.
pub(super) struct TestHashes {
    current: PasswordHash,
    md5: PasswordHash,
    key_missing: PasswordHash,
    no_cost: PasswordHash,
    less_cost: PasswordHash,
}

impl TestHashes {
    pub(super) async fn new(cost: Cost, pepper: &Arc<Pepper>) -> Result<Self, String> {
        let other = Pepper::parse(&random_text(KEY_BYTES)).expect("hexadecimal digits are a key");
        let lowest = Cost { memory_kib: 8 * cost.lanes, passes: 1, ..cost };
        // Argon2 rounds memory down to 4 KiB per lane (RFC 9106 section 3.2).
        let lower = Cost { memory_kib: (cost.memory_kib / 20 * 19).max(lowest.memory_kib), ..cost };
        let md5 = Md5Hex::parse(&random_text(16)).expect("32 hexadecimal digits");
        Ok(Self {
            current: hash(cost, pepper).await?,
            key_missing: hash(cost, &Arc::new(other)).await?,
            md5: permit(&pool(cost, pepper))?.wrap_md5(md5).await.map_err(|error| format!("{error:?}"))?,
            no_cost: hash(lowest, pepper).await?,
            less_cost: hash(lower, pepper).await?,
        })
    }

    /// The user of this kind and name, or `None` for an unknown name.
    pub(super) fn user(&self, kind: AccountKind, name: &str, now: SystemTime) -> Option<User> {
        let with = |hash: &PasswordHash| {
            let username = Username::parse(name).expect("letters and digits are a name");
            User::new(username, hash.clone(), UserData::default(), now, (&System as &dyn Entropy).bytes())
        };
        let current = with(&self.current);
        match kind {
            AccountKind::Unknown => None,
            AccountKind::User | AccountKind::Another | AccountKind::Locked => Some(current),
            AccountKind::Md5 => Some(with(&self.md5)),
            AccountKind::Disabled => Some(User { disabled: true, ..current }),
            AccountKind::WithoutPassword => Some(User { password: None, ..current }),
            AccountKind::WithCode => {
                Some(User { reset: Some(KeptCode::unknown(now, (&System as &dyn Entropy).bytes())), ..current })
            }
            AccountKind::KeyMissing => Some(with(&self.key_missing)),
            AccountKind::NoCost => Some(with(&self.no_cost)),
            AccountKind::LessCost => Some(with(&self.less_cost)),
        }
    }
}

async fn hash(cost: Cost, pepper: &Arc<Pepper>) -> Result<PasswordHash, String> {
    let password = Password::parse(random_password()).expect("letters and digits are a password");
    permit(&pool(cost, pepper))?.hash(password).await.map_err(|error| format!("{error:?}"))
}

fn pool(cost: Cost, pepper: &Arc<Pepper>) -> HashPool {
    let environment = Environment { clock: Arc::new(System), entropy: Arc::new(System), observer: Arc::new(()) };
    HashPool::with_pepper(PoolSettings { workers: 1, cost }, pepper.clone(), Kernel::choose(), &environment)
}

fn permit(pool: &HashPool) -> Result<QueuePermit, String> {
    let deadline = System.monotonic() + Duration::from_secs(30);
    pool.admit(JobSource::Node, Purpose::Registration, deadline).map_err(|error| format!("{error:?}"))
}

/// A password that no user has.
pub(super) fn random_password() -> String {
    random_text(PASSWORD_BYTES)
}

/// Random bytes as lower-case hexadecimal digits.
pub(super) fn random_text(bytes: usize) -> String {
    let mut random = vec![0; bytes];
    System.fill(&mut random);
    random.iter().map(|byte| format!("{byte:02x}")).collect()
}
