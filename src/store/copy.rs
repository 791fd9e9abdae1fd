//! Copies all documents from one store to another: `watchword copy`.
//!
//! Documents are copied byte for byte, in the order of kinds where the source has an order, and a document that the target
//! already has is left as it is. Afterwards the target is read again: every document of the source must be in it. A copy can
//! be repeated, so after an interruption it is simply started again; until it succeeds the target must not be used. Both
//! stores must be at rest. Does not know what documents mean.

use std::{
    collections::HashSet,
    sync::Arc,
    time::{Duration, SystemTime},
};

use futures_util::future::try_join_all;

use super::{
    Embedded, OpenError, Redis, StoreSettings,
    copy_report::CopyReport,
    document::{Change, ChangeOutcome},
    document_store::{DocumentStore, ScanPages, ScannedDocument},
};
use crate::domain::{CorruptRecord, Environment, StoreError};

/// A document that expires within this is not copied.
const EXPIRY_MARGIN: Duration = Duration::from_secs(3_600);

/// One of the two stores of a copy.
struct CopyEnd {
    /// How errors name it: the flag and what it says.
    name: String,
    store: Arc<dyn DocumentStore>,
}

/// Copies every document from one store to another, and reads the target again.
pub async fn copy(
    from: &StoreSettings,
    to: &StoreSettings,
    environment: &Environment,
) -> Result<CopyReport, OpenError> {
    if from == to {
        return Err(OpenError("--from and --to are the same store".into()));
    }
    let source = CopyEnd::open("--from", from, true, environment).await?;
    let target = CopyEnd::open("--to", to, false, environment).await?;
    let report = copy_between(&source, &target, environment.clock.now()).await;
    source.store.close().await;
    target.store.close().await;
    report
}

/// Copies every document of `source` to `target`, and reads `target` again.
///
/// # Errors
/// Which store cannot be read or written, and why; or that `source` is empty.
pub async fn copy_documents(
    source: Arc<dyn DocumentStore>,
    target: Arc<dyn DocumentStore>,
    now: SystemTime,
) -> Result<CopyReport, OpenError> {
    let end = |name: &str, store| CopyEnd { name: name.into(), store };
    copy_between(&end("the source", source), &end("the target", target), now).await
}

async fn copy_between(source: &CopyEnd, target: &CopyEnd, now: SystemTime) -> Result<CopyReport, OpenError> {
    let mut report = CopyReport::default();
    // 16 bytes for each document. What is left at the end is missing in the target.
    let mut digests = HashSet::new();
    let mut pages = ScanPages::new(&*source.store, None);
    while let Some(mut documents) = pages.next().await.map_err(|error| source.failed(error))? {
        let all = documents.len();
        // A secret that was spent stays spent, however soon its document expires.
        documents.retain(|document| document.key.kind.is_short_lived() || !expires_soon(document, now));
        report.expired += (all - documents.len()) as u64;
        let inserts = documents.iter().map(|document| target.insert(document));
        let outcomes = try_join_all(inserts).await?;
        for (document, outcome) in documents.iter().zip(outcomes) {
            let digest = CopyReport::digest(document);
            // Redis may answer one document twice. A short-lived one may have expired when the target is read again.
            if !document.key.kind.is_short_lived() && digests.insert(digest) {
                report.count(document, digest, &outcome);
            }
        }
    }
    if report.documents == 0 {
        return Err(OpenError(format!("{} holds no user; is it the right folder, database or prefix?", source.name)));
    }
    let mut pages = ScanPages::new(&*target.store, None);
    while let Some(documents) = pages.next().await.map_err(|error| target.failed(error))? {
        for document in &documents {
            digests.remove(&CopyReport::digest(document));
        }
    }
    report.missing = digests.len();
    Ok(report)
}

impl CopyEnd {
    async fn open(
        flag: &str,
        settings: &StoreSettings,
        must_exist: bool,
        environment: &Environment,
    ) -> Result<Self, OpenError> {
        let opened: Result<(String, Arc<dyn DocumentStore>), OpenError> = match settings {
            StoreSettings::Memory => Err(OpenError("memory: keeps nothing that could be copied".into())),
            StoreSettings::Embedded { folder, must_exist: _ } => {
                let open = if must_exist { Embedded::open_existing } else { Embedded::open };
                let name = format!("--data-dir {}", folder.display());
                open(folder, environment.clock.clone()).map(|store| (name, Arc::new(store) as _))
            }
            StoreSettings::Redis(settings) => {
                let name = format!("{}, keys {}…", settings.url, settings.prefix);
                Redis::open_for_copy(settings, environment).await.map(|store| (name, Arc::new(store) as _))
            }
        };
        let (name, store) = opened.map_err(|OpenError(why)| OpenError(format!("{flag} {why}")))?;
        Ok(Self { name: format!("{flag} {name}"), store })
    }

    /// Writes a document, unless there is one under its key.
    async fn insert(&self, document: &ScannedDocument) -> Result<ChangeOutcome, OpenError> {
        let inserted = document.to_document().map_err(|error| self.failed(error))?;
        let changed = self.store.change(Vec::new(), document.key.clone(), Change::Insert(inserted)).await;
        changed.map_err(|error| self.failed(error))
    }

    fn failed(&self, error: StoreError) -> OpenError {
        let why = match error {
            StoreError::Unavailable => "it does not answer".to_owned(),
            StoreError::OutcomeUnknown => "a write was not confirmed".to_owned(),
            StoreError::Corrupt(CorruptRecord { record, cause }) => format!("{record}: {cause}"),
        };
        let warnings = self.store.warnings();
        let warnings: String = warnings.iter().map(|warning| format!("; {}", warning.text)).collect();
        OpenError(format!("{}: {why}{warnings}", self.name))
    }
}

/// Whether a document would expire before the copy is done with it. One that cannot be read is copied as it is.
fn expires_soon(document: &ScannedDocument, now: SystemTime) -> bool {
    let expire_time = document.key.kind.expire_time(&document.bytes);
    matches!(expire_time, Ok(Some(time)) if time < now + EXPIRY_MARGIN)
}
