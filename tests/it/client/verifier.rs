//! `Verifier`: which tokens are valid offline, and with which keys.

use std::{
    sync::{
        Arc, Mutex,
        atomic::{AtomicUsize, Ordering},
    },
    time::{Duration, SystemTime},
};

use aws_lc_rs::{
    rand::SystemRandom,
    signature::{ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, KeyPair},
};
use axum::{Router, http::StatusCode, routing::get};
use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use futures_util::{FutureExt, future::join_all};
use serde_json::{Value, json};
use tokio::net::TcpListener;
use watchword::client::{Clock, Verifier, VerifierBuilder, VerifyError, pb};

use super::{ManualMonotonicClock, connected};
use crate::support::{
    App, ManualClock, StoreKind, app,
    fault::{Fault, Faulty},
    hostile::hostile,
    http,
    proxy::{NetworkCondition, Proxy},
};

const KEYS: &str = "/.well-known/jwks.json";

/// The builder of a verifier of the app's tokens, with the app's clock.
pub(super) fn of(app: &App) -> VerifierBuilder {
    Verifier::builder(format!("http://{}", app.http_socket()), "watchword").clock(app.clock.clone())
}

async fn with_ada() -> (App, String) {
    let app = app().await;
    app.registered("ada").await;
    let token = app.authenticate("ada").await.access_token;
    (app, token)
}

/// A key server with a document that the test sets. It counts the fetches.
struct KeyServer {
    address: String,
    document: Arc<Mutex<(StatusCode, String)>>,
    fetches: Arc<AtomicUsize>,
}

impl KeyServer {
    async fn new(document: &str) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = format!("http://{}", listener.local_addr().unwrap());
        let document = Arc::new(Mutex::new((StatusCode::OK, document.to_owned())));
        let fetches = Arc::new(AtomicUsize::new(0));
        let (response, counter) = (document.clone(), fetches.clone());
        let keys = get(async move || {
            counter.fetch_add(1, Ordering::SeqCst);
            response.lock().unwrap().clone()
        });
        tokio::spawn(async move { axum::serve(listener, Router::new().route("/", keys)).await });
        Self { address, document, fetches }
    }

    fn publish(&self, status: u16, document: &str) {
        *self.document.lock().unwrap() = (StatusCode::from_u16(status).unwrap(), document.to_owned());
    }

    fn fetches(&self) -> usize {
        self.fetches.load(Ordering::SeqCst)
    }
}

/// Signs any token with its own key.
struct Signer(EcdsaKeyPair);

impl Signer {
    fn new() -> Self {
        Self(EcdsaKeyPair::generate(&ECDSA_P256_SHA256_FIXED_SIGNING).unwrap())
    }

    fn document(&self) -> String {
        let point = &self.0.public_key().as_ref()[1..];
        let [x, y] = [&point[..32], &point[32..]].map(|half| URL_SAFE_NO_PAD.encode(half));
        json!({"keys": [{"kty": "EC", "crv": "P-256", "kid": "test-key", "x": x, "y": y}]}).to_string()
    }

    fn token(&self, header: &Value, claims: &Value) -> String {
        let encode = |part: &Value| URL_SAFE_NO_PAD.encode(part.to_string());
        let signed = format!("{}.{}", encode(header), encode(claims));
        let signature = self.0.sign(&SystemRandom::new(), signed.as_bytes()).unwrap();
        format!("{signed}.{}", URL_SAFE_NO_PAD.encode(signature))
    }
}

async fn document(app: &App) -> String {
    http(app.http_socket(), "GET", KEYS, &[], "").await.body
}

#[tokio::test]
async fn valid_token_is_verified_until_it_expires() {
    let (app, token) = with_ada().await;
    let verifier = of(&app).build().unwrap();
    let identity = verifier.verify(&token).await.unwrap();
    let found = app.introspect(&token).await;
    assert_eq!((&identity.user_id, &identity.session_id), (&found.user_id, &found.session_id));
    assert_eq!(identity.username, None, "a token contains no username");
    let expires = SystemTime::UNIX_EPOCH + Duration::from_secs(found.expire_time.unwrap().seconds.unsigned_abs());
    assert_eq!(identity.expire_time, expires);
    let with_leeway = of(&app).leeway(Duration::from_secs(60)).build().unwrap();
    app.clock.advance(Duration::from_secs(298));
    assert!(verifier.verify(&token).await.is_ok());
    app.clock.advance(Duration::from_secs(2));
    assert_eq!(verifier.verify(&token).await, Err(VerifyError::Expired));
    assert!(with_leeway.verify(&token).await.is_ok());
    app.clock.advance(Duration::from_secs(60));
    assert_eq!(with_leeway.verify(&token).await, Err(VerifyError::Expired));
    assert!(of(&app).leeway(Duration::from_secs(61)).build().is_err());
}

#[tokio::test]
async fn token_of_another_issuer_audience_or_key_is_invalid() {
    let ((app, token), (_other, foreign)) = (with_ada().await, with_ada().await);
    let issuer = format!("http://{}", app.http_socket());
    let keys = format!("{issuer}{KEYS}");
    let verifier = |issuer: &str, audience: &str| {
        Verifier::builder(issuer, audience).keys_at(&keys).clock(app.clock.clone()).build().unwrap()
    };
    assert!(verifier(&issuer, "watchword").verify(&token).await.is_ok(), "the control");
    for (issuer, audience, token) in [
        (&*issuer, "another", &token),
        (&*issuer, "", &token),
        ("https://auth.example", "watchword", &token),
        (&*format!("{issuer}/"), "watchword", &token),
        (&*issuer, "watchword", &foreign),
    ] {
        assert_eq!(verifier(issuer, audience).verify(token).await, Err(VerifyError::Invalid), "{issuer} {audience}");
    }
    let refresh = app.authenticate("ada").await.refresh_token;
    assert_eq!(verifier(&issuer, "watchword").verify(&refresh).await, Err(VerifyError::Invalid));
}

/// T14, for services that verify offline.
#[tokio::test]
async fn no_hostile_token_is_valid_or_causes_another_key_fetch() {
    let (app, token) = with_ada().await;
    let keys = KeyServer::new(&document(&app).await).await;
    let verifier = of(&app).keys_at(&keys.address).build().unwrap();
    verifier.verify(&token).await.unwrap();
    let mut corpus = hostile(&token);
    assert!(corpus.len() >= 200);
    corpus.push(("1 MB".into(), "a".repeat(1 << 20)));
    corpus.push(("1 MB of dots".into(), ".".repeat(1 << 20)));
    corpus.push(("1 MB after a valid token".into(), format!("{token}{}", "A".repeat(1 << 20))));
    for depth in [100, 1_000] {
        let nested = URL_SAFE_NO_PAD.encode(format!("{}{}", "[".repeat(depth), "]".repeat(depth)));
        corpus.push(("nested".into(), format!("{nested}.{nested}.AA")));
    }
    for (what, token) in corpus {
        assert_eq!(verifier.verify(&token).await, Err(VerifyError::Invalid), "{what}");
    }
    assert_eq!(keys.fetches(), 1, "unknown key ids cause no fetch within the minimum interval");
    assert!(verifier.verify(&token).await.is_ok(), "the control: the original token is valid");
}

#[tokio::test]
async fn wrong_claim_or_header_under_a_valid_signature_is_refused() {
    let (signer, clock) = (Signer::new(), Arc::new(ManualClock::default()));
    let keys = KeyServer::new(&signer.document()).await;
    let verifier = Verifier::builder("us", "them").keys_at(&keys.address).clock(clock.clone()).build().unwrap();
    let now = Clock::now(&*clock).duration_since(SystemTime::UNIX_EPOCH).unwrap().as_secs();
    let header = json!({"alg": "ES256", "kid": "test-key", "typ": "at+jwt"});
    // Valid for an hour, so that the token does not expire on a slow machine.
    let claims = json!({"iss": "us", "aud": "them", "sub": "u", "sid": "s", "iat": now, "exp": now + 3_600});
    let verify = async |header: &Value, claims: &Value| verifier.verify(&signer.token(header, claims)).await;
    assert!(verify(&header, &claims).await.is_ok(), "the control");
    for (name, value, outcome) in [
        ("exp", json!(now), Err(VerifyError::Expired)),
        ("exp", json!(0), Err(VerifyError::Expired)),
        ("exp", json!(-1), Err(VerifyError::Invalid)),
        ("exp", json!(1.5), Err(VerifyError::Invalid)),
        ("exp", json!("never"), Err(VerifyError::Invalid)),
        ("exp", json!(null), Err(VerifyError::Invalid)),
        ("exp", json!(u64::MAX), Err(VerifyError::Invalid)),
        ("iat", json!(now + 600), Err(VerifyError::Invalid)),
        ("iat", json!(u64::MAX), Err(VerifyError::Invalid)),
        ("iat", json!(null), Err(VerifyError::Invalid)),
        ("nbf", json!(now + 600), Err(VerifyError::Invalid)),
        ("nbf", json!("now"), Err(VerifyError::Invalid)),
        ("nbf", json!(now), Ok(())),
        ("nbf", json!(0), Ok(())),
        ("aud", json!(["them"]), Err(VerifyError::Invalid)),
        ("aud", json!("thems"), Err(VerifyError::Invalid)),
        ("iss", json!(null), Err(VerifyError::Invalid)),
        ("sub", json!(7), Err(VerifyError::Invalid)),
        ("sid", json!(null), Err(VerifyError::Invalid)),
    ] {
        let mut changed = claims.clone();
        changed[name] = value;
        assert_eq!(verify(&header, &changed).await.map(drop), outcome, "{changed}");
    }
    for claims in [json!([]), json!("x"), json!(null), json!({})] {
        assert_eq!(verify(&header, &claims).await, Err(VerifyError::Invalid), "{claims}");
    }
    for (name, value) in [
        ("alg", json!("none")),
        ("alg", json!("ES384")),
        ("typ", json!("JWT")),
        ("typ", json!(null)),
        ("crit", json!([])),
    ] {
        let mut changed = header.clone();
        changed[name] = value;
        assert_eq!(verify(&changed, &claims).await, Err(VerifyError::Invalid), "{changed}");
    }
}

#[tokio::test]
async fn new_key_is_fetched_when_its_first_token_is_verified() {
    // Two servers with one issuer represent one server before and after a key change.
    let start = || App::with(StoreKind::Memory).args(&["--token-issuer", "https://auth.example"]).start();
    let (before, after) = (start().await, start().await);
    let mut tokens = Vec::new();
    for app in [&before, &after] {
        app.registered("ada").await;
        tokens.push(app.authenticate("ada").await.access_token);
    }
    let clock = Arc::new(ManualClock::default());
    let keys = KeyServer::new(&document(&before).await).await;
    let verifier = Verifier::builder("https://auth.example", "watchword").keys_at(&keys.address).clock(clock.clone());
    let verifier = verifier.build().unwrap();
    assert!(verifier.verify(&tokens[0]).await.is_ok());
    keys.publish(200, &document(&after).await);
    assert_eq!(
        verifier.verify(&tokens[1]).await,
        Err(VerifyError::Invalid),
        "the keys were fetched within the minimum interval"
    );
    clock.advance(Duration::from_secs(10));
    assert!(verifier.verify(&tokens[1]).await.is_ok());
    assert_eq!(verifier.verify(&tokens[0]).await, Err(VerifyError::Invalid), "a withdrawn key is not valid");
}

#[tokio::test]
async fn key_rotation_of_the_server_interrupts_no_verification() {
    let (app, _) = with_ada().await;
    let verifier = of(&app).build().unwrap();
    // A signing key is used for 90 days.
    for _ in 0..100 {
        let token = app.authenticate("ada").await.access_token;
        assert!(verifier.verify(&token).await.is_ok());
        app.clock.advance(Duration::from_secs(86_400));
    }
    let keys: Value = serde_json::from_str(&document(&app).await).unwrap();
    assert_eq!(keys["keys"].as_array().unwrap().len(), 1, "the control: the first key is gone");
}

#[tokio::test(flavor = "multi_thread")]
async fn concurrent_tokens_with_unknown_key_ids_cause_one_fetch() {
    let (app, token) = with_ada().await;
    let keys = KeyServer::new(&document(&app).await).await;
    let verifier = of(&app).keys_at(&keys.address).build().unwrap();
    let verify_all = async |tokens: Vec<String>| {
        let verifying = tokens.into_iter().map(|token| {
            let verifier = verifier.clone();
            tokio::spawn(async move { verifier.verify(&token).await.map(drop) })
        });
        join_all(verifying).await.into_iter().map(Result::unwrap).collect::<Vec<_>>()
    };
    assert!(verify_all(vec![token.clone(); 64]).await.iter().all(Result::is_ok));
    assert_eq!(keys.fetches(), 1, "one fetch for all first callers");

    let signer = Signer::new();
    let unknown_key_token =
        |at: usize| signer.token(&json!({"alg": "ES256", "kid": at.to_string(), "typ": "at+jwt"}), &json!({}));
    app.clock.advance(Duration::from_secs(10));
    let outcomes = verify_all((0..1_000).map(unknown_key_token).collect()).await;
    assert!(outcomes.iter().all(|outcome| *outcome == Err(VerifyError::Invalid)), "{outcomes:?}");
    assert_eq!(keys.fetches(), 2, "one fetch for a thousand tokens");
    assert!(verifier.verify(&token).await.is_ok());
}

#[tokio::test]
async fn dropped_key_is_refused_as_soon_as_the_keys_are_stale() {
    let (app, token) = with_ada().await;
    let keys = KeyServer::new(&document(&app).await).await;
    // Only the keys age. The token does not expire.
    let clock = Arc::new(ManualMonotonicClock::default());
    let verifier = of(&app).keys_at(&keys.address).clock(clock.clone()).build().unwrap();
    assert!(verifier.verify(&token).await.is_ok());
    keys.publish(200, &Signer::new().document());
    assert!(verifier.verify(&token).await.is_ok(), "the keys are fresh for five minutes");
    clock.advance(Duration::from_secs(300));
    assert_eq!(verifier.verify(&token).await, Err(VerifyError::Invalid), "it waits for the new keys");
}

#[tokio::test]
async fn old_keys_are_used_for_ten_minutes_while_fetches_fail() {
    let (app, token) = with_ada().await;
    let keys = KeyServer::new(&document(&app).await).await;
    // Only the keys age. The token does not expire.
    let clock = Arc::new(ManualMonotonicClock::default());
    let verifier = of(&app).keys_at(&keys.address).clock(clock.clone()).build().unwrap();
    let strict = of(&app).keys_at(&keys.address).clock(clock.clone()).stale_if_error(Duration::ZERO).build().unwrap();
    assert!(verifier.verify(&token).await.is_ok() && strict.verify(&token).await.is_ok());
    clock.advance(Duration::from_secs(300));
    // Each of these responses contains another key or none, and must not be accepted.
    let other = Signer::new().document();
    let (long, none) = (format!("{other}{}", " ".repeat(70_000)), r#"{"keys":[]}"#);
    for (status, document) in [(500, &*other), (302, &*other), (200, &*long), (200, none), (200, "<html>")] {
        keys.publish(status, document);
        let fetches = keys.fetches();
        assert!(verifier.verify(&token).await.is_ok(), "{status} {document}");
        assert_eq!(keys.fetches(), fetches + 1, "it waits for a fetch first");
        let verified = verifier.verify(&token).now_or_never().expect("a fetch has just failed");
        assert!(verified.is_ok());
        clock.advance(Duration::from_secs(12));
    }
    assert_eq!(strict.verify(&token).await, Err(VerifyError::Unavailable), "no time was allowed");
    // 360 s have passed.
    clock.advance(Duration::from_secs(520));
    assert!(verifier.verify(&token).await.is_ok(), "the keys are younger than a quarter of an hour");
    let unknown_key_token = Signer::new().token(&json!({"alg": "ES256", "kid": "x", "typ": "at+jwt"}), &json!({}));
    clock.advance(Duration::from_secs(10));
    assert_eq!(
        verifier.verify(&unknown_key_token).await,
        Err(VerifyError::Unavailable),
        "it is unknown whether the key exists"
    );
    clock.advance(Duration::from_secs(20));
    assert_eq!(verifier.verify(&token).await, Err(VerifyError::Unavailable), "the keys are too old");
    keys.publish(200, &document(&app).await);
    assert_eq!(
        verifier.verify(&token).await,
        Err(VerifyError::Unavailable),
        "the last fetch failed less than a second ago"
    );
    clock.advance(Duration::from_secs(1));
    assert!(verifier.verify(&token).await.is_ok());
    assert!(of(&app).stale_if_error(Duration::from_secs(3_601)).build().is_err());
}

#[tokio::test]
async fn keys_are_fetched_in_the_background_before_they_are_stale() {
    let (app, _) = with_ada().await;
    let proxy = Proxy::before(app.http_socket().port()).await;
    let verifier = of(&app).keys_at(format!("http://{}{KEYS}", proxy.address)).build().unwrap();
    verifier.verify(&app.authenticate("ada").await.access_token).await.unwrap();
    proxy.set(NetworkCondition::BlackHole);
    app.clock.advance(Duration::from_secs(250));
    let token = app.authenticate("ada").await.access_token;
    let verified = verifier.verify(&token).now_or_never().expect("the first poll returns the result");
    assert!(verified.is_ok());
}

#[tokio::test]
async fn introspecting_verifier_sees_a_logout_and_fails_closed_in_an_outage() {
    let store = Faulty::with(Fault::None);
    let mut app = App::on(store.clone()).start().await;
    app.registered("ada").await;
    let (first, second) = (app.authenticate("ada").await, app.authenticate("ada").await);
    let client = connected(&app).await;
    let (offline, online) = (of(&app).build().unwrap(), of(&app).introspect_with(&client).build().unwrap());
    let identity = online.verify(&first.access_token).await.unwrap();
    assert_eq!(identity.username.as_deref(), Some("ada"));
    app.client().await.revoke_token(pb::RevokeTokenRequest { token: first.refresh_token }).await.unwrap();
    assert_eq!(online.verify(&first.access_token).await, Err(VerifyError::Revoked));
    assert!(
        offline.verify(&first.access_token).await.is_ok(),
        "the control: the offline verifier accepts it until it expires"
    );

    store.set(Fault::Down);
    assert_eq!(online.verify(&second.access_token).await, Err(VerifyError::Unavailable));
    assert_eq!(online.verify("garbage").await, Err(VerifyError::Invalid), "malformed tokens are not introspected");
    store.set(Fault::None);
    assert!(online.verify(&second.access_token).await.is_ok());
    app.stop();
    app.ended().await;
    assert_eq!(online.verify(&second.access_token).await, Err(VerifyError::Unavailable));
    assert!(offline.verify(&second.access_token).await.is_ok());
}

#[test]
fn invalid_key_url_is_refused_by_the_builder() {
    for wrong in ["", "auth.example", "ftp://auth.example", "/keys", "http://", "unix:/keys"] {
        assert!(Verifier::builder("x", "y").keys_at(wrong).build().is_err(), "{wrong}");
    }
}
