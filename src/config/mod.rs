//! Every setting once: its flag, variable, default, range and meaning.
//!
//! `flags/` has the flags under the headings of `--help`, and which command reads which. A flag overrides its `WATCHWORD_…`
//! variable. `conflicts.rs` checks what clap cannot check alone, such as two settings that exclude each other, and
//! `checked.rs` turns valid settings into a [`Config`]. `listing.rs` lists them all: for `check-config`, and for the
//! reference in the documents.

mod checked;
mod conflicts;
mod flags;
mod listing;

pub use self::{
    checked::{Config, ConfigError},
    flags::{
        AbuseArgs, AdminAddr, AdminClientArgs, AdminListenerArgs, Challenge, Command, CommandLine, DataDirArgs,
        GrpcListenerArgs, HttpListenerArgs, Level, ListenerArgs, LogArgs, LoggingArgs, OpsListenerArgs, OrOff,
        RedisArgs, ResourceArgs, Settings, ShutdownArgs, SiteArgs, StoreAccessArgs, StoreArgs, StoreUrl, Switch,
        TokenArgs, UserArgs, UserCommand, When, Workers,
    },
    listing::{Setting, Source, settings_table, settings_with_sources, unknown_variables},
};
