//! The pepper: a key outside the store that password hashes need, how it changes, and what happens without it.

use serde_json::{Value, json};
use watchword::domain::{
    Clock, HashPool, Password, PasswordHash, System,
    password::{JobSource, Kernel, Pepper, PoolSettings, Purpose},
};

use crate::support::{Api, App, CHEAP, StoreKind, TestStore, WAIT_MAX, environment, http, key_file, password, run};

const OLD: &str = "00112233445566778899aabbccddeeff00112233445566778899aabbccddeeff";
const NEW: &str = "FFEEDDCCBBAA99887766554433221100ffeeddccbbaa99887766554433221100";

/// The id of a key, as stored hashes name it.
fn id(key: &str) -> String {
    Pepper::parse(key).unwrap().current().unwrap().to_string()
}

async fn start(place: &TestStore, entries: &[&str]) -> App {
    let file = key_file(entries);
    let args = ["--pepper-key-file", file.path().to_str().unwrap()];
    App::with(place.kind).args(if entries.is_empty() { &[] } else { &args }).start_in(place.clone()).await
}

/// Runs the binary on this place with these entries.
fn run_on(place: &TestStore, command: &[&str], entries: &[&str]) -> (i32, String, String) {
    let (file, flags) = (key_file(entries), place.flags());
    let mut args = command.to_vec();
    args.extend(flags.iter().map(String::as_str));
    if !entries.is_empty() {
        args.extend(["--pepper-key-file", file.path().to_str().unwrap()]);
    }
    run(&args)
}

/// What the binary says to this place and these entries when it does not start.
fn refused(place: &TestStore, entries: &[&str]) -> String {
    let args = ["--grpc-addr", "127.0.0.1:0", "--http-addr", "off", "--ops-addr", "off", "--admin-addr", "off"];
    let (code, _, said) = run_on(place, &args, entries);
    assert_eq!(code, 1, "{said}");
    said
}

fn stored_hash(place: &TestStore, name: &str) -> String {
    let record: Value = serde_json::from_str(&place.stored_user(name)).unwrap();
    record["password"].as_str().unwrap().to_owned()
}

/// Waits until logins have replaced this many hashes, which happens after the answers.
async fn rehashed(app: &App, times: usize) {
    let enough = async {
        while app.events.count("password rehashed") < times {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(WAIT_MAX, enough).await.unwrap();
}

/// Whether the password verifies with this pepper, outside a server, as a thief of the store computes it.
async fn verifies(pepper: Pepper, phc: &str, password: &str) -> bool {
    let settings = PoolSettings { workers: 1, cost: CHEAP };
    let pool = HashPool::with_pepper(settings, pepper.into(), Kernel::Reference, &environment());
    let permit = pool.admit(JobSource::Node, Purpose::Account, System.monotonic() + WAIT_MAX).unwrap();
    let password = Password::parse(password.into()).unwrap();
    permit.verify(password, PasswordHash::parse(phc).unwrap()).await.unwrap()
}

#[tokio::test]
async fn stolen_store_without_the_pepper_key_verifies_no_password() {
    let named = format!(",keyid={}", id(OLD));
    for kind in StoreKind::DURABLE {
        let place = TestStore::new(kind);
        let app = start(&place, &[OLD]).await;
        app.registered("ada").await;
        assert_eq!(Api::Grpc.login(&app, "ada", &password("ada")).await.outcome(), "ok");
        app.stopped().await;
        let stolen = stored_hash(&place, "ada");
        assert!(stolen.starts_with(&format!("$argon2id$v=19$m=64,t=1,p=1{named}$")), "{kind:?}: {stolen}");
        let renamed = stolen.replace(&id(OLD), &id(NEW));
        let stripped = stolen.replace(&named, "");
        let right = password("ada");
        assert!(verifies(Pepper::parse(OLD).unwrap(), &stolen, &right).await, "the key is all that it takes");
        assert!(!verifies(Pepper::none(), &stolen, &right).await);
        assert!(!verifies(Pepper::none(), &stripped, &right).await);
        assert!(!verifies(Pepper::parse(NEW).unwrap(), &renamed, &right).await);
    }
}

/// The control: the same theft from a store whose hashes have no pepper.
#[tokio::test]
async fn control_stolen_store_of_a_node_without_pepper_verifies_its_passwords() {
    let place = TestStore::new(StoreKind::Embedded);
    let app = start(&place, &[]).await;
    app.registered("ada").await;
    app.stopped().await;
    let stolen = stored_hash(&place, "ada");
    assert!(verifies(Pepper::none(), &stolen, &password("ada")).await);
    // Nor does a name alone protect a hash: it must be computed with the key.
    let named = stolen.replace("p=1$", &format!("p=1,keyid={}$", id(OLD)));
    assert!(!verifies(Pepper::parse(OLD).unwrap(), &named, &password("ada")).await);
}

#[tokio::test]
async fn login_moves_a_hash_to_the_current_key_and_never_takes_a_key_away() {
    for kind in StoreKind::DURABLE {
        let place = TestStore::new(kind);
        let app = start(&place, &[]).await;
        app.registered("ada").await;
        app.stopped().await;
        for (entries, key) in [
            (&["plain", OLD][..], None),
            (&[OLD], Some(OLD)),
            (&[OLD, NEW], Some(OLD)),
            (&[NEW, OLD], Some(NEW)),
            (&["plain", NEW, OLD], Some(NEW)),
        ] {
            let before = stored_hash(&place, "ada");
            let app = start(&place, entries).await;
            for api in Api::ALL {
                assert_eq!(api.login(&app, "ada", &password("ada")).await.data(), "data of ada", "{kind:?}");
                assert!(api.login(&app, "ada", "another password").await.is_wrong_credentials(), "{kind:?}");
            }
            let wanted = key.map_or("p=1$".to_owned(), |key| format!("p=1,keyid={}$", id(key)));
            let changes = usize::from(!before.contains(&wanted));
            rehashed(&app, changes).await;
            app.stopped().await;
            let after = stored_hash(&place, "ada");
            assert!(after.contains(&wanted), "{kind:?} {entries:?}: {after}");
            assert_eq!(after != before, changes == 1, "{kind:?} {entries:?}: only a new key is a reason");
        }
        let app = start(&place, &["plain", NEW, OLD]).await;
        app.registered("eve").await;
        app.stopped().await;
        assert!(stored_hash(&place, "eve").contains("p=1$"), "plain: a new hash has no key");
    }
}

#[tokio::test]
async fn user_whose_key_is_missing_is_refused_like_an_unknown_one_at_one_hash() {
    for kind in StoreKind::DURABLE {
        let place = TestStore::new(kind);
        let app = start(&place, &[OLD]).await;
        app.registered("ada").await;
        app.stopped().await;
        let before = stored_hash(&place, "ada");
        let app = start(&place, &[NEW, &format!("retired {}", id(OLD))]).await;
        for api in Api::ALL {
            let hashes = app.events.count("hashed");
            let known = api.login(&app, "ada", &password("ada")).await;
            assert!(known.is_wrong_credentials(), "{kind:?}: {known:?}");
            assert_eq!(app.events.count("hashed"), hashes + 1, "{kind:?}");
            let unknown = api.login(&app, "unknown", &password("ada")).await;
            assert_eq!(known.outcome(), unknown.outcome(), "{kind:?}");
        }
        assert_eq!(app.events.count("pepper key missing"), 2, "{kind:?}");
        assert_eq!(app.events.count("password rehashed"), 0, "{kind:?}");
        assert_eq!(http(app.ops_socket(), "GET", "/readyz", &[], "").await.body, "ready\n", "it is retired");
        app.stopped().await;
        assert_eq!(stored_hash(&place, "ada"), before, "{kind:?}");
    }
}

/// A node that was started with an older file than the others.
#[tokio::test]
async fn node_that_meets_a_key_that_it_lacks_warns_and_refuses_the_login() {
    let place = TestStore::new(StoreKind::Redis);
    let older = start(&place, &[OLD]).await;
    let newer = start(&place, &[NEW, OLD]).await;
    newer.registered("eve").await;
    assert_eq!(http(older.ops_socket(), "GET", "/readyz", &[], "").await.body, "ready\n");
    assert!(Api::Grpc.login(&older, "eve", &password("eve")).await.is_wrong_credentials());
    let ready = http(older.ops_socket(), "GET", "/readyz", &[], "").await;
    assert!(ready.status == 200 && ready.body.contains("--pepper-key-file"), "{}", ready.body);
    assert!(ready.body.contains(&id(NEW)) && !ready.body.contains(&id(OLD)), "{}", ready.body);
    let metrics = http(older.ops_socket(), "GET", "/metrics", &[], "").await.body;
    assert!(metrics.contains("watchword_store_alarm{setting=\"pepper-key-file\"} 1"), "{metrics}");
    assert_eq!(Api::Grpc.login(&newer, "eve", &password("eve")).await.outcome(), "ok");
}

#[tokio::test]
async fn start_without_a_key_that_hashes_need_is_refused_until_it_is_retired() {
    for kind in StoreKind::DURABLE {
        let place = TestStore::new(kind);
        start(&place, &[OLD]).await.stopped().await;
        for entries in [&[][..], &[NEW], &["plain", NEW]] {
            let said = refused(&place, entries);
            for part in [&id(OLD), "--pepper-key-file", "retired"] {
                assert!(said.contains(part), "{kind:?} {entries:?} lacks {part}: {said}");
            }
            assert!(!said.contains(&NEW[..16]) && !said.contains(&OLD[..16]), "no key is shown: {said}");
        }
        start(&place, &[NEW, OLD]).await.stopped().await;
        assert!(refused(&place, &[NEW]).contains(&id(OLD)), "{kind:?}: an older key stays needed");
        start(&place, &[NEW, &format!("retired {}", id(OLD))]).await.stopped().await;
        start(&place, &[NEW]).await.stopped().await;
        assert!(refused(&place, &[OLD]).contains(&id(NEW)), "{kind:?}");
    }
}

#[tokio::test]
async fn check_config_counts_users_by_key_and_fails_without_a_key_that_one_needs() {
    let (old, new) = (id(OLD), id(NEW));
    for kind in StoreKind::DURABLE {
        let place = TestStore::new(kind);
        let check = |entries: &[&str]| run_on(&place, &["check-config"], entries);
        assert!(check(&[OLD]).1.contains("users by pepper key: no password 0, unreadable 0"), "{kind:?}");
        for (entries, names) in [(&[][..], &["a", "b"][..]), (&[OLD], &["c"]), (&[NEW, OLD], &["d", "e", "f"])] {
            let app = start(&place, entries).await;
            for name in names {
                app.registered(name).await;
            }
            app.stopped().await;
        }
        let (code, out, err) = check(&[NEW, OLD]);
        assert_eq!(code, 0, "{kind:?}: {out}{err}");
        let mut counts = [format!("{old} 1"), format!("{new} 3")];
        counts.sort();
        let line = format!("users by pepper key: no key 2, {}, no password 0, unreadable 0\n", counts.join(", "));
        assert!(out.contains(&line), "{kind:?} lacks {line}: {out}");
        assert!(out.contains(&format!("pepper: [\"{new}\", \"{old}\"]\n")), "in the order of the file: {out}");
        let json: Value = serde_json::from_str(&run_on(&place, &["check-config", "--json"], &[NEW, OLD]).1).unwrap();
        let keys = json["findings"]["users_by_pepper_key"]["keys"].as_array().unwrap();
        assert!(
            keys.contains(&json!({ "key": old, "users": 1 })) && keys.contains(&json!({ "key": null, "users": 2 }))
        );

        for entries in [&[][..], &[NEW]] {
            let (code, _, fault) = check(entries);
            assert!(code == 1 && fault.contains(&old) && fault.contains("--pepper-key-file"), "{kind:?}: {fault}");
        }
        assert_eq!(check(&[NEW, &format!("retired {old}")]).0, 0, "{kind:?}");
        // A key that was retired too early, and a record that does not name it any more.
        start(&place, &[NEW, &format!("retired {old}")]).await.stopped().await;
        let (code, _, fault) = check(&[NEW]);
        assert!(code == 1 && fault.contains(&format!("{old} 1")), "{kind:?}: {fault}");
    }
}
