//! A redis-server for one test, with its own port and folder.

#![expect(clippy::disallowed_methods, reason = "waits for another process, which no test clock moves")]

use std::{
    fs,
    net::TcpListener,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    sync::Mutex,
    thread,
    time::Instant,
};

use redis::{Client, Connection, FromRedisValue};
use tempfile::TempDir;

use crate::support::WAIT_MAX;

/// Settings with which Redis keeps every acknowledged write.
const DURABLE: &[&str] = &["--appendonly", "yes", "--appendfsync", "always", "--maxmemory-policy", "noeviction"];

/// A running redis-server. It is killed when dropped.
pub struct RedisServer {
    child: Mutex<Option<Child>>,
    folder: TempDir,
    /// The program that runs the server, such as a tracer. Empty: none.
    wrapper: Vec<String>,
    args: Vec<String>,
    pub port: u16,
    /// `user:password@` of the administrator. Empty if the server needs none.
    login: String,
}

impl RedisServer {
    /// A server with durable settings.
    pub fn start() -> Self {
        Self::with::<&str>(&[])
    }

    /// Like [`Self::start`], with additional settings, which take precedence.
    pub fn with<S: AsRef<str>>(args: &[S]) -> Self {
        Self::start_as(&[], args, "")
    }

    /// A server with durable settings that another program runs.
    pub fn under(wrapper: &[&str]) -> Self {
        Self::start_as::<&str>(wrapper, &[], "")
    }

    /// A server whose administrator logs in with `login`, `user:password@`.
    pub fn with_login<S: AsRef<str>>(args: &[S], login: &str) -> Self {
        Self::start_as(&[], args, login)
    }

    fn start_as<S: AsRef<str>>(wrapper: &[&str], args: &[S], login: &str) -> Self {
        let args: Vec<_> = DURABLE.iter().copied().chain(args.iter().map(AsRef::as_ref)).map(str::to_owned).collect();
        // Another process can take the free port before the server binds it.
        for _ in 0..20 {
            let server = Self {
                child: Mutex::new(None),
                folder: TempDir::new().unwrap(),
                wrapper: wrapper.iter().map(|word| (*word).to_owned()).collect(),
                args: args.clone(),
                port: free_port(),
                login: login.to_owned(),
            };
            if server.run_again(&[]) {
                return server;
            }
        }
        panic!("redis-server did not start; run tests/run once: it installs it");
    }

    /// Starts the process. Returns whether it answers.
    fn run_again(&self, more: &[&str]) -> bool {
        let log = fs::File::create(self.folder.path().join("log")).unwrap();
        let program = self.wrapper.iter().map(String::as_str).chain(["redis-server"]).collect::<Vec<_>>();
        let mut command = Command::new(program[0]);
        command.args(&program[1..]).args(["--port", &self.port.to_string(), "--bind", "127.0.0.1", "--save", ""]);
        command.arg("--dir").arg(self.folder.path()).args(&self.args).args(more);
        let child = command.stdin(Stdio::null()).stdout(log).stderr(Stdio::null()).spawn();
        *self.child.lock().unwrap() = Some(child.expect("run tests/run once: it installs redis-server"));
        self.wait_until_it_answers()
    }

    fn wait_until_it_answers(&self) -> bool {
        let start = Instant::now();
        while start.elapsed() < WAIT_MAX {
            if self.try_ask::<String>(&["PING"]).is_ok() {
                return true;
            }
            if self.child.lock().unwrap().as_mut().unwrap().try_wait().unwrap().is_some() {
                return false;
            }
            thread::yield_now();
        }
        panic!("redis-server does not answer:\n{}", self.log());
    }

    pub fn log(&self) -> String {
        fs::read_to_string(self.folder.path().join("log")).unwrap_or_default()
    }

    pub fn folder(&self) -> &Path {
        self.folder.path()
    }

    pub fn url(&self) -> String {
        format!("redis://127.0.0.1:{}", self.port)
    }

    /// The TLS port.
    pub fn tls_port(&self) -> &str {
        let at = self.args.iter().position(|arg| arg == "--tls-port").expect("the server has a TLS port");
        &self.args[at + 1]
    }

    fn connection(&self) -> redis::RedisResult<Connection> {
        Client::open(format!("redis://{}127.0.0.1:{}", self.login, self.port))?.get_connection_with_timeout(WAIT_MAX)
    }

    /// Sends a command to the server directly, not through a proxy.
    pub fn try_ask<T: FromRedisValue>(&self, words: &[&str]) -> redis::RedisResult<T> {
        let mut command = redis::cmd(words[0]);
        command.arg(&words[1..]).query(&mut self.connection()?)
    }

    /// Sends a command as the user of `login`, `user:password`.
    pub fn try_ask_as(&self, login: &str, words: &[&str]) -> redis::RedisResult<()> {
        let client = Client::open(format!("redis://{login}@127.0.0.1:{}", self.port))?;
        redis::cmd(words[0]).arg(&words[1..]).exec(&mut client.get_connection_with_timeout(WAIT_MAX)?)
    }

    pub fn ask<T: FromRedisValue>(&self, words: &[&str]) -> T {
        self.try_ask(words).unwrap_or_else(|error| panic!("{words:?}: {error}"))
    }

    pub fn pid(&self) -> u32 {
        self.child.lock().unwrap().as_ref().unwrap().id()
    }

    /// Sends a signal by name, such as `STOP`.
    pub fn signal(&self, name: &str) {
        assert!(Command::new("kill").args([&format!("-{name}"), &self.pid().to_string()]).status().unwrap().success());
    }

    /// Sends SIGKILL and waits until the process has exited.
    pub fn kill(&self) {
        let mut child = self.child.lock().unwrap().take().unwrap();
        child.kill().unwrap();
        child.wait().unwrap();
    }

    /// Starts the server again with the same port and folder.
    pub fn restart(&self) {
        self.restart_with(&[]);
    }

    /// Like [`Self::restart`], with additional settings, which take precedence.
    pub fn restart_with(&self, args: &[&str]) {
        assert!(self.run_again(args), "redis-server did not start again:\n{}", self.log());
    }
}

/// A certificate authority of this test, and a certificate for `localhost` and 127.0.0.1.
pub struct Tls(TempDir);

impl Tls {
    pub fn new() -> Self {
        let folder = TempDir::new().unwrap();
        let script = "
            openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -days 2 -subj /CN=test-authority \
                -keyout ca.key -out ca.pem
            openssl req -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -subj /CN=localhost \
                -keyout redis.key -out redis.csr
            printf 'subjectAltName=DNS:localhost,IP:127.0.0.1\\n' > names
            openssl x509 -req -in redis.csr -CA ca.pem -CAkey ca.key -CAcreateserial -days 2 -extfile names -out redis.pem
        ";
        let made = Command::new("sh").args(["-ec", script]).current_dir(folder.path()).output().unwrap();
        assert!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr));
        Self(folder)
    }

    pub fn ca_file(&self) -> PathBuf {
        self.0.path().join("ca.pem")
    }

    /// The settings with which redis-server also listens with TLS, on another port.
    pub fn redis_args(&self) -> Vec<String> {
        let port = free_port().to_string();
        let file = |name: &str| self.0.path().join(name).display().to_string();
        let args = ["--tls-port", &port, "--tls-cert-file", &file("redis.pem"), "--tls-key-file", &file("redis.key")];
        let more = ["--tls-ca-cert-file", &file("ca.pem"), "--tls-auth-clients", "no"];
        args.iter().chain(&more).map(|arg| (*arg).to_owned()).collect()
    }
}

fn free_port() -> u16 {
    TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port()
}

impl Drop for RedisServer {
    fn drop(&mut self) {
        if let Some(mut child) = self.child.lock().unwrap().take() {
            // The process may have exited already.
            drop(child.kill());
            drop(child.wait());
        }
    }
}
