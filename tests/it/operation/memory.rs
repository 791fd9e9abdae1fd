//! Secrets in the memory of a node: none is left when the calls have ended, and no core dump can have them.

use std::{
    collections::BTreeMap,
    fs::{self, File},
    os::unix::fs::{FileExt, MetadataExt, PermissionsExt, chown},
    process::Command,
};

use tempfile::TempDir;
use tokio::{io::AsyncWriteExt, net::TcpStream};
use watchword::{
    api::pb::{self, auth_client::AuthClient},
    domain::{Clock, System},
};

use crate::support::{
    BINARY, Node, StoreKind, WAIT_MAX, channel, command, command_by, http, query, redis::RedisServer, run, with_bearer,
};

/// A user without privileges.
const NOT_ROOT: u32 = 65_534;

type Secrets = BTreeMap<&'static str, String>;

/// How many copies of each secret each region in the memory of a process has. As root, because the process forbids it to its
/// own user.
fn copies(pid: u32, secrets: &Secrets) -> BTreeMap<(&'static str, String), usize> {
    let maps = fs::read_to_string(format!("/proc/{pid}/maps")).unwrap();
    let memory = File::open(format!("/proc/{pid}/mem")).unwrap();
    let mut begins = [false; 256];
    secrets.values().for_each(|secret| begins[usize::from(secret.as_bytes()[0])] = true);
    let mut found = BTreeMap::new();
    for line in maps.lines().filter(|line| line.split(' ').nth(1).is_some_and(|mode| mode.starts_with("rw"))) {
        let (from, to) = line.split(' ').next().unwrap().split_once('-').unwrap();
        let [from, to] = [from, to].map(|at| u64::from_str_radix(at, 16).unwrap());
        let mut region = vec![0; usize::try_from(to - from).unwrap()];
        // A region may be gone by now, with what was in it.
        if memory.read_exact_at(&mut region, from).is_err() {
            continue;
        }
        let places = (0..region.len()).filter(|at| begins[usize::from(region[*at])]);
        for at in places {
            for (name, secret) in secrets.iter().filter(|(_, secret)| region[at..].starts_with(secret.as_bytes())) {
                assert!(secret.len() > 12, "{name} could be there by chance");
                *found.entry((*name, line.to_owned())).or_default() += 1;
            }
        }
    }
    found
}

/// Waits until the memory has no copy, because connections take a moment to close.
async fn assert_wiped(pid: u32, secrets: &Secrets, when: &str) {
    let until = System.monotonic() + WAIT_MAX;
    loop {
        let left = copies(pid, secrets);
        if left.is_empty() {
            return;
        }
        assert!(System.monotonic() < until, "{when}: copies of secrets are left: {left:#?}");
        tokio::task::yield_now().await;
    }
}

/// A node with its gRPC and HTTP listeners on a store, and the secrets that it reads at its start.
struct TestNode {
    node: Node,
    http: std::net::SocketAddr,
    data: String,
    secrets: Secrets,
    _folder: TempDir,
    _redis: Option<RedisServer>,
}

impl TestNode {
    fn start(kind: StoreKind) -> Self {
        let folder = TempDir::new().unwrap();
        let data = folder.path().join("data").display().to_string();
        let mut args = vec!["--data-dir".to_owned(), data.clone()];
        let mut secrets = Secrets::new();
        let redis = (kind == StoreKind::Redis).then(|| {
            let password = "Xq7RedisPasswordvZ".to_owned();
            let redis = RedisServer::with_login(&["--requirepass", &password], &format!(":{password}@"));
            let file = folder.path().join("password");
            fs::write(&file, &password).unwrap();
            fs::set_permissions(&file, fs::Permissions::from_mode(0o600)).unwrap();
            args.extend(["--store".into(), format!("redis://127.0.0.1:{}", redis.port)]);
            args.extend(["--store-password-file".into(), file.display().to_string()]);
            secrets.insert("password of Redis", password);
            redis
        });
        let mut serve = command(&["--grpc-addr", "127.0.0.1:0", "--http-addr", "127.0.0.1:0", "--ops-addr", "off"]);
        serve.args(&args);
        let mut node = Node::spawn(serve).unwrap_or_else(|log| panic!("{log}"));
        let line = node.line("api=\"http\" address=").unwrap();
        let http = line.rsplit("address=").next().unwrap().parse().unwrap();
        Self { node, http, data, secrets, _folder: folder, _redis: redis }
    }

    fn secret(&mut self, name: &'static str, secret: &str) -> String {
        self.secrets.insert(name, secret.to_owned());
        secret.to_owned()
    }

    fn tokens(&mut self, names: [&'static str; 2], tokens: &pb::Tokens) {
        // With the rest of a token known, its signature alone is the secret.
        self.secret(names[0], tokens.access_token.rsplit('.').next().unwrap());
        self.secret(names[1], &tokens.refresh_token);
    }

    /// Sends every kind of secret over gRPC, on a connection that is closed at the end.
    async fn send_over_grpc(&mut self) {
        let mut client = AuthClient::new(channel(&self.node.grpc).await);
        let [old, new, wrong] = [
            ("password that was changed away", "Xq7PasswordOldvZ"),
            ("password", "Xq7PasswordNewvZ"),
            ("wrong password", "Xq7PasswordWrongvZ"),
        ]
        .map(|(name, secret)| self.secret(name, secret));
        let username = || "ada".to_owned();
        let register = pb::RegisterRequest { username: username(), password: old.clone(), ..Default::default() };
        client.register(register).await.unwrap();
        let login = |password: &str| pb::LoginRequest {
            username: username(),
            password: password.into(),
            ..pb::LoginRequest::default()
        };
        client.login(login(&wrong)).await.unwrap_err();
        let tokens = client.login(login(&old)).await.unwrap().into_inner().tokens.unwrap();
        self.tokens(["access token of the old password", "refresh token of the old password"], &tokens);
        let change =
            pb::ChangePasswordRequest { current_password: old, new_password: new.clone(), ..Default::default() };
        client.change_password(with_bearer(&tokens.access_token, change)).await.unwrap();
        let mut tokens = client.login(login(&new)).await.unwrap().into_inner().tokens.unwrap();
        for names in [["access token", "refresh token"], ["last access token", "last refresh token"]] {
            self.tokens(names, &tokens);
            for token in [&tokens.access_token, &tokens.refresh_token] {
                let introspect = pb::IntrospectTokenRequest { token: token.clone(), ..Default::default() };
                client.introspect_token(introspect).await.unwrap();
            }
            client.get_user(with_bearer(&tokens.access_token, pb::GetUserRequest {})).await.unwrap();
            let refresh = pb::RefreshTokenRequest { refresh_token: tokens.refresh_token, ..Default::default() };
            tokens = client.refresh_token(refresh).await.unwrap().into_inner().tokens.unwrap();
        }
        self.tokens(["unused access token", "unused refresh token"], &tokens);
        let (code, reset_code, err) = run(&["user", "reset-code", "ada", "--data-dir", &self.data]);
        assert_eq!(code, 0, "{err}");
        let reset_code = self.secret("reset code", reset_code.trim());
        let new_password = self.secret("password after a reset", "Xq7PasswordResetvZ");
        let reset = pb::ResetPasswordRequest { username: username(), reset_code, new_password };
        client.reset_password(reset).await.unwrap();
    }

    /// Sends passwords in queries and forms.
    async fn send_over_http(&mut self) {
        let in_query = self.secret("password in a query", "Xq7PasswordQueryvZ");
        let in_form = self.secret("password in a form", "Xq7PasswordFormvZ");
        let form = [("content-type", "application/x-www-form-urlencoded")];
        for (name, password) in [("grace", &in_query), ("joan", &in_form)] {
            let fields = query(&[("username", name), ("password", password)]);
            let registered = match name {
                "grace" => http(self.http, "POST", &format!("/register?{fields}"), &[], "").await,
                _ => http(self.http, "POST", "/register", &form, &fields).await,
            };
            assert_eq!(registered.body, "Success");
            assert_eq!(http(self.http, "GET", &format!("/login?{fields}"), &[], "").await.status, 200);
        }
        let in_token = self.secret("token of an HTTP call", "Xq7TokenOfACallvZ");
        let bearer = format!("Bearer {in_token}");
        http(self.http, "POST", "/oauth2/introspect", &[("authorization", &bearer), form[0]], "token=x").await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn no_secret_is_left_in_memory_when_connections_are_closed() {
    for kind in StoreKind::ALL.into_iter().filter(|kind| *kind != StoreKind::Memory) {
        let mut node = TestNode::start(kind);
        let pid = node.node.pid();
        let held = node.secret("password of a request that waits", "Xq7PasswordWaitsvZ");
        // The control: the search finds a password that the node has.
        let mut waits = TcpStream::connect(node.http).await.unwrap();
        let head = format!("POST /register HTTP/1.1\r\nhost: {}\r\ncontent-length: 999\r\n", node.http);
        let body = format!("content-type: application/x-www-form-urlencoded\r\n\r\nusername=eve&password={held}");
        waits.write_all(format!("{head}{body}").as_bytes()).await.unwrap();
        let until = System.monotonic() + WAIT_MAX;
        while !copies(pid, &node.secrets).keys().any(|(name, _)| *name == "password of a request that waits") {
            assert!(System.monotonic() < until, "{kind:?}: the search finds no password that the node has");
        }
        drop(waits);
        node.send_over_grpc().await;
        node.send_over_http().await;
        assert!(node.secrets.len() > 12, "{}", node.secrets.len());
        assert_wiped(pid, &node.secrets, &format!("{kind:?}")).await;
    }
}

#[test]
fn node_forbids_core_dumps_and_its_memory_to_other_processes_of_its_user() {
    let folder = TempDir::new().unwrap();
    chown(folder.path(), Some(NOT_ROOT), Some(NOT_ROOT)).unwrap();
    let mut setpriv = Command::new("setpriv");
    setpriv.args([&format!("--reuid={NOT_ROOT}"), &format!("--regid={NOT_ROOT}"), "--clear-groups", BINARY]);
    let mut serve = command_by(setpriv, &["--grpc-addr", "127.0.0.1:0", "--http-addr", "off", "--ops-addr", "off"]);
    serve.arg("--data-dir").arg(folder.path()).current_dir("/");
    let node = Node::spawn(serve).unwrap_or_else(|log| panic!("{log}"));
    let limits = fs::read_to_string(format!("/proc/{}/limits", node.pid())).unwrap();
    let core = limits.lines().find_map(|line| line.strip_prefix("Max core file size")).unwrap();
    assert_eq!(core.split_whitespace().take(2).collect::<Vec<_>>(), ["0", "0"], "{limits}");
    // The files in /proc of a process that is not dumpable belong to root.
    let owner = |file: &str| fs::metadata(format!("/proc/{}/{file}", node.pid())).unwrap().uid();
    assert_eq!((owner("status"), owner("mem"), owner("environ")), (0, 0, 0));
    node.signal("TERM");
    assert!(node.wait().0.success(), "a node without privileges runs and ends");
}
