//! Finds and runs the programs in other languages that `tests/run` installs.

use std::{
    env,
    path::{Path, PathBuf},
    process::Output,
    time::Duration,
};

use tokio::{process::Command, time::timeout};

/// Programs of the tests take a second or two, even on a busy machine.
pub const PROGRAM_TIMEOUT: Duration = Duration::from_secs(60);

pub fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// A tool that `tests/run` installed, or else the one on the `PATH`.
pub fn tool(name: &str) -> PathBuf {
    let installed = root().join("target/tools/bin").join(name);
    let path = env::var_os("PATH").unwrap_or_default();
    let found = env::split_paths(&path).map(|folder| folder.join(name)).find(|file| file.is_file());
    existing(if installed.is_file() { installed } else { found.unwrap_or(installed) }, name)
}

pub fn existing(path: PathBuf, what: &str) -> PathBuf {
    assert!(path.exists(), "run tests/run once: it installs {what}");
    path
}

pub async fn run(command: &mut Command) -> Output {
    let ended = timeout(PROGRAM_TIMEOUT, command.kill_on_drop(true).output()).await;
    ended.unwrap_or_else(|_| panic!("did not end in time: {command:?}")).unwrap()
}

/// Runs a program that must succeed, and returns its standard output.
pub async fn succeeds(command: &mut Command) -> String {
    let ended = run(command).await;
    assert!(ended.status.success(), "{command:?}:\n{}{}", text(&ended.stdout), text(&ended.stderr));
    text(&ended.stdout)
}

pub fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}
