//! A durable redis-server, which syncs its file at every write.

use std::{
    net::TcpListener,
    path::PathBuf,
    process::{Child, Command, Stdio},
    sync::Arc,
    thread,
    time::Duration,
};

use tempfile::TempDir;
use watchword::{
    domain::{Store, password::Pepper},
    store::{self, Durability, RedisSettings, Seal, StoreSettings},
};

use crate::{
    server::{cpu_of_threads, scratch},
    users::environment,
};

/// A durable redis-server; killed when dropped.
pub(crate) struct Redis {
    child: Child,
    port: u16,
    _folder: TempDir,
}

impl Redis {
    pub(crate) fn start() -> Self {
        let (folder, port) = (scratch(), free_port());
        let child = Command::new("redis-server")
            .args([
                "--port",
                &port.to_string(),
                "--bind",
                "127.0.0.1",
                "--save",
                "",
                "--maxmemory-policy",
                "noeviction",
            ])
            .args(["--appendonly", "yes", "--appendfsync", "always", "--auto-aof-rewrite-percentage", "0", "--dir"])
            .arg(folder.path())
            .stdout(Stdio::null())
            .spawn()
            .expect("redis-server is installed");
        let server = Self { child, port, _folder: folder };
        while server.ask::<String>(&["PING"]).is_err() {
            thread::sleep(Duration::from_millis(10));
        }
        server
    }

    pub(crate) fn url(&self) -> String {
        format!("redis://127.0.0.1:{}", self.port)
    }

    pub(crate) async fn open(&self) -> Arc<dyn Store> {
        let settings = StoreSettings::Redis(RedisSettings {
            url: self.url().parse().expect("a URL"),
            password_file: None::<PathBuf>,
            ca_file: None,
            prefix: "watchword:".parse().expect("a prefix"),
            durability: Durability::Strict,
            check_interval: Duration::from_secs(60),
            must_exist: false,
        });
        store::open(&settings, Arc::new(Seal::none()), &Pepper::none(), &environment()).await.expect("Redis answers")
    }

    pub(crate) fn ask<T: redis::FromRedisValue>(&self, words: &[&str]) -> redis::RedisResult<T> {
        let mut connection = redis::Client::open(self.url())?.get_connection()?;
        redis::cmd(words[0]).arg(&words[1..]).query(&mut connection)
    }

    /// The CPU time of redis-server so far.
    pub(crate) fn cpu(&self) -> Duration {
        cpu_of_threads(self.child.id(), |_| true)
    }

    /// A numeric field of INFO.
    pub(crate) fn info(&self, field: &str) -> f64 {
        let info: String = self.ask(&["INFO"]).expect("Redis answers");
        let line = info.lines().find_map(|line| line.strip_prefix(field)?.strip_prefix(':'));
        line.expect("a field of INFO").trim().parse().expect("a number")
    }
}

impl Drop for Redis {
    fn drop(&mut self) {
        self.child.kill().expect("it is a child that was not awaited");
        self.child.wait().expect("it is a child that was not awaited");
    }
}

fn free_port() -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port is free");
    listener.local_addr().expect("it is bound").port()
}
