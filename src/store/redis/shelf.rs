//! Redis as a shelf of documents, for `watchword copy`.

use std::time::Duration;

use async_trait::async_trait;
use redis::{RedisError, aio::MultiplexedConnection, cmd, pipe};

use super::{OpenError, Prefix, Redis, RedisSettings, accept, link::Link, refused, trouble::Trouble};
use crate::store::copy::{Document, Kind, PAGE_DOCUMENTS_MAX, Put, Shelf};

/// How long an answer about a page of documents may take.
const PAGE_WAIT_MAX: Duration = Duration::from_secs(30);

/// A connection of its own and how far was read.
pub(in crate::store) struct RedisShelf {
    connection: MultiplexedConnection,
    settings: RedisSettings,
    /// What SCAN said to go on with; `None` when it has shown all.
    cursor: Option<u64>,
}

impl Redis {
    /// Connects for copying.
    pub(in crate::store) async fn shelf(settings: &RedisSettings) -> Result<RedisShelf, OpenError> {
        let (mut connection, condition) =
            Link::try_once(&settings.client()?).await.map_err(|trouble| refused(settings, &trouble))?;
        accept(settings, &condition)?;
        connection.set_response_timeout(PAGE_WAIT_MAX);
        Ok(RedisShelf { connection, settings: settings.clone(), cursor: Some(0) })
    }
}

impl RedisShelf {
    fn failed(&self, error: RedisError) -> OpenError {
        refused(&self.settings, &Trouble::of(&error))
    }

    async fn scan(&mut self, cursor: u64) -> Result<Vec<String>, OpenError> {
        let mut scan = cmd("SCAN");
        scan.arg(cursor).arg("MATCH").arg(format!("{}*", self.settings.prefix));
        scan.arg("COUNT").arg(PAGE_DOCUMENTS_MAX);
        let (next, keys): (u64, Vec<String>) =
            scan.query_async(&mut self.connection).await.map_err(|error| self.failed(error))?;
        self.cursor = (next != 0).then_some(next);
        Ok(keys)
    }

    async fn read(&mut self, keys: Vec<String>) -> Result<Vec<Document>, OpenError> {
        let mut gets = pipe();
        let mut documents = Vec::with_capacity(keys.len());
        for key in keys {
            gets.cmd("GET").arg(&key);
            let (kind, key) = parse(&self.settings.prefix, &key)?;
            documents.push(Document { kind, key, bytes: Vec::new() });
        }
        if documents.is_empty() {
            return Ok(documents);
        }
        let all: Vec<Vec<u8>> = gets.query_async(&mut self.connection).await.map_err(|error| self.failed(error))?;
        for (document, bytes) in documents.iter_mut().zip(all) {
            document.bytes = bytes;
        }
        Ok(documents)
    }
}

/// What a key is, and of whom.
fn parse(prefix: &Prefix, key: &str) -> Result<(Kind, String), OpenError> {
    let rest = key.strip_prefix(prefix.as_str()).unwrap_or(key);
    let parsed = Kind::ALL.iter().find_map(|kind| Some((*kind, rest.strip_prefix(kind.name())?.strip_prefix(':')?)));
    let (kind, name) = parsed.ok_or_else(|| {
        let kind = rest.split(':').next().unwrap_or_default();
        OpenError(format!("there are keys {prefix}{kind}:…, of which this version of Watchword knows nothing"))
    })?;
    Ok((kind, name.to_owned()))
}

#[async_trait]
impl Shelf for RedisShelf {
    async fn next(&mut self) -> Result<Option<Vec<Document>>, OpenError> {
        let Some(cursor) = self.cursor else { return Ok(None) };
        let keys = self.scan(cursor).await?;
        // Empty pages are usual: SCAN counts keys that it looks at, not those that match.
        self.read(keys).await.map(Some)
    }

    fn rewind(&mut self) {
        self.cursor = Some(0);
    }

    async fn put(&mut self, documents: &[Document]) -> Result<Vec<Put>, OpenError> {
        if documents.is_empty() {
            return Ok(Vec::new());
        }
        let mut sets = pipe();
        for document in documents {
            let key = self.settings.prefix.key(document.kind.name(), &document.key);
            sets.cmd("SET").arg(key).arg(&document.bytes).arg("NX").arg("GET");
        }
        let all: Vec<Option<Vec<u8>>> =
            sets.query_async(&mut self.connection).await.map_err(|error| self.failed(error))?;
        let outcomes = documents.iter().zip(all).map(|(document, present)| match present {
            None => Put::New,
            Some(bytes) if bytes == document.bytes => Put::Same,
            Some(_) => Put::Different,
        });
        Ok(outcomes.collect())
    }
}
