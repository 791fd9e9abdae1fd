//! Stores: one contract for all of them, crashes, power loss, Redis faults, copying and sealing.

pub mod contract;
pub mod copy;
mod corrupt;
mod crash;
mod data_folder;
mod embedded;
mod power_loss;
mod redis_faults;
mod redis_start;
mod scan;
mod seal;
