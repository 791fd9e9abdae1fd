//! T11 and T39: a solution is accepted once and before its expiry, on all nodes and after a restart.

use std::{
    sync::Arc,
    time::{Duration, UNIX_EPOCH},
};

use tokio::task::JoinSet;
use watchword::{api::pb, domain::Clock};

use super::{LOGIN, REGISTER, challenge, encoded, is_invalid, payload, solution, solved, with_challenges};
use crate::{
    store::copy::copy,
    support::{
        Answer, Api, App, ManualClock, StoreKind, TestStore,
        fault::{Fault, Faulty},
        password, reason,
    },
};

const RACERS: usize = 64;

#[tokio::test]
async fn challenge_is_valid_until_its_expiry_time_and_not_at_it() {
    for kind in [StoreKind::Memory, StoreKind::Embedded] {
        let app = with_challenges(kind).start().await;
        for (seconds, is_valid) in [(-1, true), (0, false), (1, false)] {
            let challenge = challenge(&app, REGISTER).await;
            let expires_at = challenge.parameters.expires_at.unwrap();
            let proof = encoded(&payload(&challenge, &solved(&challenge)));
            let then = UNIX_EPOCH + Duration::from_secs((expires_at + seconds).try_into().unwrap());
            app.clock.advance(then.duration_since(app.clock.now()).unwrap());
            let name = format!("ada{seconds}");
            let answer = Api::Grpc.register_with(&app, &name, &password(&name), "", &proof).await;
            assert_eq!((answer.outcome() == "ok", is_invalid(&answer)), (is_valid, !is_valid), "{kind:?} {seconds}");
        }
        assert_eq!(app.events.count("expired"), 2);
    }
}

#[tokio::test]
async fn challenge_created_before_midnight_is_valid_after_midnight() {
    const DAY: u64 = 86_400;
    let clock = ManualClock::default();
    let now = clock.now().duration_since(UNIX_EPOCH).unwrap();
    clock.advance_wall(Duration::from_secs((now.as_secs() / DAY + 1) * DAY - 60) - now);
    let app = with_challenges(StoreKind::Memory).clock(clock).start().await;
    let proof = solution(&app, REGISTER).await;
    app.clock.advance(Duration::from_secs(120));
    assert_eq!(Api::Grpc.register_with(&app, "ada", &password("ada"), "", &proof).await.outcome(), "ok");
}

#[tokio::test]
async fn challenge_that_was_created_while_the_clock_was_a_year_ahead_is_expired() {
    let year = Duration::from_secs(365 * 86_400);
    for kind in [StoreKind::Memory, StoreKind::Embedded] {
        let app = with_challenges(kind).start().await;
        // The key of a day of next year is not asked for; an hour ahead it may be.
        for ahead in [year, Duration::from_secs(3_600)] {
            app.clock.advance_wall(ahead);
            let proof = solution(&app, REGISTER).await;
            app.clock.set_back(ahead);
            let answer = Api::Grpc.register_with(&app, "ada", &password("ada"), "", &proof).await;
            assert!(is_invalid(&answer), "{kind:?}: {answer:?}");
        }
    }
}

/// 64 registrations with one solution, distributed over nodes and APIs. Returns how many succeeded.
async fn race(nodes: &Arc<Vec<App>>, proof: &str, round: usize) -> usize {
    let mut racers = JoinSet::new();
    for racer in 0..RACERS {
        let (nodes, proof) = (nodes.clone(), proof.to_owned());
        racers.spawn(async move {
            let (node, api) = (&nodes[racer % nodes.len()], Api::ALL[racer / 2 % 2]);
            let name = format!("racer-{round}-{racer}");
            let answer = api.register_with(node, &name, &password(&name), "", &proof).await;
            assert!(answer.outcome() == "ok" || is_invalid(&answer), "{answer:?}");
            usize::from(answer.outcome() == "ok")
        });
    }
    racers.join_all().await.into_iter().sum()
}

/// T11 and T39: one solution is accepted once.
#[tokio::test(flavor = "multi_thread")]
async fn concurrent_uses_of_one_solution_have_one_winner_and_none_after_a_restart() {
    for (kind, nodes) in [(StoreKind::Memory, 1), (StoreKind::Embedded, 1), (StoreKind::Redis, 2)] {
        let place = TestStore::new(kind);
        let start = async || {
            let mut started = Vec::new();
            for _ in 0..nodes {
                // As many workers as racers, so that no node is overloaded.
                let node = with_challenges(kind).change(|config| config.hashing.workers = RACERS);
                started.push(node.start_in(place.clone()).await);
            }
            Arc::new(started)
        };
        let running = start().await;
        let proof = solution(&running[0], REGISTER).await;
        assert_eq!(race(&running, &proof, 0).await, 1, "{kind:?}");
        for event in ["challenge spent", "challenge checked", "challenge accepted"] {
            assert_eq!(running.iter().map(|node| node.events.count(event)).sum::<usize>(), 1, "{kind:?} {event}");
        }
        if kind == StoreKind::Memory {
            continue;
        }
        for node in Arc::into_inner(running).expect("the racers have ended") {
            node.stopped().await;
        }
        let restarted = start().await;
        assert_eq!(race(&restarted, &proof, 1).await, 0, "{kind:?}: after a restart");
    }
}

/// The control of T39: a store that forgets spent challenges accepts one solution several times.
#[tokio::test(flavor = "multi_thread")]
async fn control_store_that_forgets_spent_challenges_accepts_one_several_times() {
    let app = App::on(Faulty::with(Fault::SpendsAgain)).args(&["--challenge", "both"]);
    let nodes = Arc::new(vec![app.change(|config| config.hashing.workers = RACERS).start().await]);
    let proof = solution(&nodes[0], REGISTER).await;
    let successes = race(&nodes, &proof, 0).await;
    assert!(successes > 1, "the control accepted the solution {successes} times");
}

#[tokio::test]
async fn solution_is_refused_while_the_store_cannot_confirm_its_use() {
    let faulty = Faulty::with(Fault::None);
    let app = App::on(faulty.clone()).args(&["--challenge", "both"]).start().await;
    for (fault, grpc, http, is_valid_later) in [
        (Fault::Down, "STORE_UNAVAILABLE", 503, true),
        // The store made the write, so a repeated solution is already spent.
        (Fault::ReplyLost, "OUTCOME_UNKNOWN", 500, false),
    ] {
        for api in Api::ALL {
            let (name, proof) = (format!("{fault:?}-{api:?}"), solution(&app, REGISTER).await);
            let checked = app.events.count("challenge checked");
            faulty.set(fault);
            match api.register_with(&app, &name, &password(&name), "", &proof).await {
                Answer::Grpc(status) => assert_eq!(reason(&status), grpc),
                Answer::Http { status, text, .. } => assert_eq!(status, http, "{text}"),
                Answer::Ok { .. } => panic!("{fault:?}: accepted"),
            }
            assert_eq!(app.events.count("challenge checked"), checked, "a key was derived although the store failed");
            faulty.set(Fault::None);
            let later = api.register_with(&app, &name, &password(&name), "", &proof).await;
            assert_eq!(later.outcome() == "ok", is_valid_later, "{fault:?} {api:?}: {later:?}");
        }
    }
}

#[tokio::test]
async fn challenge_spent_in_one_store_is_spent_in_its_copy() {
    let (embedded, redis) = (TestStore::new(StoreKind::Embedded), TestStore::new(StoreKind::Redis));
    let node = |kind| with_challenges(kind).args(&["--token-issuer", "https://auth.example"]);
    let app = node(StoreKind::Embedded).start_in(embedded.clone()).await;
    let (spent, fresh) = (solution(&app, REGISTER).await, solution(&app, REGISTER).await);
    assert_eq!(Api::Grpc.register_with(&app, "ada", &password("ada"), "", &spent).await.outcome(), "ok");
    app.stopped().await;
    let (code, out, err) = copy(&embedded, &redis);
    assert_eq!(code, 0, "{out}{err}");
    let app = node(StoreKind::Redis).start_in(redis).await;
    assert!(is_invalid(&Api::Grpc.register_with(&app, "eve", &password("eve"), "", &spent).await));
    let answer = Api::Grpc.register_with(&app, "bob", &password("bob"), "", &fresh).await;
    assert_eq!(answer.outcome(), "ok", "the challenge keys are copied");
}

/// A client could otherwise have any number of challenges spent, each a write of the store, without a trace.
#[tokio::test(flavor = "multi_thread")]
async fn solution_whose_caller_leaves_while_it_is_checked_counts_at_the_address() {
    let store = Faulty::with(Fault::None);
    let limits = ["--throttle", "on", "--client-address", "peer", "--throttle-attempts-per-address", "3/1m"];
    let app = App::on(store.clone()).args(&limits).start().await;
    let mut proofs = Vec::new();
    for _ in 0..3 {
        proofs.push(solution(&app, LOGIN).await);
    }
    for proof in proofs {
        let ended = app.events.count("call ended");
        store.set(Fault::Hangs);
        let entered = store.clone().entered();
        let mut client = app.client().await;
        let request = pb::LoginRequest { username: "ada".into(), password: password("ada"), challenge_solution: proof };
        let call = tokio::spawn(async move { client.login(request).await });
        entered.await;
        call.abort();
        app.events.reached("call ended", ended + 1).await;
        store.set(Fault::None);
    }
    let answer = Api::Grpc.login(&app, "ada", &password("ada")).await;
    assert_eq!(answer.outcome(), "RATE_LIMITED");
}
