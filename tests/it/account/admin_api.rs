//! Operators on their own door: who may open it, and signing keys that change without anybody noticing.

use std::{fs, os::unix::fs::PermissionsExt, path::Path, time::Duration};

use serde_json::Value;
use tempfile::TempDir;
use tonic::{
    Code,
    transport::{Channel, Endpoint},
};
use watchword::api::pb::{
    RefreshTokenRequest, RotateSigningKeyRequest, RotateSigningKeyResponse, auth_admin_client::AuthAdminClient,
};

use crate::support::{App, Node, Setup, StoreKind, TestStore, app, http, reason, run};

/// A server with an admin door, and the folder that it is in.
async fn start(setup: Setup, place: &TestStore) -> (App, TempDir) {
    let folder = TempDir::new().unwrap();
    let address = format!("unix:{}", folder.path().join("made/admin.sock").display());
    (setup.args(&["--admin-addr", &address]).start_in(place.clone()).await, folder)
}

async fn admin(app: &App) -> AuthAdminClient<Channel> {
    let address = app.addresses.admin.as_ref().expect("the test opened the admin door").to_string();
    AuthAdminClient::new(Endpoint::from_shared(address).unwrap().connect().await.unwrap())
}

async fn rotate(app: &App, drop_old_keys: bool) -> RotateSigningKeyResponse {
    admin(app).await.rotate_signing_key(RotateSigningKeyRequest { drop_old_keys }).await.unwrap().into_inner()
}

/// The ids of the keys that anybody can fetch.
async fn published(app: &App) -> Vec<String> {
    let keys: Value =
        serde_json::from_str(&http(app.http_socket(), "GET", "/.well-known/jwks.json", &[], "").await.body).unwrap();
    keys["keys"].as_array().unwrap().iter().map(|key| key["kid"].as_str().unwrap().to_owned()).collect()
}

fn key_of(token: &str) -> String {
    jsonwebtoken::decode_header(token).unwrap().kid.unwrap()
}

#[tokio::test]
async fn a_key_that_an_operator_asks_for_is_published_first_and_used_later_and_no_token_is_lost() {
    for kind in StoreKind::ALL {
        let place = TestStore::new(kind);
        let (app, _folder) = start(App::with(kind).args(&["--access-token-lifetime", "1h"]), &place).await;
        app.registered("ada").await;
        let before = app.authenticate("ada").await;
        let old = key_of(&before.access_token);

        let next = rotate(&app, false).await;
        assert_eq!(published(&app).await, [old.as_str(), &next.key_id], "{kind:?}");
        assert_eq!(rotate(&app, false).await, next, "{kind:?}: asked twice, made once");
        assert_eq!(key_of(&app.authenticate("ada").await.access_token), old, "{kind:?}: not everybody has heard of it");
        assert_eq!(app.events.count("signing key rotated"), 1, "{kind:?}: told once");

        app.clock.advance(Duration::from_secs(601));
        let after = app.authenticate("ada").await;
        assert_eq!(key_of(&after.access_token), next.key_id, "{kind:?}");
        for token in [&before.access_token, &after.access_token, &before.refresh_token] {
            assert!(app.introspect(token).await.active, "{kind:?}");
        }

        app.clock.advance(Duration::from_secs(3 * 3_600));
        app.authenticate("ada").await;
        assert_eq!(published(&app).await, [next.key_id.as_str()], "{kind:?}: the old one has no tokens any more");
    }
}

#[tokio::test]
async fn a_stolen_key_is_gone_at_once_and_sessions_go_on_with_a_new_one() {
    for kind in StoreKind::ALL {
        let place = TestStore::new(kind);
        let (app, _folder) = start(App::with(kind), &place).await;
        app.registered("ada").await;
        let stolen = app.authenticate("ada").await;
        let next = rotate(&app, true).await;
        assert_eq!(published(&app).await, [next.key_id.as_str()], "{kind:?}");
        assert!(!app.introspect(&stolen.access_token).await.active, "{kind:?}");
        let refresh = RefreshTokenRequest { refresh_token: stolen.refresh_token };
        let tokens = app.client().await.refresh_token(refresh).await.unwrap().into_inner().tokens.unwrap();
        assert_eq!(key_of(&tokens.access_token), next.key_id, "{kind:?}");
        assert!(app.introspect(&tokens.access_token).await.active, "{kind:?}");
    }
}

#[tokio::test]
async fn the_other_nodes_drop_a_stolen_key_within_a_minute() {
    let place = TestStore::new(StoreKind::Redis);
    let (one, _folder) = start(App::with(StoreKind::Redis).args(&["--token-issuer", "here"]), &place).await;
    let other = App::with(StoreKind::Redis).args(&["--token-issuer", "here"]).start_in(place).await;
    one.registered("ada").await;
    let stolen = one.authenticate("ada").await.access_token;
    assert!(other.introspect(&stolen).await.active);
    rotate(&one, true).await;
    other.clock.advance(Duration::from_secs(60));
    // Whoever asks first has the ring read again.
    assert!(!other.introspect(&stolen).await.active);
}

#[tokio::test]
async fn only_the_user_of_the_service_gets_to_the_admin_door_and_callers_have_none() {
    let place = TestStore::new(StoreKind::Memory);
    let (app, folder) = start(App::with(StoreKind::Memory), &place).await;
    let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode() & 0o777;
    let made = folder.path().join("made");
    assert_eq!((mode(&made), mode(&made.join("admin.sock"))), (0o700, 0o600));
    let mut outside = AuthAdminClient::new(app.channel().await);
    let refused = outside.rotate_signing_key(RotateSigningKeyRequest::default()).await.unwrap_err();
    assert_eq!((refused.code(), reason(&refused).as_str()), (Code::Unimplemented, "UNIMPLEMENTED"));
    app.stopped().await;
    assert!(!made.join("admin.sock").exists(), "the socket goes with the node");
    assert!(self::app().await.addresses.admin.is_none());
}

#[test]
fn the_command_rotates_the_key_of_the_node_that_runs_on_the_same_folder() {
    let folder = TempDir::new().unwrap();
    let data = folder.path().join("data").display().to_string();
    let command = |more: &[&str]| run(&[&["rotate-signing-key", "--data-dir", &data], more].concat());
    let (code, _, said) = command(&[]);
    assert!(code == 1 && said.contains("admin.sock does not answer") && said.contains("running"), "{said}");
    let mut node = Node::start(Path::new(&data), &[]);
    let (code, said, fault) = command(&[]);
    assert!(code == 0 && said.contains(" signs from "), "{said} {fault}");
    assert_eq!(command(&[]).1, said, "the same key waits");
    let (_, dropped, _) = command(&["--drop-old-keys"]);
    assert_ne!(dropped.split(' ').next(), said.split(' ').next());
    let key = dropped.split(' ').next().unwrap();
    assert!(node.wait_for_line(&format!("key_id=\"{key}\"")).unwrap().contains("sys_signing_key_rotated"));
    assert_eq!(command(&["--admin-addr", "off"]).0, 1);
    // Another node of the same folder, as with Redis, has no door there by itself, and does not start when it is asked to.
    let address = format!("unix:{data}/admin.sock");
    let other = Node::start(Path::new(&data), &["--store", "memory:"]);
    assert!(other.grpc.starts_with("127.0.0.1:"), "it serves");
    let refused = Node::try_start(Path::new(&data), &["--store", "memory:", "--admin-addr", &address]);
    assert!(refused.is_err_and(|log| log.contains(&address) && log.contains("in use")));
    assert_eq!(command(&[]).0, 0, "the door is the first node's");
    other.kill();
    // A killed node leaves its socket behind, which is in nobody's way.
    node.kill();
    assert_eq!(command(&[]).0, 1);
    drop(Node::start(Path::new(&data), &[]));
}
