//! T17: usernames, passwords and data that could break out of JSON, keys or protocols. They are stored and read back
//! unchanged, one user under one key, and a call touches no other key.

use std::{
    collections::BTreeSet,
    fs,
    path::Path,
    process::{Child, Command},
};

use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    time::timeout,
};
use watchword::{
    api::pb::{self, auth_client::AuthClient},
    domain::{Claim, User, UserData, Username},
};

use crate::{
    store::contract::user,
    support::{
        Api, App, StoreKind, TestStore, WAIT_MAX, app, channel, command, disk::SeededRandom, http, is_full, password,
        query,
    },
};

/// Text with a special meaning in JSON, Redis, terminals, shells, SQL, HTML or Unicode.
const PARTS: [&str; 26] = [
    "\"",
    "\\",
    "\",\"admin\":true",
    "}",
    "{",
    "{tag}",
    "*",
    "?",
    "[a-z]",
    "auth:",
    "watchword:user:ada",
    ":",
    "\r\nDEL x\r\n",
    "$-1\r\n",
    "\0",
    "\u{1b}[31m",
    "\u{2028}",
    "\u{feff}",
    "日本",
    "🦀",
    "%s%n",
    "$(id)",
    "'; --",
    "<script>",
    "\u{202e}",
    "é",
];

fn text(random: &mut SeededRandom, length: usize) -> String {
    (0..1 + random.below(length)).map(|_| PARTS[random.below(PARTS.len())]).collect()
}

/// A hostile name of any printable ASCII.
fn hostile_name(random: &mut SeededRandom) -> String {
    (0..1 + random.below(60)).map(|_| char::from(0x21 + u8::try_from(random.below(0x5e)).unwrap())).collect()
}

/// At the store, where each call is fast. `tests/run --all` runs the 20 000 names of T17.
#[tokio::test]
async fn hostile_usernames_and_data_are_read_back_unchanged_from_every_store() {
    let count = if is_full() { 20_000 } else { 2_000 };
    for kind in StoreKind::ALL {
        let place = TestStore::new(kind);
        let store = place.open().await;
        let (mut random, mut names) = (SeededRandom(17), BTreeSet::new());
        for _ in 0..count {
            let name = if random.below(2) == 0 { hostile_name(&mut random) } else { text(&mut random, 6) };
            // Invalid usernames never reach a store.
            let Ok(username) = Username::parse(&name) else { continue };
            if !names.insert(username.as_str().to_owned()) {
                continue;
            }
            let data = UserData::parse(text(&mut random, 40), 8_192).unwrap();
            let expected = User { username: username.clone(), data, ..user("template") };
            assert!(matches!(store.claim(&expected).await.unwrap(), Claim::Claimed), "{name:?}");
            assert_eq!(store.user(&username).await.unwrap().unwrap().value, expected, "{name:?}");
        }
        assert!(names.len() > count / 3, "only {} names were valid", names.len());
        if kind == StoreKind::Redis {
            let mut keys: Vec<String> = place.redis().ask(&["KEYS", "*"]);
            keys.retain(|key| key != "watchword:store");
            let (users, ids): (Vec<_>, Vec<_>) = keys.iter().partition(|key| key.starts_with("watchword:user:"));
            let stored: BTreeSet<_> = users.iter().map(|key| key["watchword:user:".len()..].to_owned()).collect();
            assert_eq!(stored, names, "exactly the expected keys");
            assert!(ids.len() == names.len() && ids.iter().all(|key| key.starts_with("watchword:id:")));
        }
        store.close().await;
    }
}

/// Through the APIs: the Redis commands of each call touch only the keys of that user.
#[tokio::test]
async fn calls_with_hostile_usernames_touch_only_the_keys_of_that_user() {
    let place = TestStore::new(StoreKind::Redis);
    let app = App::with(StoreKind::Redis).start_in(place.clone()).await;
    place.redis().ask::<()>(&["CONFIG", "SET", "slowlog-log-slower-than", "0"]);
    place.redis().ask::<()>(&["CONFIG", "SET", "slowlog-max-len", "100000"]);
    let mut random = SeededRandom(71);
    for number in 0..40 {
        let (name, password) = (hostile_name(&mut random), format!("{}{number}long enough", text(&mut random, 9)));
        place.redis().ask::<()>(&["SLOWLOG", "RESET"]);
        for api in Api::ALL {
            let registered = api.register(&app, &name, &password, "x").await;
            assert!(registered.outcome() == "ok" || registered.is_taken(), "{name:?}: {registered:?}");
            assert_eq!(api.login(&app, &name, &password).await.data(), "x", "{name:?} {password:?}");
            assert!(api.login(&app, &name, &format!("{password}!")).await.is_wrong_credentials());
        }
        let canonical = Username::parse(&name).unwrap().as_str().to_owned();
        let user: serde_json::Value = serde_json::from_str(&place.stored_user(&canonical)).unwrap();
        let id_key = format!("watchword:id:{}", user["id"].as_str().unwrap());
        let sessions_key = format!("watchword:sessions:{}", user["id"].as_str().unwrap());
        let mut commands = 0;
        for command in slow_log(&place) {
            // The key of EVAL follows the script and the number of keys.
            let key = match command[0].to_uppercase().as_str() {
                "GET" | "SET" => &command[1],
                "EVAL" => &command[3],
                _ => continue,
            };
            // Keys that the background task reads.
            if ["watchword:store", "watchword:probe", "watchword:keys"].contains(&key.as_str()) {
                continue;
            }
            // A login creates a session, under a random id.
            if key.starts_with("watchword:session:") || *key == sessions_key {
                continue;
            }
            commands += 1;
            assert!(*key == format!("watchword:user:{canonical}") || *key == id_key, "{name:?}: {command:?}");
        }
        assert!(commands >= 4, "the slow log holds only {commands} commands of the calls");
    }
}

/// T19: whatever the username, an event is one line without terminal control characters.
#[tokio::test(flavor = "multi_thread")]
async fn hostile_usernames_cannot_forge_or_split_log_lines() {
    let folder = tempfile::TempDir::new().unwrap();
    let long = "n".repeat(10 * 1_024);
    let names = [
        "ada\u{1b}[31mred",
        "ada\u{1b}]0;title\u{7}",
        "ada\r\n2026-11-26T00:00:00Z  INFO event=\"authn_login_success\" user=forged",
        "ada\n{\"level\":\"INFO\",\"event\":\"forged\"}",
        "ada\u{9b}31m",
        "ada\u{85}forged\u{2028}forged",
        "ada\0\u{8}\u{7f}",
        &long,
        "!\"#$%&'()*+,-./:;<=>?@[\\]^_`{|}~",
    ];
    for format in ["text", "json"] {
        let mut args = vec!["--grpc-addr", "127.0.0.1:0", "--http-addr", "127.0.0.1:0", "--ops-addr", "off"];
        args.extend(["--admin-addr", "off", "--log-level", "trace", "--log-format", format]);
        let data = folder.path().join(format).display().to_string();
        args.extend(["--data-dir", &data]);
        let log = folder.path().join(format!("{format}.log"));
        let mut child = command(&args).stderr(fs::File::create(&log).unwrap()).spawn().unwrap();
        let [grpc, http_address] = ["grpc", "http"].map(|api| wait_until_listening(&mut child, &log, api));
        let mut client = AuthClient::new(channel(&grpc).await);
        for name in names {
            let (username, password) =
                (name.to_owned(), format!("a password {}", &name[..10.min(name.len())].escape_debug()));
            let register = pb::RegisterRequest { username, password, ..pb::RegisterRequest::default() };
            let login = pb::LoginRequest {
                username: register.username.clone(),
                password: register.password.clone(),
                challenge_solution: String::new(),
            };
            drop(client.register(register).await);
            drop(client.login(login).await);
            let query = query(&[("username", name), ("password", "a password"), ("data", name)]);
            for (method, path) in [("POST", "/register"), ("GET", "/login"), ("GET", "/nowhere")] {
                // A header value cannot contain ASCII control bytes, but bytes beyond ASCII can appear in it.
                let agent = [("user-agent", "\u{9b}31m")];
                http(http_address.parse().unwrap(), method, &format!("{path}?{query}"), &agent, "").await;
            }
        }
        // The child is not a `Node`, because `Node` reads its log line by line.
        assert!(Command::new("kill").arg(child.id().to_string()).status().unwrap().success());
        assert!(child.wait().unwrap().success());
        let bytes = fs::read(&log).unwrap();
        let text = std::str::from_utf8(&bytes).expect("a log is UTF-8");
        let control_character =
            text.chars().find(|c| c.is_control() && *c != '\n' || matches!(c, '\u{2028}' | '\u{2029}'));
        assert_eq!(control_character, None, "{text}");
        // Only one of these names is valid, and each of its calls is one line.
        for event in ["user_created", "authn_login_success", "user_create_refused", "authn_login_fail"] {
            assert_eq!(text.matches(event).count(), 1, "{event}: {text}");
        }
        for line in text.lines() {
            let is_one_event = match format {
                "json" => {
                    serde_json::from_str::<serde_json::Value>(line).is_ok_and(|line| line["timestamp"].is_string())
                }
                _ => line.split(' ').next().is_some_and(|time| humantime::parse_rfc3339(time).is_ok()),
            };
            assert!(is_one_event && !line.contains("forged"), "{line}");
        }
    }
}

/// T21 for usernames: canonicalisation is costly, so a long name is refused first.
#[tokio::test]
async fn oversized_username_and_combining_marks_are_refused_on_every_api() {
    let app = app().await;
    let marks = |count: usize| format!("e{}", "\u{316}\u{301}".repeat(count / 2));
    let form = [("content-type", "application/x-www-form-urlencoded")];
    for (name, over_grpc, over_form) in [
        ("x".repeat(4 * 1_024 * 1_024), "REQUEST_TOO_LARGE", 413),
        (marks(100_000), "REQUEST_TOO_LARGE", 413),
        (marks(7_000), "INVALID_FIELD", 400),
        // The longest input that is canonicalised.
        (marks(510), "INVALID_FIELD", 400),
    ] {
        assert_eq!(Api::Grpc.login(&app, &name, "a password").await.outcome(), over_grpc);
        assert_eq!(Api::Grpc.register(&app, &name, "a password", "").await.outcome(), over_grpc);
        let body = format!("password=a+password&username={name}");
        assert_eq!(http(app.http_socket(), "POST", "/register", &form, &body).await.status, over_form);
    }
    assert_eq!(app.events.count("registered"), 0);
    assert_eq!(app.events.count("hashed"), 0);
}

/// Many and long headers over HTTP/1. Floods over HTTP/2 are in `floods.rs`.
#[tokio::test]
async fn flood_of_headers_is_refused_and_later_requests_are_served() {
    let app = App::with(StoreKind::Memory).args(&["--trusted-proxy", "127.0.0.1,10.0.0.0/8"]).start().await;
    app.registered("ada").await;
    let target = format!("/login?{}", query(&[("username", "ada"), ("password", &password("ada"))]));
    let names: Vec<String> = (0..10_000).map(|number| format!("x-{number}")).collect();
    let many: Vec<_> = names.iter().map(|name| (name.as_str(), "y")).collect();
    let hops = vec![("x-forwarded-for", "10.1.2.3"); 10_000];
    let (long, long_list) = ("y".repeat(1_024 * 1_024), "10.1.2.3,".repeat(100_000));
    for flood in [&many[..], &hops, &[("x", &long)], &[("x-forwarded-for", &long_list)]] {
        let head: String = flood.iter().map(|(name, value)| format!("{name}: {value}\r\n")).collect();
        let request = format!("GET {target} HTTP/1.1\r\nhost: 127.0.0.1\r\n{head}\r\n");
        let answer = answer_to(&app, request.as_bytes()).await;
        assert!(answer.is_empty() || answer.starts_with("HTTP/1.1 431 "), "{answer}");
    }
    let reply = http(app.http_socket(), "GET", &target, &[], "").await;
    assert_eq!((reply.status, reply.body.as_str()), (200, "data of ada"));
}

/// The server's answer to `bytes` until it closes the connection. Empty if it closes while it still receives them.
async fn answer_to(app: &App, bytes: &[u8]) -> String {
    let mut stream = TcpStream::connect(app.http_socket()).await.unwrap();
    let mut answer = Vec::new();
    // The server may close before it has read all bytes, which resets the connection.
    drop(stream.write_all(bytes).await);
    drop(timeout(WAIT_MAX, stream.read_to_end(&mut answer)).await.expect("the server closes the connection"));
    String::from_utf8(answer).unwrap()
}

/// Waits until the log reports the address of a listener.
fn wait_until_listening(child: &mut Child, log: &Path, api: &str) -> String {
    loop {
        assert!(child.try_wait().unwrap().is_none(), "the node has ended");
        let text = fs::read_to_string(log).unwrap();
        let complete_lines = text.rsplit_once('\n').map_or("", |(lines, _)| lines);
        for line in complete_lines.lines().filter(|line| line.contains(api)) {
            let address = line.split(['=', '"', ' ', ',', '}']).find(|part| part.starts_with("127.0.0.1:"));
            if let Some(address) = address.filter(|_| line.contains("listening")) {
                return address.to_owned();
            }
        }
        std::thread::yield_now();
    }
}

/// All commands that Redis ran since the slow log was cleared.
fn slow_log(place: &TestStore) -> Vec<Vec<String>> {
    type Entry = (i64, i64, i64, Vec<String>, String, String);
    place.redis().ask::<Vec<Entry>>(&["SLOWLOG", "GET", "-1"]).into_iter().map(|entry| entry.3).collect()
}
