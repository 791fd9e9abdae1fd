//! The rate limits of an address: attempts and registrations, trusted proxies, and forged addresses.

use std::net::SocketAddr;

use futures_util::future::join_all;
use tokio::{
    io::{AsyncBufReadExt, AsyncWriteExt, BufReader},
    net::TcpStream,
};

use super::{is_limited, login_forwarded, login_from, outcome, with_rate_limits};
use crate::{
    abuse::proof_of_work::{LOGIN, solution},
    support::{Api, Node, StoreKind, command, http, is_full, password, reason},
};

#[tokio::test(flavor = "multi_thread")]
async fn proof_of_work_admits_a_victim_at_a_limited_address_and_reuse_is_limited() {
    let limit = ["--throttle-attempts-per-address", "100/1h"];
    let app = with_rate_limits(StoreKind::Memory).args(&limit).start().await;
    app.registered("victim").await;
    for attempt in 0..10 {
        Api::Legacy.login(&app, "victim", &format!("wrong password {attempt}")).await;
    }
    assert!(is_limited(&Api::Legacy.login(&app, "victim", &password("victim")).await));
    let proof = solution(&app, LOGIN).await;
    let answer = Api::Legacy.login_with(&app, "victim", &password("victim"), &proof).await;
    assert_eq!(answer.data(), "data of victim");
    let mut outcomes = Vec::new();
    for _ in 0..110 {
        outcomes.push(Api::Legacy.login_with(&app, "victim", &password("victim"), &proof).await.outcome());
    }
    let invalid =
        outcomes.iter().filter(|outcome| outcome.starts_with("400 the challenge was presented before")).count();
    assert_eq!(invalid, 94, "five of the hundred were wrong passwords, and one was right: {outcomes:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn address_has_five_attempts_at_an_account_and_other_addresses_have_their_own() {
    let app = with_rate_limits(StoreKind::Memory).start().await;
    app.registered("ada").await;
    let attacker = [127, 1, 1, 1];
    for attempt in 0..20 {
        let reply = login_from(&app, attacker, "ada", &format!("wrong password {attempt}")).await;
        assert_eq!(reply.status, if attempt < 5 { 200 } else { 429 }, "attempt {attempt}");
    }
    let reply = login_from(&app, [127, 2, 2, 2], "ada", &password("ada")).await;
    assert_eq!(reply.body, "data of ada", "the limit of the account is not reached");
    // An address has a hundred attempts in ten minutes at all accounts together.
    let names: Vec<_> = (0..120).map(|number| format!("user{number}")).collect();
    let mut replies = Vec::new();
    for names in names.chunks(20) {
        replies.extend(join_all(names.iter().map(|name| login_from(&app, attacker, name, "wrong password"))).await);
    }
    assert_eq!(replies.iter().filter(|reply| reply.status == 200).count(), 95);
    let limited = replies.iter().find(|reply| reply.status == 429).expect("the others are limited");
    assert!(limited.body.contains("from this address") && limited.header("retry-after").is_some(), "{limited:?}");
}

/// T8. A client cannot choose the address that its attempts count for.
#[tokio::test(flavor = "multi_thread")]
async fn untrusted_forwarded_headers_do_not_change_the_counted_address() {
    let app = with_rate_limits(StoreKind::Memory).args(&["--throttle-per-address", "10/10m"]).start().await;
    let mut verified = 0;
    for number in 0..1_000_u32 {
        let forged = match number % 5 {
            0 => format!("198.51.100.{}", number % 256),
            1 => format!("{number}, , garbage"),
            2 => format!("2001:db8::{number:x}"),
            3 => "\u{1}".repeat(3),
            _ => "127.0.0.1".into(),
        };
        let headers = [("x-forwarded-for", forged.as_str()), ("forwarded", "for=198.51.100.1"), ("x-real-ip", &forged)];
        let headers = if number % 5 == 3 { &headers[1..2] } else { &headers[..] };
        let target = format!("/login?username=user{number}&password=wrong-password&address={number}");
        let reply = http(app.http_socket(), "GET", &target, headers, "").await;
        verified += usize::from(reply.status == 200);
    }
    assert_eq!(verified, 10, "one address, one limit");
    // Callers of the gRPC API are services. Their forwarded headers are not trusted either.
    for number in 0..20 {
        let result = login_forwarded(&app, "198.51.100.1", &format!("other{number}"), "wrong password").await;
        assert_eq!(outcome(&result), "INVALID_CREDENTIALS");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn hop_written_by_the_trusted_proxy_is_the_counted_address() {
    let app = with_rate_limits(StoreKind::Memory)
        .args(&["--throttle-per-address", "10/10m", "--trusted-proxy", "127.0.0.1,10.0.0.0/8"])
        .start()
        .await;
    let mut verified = 0;
    for number in 0..100_u32 {
        // The hops that the client sent, then the hops that the trusted proxies appended.
        let headers = format!("198.51.100.{number}, garbage, 203.0.113.7, 10.1.2.3");
        let answer = login_forwarded(&app, &headers, &format!("user{number}"), "wrong password").await;
        verified += usize::from(outcome(&answer) == "INVALID_CREDENTIALS");
        let target = format!("/login?username=name{number}&password=wrong-password");
        let reply = http(app.http_socket(), "GET", &target, &[("x-forwarded-for", &headers)], "").await;
        verified += usize::from(reply.status == 200);
    }
    assert_eq!(verified, 10, "one address, one limit on all APIs");
    // All addresses of one IPv6 network count as one.
    let networks = |number: u32| [format!("2001:db8:1:1::{number:x}"), format!("2001:db8:2:2:{number:x}::")];
    let mut verified = 0;
    for number in 0..20 {
        for address in networks(number) {
            let answer =
                login_forwarded(&app, &address, &format!("third{number}{}", address.len()), "wrong password").await;
            verified += usize::from(outcome(&answer) == "INVALID_CREDENTIALS");
        }
    }
    assert_eq!(verified, 20, "two networks");
    // A hop that is no address means a wrongly configured proxy. The error reports it at once.
    let error = login_forwarded(&app, "203.0.113.9, unknown", "ada", "wrong password").await.unwrap_err();
    assert_eq!(reason(&error), "INVALID_FIELD");
    let reply = http(app.http_socket(), "GET", "/login?username=ada&password=x", &[("x-forwarded-for", "")], "").await;
    assert!(reply.status == 400 && reply.body.contains("x-forwarded-for has a hop"), "{reply:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn registrations_from_one_address_are_limited_and_those_of_services_are_not() {
    let app = with_rate_limits(StoreKind::Memory).args(&["--throttle-registrations", "3/1h"]).start().await;
    for number in 0..5 {
        let answer = Api::Legacy.register(&app, &format!("user{number}"), &password("x"), "").await;
        let expected = if number < 3 { "ok" } else { "429 too many registrations came from this address" };
        assert!(answer.outcome().starts_with(expected), "{number}: {}", answer.outcome());
        app.registered(&format!("other{number}")).await;
    }
    // A registration of a taken username counts too.
    assert!(Api::Legacy.register(&app, "user0", &password("x"), "").await.outcome().starts_with("429 "));
}

/// T46. Forged addresses cost no memory and do not reset the count of an honest address.
#[tokio::test(flavor = "multi_thread")]
async fn flood_of_forged_addresses_uses_little_memory_and_resets_no_count() {
    let folder = tempfile::TempDir::new().unwrap();
    let addresses = ["--grpc-addr", "127.0.0.1:0", "--http-addr", "127.0.0.1:0", "--ops-addr", "off"];
    // The default number; the period is so long that the test does not see a new one.
    let flags = ["--trusted-proxy", "127.0.0.1", "--throttle-registrations", "60/24h", "--store", "memory:"];
    let mut node = command(&addresses);
    node.args(flags).arg("--data-dir").arg(folder.path());
    let mut node = Node::spawn(node).unwrap();
    let line = node.line("api=\"http\" address=").unwrap();
    let address = line.rsplit("address=").next().unwrap().parse().unwrap();
    let register = async |from: &str| {
        let target = "/register?username=ada&password=a-password-of-ada";
        http(address, "POST", target, &[("x-forwarded-for", from)], "").await.status
    };
    for number in 0..=60 {
        assert_eq!(register("203.0.113.7").await, if number < 60 { 200 } else { 429 }, "{number}");
    }
    let before = node.memory_kib("VmRSS:");
    let (connections, each) = (8, if is_full() { 125_000 } else { 1_250 });
    let floods = (0..connections).map(|connection| flood_from_many_addresses(address, connection, each));
    let refused: usize = join_all(floods).await.into_iter().sum();
    let growth = node.memory_kib("VmRSS:").saturating_sub(before) / 1_024;
    assert!(refused < connections * each / 1_000, "{refused} first requests of an address were refused");
    // The sketch of registrations uses 8 MiB. T46 allows 64 MiB; a record of 50 bytes for each prefix would take 150 MiB.
    assert!(growth <= 40, "memory grew by {growth} MiB");
    assert_eq!(register("203.0.113.7").await, 429, "the count of this address was reset");
}

/// Registers a taken username from `count` addresses. Returns how many requests were refused.
async fn flood_from_many_addresses(to: SocketAddr, connection: usize, count: usize) -> usize {
    let stream = TcpStream::connect(to).await.unwrap();
    let (read, mut write) = stream.into_split();
    let mut answers = BufReader::new(read).lines();
    let mut refused = 0;
    for batch in 0..count.div_ceil(50) {
        let requests: String = (batch * 50..count.min(batch * 50 + 50))
            .map(|number| {
                format!(
                    "POST /register?username=ada&password=a-password-of-ada HTTP/1.1\r\nhost: localhost\r\n\
                     x-forwarded-for: {:x}:{connection:x}:{:x}::1\r\n\r\n",
                    0x2001 + (number >> 12),
                    number & 0xfff
                )
            })
            .collect();
        write.write_all(requests.as_bytes()).await.unwrap();
        let mut answered = 0;
        while answered < count.min(batch * 50 + 50) - batch * 50 {
            let line = answers.next_line().await.unwrap().expect("the connection stays open");
            if let Some(status) = line.find("HTTP/1.1 ").map(|at| &line[at + 9..at + 12]) {
                answered += 1;
                refused += usize::from(status == "429");
            }
        }
    }
    refused
}

#[test]
fn unnamed_proxy_is_reported_once_in_the_log() {
    let folder = tempfile::TempDir::new().unwrap();
    let mut serve = command(&["--grpc-addr", "127.0.0.1:0", "--http-addr", "127.0.0.1:0", "--ops-addr", "off"]);
    serve.args(["--store", "memory:"]).arg("--data-dir").arg(folder.path());
    let mut node = Node::spawn(serve).unwrap();
    let line = node.line("api=\"http\" address=").unwrap();
    let address = line.rsplit("address=").next().unwrap().parse().unwrap();
    let runtime = tokio::runtime::Runtime::new().unwrap();
    for from in ["203.0.113.7", "203.0.113.8"] {
        runtime.block_on(http(address, "GET", "/", &[("x-forwarded-for", from)], ""));
    }
    node.signal("TERM");
    let (_, log) = node.wait();
    assert_eq!(log.matches("name it in --trusted-proxy").count(), 1, "{log}");
    assert!(!log.contains("203.0.113"), "the log does not repeat a header of an untrusted peer");
}
