//! T18: passwords, tokens, and what was typed in the place of a name, reach no log, metric, command line or store, in no form
//! that could be found again; and nothing that is stored opens anything.
//!
//! The real binary at its most talkative, on every path that takes a secret.

use std::{
    collections::HashMap,
    fs,
    io::{Read, Write},
    net::{Shutdown, SocketAddr, TcpStream},
    path::Path,
    sync::{Arc, Mutex},
    thread,
    time::Duration,
};

use aws_lc_rs::digest::{SHA1_FOR_LEGACY_USE_ONLY, SHA256, digest};
use base64::{
    Engine,
    engine::general_purpose::{STANDARD_NO_PAD, URL_SAFE_NO_PAD},
};
use md5::{Digest, Md5};
use tonic::{
    Request,
    transport::{Channel, Endpoint},
};
use tracing_subscriber::fmt::MakeWriter;
use watchword::api::pb::{self, auth_admin_client::AuthAdminClient, auth_client::AuthClient};

use crate::support::{
    Api, App, Node, StoreKind, TestStore, channel, command,
    fault::{Fault, Faulty},
    http, query,
};

/// What follows the distinctive part of a secret: what each spelling writes in its own way.
const TAIL: &str = " &%+\"é";

/// A secret that nobody would make up twice; the number tells where it was used.
fn canary(number: u32) -> String {
    format!("{}{TAIL}", core(number))
}

/// The part that every spelling but an encoding leaves as it is.
fn core(number: u32) -> String {
    format!("Xq7Kanarie{number:03}vZ")
}

/// Every form in which a secret could lie somewhere.
fn forms(secret: &str) -> Vec<Vec<u8>> {
    let hex = |bytes: &[u8], upper: bool| -> String {
        bytes.iter().map(|byte| if upper { format!("{byte:02X}") } else { format!("{byte:02x}") }).collect()
    };
    let mut forms = vec![secret.as_bytes().to_vec()];
    let percent = query(&[("", secret)])[1..].to_owned();
    forms.extend([percent.replace("%20", "+"), percent.to_lowercase(), percent].map(String::into_bytes));
    forms.push(secret.bytes().map(|byte| format!("%{byte:02x}")).collect::<String>().into_bytes());
    forms.push(secret.bytes().map(|byte| format!("%{byte:02X}")).collect::<String>().into_bytes());
    let mut encoded = |bytes: &[u8]| {
        forms.extend([hex(bytes, false), hex(bytes, true)].map(String::into_bytes));
        // In the middle of something longer it can begin at any of three places.
        for before in 0..3 {
            let padded = [&vec![0; before], bytes].concat();
            let (from, to) = ((before * 8).div_ceil(6), padded.len() * 8 / 6);
            for text in [STANDARD_NO_PAD.encode(&padded), URL_SAFE_NO_PAD.encode(&padded)] {
                forms.push(text.as_bytes()[from..to].to_vec());
            }
        }
    };
    encoded(secret.as_bytes());
    let digests = [
        Md5::digest(secret).to_vec(),
        digest(&SHA1_FOR_LEGACY_USE_ONLY, secret.as_bytes()).as_ref().to_vec(),
        digest(&SHA256, secret.as_bytes()).as_ref().to_vec(),
    ];
    digests.iter().for_each(|digest| encoded(digest));
    forms.extend(digests);
    forms
}

/// Looks for many secrets at once.
struct Search(HashMap<[u8; 8], Vec<(String, Vec<u8>)>>);

impl Search {
    fn of(secrets: &[String]) -> Self {
        let mut by_beginning: HashMap<_, Vec<_>> = HashMap::new();
        for secret in secrets {
            for form in forms(secret) {
                let beginning = form[..8].try_into().unwrap();
                by_beginning.entry(beginning).or_default().push((secret.clone(), form));
            }
        }
        Self(by_beginning)
    }

    /// Which secrets are in there, each with the form it has.
    fn hits(&self, place: &[u8]) -> Vec<(String, String)> {
        let mut hits = Vec::new();
        for (at, beginning) in place.windows(8).enumerate() {
            for (secret, form) in self.0.get(beginning).into_iter().flatten() {
                if place[at..].starts_with(form) {
                    hits.push((secret.clone(), String::from_utf8_lossy(form).into_owned()));
                }
            }
        }
        hits
    }
}

#[test]
fn the_search_finds_a_secret_in_every_form() {
    let secret = canary(0);
    let search = Search::of(&[secret.clone(), core(0)]);
    for form in forms(&secret) {
        let place = [b"before ".as_slice(), &form, b" behind"].concat();
        assert!(!search.hits(&place).is_empty(), "{}", String::from_utf8_lossy(&form));
    }
    for before in ["", "x", "xy", "xyz"] {
        let within = STANDARD_NO_PAD.encode(format!("{before}{secret} and more"));
        assert!(!search.hits(within.as_bytes()).is_empty(), "{within}");
    }
    assert!(!search.hits(format!("{secret:?}").as_bytes()).is_empty(), "escaped");
    assert!(search.hits(b"nothing of the kind: Xq7Kanarie").is_empty());
}

/// A node of the real binary with all its doors, and the secrets that it was told.
struct Told {
    node: Node,
    http: SocketAddr,
    ops: SocketAddr,
    admin_socket: String,
    secrets: Vec<String>,
    /// Those that were typed as a name: Redis is asked for them, and nobody else may see them.
    tried_names: Vec<String>,
    /// An access token that still counts.
    living: String,
}

fn node(place: &TestStore) -> Node {
    let mut args: Vec<_> =
        ["--grpc-addr", "--http-addr", "--ops-addr"].iter().flat_map(|api| [*api, "127.0.0.1:0"]).collect();
    args.extend(["--log-level", "trace", "--token-issuer", "https://sso.example"]);
    let flags = place.flags();
    args.extend(flags.iter().map(String::as_str));
    Node::spawn(command(&args)).unwrap()
}

fn address(node: &mut Node, api: &str) -> SocketAddr {
    let line = node.line(&format!("api=\"{api}\" address=")).unwrap();
    line.rsplit("address=").next().unwrap().parse().unwrap()
}

fn bearing<T>(token: &str, message: T) -> Request<T> {
    let mut request = Request::new(message);
    // What no header can hold cannot be sent either.
    if let Ok(value) = format!("Bearer {token}").parse() {
        request.metadata_mut().insert("authorization", value);
    }
    request
}

impl Told {
    /// A new secret, remembered with its distinctive part.
    fn canary(&mut self) -> String {
        let number = u32::try_from(self.secrets.len()).unwrap();
        self.secrets.extend([canary(number), core(number)]);
        canary(number)
    }

    fn keep(&mut self, tokens: &pb::Tokens) {
        self.secrets.extend([tokens.access_token.clone(), tokens.refresh_token.clone()]);
        // The signature alone would do to make another one of the kind known.
        self.secrets.push(tokens.access_token.rsplit('.').next().unwrap().to_owned());
    }

    async fn login(&mut self, client: &mut AuthClient<Channel>, name: &str, password: &str) -> pb::Tokens {
        let request =
            pb::LoginRequest { username: name.into(), password: password.into(), challenge_solution: String::new() };
        let tokens = client.login(request).await.unwrap().into_inner().tokens.unwrap();
        self.keep(&tokens);
        tokens
    }

    /// Every path of the gRPC door that takes a secret.
    async fn over_grpc(&mut self, data: &str) {
        let mut client = AuthClient::new(channel(&self.node.grpc).await);
        let (password, newer) = (self.canary(), self.canary());
        let register = |username: &str, password: &str| pb::RegisterRequest {
            username: username.into(),
            password: password.into(),
            data: Some(data.into()),
            request_id: "7d2f8f6e-9d1b-4f6e-8c3a-0b1d2e3f4a5b".into(),
            challenge_solution: String::new(),
        };
        client.register(register("ada", &password)).await.unwrap();
        client.register(register("ada", &password)).await.unwrap();
        client.register(register("ada", &self.canary())).await.unwrap_err();
        let over_long = format!("{}{}", self.canary(), "x".repeat(1_024));
        client.register(register("bob", &over_long)).await.unwrap_err();
        let over_large = format!("{}{}", self.canary(), "x".repeat(20_000));
        client.register(register("bob", &over_large)).await.unwrap_err();
        let tokens = self.login(&mut client, "ada", &password).await;
        // A password typed into the field of the name, as one that could be a name and as one that could not.
        for (name, password) in [
            ("ada".into(), self.canary()),
            ("nobody".into(), self.canary()),
            (self.canary(), self.canary()),
            (self.tried_name(), "x".into()),
        ] {
            client
                .login(pb::LoginRequest { username: name, password, challenge_solution: String::new() })
                .await
                .unwrap_err();
        }
        let mut hurried = Request::new(pb::LoginRequest {
            username: "ada".into(),
            password: self.canary(),
            challenge_solution: String::new(),
        });
        hurried.set_timeout(Duration::from_millis(1));
        client.login(hurried).await.unwrap_err();
        let change = |current: &str, new: &str| pb::ChangePasswordRequest {
            current_password: current.into(),
            new_password: new.into(),
        };
        client.change_password(bearing(&tokens.access_token, change(&self.canary(), &newer))).await.unwrap_err();
        client.change_password(bearing(&tokens.access_token, change(&password, "short"))).await.unwrap_err();
        let changed = client.change_password(bearing(&tokens.access_token, change(&password, &newer))).await;
        self.keep(&changed.unwrap().into_inner().tokens.unwrap());
        client.get_user(bearing(&tokens.access_token, pb::GetUserRequest {})).await.unwrap_err();
        let delete = pb::DeleteUserRequest { current_password: self.canary() };
        let tokens = self.login(&mut client, "ada", &newer).await;
        client.delete_user(bearing(&tokens.access_token, delete)).await.unwrap_err();
        let refresh = || pb::RefreshTokenRequest { refresh_token: tokens.refresh_token.clone() };
        let refreshed = client.refresh_token(refresh()).await.unwrap().into_inner().tokens.unwrap();
        self.keep(&refreshed);
        for token in
            [&refreshed.access_token, &refreshed.refresh_token, &self.canary(), &format!("{}x", tokens.access_token)]
        {
            drop(client.introspect_token(pb::IntrospectTokenRequest { token: token.clone() }).await.unwrap());
            drop(client.get_user(bearing(token, pb::GetUserRequest {})).await);
        }
        client.refresh_token(pb::RefreshTokenRequest { refresh_token: self.canary() }).await.unwrap_err();
        client.revoke_token(pb::RevokeTokenRequest { token: refreshed.refresh_token }).await.unwrap();
        self.resets(&mut client).await;
        self.living = self.login(&mut client, "ada", &newer).await.access_token;
    }

    /// Codes for a new password: one that is spent, and one that is kept.
    async fn resets(&mut self, client: &mut AuthClient<Channel>) {
        let (password, newer) = (self.canary(), self.canary());
        let bob = pb::RegisterRequest { username: "bob".into(), password, ..pb::RegisterRequest::default() };
        client.register(bob).await.unwrap();
        let socket = format!("unix:{}", self.admin_socket);
        let mut admin = AuthAdminClient::new(Endpoint::from_shared(socket).unwrap().connect().await.unwrap());
        for require_reset in [false, true] {
            let request = pb::CreatePasswordResetCodeRequest { username: "bob".into(), require_reset };
            let code = admin.create_password_reset_code(request).await.unwrap().into_inner().reset_code;
            self.secrets.push(code.clone());
            self.secrets.push(code["wwc_".len()..].to_owned());
            let reset = |reset_code: &str, new_password: &str| pb::ResetPasswordRequest {
                username: "bob".into(),
                reset_code: reset_code.into(),
                new_password: new_password.into(),
            };
            client.reset_password(reset(&self.canary(), &self.canary())).await.unwrap_err();
            client.reset_password(reset(&code, "short")).await.unwrap_err();
            if !require_reset {
                client.reset_password(reset(&code, &newer)).await.unwrap();
            }
        }
    }

    /// One without the tail.
    fn plain_canary(&mut self) -> String {
        self.canary();
        self.secrets.last().unwrap().clone()
    }

    /// One that is typed as the name of a user.
    fn tried_name(&mut self) -> String {
        self.tried_names.push(format!("Xq7Namensfeld{:03}vZ", self.tried_names.len()));
        self.tried_names.last().unwrap().clone()
    }

    /// Every path of the HTTP door that takes a secret.
    async fn over_http(&mut self, data: &str) {
        let password = self.canary();
        let good = query(&[("username", "grace"), ("password", &password), ("data", data)]);
        let form = [("content-type", "application/x-www-form-urlencoded")];
        assert_eq!(http(self.http, "POST", &format!("/register?{good}"), &[], "").await.body, "Success");
        assert_eq!(http(self.http, "GET", &format!("/login?{good}"), &[], "").await.body, data);
        assert_eq!(http(self.http, "POST", "/register", &form, &good).await.body, "User already registered.");
        for (method, path) in [
            ("GET", "/login"),
            ("PUT", "/login"),
            ("POST", "/register"),
            ("GET", "/nowhere"),
            ("POST", "/oauth2/introspect"),
        ] {
            let wrong = query(&[("username", "grace"), ("password", &self.canary()), ("token", &self.canary())]);
            http(self.http, method, &format!("{path}?{wrong}"), &[], "").await;
            http(self.http, method, path, &form, &wrong).await;
            http(self.http, method, &format!("{path}?username=grace&password=%zz%{}", self.plain_canary()), &[], "")
                .await;
        }
        let over_large = format!("username=grace&password={}{}", self.plain_canary(), "x".repeat(70_000));
        http(self.http, "POST", "/register", &form, &over_large).await;
        http(self.http, "GET", &format!("/login?username={}&password=x", self.tried_name()), &[], "").await;
        let basic = format!("Basic {}", STANDARD_NO_PAD.encode(format!("gateway:{}", self.canary())));
        let bearer = format!("Bearer {}", self.plain_canary());
        for authorization in [&basic, &bearer] {
            let headers = [("authorization", authorization.as_str()), form[0]];
            http(self.http, "POST", "/oauth2/introspect", &headers, &format!("token={}", self.plain_canary())).await;
        }
        let strange = [
            ("host", &*format!("{}.example", self.plain_canary())),
            ("origin", &*format!("http://{}", self.plain_canary())),
        ];
        http(self.http, "GET", &format!("/{}", self.plain_canary()), &strange[1..], "").await;
    }
}

/// Every file below a folder, one after the other.
fn files(folder: &Path) -> Vec<u8> {
    let mut all = Vec::new();
    for entry in fs::read_dir(folder).unwrap().map(Result::unwrap) {
        if entry.file_type().unwrap().is_dir() {
            all.extend(files(&entry.path()));
        } else if entry.file_type().unwrap().is_file() {
            all.extend(fs::read(entry.path()).unwrap());
        }
    }
    all
}

/// All that Redis runs from now on, as MONITOR shows it.
fn monitor(port: u16) -> (TcpStream, Arc<Mutex<Vec<u8>>>, thread::JoinHandle<()>) {
    let mut stream = TcpStream::connect(("127.0.0.1", port)).unwrap();
    stream.write_all(b"MONITOR\r\n").unwrap();
    let (mut reading, seen) = (stream.try_clone().unwrap(), Arc::new(Mutex::new(Vec::new())));
    let into = seen.clone();
    let reader = thread::spawn(move || {
        let mut part = [0; 16_384];
        while let Ok(length @ 1..) = reading.read(&mut part) {
            into.lock().unwrap().extend(&part[..length]);
        }
    });
    (stream, seen, reader)
}

#[tokio::test(flavor = "multi_thread")]
async fn no_secret_is_found_anywhere_and_nothing_that_is_stored_opens_anything() {
    for kind in StoreKind::DURABLE {
        let place = TestStore::new(kind);
        let watched = (kind == StoreKind::Redis).then(|| {
            for setting in [["slowlog-log-slower-than", "0"], ["slowlog-max-len", "100000"]] {
                place.redis().ask::<()>(&["CONFIG", "SET", setting[0], setting[1]]);
            }
            monitor(place.redis().port)
        });
        let mut node = node(&place);
        let (http_at, ops) = (address(&mut node, "http"), address(&mut node, "ops"));
        let admin_socket = place.data_folder().join("admin.sock").display().to_string();
        let mut told = Told {
            node,
            http: http_at,
            ops,
            admin_socket,
            secrets: Vec::new(),
            tried_names: Vec::new(),
            living: String::new(),
        };
        let data = "Xq7KanarieDATAvZ";
        told.over_grpc(data).await;
        told.over_http(data).await;
        if kind == StoreKind::Redis {
            place.redis().signal("STOP");
            let request =
                pb::LoginRequest { username: "ada".into(), password: told.canary(), challenge_solution: String::new() };
            AuthClient::new(channel(&told.node.grpc).await).login(request).await.unwrap_err();
            place.redis().signal("CONT");
        }

        let metrics = http(told.ops, "GET", "/metrics", &[], "").await.body;
        assert!(metrics.contains("watchword_logins_total"));
        let process = |file: &str| fs::read(format!("/proc/{}/{file}", told.node.pid())).unwrap();
        let mut places = vec![
            ("metrics", metrics.into_bytes()),
            ("command line", process("cmdline")),
            ("environment", process("environ")),
        ];
        told.node.signal("TERM");
        let Told { node, secrets, tried_names, living, .. } = told;
        let (ended, log) = node.wait();
        assert!(ended.success() && log.contains("DEBUG"), "{log}");
        let search_data = Search::of(&[data.to_owned()]);
        places.push(("log", log.into_bytes()));
        for (name, place) in &places {
            assert_eq!(search_data.hits(place), [], "{kind:?}: data in the {name}");
        }
        let kept = match &watched {
            None => files(&place.data_folder()),
            Some((stream, seen, _)) => {
                let slow: Vec<redis::Value> = place.redis().ask(&["SLOWLOG", "GET", "-1"]);
                places.push(("slow log", format!("{slow:?}").into_bytes()));
                stream.shutdown(Shutdown::Both).unwrap();
                places.push(("MONITOR", seen.lock().unwrap().clone()));
                files(place.redis().folder())
            }
        };
        // The control: what users keep is there, and so would be whatever else was written.
        assert!(search_data.hits(&kept).len() >= 2, "{kind:?}: the search does not find what is there");
        if watched.is_some() {
            assert!(!search_data.hits(&places.last().unwrap().1).is_empty(), "MONITOR was not heard");
        }
        places.push(("store", kept.clone()));
        let (search, search_names) = (Search::of(&secrets), Search::of(&tried_names));
        for (name, place) in &places {
            assert_eq!(search.hits(place), [], "{kind:?}: secrets in the {name}");
            if !["slow log", "MONITOR"].contains(name) {
                assert_eq!(search_names.hits(place), [], "{kind:?}: names that were tried in the {name}");
            }
        }
        assert!(secrets.len() > 60, "only {} secrets were told", secrets.len());
        opens_nothing(&place, &kept, &living).await;
    }
}

/// Presents every text that is stored as a token, to a node that takes those that count.
async fn opens_nothing(place: &TestStore, kept: &[u8], living: &str) {
    let node = node(place);
    let mut client = AuthClient::new(channel(&node.grpc).await);
    assert!(client.get_user(bearing(living, pb::GetUserRequest {})).await.is_ok(), "the control: tokens are taken");
    let is_part = |byte: &u8| byte.is_ascii_alphanumeric() || b"-_.$,=+/:".contains(byte);
    let mut texts: Vec<_> = kept.split(|byte| !is_part(byte)).filter(|text| text.len() >= 8).collect();
    texts.sort_unstable();
    texts.dedup();
    assert!(texts.len() > 20, "only {} texts are stored", texts.len());
    for text in texts {
        let token = String::from_utf8(text.to_vec()).unwrap();
        let introspected = client.introspect_token(pb::IntrospectTokenRequest { token: token.clone() }).await;
        // What is longer than a message may be is refused.
        assert!(introspected.is_ok_and(|answer| !answer.into_inner().active) || token.len() > 10_000, "{token}");
        assert!(client.get_user(bearing(&token, pb::GetUserRequest {})).await.is_err(), "{token}");
        assert!(
            client.refresh_token(pb::RefreshTokenRequest { refresh_token: token.clone() }).await.is_err(),
            "{token}"
        );
    }
}

/// What a subscriber wrote.
#[derive(Clone, Default)]
struct Lines(Arc<Mutex<Vec<u8>>>);

impl Write for Lines {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.0.lock().unwrap().extend(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

impl<'a> MakeWriter<'a> for Lines {
    type Writer = Lines;

    fn make_writer(&'a self) -> Lines {
        self.clone()
    }
}

/// On one thread, whose log is all there is.
#[tokio::test]
async fn a_panic_and_a_store_that_hangs_or_is_torn_tell_no_secret() {
    let lines = Lines::default();
    let subscriber =
        tracing_subscriber::fmt().with_max_level(tracing::Level::TRACE).with_writer(lines.clone()).finish();
    let _log = tracing::subscriber::set_default(subscriber);
    let store = Faulty::with(Fault::None);
    let app = App::on(store.clone()).start().await;
    let mut secrets = Vec::new();
    for (number, fault) in [Fault::Panic, Fault::Down, Fault::Corrupt, Fault::ReplyLost].into_iter().enumerate() {
        store.set(fault);
        for api in Api::ALL {
            let number = u32::try_from(number * 10).unwrap();
            secrets.extend([canary(number), core(number), canary(number + 1), core(number + 1)]);
            drop(api.login(&app, "ada", &canary(number)).await);
            drop(api.register(&app, "ada", &canary(number + 1), "").await);
        }
    }
    let log = lines.0.lock().unwrap().clone();
    assert!(String::from_utf8_lossy(&log).contains("panic"), "the panics were not logged");
    assert_eq!(Search::of(&secrets).hits(&log), []);
}
