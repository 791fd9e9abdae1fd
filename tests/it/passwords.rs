//! Passwords: which may be chosen, what is kept of them, and how an older stored form becomes today's.

use std::{fs, sync::Arc, time::SystemTime};

use async_trait::async_trait;
use tokio::{sync::watch, task::JoinSet};
use tonic::{Request, Status};
use watchword::{
    api::{
        pb::{self, auth_client::AuthClient},
        rpc,
    },
    app::Ended,
    config::Config,
    domain::{
        Clock, HashPool, PasswordHash, StoreError, StoreHealth, System, User,
        password::{Cost, Kernel, Md5Hex, PoolSettings, Purpose},
    },
    store::{
        Change, ChangeOutcome, DocumentKey, DocumentStore, Kind, Memory, ScanCursor, ScanPage, UnconditionalWrite,
    },
};

use crate::{
    stores::user,
    support::{
        Api, App, CHEAP, Node, PATIENCE, Place, StoreKind, app, channel, command, details, environment, http, is_full,
        password, reason, run,
    },
};

/// A cost that is not the one of the nodes here.
const OLDER: Cost = Cost { memory_kib: 72, ..CHEAP };

/// Keeps tokens good when a node comes back on other ports.
const ISSUER: [&str; 2] = ["--token-issuer", "https://sso.example"];

fn of_older_cost(config: &mut Config) {
    config.hashing.cost = OLDER;
}

/// The MD5 of `insecure`, as the original program kept it.
const MD5_OF_INSECURE: &str = "c7a6002549b0ff54324ecce62cd9ab6d";

/// A user's first session, for a call with a token.
fn with_token<T>(tokens: &pb::Tokens, message: T) -> Request<T> {
    let mut request = Request::new(message);
    request.metadata_mut().insert("authorization", format!("Bearer {}", tokens.access_token).parse().unwrap());
    request
}

async fn change(app: &App, tokens: &pb::Tokens, from: &str, to: &str) -> Result<(), Status> {
    let request = pb::ChangePasswordRequest { current_password: from.into(), new_password: to.into() };
    app.client().await.change_password(with_token(tokens, request)).await.map(drop)
}

/// The one violation of a refused password: its field and reason.
fn violation(status: &Status) -> (String, String) {
    assert_eq!(reason(status), "PASSWORD_POLICY");
    let bad: Vec<rpc::BadRequest> = details(status, "google.rpc.BadRequest");
    let [violation] = bad[0].field_violations.as_slice() else { panic!("{bad:?}") };
    assert!(violation.description.contains("choose another"), "says what to do: {}", violation.description);
    (violation.field.clone(), violation.reason.clone())
}

// === which may be chosen ===

#[tokio::test]
async fn the_operators_list_and_words_are_refused_wherever_a_password_is_chosen_and_the_reason_is_told() {
    let folder = tempfile::TempDir::new().unwrap();
    let list = folder.path().join("blocklist");
    fs::write(&list, "Spring-at-Acme\ncafe\u{301} au lait\n").unwrap();
    let list = list.display().to_string();
    let args = ["--password-blocklist-file", &list, "--password-context-words", "Acme,Anvil Works"];
    let app = App::with(StoreKind::Memory).args(&args).start().await;
    app.registered("ada@example.com").await;
    let tokens = app.authenticate("ada@example.com").await;
    let mine = password("ada@example.com");
    let hashes = app.events.count("hashed");
    for (forbidden, why) in [
        ("spring-at-ACME", "BLOCKLISTED"),
        ("caf\u{e9} au lait", "BLOCKLISTED"),
        ("acmeacme2026", "CONTEXT_WORD"),
        ("anvil works!", "CONTEXT_WORD"),
        ("Watchword1", "CONTEXT_WORD"),
        ("ada@example.com", "EQUALS_USERNAME"),
        ("AdaAdaAda!", "EQUALS_USERNAME"),
        ("sunshine", "TOO_COMMON"),
    ] {
        let request = pb::RegisterRequest {
            username: "ada@elsewhere.example".into(),
            password: forbidden.into(),
            ..pb::RegisterRequest::default()
        };
        if forbidden != "ada@example.com" {
            let refused = app.client().await.register(request).await.unwrap_err();
            assert_eq!(violation(&refused), ("password".into(), why.into()), "{forbidden}");
            let answer = Api::Legacy.register(&app, "ada@elsewhere.example", forbidden, "").await.outcome();
            assert!(answer.starts_with("400 password is"), "{forbidden}: {answer}");
        }
        let refused = change(&app, &tokens, &mine, forbidden).await.unwrap_err();
        assert_eq!(violation(&refused), ("new_password".into(), why.into()), "{forbidden}");
    }
    assert_eq!(app.events.count("hashed"), hashes, "refused before any hash");
    // What only mentions them is as good as any password.
    change(&app, &tokens, &mine, "ada of acme likes watchword").await.unwrap();
}

#[test]
fn a_list_that_cannot_be_read_stops_the_start_and_its_flag_and_line_are_named() {
    let folder = tempfile::TempDir::new().unwrap();
    let file = folder.path().join("list");
    let path = file.display().to_string();
    let check = || run(&["check-config", "--store", "memory:", "--password-blocklist-file", &path]);
    let (code, out, err) = check();
    assert!(code != 0 && (out + &err).contains("--password-blocklist-file"), "a missing file");
    for (content, fault) in [
        (b"fine\nb\xffd-secret\n".to_vec(), "line 2 is not UTF-8"),
        (Vec::new(), "holds no password"),
        (vec![b'x'; 32 * 1_024 * 1_024 + 1], "has more than 33554432 bytes"),
        (format!("fine\nfine\n{}", "x".repeat(1_025)).into_bytes(), "line 3 has more than 1024 bytes"),
    ] {
        fs::write(&file, content).unwrap();
        let (code, out, err) = check();
        let told = out + &err;
        assert!(code != 0 && told.contains(&format!("--password-blocklist-file {path}: {fault}")), "{told}");
        assert!(!told.contains("secret"), "{told}");
    }
    let words = vec!["w"; 101].join(",");
    for (words, fault) in [("2026", "with a letter"), (&"w".repeat(65), "64 characters"), (&words, "at most 100 words")]
    {
        let (code, out, err) = run(&["check-config", "--store", "memory:", "--password-context-words", words]);
        let told = out + &err;
        assert!(code != 0 && told.contains("--password-context-words") && told.contains(fault), "{told}");
    }
}

/// T21: what is large, or costly to normalise, is refused before any hash and before much work.
#[tokio::test]
async fn a_password_of_megabytes_or_of_combining_marks_is_refused_before_any_hash() {
    let app = app().await;
    app.registered("ada").await;
    let hashes = app.events.count("hashed");
    let marks = |count: usize| format!("e{}", "\u{316}\u{301}".repeat(count / 2));
    let form = [("content-type", "application/x-www-form-urlencoded")];
    for (hostile, over_grpc, over_form) in [
        ("x".repeat(4 * 1_024 * 1_024), "REQUEST_TOO_LARGE", 413),
        (marks(100_000), "REQUEST_TOO_LARGE", 413),
        // What fits each door's messages, to the last byte or nearly.
        (marks(7_000), "INVALID_FIELD", 400),
        ("x".repeat(16_000), "INVALID_FIELD", 400),
        (marks(600), "INVALID_FIELD", 400),
    ] {
        let login = Api::Grpc.login(&app, "ada", &hostile).await.outcome();
        assert_eq!(login, over_grpc);
        let register = Api::Grpc.register(&app, "bob", &hostile, "").await.outcome();
        assert!(register == over_grpc || over_grpc == "INVALID_FIELD" && register == "PASSWORD_POLICY", "{register}");
        let body = format!("username=bob&password={hostile}");
        let reply = http(app.http_socket(), "POST", "/register", &form, &body).await;
        assert_eq!(reply.status, over_form, "{}", reply.body);
    }
    let body = format!("username=bob&password={}", marks(32_000));
    assert_eq!(http(app.http_socket(), "POST", "/register", &form, &body).await.status, 400);
    assert_eq!(app.events.count("hashed"), hashes);
    assert_eq!(app.events.count("registered"), 1);
}

// === what is kept of them ===

fn pool(cost: Cost) -> HashPool {
    HashPool::start(PoolSettings { workers: 1, cost }, Kernel::Fast, &environment())
}

/// Argon2id over the MD5 of `insecure`.
async fn wrapped(cost: Cost) -> PasswordHash {
    let pool = pool(cost);
    let permit = pool.admit(Purpose::Registration, System.monotonic() + PATIENCE).unwrap();
    permit.wrap_md5(Md5Hex::parse(MD5_OF_INSECURE).unwrap()).await.unwrap()
}

/// A node on a place in which these users are already.
async fn with_users(kind: StoreKind, users: &[User]) -> (Place, App) {
    let place = Place::new(kind);
    let store = place.open().await;
    for user in users {
        store.claim(user).await.unwrap();
    }
    store.close().await;
    drop(store);
    let app = App::with(kind).start_in(place.clone()).await;
    (place, app)
}

/// Waits for what happens behind an answer.
async fn happened(app: &App, event: &str, times: usize) {
    let enough = async {
        while app.events.count(event) < times {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(PATIENCE, enough).await.unwrap_or_else(|_| panic!("{event} did not happen {times} times"));
}

#[tokio::test]
async fn an_imported_md5_opens_its_account_at_the_cost_of_one_hash_and_is_stored_in_todays_form_then() {
    for kind in StoreKind::KEPT {
        for hash in [wrapped(CHEAP).await, wrapped(OLDER).await] {
            let imported = User { password: Some(hash.clone()), ..user("soham") };
            let (place, app) = with_users(kind, &[imported]).await;
            assert!(Api::Grpc.login(&app, "soham", "Insecure").await.is_wrong_credentials());
            // The MD5 itself opens nothing, or a stolen table of them would.
            assert!(Api::Grpc.login(&app, "soham", MD5_OF_INSECURE).await.is_wrong_credentials());
            assert_eq!(app.events.count("hashed"), 2, "one each, and nothing is stored anew for a wrong one");
            assert_eq!(Api::Legacy.login(&app, "soham", "insecure").await.data(), "testing");
            happened(&app, "password rehashed", 1).await;
            assert_eq!(app.events.count("hashed"), 4);
            for api in Api::ALL {
                assert_eq!(api.login(&app, "soham", "insecure").await.data(), "testing");
                assert!(api.login(&app, "soham", "Insecure").await.is_wrong_credentials());
            }
            assert_eq!(app.events.count("hashed"), 8, "today's form is left as it is");
            assert_eq!(app.stopped().await, Ended::Asked);
            let record: serde_json::Value = serde_json::from_str(&place.kept("soham")).unwrap();
            let phc = record["password"].as_str().unwrap();
            assert!(phc.starts_with("$argon2id$v=19$m=64,t=1,p=1$"), "{kind:?}: {phc}");
            assert!(record.get("epoch").is_none(), "it is the same password: no session has ended");
        }
    }
}

#[tokio::test]
async fn a_hash_of_another_cost_becomes_one_of_todays_and_ends_no_session() {
    for kind in StoreKind::KEPT {
        let place = Place::new(kind);
        let app = App::with(kind).args(&ISSUER).change(of_older_cost).start_in(place.clone()).await;
        app.registered("ada").await;
        let tokens = app.authenticate("ada").await;
        app.stopped().await;
        let app = App::with(kind).args(&ISSUER).start_in(place.clone()).await;
        app.authenticate("ada").await;
        happened(&app, "password rehashed", 1).await;
        assert!(app.introspect(&tokens.access_token).await.active, "{kind:?}");
        app.stopped().await;
        assert!(place.kept("ada").contains("m=64,"), "{kind:?}");
    }
}

#[tokio::test]
async fn an_account_without_a_password_is_refused_like_any_at_the_cost_of_one_hash() {
    for kind in StoreKind::KEPT {
        let without = User { password: None, ..user("grace") };
        let (_place, app) = with_users(kind, &[without]).await;
        for api in Api::ALL {
            let hashes = app.events.count("hashed");
            let answer = api.login(&app, "grace", "any password").await;
            assert!(answer.is_wrong_credentials(), "{kind:?}: {answer:?}");
            assert_eq!(app.events.count("hashed"), hashes + 1);
            let unknown = api.login(&app, "nobody", "any password").await;
            assert_eq!(answer.outcome(), unknown.outcome());
            assert!(api.register(&app, "grace", "any password", "").await.is_taken());
        }
        assert_eq!(app.events.count("no password"), 2);
    }
}

/// T22: parameters that would take the node's memory or time, and text that would trip a parser, are one user's trouble.
#[tokio::test]
async fn a_hostile_stored_hash_is_refused_without_memory_and_harms_nobody_else() {
    let good = wrapped(CHEAP).await.to_phc();
    let hostile = [
        good.replace("m=64", "m=4194304"),
        good.replace("m=64", "m=4294967295"),
        good.replace("m=64", "m=18446744073709551616"),
        good.replace("m=64", "m=-64"),
        good.replace("t=1", "t=4294967295"),
        good.replace("t=1", "t=-1"),
        good.replace("p=1", "p=16777215"),
        good.replace("p=1", "p=1,data=AAAA"),
        good.replace("argon2id-md5", "argon2id-m\u{f6}5"),
        good.replace("argon2id-md5", "argon2id-md5\0"),
        good.replace("argon2id-md5", &"argon2id".repeat(10)),
        format!("{good}{}", "A".repeat(10_240)),
        "$".repeat(10_240),
        "A".repeat(10_240),
    ];
    for kind in StoreKind::KEPT {
        let place = Place::new(kind);
        let store = place.open().await;
        store.claim(&user("bystander")).await.unwrap();
        store.claim(&user("template")).await.unwrap();
        store.close().await;
        drop(store);
        for (number, phc) in hostile.iter().enumerate() {
            let mut record: serde_json::Value = serde_json::from_str(&place.kept("template")).unwrap();
            (record["username"], record["password"]) = (format!("user{number}").into(), phc.as_str().into());
            place.plant(&format!("user{number}"), record.to_string().as_bytes());
        }
        let mut args =
            vec!["--grpc-addr", "127.0.0.1:0", "--http-addr", "off", "--ops-addr", "off", "--admin-addr", "off"];
        let flags = place.flags();
        args.extend(flags.iter().map(String::as_str));
        let node = Node::spawn(command(&args)).unwrap();
        let mut client = AuthClient::new(channel(&node.grpc).await);
        let mut login = async |name: &str| {
            let request = pb::LoginRequest {
                username: name.into(),
                password: "insecure".into(),
                challenge_solution: String::new(),
            };
            reason(&client.login(request).await.unwrap_err())
        };
        // Its hash is of no password, and the arena of its worker is there from then on.
        assert_eq!(login("bystander").await, "INVALID_CREDENTIALS");
        let before = node.memory_kib("VmHWM:");
        for (number, phc) in hostile.iter().enumerate() {
            assert_eq!(login(&format!("user{number}")).await, "CORRUPT_RECORD", "{kind:?}: {phc}");
        }
        assert_eq!(login("bystander").await, "INVALID_CREDENTIALS");
        // Another worker's arena may have come: 19 MiB.
        let grown = node.memory_kib("VmHWM:") - before;
        assert!(grown < 32 * 1_024, "{kind:?}: {grown} KiB more");
    }
}

// === T10 ===

/// Rounds of one race each: a login that has its password stored anew, and a new password. Says whose old password still
/// opens the account.
async fn race(app: Arc<App>, sessions: Vec<(String, pb::Tokens)>) -> Vec<String> {
    let mut back = Vec::new();
    for (round, (name, tokens)) in sessions.into_iter().enumerate() {
        let old = password(&name);
        let login = || {
            let (app, name, old) = (app.clone(), name.clone(), old.clone());
            async move {
                let answer = Api::Grpc.login(&app, &name, &old).await;
                assert!(answer.outcome() == "ok" || answer.is_wrong_credentials(), "{answer:?}");
            }
        };
        let mut racers = JoinSet::new();
        racers.spawn(login());
        if round % 2 == 0 {
            racers.spawn(login());
        } else {
            // What happens behind this one's answer then meets the new password.
            login().await;
        }
        let (changer, name_of, old_of) = (app.clone(), name.clone(), old.clone());
        racers.spawn(async move {
            let changed = change(&changer, &tokens, &old_of, &format!("new {old_of}")).await;
            changed.unwrap_or_else(|status| panic!("{name_of}: {status:?}"));
        });
        racers.join_all().await;
        if !Api::Grpc.login(&app, &name, &old).await.is_wrong_credentials() {
            back.push(name);
        }
    }
    back
}

/// Users with the hashes of an older cost, signed in.
async fn with_older_hashes(app: &App, rounds: usize) -> Vec<(String, pb::Tokens)> {
    let mut sessions = Vec::new();
    for round in 0..rounds {
        let name = format!("user{round}");
        app.registered(&name).await;
        sessions.push((name.clone(), app.authenticate(&name).await));
    }
    sessions
}

/// `WATCHWORD_TEST_FULL=1` takes the 2 000 rounds that T10 asks for.
#[tokio::test(flavor = "multi_thread")]
async fn a_login_that_stores_a_password_anew_never_brings_back_an_old_one() {
    let rounds = if is_full() { 2_000 } else { 200 };
    for kind in StoreKind::KEPT {
        let place = Place::new(kind);
        let app = App::with(kind).args(&ISSUER).change(of_older_cost).start_in(place.clone()).await;
        let sessions = with_older_hashes(&app, rounds).await;
        app.stopped().await;
        let app = Arc::new(App::with(kind).args(&ISSUER).start_in(place.clone()).await);
        assert_eq!(race(app.clone(), sessions).await, Vec::<String>::new(), "{kind:?}");
        let renewed = app.events.count("password rehashed");
        assert!(renewed > rounds / 20, "{kind:?}: only {renewed} of {rounds} were stored anew in the race");
        // Whatever was still under way has ended with the node.
        Arc::into_inner(app).unwrap().stopped().await;
        let app = App::with(kind).args(&ISSUER).start_in(place).await;
        for round in 0..rounds {
            let (name, old) = (format!("user{round}"), password(&format!("user{round}")));
            assert!(Api::Grpc.login(&app, &name, &old).await.is_wrong_credentials(), "{kind:?}, {name}");
            assert_eq!(Api::Grpc.login(&app, &name, &format!("new {old}")).await.outcome(), "ok", "{kind:?}, {name}");
        }
    }
}

/// The control: a store that replaces whatever is there, a while after it was asked.
struct ReplacesBlindly(Memory);

#[async_trait]
impl DocumentStore for ReplacesBlindly {
    async fn get(&self, key: &DocumentKey) -> Result<Option<Vec<u8>>, StoreError> {
        self.0.get(key).await
    }

    async fn change(
        &self,
        first: Vec<UnconditionalWrite>,
        key: DocumentKey,
        change: Change,
    ) -> Result<ChangeOutcome, StoreError> {
        let Change::Replace { document, .. } = change else { return self.0.change(first, key, change).await };
        for _ in 0..50 {
            tokio::task::yield_now().await;
        }
        let seen = self.0.get(&key).await?.unwrap_or_default().into();
        self.0.change(first, key, Change::Replace { seen, document }).await
    }

    async fn scan(&self, kind: Option<Kind>, cursor: Option<ScanCursor>) -> Result<ScanPage, StoreError> {
        self.0.scan(kind, cursor).await
    }

    fn now(&self) -> SystemTime {
        self.0.now()
    }

    fn health(&self) -> watch::Receiver<StoreHealth> {
        self.0.health()
    }

    async fn close(&self) {}
}

#[tokio::test(flavor = "multi_thread")]
async fn a_store_that_compares_nothing_brings_old_passwords_back() {
    let store = Arc::new(ReplacesBlindly(Memory::new(Arc::new(System))));
    let app = App::on(store.clone()).args(&ISSUER).change(of_older_cost).start().await;
    let sessions = with_older_hashes(&app, 200).await;
    app.stopped().await;
    let app = Arc::new(App::on(store).args(&ISSUER).start().await);
    assert!(!race(app, sessions).await.is_empty(), "the race finds no race");
}
