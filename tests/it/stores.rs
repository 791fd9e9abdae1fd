//! One contract for every store: `domain::Store`'s promises, and the form of what is kept.
//!
//! A new store adds one line to [`opened`].

use std::{path::Path, sync::Arc, time::SystemTime};

use serde_json::Value;
use tempfile::TempDir;
use watchword::{
    domain::{
        Claim, PasswordHash, Pulse, Replace, RequestId, Store, StoreError, System, User, UserData, UserId, Username,
    },
    store::{self, Settings},
};

use crate::support::StoreKind;

const PHC: &str = "$argon2id$v=19$m=19456,t=2,p=1$AAECAwQFBgcICQoLDA0ODw$AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8";

fn opened(kind: StoreKind, folder: &Path) -> Arc<dyn Store> {
    store::open(&match kind {
        StoreKind::Memory => Settings::Memory,
        StoreKind::Embedded => Settings::Embedded(folder.to_owned()),
    })
    .unwrap()
}

fn name(text: &str) -> Username {
    Username::parse(text).unwrap()
}

fn user(text: &str) -> User {
    let now = SystemTime::UNIX_EPOCH + std::time::Duration::from_millis(1_764_000_000_123);
    User {
        id: UserId::new(&System, &System),
        username: name(text),
        password: PasswordHash::parse(PHC).unwrap(),
        data: UserData::parse("testing".into(), 100).unwrap(),
        epoch: 0,
        create_time: now,
        update_time: now,
        last_login_time: None,
        request_id: None,
        disabled: false,
    }
}

#[tokio::test]
async fn what_is_claimed_is_read_back_whole() {
    for kind in StoreKind::ALL {
        let folder = TempDir::new().unwrap();
        let store = opened(kind, folder.path());
        let plain = user("plain");
        let full = User {
            epoch: 7,
            last_login_time: Some(SystemTime::UNIX_EPOCH),
            request_id: RequestId::parse("7d2f8f6e-9d1b-4f6e-8c3a-0b1d2e3f4a5b").unwrap(),
            disabled: true,
            data: UserData::parse("\0\u{2028}\",\"admin\":true 🦀".into(), 100).unwrap(),
            ..user("full@日本")
        };
        for user in [&plain, &full] {
            assert!(store.user(&user.username).await.unwrap().is_none());
            assert!(matches!(store.claim(user).await.unwrap(), Claim::Claimed), "{kind:?}");
            assert_eq!(store.user(&user.username).await.unwrap().unwrap().user, *user, "{kind:?}");
        }
        store.close().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn of_racers_for_one_name_exactly_one_claims_it_and_all_others_see_him() {
    for kind in StoreKind::ALL {
        let folder = TempDir::new().unwrap();
        let store = opened(kind, folder.path());
        for round in 0..50 {
            let mut racers = tokio::task::JoinSet::new();
            for _ in 0..64 {
                let (store, user) = (store.clone(), user(&format!("name{round}")));
                racers.spawn(async move {
                    match store.claim(&user).await.unwrap() {
                        Claim::Claimed => (true, user.id),
                        Claim::Taken(existing) => (false, existing.user.id),
                    }
                });
            }
            let seen = racers.join_all().await;
            let winners: Vec<_> = seen.iter().filter(|(won, _)| *won).map(|(_, id)| *id).collect();
            assert_eq!(winners.len(), 1, "{kind:?}, round {round}");
            assert!(seen.iter().all(|(_, id)| *id == winners[0]), "{kind:?}, round {round}");
        }
        store.close().await;
    }
}

#[tokio::test]
async fn a_user_is_replaced_only_as_it_was_read() {
    for kind in StoreKind::ALL {
        let folder = TempDir::new().unwrap();
        let store = opened(kind, folder.path());
        store.claim(&user("ada")).await.unwrap();
        let first = store.user(&name("ada")).await.unwrap().unwrap();
        let changed = User { epoch: 1, ..first.user.clone() };
        assert_eq!(store.replace(&first.revision, &changed).await.unwrap(), Replace::Replaced);
        let late = User { epoch: 9, ..first.user.clone() };
        assert_eq!(store.replace(&first.revision, &late).await.unwrap(), Replace::Changed, "{kind:?}");
        assert_eq!(store.user(&name("ada")).await.unwrap().unwrap().user, changed);
        let nobody = User { username: name("bob"), ..late };
        assert_eq!(store.replace(&first.revision, &nobody).await.unwrap(), Replace::Changed);
        assert!(store.user(&name("bob")).await.unwrap().is_none(), "a replacement made a user");
        store.close().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn of_replacements_that_read_the_same_state_exactly_one_is_stored() {
    for kind in StoreKind::ALL {
        let folder = TempDir::new().unwrap();
        let store = opened(kind, folder.path());
        store.claim(&user("ada")).await.unwrap();
        for round in 1..=20 {
            let seen = store.user(&name("ada")).await.unwrap().unwrap();
            let mut racers = tokio::task::JoinSet::new();
            for racer in 0..16 {
                let (store, seen) = (store.clone(), seen.clone());
                racers.spawn(async move {
                    let changed = User { epoch: round * 100 + racer, ..seen.user };
                    store.replace(&seen.revision, &changed).await.unwrap()
                });
            }
            let outcomes = racers.join_all().await;
            assert_eq!(outcomes.iter().filter(|outcome| **outcome == Replace::Replaced).count(), 1, "{kind:?}");
        }
        store.close().await;
    }
}

#[tokio::test]
async fn a_store_says_that_it_is_up() {
    for kind in StoreKind::ALL {
        let folder = TempDir::new().unwrap();
        let store = opened(kind, folder.path());
        assert_eq!(*store.pulse().borrow(), Pulse::Up);
        store.close().await;
    }
}

/// Writes a document of the test's own where the embedded store keeps that user.
fn plant(folder: &Path, username: &str, document: &[u8]) {
    let database = redb::Database::open(folder.join("watchword.redb")).unwrap();
    let transaction = database.begin_write().unwrap();
    let table = redb::TableDefinition::<&str, &[u8]>::new("user");
    transaction.open_table(table).unwrap().insert(username, document).unwrap();
    transaction.commit().unwrap();
}

/// The document that the embedded store keeps of that user.
fn kept(folder: &Path, username: &str) -> String {
    use redb::ReadableDatabase;
    let database = redb::Database::open(folder.join("watchword.redb")).unwrap();
    let table = redb::TableDefinition::<&str, &[u8]>::new("user");
    let table = database.begin_read().unwrap().open_table(table).unwrap();
    String::from_utf8(table.get(username).unwrap().unwrap().value().to_vec()).unwrap()
}

async fn with_document(username: &str, document: &[u8]) -> (TempDir, Arc<dyn Store>) {
    let folder = TempDir::new().unwrap();
    let store = opened(StoreKind::Embedded, folder.path());
    store.claim(&user("bystander")).await.unwrap();
    store.close().await;
    drop(store);
    plant(folder.path(), username, document);
    let store = opened(StoreKind::Embedded, folder.path());
    (folder, store)
}

/// Documents of every form that was ever written, each with what must be read from it.
#[tokio::test]
async fn every_form_ever_written_is_still_read() {
    let golden: Value = serde_json::from_str(include_str!("../data/records/golden.json")).unwrap();
    for case in golden["records"].as_array().unwrap() {
        let document = case["stored"].to_string();
        let username = case["stored"]["username"].as_str().unwrap();
        let (_folder, store) = with_document(username, document.as_bytes()).await;
        let read = store.user(&name(username)).await.unwrap().unwrap_or_else(|| panic!("{case}")).user;
        assert_eq!(read.id.to_string(), case["stored"]["id"].as_str().unwrap());
        assert_eq!(read.data.as_str(), case["data"].as_str().unwrap());
        assert_eq!(read.epoch, case["epoch"].as_u64().unwrap());
        assert_eq!(read.disabled, case["disabled"].as_bool().unwrap());
        assert_eq!(read.request_id.is_some(), case["has_request_id"].as_bool().unwrap());
        assert_eq!(read.last_login_time.is_some(), case["has_last_login_time"].as_bool().unwrap());
        store.close().await;
    }
}

#[tokio::test]
async fn a_new_document_has_the_form_that_is_promised() {
    let folder = TempDir::new().unwrap();
    let store = opened(StoreKind::Embedded, folder.path());
    let user = user("ada");
    store.claim(&user).await.unwrap();
    store.close().await;
    drop(store);
    let expected = format!(
        r#"{{"v":1,"id":"{}","username":"ada","password":"{PHC}","data":"testing","create_time":"2025-11-24T16:00:00.123Z","update_time":"2025-11-24T16:00:00.123Z"}}"#,
        user.id
    );
    assert_eq!(kept(folder.path(), "ada"), expected);
}

#[tokio::test]
async fn fields_of_a_newer_program_survive_a_rewrite() {
    let document = format!(
        r#"{{"v":1,"id":"01a20bc1-9a26-7fd7-8244-47753f447d05","username":"ada","password":"{PHC}","create_time":"2026-11-24T04:12:47Z","update_time":"2026-11-24T04:12:47.014Z","nickname":"A","x":{{"y":[1,null,"z"]}}}}"#
    );
    let (folder, store) = with_document("ada", document.as_bytes()).await;
    let seen = store.user(&name("ada")).await.unwrap().unwrap();
    let changed = User { epoch: 3, ..seen.user };
    assert_eq!(store.replace(&seen.revision, &changed).await.unwrap(), Replace::Replaced);
    store.close().await;
    drop(store);
    let rewritten: Value = serde_json::from_str(&kept(folder.path(), "ada")).unwrap();
    assert_eq!(rewritten["nickname"], "A");
    assert_eq!(rewritten["x"]["y"], serde_json::json!([1, null, "z"]));
    assert_eq!(rewritten["epoch"], 3);
}

#[tokio::test]
async fn a_document_that_cannot_be_read_is_its_own_fault_and_nobody_elses() {
    let good = format!(
        r#"{{"v":1,"id":"01a20bc1-9a26-7fd7-8244-47753f447d05","username":"ada","password":"{PHC}","create_time":"2026-11-24T04:12:47Z","update_time":"2026-11-24T04:12:47Z"}}"#
    );
    for (what, document) in [
        ("nothing", String::new()),
        ("torn", good[..good.len() / 2].to_owned()),
        ("no JSON", "soham".into()),
        ("the original's md5", r#"{"password": "900150983cd24fb0d6963f7d28e17f72", "data": "x"}"#.into()),
        ("a newer form", good.replace("\"v\":1", "\"v\":2")),
        ("another name", good.replace("\"ada\"", "\"eve\"")),
        ("no id", good.replace("01a20bc1-9a26-7fd7-8244-47753f447d05", "x")),
        ("a hostile hash", good.replace("m=19456", "m=4194304")),
        ("two passwords", good.replace("\"data\"", "\"password\"").replacen('{', r#"{"password":"x","#, 1)),
        ("a time of day", good.replace("2026-11-24T04:12:47Z", "yesterday")),
    ] {
        let (_folder, store) = with_document("ada", document.as_bytes()).await;
        let error = store.user(&name("ada")).await.unwrap_err();
        let StoreError::Corrupt(cause) = error else { panic!("{what}: {error:?}") };
        assert!(!cause.contains("AAEC") && !cause.contains("900150"), "{what}: the cause shows the record: {cause}");
        assert!(
            matches!(store.claim(&user("ada")).await, Err(StoreError::Corrupt(_))),
            "{what}: the name was claimed anew"
        );
        assert!(store.user(&name("bystander")).await.unwrap().is_some(), "{what}");
        assert_eq!(*store.pulse().borrow(), Pulse::Up, "{what}");
        store.close().await;
    }
}
