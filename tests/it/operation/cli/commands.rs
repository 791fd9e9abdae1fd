//! The commands `healthcheck` and `examples`, and the flags and variables that a command reads.

use tempfile::TempDir;

use super::{cells, help::READS};
use crate::support::{Node, command, run, run_command};

#[test]
fn healthcheck_reports_the_readiness_of_a_running_node() {
    let folder = TempDir::new().unwrap();
    let socket = folder.path().join("ops.sock").display().to_string();
    let ops = format!("unix:{socket}");
    let check = || run(&["healthcheck", "--ops-addr", &ops]);
    let (code, _, err) = check();
    assert_eq!(code, 1);
    assert!(err.contains("does not answer"), "{err}");
    let mut serve =
        command(&["--grpc-addr", "127.0.0.1:0", "--http-addr", "off", "--store", "memory:", "--drain-delay", "1h"]);
    serve.args(["--ops-addr", &ops]);
    let mut node = Node::spawn(serve).unwrap_or_else(|log| panic!("{log}"));
    let (code, out, err) = check();
    assert_eq!((code, out.as_str()), (0, "ready\n"), "{err}");
    node.signal("TERM");
    node.wait_for_line("draining").unwrap();
    let (code, _, err) = check();
    assert_eq!(code, 1);
    assert!(err.contains("draining"), "{err}");
    assert_eq!(run(&["healthcheck", "--ops-addr", "off"]).0, 1);
}

#[test]
fn examples_command_prints_calls_to_the_configured_addresses() {
    let (code, out, _) = run(&["examples"]);
    assert_eq!(code, 0);
    for method in ["Register", "Login"] {
        assert!(out.contains(&format!("watchword.auth.v1.Auth/{method}")), "{out}");
    }
    let (_, out, _) = run(&["examples", "--grpc-addr", "127.0.0.1:7", "--http-addr", "off", "--reflection", "off"]);
    assert!(out.contains("127.0.0.1:7") && out.contains("-protoset") && !out.contains("curl '"), "{out}");
    let (_, out, _) = run(&["examples", "--grpc-addr", "unix:/run/w.sock"]);
    assert!(out.contains("-unix /run/w.sock"), "{out}");
}

#[test]
fn flag_that_a_command_does_not_read_is_refused_by_name() {
    for (command, reads) in READS.iter().filter(|(command, _)| !["help", "user"].contains(command.last().unwrap())) {
        let unread = if reads.contains(&"grpc-addr") { "--ops-addr" } else { "--grpc-addr" };
        for args in [[command, &[unread, "127.0.0.1:1"][..]].concat(), [&[unread, "127.0.0.1:1"], *command].concat()] {
            let (code, out, err) = run(&args);
            assert_eq!((code, out.as_str()), (2, ""), "{args:?}: {err}");
            let expected = format!("`watchword {}` does not read {unread}", command[0]);
            assert!(err.contains(&expected), "{args:?}: {err}");
        }
    }
    let (code, _, err) = run(&["healthcheck", "--frobnicate"]);
    assert!(code == 2 && err.contains("--frobnicate"), "{err}");
}

#[test]
fn command_ignores_variables_that_it_does_not_read() {
    let mut examples = command(&["examples", "--http-addr", "off"]);
    examples.env("WATCHWORD_GRPC_ADDR", "127.0.0.1:7").env("WATCHWORD_DATA_MAX_BYTES", "many");
    let (code, out, err) = run_command(examples);
    assert!(code == 0 && out.contains("127.0.0.1:7"), "{out}{err}");
    let mut examples = command(&["examples"]);
    examples.env("WATCHWORD_GRPC_ADDR", "nonsense");
    assert_eq!(run_command(examples).0, 2, "a variable that the command reads is validated");
}

#[test]
fn flags_before_a_command_apply_to_it() {
    let folder = TempDir::new().unwrap();
    let data = folder.path().display().to_string();
    let socket = folder.path().join("admin.sock").display().to_string();
    let show = ["show", "ada"];
    for args in [
        [&["--data-dir", &data, "user"], &show[..]].concat(),
        [&["user", "--data-dir", &data], &show[..]].concat(),
        [&["user"], &show[..], &["--data-dir", &data]].concat(),
    ] {
        let (code, _, err) = run(&args);
        assert!(code == 1 && err.contains(&socket), "{args:?}: {err}");
    }
    let (code, out, err) = run(&["--data-max-bytes=77", "--store", "memory:", "check-config"]);
    assert!(code == 0 && out.lines().any(|line| cells(line) == ["--data-max-bytes", "flag", "77"]), "{out}{err}");
}
