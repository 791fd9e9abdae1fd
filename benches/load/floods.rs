//! Floods of calls that cost their client nothing: what each costs the server, and what they leave to honest callers.
//!
//! Refused calls: the logins per second beside a flood of logins without a username, on 1, 8 and 100 connections, divided by
//! those of the calm before and after. Oversized passwords (T21) and challenges (T40): the CPU of the server for each call.
//!
//! Servers keep users in memory, so that the disk does not take part. The flood uses the cores of the server too.

use std::{
    pin::pin,
    sync::atomic::{AtomicU64, Ordering},
    thread,
    time::Duration,
};

use altcha::{Challenge, Payload, Solution};
use base64::{Engine, engine::general_purpose::STANDARD};
use bytes::{BufMut, Bytes, BytesMut};
use futures_util::future::join_all;
use http_body_util::Full;
use prost::Message;
use tokio::{
    io::{AsyncWriteExt, BufReader},
    runtime::Runtime,
    time,
};
use tonic::{Code, Status, body::Body, transport::Channel};
use tower::ServiceExt;
use watchword::api::pb::{ChallengePurpose, CreateChallengeRequest, IntrospectTokenRequest, LoginRequest};

use crate::{
    Plan,
    bare::Kind,
    calls::{CONCURRENCY, Client, Load, Loop, PASSWORD, Tally, login, user},
    frames::{END_STREAM, HEADERS, SETTINGS, begun, call, frame, next_frame},
    report::{
        Gate::{AtLeast, AtMost},
        Report,
    },
    schedule::{Calls, End, Schedule, on_own_runtime},
    server::{Server, cpu_of_threads, scratch},
};

const LOGIN: &str = "/watchword.auth.v1.Auth/Login";

/// A login without a username, as a gRPC message.
const NO_USERNAME: [u8; 5] = [0; 5];

/// The connections of each flood of refused calls.
const CONNECTIONS: [usize; 3] = [1, 8, 100];

/// The time before the measurement, in which a flood uses up the refused calls that are free at once.
const BURST: Duration = Duration::from_secs(2);

/// Refused calls that are under way on one connection.
const IN_FLIGHT: usize = 100;

/// Oversized passwords, and honest logins beside them, a second.
const OVERSIZED_RATE: f64 = 1_000.0;
const HONEST_RATE: f64 = 50.0;

/// One connection with so many refused calls would be read slower.
const OVERSIZED_CONNECTIONS: usize = 4;

/// Users log in more often than a user does.
const SERVER: [&str; 4] = ["--store", "memory:", "--throttle-attempts-per-account", "1000000/1s"];

pub(crate) fn measure(plan: &Plan, runtime: &Runtime, report: &mut Report) {
    let folder = scratch();
    let server = Server::start_on(folder.path(), &SERVER);
    let load = Load::register_and_connect(runtime, &server, CONCURRENCY as u64);
    load.login(plan.arm);
    measure_refused(plan, &server, &load, report);
    measure_oversized(plan, &server, report);
    measure_challenges(plan, runtime, &load, report);
}

// === refused calls ===

/// Logins per second, and refused calls per second.
struct Flooded {
    logins: f64,
    refused: f64,
}

fn measure_refused(plan: &Plan, server: &Server, load: &Load<'_>, report: &mut Report) {
    let mut controls = Vec::new();
    let mut rounds: [Vec<(f64, Flooded)>; CONNECTIONS.len()] = Default::default();
    for number in 1..=plan.floods {
        println!("floods: repetition {number} of {}", plan.floods);
        let mut before = load.login(plan.storm).rate();
        for (rounds, connections) in rounds.iter_mut().zip(CONNECTIONS) {
            let flooded = login_beside(server, load, connections, plan.storm);
            let after = load.login(plan.storm).rate();
            controls.push(after / before);
            rounds.push((f64::midpoint(before, after), flooded));
            before = after;
        }
    }
    report.show("logins/s after a flood / before (control)", "", controls);
    for (rounds, connections) in rounds.iter().zip(CONNECTIONS) {
        let name = format!("logins/s in a flood on {connections} connections / calm");
        let ratios = rounds.iter().map(|(calm, flooded)| flooded.logins / calm).collect();
        report.gate(name, "", AtLeast(0.8, 0.95), ratios);
        let refused = rounds.iter().map(|(_, flooded)| flooded.refused).collect();
        report.show(format!("refused calls on {connections} connections"), "/s", refused);
    }
    report.show("logins, calm", "/s", rounds.iter().flatten().map(|(calm, _)| *calm).collect());
}

fn login_beside(server: &Server, load: &Load<'_>, connections: usize, time: Duration) -> Flooded {
    thread::scope(|scope| {
        let flood = scope.spawn(|| on_own_runtime(refused(server, connections, time)));
        thread::sleep(BURST);
        let logins = load.login(time).rate();
        let refused = flood.join().expect("the flood does not panic");
        Flooded { logins, refused: refused as f64 / time.as_secs_f64() }
    })
}

/// The answers to a flood of refused calls in `time`, after its burst.
async fn refused(server: &Server, connections: usize, time: Duration) -> u64 {
    let answered = AtomicU64::new(0);
    let mut flood = pin!(join_all((0..connections).map(|_| refused_on_one_connection(server, &answered))));
    // The flood has no end of its own.
    drop(time::timeout(BURST, &mut flood).await);
    let in_burst = answered.load(Ordering::Relaxed);
    drop(time::timeout(time, &mut flood).await);
    answered.load(Ordering::Relaxed) - in_burst
}

/// Raw frames: a client library would take more of the cores than the server does.
async fn refused_on_one_connection(server: &Server, answered: &AtomicU64) {
    let (from_server, mut to_server) = begun(server.socket(), &frame(SETTINGS, 0, 0, &[])).await.into_split();
    let (mut from_server, mut streams) = (BufReader::new(from_server), (1..).step_by(2));
    loop {
        let calls = streams.by_ref().take(IN_FLIGHT).flat_map(|stream| call(stream, LOGIN, &[], &NO_USERNAME));
        to_server.write_all(&calls.collect::<Vec<_>>()).await.expect("the connection stays open");
        let mut left = IN_FLIGHT;
        while left > 0 {
            let frame = next_frame(&mut from_server).await.expect("the connection stays open");
            if frame.kind == HEADERS && frame.flags & END_STREAM != 0 {
                left -= 1;
                answered.fetch_add(1, Ordering::Relaxed);
            }
        }
    }
}

// === oversized passwords ===

/// Passwords that are refused before a hash: a name, and the password. The last fits the message limit.
fn oversized() -> [(&'static str, String); 3] {
    let marks = |count: usize| format!("e{}", "\u{316}\u{301}".repeat(count / 2));
    [
        ("a password of 4 MiB", "x".repeat(4 * 1024 * 1024)),
        ("100 000 combining marks", marks(100_000)),
        ("7 000 combining marks", marks(7_000)),
    ]
}

/// The measurements of one repetition of a flood of oversized passwords.
struct Oversized {
    /// Microseconds of the server for each call, with all of its threads and without other calls.
    cpu: f64,
    /// Calls per second.
    rate: f64,
    /// Honest logins without a flood, and beside it.
    logins: [Calls; 2],
    flood: Calls,
}

fn measure_oversized(plan: &Plan, server: &Server, report: &mut Report) {
    for (name, password) in oversized() {
        let message = framed(&LoginRequest { username: user(0), password, ..Default::default() });
        let mut done = Vec::new();
        for number in 1..=plan.floods {
            println!("{name}: repetition {number} of {}", plan.floods);
            done.push(flood_with(server, &message, plan.storm));
        }
        let each = |figure: fn(&Oversized) -> f64| done.iter().map(figure).collect::<Vec<_>>();
        report.gate(format!("{name}: server CPU, a call"), "us", AtMost(1_000.0, 200.0), each(|r| r.cpu));
        let p99 = |calls: &Calls| calls.millis(End::is_success, 0.99);
        let ratios = done.iter().map(|r| p99(&r.logins[1]) / p99(&r.logins[0])).collect();
        report.gate(format!("{name}: p99 of logins / idle"), "", AtMost(2.0, 1.2), ratios);
        report.show(format!("{name}: p99 of logins, idle"), "ms", done.iter().map(|r| p99(&r.logins[0])).collect());
        report.show(format!("{name}: calls"), "/s", each(|r| r.rate));
        for round in &done {
            report.note(format!("{name}: {}; logins: {}", round.flood.ends(), round.logins[1].ends()));
        }
    }
}

fn flood_with(server: &Server, message: &Bytes, time: Duration) -> Oversized {
    let honest = || on_own_runtime(log_in(server, Schedule { rate: HONEST_RATE, time }));
    let flood = || on_own_runtime(refuse(server, message, Schedule { rate: OVERSIZED_RATE, time }));
    let before = cpu_of_threads(server.id(), |_| true);
    let alone = flood();
    let cpu = cpu_of_threads(server.id(), |_| true).saturating_sub(before);
    let rate = alone.all.len() as f64 / alone.start.elapsed().as_secs_f64();
    let idle = honest();
    let (busy, flood) = thread::scope(|scope| {
        let flood = scope.spawn(flood);
        (honest(), flood.join().expect("the flood does not panic"))
    });
    Oversized { cpu: cpu.as_secs_f64() * 1e6 / alone.all.len() as f64, rate, logins: [idle, busy], flood }
}

/// Honest logins.
async fn log_in(server: &Server, schedule: Schedule) -> Calls {
    let client = Client::new(server.channel().await);
    schedule.run(|number| login(client.clone(), user(number as u64 % CONCURRENCY as u64))).await
}

/// Logins with a message that is sent as it is. A refusal is the success of such a call.
async fn refuse(server: &Server, message: &Bytes, schedule: Schedule) -> Calls {
    let mut channels = Vec::new();
    for _ in 0..OVERSIZED_CONNECTIONS {
        channels.push(server.channel().await);
    }
    let call = |number: usize| refused_message(channels[number % channels.len()].clone(), message.clone());
    schedule.run(call).await
}

async fn refused_message(channel: Channel, message: Bytes) -> Result<(), Status> {
    let request = http::Request::post(LOGIN).header("content-type", "application/grpc").header("te", "trailers");
    let request = request.body(Body::new(Full::new(message))).expect("the request is valid");
    let answer = channel.oneshot(request).await.map_err(|cause| Status::unavailable(cause.to_string()))?;
    match Status::from_header_map(answer.headers()) {
        Some(refusal) if matches!(refusal.code(), Code::ResourceExhausted | Code::InvalidArgument) => Ok(()),
        other => Err(other.unwrap_or_else(|| Status::unknown("not refused"))),
    }
}

/// A message as gRPC sends it.
fn framed(message: &LoginRequest) -> Bytes {
    let mut bytes = BytesMut::new();
    bytes.put_u8(0);
    bytes.put_u32(message.encoded_len().try_into().expect("less than 4 GiB"));
    message.encode(&mut bytes).expect("the buffer grows");
    bytes.freeze()
}

// === challenges ===

fn measure_challenges(plan: &Plan, runtime: &Runtime, load: &Load<'_>, report: &mut Report) {
    let bare = Server::spawn(Kind::Bare.command());
    let bare = Load::connect(runtime, &bare, 0);
    let forged = runtime.block_on(forged_solution(load.client()));
    let mut done: Vec<[Loop; 3]> = Vec::new();
    for number in 1..=plan.floods {
        println!("challenges: repetition {number} of {}", plan.floods);
        let forged = forged.clone();
        done.push([
            bare.closed_loop(plan.arm, |mut client, _| async move {
                client.introspect_token(IntrospectTokenRequest::default()).await.map(drop)
            }),
            load.closed_loop(plan.arm, |client, _| async move { challenge(client).await.map(drop) }),
            load.closed_loop(plan.arm, move |client, _| refused_solution(client, forged.clone())),
        ]);
    }
    let each = |arm: usize, figure: fn(&Loop) -> f64| done.iter().map(|r| figure(&r[arm])).collect::<Vec<_>>();
    report.show("server CPU, a bare call", "us", each(0, Loop::server_micros));
    report.show("server CPU, a challenge", "us", each(1, Loop::server_micros));
    let beside_the_protocol = done.iter().map(|r| r[1].server_micros() - r[0].server_micros()).collect();
    report.gate("server CPU, a challenge beside a bare call", "us", AtMost(20.0, 10.0), beside_the_protocol);
    report.show("challenges", "/s", each(1, Loop::rate));
    report.show("server CPU, a forged solution", "us", each(2, Loop::server_micros));
    report.gate("CPU of hash workers, a forged solution", "us", AtMost(1.0, 1.0), each(2, Loop::hash_micros));
    report.show("forged solutions", "/s", each(2, Loop::rate));
    for (arm, name) in ["bare calls", "challenges", "forged solutions"].into_iter().enumerate() {
        report.note(format!("{name}: {}", done.iter().map(|r| &r[arm].tally).sum::<Tally>()));
    }
}

/// A new challenge for a login of any account, as JSON.
async fn challenge(mut client: Client) -> Result<String, Status> {
    let request = CreateChallengeRequest { purpose: ChallengePurpose::Login.into(), username: String::new() };
    Ok(client.create_challenge(request).await?.into_inner().challenge)
}

/// A solution of a challenge that the server has not signed.
async fn forged_solution(client: Client) -> String {
    let challenge = challenge(client).await.expect("the server creates challenges");
    let mut challenge: Challenge = serde_json::from_str(&challenge).expect("a challenge is JSON");
    challenge.parameters.nonce = "00".repeat(16);
    let derived_key = format!("000{}", "f".repeat(61));
    let payload = Payload { challenge, solution: Solution { counter: 0, derived_key, time: None } };
    STANDARD.encode(serde_json::to_string(&payload).expect("a solution is JSON"))
}

/// A login with a forged solution. The refusal is the success of such a call.
async fn refused_solution(mut client: Client, challenge_solution: String) -> Result<(), Status> {
    let request = LoginRequest { username: user(0), password: PASSWORD.into(), challenge_solution };
    match client.login(request).await {
        Err(refusal) if refusal.code() == Code::FailedPrecondition => Ok(()),
        Err(other) => Err(other),
        Ok(_) => Err(Status::unknown("not refused")),
    }
}
