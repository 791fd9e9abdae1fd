//! Redis as a shelf of documents, for `watchword copy`.

use std::time::Duration;

use async_trait::async_trait;
use redis::{RedisError, aio::MultiplexedConnection, cmd, pipe};

use super::{
    OpenError, Redis, RedisSettings,
    connect::{self, Connected},
    connect_error::Trouble,
    identity, insert,
};
use crate::store::{
    document_store::Outcome,
    transfer::{PAGE_DOCUMENTS_MAX, Placed, Shelf},
};

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
        let Connected { mut connection, .. } = connect::at_once(settings).await?;
        connection.set_response_timeout(PAGE_WAIT_MAX);
        Ok(RedisShelf { connection, settings: settings.clone(), cursor: Some(0) })
    }
}

impl RedisShelf {
    fn failed(&self, error: RedisError) -> OpenError {
        if error.to_string().contains("WRONGTYPE") {
            return self.foreign("a key holds no string (WRONGTYPE)");
        }
        connect::refused(&self.settings, &Trouble::of(&error))
    }

    fn foreign(&self, what: &str) -> OpenError {
        OpenError(format!("{}, keys {}…: {what}; Watchword did not write it", self.settings.url, self.settings.prefix))
    }

    async fn scan(&mut self, cursor: u64) -> Result<Vec<String>, OpenError> {
        let mut scan = cmd("SCAN");
        scan.arg(cursor).arg("MATCH").arg(format!("{}*", self.settings.prefix));
        scan.arg("COUNT").arg(PAGE_DOCUMENTS_MAX);
        let (next, keys): (u64, Vec<Vec<u8>>) =
            scan.query_async(&mut self.connection).await.map_err(|error| self.failed(error))?;
        self.cursor = (next != 0).then_some(next);
        let keys: Result<Vec<_>, _> = keys.into_iter().map(String::from_utf8).collect();
        let mut keys = keys.map_err(|_| self.foreign("a key is not UTF-8"))?;
        // Which store a target is, no copy changes.
        keys.retain(|key| *key != self.settings.prefix.own_key(identity::NAME));
        Ok(keys)
    }

    async fn read(&mut self, keys: Vec<String>) -> Result<Vec<Placed>, OpenError> {
        let mut gets = pipe();
        let mut places = Vec::with_capacity(keys.len());
        for key in keys {
            gets.cmd("GET").arg(&key);
            places.push(self.settings.prefix.parse(&key).map_err(|unknown| {
                OpenError(format!("there are keys {unknown}…, of which this version of Watchword knows nothing"))
            })?);
        }
        if places.is_empty() {
            return Ok(Vec::new());
        }
        let all: Vec<Option<Vec<u8>>> =
            gets.query_async(&mut self.connection).await.map_err(|error| self.failed(error))?;
        // What was deleted since SCAN showed it is none of the source's any more.
        Ok(places.into_iter().zip(all).filter_map(|(key, bytes)| Some(Placed { key, bytes: bytes? })).collect())
    }
}

#[async_trait]
impl Shelf for RedisShelf {
    async fn next(&mut self) -> Result<Option<Vec<Placed>>, OpenError> {
        let Some(cursor) = self.cursor else { return Ok(None) };
        let keys = self.scan(cursor).await?;
        // Empty pages are usual: SCAN counts keys that it looks at, not those that match.
        self.read(keys).await.map(Some)
    }

    fn rewind(&mut self) {
        self.cursor = Some(0);
    }

    async fn put(&mut self, documents: &[Placed]) -> Result<Vec<Outcome>, OpenError> {
        if documents.is_empty() {
            return Ok(Vec::new());
        }
        let mut sets = pipe();
        for placed in documents {
            let document = placed.document().map_err(|why| self.foreign(&why))?;
            sets.add_command(insert(&self.settings.prefix.key(&placed.key), &document));
        }
        let all: Vec<Option<Vec<u8>>> =
            sets.query_async(&mut self.connection).await.map_err(|error| self.failed(error))?;
        Ok(all.into_iter().map(|present| present.map_or(Outcome::Done, Outcome::Refused)).collect())
    }

    async fn close(&mut self) {}
}
