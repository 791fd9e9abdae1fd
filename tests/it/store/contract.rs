//! One contract for every store: the guarantees of `domain::Store`, and the form of what is kept. Scan is in `scan.rs`.
//!
//! A new store adds one kind to `support/store/test_store.rs`.

use std::{
    sync::Arc,
    time::{Duration, SystemTime},
};

use serde_json::Value;
use watchword::{
    api::pb,
    domain::{
        Claim, CorruptRecord, Entropy, PasswordHash, Replace, RequestId, SessionId, SessionListEntry, Store,
        StoreError, StoreHealth, System, User, UserData, Username,
    },
    store::{Change, ChangeOutcome, Document, DocumentKey, DocumentStore, Kind, TypedStore},
};

use crate::support::{App, StoreKind, TestStore};

const PHC: &str = "$argon2id$v=19$m=19456,t=2,p=1$AAECAwQFBgcICQoLDA0ODw$AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8";

fn name(text: &str) -> Username {
    Username::parse(text).unwrap()
}

pub fn user(text: &str) -> User {
    let now = SystemTime::UNIX_EPOCH + std::time::Duration::from_millis(1_764_000_000_123);
    let data = UserData::parse("testing".into(), 100).unwrap();
    User::new(name(text), PasswordHash::parse(PHC).unwrap(), data, now, (&System as &dyn Entropy).bytes())
}

#[tokio::test]
async fn claimed_user_is_read_back_complete() {
    for kind in StoreKind::ALL {
        let place = TestStore::new(kind);
        let store = place.open().await;
        let plain = user("plain");
        let full = User {
            epoch: 7,
            kept_session: SessionId::parse("01a20bc1-9a26-7fd7-8244-47753f447d05")
                .map(|id| SessionListEntry { id, epoch: 6 }),
            last_login_time: Some(SystemTime::UNIX_EPOCH),
            request_id: RequestId::parse("7d2f8f6e-9d1b-4f6e-8c3a-0b1d2e3f4a5b").unwrap(),
            disabled: true,
            data: UserData::parse("\0\u{2028}\",\"admin\":true 🦀".into(), 100).unwrap(),
            ..user("full@日本")
        };
        for user in [&plain, &full] {
            assert!(store.user(&user.username).await.unwrap().is_none());
            assert!(matches!(store.claim(user).await.unwrap(), Claim::Claimed), "{kind:?}");
            assert_eq!(store.user(&user.username).await.unwrap().unwrap().value, *user, "{kind:?}");
        }
        store.close().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn concurrent_claims_of_a_username_have_one_winner_that_all_see() {
    for kind in StoreKind::ALL {
        let place = TestStore::new(kind);
        let store = place.open().await;
        for round in 0..50 {
            let mut racers = tokio::task::JoinSet::new();
            for _ in 0..64 {
                let (store, user) = (store.clone(), user(&format!("name{round}")));
                racers.spawn(async move {
                    match store.claim(&user).await.unwrap() {
                        Claim::Claimed => (true, user.id),
                        Claim::Taken(existing) => (false, existing.value.id),
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
async fn user_is_replaced_only_if_unchanged_since_it_was_read() {
    for kind in StoreKind::ALL {
        let place = TestStore::new(kind);
        let store = place.open().await;
        store.claim(&user("ada")).await.unwrap();
        let first = store.user(&name("ada")).await.unwrap().unwrap();
        let changed = User { epoch: 1, ..first.value.clone() };
        assert_eq!(store.replace(&first.revision, &changed).await.unwrap(), Replace::Replaced);
        let late = User { epoch: 9, ..first.value.clone() };
        assert_eq!(store.replace(&first.revision, &late).await.unwrap(), Replace::Changed, "{kind:?}");
        assert_eq!(store.user(&name("ada")).await.unwrap().unwrap().value, changed);
        let nobody = User { username: name("bob"), ..late };
        assert_eq!(store.replace(&first.revision, &nobody).await.unwrap(), Replace::Changed);
        assert!(store.user(&name("bob")).await.unwrap().is_none(), "a replacement made a user");
        store.close().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn concurrent_replacements_of_one_revision_have_one_winner() {
    for kind in StoreKind::ALL {
        let place = TestStore::new(kind);
        let store = place.open().await;
        store.claim(&user("ada")).await.unwrap();
        for round in 1..=20 {
            let seen = store.user(&name("ada")).await.unwrap().unwrap();
            let mut racers = tokio::task::JoinSet::new();
            for racer in 0..16 {
                let (store, seen) = (store.clone(), seen.clone());
                racers.spawn(async move {
                    let changed = User { epoch: round * 100 + racer, ..seen.value };
                    store.replace(&seen.revision, &changed).await.unwrap()
                });
            }
            let outcomes = racers.join_all().await;
            assert_eq!(outcomes.iter().filter(|outcome| **outcome == Replace::Replaced).count(), 1, "{kind:?}");
        }
        store.close().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn concurrent_spends_of_a_secret_have_one_winner() {
    for kind in StoreKind::ALL {
        let place = TestStore::new(kind);
        let store = place.open().await;
        let until = store.now() + Duration::from_secs(300);
        for round in 0..20 {
            let mut racers = tokio::task::JoinSet::new();
            for _ in 0..64 {
                let store = store.clone();
                racers.spawn(async move { store.spend(&[round; 32], until).await.unwrap() });
            }
            let first = racers.join_all().await.into_iter().filter(|first| *first).count();
            assert_eq!(first, 1, "{kind:?}, round {round}");
        }
        store.close().await;
    }
}

#[tokio::test]
async fn spent_secret_survives_a_restart_and_expires() {
    for kind in StoreKind::DURABLE {
        let place = TestStore::new(kind);
        let store = place.open().await;
        let over = store.now() - Duration::from_secs(1);
        assert!(store.spend(&[1; 32], store.now() + Duration::from_secs(300)).await.unwrap());
        assert!(store.spend(&[2; 32], over).await.unwrap());
        store.close().await;
        drop(store);
        let store = place.open().await;
        assert!(!store.spend(&[1; 32], store.now() + Duration::from_secs(300)).await.unwrap(), "{kind:?}");
        // Any commit forgets what is over.
        store.claim(&user("ada")).await.unwrap();
        store.close().await;
        drop(store);
        let kept = match kind {
            StoreKind::Redis => place.redis().ask::<Vec<String>>(&["KEYS", "watchword:once:*"]).len() as u64,
            StoreKind::Embedded => place.rows().into_iter().find(|(table, _)| table == "once").unwrap().1,
            StoreKind::Memory => unreachable!("it keeps nothing"),
        };
        assert_eq!(kept, 1, "{kind:?}");
    }
}

#[tokio::test]
async fn store_reports_that_it_is_up() {
    for kind in StoreKind::ALL {
        let place = TestStore::new(kind);
        let store = place.open().await;
        assert_eq!(*store.health().borrow(), StoreHealth::Up);
        store.close().await;
    }
}

/// A store of that kind in which somebody else has put a document.
async fn with_document(kind: StoreKind, username: &str, document: &[u8]) -> (TestStore, Arc<dyn Store>) {
    let place = TestStore::new(kind);
    let store = place.open().await;
    store.claim(&user("bystander")).await.unwrap();
    store.close().await;
    drop(store);
    place.write_user(username, document);
    let store = place.open().await;
    (place, store)
}

/// Documents of every form that was ever written, each with what must be read from it.
#[tokio::test]
async fn every_form_ever_written_is_still_read() {
    let golden: Value = serde_json::from_str(include_str!("../../data/records/golden.json")).unwrap();
    for (kind, case) in each_kept_kind(golden["records"].as_array().unwrap()) {
        let document = case["stored"].to_string();
        let username = case["stored"]["username"].as_str().unwrap();
        let (_place, store) = with_document(kind, username, document.as_bytes()).await;
        let read = store.user(&name(username)).await.unwrap().unwrap_or_else(|| panic!("{case}")).value;
        assert_eq!(read.id.to_string(), case["stored"]["id"].as_str().unwrap());
        assert_eq!(read.password.map(|hash| hash.to_phc()).as_deref(), case["stored"]["password"].as_str());
        assert_eq!(read.data.as_str(), case["data"].as_str().unwrap());
        let reset = &case["stored"]["reset"]["expire_time"];
        let expire_time = read.reset.map(|kept| humantime::format_rfc3339_millis(kept.expire_time).to_string());
        assert_eq!(expire_time.as_deref(), reset.as_str());
        assert_eq!(read.epoch, case["epoch"].as_u64().unwrap());
        assert_eq!(read.disabled, case["disabled"].as_bool().unwrap());
        assert_eq!(read.request_id.is_some(), case["has_request_id"].as_bool().unwrap());
        assert_eq!(read.last_login_time.is_some(), case["has_last_login_time"].as_bool().unwrap());
        store.close().await;
    }
}

fn each_kept_kind<T>(cases: &[T]) -> impl Iterator<Item = (StoreKind, &T)> {
    StoreKind::DURABLE.into_iter().flat_map(move |kind| cases.iter().map(move |case| (kind, case)))
}

#[tokio::test]
async fn new_document_has_the_documented_form() {
    for kind in StoreKind::DURABLE {
        let place = TestStore::new(kind);
        let store = place.open().await;
        let user = user("ada");
        store.claim(&user).await.unwrap();
        store.close().await;
        drop(store);
        let expected = format!(
            r#"{{"v":1,"id":"{}","username":"ada","password":"{PHC}","data":"testing","create_time":"2025-11-24T16:00:00.123Z","update_time":"2025-11-24T16:00:00.123Z"}}"#,
            user.id
        );
        assert_eq!(place.stored_user("ada"), expected, "{kind:?}");
    }
}

#[tokio::test]
async fn fields_of_a_newer_program_survive_a_rewrite() {
    let document = format!(
        r#"{{"v":1,"id":"01a20bc1-9a26-7fd7-8244-47753f447d05","username":"ada","password":"{PHC}","create_time":"2026-11-24T04:12:47Z","update_time":"2026-11-24T04:12:47.014Z","nickname":"A","x":{{"y":[1,null,"z"]}}}}"#
    );
    for kind in StoreKind::DURABLE {
        let (place, store) = with_document(kind, "ada", document.as_bytes()).await;
        let seen = store.user(&name("ada")).await.unwrap().unwrap();
        let changed = User { epoch: 3, ..seen.value };
        assert_eq!(store.replace(&seen.revision, &changed).await.unwrap(), Replace::Replaced);
        store.close().await;
        drop(store);
        let rewritten: Value = serde_json::from_str(&place.stored_user("ada")).unwrap();
        assert_eq!(rewritten["nickname"], "A", "{kind:?}");
        assert_eq!(rewritten["x"]["y"], serde_json::json!([1, null, "z"]));
        assert_eq!(rewritten["epoch"], 3);
    }
}

/// Numbers that no machine number holds, order, spelling and nesting, in the document and in what is inside it.
#[tokio::test]
async fn unknown_members_of_a_user_survive_a_rewrite_exactly() {
    let unknown = r#""z":18446744073709551616,"a":1E5,"m":1e400,"x":{"y" : [1.50,null,"\u00e4"]},"z":-0"#;
    let known = format!(
        r#""v":1,"id":"01a20bc1-9a26-7fd7-8244-47753f447d05","username":"ada","password":"{PHC}","epoch":3,"kept_session":{{"id":"01a20bc1-9a26-7fd7-8244-47753f447d06","epoch":2,{unknown}}},"create_time":"2026-11-24T04:12:47.000Z","update_time":"2026-11-24T04:12:47.014Z","reset":{{"hash":"AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8","expire_time":"2026-11-24T04:27:47.014Z",{unknown}}}"#
    );
    for kind in StoreKind::DURABLE {
        // First of all, so that a rewrite moves them.
        let document = format!("{{{unknown},{known}}}");
        let (place, store) = with_document(kind, "ada", document.as_bytes()).await;
        let seen = store.user(&name("ada")).await.unwrap().unwrap();
        let changed = User { epoch: 4, ..seen.value };
        assert_eq!(store.replace(&seen.revision, &changed).await.unwrap(), Replace::Replaced);
        store.close().await;
        drop(store);
        let expected = format!("{{{},{unknown}}}", known.replacen(r#""epoch":3"#, r#""epoch":4"#, 1));
        assert_eq!(place.stored_user("ada"), expected, "{kind:?}");
    }
}

/// The document with unknown members behind its own, and behind those of the object inside it that begins so.
fn with_unknown(document: &str, inner: Option<&str>, unknown: &str) -> String {
    let document = format!("{},{unknown}}}", document.strip_suffix('}').unwrap());
    let Some(inner) = inner else { return document };
    let begin = document.find(inner).unwrap_or_else(|| panic!("{inner} in {document}"));
    let end = begin + document[begin..].find('}').unwrap();
    format!("{},{unknown}{}", &document[..end], &document[end..])
}

async fn texts(documents: &dyn DocumentStore, kind: Kind) -> Vec<(DocumentKey, String)> {
    let page = documents.scan(Some(kind), None).await.unwrap().documents;
    page.into_iter().map(|document| (document.key, String::from_utf8(document.bytes).unwrap())).collect()
}

#[tokio::test]
async fn unknown_members_of_sessions_lists_and_keys_survive_a_rewrite_exactly() {
    let unknown = r#""z":18446744073709551616,"a":1e400"#;
    for store_kind in StoreKind::ALL {
        let place = TestStore::new(store_kind);
        let documents = place.open_documents().await;
        let store = TypedStore::over(documents.clone());
        let app = App::on(documents.clone()).start().await;
        app.registered("ada").await;
        let (first, _) = (app.authenticate("ada").await, app.authenticate("ada").await);
        for (kind, inner) in
            [(Kind::Session, None), (Kind::Sessions, Some("{\"id\"")), (Kind::Keys, Some("{\"private\""))]
        {
            for (key, seen) in texts(&*documents, kind).await {
                let bytes = with_unknown(&seen, inner, unknown).into();
                let expire_time = (kind == Kind::Session).then(|| store.now() + Duration::from_secs(3_600));
                let change =
                    Change::Replace { seen: seen.into_bytes().into(), document: Document { bytes, expire_time } };
                assert_eq!(documents.change(Vec::new(), key, change).await.unwrap(), ChangeOutcome::Done);
            }
        }
        // A refresh rewrites the session, a login the list, and the last one the keys.
        app.client()
            .await
            .refresh_token(pb::RefreshTokenRequest { refresh_token: first.refresh_token, ..Default::default() })
            .await
            .unwrap();
        drop(app.authenticate("ada").await);
        let seen = store.keys().await.unwrap().unwrap();
        let mut keys = seen.value;
        keys.signing[0].use_time += Duration::from_secs(1);
        assert_eq!(store.replace_keys(&seen.revision, &keys).await.unwrap(), Replace::Replaced);

        let sessions = texts(&*documents, Kind::Session).await;
        let refreshed = sessions.iter().find(|(key, _)| key.name == first.session_id).unwrap();
        assert!(refreshed.1.contains("\"generation\":1"), "{store_kind:?}: {}", refreshed.1);
        assert!(refreshed.1.ends_with(&format!(",{unknown}}}")), "{store_kind:?}: {}", refreshed.1);
        let [(_, list)] = <[_; 1]>::try_from(texts(&*documents, Kind::Sessions).await).unwrap();
        assert_eq!(list.matches("\"id\"").count(), 3, "{store_kind:?}: {list}");
        let [(_, keys)] = <[_; 1]>::try_from(texts(&*documents, Kind::Keys).await).unwrap();
        for document in [list, keys] {
            assert_eq!(document.matches(unknown).count(), 2, "{store_kind:?}: {document}");
            assert!(document.ends_with(&format!(",{unknown}}}")), "{store_kind:?}: {document}");
        }
        app.stopped().await;
    }
}

#[tokio::test]
async fn unreadable_document_affects_no_other_user() {
    let good = format!(
        r#"{{"v":1,"id":"01a20bc1-9a26-7fd7-8244-47753f447d05","username":"ada","password":"{PHC}","create_time":"2026-11-24T04:12:47Z","update_time":"2026-11-24T04:12:47Z"}}"#
    );
    let cases = [
        ("nothing", String::new()),
        ("torn", good[..good.len() / 2].to_owned()),
        ("no JSON", "soham".into()),
        ("the original's md5", r#"{"password": "900150983cd24fb0d6963f7d28e17f72", "data": "x"}"#.into()),
        ("a newer form", good.replace("\"v\":1", "\"v\":2")),
        ("another name", good.replace("\"ada\"", "\"eve\"")),
        ("no id", good.replace("01a20bc1-9a26-7fd7-8244-47753f447d05", "x")),
        ("no text for a password", good.replace(&format!("\"{PHC}\""), "7")),
        ("an empty password", good.replace(PHC, "")),
        ("a hostile hash", good.replace("m=19456", "m=4194304")),
        ("two passwords", good.replace("\"data\"", "\"password\"").replacen('{', r#"{"password":"x","#, 1)),
        ("a time of day", good.replace("2026-11-24T04:12:47Z", "yesterday")),
    ];
    for (kind, (what, document)) in each_kept_kind(&cases) {
        let (_place, store) = with_document(kind, "ada", document.as_bytes()).await;
        let error = store.user(&name("ada")).await.unwrap_err();
        let StoreError::Corrupt(CorruptRecord { record, cause }) = error else { panic!("{what}: {error:?}") };
        assert!(!record.contains("ada"), "{what}: {record}");
        assert!(!cause.contains("AAEC") && !cause.contains("900150"), "{what}: the cause shows the record: {cause}");
        assert!(
            matches!(store.claim(&user("ada")).await, Err(StoreError::Corrupt(_))),
            "{kind:?}, {what}: the name was claimed anew"
        );
        assert!(store.user(&name("bystander")).await.unwrap().is_some(), "{what}");
        assert_eq!(*store.health().borrow(), StoreHealth::Up, "{what}");
        store.close().await;
    }
}
