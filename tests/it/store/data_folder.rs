//! The data folder belongs to the user of the node alone: links, owners and permissions that are refused.

use std::{
    fs,
    os::unix::fs::{PermissionsExt, chown, symlink},
    path::Path,
    process::Command,
};

use tempfile::TempDir;

use super::copy::copy;
use crate::support::{Node, StoreKind, TestStore, run};

/// A user that does not run the node.
const OTHER_USER: u32 = 12_345;

/// Why a node and `check-config` refuse the folder; both say the same.
fn refusal(data: &Path) -> String {
    let log = Node::try_start(data, &[]).err().expect("the node refuses the folder");
    let (code, _, err) = run(&["check-config", "--data-dir", data.to_str().unwrap()]);
    assert_eq!(code, 1, "{err}");
    let why = err.trim().rsplit(": cannot be used: ").next().unwrap().to_owned();
    assert!(log.contains(&why) && err.contains("--data-dir"), "{log}\n{err}");
    why
}

/// A folder of a node that has ended.
fn used_folder() -> TempDir {
    let folder = TempDir::new().unwrap();
    let node = Node::start(folder.path(), &[]);
    node.signal("TERM");
    assert!(node.wait().0.success());
    folder
}

#[test]
fn symbolic_link_in_the_data_folder_is_refused_and_its_target_is_unchanged() {
    let outside = TempDir::new().unwrap();
    let target = outside.path().join("precious");
    for name in ["lock", "watchword.redb"] {
        for is_there in [true, false] {
            fs::write(&target, "precious").unwrap();
            if !is_there {
                fs::remove_file(&target).unwrap();
            }
            let folder = TempDir::new().unwrap();
            symlink(&target, folder.path().join(name)).unwrap();
            let why = refusal(folder.path());
            let file = fs::canonicalize(folder.path()).unwrap().join(name).display().to_string();
            assert!(why.contains("symbolic link") && why.contains(&format!("rm {file}")), "{why}");
            assert_eq!(fs::read_to_string(&target).ok().as_deref(), is_there.then_some("precious"), "{name}");
        }
    }
    // The name of an unfinished database: the link is removed, not followed.
    fs::write(&target, "precious").unwrap();
    let folder = TempDir::new().unwrap();
    symlink(&target, folder.path().join("watchword.redb.new")).unwrap();
    drop(Node::start(folder.path(), &[]));
    assert_eq!(fs::read_to_string(&target).unwrap(), "precious");
}

#[test]
fn hard_link_in_the_data_folder_is_refused_and_its_other_name_is_unchanged() {
    let folder = TempDir::new().unwrap();
    for name in ["lock", "watchword.redb"] {
        let (data, other) = (folder.path().join(name).join("data"), folder.path().join(format!("{name}.precious")));
        fs::create_dir_all(&data).unwrap();
        fs::set_permissions(&data, fs::Permissions::from_mode(0o700)).unwrap();
        fs::write(&other, "precious").unwrap();
        fs::set_permissions(&other, fs::Permissions::from_mode(0o600)).unwrap();
        fs::hard_link(&other, data.join(name)).unwrap();
        assert!(refusal(&data).contains("hard link"), "{name}");
        assert_eq!(fs::read_to_string(&other).unwrap(), "precious", "{name}");
    }
}

#[tokio::test]
async fn copy_to_a_data_folder_with_a_symbolic_link_is_refused() {
    let (redis, embedded) = (TestStore::new(StoreKind::Redis), TestStore::new(StoreKind::Embedded));
    let target = embedded.data_folder().with_file_name("precious");
    for name in ["lock", "watchword.redb"] {
        fs::write(&target, "precious").unwrap();
        fs::create_dir_all(embedded.data_folder()).unwrap();
        symlink(&target, embedded.data_folder().join(name)).unwrap();
        let (code, _, err) = copy(&redis, &embedded);
        assert!(code == 1 && err.contains("symbolic link") && err.contains("--to"), "{err}");
        assert_eq!(fs::read_to_string(&target).unwrap(), "precious");
        fs::remove_dir_all(embedded.data_folder()).unwrap();
    }
}

#[test]
fn data_folder_or_file_of_another_user_is_refused_with_the_command_that_fixes_it() {
    let folder = used_folder();
    let canonical = fs::canonicalize(folder.path()).unwrap();
    for path in [canonical.clone(), canonical.join("lock"), canonical.join("watchword.redb")] {
        chown(&path, Some(OTHER_USER), None).unwrap();
        let why = refusal(folder.path());
        assert!(why.contains(&format!("belongs to user {OTHER_USER}")), "{why}");
        assert!(why.contains(&format!("chown -hR 0 {}", path.display())), "{why}");
        chown(&path, Some(0), None).unwrap();
    }
    drop(Node::start(folder.path(), &[]));
}

#[test]
fn data_folder_or_file_that_other_users_can_write_is_refused() {
    let folder = used_folder();
    let canonical = fs::canonicalize(folder.path()).unwrap();
    for path in [canonical.clone(), canonical.join("lock"), canonical.join("watchword.redb")] {
        let before = fs::metadata(&path).unwrap().permissions();
        for mode in [0o720, 0o702, 0o777, 0o1777] {
            fs::set_permissions(&path, fs::Permissions::from_mode(mode)).unwrap();
            let why = refusal(folder.path());
            assert!(why.contains(&format!("mode {mode:04o}")), "{why}");
            assert!(why.contains(&format!("chmod go-w {}", path.display())), "{why}");
        }
        fs::set_permissions(&path, before).unwrap();
    }
    drop(Node::start(folder.path(), &[]));
}

#[test]
fn pipe_or_folder_in_the_place_of_a_file_is_refused_and_does_not_block() {
    for name in ["lock", "watchword.redb"] {
        let folder = TempDir::new().unwrap();
        assert!(Command::new("mkfifo").arg(folder.path().join(name)).status().unwrap().success());
        assert!(refusal(folder.path()).contains("is not a regular file"));
    }
}

/// systemd makes such a link for a service with a user of its own.
#[test]
fn symbolic_link_to_the_data_folder_is_followed() {
    let folder = TempDir::new().unwrap();
    let (data, link) = (folder.path().join("private"), folder.path().join("data"));
    fs::create_dir(&data).unwrap();
    symlink(&data, &link).unwrap();
    drop(Node::start(&link, &[]));
    assert!(data.join("watchword.redb").exists());
}
