//! Accounts: registration, login, passwords, reset codes, and the admin API.

mod admin_api;
mod admin_users;
mod login;
mod look_alikes;
mod password_hashes;
mod password_policy;
mod pepper;
mod register;
mod registration_races;
mod reset_password;
mod spellings;
