//! `watchword copy`: a user base moves to another store, whole or not at all, and as often as one likes.

use std::time::Duration;

use tempfile::TempDir;
use watchword::{
    domain::{Claim, Clock, Replace, Store, System, User},
    store::{TypedStore, copy_documents},
};

use crate::{
    store::contract::user,
    support::{Api, App, StoreKind, TestStore, password, run},
};

/// Runs the command between two places; both use the folder of the embedded one.
pub fn copy(from: &TestStore, to: &TestStore) -> (i32, String, String) {
    let (mut args, to) = (from.flags(), to.flags());
    args[0] = "--from".into();
    args.extend(["--to".into(), to[1].clone()]);
    if from.kind != StoreKind::Embedded {
        args[3] = to[3].clone();
    }
    run(&["copy"].into_iter().chain(args.iter().map(String::as_str)).collect::<Vec<_>>())
}

/// Registers some users in a place: more than one page of them.
async fn filled(place: &TestStore, users: usize) {
    let store = place.open().await;
    for number in 0..users {
        let wanted = user(&format!("user{number:04}"));
        assert!(matches!(store.claim(&wanted).await.unwrap(), Claim::Claimed));
    }
    store.close().await;
}

#[tokio::test]
async fn users_move_to_redis_and_back_and_still_log_in() {
    let (embedded, redis, back) =
        (TestStore::new(StoreKind::Embedded), TestStore::new(StoreKind::Redis), TestStore::new(StoreKind::Embedded));
    let mut app = App::with(StoreKind::Embedded).start_in(embedded.clone()).await;
    for name in ["ada", "日本", "a*b[c]?"] {
        app.registered(name).await;
    }
    app.stop();
    app.ended().await;
    filled(&embedded, 1_100).await;

    let (code, out, err) = copy(&embedded, &redis);
    assert_eq!(code, 0, "{out}{err}");
    assert!(out.contains("1103 users in 2206 documents, 2206 of them new"), "{out}");
    let checksum = out.lines().find(|line| line.starts_with("checksum ")).unwrap().to_owned();
    assert_eq!(redis.redis().ask::<usize>(&["DBSIZE"]), 2_206);
    assert_eq!(redis.stored_user("user0042"), embedded.stored_user("user0042"), "byte for byte");

    let (code, out, err) = copy(&embedded, &redis);
    assert_eq!(code, 0, "safe to repeat: {out}{err}");
    assert!(out.contains("2206 documents, 0 of them new") && out.contains(&checksum), "{out}");

    let (code, out, err) = copy(&redis, &back);
    assert_eq!(code, 0, "{out}{err}");
    let args = back.flags();
    let args: Vec<_> = ["check-config"].into_iter().chain(args.iter().map(String::as_str)).collect();
    assert!(run(&args).1.contains("is whole"), "the file was closed");
    assert!(out.contains("2206 of them new") && out.contains(&checksum), "the same users: {out}");

    for place in [redis, back] {
        let app = App::with(place.kind).start_in(place).await;
        for name in ["ada", "日本", "a*b[c]?"] {
            assert_eq!(Api::Grpc.login(&app, name, &password(name)).await.data(), format!("data of {name}"));
        }
    }
}

/// Every pair of stores, without the command line.
#[tokio::test]
async fn documents_are_the_same_after_a_copy_between_any_two_stores() {
    let mut checksums = Vec::new();
    let now = System.now();
    let soon = now + Duration::from_secs(300);
    let first = TestStore::new(StoreKind::Memory);
    let mut source = first.open_documents().await;
    let filling = TypedStore::over(source.clone());
    for number in 0..600 {
        let wanted = user(&format!("user{number:04}"));
        assert!(matches!(filling.claim(&wanted).await.unwrap(), Claim::Claimed));
        assert!(filling.spend(&[u8::try_from(number % 256).unwrap(); 32], soon).await.unwrap() == (number < 256));
    }
    let mut places = vec![first];
    for kind in [StoreKind::Embedded, StoreKind::Redis, StoreKind::Memory, StoreKind::Redis, StoreKind::Embedded] {
        let place = TestStore::new(kind);
        let target = place.open_documents().await;
        for new in [1_200, 0] {
            let report = copy_documents(source.clone(), target.clone(), now).await.unwrap();
            assert!(report.is_whole(), "{kind:?}: {report}");
            let text = report.to_string();
            assert!(text.contains(&format!("600 users in 1200 documents, {new} of them new")), "{kind:?}: {text}");
            checksums.extend(text.lines().find(|line| line.starts_with("checksum ")).map(str::to_owned));
        }
        source.close().await;
        source = target;
        places.push(place);
    }
    checksums.dedup();
    assert_eq!(checksums.len(), 1, "{checksums:?}");
}

#[tokio::test]
async fn differing_user_in_the_target_is_named_and_not_overwritten() {
    let (embedded, redis) = (TestStore::new(StoreKind::Embedded), TestStore::new(StoreKind::Redis));
    filled(&embedded, 3).await;
    assert_eq!(copy(&embedded, &redis).0, 0);
    let store = redis.open().await;
    let seen = store.user(&user("user0001").username).await.unwrap().unwrap();
    let changed = User { epoch: 9, ..seen.value };
    assert_eq!(store.replace(&seen.revision, &changed).await.unwrap(), Replace::Replaced);
    let (code, out, _) = copy(&embedded, &redis);
    assert_eq!(code, 1, "{out}");
    assert!(out.contains("user:user0001 is there already, and differs"), "{out}");
    assert!(out.contains("lacks 1 of them"), "{out}");
    assert_eq!(store.user(&changed.username).await.unwrap().unwrap().value, changed);
}

#[tokio::test]
async fn active_sessions_are_copied_and_ended_ones_are_not() {
    let (redis, embedded) = (TestStore::new(StoreKind::Redis), TestStore::new(StoreKind::Embedded));
    let node = |kind| App::with(kind).args(&["--token-issuer", "https://auth.example"]);
    let app = node(StoreKind::Redis).start_in(redis.clone()).await;
    app.registered("ada").await;
    let (tokens, old) = (app.authenticate("ada").await, app.authenticate("ada").await);
    app.stopped().await;
    let key = format!("watchword:session:{}", old.session_id);
    let document: String = redis.redis().ask(&["GET", &key]);
    let over = document.replace("\"expire_time\":\"202", "\"expire_time\":\"200");
    assert_ne!(over, document);
    redis.redis().ask::<()>(&["SET", &key, &over]);
    for _ in 0..2 {
        let (code, out, err) = copy(&redis, &embedded);
        assert_eq!(code, 0, "{out}{err}");
        assert!(out.contains("1 sessions that have ended"), "{out}");
    }
    let app = node(StoreKind::Embedded).start_in(embedded).await;
    assert!(app.introspect(&tokens.access_token).await.active, "whoever was signed in still is");
}

#[tokio::test]
async fn interrupted_copy_is_completed_by_the_next_run() {
    let (embedded, redis) = (TestStore::new(StoreKind::Embedded), TestStore::new(StoreKind::Redis));
    filled(&embedded, 700).await;
    assert_eq!(copy(&embedded, &redis).0, 0);
    for number in (0..700).step_by(3) {
        redis.redis().ask::<()>(&["DEL", &format!("watchword:user:user{number:04}")]);
    }
    let (code, out, err) = copy(&embedded, &redis);
    assert_eq!(code, 0, "{out}{err}");
    assert!(out.contains("700 users in 1400 documents, 234 of them new"), "{out}");
}

#[tokio::test]
async fn uncopyable_store_is_refused_with_the_reason() {
    let (embedded, redis) = (TestStore::new(StoreKind::Embedded), TestStore::new(StoreKind::Redis));
    filled(&embedded, 1).await;
    for (from, to, why) in [
        ("memory:", "embedded:", "keeps nothing"),
        ("embedded:", &redis.redis().url(), "there is no store in it"),
        (&redis.redis().url(), "embedded:", "holds no user"),
        ("embedded:", "embedded:", "the same store"),
        ("embedded:", "nowhere:", "expected embedded:"),
    ] {
        let data = TempDir::new().unwrap();
        let folder = data.path().join("data");
        let (code, _, err) = run(&["copy", "--from", from, "--to", to, "--data-dir", folder.to_str().unwrap()]);
        assert!(code != 0 && err.contains(why), "{from} {to}: {err}");
    }
    // A node has the folder.
    let app = App::with(StoreKind::Embedded).start_in(embedded.clone()).await;
    let (code, _, err) = copy(&embedded, &redis);
    assert!(code == 1 && err.contains("another watchword"), "{err}");
    app.stopped().await;
    // Keys of ours that a newer version wrote.
    redis.redis().ask::<()>(&["SET", "watchword:future:x", "1"]);
    let (code, _, err) = copy(&redis, &embedded);
    assert!(code == 1 && err.contains("watchword:future:"), "{err}");
    redis.redis().ask::<()>(&["DEL", "watchword:future:x"]);
    redis.redis().ask::<()>(&["LPUSH", "watchword:user:eve", "1"]);
    let (code, _, err) = copy(&redis, &embedded);
    assert!(code == 1 && err.contains("WRONGTYPE"), "{err}");
}
