//! Proof of work: T38 (ALTCHA's own solvers), T39 (no solution is accepted twice, late, tampered or wrong), T40 (a flood costs
//! the server nothing) and T11 for challenges.
//!
//! The tests request challenges and send solutions through the APIs. The work is cheap, except for ALTCHA's own solvers.

mod challenges;
mod forged_solutions;
mod replay;

use altcha::{Challenge, Payload, Solution, SolveChallengeOptions, solve_challenge};
use base64::{Engine, engine::general_purpose::STANDARD};
use serde_json::Value;
use tonic::Code;
use watchword::api::pb;

use crate::support::{Answer, App, Setup, StoreKind, reason};

/// The purposes of a challenge, each with its name.
pub const REGISTER: (pb::ChallengePurpose, &str) = (pb::ChallengePurpose::Register, "register");
pub const LOGIN: (pb::ChallengePurpose, &str) = (pb::ChallengePurpose::Login, "login");

fn with_challenges(kind: StoreKind) -> Setup {
    App::with(kind).args(&["--challenge", "both"])
}

/// A challenge from the gRPC API.
async fn challenge(app: &App, (purpose, _): (pb::ChallengePurpose, &str)) -> Challenge {
    let request = pb::CreateChallengeRequest { purpose: purpose.into(), ..Default::default() };
    let answer = app.client().await.create_challenge(request).await.unwrap().into_inner();
    serde_json::from_str(&answer.challenge).unwrap()
}

fn solved(challenge: &Challenge) -> Solution {
    solve_challenge(SolveChallengeOptions::new(challenge)).unwrap().expect("the work is cheap")
}

fn payload(challenge: &Challenge, solution: &Solution) -> Value {
    serde_json::to_value(Payload { challenge: challenge.clone(), solution: solution.clone() }).unwrap()
}

fn encoded(payload: &Value) -> String {
    STANDARD.encode(payload.to_string())
}

/// A valid solution for `purpose`.
pub async fn solution(app: &App, purpose: (pb::ChallengePurpose, &str)) -> String {
    let challenge = challenge(app, purpose).await;
    encoded(&payload(&challenge, &solved(&challenge)))
}

/// Whether the answer requires a proof of work.
fn is_required(answer: &Answer) -> bool {
    match answer {
        Answer::Ok { .. } => false,
        Answer::Grpc(status) => status.code() == Code::FailedPrecondition && reason(status) == "CHALLENGE_REQUIRED",
        Answer::Http { status, text, .. } => *status == 400 && text.starts_with("send the solution of a challenge"),
    }
}

/// Whether the answer says that the proof of work is invalid.
fn is_invalid(answer: &Answer) -> bool {
    match answer {
        Answer::Ok { .. } => false,
        Answer::Grpc(status) => status.code() == Code::FailedPrecondition && reason(status) == "CHALLENGE_INVALID",
        Answer::Http { status, text, .. } => *status == 400 && text.contains("challenge"),
    }
}
