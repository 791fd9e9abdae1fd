//! Where a test keeps its users: a store of any kind, with its file or its server, and a way past the program to what
//! is kept there.

use std::{path::PathBuf, sync::Arc, time::Duration};

use redb::{ReadableDatabase, ReadableTableMetadata, TableHandle};
use tempfile::TempDir;
use watchword::{
    domain::{Environment, Observer, Store, System},
    store::{self, DocumentStore, Durability, RedisSettings, Seal, StoreSettings},
};

use super::{environment::Events, redis::RedisServer};

/// A kind of store.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum StoreKind {
    Memory,
    Embedded,
    Redis,
}

impl StoreKind {
    pub const ALL: [StoreKind; 3] = [StoreKind::Memory, StoreKind::Embedded, StoreKind::Redis];

    /// Those that outlive the process.
    pub const KEPT: [StoreKind; 2] = [StoreKind::Embedded, StoreKind::Redis];
}

/// A place for users. Clones are the same place; it vanishes with the last of them.
#[derive(Clone)]
pub struct Place {
    pub kind: StoreKind,
    folder: Arc<TempDir>,
    redis: Option<Arc<RedisServer>>,
}

/// Where both databases keep users' documents.
const USERS: redb::TableDefinition<&str, &[u8]> = redb::TableDefinition::new("user");

impl Place {
    pub fn new(kind: StoreKind) -> Self {
        let redis = (kind == StoreKind::Redis).then(|| Arc::new(RedisServer::start()));
        Self { kind, folder: Arc::new(TempDir::new().unwrap()), redis }
    }

    pub fn settings(&self) -> StoreSettings {
        match self.kind {
            StoreKind::Memory => StoreSettings::Memory,
            StoreKind::Embedded => StoreSettings::Embedded(self.data_folder()),
            StoreKind::Redis => StoreSettings::Redis(redis_settings(&self.redis().url())),
        }
    }

    pub fn redis(&self) -> &RedisServer {
        self.redis.as_ref().expect("a place in Redis")
    }

    pub fn data_folder(&self) -> PathBuf {
        self.folder.path().join("data")
    }

    /// The flags with which the binary uses this place.
    pub fn flags(&self) -> Vec<String> {
        let url = match self.kind {
            StoreKind::Memory => "memory:".to_owned(),
            StoreKind::Embedded => "embedded:".to_owned(),
            StoreKind::Redis => self.redis().url(),
        };
        vec!["--store".into(), url, "--data-dir".into(), self.data_folder().display().to_string()]
    }

    pub async fn open(&self) -> Arc<dyn Store> {
        store::open(&self.settings(), Arc::new(Seal::none()), &environment()).await.unwrap()
    }

    /// The documents beneath.
    pub async fn open_documents(&self) -> Arc<dyn DocumentStore> {
        store::open_documents(&self.settings(), &environment()).await.unwrap()
    }

    /// Writes a document of the test's own where the store keeps that user; nobody else may have the place open.
    pub fn plant(&self, username: &str, document: &[u8]) {
        match self.kind {
            StoreKind::Memory => panic!("nothing is kept there"),
            StoreKind::Embedded => self.plant_in(USERS, username, document),
            StoreKind::Redis => redis::cmd("SET")
                .arg(format!("watchword:user:{username}"))
                .arg(document)
                .exec(&mut redis::Client::open(self.redis().url()).unwrap().get_connection().unwrap())
                .unwrap(),
        }
    }

    /// The document that the store keeps of that user.
    pub fn kept(&self, username: &str) -> String {
        self.document(USERS, username, &format!("watchword:user:{username}"))
    }

    /// The document that the store keeps of the keys of tokens.
    pub fn kept_keys(&self) -> String {
        self.document(redb::TableDefinition::new("keys"), "", "watchword:keys")
    }

    /// A document, where the embedded store and where Redis keeps it.
    fn document(&self, table: redb::TableDefinition<&str, &[u8]>, key: &str, redis_key: &str) -> String {
        match self.kind {
            StoreKind::Memory => panic!("nothing is kept there"),
            StoreKind::Embedded => {
                let database = self.database();
                let table = database.begin_read().unwrap().open_table(table).unwrap();
                String::from_utf8(table.get(key).unwrap().unwrap().value().to_vec()).unwrap()
            }
            StoreKind::Redis => self.redis().ask(&["GET", redis_key]),
        }
    }

    /// Writes a document of the test's own where the store keeps the keys of tokens.
    pub fn plant_keys(&self, document: &str) {
        match self.kind {
            StoreKind::Memory => panic!("nothing is kept there"),
            StoreKind::Embedded => self.plant_in(redb::TableDefinition::new("keys"), "", document.as_bytes()),
            StoreKind::Redis => drop(self.redis().ask::<String>(&["SET", "watchword:keys", document])),
        }
    }

    fn plant_in(&self, table: redb::TableDefinition<&str, &[u8]>, key: &str, document: &[u8]) {
        let database = self.database();
        let transaction = database.begin_write().unwrap();
        transaction.open_table(table).unwrap().insert(key, document).unwrap();
        transaction.commit().unwrap();
    }

    /// How many rows each table of the embedded store has.
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

/// The settings with which a node uses the Redis at `url`.
pub fn redis_settings(url: &str) -> RedisSettings {
    RedisSettings {
        url: url.parse().unwrap(),
        password_file: None,
        ca_file: None,
        prefix: "watchword:".parse().unwrap(),
        durability: Durability::Strict,
        check_interval: Duration::from_secs(60),
    }
}

/// The machine's own time and chance, and nobody who listens.
pub fn environment() -> Environment {
    let observer: Arc<dyn Observer> = Arc::new(Events::default());
    Environment { clock: Arc::new(System), entropy: Arc::new(System), observer }
}
