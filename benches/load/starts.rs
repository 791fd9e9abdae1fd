//! Start-up time and memory before the first login, compared with the bare server.

use std::{
    thread,
    time::{Duration, Instant},
};

use tokio::runtime::Runtime;
use tonic::Code;
use watchword::api::pb::IntrospectTokenRequest;

use crate::{
    Plan,
    bare::Kind,
    calls::{self, Client},
    report::{Gate::AtMost, Report},
    server::{Server, scratch},
};

/// The time in which new threads touch their memory.
const SETTLE: Duration = Duration::from_millis(200);

pub(crate) fn measure(plan: &Plan, runtime: &Runtime, report: &mut Report) {
    println!("starts: {} of each kind", plan.starts);
    let existing = scratch();
    drop(Server::start(existing.path()));
    let bare = || Server::spawn(Kind::Bare.command());
    let again = || Server::start(existing.path());
    let (mut ratios, mut controls, mut millis, mut new, mut refusals) =
        (Vec::new(), Vec::new(), Vec::new(), Vec::new(), Vec::new());
    let (mut memory, mut memory_ratios) = (Vec::new(), Vec::new());
    for _ in 0..plan.starts {
        let (_, of_bare) = start(runtime, bare, check);
        let (server, ours) = start(runtime, again, check);
        drop(server);
        let (bare, of_bare_again) = start(runtime, bare, check);
        let folder = scratch();
        let (server, of_new) = start(runtime, || Server::start(folder.path()), check);
        thread::sleep(SETTLE);
        memory.push(server.memory_mib("VmRSS:"));
        memory_ratios.push(server.memory_mib("VmRSS:") / bare.memory_mib("VmRSS:"));
        drop(server);
        refusals.push(start(runtime, again, refused_login).1);
        controls.push(of_bare_again / of_bare);
        ratios.push(ours / f64::midpoint(of_bare, of_bare_again));
        millis.push(ours);
        new.push(of_new);
    }
    report.show("exec to first answer: bare / bare (control)", "", controls);
    report.gate("exec to first answer / bare server", "", AtMost(3.0, 1.5), ratios);
    report.show("exec to first answer", "ms", millis);
    report.show("exec to first answer, new store", "ms", new);
    report.show("exec to first refused login", "ms", refusals);
    report.gate("memory before the first login / bare server", "", AtMost(2.0, 1.4), memory_ratios);
    report.show("memory before the first login", "MiB", memory);
}

/// Starts a server; returns it and the milliseconds from before its start until its first response.
fn start(runtime: &Runtime, server: impl FnOnce() -> Server, ask: impl AsyncFn(Client)) -> (Server, f64) {
    let start = Instant::now();
    let server = server();
    runtime.block_on(async { ask(Client::new(server.channel().await)).await });
    (server, start.elapsed().as_secs_f64() * 1e3)
}

/// Checks an invalid token, which the bare server reports as active.
async fn check(mut client: Client) {
    let answer = client.introspect_token(IntrospectTokenRequest { token: "none".into(), ..Default::default() }).await;
    answer.expect("a server that listens answers");
}

async fn refused_login(client: Client) {
    let status = calls::login(client, "nobody".into()).await.expect_err("no user is registered");
    assert_eq!(status.code(), Code::Unauthenticated);
}
