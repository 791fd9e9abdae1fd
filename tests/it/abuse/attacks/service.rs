//! The service under attack: its nodes, the store that they share, the clock that the simulation moves, and its calls.

use std::{
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::{Duration, SystemTime},
};

use altcha::Challenge;
use tonic::{Request, Status, transport::Channel};
use watchword::{
    api::pb::{self, auth_client::AuthClient},
    domain::{Clock, Work},
    store::{Kind, ScanPages},
};

use super::attack::Attack;
use crate::support::{
    App, ManualClock, all_but_this,
    fault::{Fault, Faulty},
    forwarded_for, password, reason, with_bearer,
};

/// The basic work in the simulation. It takes no time, and each doubling doubles it as it does the real one.
const BASIC_WORK: Work = Work { cost: 2, key_prefix: "" };

/// Failed attempts of all callers in a minute that raise an alert, by default.
const FAILURE_ALERT: u32 = 1_000;

/// The nodes. Each call goes to the next one.
pub struct Service {
    nodes: Vec<App>,
    clients: Vec<AuthClient<Channel>>,
    store: Arc<Faulty>,
    clock: Arc<ManualClock>,
    calls: AtomicUsize,
    /// Answers that say whether the password was right.
    verified: AtomicUsize,
}

/// One login.
#[derive(Clone, Copy)]
pub struct Login<'a> {
    /// The address of the client, where the server knows it.
    pub from: Option<&'a str>,
    pub username: &'a str,
    pub password: &'a str,
    /// Of a challenge, or empty.
    pub solution: &'a str,
}

/// The answer to a login.
pub enum Answer {
    LoggedIn(Box<pb::Tokens>),
    /// The password was verified, and it is wrong.
    Wrong,
    /// The password was not verified.
    Refused(Status),
}

/// A challenge that is not solved yet.
#[derive(Clone)]
pub struct UnsolvedChallenge {
    pub challenge: Challenge,
    /// How many times the basic work it takes.
    pub works: u64,
    expire_time: SystemTime,
}

impl Service {
    /// Starts the nodes.
    pub async fn start(attack: &Attack) -> Self {
        let clock = Arc::new(ManualClock::simulated());
        let store = Faulty::with_clock(Fault::None, clock.clone());
        let addresses = match (attack.home)(0) {
            Some(_) => ["--trusted-proxy", "127.0.0.1"],
            None => ["--client-address", "none"],
        };
        let alert = format!("{}/1m", FAILURE_ALERT / attack.scale);
        let args = ["--throttle", attack.throttle, "--failure-alert", &alert, "--token-issuer", "https://auth.example"];
        let (mut nodes, mut clients) = (Vec::new(), Vec::new());
        for _ in 0..attack.nodes {
            let node = App::on(store.clone()).args(&args).args(&addresses).clock(clock.clone()).change(|config| {
                config.rules.challenges.work = BASIC_WORK;
                // The calls of an hour come within seconds.
                config.limits.refusals_per_second = 1_000_000;
            });
            let node = node.start().await;
            clients.push(node.client().await);
            nodes.push(node);
        }
        Self { nodes, clients, store, clock, calls: AtomicUsize::new(0), verified: AtomicUsize::new(0) }
    }

    fn client(&self) -> AuthClient<Channel> {
        let call = self.calls.fetch_add(1, Ordering::Relaxed);
        self.clients[call % self.clients.len()].clone()
    }

    /// Registers a user with the password [`password`].
    pub async fn register(&self, from: Option<&str>, username: &str) {
        let request = pb::RegisterRequest {
            username: username.into(),
            password: password(username),
            ..pb::RegisterRequest::default()
        };
        self.client().register(request_from(from, request)).await.unwrap();
        self.verified.fetch_add(1, Ordering::Relaxed);
    }

    pub async fn login(&self, login: Login<'_>) -> Answer {
        let request = pb::LoginRequest {
            username: login.username.into(),
            password: login.password.into(),
            challenge_solution: login.solution.into(),
        };
        let answer = match self.client().login(request_from(login.from, request)).await {
            Ok(response) => Answer::LoggedIn(Box::new(response.into_inner().tokens.unwrap())),
            Err(status) if reason(&status) == "INVALID_CREDENTIALS" => Answer::Wrong,
            Err(status) => Answer::Refused(status),
        };
        if !matches!(answer, Answer::Refused(_)) {
            self.verified.fetch_add(1, Ordering::Relaxed);
        }
        answer
    }

    /// Refreshes a session and shows the password in it.
    pub async fn use_session(&self, from: Option<&str>, tokens: &pb::Tokens, name: &str) -> Result<pb::Tokens, Status> {
        let refresh =
            pb::RefreshTokenRequest { refresh_token: tokens.refresh_token.clone(), request_id: String::new() };
        let refreshed = self.client().refresh_token(request_from(from, refresh)).await?;
        let tokens = refreshed.into_inner().tokens.unwrap();
        let mut request = request_from(from, all_but_this(name));
        let bearer = with_bearer(&tokens.access_token, ()).into_parts().0;
        request.metadata_mut().insert("authorization", bearer.get("authorization").unwrap().clone());
        self.client().revoke_all_sessions(request).await?;
        self.verified.fetch_add(1, Ordering::Relaxed);
        Ok(tokens)
    }

    /// A challenge for a login of this username, or of any.
    pub async fn challenge(&self, username: &str) -> UnsolvedChallenge {
        let purpose = pb::ChallengePurpose::Login.into();
        let request = pb::CreateChallengeRequest { purpose, username: username.into() };
        let created = self.client().create_challenge(request).await.unwrap().into_inner();
        let challenge: Challenge = serde_json::from_str(&created.challenge).unwrap();
        let rounds = u64::from(challenge.parameters.cost) << (4 * challenge.parameters.key_prefix.len());
        let works = rounds / u64::from(BASIC_WORK.cost);
        UnsolvedChallenge { challenge, works, expire_time: created.expire_time.unwrap().try_into().unwrap() }
    }

    /// Whether a solution of this challenge is still accepted.
    pub fn is_valid(&self, challenge: &UnsolvedChallenge) -> bool {
        self.clock.now() < challenge.expire_time
    }

    /// Ends a second: only then are failed attempts stored, whatever the time of the machine is.
    pub async fn end_second(&self) {
        self.store.set(Fault::None);
        for node in &self.nodes {
            node.rules.store_failed_attempts().await;
        }
        self.store.set(Fault::NoFailures);
        self.clock.advance(Duration::from_secs(1));
    }

    /// How many records of failed attempts the store has, and their bytes.
    pub async fn failure_records(&self) -> (usize, usize) {
        let mut pages = ScanPages::new(&*self.store, Some(Kind::FailedAttempts));
        let (mut count, mut bytes) = (0, 0);
        while let Some(page) = pages.next().await.unwrap() {
            count += page.len();
            bytes += page.iter().map(|document| document.key.name.len() + document.bytes.len()).sum::<usize>();
        }
        (count, bytes)
    }

    /// No attempt that was refused cost a hash, and none that was verified was locked out.
    pub fn assert_verified_attempts_are_the_hashes(&self) {
        let count = |event| self.nodes.iter().map(|node| node.events.count(event)).sum::<usize>();
        assert_eq!(count("hashed"), self.verified.load(Ordering::Relaxed));
        assert_eq!(count("locked"), 0);
    }
}

fn request_from<T>(address: Option<&str>, message: T) -> Request<T> {
    match address {
        Some(address) => forwarded_for(address, message),
        None => Request::new(message),
    }
}
