//! The contract of `DocumentStore::scan`, for every store.

use std::{
    collections::BTreeMap,
    sync::Arc,
    time::{Duration, SystemTime},
};

use futures_util::future::join_all;
use tokio::time::timeout;
use watchword::{
    domain::StoreError,
    store::{
        Change, ChangeOutcome, Document, DocumentKey, DocumentStore, Kind, SCAN_PAGE_DOCUMENTS_MAX, ScanPages,
        ScannedDocument,
    },
};

use crate::support::{StoreKind, TestStore, WAIT_MAX};

type Documents = BTreeMap<DocumentKey, Vec<u8>>;

/// Documents of that kind with the numbers.
fn documents(kind: Kind, numbers: std::ops::Range<u32>) -> Documents {
    numbers.map(|number| (DocumentKey::new(kind, format!("{number:05}")), format!("{number}").into())).collect()
}

async fn insert_all(store: &dyn DocumentStore, documents: &Documents) {
    let inserts = documents.iter().map(|(key, bytes)| {
        let document = Document { bytes: bytes.clone(), expire_time: expire_time(key.kind) };
        store.change(Vec::new(), key.clone(), Change::Insert(document))
    });
    for outcome in join_all(inserts).await {
        assert_eq!(outcome.unwrap(), ChangeOutcome::Done);
    }
}

fn expire_time(kind: Kind) -> Option<SystemTime> {
    (kind == Kind::Session).then(|| SystemTime::UNIX_EPOCH + Duration::from_secs(32_503_680_000))
}

/// Adds what a page has. Only Redis may answer a document twice.
fn add(scanned: &mut Documents, page: Vec<ScannedDocument>, store: StoreKind) {
    assert!(page.len() <= SCAN_PAGE_DOCUMENTS_MAX, "{store:?}: a page of {} documents", page.len());
    for ScannedDocument { key, bytes } in page {
        let name = format!("{key:?} {}", key.name);
        let before = scanned.insert(key, bytes);
        assert!(before.is_none() || store == StoreKind::Redis, "{store:?}: {name} was answered twice");
    }
}

async fn scan(store: &dyn DocumentStore, kind: Option<Kind>, of: StoreKind) -> Documents {
    let (mut scanned, mut pages) = (Documents::new(), ScanPages::new(store, kind));
    while let Some(page) = pages.next().await.unwrap() {
        add(&mut scanned, page, of);
    }
    scanned
}

/// More than two pages, of every kind, two of which have one document without a name.
fn of_every_kind() -> Documents {
    let mut all = documents(Kind::User, 0..1_150);
    for kind in Kind::ALL {
        match kind {
            Kind::Keys | Kind::PepperKeys => drop(all.insert(DocumentKey::new(*kind, ""), "{}".into())),
            kind => all.extend(documents(*kind, 0..60)),
        }
    }
    all
}

fn of_kind(all: &Documents, kind: Kind) -> Documents {
    all.iter().filter(|(key, _)| key.kind == kind).map(|(key, bytes)| (key.clone(), bytes.clone())).collect()
}

#[tokio::test]
async fn scan_of_a_store_at_rest_answers_every_document_once() {
    for kind in StoreKind::ALL {
        let place = TestStore::new(kind);
        let store = place.open_documents().await;
        assert!(scan(&*store, None, kind).await.is_empty(), "{kind:?}");
        let all = of_every_kind();
        insert_all(&*store, &all).await;
        assert!(scan(&*store, None, kind).await == all, "{kind:?}");
        store.close().await;
    }
}

/// `session` and `sessions` begin alike.
#[tokio::test]
async fn scan_of_one_kind_answers_the_documents_of_that_kind_alone() {
    for kind in StoreKind::ALL {
        let place = TestStore::new(kind);
        let store = place.open_documents().await;
        let all = of_every_kind();
        insert_all(&*store, &all).await;
        for wanted in Kind::ALL {
            let scanned = scan(&*store, Some(*wanted), kind).await;
            assert!(scanned == of_kind(&all, *wanted), "{kind:?}: {} of {wanted:?}", scanned.len());
        }
        store.close().await;
    }
}

#[tokio::test]
async fn scan_loses_no_document_while_others_are_written_and_deleted() {
    for kind in StoreKind::ALL {
        let place = TestStore::new(kind);
        let store = place.open_documents().await;
        let stable = documents(Kind::User, 10_000..12_000);
        insert_all(&*store, &stable).await;
        let (mut scanned, mut pages) = (Documents::new(), ScanPages::new(&*store, None));
        let mut round = 0;
        while let Some(page) = pages.next().await.unwrap() {
            for ScannedDocument { key, bytes } in page {
                scanned.insert(key, bytes);
            }
            // Before and behind every position, many enough that a hash table grows and shrinks.
            let low = documents(Kind::User, round * 500..(round + 1) * 500);
            let high = documents(Kind::User, 20_000 + round * 500..20_000 + (round + 1) * 500);
            insert_all(&*store, &low).await;
            insert_all(&*store, &high).await;
            let deletes = low.iter().map(|(key, bytes)| {
                store.change(Vec::new(), key.clone(), Change::Remove { seen: bytes.as_slice().into() })
            });
            join_all(deletes).await;
            round += 1;
            if round == 12 {
                break;
            }
        }
        while let Some(page) = pages.next().await.unwrap() {
            scanned.extend(page.into_iter().map(|ScannedDocument { key, bytes }| (key, bytes)));
        }
        let lost = stable.iter().filter(|(key, bytes)| scanned.get(key) != Some(*bytes)).count();
        assert_eq!(lost, 0, "{kind:?}: of {} documents", stable.len());
        store.close().await;
    }
}

#[tokio::test]
async fn scan_cursor_resumes_in_a_store_that_was_closed_and_opened_again() {
    for kind in StoreKind::ALL {
        let place = TestStore::new(kind);
        let mut store: Arc<dyn DocumentStore> = place.open_documents().await;
        let all = documents(Kind::User, 0..1_400);
        insert_all(&*store, &all).await;
        let (mut scanned, mut cursor) = (Documents::new(), None);
        loop {
            let page = store.scan(Some(Kind::User), cursor).await.unwrap();
            add(&mut scanned, page.documents, kind);
            cursor = page.next;
            if cursor.is_none() {
                break;
            }
            if kind != StoreKind::Memory {
                store.close().await;
                drop(store);
                store = place.open_documents().await;
            }
        }
        assert!(scanned == all, "{kind:?}: {} of {}", scanned.len(), all.len());
        store.close().await;
    }
}

#[tokio::test]
async fn scan_refuses_a_cursor_of_another_kind_of_store() {
    let (memory, redis) = (TestStore::new(StoreKind::Memory), TestStore::new(StoreKind::Redis));
    let (memory, redis) = (memory.open_documents().await, redis.open_documents().await);
    for store in [&memory, &redis] {
        insert_all(&**store, &documents(Kind::User, 0..1_400)).await;
    }
    let of_memory = memory.scan(None, None).await.unwrap().next;
    let of_redis = redis.scan(None, None).await.unwrap().next;
    assert!(of_memory.is_some() && of_redis.is_some());
    assert!(redis.scan(None, of_memory).await.is_err());
    assert!(memory.scan(None, of_redis).await.is_err());
}

/// SCAN positions are void after a restart of Redis: a scan that went on could miss documents and report none missing.
#[tokio::test]
async fn scan_fails_after_redis_has_restarted_instead_of_missing_documents() {
    let place = TestStore::new(StoreKind::Redis);
    let store = place.open_documents().await;
    insert_all(&*store, &documents(Kind::User, 0..2_000)).await;
    let first = store.scan(None, None).await.unwrap();
    assert!(first.next.is_some(), "one page holds all documents");
    place.redis().kill();
    place.redis().restart();
    let reconnected = async {
        while store.scan(None, None).await.is_err() {
            tokio::task::yield_now().await;
        }
    };
    timeout(WAIT_MAX, reconnected).await.expect("the store reconnects");
    let Err(error) = store.scan(None, first.next).await else { panic!("the scan went on after a restart") };
    assert!(matches!(error, StoreError::Unavailable), "{error:?}");
    store.close().await;
}
