//! Brute force, proof of work, enumeration by time, floods, and hostile input.

mod brute_force;
mod enumeration_timing;
mod floods;
mod fuzz;
mod hostile_text;
mod proof_of_work;
