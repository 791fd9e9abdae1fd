//! Documents that cannot be decoded: the log names the record, so that an operator can look it up, and no username.

use tracing::subscriber;
use watchword::{
    api::pb,
    domain::{CorruptRecord, SessionId, Store, StoreError, UserId, Username},
    store::{Change, Document, DocumentKey, DocumentStore, Kind, TypedStore},
};

use super::contract::user;
use crate::support::{App, LogOutput, StoreKind, TestStore, password, with_bearer};

const ID: &str = "01a20bc1-9a26-7fd7-8244-47753f447d05";

/// The first eight bytes of `printf %s ada | sha256sum`.
const HASH_OF_ADA: &str = "sha256:fdee430d40bd57de";

async fn put(documents: &dyn DocumentStore, kind: Kind, name: &str, text: &str) {
    let key = DocumentKey::new(kind, name);
    let insert = Change::Insert(Document { bytes: text.into(), expire_time: None });
    documents.change(Vec::new(), key, insert).await.unwrap();
}

/// The record that an error names.
fn record<T>(read: Result<T, StoreError>) -> String {
    match read {
        Err(StoreError::Corrupt(CorruptRecord { record, .. })) => record,
        Err(other) => panic!("{other:?}"),
        Ok(_) => panic!("the document was decoded"),
    }
}

#[tokio::test]
async fn error_of_every_kind_of_document_names_the_record_and_no_username() {
    for kind in StoreKind::ALL {
        let place = TestStore::new(kind);
        let documents = place.open_documents().await;
        let store = TypedStore::over(documents.clone());
        let name = |text| Username::parse(text).unwrap();
        let session = SessionId::parse(ID).unwrap();
        let with_id = format!(r#"{{"v":1,"id":"{ID}","username":"eve"}}"#);
        put(&*documents, Kind::User, "ada", "soham").await;
        put(&*documents, Kind::User, "eve", &with_id).await;
        put(&*documents, Kind::Id, ID, "\u{7}").await;
        put(&*documents, Kind::Session, ID, "{\"v\":2}").await;
        put(&*documents, Kind::Keys, "", "{}").await;

        let of_eve = format!("user {ID}");
        assert_eq!(record(store.user(&name("ada")).await), format!("user {HASH_OF_ADA}"), "{kind:?}");
        assert_eq!(record(store.watched_user(&name("ada")).await), format!("user {HASH_OF_ADA}"), "{kind:?}");
        assert_eq!(record(store.user(&name("eve")).await), of_eve, "{kind:?}");
        assert_eq!(record(store.claim(&user("eve")).await), of_eve, "{kind:?}");
        assert_eq!(record(store.name_of(UserId::parse(ID).unwrap()).await), format!("id {ID}"), "{kind:?}");
        assert_eq!(record(store.session(session).await), format!("session {ID}"), "{kind:?}");
        assert_eq!(record(store.watched_session(session).await), format!("session {ID}"), "{kind:?}");
        assert_eq!(record(store.keys().await), "keys", "{kind:?}");
        store.close().await;
    }
}

/// On one thread, so that the thread's subscriber receives the whole log.
#[tokio::test]
async fn log_names_the_record_that_cannot_be_read() {
    let output = LogOutput::default();
    let log = tracing_subscriber::fmt().with_ansi(false).with_writer(output.clone()).finish();
    let _log = subscriber::set_default(log);
    for kind in StoreKind::ALL {
        let place = TestStore::new(kind);
        let documents = place.open_documents().await;
        let app = App::on(documents.clone()).start().await;
        app.registered("ada").await;
        let tokens = app.authenticate("ada").await;
        let get = with_bearer(&tokens.access_token, pb::GetUserRequest {});
        let user_id = app.client().await.get_user(get).await.unwrap().into_inner().user.unwrap().user_id;
        let other = app.authenticate("ada").await;
        for (kind, name) in [(Kind::Session, &other.session_id), (Kind::Sessions, &user_id)] {
            replace(&*documents, kind, name, "{\"v\":2}").await;
            let list = pb::ListSessionsRequest::default();
            app.client().await.list_sessions(with_bearer(&tokens.access_token, list)).await.unwrap();
        }
        replace(&*documents, Kind::User, "ada", &format!(r#"{{"v":2,"id":"{user_id}"}}"#)).await;
        let login =
            pb::LoginRequest { username: "ada".into(), password: password("ada"), ..pb::LoginRequest::default() };
        app.client().await.login(login).await.unwrap_err();
        let log = output.text();
        for record in [
            format!("record=\"session {}\"", other.session_id),
            format!("record=\"sessions {user_id}\""),
            format!("record=\"user {user_id}\""),
        ] {
            assert!(log.contains(&record), "{kind:?}: {record}:\n{log}");
        }
        assert!(log.contains("error_id=") && !log.contains("\"ada\"") && !log.contains(" ada"), "{kind:?}: {log}");
        app.stopped().await;
    }
}

async fn replace(documents: &dyn DocumentStore, kind: Kind, name: &str, text: &str) {
    let key = DocumentKey::new(kind, name);
    let seen = documents.get(&key).await.unwrap().unwrap().into();
    let document = Document { bytes: text.into(), expire_time: None };
    documents.change(Vec::new(), key, Change::Replace { seen, document }).await.unwrap();
}
