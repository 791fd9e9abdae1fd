//! Sealed keys: whoever reads the store alone makes no tokens, and no change of the seal signs anybody out.

use std::time::Duration;

use aws_lc_rs::aead::{AES_256_GCM, Aad, LessSafeKey, Nonce, UnboundKey};
use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use serde_json::{Value, json};
use watchword::api::pb;

use crate::support::{App, StoreKind, TestStore, http, key_file, reason, run};

const OLD: &str = "00112233445566778899aabbccddeeff00112233445566778899aabbccddeeff";
const NEW: &str = "FFEEDDCCBBAA99887766554433221100ffeeddccbbaa99887766554433221100";

async fn start(place: &TestStore, keys: &[&str]) -> App {
    let file = key_file(keys);
    let args = ["--seal-key-file", file.path().to_str().unwrap()];
    App::with(place.kind).args(if keys.is_empty() { &[] } else { &args }).start_in(place.clone()).await
}

/// Has a node make the ring, and stops it.
async fn with_ring(place: &TestStore, keys: &[&str]) {
    let app = start(place, keys).await;
    app.registered("ada").await;
    app.authenticate("ada").await;
    app.stopped().await;
}

/// What the binary says to this place and these keys, when it does not start.
fn refused(place: &TestStore, keys: &[&str]) -> String {
    let (file, flags) = (key_file(keys), place.flags());
    let mut args = vec!["--grpc-addr", "127.0.0.1:0", "--http-addr", "off", "--ops-addr", "off"];
    args.extend(flags.iter().map(String::as_str));
    if !keys.is_empty() {
        args.extend(["--seal-key-file", file.path().to_str().unwrap()]);
    }
    let (code, _, said) = run(&args);
    assert_eq!(code, 1, "{said}");
    said
}

#[tokio::test]
async fn seal_hides_the_keys_and_changing_it_ends_no_session() {
    for kind in StoreKind::DURABLE {
        let place = TestStore::new(kind);
        let app = start(&place, &[]).await;
        app.registered("ada").await;
        let issuer = format!("http://{}", app.http_socket());
        let tokens = app.authenticate("ada").await;
        app.stopped().await;
        let plain: Value = serde_json::from_str(&place.stored_keys()).unwrap();
        let secret = |kind: &str, member: &str| plain[kind][0][member].as_str().unwrap();
        let secrets = ["refresh", "challenges", "hashes"].map(|kind| secret(kind, "secret"));
        let secrets = [&secrets[..], &[secret("signing", "private")]].concat();

        for (keys, is_hidden) in [
            (&["plain", OLD][..], false),
            (&[OLD, "plain"], true),
            (&[OLD], true),
            (&[OLD, NEW], true),
            (&[NEW, OLD], true),
            (&[NEW], true),
            (&["plain", NEW], false),
            (&[], false),
        ] {
            let file = key_file(keys);
            let mut args = vec!["--token-issuer", &issuer];
            if !keys.is_empty() {
                args.extend(["--seal-key-file", file.path().to_str().unwrap()]);
            }
            let app = App::with(kind).args(&args).start_in(place.clone()).await;
            assert!(app.introspect(&tokens.access_token).await.active, "{kind:?} {keys:?}");
            assert!(app.introspect_refresh(&tokens.refresh_token).await.active, "{kind:?} {keys:?}");
            app.stopped().await;
            let kept = place.stored_keys();
            let hides = secrets.iter().all(|secret| !kept.contains(secret));
            assert_eq!(hides, is_hidden, "{kind:?} {keys:?}: {kept}");
        }
    }
}

#[tokio::test]
async fn unreadable_key_ring_stops_the_start_with_a_clear_error() {
    for kind in StoreKind::DURABLE {
        let place = TestStore::new(kind);
        with_ring(&place, &[OLD]).await;
        let sealed = place.stored_keys();
        let needed = serde_json::from_str::<Value>(&sealed).unwrap()["seal_key"].as_str().unwrap().to_owned();
        for keys in [&[][..], &[NEW], &["plain", NEW]] {
            let said = refused(&place, keys);
            for part in [&needed, "--seal-key-file"] {
                assert!(said.contains(part), "{kind:?} {keys:?} lacks {part}: {said}");
            }
            assert!(!said.contains(&NEW[..16]) && !said.contains(&OLD[..16]), "no key is shown: {said}");
        }
        // Planted by somebody who can write to the store, or from before the first seal.
        place.write_keys(&unsealed(&sealed));
        let said = refused(&place, &[OLD]);
        assert!(said.contains("not sealed") && said.contains("`plain`"), "{kind:?}: {said}");
    }
}

/// Of a newer version, or torn: whatever it is, somebody may still be able to read it.
#[tokio::test]
async fn document_that_is_no_key_ring_is_not_changed() {
    for kind in StoreKind::DURABLE {
        let place = TestStore::new(kind);
        start(&place, &[OLD]).await.stopped().await;
        for document in [r#"{"v":2,"x":1}"#, r#"{"v":2,"seal_key":"a","x":1}"#, "torn"] {
            place.write_keys(document);
            for keys in [&[OLD, "plain"][..], &[]] {
                let said = refused(&place, keys);
                assert!(said.contains("--seal-key-file"), "{kind:?} {document}: {said}");
                assert_eq!(place.stored_keys(), document, "{kind:?}");
            }
        }
    }
}

/// A ring that another node wrote in a way that this one cannot read may be one from which a stolen key was dropped.
#[tokio::test]
async fn node_with_unreadable_key_ring_accepts_no_token_and_warns() {
    let place = TestStore::new(StoreKind::Redis);
    let app = start(&place, &["plain"]).await;
    app.registered("ada").await;
    let tokens = app.authenticate("ada").await;
    assert!(app.introspect(&tokens.access_token).await.active);
    let other = start(&place, &[OLD, "plain"]).await;
    app.clock.advance(Duration::from_secs(60));
    let request = pb::IntrospectTokenRequest { token: tokens.access_token, ..Default::default() };
    let refused = app.client().await.introspect_token(request).await.unwrap_err();
    assert_eq!(reason(&refused), "CORRUPT_RECORD");
    let ready = readiness(&app, 503).await;
    assert!(ready.contains("--seal-key-file") && ready.contains("the keys cannot be read"), "{ready}");

    other.stopped().await;
    start(&place, &["plain", OLD]).await.stopped().await;
    app.authenticate("ada").await;
    assert_eq!(readiness(&app, 200).await, "ready\n", "it reads them again");
}

/// What the ops door says as soon as it says it with this status.
async fn readiness(app: &App, status: u16) -> String {
    loop {
        let reply = http(app.ops_socket(), "GET", "/readyz", &[], "").await;
        if reply.status == status {
            return reply.body;
        }
    }
}

#[tokio::test]
async fn check_config_reports_the_seal_and_whether_the_keys_are_readable() {
    for kind in StoreKind::DURABLE {
        let place = TestStore::new(kind);
        let check = |keys: &[&str]| {
            let (file, flags) = (key_file(keys), place.flags());
            let mut args = vec!["check-config", "--seal-key-file", file.path().to_str().unwrap()];
            args.extend(flags.iter().map(String::as_str));
            run(&args)
        };
        assert!(check(&[OLD]).1.contains("keys of tokens: none yet"), "{kind:?}");
        with_ring(&place, &[OLD]).await;
        let (code, said, _) = check(&["plain", NEW, OLD]);
        let kept: Value = serde_json::from_str(&place.stored_keys()).unwrap();
        let id = kept["seal_key"].as_str().unwrap();
        assert!(code == 0 && said.contains(&format!("keys of tokens: sealed with {id}")), "{kind:?}: {said}");
        let ways = said.lines().find(|line| line.starts_with("seal: ")).unwrap();
        assert!(ways.contains("plain") && ways.ends_with(&format!("\"{id}\"]")), "in the order of the file: {ways}");
        let (code, _, fault) = check(&["plain", NEW]);
        assert!(code == 1 && fault.contains(id) && fault.contains("--seal-key-file"), "{kind:?}: {fault}");
    }
}

#[tokio::test]
async fn tampered_sealed_keys_are_not_used() {
    for kind in StoreKind::DURABLE {
        let place = TestStore::new(kind);
        with_ring(&place, &[OLD]).await;
        let kept: Value = serde_json::from_str(&place.stored_keys()).unwrap();
        for part in ["nonce", "sealed"] {
            let mut changed = kept.clone();
            let text = kept[part].as_str().unwrap();
            let first = if text.starts_with('A') { "B" } else { "A" };
            changed[part] = format!("{first}{}", &text[1..]).into();
            place.write_keys(&changed.to_string());
            let said = refused(&place, &[OLD]);
            assert!(said.contains("were changed"), "{kind:?} {part}: {said}");
        }
    }
}

/// Nodes of two versions share a ring while one replaces the other.
#[tokio::test]
async fn fields_of_a_newer_program_survive_a_rotation_sealed_or_not() {
    for kind in StoreKind::DURABLE {
        for keys in [&[][..], &[OLD]] {
            let place = TestStore::new(kind);
            with_ring(&place, &[]).await;
            let mut newer: Value = serde_json::from_str(&place.stored_keys()).unwrap();
            newer["x"] = json!({"y": [1, null]});
            newer["signing"][0]["note"] = "kept".into();
            newer["refresh"][0]["note"] = "kept".into();
            place.write_keys(&newer.to_string());

            let app = start(&place, if keys.is_empty() { &[] } else { &[OLD, "plain"] }).await;
            app.clock.advance(Duration::from_secs(89 * 86_400));
            app.authenticate("ada").await;
            app.stopped().await;
            if !keys.is_empty() {
                place.write_keys(&unsealed(&place.stored_keys()));
            }
            let kept: Value = serde_json::from_str(&place.stored_keys()).unwrap();
            assert_eq!(kept["signing"].as_array().unwrap().len(), 2, "{kind:?}: the next key is there");
            assert_eq!((&kept["x"], &kept["signing"][0]["note"]), (&newer["x"], &json!("kept")), "{kind:?} {keys:?}");
            assert_eq!(kept["refresh"][0]["note"], "kept", "{kind:?} {keys:?}");
        }
    }
}

/// Opens a sealed document without any code of ours.
fn unsealed(document: &str) -> String {
    let sealed: Value = serde_json::from_str(document).unwrap();
    let part = |name: &str| URL_SAFE_NO_PAD.decode(sealed[name].as_str().unwrap()).unwrap();
    let key: Vec<u8> = (0..32).map(|at| u8::from_str_radix(&OLD[2 * at..2 * at + 2], 16).unwrap()).collect();
    let key = LessSafeKey::new(UnboundKey::new(&AES_256_GCM, &key).unwrap());
    let nonce = Nonce::try_assume_unique_for_key(&part("nonce")).unwrap();
    let mut text = part("sealed");
    let opened = key.open_in_place(nonce, Aad::from(b"watchword:keys"), &mut text).unwrap();
    String::from_utf8(opened.to_vec()).unwrap()
}
