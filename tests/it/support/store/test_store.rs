//! The store of a test: any kind, with its own data folder or Redis server, and direct access to the stored documents.

use std::{path::PathBuf, sync::Arc, time::Duration};

use redb::{ReadableDatabase, ReadableTableMetadata, TableHandle};
use tempfile::TempDir;
use watchword::{
    domain::{Environment, Observer, Store, System, password::Pepper},
    store::{self, DocumentStore, Durability, RedisSettings, Seal, StoreSettings},
};

use super::redis::RedisServer;
use crate::support::Events;

/// A kind of store.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum StoreKind {
    Memory,
    Embedded,
    Redis,
}

impl StoreKind {
    pub const ALL: [StoreKind; 3] = [StoreKind::Memory, StoreKind::Embedded, StoreKind::Redis];

    /// The kinds that keep their documents when the process exits.
    pub const DURABLE: [StoreKind; 2] = [StoreKind::Embedded, StoreKind::Redis];
}

/// A store. Clones share it; it is deleted with the last of them.
#[derive(Clone)]
pub struct TestStore {
    pub kind: StoreKind,
    folder: Arc<TempDir>,
    redis: Option<Arc<RedisServer>>,
}

/// The table of users in the embedded store.
const USERS: redb::TableDefinition<&str, &[u8]> = redb::TableDefinition::new("user");

impl TestStore {
    pub fn new(kind: StoreKind) -> Self {
        let redis = (kind == StoreKind::Redis).then(|| Arc::new(RedisServer::start()));
        Self { kind, folder: Arc::new(TempDir::new().unwrap()), redis }
    }

    pub fn settings(&self) -> StoreSettings {
        match self.kind {
            StoreKind::Memory => StoreSettings::Memory,
            StoreKind::Embedded => StoreSettings::Embedded { folder: self.data_folder(), must_exist: false },
            StoreKind::Redis => StoreSettings::Redis(redis_settings(&self.redis().url())),
        }
    }

    pub fn redis(&self) -> &RedisServer {
        self.redis.as_ref().expect("the store is Redis")
    }

    pub fn data_folder(&self) -> PathBuf {
        self.folder.path().join("data")
    }

    /// The flags with which the binary uses this store.
    pub fn flags(&self) -> Vec<String> {
        let url = match self.kind {
            StoreKind::Memory => "memory:".to_owned(),
            StoreKind::Embedded => "embedded:".to_owned(),
            StoreKind::Redis => self.redis().url(),
        };
        vec!["--store".into(), url, "--data-dir".into(), self.data_folder().display().to_string()]
    }

    pub async fn open(&self) -> Arc<dyn Store> {
        store::open(&self.settings(), Arc::new(Seal::none()), &Pepper::none(), &environment()).await.unwrap()
    }

    /// The documents beneath.
    pub async fn open_documents(&self) -> Arc<dyn DocumentStore> {
        store::open_documents(&self.settings(), &environment()).await.unwrap()
    }

    /// Writes the document of a user. An embedded store must be closed.
    pub fn write_user(&self, username: &str, document: &[u8]) {
        match self.kind {
            StoreKind::Memory => panic!("the memory store has no documents outside the server"),
            StoreKind::Embedded => self.insert(USERS, username, document),
            StoreKind::Redis => redis::cmd("SET")
                .arg(format!("watchword:user:{username}"))
                .arg(document)
                .exec(&mut redis::Client::open(self.redis().url()).unwrap().get_connection().unwrap())
                .unwrap(),
        }
    }

    /// The stored document of a user.
    pub fn stored_user(&self, username: &str) -> String {
        self.document(USERS, username, &format!("watchword:user:{username}"))
    }

    /// The stored document of the key ring.
    pub fn stored_keys(&self) -> String {
        self.document(redb::TableDefinition::new("keys"), "", "watchword:keys")
    }

    /// A stored document, by its table and key in the embedded store and its key in Redis.
    fn document(&self, table: redb::TableDefinition<&str, &[u8]>, key: &str, redis_key: &str) -> String {
        match self.kind {
            StoreKind::Memory => panic!("the memory store has no documents outside the server"),
            StoreKind::Embedded => {
                let database = self.database();
                let table = database.begin_read().unwrap().open_table(table).unwrap();
                String::from_utf8(table.get(key).unwrap().unwrap().value().to_vec()).unwrap()
            }
            StoreKind::Redis => self.redis().ask(&["GET", redis_key]),
        }
    }

    /// Writes the document of the key ring. An embedded store must be closed.
    pub fn write_keys(&self, document: &str) {
        match self.kind {
            StoreKind::Memory => panic!("the memory store has no documents outside the server"),
            StoreKind::Embedded => self.insert(redb::TableDefinition::new("keys"), "", document.as_bytes()),
            StoreKind::Redis => drop(self.redis().ask::<String>(&["SET", "watchword:keys", document])),
        }
    }

    fn insert(&self, table: redb::TableDefinition<&str, &[u8]>, key: &str, document: &[u8]) {
        let database = self.database();
        let transaction = database.begin_write().unwrap();
        transaction.open_table(table).unwrap().insert(key, document).unwrap();
        transaction.commit().unwrap();
    }

    /// The number of rows of each table of the embedded store.
    pub fn rows(&self) -> Vec<(String, u64)> {
        let database = self.database();
        let transaction = database.begin_read().unwrap();
        let rows = transaction.list_tables().unwrap().map(|table| {
            let name = table.name().to_owned();
            (name, transaction.open_untyped_table(table).unwrap().len().unwrap())
        });
        rows.collect()
    }

    fn database(&self) -> redb::Database {
        redb::Database::open(self.data_folder().join("watchword.redb")).unwrap()
    }
}

/// The settings of a node for the Redis at `url`.
pub fn redis_settings(url: &str) -> RedisSettings {
    RedisSettings {
        url: url.parse().unwrap(),
        password_file: None,
        ca_file: None,
        prefix: "watchword:".parse().unwrap(),
        durability: Durability::Strict,
        check_interval: Duration::from_secs(60),
        must_exist: false,
    }
}

/// The system's clock and CSPRNG, and an observer that no test reads.
pub fn environment() -> Environment {
    let observer: Arc<dyn Observer> = Arc::new(Events::default());
    Environment { clock: Arc::new(System), entropy: Arc::new(System), observer }
}
