//! T34: the embedded store after a power cut at any moment, and after a second power cut during recovery.
//!
//! `kill -9` cannot show this, because the kernel keeps the writes of a killed process. So the store runs on a simulated
//! disk. Every image that a power cut can leave must open with all acknowledged users, and never as an empty store.

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

/// The number of users that the recorded run registers; every third is changed afterwards.
const USERS: usize = 120;

/// User data of different sizes, so that pages split and the file grows.
fn data(number: usize) -> UserData {
    UserData::parse("x".repeat(number * 61 % 6_000), 8_192).unwrap()
}

fn registered(number: usize) -> User {
    User { data: data(number), ..user(&format!("user{number}")) }
}

/// Registers and changes users on a simulated disk; returns its first image and all requests to it.
async fn recorded_run() -> (Vec<u8>, Vec<DiskOperation>) {
    let new = Disk::default();
    let store = Embedded::open_on(new.clone(), Arc::new(System)).unwrap();
    store.close().await;
    drop(store);
    let mut creation = DiskReplay::from(Vec::new(), false);
    new.operations().iter().chain([&DiskOperation::Sync]).for_each(|asked| creation.step(asked));
    let first = creation.power_cut(&mut SeededRandom(0));

    let disk = Disk::with(first.clone());
    let embedded = Embedded::open_on(disk.clone(), Arc::new(System)).unwrap();
    let store = Arc::new(TypedStore::over(Arc::new(embedded)));
    let mut done = 0;
    while done < USERS {
        // Some users in a commit of their own, some with others.
        let batch = 1 + done % 5;
        let mut claims = tokio::task::JoinSet::new();
        for number in done..done + batch {
            let store = store.clone();
            claims.spawn(async move { assert!(matches!(store.claim(&registered(number)).await, Ok(Claim::Claimed))) });
        }
        claims.join_all().await;
        done += batch;
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

/// Opens the image of a power cut and checks its users; returns the disk requests of the recovery, or the fault.
async fn examine(image: Vec<u8>, acknowledged: usize) -> Result<Vec<DiskOperation>, String> {
    tokio::spawn(open_and_read(image, acknowledged)).await.unwrap_or_else(|panic| Err(panic.to_string()))
}

async fn open_and_read(image: Vec<u8>, acknowledged: usize) -> Result<Vec<DiskOperation>, String> {
    let disk = Disk::with(image);
    let embedded =
        Embedded::open_on(disk.clone(), Arc::new(System)).map_err(|error| format!("cannot be opened: {error}"))?;
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

/// The findings from all images.
#[derive(Debug, Default)]
struct Findings {
    images: usize,
    cut_during_recovery: usize,
    faults: Vec<String>,
}

/// Cuts the power at moments spread over the run, and a second time during every fourth recovery.
async fn cut_power(images: usize, false_syncs: bool) -> Findings {
    let (first, asked) = recorded_run().await;
    let mut findings = Findings::default();
    let mut chance = SeededRandom(34);
    let cuts_per_moment = images.div_ceil(asked.len()).max(2);
    let mut story = DiskReplay::from(first, false_syncs);
    for (moment, next) in asked.iter().enumerate() {
        story.step(next);
        for _ in 0..cuts_per_moment {
            if findings.images >= images || chance.below(asked.len() * cuts_per_moment) >= images {
                continue;
            }
            findings.images += 1;
            let image = story.power_cut(&mut chance);
            match examine(image.clone(), story.acknowledged).await {
                Err(fault) => findings.faults.push(format!("moment {moment}: {fault}")),
                Ok(recovery) if findings.images % 4 == 0 && !recovery.is_empty() => {
                    let mut again = DiskReplay::from(image, false_syncs);
                    let until = chance.below(recovery.len() + 1);
                    recovery[..until].iter().for_each(|asked| again.step(asked));
                    findings.images += 1;
                    findings.cut_during_recovery += 1;
                    if let Err(fault) = examine(again.power_cut(&mut chance), story.acknowledged).await {
                        findings.faults.push(format!("moment {moment}, during recovery: {fault}"));
                    }
                }
                Ok(_) => {}
            }
        }
    }
    findings
}

#[tokio::test]
async fn every_power_cut_image_opens_with_all_acknowledged_users() {
    let found = cut_power(10_000, false).await;
    assert!(found.faults.is_empty(), "{} faults, first: {}", found.faults.len(), found.faults[0]);
    assert!(found.images >= 10_000 && found.cut_during_recovery >= 1_000, "{found:?}");
}

/// The control: a disk that reports a sync without syncing loses acknowledged users, and the checks above find it.
///
/// Runs in a separate process: on some of these images redb panics while a panic drops it, which aborts the process.
#[tokio::test]
async fn disk_that_reports_false_syncs_loses_acknowledged_users() {
    const CHILD: &str = "WATCHWORD_TEST_FALSE_SYNCS";
    const NAME: &str = "store::power_loss::disk_that_reports_false_syncs_loses_acknowledged_users";
    if env::var_os(CHILD).is_some() {
        let found = cut_power(200, true).await;
        assert!(
            found.faults.iter().any(|fault| fault.contains("lost") || fault.contains("cannot be opened")),
            "{found:?}"
        );
        return;
    }
    let mut child = Command::new(env::current_exe().unwrap());
    child.args(["--exact", NAME]).env(CHILD, "1");
    let ended = child.output().await.unwrap();
    let printed = String::from_utf8_lossy(&ended.stdout);
    assert!(printed.contains("running 1 test"), "the child found no test of this name: {printed}");
    let is_detected = ended.status.success() || ended.status.signal() == Some(Signal::ABORT.as_raw());
    assert!(is_detected, "{printed}");
}
