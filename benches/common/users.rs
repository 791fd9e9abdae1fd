//! Users that are loaded through `domain::Store`, not by hashing.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, SystemTime},
};

use tokio::task::JoinSet;
use watchword::domain::{Claim, Event, Observer, PasswordHash, Store, System, User, UserData, UserId, Username, World};

/// Loads that many users.
pub(crate) async fn load_all(store: &Arc<dyn Store>, users: u64) {
    let next = Arc::new(AtomicU64::new(0));
    let mut writers = JoinSet::new();
    for _ in 0..512 {
        let (store, next) = (store.clone(), next.clone());
        writers.spawn(async move {
            loop {
                let number = next.fetch_add(1, Ordering::Relaxed);
                if number >= users {
                    return;
                }
                claim(&*store, number).await;
            }
        });
    }
    writers.join_all().await;
}

pub(crate) async fn claim(store: &dyn Store, number: u64) {
    let claimed = store.claim(&user(number)).await.expect("the store answers");
    assert!(matches!(claimed, Claim::Claimed), "every name is new");
}

/// A user as a registration makes it, whose hash is made up.
fn user(number: u64) -> User {
    let now = SystemTime::UNIX_EPOCH + Duration::from_millis(1_764_000_000_000 + number);
    let phc = "$argon2id$v=19$m=19456,t=2,p=1$AAECAwQFBgcICQoLDA0ODw$AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8";
    User {
        id: UserId::new(now, &System),
        username: Username::parse(&format!("user{number}@example.com")).expect("an ordinary name"),
        password: PasswordHash::parse(phc).expect("a hash"),
        data: UserData::parse("testing".into(), 100).expect("short data"),
        epoch: 0,
        kept_session: None,
        create_time: now,
        update_time: now,
        last_login_time: None,
        request_id: None,
        disabled: false,
    }
}

struct Deaf;

impl Observer for Deaf {
    fn on(&self, _: &Event<'_>) {}
}

pub(crate) fn world() -> World {
    World { clock: Arc::new(System), entropy: Arc::new(System), observer: Arc::new(Deaf) }
}
