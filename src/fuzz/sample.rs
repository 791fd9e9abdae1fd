//! A service with one user in it, for targets that need more than a parser. Its time stands still.

use std::{
    sync::{Arc, LazyLock},
    time::{Duration, Instant, SystemTime},
};

use tokio::runtime::{Builder, Runtime};

use crate::{
    domain::{
        Attempt, Auth, Bearer, Caller, ChallengeRules, Clock, Door, HashPool, Lifetimes, Names, Peer, Policy,
        Registration, Rules, System, TokenSettings, Tokens, Work, World,
        password::{Blocklist, Cost, Kernel, PoolSettings},
    },
    store::{Memory, Records},
};

/// The user.
pub(super) const NAME: &str = "ada";

/// The service, and what its user got.
pub(super) struct SignedIn {
    pub(super) auth: Arc<Auth>,
    pub(super) tokens: Tokens,
}

/// A clock that always shows the same.
#[derive(Debug)]
struct Stopped(SystemTime, Instant);

impl Clock for Stopped {
    fn now(&self) -> SystemTime {
        self.0
    }

    fn monotonic(&self) -> Instant {
        self.1
    }
}

pub(super) fn world() -> World {
    let clock = Stopped(SystemTime::UNIX_EPOCH + Duration::from_secs(1_800_000_000), System.monotonic());
    World { clock: Arc::new(clock), entropy: Arc::new(System), observer: Arc::new(()) }
}

/// Waits for what nothing else has to run for.
pub(super) fn wait<T>(answer: impl Future<Output = T>) -> T {
    static RUNTIME: LazyLock<Runtime> =
        LazyLock::new(|| Builder::new_current_thread().enable_time().build().expect("a runtime without sockets"));
    RUNTIME.block_on(answer)
}

pub(super) fn signed_in() -> SignedIn {
    let world = world();
    let rules = Rules {
        password_policy: Policy {
            chars_min: 8,
            blocklist: Arc::new(Blocklist::default()),
            context_words: Arc::new([]),
        },
        data_bytes_max: 8_192,
        challenges: ChallengeRules { register: false, login: false, work: Work::DEFAULT },
    };
    let tokens = TokenSettings {
        names: Names { issuer: "http://127.0.0.1:5000".into(), audience: "watchword".into() },
        lifetimes: Lifetimes::default(),
        check_reuse: Duration::ZERO,
    };
    let cost = Cost { memory_kib: 64, passes: 1, lanes: 1 };
    let pool = HashPool::start(PoolSettings { workers: 1, cost }, Kernel::Fast, &world);
    let store = Arc::new(Records::over(Arc::new(Memory::new(world.clock.clone()))));
    let caller = Caller {
        door: Door::Grpc,
        peer: Peer::Local { uid: None },
        client: None,
        deadline: world.clock.monotonic() + Duration::from_secs(60),
        bearer: Bearer::Missing,
        user_agent: String::new(),
    };
    let password = || format!("a password of {NAME}");
    let auth = Arc::new(Auth::new(store, pool, rules, tokens, None, world));
    let wanted = Registration::parse(auth.rules(), NAME, password(), String::new(), "").expect("a good registration");
    wait(auth.register(&caller, wanted)).expect("nobody else is there");
    let attempt = Attempt::parse(NAME, password()).expect("a good login");
    let (_, tokens) = wait(auth.login(&caller, attempt)).expect("the password is right");
    SignedIn { auth, tokens }
}
