//! Files that settings name: who else can write or read them.

use std::{
    fs,
    os::unix::fs::{PermissionsExt, chown, symlink},
    path::Path,
};

use tempfile::TempDir;

use crate::support::run;

/// A group that is not root's.
const OTHER_GROUP: u32 = 12_345;

/// Checks the settings with a file for `flag`. Returns what is printed.
fn check(flag: &str, file: &Path) -> String {
    let store = match flag {
        "--store-password-file" => "redis://127.0.0.1:1",
        "--store-ca-file" => "rediss://127.0.0.1:1",
        _ => "memory:",
    };
    let (_, out, err) = run(&["check-config", "--store", store, flag, file.to_str().unwrap()]);
    format!("{out}{err}")
}

fn set(file: &Path, mode: u32, group: u32) {
    chown(file, None, Some(group)).unwrap();
    fs::set_permissions(file, fs::Permissions::from_mode(mode)).unwrap();
}

#[test]
fn named_file_that_other_users_can_write_is_refused_and_one_that_they_can_read_is_warned_of() {
    let folder = TempDir::new().unwrap();
    let seal_key = "00".repeat(32);
    for (flag, text, is_secret) in [
        ("--seal-key-file", seal_key.as_str(), true),
        ("--oauth-clients-file", "gateway:0123456789abcdef0123456789abcdef", true),
        ("--store-password-file", "secret", true),
        ("--store-ca-file", "", false),
        ("--password-blocklist-file", "insecure", false),
    ] {
        let mounted = folder.path().join(&flag[2..]);
        fs::write(&mounted, text).unwrap();
        // Kubernetes mounts a file through two links.
        let (data, file) =
            (folder.path().join(format!("{}.data", &flag[2..])), folder.path().join(format!("{}.link", &flag[2..])));
        symlink(&mounted, &data).unwrap();
        symlink(&data, &file).unwrap();
        for (mode, group) in [(0o602, 0), (0o666, 0), (0o620, OTHER_GROUP), (0o660, OTHER_GROUP)] {
            set(&mounted, mode, group);
            let said = check(flag, &file);
            let expected = format!("other users can write it (mode {mode:04o}): chmod go-w");
            assert!(said.contains(&expected) && said.contains(flag), "{flag} {mode:o}: {said}");
        }
        for (mode, group, is_readable) in
            [(0o600, 0, false), (0o660, 0, false), (0o440, OTHER_GROUP, false), (0o644, 0, true)]
        {
            set(&mounted, mode, group);
            let said = check(flag, &file);
            assert!(!said.contains("can write it"), "{flag} {mode:o}: {said}");
            let warning = format!("warning: {flag} {}: every user of this machine can read it", file.display());
            assert_eq!(said.contains(&warning), is_readable && is_secret, "{flag} {mode:o}: {said}");
        }
    }
}
