//! Abuse: brute force, simulated attacks, proof of work, enumeration by timing, floods, shares of the hash queue, cancelled
//! calls, and hostile input.

mod attacked_account;
mod attacks;
pub mod brute_force;
mod cancelled_calls;
mod enumeration_timing;
mod floods;
mod fuzz;
mod hostile_text;
pub mod proof_of_work;
mod queue_shares;
