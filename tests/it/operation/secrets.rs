//! T18: passwords, tokens and attempted usernames do not appear in logs, metrics, the command line or the store, in any
//! encoding or digest; and no stored text is accepted as a token.
//!
//! Runs the real binary at log level trace and sends secrets to every method and route that takes one.

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
use watchword::api::pb::{self, auth_admin_client::AuthAdminClient, auth_client::AuthClient};

use crate::support::{
    Api, App, LogOutput, Node, StoreKind, TestStore, channel, command,
    fault::{Fault, Faulty},
    http, query,
};

/// Ends each secret: characters that every encoding escapes in its own way.
const TAIL: &str = " &%+\"é";

/// A unique secret; the number shows where it was sent.
fn canary(number: u32) -> String {
    format!("{}{TAIL}", core(number))
}

/// The distinctive part of a secret, which percent encoding and escaping leave unchanged.
fn core(number: u32) -> String {
    format!("Xq7Kanarie{number:03}vZ")
}

/// Every encoding and digest in which a secret could appear.
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
        // Base64 of a longer text: the secret begins at one of three alignments.
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

/// Searches for all forms of many secrets at once.
struct Search(HashMap<[u8; 8], Vec<(String, Vec<u8>)>>);

impl Search {
    fn of(secrets: &[String]) -> Self {
        let mut by_prefix: HashMap<_, Vec<_>> = HashMap::new();
        for secret in secrets {
            for form in forms(secret) {
                let prefix = form[..8].try_into().unwrap();
                by_prefix.entry(prefix).or_default().push((secret.clone(), form));
            }
        }
        Self(by_prefix)
    }

    /// The secrets that appear in a text, each with its form.
    fn hits(&self, text: &[u8]) -> Vec<(String, String)> {
        let mut hits = Vec::new();
        for (at, prefix) in text.windows(8).enumerate() {
            for (secret, form) in self.0.get(prefix).into_iter().flatten() {
                if text[at..].starts_with(form) {
                    hits.push((secret.clone(), String::from_utf8_lossy(form).into_owned()));
                }
            }
        }
        hits
    }
}

#[test]
fn search_finds_a_secret_in_every_form() {
    let secret = canary(0);
    let search = Search::of(&[secret.clone(), core(0)]);
    for form in forms(&secret) {
        let text = [b"before ".as_slice(), &form, b" after"].concat();
        assert!(!search.hits(&text).is_empty(), "{}", String::from_utf8_lossy(&form));
    }
    for before in ["", "x", "xy", "xyz"] {
        let encoded = STANDARD_NO_PAD.encode(format!("{before}{secret} and more"));
        assert!(!search.hits(encoded.as_bytes()).is_empty(), "{encoded}");
    }
    assert!(!search.hits(format!("{secret:?}").as_bytes()).is_empty(), "not found in escaped form");
    assert!(search.hits(b"no secret: Xq7Kanarie").is_empty());
}

/// A node of the real binary with all its listeners, and the secrets that were sent to it.
struct SecretSender {
    node: Node,
    http: SocketAddr,
    ops: SocketAddr,
    admin_socket: String,
    secrets: Vec<String>,
    /// Secrets that were sent as usernames. Only commands to Redis may contain them.
    attempted_names: Vec<String>,
    /// An access token that is still valid.
    valid_token: String,
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

fn authorized<T>(token: &str, message: T) -> Request<T> {
    let mut request = Request::new(message);
    // A canary that is not a valid header value cannot be sent.
    if let Ok(value) = format!("Bearer {token}").parse() {
        request.metadata_mut().insert("authorization", value);
    }
    request
}

impl SecretSender {
    /// A new secret. It is searched for whole and by its distinctive part.
    fn canary(&mut self) -> String {
        let number = u32::try_from(self.secrets.len()).unwrap();
        self.secrets.extend([canary(number), core(number)]);
        canary(number)
    }

    fn record_tokens(&mut self, tokens: &pb::Tokens) {
        self.secrets.extend([tokens.access_token.clone(), tokens.refresh_token.clone()]);
        // With the rest of the token known, the signature alone is a secret.
        self.secrets.push(tokens.access_token.rsplit('.').next().unwrap().to_owned());
    }

    async fn login(&mut self, client: &mut AuthClient<Channel>, name: &str, password: &str) -> pb::Tokens {
        let request =
            pb::LoginRequest { username: name.into(), password: password.into(), challenge_solution: String::new() };
        let tokens = client.login(request).await.unwrap().into_inner().tokens.unwrap();
        self.record_tokens(&tokens);
        tokens
    }

    /// Sends secrets to every gRPC method that takes one.
    async fn send_over_grpc(&mut self, data: &str) {
        let mut client = AuthClient::new(channel(&self.node.grpc).await);
        let (password, new_password) = (self.canary(), self.canary());
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
        // Wrong passwords, and secrets in the username field: valid and invalid as a username.
        for (name, password) in [
            ("ada".into(), self.canary()),
            ("nobody".into(), self.canary()),
            (self.canary(), self.canary()),
            (self.attempted_name(), "x".into()),
        ] {
            client
                .login(pb::LoginRequest { username: name, password, challenge_solution: String::new() })
                .await
                .unwrap_err();
        }
        let mut short_deadline = Request::new(pb::LoginRequest {
            username: "ada".into(),
            password: self.canary(),
            challenge_solution: String::new(),
        });
        short_deadline.set_timeout(Duration::from_millis(1));
        client.login(short_deadline).await.unwrap_err();
        let change = |current: &str, new: &str| pb::ChangePasswordRequest {
            current_password: current.into(),
            new_password: new.into(),
            ..Default::default()
        };
        client
            .change_password(authorized(&tokens.access_token, change(&self.canary(), &new_password)))
            .await
            .unwrap_err();
        client.change_password(authorized(&tokens.access_token, change(&password, "short"))).await.unwrap_err();
        let changed = client.change_password(authorized(&tokens.access_token, change(&password, &new_password))).await;
        self.record_tokens(&changed.unwrap().into_inner().tokens.unwrap());
        client.get_user(authorized(&tokens.access_token, pb::GetUserRequest {})).await.unwrap_err();
        let delete = pb::DeleteUserRequest { current_password: self.canary(), ..Default::default() };
        let tokens = self.login(&mut client, "ada", &new_password).await;
        client.delete_user(authorized(&tokens.access_token, delete)).await.unwrap_err();
        let refresh = || pb::RefreshTokenRequest { refresh_token: tokens.refresh_token.clone(), ..Default::default() };
        let refreshed = client.refresh_token(refresh()).await.unwrap().into_inner().tokens.unwrap();
        self.record_tokens(&refreshed);
        for token in
            [&refreshed.access_token, &refreshed.refresh_token, &self.canary(), &format!("{}x", tokens.access_token)]
        {
            drop(
                client
                    .introspect_token(pb::IntrospectTokenRequest { token: token.clone(), ..Default::default() })
                    .await
                    .unwrap(),
            );
            drop(client.get_user(authorized(token, pb::GetUserRequest {})).await);
        }
        client
            .refresh_token(pb::RefreshTokenRequest { refresh_token: self.canary(), ..Default::default() })
            .await
            .unwrap_err();
        client.revoke_token(pb::RevokeTokenRequest { token: refreshed.refresh_token }).await.unwrap();
        self.send_reset_codes(&mut client).await;
        self.valid_token = self.login(&mut client, "ada", &new_password).await.access_token;
    }

    /// Password resets: one code is used, one stays valid.
    async fn send_reset_codes(&mut self, client: &mut AuthClient<Channel>) {
        let (password, new_password) = (self.canary(), self.canary());
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
                client.reset_password(reset(&code, &new_password)).await.unwrap();
            }
        }
    }

    /// A new secret without the tail.
    fn plain_canary(&mut self) -> String {
        self.canary();
        self.secrets.last().unwrap().clone()
    }

    /// A new secret that is sent as a username.
    fn attempted_name(&mut self) -> String {
        self.attempted_names.push(format!("Xq7Namensfeld{:03}vZ", self.attempted_names.len()));
        self.attempted_names.last().unwrap().clone()
    }

    /// Sends secrets to every HTTP route that takes one.
    async fn send_over_http(&mut self, data: &str) {
        let password = self.canary();
        let valid = query(&[("username", "grace"), ("password", &password), ("data", data)]);
        let form = [("content-type", "application/x-www-form-urlencoded")];
        assert_eq!(http(self.http, "POST", &format!("/register?{valid}"), &[], "").await.body, "Success");
        assert_eq!(http(self.http, "GET", &format!("/login?{valid}"), &[], "").await.body, data);
        assert_eq!(http(self.http, "POST", "/register", &form, &valid).await.body, "User already registered.");
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
        http(self.http, "GET", &format!("/login?username={}&password=x", self.attempted_name()), &[], "").await;
        let basic = format!("Basic {}", STANDARD_NO_PAD.encode(format!("gateway:{}", self.canary())));
        let bearer = format!("Bearer {}", self.plain_canary());
        for authorization in [&basic, &bearer] {
            let headers = [("authorization", authorization.as_str()), form[0]];
            http(self.http, "POST", "/oauth2/introspect", &headers, &format!("token={}", self.plain_canary())).await;
        }
        let canary_headers = [
            ("host", &*format!("{}.example", self.plain_canary())),
            ("origin", &*format!("http://{}", self.plain_canary())),
        ];
        http(self.http, "GET", &format!("/{}", self.plain_canary()), &canary_headers[1..], "").await;
    }
}

/// The contents of all files below a folder.
fn contents(folder: &Path) -> Vec<u8> {
    let mut all = Vec::new();
    for entry in fs::read_dir(folder).unwrap().map(Result::unwrap) {
        if entry.file_type().unwrap().is_dir() {
            all.extend(contents(&entry.path()));
        } else if entry.file_type().unwrap().is_file() {
            all.extend(fs::read(entry.path()).unwrap());
        }
    }
    all
}

/// All commands that Redis executes from now on, from MONITOR.
fn monitor(port: u16) -> (TcpStream, Arc<Mutex<Vec<u8>>>, thread::JoinHandle<()>) {
    let mut stream = TcpStream::connect(("127.0.0.1", port)).unwrap();
    stream.write_all(b"MONITOR\r\n").unwrap();
    let (mut reader, seen) = (stream.try_clone().unwrap(), Arc::new(Mutex::new(Vec::new())));
    let received = seen.clone();
    let thread = thread::spawn(move || {
        let mut chunk = [0; 16_384];
        while let Ok(length @ 1..) = reader.read(&mut chunk) {
            received.lock().unwrap().extend(&chunk[..length]);
        }
    });
    (stream, seen, thread)
}

#[tokio::test(flavor = "multi_thread")]
async fn no_secret_appears_in_any_output_and_no_stored_text_is_a_valid_token() {
    for kind in StoreKind::DURABLE {
        let place = TestStore::new(kind);
        let monitored = (kind == StoreKind::Redis).then(|| {
            for setting in [["slowlog-log-slower-than", "0"], ["slowlog-max-len", "100000"]] {
                place.redis().ask::<()>(&["CONFIG", "SET", setting[0], setting[1]]);
            }
            monitor(place.redis().port)
        });
        let mut node = node(&place);
        let (http_at, ops) = (address(&mut node, "http"), address(&mut node, "ops"));
        let admin_socket = place.data_folder().join("admin.sock").display().to_string();
        let mut sender = SecretSender {
            node,
            http: http_at,
            ops,
            admin_socket,
            secrets: Vec::new(),
            attempted_names: Vec::new(),
            valid_token: String::new(),
        };
        let data = "Xq7KanarieDATAvZ";
        sender.send_over_grpc(data).await;
        sender.send_over_http(data).await;
        if kind == StoreKind::Redis {
            place.redis().signal("STOP");
            let request = pb::LoginRequest {
                username: "ada".into(),
                password: sender.canary(),
                challenge_solution: String::new(),
            };
            AuthClient::new(channel(&sender.node.grpc).await).login(request).await.unwrap_err();
            place.redis().signal("CONT");
        }

        let metrics = http(sender.ops, "GET", "/metrics", &[], "").await.body;
        assert!(metrics.contains("watchword_logins_total"));
        let process = |file: &str| fs::read(format!("/proc/{}/{file}", sender.node.pid())).unwrap();
        let mut outputs = vec![
            ("metrics", metrics.into_bytes()),
            ("command line", process("cmdline")),
            ("environment", process("environ")),
        ];
        sender.node.signal("TERM");
        let SecretSender { node, secrets, attempted_names, valid_token, .. } = sender;
        let (ended, log) = node.wait();
        assert!(ended.success() && log.contains("DEBUG"), "{log}");
        let search_data = Search::of(&[data.to_owned()]);
        outputs.push(("log", log.into_bytes()));
        for (name, text) in &outputs {
            assert_eq!(search_data.hits(text), [], "{kind:?}: data in the {name}");
        }
        let stored = match &monitored {
            None => contents(&place.data_folder()),
            Some((stream, seen, _)) => {
                let slow: Vec<redis::Value> = place.redis().ask(&["SLOWLOG", "GET", "-1"]);
                outputs.push(("slow log", format!("{slow:?}").into_bytes()));
                stream.shutdown(Shutdown::Both).unwrap();
                outputs.push(("MONITOR", seen.lock().unwrap().clone()));
                contents(place.redis().folder())
            }
        };
        // The control: user data is found in the store, so the search would find a secret there too.
        assert!(search_data.hits(&stored).len() >= 2, "{kind:?}: the search does not find stored user data");
        if monitored.is_some() {
            assert!(!search_data.hits(&outputs.last().unwrap().1).is_empty(), "MONITOR recorded no command");
        }
        outputs.push(("store", stored.clone()));
        let (search, search_names) = (Search::of(&secrets), Search::of(&attempted_names));
        for (name, text) in &outputs {
            assert_eq!(search.hits(text), [], "{kind:?}: secrets in the {name}");
            if !["slow log", "MONITOR"].contains(name) {
                assert_eq!(search_names.hits(text), [], "{kind:?}: attempted usernames in the {name}");
            }
        }
        assert!(secrets.len() > 60, "only {} secrets were sent", secrets.len());
        assert_no_stored_text_is_a_token(&place, &stored, &valid_token).await;
    }
}

/// Sends every stored text as a token to a node that accepts valid tokens.
async fn assert_no_stored_text_is_a_token(place: &TestStore, stored: &[u8], valid_token: &str) {
    let node = node(place);
    let mut client = AuthClient::new(channel(&node.grpc).await);
    assert!(
        client.get_user(authorized(valid_token, pb::GetUserRequest {})).await.is_ok(),
        "the control: a valid token is accepted"
    );
    let is_token_byte = |byte: &u8| byte.is_ascii_alphanumeric() || b"-_.$,=+/:".contains(byte);
    let mut texts: Vec<_> = stored.split(|byte| !is_token_byte(byte)).filter(|text| text.len() >= 8).collect();
    texts.sort_unstable();
    texts.dedup();
    assert!(texts.len() > 20, "only {} texts are stored", texts.len());
    for text in texts {
        let token = String::from_utf8(text.to_vec()).unwrap();
        let introspected =
            client.introspect_token(pb::IntrospectTokenRequest { token: token.clone(), ..Default::default() }).await;
        // A text longer than the message limit is refused.
        assert!(introspected.is_ok_and(|answer| !answer.into_inner().active) || token.len() > 10_000, "{token}");
        assert!(client.get_user(authorized(&token, pb::GetUserRequest {})).await.is_err(), "{token}");
        assert!(
            client
                .refresh_token(pb::RefreshTokenRequest { refresh_token: token.clone(), ..Default::default() })
                .await
                .is_err(),
            "{token}"
        );
    }
}

/// On one thread, so that the thread's subscriber receives the whole log.
#[tokio::test]
async fn log_of_a_panic_and_of_store_faults_contains_no_secret() {
    let output = LogOutput::default();
    let subscriber =
        tracing_subscriber::fmt().with_max_level(tracing::Level::TRACE).with_writer(output.clone()).finish();
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
    let log = output.text();
    assert!(log.contains("panic"), "the panics were not logged");
    assert_eq!(Search::of(&secrets).hits(log.as_bytes()), []);
}
