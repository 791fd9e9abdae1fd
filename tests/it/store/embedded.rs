//! The embedded store against the world: killed processes, second processes, damaged files, full and read-only disks.

use std::{
    fs,
    os::unix::fs::PermissionsExt,
    path::Path,
    process::Command,
    time::{Duration, Instant},
};

use tempfile::TempDir;
use watchword::api::pb::{self, auth_client::AuthClient};

use crate::{
    store::crash::login,
    support::{BINARY, Node, channel, command_by, password, reason, run},
};

#[tokio::test]
async fn restart_keeps_users_and_request_ids() {
    let folder = TempDir::new().unwrap();
    let request = pb::RegisterRequest {
        username: "ada".into(),
        password: password("ada"),
        data: Some("testing".into()),
        request_id: "7d2f8f6e-9d1b-4f6e-8c3a-0b1d2e3f4a5b".into(),
        ..Default::default()
    };
    let node = Node::start(folder.path(), &[]);
    let first = AuthClient::new(channel(&node.grpc).await).register(request.clone()).await.unwrap().into_inner();
    node.kill();
    let node = Node::start(folder.path(), &[]);
    let second = AuthClient::new(channel(&node.grpc).await).register(request).await.unwrap().into_inner();
    assert_eq!(first, second);
}

#[test]
fn second_process_on_a_data_folder_is_refused_and_names_the_first() {
    let folder = TempDir::new().unwrap();
    let first = Node::start(folder.path(), &[]);
    let log = Node::try_start(folder.path(), &[]).err().expect("the second one refuses");
    assert!(log.contains("another watchword") && log.contains(&format!("process {}", first.pid())), "{log}");
}

#[test]
fn data_folder_is_accessible_to_its_owner_only() {
    let folder = TempDir::new().unwrap();
    let data = folder.path().join("deep/data");
    drop(Node::start(&data, &[]));
    assert_eq!(fs::metadata(&data).unwrap().permissions().mode() & 0o777, 0o700);
    // A folder that somebody else made, such as a container's volume, is warned of; the files are private all the same.
    let open = folder.path().join("volume");
    fs::create_dir(&open).unwrap();
    fs::set_permissions(&open, fs::Permissions::from_mode(0o755)).unwrap();
    let node = Node::start(&open, &[]);
    node.signal("TERM");
    assert!(node.wait().1.contains("other users can read the data folder"));
    for file in ["watchword.redb", "lock"] {
        assert_eq!(fs::metadata(open.join(file)).unwrap().permissions().mode() & 0o777, 0o600, "{file}");
    }
}

/// How long after the loss of a folder a call may begin that is still acknowledged.
const LOSS_NOTICED_WITHIN: Duration = Duration::from_secs(1);

/// How a data folder is lost.
type Loss = fn(&Path);

#[tokio::test]
#[expect(clippy::disallowed_methods, reason = "measures how long a node does not see the loss")]
async fn node_whose_data_folder_is_lost_acknowledges_no_user_a_second_later_and_ends() {
    let ways: [(&str, Loss); 4] = [
        ("deleted", |data| fs::remove_dir_all(data).unwrap()),
        ("replaced", |data| {
            fs::rename(data, data.with_extension("away")).unwrap();
            fs::create_dir(data).unwrap();
        }),
        ("without its lock, so that another node could start", |data| fs::remove_file(data.join("lock")).unwrap()),
        ("with another file in the place of the store", |data| {
            let file = data.join("watchword.redb");
            fs::rename(&file, data.join("away.redb")).unwrap();
            fs::copy(data.join("away.redb"), file).unwrap();
        }),
    ];
    for (how, lose) in ways {
        let folder = TempDir::new().unwrap();
        let data = folder.path().join("data");
        let node = Node::start(&data, &["--drain-timeout", "1s"]);
        let mut client = AuthClient::new(channel(&node.grpc).await);
        let register =
            |username: String| pb::RegisterRequest { password: password(&username), username, ..Default::default() };
        client.register(register("ada".into())).await.unwrap();
        lose(&data);
        let (lost, mut last_acknowledged) = (Instant::now(), Duration::ZERO);
        for number in 0.. {
            let began = lost.elapsed();
            match client.register(register(format!("user{number}"))).await {
                Ok(_) => last_acknowledged = began,
                Err(_) => break,
            }
        }
        assert!(last_acknowledged < LOSS_NOTICED_WITHIN, "{how}: acknowledged {last_acknowledged:?} later");
        let (status, log) = node.wait();
        assert_eq!(status.code(), Some(1), "{how}: {log}");
        assert!(log.contains("while the store was open"), "{how}: {log}");
    }
}

#[tokio::test]
async fn store_that_must_exist_is_not_created() {
    let folder = TempDir::new().unwrap();
    let data = folder.path().join("data").display().to_string();
    for command in ["serve", "check-config"] {
        let mut args = vec![command, "--store-must-exist", "--data-dir", &data];
        if command == "serve" {
            args.extend(["--grpc-addr", "127.0.0.1:0", "--http-addr", "off", "--ops-addr", "off"]);
        }
        let (code, _, err) = run(&args);
        assert!(code == 1 && err.contains("there is no store in it"), "{command}: {err}");
        assert!(!Path::new(&data).exists(), "{command}");
    }
    let node = Node::start(Path::new(&data), &[]);
    node.signal("TERM");
    node.wait();
    drop(Node::start(Path::new(&data), &["--store-must-exist"]));
    let (code, _, err) = run(&["check-config", "--store", "memory:", "--store-must-exist"]);
    assert!(code == 1 && err.contains("--store-must-exist") && err.contains("memory:"), "{err}");
}

/// A closed data folder with some users in it.
async fn data_folder() -> TempDir {
    let folder = TempDir::new().unwrap();
    let node = Node::start(folder.path(), &[]);
    let mut client = AuthClient::new(channel(&node.grpc).await);
    for number in 0..20 {
        let name = format!("user{number}");
        let request = pb::RegisterRequest { username: name.clone(), password: password(&name), ..Default::default() };
        client.register(request).await.unwrap();
    }
    node.signal("TERM");
    assert!(node.wait().0.success());
    folder
}

#[tokio::test]
async fn damaged_file_is_an_error_and_never_an_empty_store() {
    let whole = data_folder().await;
    let bytes = fs::read(whole.path().join("watchword.redb")).unwrap();
    for (what, damaged) in [
        ("empty", Vec::new()),
        ("cut to a few bytes", bytes[..100].to_vec()),
        ("cut in half", bytes[..bytes.len() / 2].to_vec()),
        ("zeroed", vec![0; bytes.len()]),
        ("overwritten at its beginning", [&[0xff; 512][..], &bytes[512..]].concat()),
        ("text", b"this is no database".repeat(1_000)),
    ] {
        let folder = TempDir::new().unwrap();
        let file = folder.path().join("watchword.redb");
        fs::write(&file, &damaged).unwrap();
        let log = Node::try_start(folder.path(), &[]).err().unwrap_or_else(|| panic!("{what}: it started"));
        assert!(log.contains("is damaged"), "{what}: {log}");
        assert!(!log.contains("panicked"), "{what}: {log}");
        assert_eq!(fs::read(&file).unwrap().len(), damaged.len(), "{what}: the evidence was changed");
    }
}

/// Any page, overwritten by something else: an error at the start or when the page is met, never a wrong answer.
#[tokio::test]
async fn damaged_page_is_never_an_empty_store_or_a_ready_node() {
    let whole = data_folder().await;
    let bytes = fs::read(whole.path().join("watchword.redb")).unwrap();
    let mut refused_at_start = 0;
    for page in (1..bytes.len() / 4_096).step_by(bytes.len() / 4_096 / 16 + 1) {
        let folder = TempDir::new().unwrap();
        let mut damaged = bytes.clone();
        damaged[page * 4_096..page * 4_096 + 64].fill(0xa5);
        fs::write(folder.path().join("watchword.redb"), &damaged).unwrap();
        let node = match Node::try_start(folder.path(), &[]) {
            Ok(node) => node,
            Err(log) => {
                assert!(log.contains("is damaged"), "page {page}: {log}");
                refused_at_start += 1;
                continue;
            }
        };
        let mut client = AuthClient::new(channel(&node.grpc).await);
        for number in 0..20 {
            let name = format!("user{number}");
            let request = pb::LoginRequest { username: name.clone(), password: password(&name), ..Default::default() };
            // A page may be unused; then all is well. Else: an error that is no refusal of the user.
            if let Err(status) = client.login(request).await {
                let known = ["DATA_LOSS", "UNAVAILABLE", "RESOURCE_EXHAUSTED"];
                let code = format!("{:?}", status.code()).to_uppercase();
                assert!(known.iter().any(|known| known.replace('_', "") == code), "page {page}, {name}: {status:?}");
            }
        }
    }
    assert!(refused_at_start > 0, "no page that a start reads was damaged");
}

#[tokio::test]
async fn killed_first_start_succeeds_on_the_next_start() {
    let folder = TempDir::new().unwrap();
    fs::write(folder.path().join("watchword.redb.new"), b"half made").unwrap();
    let node = Node::start(folder.path(), &[]);
    let mut client = AuthClient::new(channel(&node.grpc).await);
    assert_eq!(login(&mut client, "nobody", "whatever").await, Err("INVALID_CREDENTIALS".into()));
}

fn sh(script: &str) {
    let done = Command::new("sh").args(["-ec", script]).output().unwrap();
    assert!(done.status.success(), "{script}: {}", String::from_utf8_lossy(&done.stderr));
}

/// A small disk of its own, unmounted in the end.
struct Disk(TempDir);

impl Disk {
    fn of_bytes(bytes: usize) -> Self {
        let folder = TempDir::new().unwrap();
        sh(&format!("mount -t tmpfs -o size={bytes} tmpfs {}", folder.path().display()));
        Self(folder)
    }

    fn path(&self) -> &Path {
        self.0.path()
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        drop(Command::new("umount").arg("-l").arg(self.0.path()).status());
    }
}

#[test]
fn read_only_disk_is_a_clear_error_at_start() {
    let disk = Disk::of_bytes(16 << 20);
    sh(&format!("mount -o remount,ro {}", disk.path().display()));
    let log = Node::try_start(&disk.path().join("data"), &[]).err().expect("it cannot start");
    assert!(log.contains("--data-dir") && log.contains("Read-only file system"), "{log}");
}

#[tokio::test]
async fn full_disk_ends_the_node_and_keeps_acknowledged_users() {
    let disk = Disk::of_bytes(3 << 20);
    let data = disk.path().join("data");
    let node = Node::start(&data, &[]);
    let mut client = AuthClient::new(channel(&node.grpc).await);
    let filler = disk.path().join("filler");
    let mut acknowledged = Vec::new();
    let refusal = loop {
        let name = format!("user{}", acknowledged.len());
        let request = pb::RegisterRequest {
            username: name.clone(),
            password: password(&name),
            data: Some("d".repeat(8_000)),
            ..Default::default()
        };
        match client.register(request).await {
            Ok(_) => acknowledged.push(name),
            Err(status) => break status,
        }
        if acknowledged.len() == 5 {
            // Takes the rest of the disk; dd ends with the disk.
            drop(Command::new("dd").args(["if=/dev/zero", "bs=4k"]).arg(format!("of={}", filler.display())).output());
        }
        assert!(acknowledged.len() < 2_000, "the disk never filled");
    };
    assert_eq!(reason(&refusal), "OUTCOME_UNKNOWN");
    let (status, log) = node.wait();
    assert_eq!(status.code(), Some(1), "{log}");
    assert!(log.contains("No space left on device"), "{log}");

    fs::remove_file(&filler).unwrap();
    let node = Node::start(&data, &[]);
    let mut client = AuthClient::new(channel(&node.grpc).await);
    for name in &acknowledged {
        assert_eq!(login(&mut client, name, &password(name)).await, Ok(()), "{name}");
    }
}

/// T35: no acknowledgement after a failed sync; the node ends, and the next one has all that was acknowledged.
#[tokio::test]
async fn failed_sync_ends_the_node_and_acknowledges_nothing_later() {
    let folder = TempDir::new().unwrap();
    drop(Node::start(folder.path(), &[]));
    let mut strace = Command::new("strace");
    let inject = "--inject=fdatasync,fsync:error=EIO:when=7+";
    strace.args(["-f", "-q", "-o", "/dev/null", "-e", "trace=fdatasync,fsync", inject, BINARY]);
    let mut command =
        command_by(strace, &["--grpc-addr", "127.0.0.1:0", "--http-addr", "off", "--ops-addr", "off", "--data-dir"]);
    command.arg(folder.path());
    let node = Node::spawn(command).unwrap_or_else(|log| panic!("{log}"));
    let mut client = AuthClient::new(channel(&node.grpc).await);
    let mut acknowledged = Vec::new();
    let refusal = loop {
        let name = format!("user{}", acknowledged.len());
        let request = pb::RegisterRequest { username: name.clone(), password: password(&name), ..Default::default() };
        match client.register(request).await {
            Ok(_) => acknowledged.push(name),
            Err(status) => break status,
        }
        assert!(acknowledged.len() < 100, "no sync ever failed");
    };
    assert_eq!(reason(&refusal), "OUTCOME_UNKNOWN");
    let (status, log) = node.wait();
    assert_eq!(status.code(), Some(1), "{log}");
    let node = Node::start(folder.path(), &[]);
    let mut client = AuthClient::new(channel(&node.grpc).await);
    for name in &acknowledged {
        assert_eq!(login(&mut client, name, &password(name)).await, Ok(()), "{name}");
    }
}
