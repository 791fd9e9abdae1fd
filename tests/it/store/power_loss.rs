//! T34: what a power cut leaves of the embedded store, at any moment, and again while it recovers from the last one.
//!
//! `kill -9` cannot show this: the kernel keeps what a killed process wrote. So the store runs on a simulated disk, and
//! every image that a power cut could have left must open, with every acknowledged user in it and never empty.

use std::{env, os::unix::process::ExitStatusExt, sync::Arc};

use rustix::process::Signal;
use tokio::process::Command;
use watchword::{
    domain::{Claim, Replace, Store, System, User, UserData},
    store::{DocumentStore, Embedded, TypedStore},
};

use crate::{
    store::contract::user,
    support::disk::{Disk, DiskOperation, DiskReplay, SeededRandom},
};

/// Users that the story registers; every third is changed afterwards.
const USERS: usize = 120;

/// Data that make pages split and the file grow.
fn data(number: usize) -> UserData {
    UserData::parse("x".repeat(number * 61 % 6_000), 8_192).unwrap()
}

fn registered(number: usize) -> User {
    User { data: data(number), ..user(&format!("user{number}")) }
}

/// What a disk saw while users were registered and changed, and how it began.
async fn story() -> (Vec<u8>, Vec<DiskOperation>) {
    let new = Disk::default();
    let store = Embedded::open_on(new.clone(), Arc::new(System)).unwrap();
    store.close().await;
    drop(store);
    let mut made = DiskReplay::from(Vec::new(), false);
    new.operations().iter().chain([&DiskOperation::Sync]).for_each(|asked| made.step(asked));
    let first = made.power_cut(&mut SeededRandom(0));

    let disk = Disk::with(first.clone());
    let embedded = Embedded::open_on(disk.clone(), Arc::new(System)).unwrap();
    let store = Arc::new(TypedStore::over(Arc::new(embedded)));
    let mut done = 0;
    while done < USERS {
        // Some alone, some in one commit.
        let together = 1 + done % 5;
        let mut claims = tokio::task::JoinSet::new();
        for number in done..done + together {
            let store = store.clone();
            claims.spawn(async move { assert!(matches!(store.claim(&registered(number)).await, Ok(Claim::Claimed))) });
        }
        claims.join_all().await;
        done += together;
        disk.acknowledged(done);
        if done % 3 == 0 {
            let seen = store.user(&user(&format!("user{}", done - 1)).username).await.unwrap().unwrap();
            let changed = User { epoch: 1, data: data(done + 40), ..seen.value };
            assert_eq!(store.replace(&seen.revision, &changed).await.unwrap(), Replace::Replaced);
            disk.acknowledged(done);
        }
    }
    store.close().await;
    (first, disk.operations())
}

/// Opens what a power cut left, and says what is wrong with it; answers what recovery asked of the disk.
async fn examine(image: Vec<u8>, acknowledged: usize) -> Result<Vec<DiskOperation>, String> {
    tokio::spawn(open_and_read(image, acknowledged)).await.unwrap_or_else(|panic| Err(panic.to_string()))
}

async fn open_and_read(image: Vec<u8>, acknowledged: usize) -> Result<Vec<DiskOperation>, String> {
    let disk = Disk::with(image);
    let embedded = Embedded::open_on(disk.clone(), Arc::new(System)).map_err(|error| format!("unopenable: {error}"))?;
    let store = TypedStore::over(Arc::new(embedded));
    let mut lost = Vec::new();
    for number in 0..acknowledged {
        let found = store.user(&user(&format!("user{number}")).username).await;
        let stored = found.map_err(|error| format!("user{number} is unreadable: {error:?}"))?;
        if stored.is_none() {
            lost.push(number);
        }
    }
    let asked = disk.operations();
    store.close().await;
    if lost.is_empty() { Ok(asked) } else { Err(format!("{} acknowledged users are lost", lost.len())) }
}

/// What was found in many images.
#[derive(Debug, Default)]
struct Findings {
    images: usize,
    cut_in_recovery: usize,
    faults: Vec<String>,
}

/// Cuts the power at moments all over the story, and in every fourth recovery once more.
async fn cut_power(images: usize, lies: bool) -> Findings {
    let (first, asked) = story().await;
    let mut findings = Findings::default();
    let mut chance = SeededRandom(34);
    let every_moment = images.div_ceil(asked.len()).max(2);
    let mut story = DiskReplay::from(first, lies);
    for (moment, next) in asked.iter().enumerate() {
        story.step(next);
        for _ in 0..every_moment {
            if findings.images >= images || chance.below(asked.len() * every_moment) >= images {
                continue;
            }
            findings.images += 1;
            let image = story.power_cut(&mut chance);
            match examine(image.clone(), story.acknowledged).await {
                Err(fault) => findings.faults.push(format!("moment {moment}: {fault}")),
                Ok(recovery) if findings.images % 4 == 0 && !recovery.is_empty() => {
                    let mut again = DiskReplay::from(image, lies);
                    let until = chance.below(recovery.len() + 1);
                    recovery[..until].iter().for_each(|asked| again.step(asked));
                    findings.images += 1;
                    findings.cut_in_recovery += 1;
                    if let Err(fault) = examine(again.power_cut(&mut chance), story.acknowledged).await {
                        findings.faults.push(format!("moment {moment}, in recovery: {fault}"));
                    }
                }
                Ok(_) => {}
            }
        }
    }
    findings
}

#[tokio::test]
async fn whatever_a_power_cut_leaves_opens_with_every_acknowledged_user() {
    let found = cut_power(10_000, false).await;
    assert!(found.faults.is_empty(), "{} faults, such as: {}", found.faults.len(), found.faults[0]);
    assert!(found.images >= 10_000 && found.cut_in_recovery >= 1_000, "{found:?}");
}

/// The control: a disk that says it synced and did not loses acknowledged users, and the same test sees it.
///
/// In a process of its own: redb panics over some of these files while it is being dropped by a panic, which ends a process.
#[tokio::test]
async fn a_disk_that_only_says_that_it_synced_is_found_out() {
    const ALONE: &str = "WATCHWORD_TEST_LYING_DISK";
    if env::var_os(ALONE).is_some() {
        let found = cut_power(200, true).await;
        assert!(found.faults.iter().any(|fault| fault.contains("lost") || fault.contains("unopenable")), "{found:?}");
        return;
    }
    let mut alone = Command::new(env::current_exe().unwrap());
    alone.args(["--exact", "power_loss::a_disk_that_only_says_that_it_synced_is_found_out"]).env(ALONE, "1");
    let ended = alone.output().await.unwrap();
    let is_found_out = ended.status.success() || ended.status.signal() == Some(Signal::ABORT.as_raw());
    assert!(is_found_out, "{}", String::from_utf8_lossy(&ended.stdout));
}
