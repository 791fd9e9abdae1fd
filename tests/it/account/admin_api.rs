//! The admin listener: who can connect to it, and the rotation of signing keys.

use std::{fs, os::unix::fs::PermissionsExt, path::Path, time::Duration};

use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use futures_util::StreamExt;
use serde_json::{Value, json};
use tempfile::TempDir;
use tonic::{
    Code,
    transport::{Channel, Endpoint},
};
use watchword::{
    api::pb::{
        IntrospectTokenRequest, RefreshTokenRequest, RotateSigningKeyRequest, RotateSigningKeyResponse,
        auth_admin_client::AuthAdminClient,
    },
    domain::{Clock, System},
};

use crate::support::{App, ManualClock, Node, Setup, StoreKind, TestStore, app, http, reason, run};

/// A server with an admin listener, and the folder of its socket.
async fn start(setup: Setup, place: &TestStore) -> (App, TempDir) {
    let folder = TempDir::new().unwrap();
    let address = format!("unix:{}", folder.path().join("created/admin.sock").display());
    (setup.args(&["--admin-addr", &address]).start_in(place.clone()).await, folder)
}

async fn admin(app: &App) -> AuthAdminClient<Channel> {
    let address = app.addresses.admin.as_ref().expect("the test opened the admin listener").to_string();
    AuthAdminClient::new(Endpoint::from_shared(address).unwrap().connect().await.unwrap())
}

async fn rotate(app: &App, drop_old_keys: bool) -> RotateSigningKeyResponse {
    admin(app).await.rotate_signing_key(RotateSigningKeyRequest { drop_old_keys }).await.unwrap().into_inner()
}

/// The ids of the keys in the published key set.
async fn published_key_ids(app: &App) -> Vec<String> {
    let keys: Value =
        serde_json::from_str(&http(app.http_socket(), "GET", "/.well-known/jwks.json", &[], "").await.body).unwrap();
    keys["keys"].as_array().unwrap().iter().map(|key| key["kid"].as_str().unwrap().to_owned()).collect()
}

fn key_id_of(token: &str) -> String {
    jsonwebtoken::decode_header(token).unwrap().kid.unwrap()
}

#[tokio::test]
async fn rotated_signing_key_is_published_before_use_and_existing_tokens_stay_valid() {
    for kind in StoreKind::ALL {
        let place = TestStore::new(kind);
        let (app, _folder) = start(App::with(kind).args(&["--access-token-lifetime", "1h"]), &place).await;
        app.registered("ada").await;
        let before = app.authenticate("ada").await;
        let old = key_id_of(&before.access_token);

        let next = rotate(&app, false).await;
        assert_eq!(published_key_ids(&app).await, [old.as_str(), &next.key_id], "{kind:?}");
        assert_eq!(rotate(&app, false).await, next, "{kind:?}: a second call returns the same key");
        assert_eq!(
            key_id_of(&app.authenticate("ada").await.access_token),
            old,
            "{kind:?}: other nodes may not have the new key yet"
        );
        assert_eq!(app.events.count("signing key rotated"), 1, "{kind:?}: reported once");

        app.clock.advance(Duration::from_secs(601));
        let after = app.authenticate("ada").await;
        assert_eq!(key_id_of(&after.access_token), next.key_id, "{kind:?}");
        for token in [&before.access_token, &after.access_token] {
            assert!(app.introspect(token).await.active, "{kind:?}");
        }
        assert!(app.introspect_refresh(&before.refresh_token).await.active, "{kind:?}");

        app.clock.advance(Duration::from_secs(3 * 3_600));
        app.authenticate("ada").await;
        assert_eq!(
            published_key_ids(&app).await,
            [next.key_id.as_str()],
            "{kind:?}: all tokens of the old key have expired"
        );
    }
}

#[tokio::test]
async fn dropping_old_keys_rejects_their_access_tokens_and_keeps_sessions() {
    for kind in StoreKind::ALL {
        let place = TestStore::new(kind);
        let (app, _folder) = start(App::with(kind), &place).await;
        app.registered("ada").await;
        let stolen = app.authenticate("ada").await;
        let next = rotate(&app, true).await;
        assert_eq!(published_key_ids(&app).await, [next.key_id.as_str()], "{kind:?}");
        assert!(!app.introspect(&stolen.access_token).await.active, "{kind:?}");
        let refresh = RefreshTokenRequest { refresh_token: stolen.refresh_token, ..Default::default() };
        let tokens = app.client().await.refresh_token(refresh).await.unwrap().into_inner().tokens.unwrap();
        assert_eq!(key_id_of(&tokens.access_token), next.key_id, "{kind:?}");
        assert!(app.introspect(&tokens.access_token).await.active, "{kind:?}");
    }
}

#[tokio::test]
async fn other_node_refuses_dropped_keys_within_a_second_and_accepts_new_ones_at_once() {
    let place = TestStore::new(StoreKind::Redis);
    let (one, _folder) =
        start(App::with(StoreKind::Redis).args(&["--token-issuer", "https://here.example"]), &place).await;
    let other = App::with(StoreKind::Redis).args(&["--token-issuer", "https://here.example"]);
    let other = other.clock(ManualClock::stopped()).start_in(place).await;
    one.registered("ada").await;
    let stolen = one.authenticate("ada").await;
    assert!(other.introspect(&stolen.access_token).await.active);
    rotate(&one, true).await;
    // The clock of the other node stands still: only the unknown keys tell it to read the ring again.
    assert!(other.introspect(&stolen.access_token).await.active, "the control: it has read the ring a moment ago");
    let fresh = one.authenticate("ada").await;
    assert!(other.introspect(&fresh.access_token).await.active, "a new access token is valid at once");
    assert!(!other.introspect(&stolen.access_token).await.active, "and with it the old keys are gone");

    let (stolen, _) = (one.authenticate("ada").await, rotate(&one, true).await);
    let fresh = one.authenticate("ada").await;
    let refresh = RefreshTokenRequest { refresh_token: fresh.refresh_token, ..Default::default() };
    let refreshed = other.client().await.refresh_token(refresh).await;
    assert!(refreshed.is_ok(), "a new refresh token is valid at once: {refreshed:?}");
    assert!(!other.introspect(&stolen.access_token).await.active);

    let stolen = one.authenticate("ada").await;
    assert!(other.introspect(&stolen.access_token).await.active);
    rotate(&one, true).await;
    other.clock.advance(Duration::from_millis(800));
    assert!(!other.introspect(&stolen.access_token).await.active, "without unknown keys, within a second");
}

/// The key ids of forged tokens are made up, so they are all unknown.
#[tokio::test]
async fn flood_of_unknown_key_ids_reads_the_key_ring_rarely_and_keeps_no_valid_token_out() {
    let place = TestStore::new(StoreKind::Redis);
    let app = App::with(StoreKind::Redis).start_in(place.clone()).await;
    app.registered("ada").await;
    let valid = app.authenticate("ada").await;
    let reads = || -> u64 {
        let stats: String = place.redis().ask(&["INFO", "commandstats"]);
        let get = stats.lines().find_map(|line| line.strip_prefix("cmdstat_get:calls="));
        get.map_or(0, |rest| rest.split(',').next().unwrap().parse().unwrap())
    };
    let (before, start, client) = (reads(), System.monotonic(), app.client().await);
    let forged = (0..2_000).map(|number| {
        let header = json!({"alg": "ES256", "kid": format!("{number:043}"), "typ": "at+jwt"}).to_string();
        let token = format!("{}.e30.AA", URL_SAFE_NO_PAD.encode(header));
        let mut client = client.clone();
        async move {
            client
                .introspect_token(IntrospectTokenRequest { token, ..Default::default() })
                .await
                .unwrap()
                .into_inner()
                .active
        }
    });
    let answers = futures_util::stream::iter(forged).buffer_unordered(100).collect::<Vec<_>>().await;
    assert!(answers.len() == 2_000 && !answers.contains(&true));
    // One each 50 ms; as many again for what else the node asks Redis.
    let readings_max = System.monotonic().duration_since(start).as_millis() / 25 + 4;
    let readings = u128::from(reads() - before);
    assert!((1..=readings_max).contains(&readings), "{readings} readings, {readings_max} at most");
    assert!(app.introspect(&valid.access_token).await.active);
}

#[tokio::test]
async fn admin_socket_is_private_to_the_service_user_and_absent_from_the_grpc_listener() {
    let place = TestStore::new(StoreKind::Memory);
    let (app, folder) = start(App::with(StoreKind::Memory), &place).await;
    let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode() & 0o777;
    let socket_folder = folder.path().join("created");
    assert_eq!((mode(&socket_folder), mode(&socket_folder.join("admin.sock"))), (0o700, 0o600));
    let mut over_grpc = AuthAdminClient::new(app.channel().await);
    let error = over_grpc.rotate_signing_key(RotateSigningKeyRequest::default()).await.unwrap_err();
    assert_eq!((error.code(), reason(&error).as_str()), (Code::Unimplemented, "UNIMPLEMENTED"));
    app.stopped().await;
    assert!(!socket_folder.join("admin.sock").exists(), "the node removes its socket when it stops");
    assert!(self::app().await.addresses.admin.is_none());
}

#[test]
fn rotate_signing_key_command_reaches_the_node_that_uses_the_same_data_folder() {
    let folder = TempDir::new().unwrap();
    let data = folder.path().join("data").display().to_string();
    let command = |more: &[&str]| run(&[&["rotate-signing-key", "--data-dir", &data], more].concat());
    let (code, _, stderr) = command(&[]);
    assert!(code == 1 && stderr.contains("admin.sock does not answer") && stderr.contains("running"), "{stderr}");
    let mut node = Node::start(Path::new(&data), &[]);
    let (code, rotated, stderr) = command(&[]);
    assert!(code == 0 && rotated.contains(" signs from "), "{rotated} {stderr}");
    assert_eq!(command(&[]).1, rotated, "a second call returns the same pending key");
    let (_, dropped, _) = command(&["--drop-old-keys"]);
    assert_ne!(dropped.split(' ').next(), rotated.split(' ').next());
    let key = dropped.split(' ').next().unwrap();
    assert!(node.wait_for_line(&format!("key_id=\"{key}\"")).unwrap().contains("sys_signing_key_rotated"));
    assert_eq!(command(&["--admin-addr", "off"]).0, 1);
    // A second node with the same data folder, as with Redis, opens no admin listener there by default. It does not start
    // when it is configured to.
    let address = format!("unix:{data}/admin.sock");
    let other = Node::start(Path::new(&data), &["--store", "memory:"]);
    assert!(other.grpc.starts_with("127.0.0.1:"), "the second node serves calls");
    let result = Node::try_start(Path::new(&data), &["--store", "memory:", "--admin-addr", &address]);
    assert!(result.is_err_and(|log| log.contains(&address) && log.contains("in use")));
    assert_eq!(command(&[]).0, 0, "the socket still belongs to the first node");
    other.kill();
    // A killed node leaves its socket behind. The next node replaces it.
    node.kill();
    assert_eq!(command(&[]).0, 1);
    drop(Node::start(Path::new(&data), &[]));
}
