//! T9: while a hundred addresses attack an account, its user logs in and recovers it, and waits two seconds at most.
//!
//! The long form has the numbers of T9, the default cost of a hash, and the limit on the time; it prints the times.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use tokio::{
    task::JoinSet,
    time::{MissedTickBehavior, interval},
};
use watchword::{
    api::pb,
    domain::{Clock, System, Work, password::Cost},
};

use super::proof_of_work::{challenge_for, solution_of};
use crate::support::{App, CHEAP, ManualClock, Reply, StoreKind, http_from, is_full, password, query};

/// The addresses of the attacker, and how often each attempts at least.
const ATTACKERS: u8 = 100;
const ATTEMPTS_MIN: usize = 10;

/// The time between two attempts from one address: 500 attempts a second from all.
const ATTEMPT_INTERVAL: Duration = Duration::from_millis(200);

/// What the account's limit admits from addresses that are not familiar.
const VERIFIED_MAX: usize = 10;

/// The 95th percentile of what the user waits.
const WAIT_P95_MAX: Duration = Duration::from_secs(2);

const FAMILIAR: [u8; 4] = [127, 9, 9, 9];

async fn login(app: &App, from: [u8; 4], password: &str, solution: &str) -> Reply {
    let target = format!("/login?{}", query(&[("username", "victim"), ("password", password), ("altcha", solution)]));
    http_from(from, app.http_socket(), "GET", &target).await
}

/// A login of the user, and how long it took.
async fn login_of_the_user(app: &App, from: [u8; 4], password: &str, solution: &str) -> Duration {
    let began = System.monotonic();
    let reply = login(app, from, password, solution).await;
    assert_eq!((reply.status, reply.body.as_str()), (200, "data of victim"), "from {from:?}");
    System.monotonic() - began
}

/// Attempts from all addresses of the attacker, until stopped. Each task returns how many.
fn attack(app: &Arc<App>, stop: &Arc<AtomicBool>) -> JoinSet<usize> {
    let mut attack = JoinSet::new();
    for attacker in 1..=ATTACKERS {
        let (app, stop) = (app.clone(), stop.clone());
        attack.spawn(async move {
            let (mut attempts, mut pace) = (0, interval(ATTEMPT_INTERVAL));
            pace.set_missed_tick_behavior(MissedTickBehavior::Delay);
            while attempts < ATTEMPTS_MIN || !stop.load(Ordering::Relaxed) {
                pace.tick().await;
                let reply = login(&app, [127, 1, 1, attacker], "a wrong password", "").await;
                assert_ne!(reply.body, "data of victim");
                attempts += 1;
            }
            attempts
        });
    }
    attack
}

/// The time that 95 of 100 took at most, printed. The long form has a limit on it.
#[expect(clippy::print_stdout, reason = "`-- --nocapture` shows the figures")]
fn check_times(what: &str, mut times: Vec<Duration>) {
    times.sort();
    let p95 = times[(times.len() * 95).div_ceil(100) - 1];
    println!("T9, {what}: all {}, p95 {p95:?}, longest {:?}", times.len(), times[times.len() - 1]);
    assert!(!is_full() || p95 <= WAIT_P95_MAX, "{what}: p95 {p95:?}");
}

/// New passwords, each by a code that an operator creates. Returns how long the user waited for each.
async fn resets(app: &App, count: usize) -> Vec<Duration> {
    let mut times = Vec::new();
    for number in 0..count {
        let request = pb::CreatePasswordResetCodeRequest { username: "victim".into(), require_reset: false };
        let code = app.admin().await.create_password_reset_code(request).await.unwrap().into_inner().reset_code;
        let new_password = format!("a new password, number {number}");
        let request = pb::ResetPasswordRequest { username: "victim".into(), reset_code: code, new_password };
        let began = System.monotonic();
        app.client().await.reset_password(request).await.unwrap();
        times.push(System.monotonic() - began);
    }
    times
}

#[tokio::test(flavor = "multi_thread")]
async fn attacked_user_logs_in_and_resets_the_password_in_two_seconds() {
    let (logins, cost) = if is_full() { (100, Cost::DEFAULT) } else { (5, CHEAP) };
    for kind in StoreKind::DURABLE {
        let setup = App::with(kind).args(&["--throttle", "on"]).with_admin().clock(ManualClock::stopped());
        let setup = setup.change(move |config| {
            config.hashing.cost = cost;
            // A check costs the node what it costs by default, one key. Only the solver has less to do.
            config.rules.challenges.work = Work { key_prefix: "0", ..Work::DEFAULT };
        });
        let app = Arc::new(setup.start().await);
        app.registered("victim").await;
        login_of_the_user(&app, FAMILIAR, &password("victim"), "").await;
        let stop = Arc::new(AtomicBool::new(false));
        let attack = attack(&app, &stop);
        let (mut familiar, mut proven) = (Vec::new(), Vec::new());
        for _ in 0..logins {
            familiar.push(login_of_the_user(&app, FAMILIAR, &password("victim"), "").await);
        }
        for number in 0..logins {
            let solution = solution_of(&challenge_for(&app, "victim").await);
            let elsewhere = [127, 5, 5, number + 1];
            proven.push(login_of_the_user(&app, elsewhere, &password("victim"), &solution).await);
        }
        app.events.reached("wrong password", VERIFIED_MAX).await;
        assert_eq!(app.events.count("wrong password"), VERIFIED_MAX, "{kind:?}");
        // The control: the limit of the account refuses the right password from elsewhere.
        assert_eq!(login(&app, [127, 8, 8, 8], &password("victim"), "").await.status, 429, "{kind:?}");
        // Each new password forgets the failed attempts, so the attacker has ten more.
        let resets = resets(&app, usize::from(logins)).await;
        stop.store(true, Ordering::Relaxed);
        let attempts: usize = attack.join_all().await.iter().sum();
        assert!(attempts >= usize::from(ATTACKERS) * ATTEMPTS_MIN);
        check_times(&format!("{kind:?}, {attempts} attempts: logins from a familiar address"), familiar);
        check_times(&format!("{kind:?}: logins with proof of work"), proven);
        check_times(&format!("{kind:?}: resets"), resets);
    }
}
