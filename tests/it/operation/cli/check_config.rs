//! Settings from flags and variables, refused settings, and `check-config`.

use std::{fs, path::Path, process::Command};

use tempfile::TempDir;
use watchword::{config::Config, domain::password::Cost};

use super::{SETTINGS, cells};
use crate::support::{BINARY, Node, command, command_by, run, run_command};

/// A file that is valid for no setting.
const MANIFEST: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/Cargo.toml");

#[test]
fn invalid_setting_is_refused_with_its_flag_value_and_allowed_values() {
    for (args, expected) in [
        (vec!["--grpc-adr", "x"], vec!["--grpc-adr", "--grpc-addr"]),
        (vec!["--client-address", "forwarded"], vec!["--client-address", "--trusted-proxy"]),
        (vec!["--client-address", "mine"], vec!["--client-address", "forwarded", "peer", "none"]),
        (vec!["--grpc-addr", "nonsense"], vec!["nonsense", "--grpc-addr", "IP:PORT"]),
        (vec!["--http-addr", "127.0.0.1:99999"], vec!["127.0.0.1:99999", "--http-addr", "off"]),
        (vec!["--store", "postgres://host"], vec!["--store", "embedded:", "memory:", "redis://"]),
        (vec!["--store", "redis://user:hunter2@host"], vec!["--store", "--store-password-file"]),
        (vec!["--store", "redis://host/x"], vec!["--store", "database"]),
        (vec!["--store-password-file", "x"], vec!["--store-password-file", "redis://"]),
        (vec!["--store", "redis://h", "--store-ca-file", "x"], vec!["--store-ca-file", "rediss://"]),
        (vec!["--redis-prefix", "a*"], vec!["a*", "--redis-prefix"]),
        (vec!["--token-issuer", "https://a b"], vec!["https://a b", "--token-issuer", "printable"]),
        (vec!["--token-issuer", "auth.example"], vec!["auth.example", "--token-issuer", "https://HOST"]),
        (
            vec!["--oauth-clients-file", "/nowhere/clients"],
            vec!["--oauth-clients-file", "/nowhere/clients", "No such file"],
        ),
        (vec!["--oauth-clients-file", MANIFEST, "--http-addr", "off"], vec!["--oauth-clients-file", "--http-addr"]),
        (vec!["--oauth-clients-file", MANIFEST], vec!["--oauth-clients-file", "line 1", "NAME:SECRET"]),
        (vec!["--admin-addr", "127.0.0.1:1"], vec!["127.0.0.1:1", "--admin-addr", "unix:/path"]),
        (vec!["--seal-key-file", MANIFEST], vec!["--seal-key-file", "line 1", "64 hexadecimal digits"]),
        (vec!["--access-token-lifetime", "1s"], vec!["1s", "--access-token-lifetime", "10s"]),
        (vec!["--session-lifetime", "91d"], vec!["91d", "--session-lifetime", "2months 29days"]),
        (vec!["--redis-durability", "none"], vec!["none", "--redis-durability", "strict", "relaxed"]),
        (vec!["--password-min-length", "7"], vec!["7", "--password-min-length", "8 to 64"]),
        (vec!["--data-max-bytes", "99999"], vec!["--data-max-bytes", "12288"]),
        (vec!["--hash-workers", "0"], vec!["--hash-workers", "auto", "1024"]),
        (vec!["--argon2-memory-kib", "19455"], vec!["--argon2-memory-kib", "19455", "19456 to 262144"]),
        (vec!["--argon2-passes", "1"], vec!["--argon2-passes", "2 to 16"]),
        (vec!["--argon2-lanes", "17"], vec!["--argon2-lanes", "1 to 16"]),
        (
            vec!["--hash-workers", "1024", "--argon2-memory-kib", "262144"],
            vec!["--argon2-memory-kib 262144", "1024 hash workers", "262144 MiB", "--hash-workers"],
        ),
        (vec!["--pepper-key-file", MANIFEST], vec!["--pepper-key-file", "line 1", "64 hexadecimal digits"]),
        (vec!["--drain-timeout", "soon"], vec!["soon", "--drain-timeout"]),
        (vec!["--log-format", "xml"], vec!["xml", "text", "json"]),
        (
            vec!["--http-allow-host", "https://a.example"],
            vec!["--http-allow-host", "https://a.example", "without scheme"],
        ),
        (vec!["--http-allow-host", "a.example:443"], vec!["--http-allow-host", "a.example:443", "port"]),
        (vec!["--http-allow-host", "*"], vec!["--http-allow-host", "wildcard"]),
        (vec!["--http-allow-host", "::ffff:127.0.0.1"], vec!["--http-allow-host", "IPv4 address"]),
        (vec!["--http-allow-origin", "a.example"], vec!["--http-allow-origin", "https://www.example.com"]),
        (vec!["--http-allow-origin", "https://a.example/"], vec!["--http-allow-origin", "without a path"]),
        (vec!["--reflection", "maybe"], vec!["maybe", "auto", "on", "off"]),
        (vec!["frobnicate"], vec!["frobnicate"]),
    ] {
        let (code, _, err) = run(&args);
        assert_eq!(code, 2, "{args:?}: {err}");
        for part in expected {
            assert!(err.contains(part), "{args:?} lacks {part}: {err}");
        }
        assert!(!err.contains("hunter2"), "the refused URL must not be printed: {err}");
    }
}

#[test]
fn plaintext_listener_beyond_loopback_is_refused_without_explicit_flags() {
    let (code, _, err) = run(&["--grpc-addr", "0.0.0.0:0", "--http-addr", "[::]:0", "--store", "memory:"]);
    assert_eq!(code, 2, "{err}");
    for part in ["--grpc-addr 0.0.0.0:0", "--http-addr [::]:0", "--insecure-plaintext"] {
        assert!(err.contains(part), "both faults are in one message: {err}");
    }
    for part in ["--token-issuer must be set", "--token-audience must be set", "--client-address must be set"] {
        assert!(err.contains(part), "these decisions are required: {err}");
    }
    let open = |api: &str, more: &[&str]| {
        let known = [
            "--insecure-plaintext",
            "--client-address",
            "none",
            "--token-issuer",
            "https://auth.example",
            "--token-audience",
            "shop",
        ];
        Config::from_args([&["watchword", api, "0.0.0.0:0"], &known[..], more].concat()).unwrap()
    };
    let grpc = open("--grpc-addr", &[]);
    assert!(!grpc.reflection, "reflection is off by default beyond loopback");
    assert!(grpc.legacy_routes, "the HTTP listener is still on loopback");
    let http = open("--http-addr", &[]);
    assert!(!http.legacy_routes && http.reflection);
    assert!(open("--http-addr", &["--legacy-routes", "on"]).legacy_routes);
}

#[test]
fn cost_of_a_hash_is_a_setting_and_so_is_the_memory_of_the_pool() {
    let hashing = |args: &[&str]| Config::from_args([&["watchword"], args].concat()).unwrap().hashing;
    assert_eq!(hashing(&[]).cost, Cost { memory_kib: 19_456, passes: 2, lanes: 1 });
    let args = ["--argon2-memory-kib", "65536", "--argon2-passes", "3", "--argon2-lanes", "4", "--hash-workers", "1"];
    assert_eq!(hashing(&args).cost, Cost { memory_kib: 65_536, passes: 3, lanes: 4 });
    assert_eq!(hashing(&args).workers, 1);
}

#[test]
fn flag_overrides_environment_variable() {
    let folder = TempDir::new().unwrap();
    let mut check = command(&["check-config", "--data-max-bytes", "77", "--store", "memory:"]);
    check.env("WATCHWORD_DATA_MAX_BYTES", "88").env("WATCHWORD_PASSWORD_MIN_LENGTH", "9").current_dir(folder.path());
    let (code, out, err) = run_command(check);
    assert_eq!(code, 0, "{err}");
    let row = |flag: &str| out.lines().map(cells).find(|row| row[0] == flag).unwrap();
    assert_eq!(row("--data-max-bytes"), ["--data-max-bytes", "flag", "77"]);
    assert_eq!(row("--password-min-length"), ["--password-min-length", "environment", "9"]);
    assert_eq!(row("--drain-timeout"), ["--drain-timeout", "default", "10s"]);
    let mut check = command(&["check-config"]);
    check.env("WATCHWORD_DATA_MAX_BYTES", "many").current_dir(folder.path());
    let (code, _, err) = run_command(check);
    assert_eq!(code, 2);
    assert!(err.contains("many") && err.contains("--data-max-bytes"), "{err}");
}

/// NIST SP 800-63B-4 section 3.1.1.2.
#[test]
fn check_config_says_in_one_line_that_nist_requires_15_characters() {
    for (length, is_short) in [("8", true), ("14", true), ("15", false), ("64", false)] {
        let (code, out, err) = run(&["check-config", "--store", "memory:", "--password-min-length", length]);
        assert_eq!(code, 0, "{err}");
        let lines: Vec<_> = out.lines().filter(|line| line.contains("NIST SP 800-63B-4")).collect();
        assert_eq!(lines.len(), usize::from(is_short), "{length}: {out}");
        let is_clear = |line: &&str| line.contains(length) && line.contains("--password-min-length 15");
        assert!(lines.iter().all(is_clear), "{lines:?}");
        let (_, out, _) = run(&["check-config", "--store", "memory:", "--password-min-length", length, "--json"]);
        let report: serde_json::Value = serde_json::from_str(&out).unwrap();
        assert_eq!(report["notes"].as_array().unwrap().len(), usize::from(is_short), "{length}");
    }
    let (_, out, _) = run(&["check-config", "--store", "memory:"]);
    assert!(out.contains("NIST SP 800-63B-4"), "the default is shorter: {out}");
}

#[test]
fn check_config_inspects_the_store_without_changing_it() {
    let folder = TempDir::new().unwrap();
    let data = folder.path().join("data");
    let path = data.display().to_string();
    let check = || run(&["check-config", "--data-dir", &path]);
    let (code, out, _) = check();
    assert_eq!(code, 0);
    assert!(out.contains("will be created"), "{out}");
    assert!(!data.exists(), "check-config created the data folder");
    let node = Node::start(&data, &[]);
    let (code, out, _) = check();
    assert_eq!(code, 0);
    assert!(out.contains("in use by a running node"), "{out}");
    node.kill();
    let file = data.join("watchword.redb");
    let before = fs::read(&file).unwrap();
    let (code, out, err) = check();
    assert_eq!(code, 0, "{err}");
    assert!(out.contains("is whole") || out.contains("the next start recovers it"), "{out}");
    assert!(fs::read(&file).unwrap() == before, "check-config changed the store file");
    fs::remove_file(data.join("lock")).unwrap();
    assert!(!check().1.contains("will be created"), "a restored backup without a lock file is recognized");
    fs::write(data.join("watchword.redb"), b"").unwrap();
    let (code, _, err) = check();
    assert_eq!(code, 1);
    assert!(err.contains("is damaged"), "{err}");
    let (code, _, err) = run(&["check-config", "--data-dir", "/dev/null/data"]);
    assert_eq!(code, 1);
    assert!(err.contains("/dev/null"), "{err}");
    let (code, _, err) = run(&["check-config", "--grpc-addr", "0.0.0.0:1", "--data-dir", &path]);
    assert_eq!(code, 1);
    assert!(err.contains("--insecure-plaintext"), "{err}");
}

#[test]
fn check_config_lists_changed_settings_first_in_aligned_columns() {
    let long = format!("/{}", "x".repeat(200));
    let mut check = command(&["check-config", "--store", "memory:", "--data-dir", &long, "--throttle", "on"]);
    check.env("WATCHWORD_THROTTLE_PER_ADDRESS_AND_ACCOUNT", "6/5m").env("WATCHWORD_TRUSTED_PROXY", "10.0.0.0/8,unix");
    let (code, out, err) = run_command(check);
    assert_eq!(code, 0, "{err}");
    let (table, found) = out.split_once("\n\n").unwrap();
    assert!(found.contains("store: memory") && found.contains("hash workers: "), "{found}");
    let (changed, others) = table.split_once("\n---").unwrap();
    let flags = |part: &str| part.lines().skip(1).map(|line| cells(line)[0].to_owned()).collect::<Vec<_>>();
    assert_eq!(
        flags(changed),
        ["--trusted-proxy", "--store", "--data-dir", "--throttle-per-address-and-account"],
        "changed settings in the order of --help, without the flag that is set to its default"
    );
    assert_eq!(flags(changed).len() + flags(others).len(), SETTINGS, "{table}");
    let rows: Vec<_> = table.lines().filter(|line| !line.starts_with("---")).collect();
    for column in ["SOURCE", "VALUE"] {
        let at = rows[0].find(column).unwrap();
        for row in &rows {
            assert!(row[..at].ends_with("  ") && !row[at..].starts_with(' '), "{column} at {at}: {row}");
        }
    }
    assert!(
        rows.iter().any(|row| cells(row) == ["--data-dir", "flag", &long]),
        "a long value must not be cut: {table}"
    );
    assert!(rows.iter().any(|row| cells(row) == ["--throttle", "flag", "on"]), "{table}");
    assert!(rows.iter().any(|row| cells(row) == ["--trusted-proxy", "environment", "10.0.0.0/8,unix"]), "{table}");
}

#[test]
fn check_config_json_has_settings_findings_warnings_and_errors() {
    let mut check = command(&["check-config", "--json", "--store", "memory:"]);
    check.env("WATCHWORD_DATA_MAX_BYTES", "88").env("WATCHWORD_GRPC_ADRR", "x");
    let (code, out, err) = run_command(check);
    assert_eq!(code, 0, "{err}");
    let report: serde_json::Value = serde_json::from_str(&out).unwrap();
    assert_eq!(report["ok"], true);
    assert_eq!(report["errors"], serde_json::json!([]));
    assert_eq!(report["warnings"], serde_json::json!(["WATCHWORD_GRPC_ADRR is no setting"]));
    assert_eq!(report["findings"]["store"], "memory: nothing is kept");
    let settings = report["settings"].as_array().unwrap();
    assert_eq!(settings.len(), SETTINGS);
    let setting = |flag: &str| settings.iter().find(|setting| setting["name"] == flag).unwrap().clone();
    let expected = |name: &str, value: Option<&str>, source: &str, changed: bool| {
        assert_eq!(
            setting(name),
            serde_json::json!({ "name": name, "value": value, "source": source, "changed": changed })
        );
    };
    expected("--data-max-bytes", Some("88"), "environment", true);
    expected("--store", Some("memory:"), "flag", true);
    expected("--log-format", Some("text"), "default", false);
    expected("--token-issuer", None, "default", false);
    expected("--insecure-plaintext", Some("false"), "default", false);

    let (code, out, err) = run(&["check-config", "--json", "--grpc-addr", "0.0.0.0:1", "--store", "memory:"]);
    let report: serde_json::Value = serde_json::from_str(&out).unwrap();
    assert_eq!((code, &report["ok"]), (1, &false.into()), "{err}");
    assert_eq!(report["findings"], serde_json::Value::Null);
    assert!(report["errors"][0].as_str().unwrap().contains("--insecure-plaintext"), "{report}");
    assert!(err.contains("--insecure-plaintext"), "{err}");
}

#[test]
fn check_config_never_prints_the_contents_of_secret_files() {
    let folder = TempDir::new().unwrap();
    let file = |name: &str, text: &str| {
        fs::write(folder.path().join(name), text).unwrap();
        folder.path().join(name).display().to_string()
    };
    let clients = file("clients", "shop:canary-canary-canary-canary-canary-canary\n");
    let key = "ca".repeat(32);
    let seal = file("seal", &format!("{key}\n"));
    for form in [&[][..], &["--json"]] {
        let args = ["check-config", "--store", "memory:", "--oauth-clients-file", &clients, "--seal-key-file", &seal];
        let (code, out, err) = run(&[&args, form].concat());
        assert_eq!(code, 0, "{err}");
        assert!(out.contains(&clients) && out.contains(&seal), "{out}");
        assert!(!out.contains("canary") && !out.contains(&key), "{out}");
    }
}

/// A real control group, of whichever version this machine has.
#[test]
#[expect(clippy::print_stdout, reason = "what is not tested is read with --nocapture")]
fn memory_limit_of_a_control_group_bounds_the_hash_workers() {
    const LIMIT_BYTES: &str = "134217728";
    let name = format!("watchword-test-{}", std::process::id());
    let made = [
        ("/sys/fs/cgroup/memory", "memory.limit_in_bytes", "memory.usage_in_bytes"),
        ("/sys/fs/cgroup", "memory.max", "memory.current"),
    ]
    .into_iter()
    .find_map(|(root, limit, usage)| {
        let group = Path::new(root).join(&name);
        let is_made = fs::create_dir(&group).is_ok();
        // Without the usage the group has no memory controller.
        let is_limited = is_made && group.join(usage).exists() && fs::write(group.join(limit), LIMIT_BYTES).is_ok();
        if is_made && !is_limited {
            fs::remove_dir(&group).unwrap();
        }
        is_limited.then_some(group)
    });
    let Some(group) = made else {
        println!("not tested: this machine lets its user make no control group with a memory limit");
        return;
    };
    let in_group = |args: &[&str]| {
        let mut shell = command_by(Command::new("sh"), &[]);
        shell.args(["-c", "echo $$ >\"$0\"/cgroup.procs && exec \"$@\""]).arg(&group).arg(BINARY);
        let output = shell.args(["check-config", "--store", "memory:"]).args(args).output().unwrap();
        format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr))
    };
    let (refused, automatic) = (in_group(&["--hash-workers", "8"]), in_group(&["--argon2-memory-kib", "65536"]));
    fs::remove_dir(&group).unwrap();
    assert!(refused.contains("this machine allows 128 MiB"), "{refused}");
    assert!(automatic.contains("hash workers: 1\n"), "half of the memory holds one: {automatic}");
}
