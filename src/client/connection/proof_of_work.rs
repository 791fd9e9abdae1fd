//! Sends a call that shows a password, or a registration, with proof of work where that opens it.
//!
//! Guarantees that a call computes at most the rounds of its limit, with at most two solutions, outside the threads of the
//! runtime, and that the computation ends when the caller leaves. One connection computes on one core: further calls wait
//! for it, and get their challenge after that. Does not know passwords.

use std::{sync::Arc, thread};

use tokio::sync::{Semaphore, oneshot};
use tonic::{Code, Status};

use super::{
    challenge::{Unsolved, UnsolvedChallenge},
    connect::Client,
    refusal,
    status::error_info,
};
use crate::api::pb::{CreateChallengeRequest, ErrorReason};

/// The default limit of the rounds that one call computes: about 60 s on a core with SHA instructions, 60 times what
/// Watchword asks for by default. It opens an account whose price is five doublings at most.
pub(super) const ROUNDS_MAX: u64 = 500_000_000;

/// A second one, because the first may have expired while it was computed, or another call may have spent it.
const SOLUTIONS_MAX: u32 = 2;

/// The rate limits that a call with proof of work passes. So neither an attack on the account nor the neighbours at the
/// address keep a user out.
const PASSED_LIMITS: [&str; 4] = ["address", "account", "address_and_account", "registrations"];

/// The computations of one connection at the same time.
const SOLVERS_MAX: usize = 1;

/// Whether and how much a connection computes. All clones share it.
#[derive(Debug, Clone)]
pub(super) struct ChallengeSolver {
    /// Rounds for one call. `None`: solves no challenge.
    rounds_max: Option<u64>,
    permits: Arc<Semaphore>,
}

// === impl ChallengeSolver ===

impl ChallengeSolver {
    pub(super) fn new(rounds_max: Option<u64>) -> Self {
        Self { rounds_max, permits: Arc::new(Semaphore::new(SOLVERS_MAX)) }
    }
}

impl Client {
    /// Sends a call without a solution, and again with one where that helps. `challenge` asks for the challenge.
    pub(in crate::client) async fn with_proof_of_work<R, F, C>(
        &self,
        challenge: impl Fn() -> C,
        call: impl Fn(String) -> F,
    ) -> Result<R, Status>
    where
        F: Future<Output = Result<R, Status>>,
        C: Future<Output = Result<CreateChallengeRequest, Status>>,
    {
        let mut response = call(String::new()).await;
        let Some(mut rounds_left) = self.solver().rounds_max else { return response };
        for number in 0..SOLUTIONS_MAX {
            match &response {
                Err(refusal) if is_solvable(refusal, number) => {}
                Ok(_) | Err(_) => return response,
            }
            let solution = self.solution(challenge().await?, &mut rounds_left).await?;
            response = call(solution).await;
        }
        response
    }

    /// Gets a challenge and solves it.
    async fn solution(&self, request: CreateChallengeRequest, rounds_left: &mut u64) -> Result<String, Status> {
        let permit = self.solver().permits.clone().acquire_owned().await.expect("the semaphore is never closed");
        let text = self.auth().create_challenge(request).await?.into_inner().challenge;
        let challenge = UnsolvedChallenge::parse(&text).map_err(refused)?;
        let (sender, solved) = oneshot::channel();
        let mut left = *rounds_left;
        let solver = thread::Builder::new().name("proof-of-work".into()).spawn(move || {
            // The channel closes when the caller leaves.
            let result = challenge.solve(&mut left, || !sender.is_closed());
            drop(permit);
            drop(sender.send((result, left)));
        });
        solver.map_err(|_| {
            refusal::status(Code::Unavailable, ErrorReason::Internal, "no thread for the proof of work")
        })?;
        let (result, left) = solved.await.expect("the solver answers while it is wanted");
        *rounds_left = left;
        result.map_err(refused)
    }
}

/// Whether the call may be admitted with a solution, after so many were sent.
fn is_solvable(refusal: &Status, sent: u32) -> bool {
    let Some(info) = error_info(refusal) else { return false };
    match info.reason.as_str() {
        "CHALLENGE_REQUIRED" | "CHALLENGE_INVALID" => true,
        "RATE_LIMITED" => {
            sent == 0 && info.metadata.get("limit").is_some_and(|limit| PASSED_LIMITS.contains(&limit.as_str()))
        }
        _ => false,
    }
}

fn refused(unsolved: Unsolved) -> Status {
    match unsolved {
        Unsolved::Malformed => refusal::invalid_response(&unsolved.to_string()),
        Unsolved::TooMuchWork(_) | Unsolved::LimitReached | Unsolved::Stopped => {
            refusal::status(Code::FailedPrecondition, ErrorReason::ChallengeRequired, &unsolved.to_string())
        }
    }
}
