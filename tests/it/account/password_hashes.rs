//! Stored password hashes: imported MD5, rehash to current parameters, and hostile stored hashes (T10, T22).

use std::{fs, sync::Arc, time::SystemTime};

use async_trait::async_trait;
use tempfile::NamedTempFile;
use tokio::{sync::watch, task::JoinSet};
use watchword::{
    api::pb::{self, auth_client::AuthClient},
    app::StopReason,
    config::Config,
    domain::{
        Clock, HashPool, Password, PasswordHash, StoreError, StoreHealth, System, User,
        password::{Cost, JobSource, Kernel, Md5Hex, PoolSettings, Purpose},
    },
    store::{
        Change, ChangeOutcome, DocumentKey, DocumentStore, Kind, Memory, ScanCursor, ScanPage, UnconditionalWrite,
    },
};

use crate::{
    account::password_policy::change_password,
    store::contract::user,
    support::{
        Api, App, CHEAP, Node, StoreKind, TestStore, WAIT_MAX, channel, command, environment, is_full, password, reason,
    },
};

/// A lower cost than the one that the nodes use.
const OLDER: Cost = Cost { memory_kib: 32, ..CHEAP };

/// With a fixed issuer, tokens stay valid when a node restarts on other ports.
const ISSUER: [&str; 2] = ["--token-issuer", "https://sso.example"];

fn with_older_cost(config: &mut Config) {
    config.hashing.cost = OLDER;
}

/// The MD5 of `insecure`, as the original program stored it.
const MD5_OF_INSECURE: &str = "c7a6002549b0ff54324ecce62cd9ab6d";

fn pool(cost: Cost) -> HashPool {
    HashPool::start(PoolSettings { workers: 1, cost }, Kernel::Fast, &environment())
}

/// Argon2id over the MD5 of `insecure`.
async fn wrapped(cost: Cost) -> PasswordHash {
    let pool = pool(cost);
    let permit = pool.admit(JobSource::Node, Purpose::Registration, System.monotonic() + WAIT_MAX).unwrap();
    permit.wrap_md5(Md5Hex::parse(MD5_OF_INSECURE).unwrap()).await.unwrap()
}

/// A node on a store that already holds these users.
async fn with_users(kind: StoreKind, users: &[User]) -> (TestStore, App) {
    let place = TestStore::new(kind);
    let store = place.open().await;
    for user in users {
        store.claim(user).await.unwrap();
    }
    store.close().await;
    drop(store);
    let app = App::with(kind).start_in(place.clone()).await;
    (place, app)
}

/// Waits for an event that happens after the answer.
async fn wait_for_event(app: &App, event: &str, times: usize) {
    let enough = async {
        while app.events.count(event) < times {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(WAIT_MAX, enough).await.unwrap_or_else(|_| panic!("{event} did not happen {times} times"));
}

#[tokio::test]
async fn imported_md5_hash_verifies_with_one_hash_and_is_rehashed_after_login() {
    for kind in StoreKind::DURABLE {
        for hash in [wrapped(CHEAP).await, wrapped(OLDER).await] {
            let imported = User { password: Some(hash.clone()), ..user("soham") };
            let (place, app) = with_users(kind, &[imported]).await;
            assert!(Api::Grpc.login(&app, "soham", "Insecure").await.is_wrong_credentials());
            // The MD5 itself is no password. Otherwise a stolen table of MD5s would be enough to log in.
            assert!(Api::Grpc.login(&app, "soham", MD5_OF_INSECURE).await.is_wrong_credentials());
            assert_eq!(app.events.count("hashed"), 2, "one hash each, and no rehash after a wrong password");
            assert_eq!(Api::Legacy.login(&app, "soham", "insecure").await.data(), "testing");
            wait_for_event(&app, "password rehashed", 1).await;
            assert_eq!(app.events.count("hashed"), 4);
            for api in Api::ALL {
                assert_eq!(api.login(&app, "soham", "insecure").await.data(), "testing");
                assert!(api.login(&app, "soham", "Insecure").await.is_wrong_credentials());
            }
            assert_eq!(app.events.count("hashed"), 8, "a hash with current parameters is not rehashed");
            assert_eq!(app.stopped().await, StopReason::Requested);
            let record: serde_json::Value = serde_json::from_str(&place.stored_user("soham")).unwrap();
            let phc = record["password"].as_str().unwrap();
            assert!(phc.starts_with("$argon2id$v=19$m=64,t=1,p=1$"), "{kind:?}: {phc}");
            assert!(record.get("epoch").is_none(), "the password is the same: no session has ended");
        }
    }
}

#[tokio::test]
async fn hash_with_older_cost_is_rehashed_and_ends_no_session() {
    for kind in StoreKind::DURABLE {
        let place = TestStore::new(kind);
        let app = App::with(kind).args(&ISSUER).change(with_older_cost).start_in(place.clone()).await;
        app.registered("ada").await;
        let tokens = app.authenticate("ada").await;
        app.stopped().await;
        let app = App::with(kind).args(&ISSUER).start_in(place.clone()).await;
        app.authenticate("ada").await;
        wait_for_event(&app, "password rehashed", 1).await;
        assert!(app.introspect(&tokens.access_token).await.active, "{kind:?}");
        app.stopped().await;
        assert!(place.stored_user("ada").contains("m=64,"), "{kind:?}");
    }
}

/// Nodes of two settings share a store while one replaces the other, and a setting can be lowered.
#[tokio::test]
async fn hash_that_is_stronger_than_the_settings_is_never_weakened() {
    for kind in StoreKind::DURABLE {
        for (stronger, scheme, stored) in [
            (Cost { memory_kib: 72, ..CHEAP }, "", "$argon2id$v=19$m=72,t=1,p=1$"),
            (Cost { passes: 2, ..CHEAP }, "", "$argon2id$v=19$m=64,t=2,p=1$"),
            (Cost { memory_kib: 32, passes: 3, lanes: 2 }, "", "$argon2id$v=19$m=32,t=3,p=2$"),
            (Cost { memory_kib: 72, ..CHEAP }, "-md5", "$argon2id$v=19$m=72,t=1,p=1$"),
        ] {
            let pool = pool(stronger);
            let permit = pool.admit(JobSource::Node, Purpose::Registration, System.monotonic() + WAIT_MAX).unwrap();
            let hash = match scheme {
                "" => permit.hash(Password::parse("insecure".into()).unwrap()).await.unwrap(),
                _ => wrapped(stronger).await,
            };
            let strong = User { password: Some(hash), ..user("ada") };
            let (place, app) = with_users(kind, &[strong, User { password: None, ..user("eve") }]).await;
            assert_eq!(Api::Grpc.login(&app, "ada", "insecure").await.outcome(), "ok");
            let rehashed = usize::from(scheme == "-md5");
            wait_for_event(&app, "password rehashed", rehashed).await;
            assert_eq!(Api::Grpc.login(&app, "ada", "insecure").await.outcome(), "ok");
            assert_eq!(app.events.count("hashed"), 2 + rehashed, "{kind:?} {stored}");
            app.stopped().await;
            let record: serde_json::Value = serde_json::from_str(&place.stored_user("ada")).unwrap();
            assert!(record["password"].as_str().unwrap().starts_with(stored), "{kind:?}: {record}");
        }
    }
}

#[tokio::test]
async fn account_without_a_password_is_refused_like_an_unknown_user_with_one_hash() {
    for kind in StoreKind::DURABLE {
        let without = User { password: None, ..user("grace") };
        let (_place, app) = with_users(kind, &[without]).await;
        for api in Api::ALL {
            let hashes = app.events.count("hashed");
            let answer = api.login(&app, "grace", "any password").await;
            assert!(answer.is_wrong_credentials(), "{kind:?}: {answer:?}");
            assert_eq!(app.events.count("hashed"), hashes + 1);
            let unknown = api.login(&app, "unknown", "any password").await;
            assert_eq!(answer.outcome(), unknown.outcome());
            assert!(api.register(&app, "grace", "any password", "").await.is_taken());
        }
        assert_eq!(app.events.count("no password"), 2);
    }
}

/// T22: a stored hash with excessive parameters or malformed text affects only its own user.
#[tokio::test]
async fn hostile_stored_hash_is_refused_without_memory_growth_or_effect_on_other_users() {
    let valid = wrapped(CHEAP).await.to_phc();
    let hostile = [
        valid.replace("m=64", "m=4194304"),
        valid.replace("m=64", "m=4294967295"),
        valid.replace("m=64", "m=18446744073709551616"),
        valid.replace("m=64", "m=-64"),
        valid.replace("t=1", "t=4294967295"),
        valid.replace("t=1", "t=-1"),
        valid.replace("p=1", "p=16777215"),
        valid.replace("p=1", "p=1,data=AAAA"),
        valid.replace("p=1", "p=1,keyid=AAAA"),
        valid.replace("argon2id-md5", "argon2id-m\u{f6}5"),
        valid.replace("argon2id-md5", "argon2id-md5\0"),
        valid.replace("argon2id-md5", &"argon2id".repeat(10)),
        format!("{valid}{}", "A".repeat(10_240)),
        "$".repeat(10_240),
        "A".repeat(10_240),
    ];
    for kind in StoreKind::DURABLE {
        let place = TestStore::new(kind);
        let store = place.open().await;
        store.claim(&user("bystander")).await.unwrap();
        store.claim(&user("template")).await.unwrap();
        store.close().await;
        drop(store);
        for (number, phc) in hostile.iter().enumerate() {
            let mut record: serde_json::Value = serde_json::from_str(&place.stored_user("template")).unwrap();
            (record["username"], record["password"]) = (format!("user{number}").into(), phc.as_str().into());
            place.write_user(&format!("user{number}"), record.to_string().as_bytes());
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
        // This user's hash matches no password. The login also allocates the arena of one worker before the measurement.
        assert_eq!(login("bystander").await, "INVALID_CREDENTIALS");
        let before = node.memory_kib("VmHWM:");
        for (number, phc) in hostile.iter().enumerate() {
            assert_eq!(login(&format!("user{number}")).await, "CORRUPT_RECORD", "{kind:?}: {phc}");
        }
        assert_eq!(login("bystander").await, "INVALID_CREDENTIALS");
        // Another worker may have allocated its arena of 19 MiB.
        let growth = node.memory_kib("VmHWM:") - before;
        assert!(growth < 32 * 1_024, "{kind:?}: memory grew by {growth} KiB");
    }
}

/// Runs one race for each user: a login that rehashes the password, and a password change. Returns the users whose old
/// password is still accepted.
async fn race(app: Arc<App>, sessions: Vec<(String, pb::Tokens)>) -> Vec<String> {
    let mut reverted = Vec::new();
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
            // The rehash after this login's answer then races with the password change.
            login().await;
        }
        let (changer, name_of, old_of) = (app.clone(), name.clone(), old.clone());
        racers.spawn(async move {
            let changed = change_password(&changer, &tokens, &old_of, &format!("new {old_of}")).await;
            changed.unwrap_or_else(|status| panic!("{name_of}: {status:?}"));
        });
        racers.join_all().await;
        if !Api::Grpc.login(&app, &name, &old).await.is_wrong_credentials() {
            reverted.push(name);
        }
    }
    reverted
}

/// Registers users whose hashes have an older cost, and logs them in.
async fn users_with_older_hashes(app: &App, rounds: usize) -> Vec<(String, pb::Tokens)> {
    let mut sessions = Vec::new();
    for round in 0..rounds {
        let name = format!("user{round}");
        app.registered(&name).await;
        sessions.push((name.clone(), app.authenticate(&name).await));
    }
    sessions
}

/// A file with a pepper key, so that a login changes both the cost and the key of an older hash.
fn pepper_file() -> NamedTempFile {
    let file = NamedTempFile::new().unwrap();
    fs::write(file.path(), "00112233445566778899aabbccddeeff00112233445566778899aabbccddeeff").unwrap();
    file
}

fn with_pepper(file: &NamedTempFile) -> [&str; 4] {
    [ISSUER[0], ISSUER[1], "--pepper-key-file", file.path().to_str().unwrap()]
}

/// T10. `tests/run --all` runs its 2 000 rounds.
#[tokio::test(flavor = "multi_thread")]
async fn rehash_after_login_never_restores_an_old_password() {
    let rounds = if is_full() { 2_000 } else { 200 };
    for kind in StoreKind::DURABLE {
        let place = TestStore::new(kind);
        let app = App::with(kind).args(&ISSUER).change(with_older_cost).start_in(place.clone()).await;
        let sessions = users_with_older_hashes(&app, rounds).await;
        app.stopped().await;
        let pepper = pepper_file();
        let args = with_pepper(&pepper);
        let app = Arc::new(App::with(kind).args(&args).start_in(place.clone()).await);
        assert_eq!(race(app.clone(), sessions).await, Vec::<String>::new(), "{kind:?}");
        let rehashed = app.events.count("password rehashed");
        assert!(rehashed > rounds / 20, "{kind:?}: only {rehashed} of {rounds} passwords were rehashed in the race");
        // Background work has ended with the node.
        Arc::into_inner(app).unwrap().stopped().await;
        let app = App::with(kind).args(&args).start_in(place).await;
        for round in 0..rounds {
            let (name, old) = (format!("user{round}"), password(&format!("user{round}")));
            assert!(Api::Grpc.login(&app, &name, &old).await.is_wrong_credentials(), "{kind:?}, {name}");
            assert_eq!(Api::Grpc.login(&app, &name, &format!("new {old}")).await.outcome(), "ok", "{kind:?}, {name}");
        }
    }
}

/// The control: a store that replaces a document without comparing it, after a delay.
struct ReplacesWithoutComparing(Memory);

#[async_trait]
impl DocumentStore for ReplacesWithoutComparing {
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
async fn control_store_without_compare_restores_old_passwords() {
    let store = Arc::new(ReplacesWithoutComparing(Memory::new(Arc::new(System))));
    let app = App::on(store.clone()).args(&ISSUER).change(with_older_cost).start().await;
    let sessions = users_with_older_hashes(&app, 200).await;
    app.stopped().await;
    let pepper = pepper_file();
    let app = Arc::new(App::on(store).args(&with_pepper(&pepper)).start().await);
    assert!(!race(app, sessions).await.is_empty(), "the control restored no old password");
}
