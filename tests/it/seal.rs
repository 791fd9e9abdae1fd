//! Sealed keys: whoever reads the store alone makes no tokens, and no change of the seal signs anybody out.

use std::fs;

use serde_json::Value;
use tempfile::NamedTempFile;

use crate::support::{App, Place, StoreKind, run};

const OLD: &str = "00112233445566778899aabbccddeeff00112233445566778899aabbccddeeff";
const NEW: &str = "FFEEDDCCBBAA99887766554433221100ffeeddccbbaa99887766554433221100";

fn file(keys: &[&str]) -> NamedTempFile {
    let file = NamedTempFile::new().unwrap();
    fs::write(file.path(), format!("# keys\n{}\n", keys.join("\n"))).unwrap();
    file
}

async fn start(place: &Place, keys: &[&str]) -> App {
    let file = file(keys);
    let args = ["--seal-key-file", file.path().to_str().unwrap()];
    App::with(place.kind).args(if keys.is_empty() { &[] } else { &args }).start_in(place.clone()).await
}

/// What the binary says to this place and these keys, when it does not start.
fn refused(place: &Place, keys: &[&str]) -> String {
    let (file, flags) = (file(keys), place.flags());
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
async fn a_seal_hides_the_keys_and_signs_nobody_out_when_it_comes_and_when_it_changes() {
    for kind in StoreKind::KEPT {
        let place = Place::new(kind);
        let app = start(&place, &[]).await;
        app.registered("ada").await;
        let issuer = format!("http://{}", app.http_socket());
        let tokens = app.signed_in("ada").await;
        app.stopped().await;
        let plain: Value = serde_json::from_str(&place.kept_keys()).unwrap();
        let secrets = [&plain["refresh"], &plain["signing"][0]["private"]].map(|secret| secret.as_str().unwrap());

        for keys in [&[OLD][..], &[OLD], &[NEW, OLD], &[NEW]] {
            let file = file(keys);
            let args = ["--seal-key-file", file.path().to_str().unwrap(), "--token-issuer", &issuer];
            let app = App::with(kind).args(&args).start_in(place.clone()).await;
            assert!(app.introspect(&tokens.access_token).await.active, "{kind:?} {keys:?}");
            assert!(app.introspect(&tokens.refresh_token).await.active, "{kind:?} {keys:?}");
            app.stopped().await;
            let kept = place.kept_keys();
            assert!(secrets.iter().all(|secret| !kept.contains(secret)), "{kind:?} {keys:?}: {kept}");
        }
    }
}

#[tokio::test]
async fn a_node_without_the_right_key_does_not_start_and_says_which_it_needs() {
    for kind in StoreKind::KEPT {
        let place = Place::new(kind);
        let app = start(&place, &[OLD]).await;
        app.registered("ada").await;
        app.signed_in("ada").await;
        app.stopped().await;
        let kept: Value = serde_json::from_str(&place.kept_keys()).unwrap();
        let needed = kept["seal_key"].as_str().unwrap();
        for keys in [&[][..], &[NEW]] {
            let said = refused(&place, keys);
            for part in [needed, "--seal-key-file"] {
                assert!(said.contains(part), "{kind:?} {keys:?} lacks {part}: {said}");
            }
            assert!(!said.contains(&NEW[..16]) && !said.contains(&OLD[..16]), "no key is shown: {said}");
        }
    }
}

#[tokio::test]
async fn sealed_keys_that_somebody_changed_are_not_used() {
    for kind in StoreKind::KEPT {
        let place = Place::new(kind);
        let app = start(&place, &[OLD]).await;
        app.registered("ada").await;
        app.signed_in("ada").await;
        app.stopped().await;
        let kept: Value = serde_json::from_str(&place.kept_keys()).unwrap();
        for part in ["nonce", "sealed"] {
            let mut changed = kept.clone();
            let text = kept[part].as_str().unwrap();
            let first = if text.starts_with('A') { "B" } else { "A" };
            changed[part] = format!("{first}{}", &text[1..]).into();
            place.plant_keys(&changed.to_string());
            let said = refused(&place, &[OLD]);
            assert!(said.contains("were changed"), "{kind:?} {part}: {said}");
        }
    }
}
