//! T17: names, passwords and data that would break out of JSON, keys or protocols: they are stored and read back as they
//! are, one user under one key, and no other key is touched.

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

/// Parts that mean something to somebody.
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

fn text(chance: &mut SeededRandom, length: usize) -> String {
    (0..1 + chance.below(length)).map(|_| PARTS[chance.below(PARTS.len())]).collect()
}

/// A name as hostile as names can be: printable ASCII.
fn hostile_name(chance: &mut SeededRandom) -> String {
    (0..1 + chance.below(60)).map(|_| char::from(0x21 + u8::try_from(chance.below(0x5e)).unwrap())).collect()
}

/// At the store, where each is quick. `WATCHWORD_TEST_FULL=1` takes the 20 000 that T17 asks for.
#[tokio::test]
async fn whatever_stands_in_names_and_data_is_read_back_as_it_is() {
    let count = if is_full() { 20_000 } else { 2_000 };
    for kind in StoreKind::ALL {
        let place = TestStore::new(kind);
        let store = place.open().await;
        let (mut chance, mut names) = (SeededRandom(17), BTreeSet::new());
        for _ in 0..count {
            let name = if chance.below(2) == 0 { hostile_name(&mut chance) } else { text(&mut chance, 6) };
            // What is no name is refused long before a store.
            let Ok(username) = Username::parse(&name) else { continue };
            if !names.insert(username.as_str().to_owned()) {
                continue;
            }
            let data = UserData::parse(text(&mut chance, 40), 8_192).unwrap();
            let wanted = User { username: username.clone(), data, ..user("template") };
            assert!(matches!(store.claim(&wanted).await.unwrap(), Claim::Claimed), "{name:?}");
            assert_eq!(store.user(&username).await.unwrap().unwrap().value, wanted, "{name:?}");
        }
        assert!(names.len() > count / 3, "only {} names were fit", names.len());
        if kind == StoreKind::Redis {
            let mut keys: Vec<String> = place.redis().ask(&["KEYS", "*"]);
            keys.retain(|key| key != "watchword:store");
            let (users, ids): (Vec<_>, Vec<_>) = keys.iter().partition(|key| key.starts_with("watchword:user:"));
            let kept: BTreeSet<_> = users.iter().map(|key| key["watchword:user:".len()..].to_owned()).collect();
            assert_eq!(kept, names, "exactly the expected keys");
            assert!(ids.len() == names.len() && ids.iter().all(|key| key.starts_with("watchword:id:")));
        }
        store.close().await;
    }
}

/// Through the doors: what Redis sees of each call touches the keys of that user alone.
#[tokio::test]
async fn a_call_touches_the_keys_of_one_user_alone() {
    let place = TestStore::new(StoreKind::Redis);
    let app = App::with(StoreKind::Redis).start_in(place.clone()).await;
    place.redis().ask::<()>(&["CONFIG", "SET", "slowlog-log-slower-than", "0"]);
    place.redis().ask::<()>(&["CONFIG", "SET", "slowlog-max-len", "100000"]);
    let mut chance = SeededRandom(71);
    for number in 0..40 {
        let (name, password) = (hostile_name(&mut chance), format!("{}{number}long enough", text(&mut chance, 9)));
        place.redis().ask::<()>(&["SLOWLOG", "RESET"]);
        for api in Api::ALL {
            let registered = api.register(&app, &name, &password, "x").await;
            assert!(registered.outcome() == "ok" || registered.is_taken(), "{name:?}: {registered:?}");
            assert_eq!(api.login(&app, &name, &password).await.data(), "x", "{name:?} {password:?}");
            assert!(api.login(&app, &name, &format!("{password}!")).await.is_wrong_credentials());
        }
        let own = Username::parse(&name).unwrap().as_str().to_owned();
        let user: serde_json::Value = serde_json::from_str(&place.stored_user(&own)).unwrap();
        let id_key = format!("watchword:id:{}", user["id"].as_str().unwrap());
        let sessions_key = format!("watchword:sessions:{}", user["id"].as_str().unwrap());
        let mut seen = 0;
        for command in slow_log(&place) {
            // The key of EVAL stands behind the script and the number of keys.
            let key = match command[0].to_uppercase().as_str() {
                "GET" | "SET" => &command[1],
                "EVAL" => &command[3],
                _ => continue,
            };
            // What the tending task reads.
            if ["watchword:store", "watchword:probe", "watchword:keys"].contains(&key.as_str()) {
                continue;
            }
            // Logins begin sessions, under ids that nobody chooses.
            if key.starts_with("watchword:session:") || *key == sessions_key {
                continue;
            }
            seen += 1;
            assert!(*key == format!("watchword:user:{own}") || *key == id_key, "{name:?}: {command:?}");
        }
        assert!(seen >= 4, "the calls were not seen");
    }
}

/// T19: whatever is sent as a name, an event is one line, without a byte that a terminal would obey.
#[tokio::test(flavor = "multi_thread")]
async fn no_name_breaks_a_line_of_the_log() {
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
        let [grpc, http_at] = ["grpc", "http"].map(|api| listens(&mut child, &log, api));
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
                // No header can hold a control byte; those beyond ASCII can stand in it.
                let agent = [("user-agent", "\u{9b}31m")];
                http(http_at.parse().unwrap(), method, &format!("{path}?{query}"), &agent, "").await;
            }
        }
        // By its own means: the child is not a Node, whose log is read in lines.
        assert!(Command::new("kill").arg(child.id().to_string()).status().unwrap().success());
        assert!(child.wait().unwrap().success());
        let bytes = fs::read(&log).unwrap();
        let text = std::str::from_utf8(&bytes).expect("a log is UTF-8");
        let odd = text.chars().find(|c| c.is_control() && *c != '\n' || matches!(c, '\u{2028}' | '\u{2029}'));
        assert_eq!(odd, None, "{text}");
        // Of these names one can be registered, and each of its calls is one line.
        for event in ["user_created", "authn_login_success", "user_create_refused", "authn_login_fail"] {
            assert_eq!(text.matches(event).count(), 1, "{event}: {text}");
        }
        for line in text.lines() {
            let is_one = match format {
                "json" => {
                    serde_json::from_str::<serde_json::Value>(line).is_ok_and(|line| line["timestamp"].is_string())
                }
                _ => line.split(' ').next().is_some_and(|time| humantime::parse_rfc3339(time).is_ok()),
            };
            assert!(is_one && !line.contains("forged"), "{line}");
        }
    }
}

/// T21 for names: canonicalising costs, so what is long is refused before it.
#[tokio::test]
async fn a_name_of_megabytes_or_of_combining_marks_is_refused_on_every_door() {
    let app = app().await;
    let marks = |count: usize| format!("e{}", "\u{316}\u{301}".repeat(count / 2));
    let form = [("content-type", "application/x-www-form-urlencoded")];
    for (name, over_grpc, over_form) in [
        ("x".repeat(4 * 1_024 * 1_024), "REQUEST_TOO_LARGE", 413),
        (marks(100_000), "REQUEST_TOO_LARGE", 413),
        (marks(7_000), "INVALID_FIELD", 400),
        // The most that is canonicalised.
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

/// Many headers, and long ones, over HTTP/1; floods over HTTP/2 are in `floods.rs`.
#[tokio::test]
async fn a_flood_of_headers_is_refused_and_the_door_goes_on() {
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
        let said = flooded(&app, request.as_bytes()).await;
        assert!(said.is_empty() || said.starts_with("HTTP/1.1 431 "), "{said}");
    }
    let reply = http(app.http_socket(), "GET", &target, &[], "").await;
    assert_eq!((reply.status, reply.body.as_str()), (200, "data of ada"));
}

/// What a door says to bytes before it closes; nothing when it closes while they come.
async fn flooded(app: &App, bytes: &[u8]) -> String {
    let mut stream = TcpStream::connect(app.http_socket()).await.unwrap();
    let mut said = Vec::new();
    // A door may close before it has read everything, which resets the connection.
    drop(stream.write_all(bytes).await);
    drop(timeout(WAIT_MAX, stream.read_to_end(&mut said)).await.expect("the door closes"));
    String::from_utf8(said).unwrap()
}

/// Waits until a log says where a door is.
fn listens(child: &mut Child, log: &Path, api: &str) -> String {
    loop {
        assert!(child.try_wait().unwrap().is_none(), "the node has ended");
        let text = fs::read_to_string(log).unwrap();
        let whole = text.rsplit_once('\n').map_or("", |(whole, _)| whole);
        for line in whole.lines().filter(|line| line.contains(api)) {
            let address = line.split(['=', '"', ' ', ',', '}']).find(|part| part.starts_with("127.0.0.1:"));
            if let Some(address) = address.filter(|_| line.contains("listening")) {
                return address.to_owned();
            }
        }
        std::thread::yield_now();
    }
}

/// Every command that Redis ran since the log was cleared.
fn slow_log(place: &TestStore) -> Vec<Vec<String>> {
    type Entry = (i64, i64, i64, Vec<String>, String, String);
    place.redis().ask::<Vec<Entry>>(&["SLOWLOG", "GET", "-1"]).into_iter().map(|entry| entry.3).collect()
}
