//! A service with one user, for targets that need more than a parser. Its clock does not move.

use std::{
    sync::{Arc, LazyLock},
    time::{Duration, Instant, SystemTime},
};

use tokio::runtime::{Builder, Runtime};

use crate::{
    domain::{
        Api, Auth, Bearer, CallContext, ChallengeRules, Clock, Credentials, Environment, HashPool, Lifetimes, Names,
        Peer, Policy, Registration, Rules, Sleep, System, TokenSettings, Tokens, Work,
        password::{Blocklist, Cost, Kernel, PoolSettings},
    },
    store::{Memory, TypedStore},
};

/// The username.
pub(super) const NAME: &str = "ada";

/// The service, and the tokens of its user.
pub(super) struct Sample {
    pub(super) auth: Arc<Auth>,
    pub(super) tokens: Tokens,
    /// A call from the node's machine.
    pub(super) context: CallContext,
}

/// A clock that does not move.
#[derive(Debug)]
struct StoppedClock(SystemTime, Instant);

impl Clock for StoppedClock {
    fn now(&self) -> SystemTime {
        self.0
    }

    fn monotonic(&self) -> Instant {
        self.1
    }

    fn sleep(&self, duration: Duration) -> Sleep {
        System.sleep(duration)
    }
}

pub(super) fn environment() -> Environment {
    let clock = StoppedClock(SystemTime::UNIX_EPOCH + Duration::from_secs(1_800_000_000), System.monotonic());
    Environment { clock: Arc::new(clock), entropy: Arc::new(System), observer: Arc::new(()) }
}

/// Runs a future to its end.
pub(super) fn wait<T>(future: impl Future<Output = T>) -> T {
    static RUNTIME: LazyLock<Runtime> =
        LazyLock::new(|| Builder::new_current_thread().enable_time().build().expect("a runtime without sockets"));
    RUNTIME.block_on(future)
}

pub(super) fn authenticate() -> Sample {
    let environment = environment();
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
        client_id: "watchword".into(),
        lifetimes: Lifetimes::default(),
        check_reuse: Duration::ZERO,
        refresh_repeat: Duration::from_secs(600),
    };
    let cost = Cost { memory_kib: 64, passes: 1, lanes: 1 };
    let pool = HashPool::start(PoolSettings { workers: 1, cost }, Kernel::Fast, &environment);
    let store = Arc::new(TypedStore::over(Arc::new(Memory::new(environment.clock.clone()))));
    let context = CallContext {
        api: Api::Grpc,
        peer: Peer::Local { uid: None },
        client: None,
        deadline: environment.clock.monotonic() + Duration::from_secs(60),
        bearer: Bearer::Missing,
        user_agent: String::new(),
    };
    let password = || format!("a password of {NAME}");
    let auth = Arc::new(Auth::new(store, pool, rules, tokens, None, environment));
    let registration =
        Registration::parse(auth.rules(), NAME, password(), String::new(), "", None).expect("a valid registration");
    wait(auth.register(&context, registration)).expect("the username is free");
    let credentials = Credentials::parse(NAME, password(), None).expect("valid credentials");
    let (_, tokens) = wait(auth.login(&context, credentials)).expect("the password is right");
    Sample { auth, tokens, context }
}
