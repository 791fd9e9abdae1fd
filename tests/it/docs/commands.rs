//! Every command block of every page, run by bash in the order of the page, as a reader with two terminals runs it.
//!
//! A page begins in an empty clone: the project's files, no data. It has a loopback address of its own in the place of
//! 127.0.0.1, so that pages, other tests and the machine's own services do not meet.

use std::{
    env, fs,
    os::unix::fs::symlink,
    path::Path,
    process::Stdio,
    sync::atomic::{AtomicU8, Ordering},
    time::Duration,
};

use futures_util::{StreamExt, stream};
use tempfile::TempDir;
use tokio::{process::Command, time::timeout};

use super::{Page, page::Block};
use crate::support::{
    BINARY, command_by,
    program::{existing, root, text},
};

/// How long the commands of one page may take; the longest takes a sixth of it on two cores.
const PAGE_TIMEOUT: Duration = Duration::from_secs(180);

/// Pages that run at once.
const PAGES_AT_ONCE: usize = 2;

/// The language of blocks that run.
const SHELL: &str = "sh";

/// Languages of blocks that are no commands.
const DATA: [&str; 7] = ["rust", "toml", "json", "yaml", "html", "text", "proto"];

/// What tests cannot run: engines, the system's own services, and what takes minutes. A block that is marked has one of them.
const NOT_HERE: [&str; 11] = [
    "docker ",
    "kubectl ",
    "systemctl ",
    "apt-get ",
    "envoy ",
    "tests/run",
    "fuzz/run",
    "cargo bench",
    "cargo doc",
    "selftest --timing",
    "tests/deploy/check.py",
];

/// Words that begin a command; a block of data has no such line.
const PROGRAMS: [&str; 9] =
    ["watchword ", "grpcurl ", "curl ", "cargo ", "docker ", "kubectl ", "systemctl ", "redis-cli ", "redis-server "];

#[tokio::test]
async fn commands_of_every_page_run_in_the_order_of_the_page() {
    let pages: Vec<_> = Page::all().into_iter().filter(|page| faults(page).is_empty()).collect();
    assert!(pages.len() > 30, "{} pages", pages.len());
    let failures: Vec<_> = stream::iter(&pages).map(run).buffer_unordered(PAGES_AT_ONCE).collect().await;
    let failures: Vec<_> = failures.into_iter().filter_map(Result::err).collect();
    assert!(failures.is_empty(), "{}", failures.join("\n\n"));
}

#[test]
fn block_that_the_tests_do_not_run_says_why_above_it() {
    let faults: Vec<_> = Page::all().iter().flat_map(faults).collect();
    assert!(faults.is_empty(), "{}", faults.join("\n"));
}

#[test]
fn block_without_language_or_with_a_wrong_mark_is_reported() {
    for (text, fault) in [
        ("```\nls\n```\n", "docs/made-up.md:1: no such language: \"\""),
        ("```console\n$ ls\n```\n", "docs/made-up.md:1: no such language: \"console\""),
        ("```text\ncurl x\n```\n", "docs/made-up.md:1: commands in a block of text"),
        ("```sh\ndocker ps\n```\n", "docs/made-up.md:1: cannot run here, and is not marked"),
        ("<!-- not run by the tests: lazy -->\n```sh\nls\n```\n", "docs/made-up.md:2: is marked, but can run"),
        ("<!-- not run by the tests: x -->\n```text\nls\n```\n", "docs/made-up.md:2: is marked, but has no commands"),
        ("<!-- not run by the tests: no engine -->\n\n```sh\nls\n```\n", "docs/made-up.md:1: marks no block"),
    ] {
        assert_eq!(faults(&Page::made_up(text)), [fault], "{text}");
    }
    let fine = "<!-- not run by the tests: no engine -->\n```sh\ndocker ps\n```\n```json\n{}\n```\n";
    assert_eq!(faults(&Page::made_up(fine)), [""; 0]);
}

#[tokio::test]
async fn command_that_fails_or_prints_something_else_is_reported_with_its_line() {
    for (text, expected) in [
        ("```sh\ntrue\n```\n\n```sh\ntrue\nls /nowhere\n```\n", "docs/made-up.md:7: exit code 2"),
        ("```sh\necho one    # prints: two\n```\n", "docs/made-up.md:2: should print: two"),
        ("```sh\ntrue    # fails: never\n```\n", "docs/made-up.md:2: should fail"),
        ("```sh\nwatchword --no-such-flag\n```\n", "docs/made-up.md:2: the server does not start"),
        ("```sh\nwatchword --store memory:\ntrue\n```\n", "docs/made-up.md:3: a server runs in this terminal"),
        (
            "```sh\nwatchword --store memory:\n```\n\n```sh\nwatchword --store memory:\n```\n",
            "the page should say what to stop first",
        ),
        ("```sh\n# Ctrl-C\n```\n", "docs/made-up.md:2: no server runs"),
        ("```sh\ncargo build\n```\n", "docs/made-up.md:2: the tests do not know: cargo build"),
    ] {
        let failure = run(&Page::made_up(text)).await.expect_err(text);
        assert!(failure.contains(expected), "{text}{failure}");
    }
}

#[tokio::test]
async fn commands_of_a_page_share_variables_and_files_and_stop_the_node_with_ctrl_c() {
    let page = Page::made_up(concat!(
        "```sh\nwatchword --store memory:\n```\n\n",
        "```sh\nANSWER=$(curl -s http://127.0.0.1:50052/readyz)\ncat > file <<'END'\na\nb\nEND\n```\n\n",
        "```sh\ntest -n \"$ANSWER\" &&\n  grep -c . file    # prints: 2\ncat nowhere    # fails: No such file\n```\n\n",
        "```sh\n# Ctrl-C in the terminal of the node, then:\nwatchword --store memory: --reflection off\n```\n",
    ));
    run(&page).await.unwrap_or_else(|failure| panic!("{failure}"));
}

/// What is wrong with the blocks of a page, before any runs.
fn faults(page: &Page) -> Vec<String> {
    let blocks = page.blocks();
    let mut faults: Vec<_> = blocks.iter().filter_map(|block| Some((block.line, fault(block)?))).collect();
    let marked: Vec<_> = blocks.iter().filter(|block| block.mark.is_some()).map(|block| block.line - 1).collect();
    let lines = page.text.lines().enumerate().filter(|(_, line)| line.contains("not run by the tests"));
    let lone = lines.map(|(index, _)| index + 1).filter(|line| !marked.contains(line));
    faults.extend(lone.map(|line| (line, "marks no block".to_owned())));
    faults.into_iter().map(|(line, fault)| format!("{}:{line}: {fault}", page.name())).collect()
}

fn fault(block: &Block) -> Option<String> {
    let has = |words: &[&str], is_command: bool| {
        let found = |line: &String, word: &str| match is_command {
            // `watchword = ...` is a dependency.
            true => line.strip_prefix(word).is_some_and(|rest| !rest.starts_with('=')),
            false => line.contains(word),
        };
        block.code.iter().any(|line| words.iter().any(|word| found(line, word)))
    };
    match (block.language.as_str(), &block.mark) {
        // Before it runs: it could change the machine.
        (SHELL, None) => has(&NOT_HERE, false).then(|| "cannot run here, and is not marked".to_owned()),
        (SHELL, Some(_)) => (!has(&NOT_HERE, false)).then(|| "is marked, but can run".to_owned()),
        (language, _) if !DATA.contains(&language) => Some(format!("no such language: {language:?}")),
        (_, Some(_)) => Some("is marked, but has no commands".to_owned()),
        (language, None) => has(&PROGRAMS, true).then(|| format!("commands in a block of {language}")),
    }
}

/// Runs the commands of a page; the first that fails, with what it printed.
async fn run(page: &Page) -> Result<(), String> {
    let folder = TempDir::new().unwrap();
    let (clone, logs) = (folder.path().join("clone"), folder.path().join("logs"));
    make_clone(&clone);
    fs::create_dir(&logs).unwrap();
    let host = own_host();
    let mut shell = shell(&host, &logs);
    shell.current_dir(&clone).arg("-c").arg(script(page).replace("127.0.0.1", &host));
    let shell = shell.spawn().unwrap();
    let group = shell.id().unwrap();
    let ended = timeout(PAGE_TIMEOUT, shell.wait_with_output()).await;
    // Servers, and what else the page may have left running.
    let left = Command::new("kill").args(["-KILL", "--", &format!("-{group}")]).stderr(Stdio::null()).status().await;
    assert!(left.is_ok(), "kill cannot be run");
    let Ok(output) = ended else { return Err(format!("{}: did not end in {PAGE_TIMEOUT:?}", page.name())) };
    let output = output.unwrap();
    let said = text(&output.stdout) + &text(&output.stderr);
    if output.status.success() { Ok(()) } else { Err(said.replace(&host, "127.0.0.1")) }
}

/// Bash with the variables that the prelude and the example programs read.
fn shell(host: &str, logs: &Path) -> Command {
    let tools = root().join("target/tools");
    let folders = [
        existing(tools.join("bin"), "grpcurl"),
        existing(tools.join("venv/bin"), "the Python packages"),
        existing(root().join("tests/tools/node_modules/.bin"), "the Node packages"),
    ];
    let inherited = env::var_os("PATH").unwrap_or_default();
    let path = folders.into_iter().chain(env::split_paths(&inherited));
    let mut shell = Command::from(command_by(std::process::Command::new("bash"), &[]));
    shell.env("PATH", env::join_paths(path).unwrap());
    let examples = Path::new(BINARY).with_file_name("examples");
    existing(examples.join("client"), "the Rust examples");
    shell.env("WATCHWORD", BINARY).env("EXAMPLES", examples);
    shell.env("TOOLS", tools).env("HOST", host).env("LOGS", logs);
    // The default addresses of the node and of the examples, on this page's own address.
    for (name, port) in [("GRPC_ADDR", 50_051), ("HTTP_ADDR", 5_000), ("OPS_ADDR", 50_052), ("ADDR", 50_051)] {
        shell.env(format!("WATCHWORD_{name}"), format!("{host}:{port}"));
    }
    shell.env("WATCHWORD_ISSUER", format!("http://{host}:5000")).env("HELLO_ADDR", format!("{host}:3000"));
    // A page needs no network.
    shell.env("PIP_NO_INDEX", "1").env("PYTHONDONTWRITEBYTECODE", "1");
    shell.stdout(Stdio::piped()).stderr(Stdio::piped()).process_group(0).kill_on_drop(true);
    shell
}

/// What a reader has after `git clone`. Nothing but the page's own files is written in it.
fn make_clone(folder: &Path) {
    fs::create_dir(folder).unwrap();
    for entry in fs::read_dir(root()).unwrap() {
        let name = entry.unwrap().file_name();
        if ![".git", "target", "watchword-data", "secrets"].iter().any(|other| name == *other) {
            symlink(root().join(&name), folder.join(&name)).unwrap();
        }
    }
}

/// A loopback address that no other page and no other run of the tests has.
fn own_host() -> String {
    static COUNT: AtomicU8 = AtomicU8::new(1);
    let process = std::process::id();
    let count = COUNT.fetch_add(1, Ordering::Relaxed);
    format!("127.{count}.{}.{}", 1 + process / 250 % 250, 1 + process % 250)
}

/// The page as one program of bash.
fn script(page: &Page) -> String {
    let mut script = include_str!("prelude.sh").to_owned();
    for block in page.blocks().iter().filter(|block| block.language == SHELL && block.mark.is_none()) {
        script.push_str("\nblock\n");
        for (line, command) in commands(block) {
            script.push_str(&format!("at {}:{line}\n{}\n", page.name(), step(&command)));
        }
    }
    script
}

/// One command, and how it must end.
fn step(command: &str) -> String {
    if command.starts_with("# Ctrl-C") {
        return "ctrl_c".to_owned();
    }
    if command.starts_with('#') {
        return String::new();
    }
    let quoted = |text: &str| format!("prints '{}'", text.trim().replace('\'', r"'\''"));
    if let Some((_, expected)) = command.rsplit_once("# fails: ") {
        return format!("if {{\n{command}\n}} >\"$out\" 2>&1; then stop 'should fail'; fi\n{}", quoted(expected));
    }
    let expected = command.rsplit_once("# prints: ").map(|(_, expected)| quoted(expected)).unwrap_or_default();
    format!("{{\n{command}\n}} >\"$out\" 2>&1 || stop \"exit code $?\"\n{expected}")
}

/// The commands of a block with their lines: a line, or as many as bash needs to see an end.
fn commands(block: &Block) -> Vec<(usize, String)> {
    let mut commands = Vec::new();
    let mut open: Option<(usize, String)> = None;
    for (index, line) in block.code.iter().enumerate() {
        let (first, mut command) = open.take().unwrap_or((block.line + 1 + index, String::new()));
        command.push_str(line);
        match is_whole(&command) {
            true if command.is_empty() => {}
            true => commands.push((first, command)),
            false => open = Some((first, command + "\n")),
        }
    }
    assert!(open.is_none(), "line {}: a command has no end: {open:?}", block.line);
    commands
}

fn is_whole(command: &str) -> bool {
    let parsed = std::process::Command::new("bash").args(["-n", "-c", command]).output().unwrap();
    // A here-document without its end is a warning only.
    parsed.status.success() && parsed.stderr.is_empty() && !command.ends_with('\\')
}
