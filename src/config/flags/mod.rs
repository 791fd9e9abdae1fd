//! The flags: names, variables, defaults, ranges and help texts, as clap reads them.
//!
//! One struct for each heading of `--help`, in the order of [`Settings`]. A command flattens the structs that it reads, and
//! so it shows and accepts their flags and no other (`command.rs`). It does not know which settings exclude each other: that
//! is `config/conflicts.rs`.

mod abuse;
mod command;
mod listeners;
mod logging;
mod parse;
mod resources;
mod store;
mod tokens;
mod users;
mod values;

use clap::Args;

pub use self::{
    abuse::{AbuseArgs, Challenge},
    command::{Command, UserCommand},
    listeners::{
        AdminAddr, AdminListenerArgs, GrpcListenerArgs, HttpListenerArgs, ListenerArgs, OpsListenerArgs, OrOff,
        SiteArgs,
    },
    logging::{Level, LogArgs, LoggingArgs},
    parse::CommandLine,
    resources::{ResourceArgs, ShutdownArgs, Workers},
    store::{DataDirArgs, RedisArgs, StoreAccessArgs, StoreArgs, StoreUrl},
    tokens::TokenArgs,
    users::UserArgs,
    values::{Switch, When},
};

/// All settings of the service.
#[derive(Debug, Clone, Args)]
#[expect(missing_docs, reason = "the types say it")]
pub struct Settings {
    #[command(flatten)]
    pub listeners: ListenerArgs,
    #[command(flatten)]
    pub store: StoreArgs,
    #[command(flatten)]
    pub users: UserArgs,
    #[command(flatten)]
    pub tokens: TokenArgs,
    #[command(flatten)]
    pub abuse: AbuseArgs,
    #[command(flatten)]
    pub logging: LoggingArgs,
    #[command(flatten)]
    pub resources: ResourceArgs,
    #[command(flatten)]
    pub shutdown: ShutdownArgs,
}

/// What the admin commands read: where the admin API of a running node listens.
#[derive(Debug, Clone, PartialEq, Eq, Args)]
#[expect(missing_docs, reason = "the types say it")]
pub struct AdminClientArgs {
    #[command(flatten)]
    pub listener: AdminListenerArgs,
    #[command(flatten)]
    pub data: DataDirArgs,
}
