//! T5: many who want one name at once, through every door and over two nodes: exactly one has it.

use std::{sync::Arc, time::SystemTime};

use async_trait::async_trait;
use tokio::{sync::watch, task::JoinSet};
use watchword::{
    domain::{StoreError, StoreHealth, System},
    store::{
        Change, ChangeOutcome, DocumentKey, DocumentStore, Kind, Memory, ScanCursor, ScanPage, UnconditionalWrite,
    },
};

use crate::support::{Api, App, Place, StoreKind, is_full};

const RACERS: usize = 64;

/// One race: 64 racers in three spellings, by turns over the nodes and doors. Says what is wrong with its end.
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
                    // The hash queue is short on purpose.
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
            return Err(format!("the winner is answered {login:?}"));
        }
    }
    Ok(())
}

/// `WATCHWORD_TEST_FULL=1` takes the 500 rounds that T5 asks for.
#[tokio::test(flavor = "multi_thread")]
async fn of_racers_for_one_name_exactly_one_wins_and_his_password_works_on_every_node() {
    for (kind, nodes) in [(StoreKind::Memory, 1), (StoreKind::Embedded, 1), (StoreKind::Redis, 2)] {
        let place = Place::new(kind);
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
            assert_eq!(users.len(), rounds, "no half record, no second spelling");
        }
    }
}

/// The control: a store that looks first and writes afterwards, as the original program did.
struct LooksFirst(Memory);

#[async_trait]
impl DocumentStore for LooksFirst {
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
async fn a_store_that_looks_before_it_writes_is_found_out() {
    let store = Arc::new(LooksFirst(Memory::new(Arc::new(System))));
    let nodes = Arc::new(vec![App::on(store).start().await]);
    for round in 0..500 {
        if race(&nodes, round).await.is_err() {
            return;
        }
    }
    panic!("the control shows nothing");
}
