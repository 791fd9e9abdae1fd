//! T5: concurrent registrations of one username, through every API and on two nodes: exactly one succeeds.

use std::{sync::Arc, time::SystemTime};

use async_trait::async_trait;
use tokio::{sync::watch, task::JoinSet};
use watchword::{
    domain::{StoreError, StoreHealth, System},
    store::{
        Change, ChangeOutcome, DocumentKey, DocumentStore, Kind, Memory, ScanCursor, ScanPage, UnconditionalWrite,
    },
};

use crate::support::{Api, App, StoreKind, TestStore, is_full};

const RACERS: usize = 64;

/// One race: 64 racers in three spellings, distributed over nodes and APIs. Returns what is wrong with the result.
async fn race(nodes: &Arc<Vec<App>>, round: usize) -> Result<(), String> {
    let spellings = [format!("andré{round}"), format!("ANDRÉ{round}"), format!("andre\u{301}{round}")];
    let mut racers = JoinSet::new();
    for racer in 0..RACERS {
        let (nodes, name) = (nodes.clone(), spellings[racer % 3].clone());
        racers.spawn(async move {
            let (node, api) = (&nodes[racer % nodes.len()], Api::ALL[racer / 2 % 2]);
            let password = format!("password of racer {racer}");
            loop {
                let answer = api.register(node, &name, &password, &racer.to_string()).await;
                match answer.outcome() {
                    outcome if outcome == "ok" => return Some((racer, password)),
                    _ if answer.is_taken() => return None,
                    // The hash queue is short, so an overloaded node is expected.
                    outcome if outcome.contains("OVERLOADED") || outcome.starts_with("429") => {}
                    outcome => panic!("{outcome}"),
                }
            }
        });
    }
    let winners: Vec<_> = racers.join_all().await.into_iter().flatten().collect();
    let [(winner, password)] = winners.as_slice() else { return Err(format!("{} winners", winners.len())) };
    for (node, spelling) in nodes.iter().zip(spellings.iter().cycle().skip(round)) {
        let login = Api::Grpc.login(node, spelling, password).await;
        if login.outcome() != "ok" || login.data() != winner.to_string() {
            return Err(format!("the winner's login returned {login:?}"));
        }
    }
    Ok(())
}

/// `tests/run --all` runs the 500 rounds of T5.
#[tokio::test(flavor = "multi_thread")]
async fn concurrent_registrations_of_one_username_have_one_winner_on_all_nodes() {
    for (kind, nodes) in [(StoreKind::Memory, 1), (StoreKind::Embedded, 1), (StoreKind::Redis, 2)] {
        let place = TestStore::new(kind);
        let mut started = Vec::new();
        for _ in 0..nodes {
            started.push(App::with(kind).start_in(place.clone()).await);
        }
        let nodes = Arc::new(started);
        let rounds = if is_full() { 500 } else { 10 };
        for round in 0..rounds {
            assert_eq!(race(&nodes, round).await, Ok(()), "{kind:?}, round {round}");
        }
        let registered: usize = nodes.iter().map(|node| node.events.count("registered")).sum();
        assert_eq!(registered, rounds, "{kind:?}");
        if kind == StoreKind::Redis {
            let users: Vec<String> = place.redis().ask(&["KEYS", "watchword:user:*"]);
            assert_eq!(users.len(), rounds, "one complete record for each username, no second spelling");
        }
    }
}

/// The control: a store that reads first and writes later, as the original program did.
struct ReadsBeforeWriting(Memory);

#[async_trait]
impl DocumentStore for ReadsBeforeWriting {
    async fn get(&self, key: &DocumentKey) -> Result<Option<Vec<u8>>, StoreError> {
        self.0.get(key).await
    }

    async fn change(
        &self,
        first: Vec<UnconditionalWrite>,
        key: DocumentKey,
        change: Change,
    ) -> Result<ChangeOutcome, StoreError> {
        let Change::Insert(document) = change else { return self.0.change(first, key, change).await };
        if let Some(present) = self.0.get(&key).await? {
            return Ok(ChangeOutcome::Refused(present));
        }
        tokio::task::yield_now().await;
        if let ChangeOutcome::Refused(present) =
            self.0.change(first, key.clone(), Change::Insert(document.clone())).await?
        {
            let change = Change::Replace { seen: present.into(), document };
            self.0.change(Vec::new(), key, change).await?;
        }
        Ok(ChangeOutcome::Done)
    }

    async fn scan(&self, kind: Option<Kind>, cursor: Option<ScanCursor>) -> Result<ScanPage, StoreError> {
        self.0.scan(kind, cursor).await
    }

    fn now(&self) -> SystemTime {
        self.0.now()
    }

    fn health(&self) -> watch::Receiver<StoreHealth> {
        self.0.health()
    }

    async fn close(&self) {}
}

#[tokio::test(flavor = "multi_thread")]
async fn control_store_that_reads_before_it_writes_fails_the_race() {
    let store = Arc::new(ReadsBeforeWriting(Memory::new(Arc::new(System))));
    let nodes = Arc::new(vec![App::on(store).start().await]);
    for round in 0..500 {
        if race(&nodes, round).await.is_err() {
            return;
        }
    }
    panic!("the control found no lost update");
}
