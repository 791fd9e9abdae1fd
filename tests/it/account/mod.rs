//! Accounts: registration, logins, passwords, reset codes, and what operators do.

mod admin_api;
mod admin_users;
mod login;
mod passwords;
mod races;
mod register;
mod reset_password;
mod run_to_completion;
