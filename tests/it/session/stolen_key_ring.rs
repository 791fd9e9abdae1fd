//! An attacker has the whole key ring: what they can forge is accepted before the old keys are dropped, and not after.
//!
//! Each forgery is made here from the stolen secrets alone, without code of ours. Planted-bug control: a ring that keeps one
//! of the stolen secrets accepts the forgeries of that one again.

use std::sync::Arc;

use altcha::{Challenge, HmacAlgorithm, Payload, SolveChallengeOptions, sign_challenge, solve_challenge};
use aws_lc_rs::{
    hmac,
    rand::SystemRandom,
    signature::{ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair},
};
use base64::{
    Engine,
    engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD},
};
use serde_json::{Value, json};
use watchword::{
    api::pb,
    domain::{KeyRing, Replace, Store, StoredSecret},
    store::TypedStore,
};

use super::refresh;
use crate::support::{Api, App, CHEAP_WORK, StoreKind, TestStore, hostile::part, password};

/// What the attacker has: the ring, and the tokens of a session of their own.
struct Thief {
    ring: KeyRing,
    /// The id of its signing key.
    key_id: Value,
}

/// The secrets of a ring.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Secret {
    Signing,
    Refresh,
    Challenges,
}

fn sign(key: &[u8], parts: &[&[u8]]) -> Vec<u8> {
    hmac::sign(&hmac::Key::new(hmac::HMAC_SHA256, key), &parts.concat()).as_ref().to_vec()
}

impl Thief {
    /// An access token of this session.
    fn access_token(&self, victim: &pb::Tokens) -> String {
        let key = EcdsaKeyPair::from_pkcs8(&ECDSA_P256_SHA256_FIXED_SIGNING, &self.ring.signing[0].private).unwrap();
        let mut claims = part(&victim.access_token, 1);
        claims["jti"] = "forged".into();
        let header = json!({"alg": "ES256", "kid": self.key_id, "typ": "at+jwt"});
        let encode = |part: &Value| URL_SAFE_NO_PAD.encode(part.to_string());
        let signed = format!("{}.{}", encode(&header), encode(&claims));
        let signature = key.sign(&SystemRandom::new(), signed.as_bytes()).unwrap();
        format!("{signed}.{}", URL_SAFE_NO_PAD.encode(signature))
    }

    /// A refresh token of this session with any generation and secret, and a good tag.
    fn refresh_token(&self, victim: &pb::Tokens, generation: u32, secret: &[u8]) -> String {
        let key = &self.ring.refresh[0].secret[..];
        let session = uuid::Uuid::parse_str(&victim.session_id).unwrap();
        let key_id = &sign(key, &[b"key id"])[..4];
        let body = [&session.as_bytes()[..], &generation.to_be_bytes(), key_id, secret].concat();
        let tag = &sign(key, &[b"tag", &body])[..16];
        format!("wwr_{}", URL_SAFE_NO_PAD.encode([&body[..], tag].concat()))
    }

    /// A solved challenge with this cost.
    fn solution(&self, like: &Challenge, cost: u32) -> String {
        let day = (like.parameters.expires_at.unwrap() - 300) / 86_400;
        let purpose = format!("watchword challenge {day}");
        let derived = sign(&self.ring.challenges[0].secret[..], &[purpose.as_bytes()]);
        let secret = URL_SAFE_NO_PAD.encode(sign(&derived, &[b"altcha 2"]));
        let mut parameters = like.parameters.clone();
        parameters.nonce = format!("{cost:032x}");
        parameters.cost = cost.min(CHEAP_WORK.cost);
        let easy = sign_challenge(&HmacAlgorithm::Sha256, &mut parameters.clone(), None, &secret, None).unwrap();
        let solution = solve_challenge(SolveChallengeOptions::new(&easy)).unwrap().unwrap();
        parameters.cost = cost;
        let challenge = sign_challenge(&HmacAlgorithm::Sha256, &mut parameters, None, &secret, None).unwrap();
        STANDARD.encode(serde_json::to_string(&Payload { challenge, solution }).unwrap())
    }

    /// The forgeries that the service accepts.
    async fn accepted(&self, app: &App, round: &str) -> Vec<Secret> {
        let mut accepted = Vec::new();
        let victim = app.authenticate("ada").await;
        // The attacker has seen the tokens of the victim, but for those of the present generation.
        let old = URL_SAFE_NO_PAD.decode(&victim.refresh_token[4..]).unwrap();
        let now = refresh(app, &victim.refresh_token).await.unwrap();
        if app.introspect(&self.access_token(&victim)).await.active {
            accepted.push(Secret::Signing);
        }
        // With the ring alone the next token cannot be derived from the spent one.
        let (session, one) = (uuid::Uuid::parse_str(&victim.session_id).unwrap(), 1_u32.to_be_bytes());
        for nonce in [&[][..], &[0; 16]] {
            let parts = [&b"successor"[..], session.as_bytes(), &one, &old[24..56], nonce];
            let next = sign(&self.ring.refresh[0].secret[..], &parts);
            assert!(refresh(app, &self.refresh_token(&victim, 1, &next)).await.is_err(), "{round}");
        }
        // A made-up token ends the session as one that was used twice, or as a logout.
        let made_up = self.refresh_token(&victim, 0, &[7; 32]);
        assert!(refresh(app, &made_up).await.is_err());
        let request = pb::RevokeTokenRequest { token: made_up };
        app.client().await.revoke_token(request).await.unwrap();
        if refresh(app, &now.refresh_token).await.is_err() {
            accepted.push(Secret::Refresh);
        }
        let like = challenge(app).await;
        let proof = self.solution(&like, CHEAP_WORK.cost);
        let name = format!("eve-{round}").to_lowercase();
        if Api::Grpc.register_with(app, &name, &password(&name), "", &proof).await.outcome() == "ok" {
            accepted.push(Secret::Challenges);
        }
        accepted
    }
}

async fn drop_old_keys(app: &App) {
    let request = pb::RotateSigningKeyRequest { drop_old_keys: true };
    app.admin().await.rotate_signing_key(request).await.unwrap();
}

/// A challenge for a registration.
async fn challenge(app: &App) -> Challenge {
    let request = pb::CreateChallengeRequest { purpose: pb::ChallengePurpose::Register.into(), ..Default::default() };
    let answer = app.client().await.create_challenge(request).await.unwrap().into_inner();
    serde_json::from_str(&answer.challenge).unwrap()
}

/// A node, its store, and a thief of its ring.
async fn robbed(kind: StoreKind) -> (App, Arc<TypedStore>, Thief, TestStore) {
    let place = TestStore::new(kind);
    let documents = place.open_documents().await;
    let store = Arc::new(TypedStore::over(documents.clone()));
    let app = App::on(documents).with_admin().start().await;
    app.registered("ada").await;
    let key_id = part(&app.authenticate("ada").await.access_token, 0)["kid"].clone();
    let ring = store.keys().await.unwrap().unwrap().value;
    (app, store, Thief { ring, key_id }, place)
}

#[tokio::test]
async fn stolen_key_ring_forges_nothing_after_the_old_keys_are_dropped() {
    for kind in StoreKind::ALL {
        let (app, _store, thief, _place) = robbed(kind).await;
        let all = [Secret::Signing, Secret::Refresh, Secret::Challenges];
        assert_eq!(thief.accepted(&app, "before").await, all, "{kind:?}: the control: the forgeries are good");
        drop_old_keys(&app).await;
        let accepted = thief.accepted(&app, "after").await;
        assert!(accepted.is_empty(), "{kind:?}: {accepted:?}");
    }
}

/// Planted-bug control: what a rotation that forgets one secret would store.
#[tokio::test]
async fn ring_that_keeps_one_stolen_secret_accepts_its_forgeries() {
    for kept in [Secret::Signing, Secret::Refresh, Secret::Challenges] {
        let (app, store, thief, _place) = robbed(StoreKind::Memory).await;
        drop_old_keys(&app).await;
        let seen = store.keys().await.unwrap().unwrap();
        let mut ring = seen.value;
        match kept {
            Secret::Signing => ring.signing = thief.ring.signing.clone(),
            Secret::Refresh => ring.refresh = thief.ring.refresh.clone(),
            Secret::Challenges => ring.challenges = thief.ring.challenges.clone(),
        }
        assert_eq!(store.replace_keys(&seen.revision, &ring).await.unwrap(), Replace::Replaced);
        app.clock.advance(std::time::Duration::from_secs(1));
        assert_eq!(thief.accepted(&app, "kept").await, [kept]);
    }
}

#[tokio::test]
async fn every_secret_of_the_ring_is_new_after_a_drop_and_no_old_one_makes_anything() {
    for kind in StoreKind::ALL {
        let (app, store, thief, _place) = robbed(kind).await;
        drop_old_keys(&app).await;
        let KeyRing { signing, refresh, challenges, hashes, session_epoch: _ } =
            store.keys().await.unwrap().unwrap().value;
        let old = thief.ring;
        assert!(signing.len() == 1 && signing[0].private != old.signing[0].private, "{kind:?}");
        let usable = |secrets: &[StoredSecret]| secrets.iter().filter(|secret| !secret.is_exposed).cloned().collect();
        for (now, before) in [(refresh, old.refresh), (challenges, old.challenges), (hashes, old.hashes)] {
            let usable: Vec<StoredSecret> = usable(&now);
            assert!(usable.len() == 1 && usable[0].secret != before[0].secret, "{kind:?}");
        }
    }
}

#[tokio::test]
async fn sessions_continue_after_a_drop_with_tokens_of_the_new_secret() {
    for kind in StoreKind::ALL {
        let (app, store, thief, _place) = robbed(kind).await;
        let before = app.authenticate("ada").await;
        let second = refresh(&app, &before.refresh_token).await.unwrap();
        drop_old_keys(&app).await;
        // The answer to the last refresh was lost.
        let again = refresh(&app, &before.refresh_token).await.unwrap();
        assert_eq!(again.refresh_token, second.refresh_token, "{kind:?}");
        let third = refresh(&app, &second.refresh_token).await.unwrap();
        let key_id = |token: &str| URL_SAFE_NO_PAD.decode(&token[4..]).unwrap()[20..24].to_vec();
        assert_eq!(
            key_id(&second.refresh_token),
            sign(&thief.ring.refresh[0].secret[..], &[b"key id"])[..4],
            "{kind:?}"
        );
        assert_ne!(key_id(&third.refresh_token), key_id(&second.refresh_token), "{kind:?}");
        assert!(app.introspect(&third.access_token).await.active, "{kind:?}");
        let ring = store.keys().await.unwrap().unwrap().value;
        assert!(ring.refresh[0].is_exposed, "{kind:?}");
    }
}

/// A lockout must not end because a key was stolen.
#[tokio::test]
async fn failed_attempts_are_kept_when_the_secret_of_keyed_hashes_changes() {
    for kind in StoreKind::ALL {
        let place = TestStore::new(kind);
        let app = App::with(kind).args(&["--throttle", "on"]).with_admin().start_in(place).await;
        app.registered("ada").await;
        let attempt = async |password: &str| Api::Grpc.login(&app, "ada", password).await.outcome();
        for _ in 0..2 {
            assert_eq!(attempt("a wrong password").await, "INVALID_CREDENTIALS", "{kind:?}");
        }
        app.rules.store_failed_attempts().await;
        drop_old_keys(&app).await;
        let request = || pb::AuthAdminGetUserRequest {
            user: Some(pb::auth_admin_get_user_request::User::Username("ada".into())),
        };
        let failures =
            async || app.admin().await.get_user(request()).await.unwrap().into_inner().user.unwrap().failure_count;
        assert_eq!(failures().await, 2, "{kind:?}");
        attempt("a wrong password").await;
        app.rules.store_failed_attempts().await;
        assert_eq!(failures().await, 3, "{kind:?}");
        app.admin().await.unlock_user(pb::UnlockUserRequest { username: "ada".into() }).await.unwrap();
        assert_eq!(failures().await, 0, "{kind:?}: what was counted under the old secret does not come back");
    }
}

/// A worker of the hash pool would compute it for 20 s.
#[tokio::test]
async fn signed_challenge_with_other_work_than_the_settings_is_refused_without_computing() {
    let (app, _store, thief, _place) = robbed(StoreKind::Memory).await;
    let like = challenge(&app).await;
    let checked = app.events.count("challenge checked");
    for cost in [400_000_000, CHEAP_WORK.cost + 1, 1] {
        let proof = thief.solution(&like, cost);
        let answer = Api::Grpc.register_with(&app, "eve", &password("eve"), "", &proof).await;
        assert_eq!(answer.outcome(), "CHALLENGE_INVALID", "{cost}");
    }
    assert_eq!((app.events.count("challenge checked"), app.events.count("challenge spent")), (checked, 0));
    let proof = thief.solution(&like, CHEAP_WORK.cost);
    let answer = Api::Grpc.register_with(&app, "eve", &password("eve"), "", &proof).await;
    assert_eq!(answer.outcome(), "ok", "the control: the attacker's challenges are good");
}
