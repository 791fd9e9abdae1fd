//! The commands of the binary, each with the flags that it reads and no other.

use clap::Subcommand;

use super::{
    AdminClientArgs, GrpcListenerArgs, HttpListenerArgs, LogArgs, OpsListenerArgs, RedisArgs, ResourceArgs, Settings,
    StoreAccessArgs, StoreUrl, UserArgs, store::StoreUrlParser, values::number_between,
};

/// What the binary can do. The flags of a command alone come before the settings, or clap puts them under the heading of the
/// last one.
#[derive(Debug, Clone, Subcommand)]
pub enum Command {
    /// Start the service (the default)
    Serve(Box<Settings>),
    /// Print every setting and its source, check them and the store, and change nothing
    #[command(after_help = "Exit code: 0 when the service could start, 1 when not.\n")]
    CheckConfig {
        /// Print one JSON object instead of a table
        #[arg(long)]
        json: bool,
        /// The settings to check.
        #[command(flatten)]
        settings: Box<Settings>,
    },
    /// Ask a running node whether it is ready
    #[command(after_help = "Exit code: 0 when the node is ready, 1 when not.\n")]
    Healthcheck(OpsListenerArgs),
    /// Show a user of a running node, or change the state of the account
    User {
        /// The node.
        #[command(flatten)]
        node: AdminClientArgs,
        /// The action.
        #[command(subcommand)]
        action: UserCommand,
    },
    /// Create the next signing key of a running node; it signs ten minutes later
    RotateSigningKey {
        /// For a stolen key ring: all keys and secrets are replaced at once, and nothing made with the old ones is accepted
        #[arg(long)]
        drop_old_keys: bool,
        /// The node.
        #[command(flatten)]
        node: AdminClientArgs,
    },
    /// Copy every user from one store to another, while no node uses either; can be repeated
    Copy {
        /// Store to read
        #[arg(long, value_name = "URL", value_parser = StoreUrlParser)]
        from: StoreUrl,
        /// Store to write. A user that exists there and differs is reported and left unchanged
        #[arg(long, value_name = "URL", value_parser = StoreUrlParser)]
        to: StoreUrl,
        /// How both are reached.
        #[command(flatten)]
        access: StoreAccessArgs,
        /// The log.
        #[command(flatten)]
        log: LogArgs,
    },
    /// Measure on a temporary node whether response times reveal what the responses hide
    #[command(
        after_help = "Exit code: 0 when no difference is found, 1 when one is found, 2 when this machine is too noisy to tell.\n"
    )]
    Selftest {
        /// Measure the time of refused logins and password resets
        #[arg(long, required = true)]
        timing: bool,
        /// Calls of each kind (20 to 100000); more calls find smaller differences
        #[arg(long, value_name = "COUNT", default_value_t = 500, value_parser = |text: &str| number_between::<u32>(text, 20, 100_000))]
        samples: u32,
        /// Store of the node: embedded: (a temporary folder), or redis://… with an empty database of its own, which is emptied
        /// afterwards
        #[arg(long, value_name = "URL", default_value = "embedded:", value_parser = StoreUrlParser, help_heading = "Store")]
        store: StoreUrl,
        /// How Redis is reached.
        #[command(flatten)]
        redis: RedisArgs,
        /// The password policy, which decides what a refused reset costs, and how passwords are hashed.
        #[command(flatten)]
        users: Box<UserArgs>,
        /// The hash workers, which decide how long a login takes.
        #[command(flatten)]
        resources: ResourceArgs,
    },
    /// Print example calls for grpcurl and curl
    Examples {
        /// Where gRPC is called.
        #[command(flatten)]
        grpc: GrpcListenerArgs,
        /// Where HTTP is called.
        #[command(flatten)]
        http: HttpListenerArgs,
    },
    /// Write the descriptor set to standard output, for grpcurl -protoset
    Descriptor,
}

/// What an operator does with a user. A username is accepted in every spelling of the same name.
#[derive(Debug, Clone, PartialEq, Eq, Subcommand)]
pub enum UserCommand {
    /// Print a user and the state of the account
    Show {
        /// Username
        #[arg(required_unless_present = "id", conflicts_with = "id")]
        name: Option<String>,
        /// User id, instead of the username
        #[arg(long)]
        id: Option<String>,
        /// Print one JSON object instead of lines
        #[arg(long)]
        json: bool,
    },
    /// Refuse the logins of a user and end all sessions
    Disable {
        /// Username
        name: String,
    },
    /// Allow the logins of a disabled user again
    Enable {
        /// Username
        name: String,
    },
    /// Reset the count of consecutive failed attempts, which ends a lockout
    Unlock {
        /// Username
        name: String,
    },
    /// End all sessions of a user, or of all users; they can log in again
    Revoke {
        /// Username
        #[arg(required_unless_present = "all_users", conflicts_with = "all_users")]
        name: Option<String>,
        /// All users, instead of one
        #[arg(long)]
        all_users: bool,
    },
    /// Print a code with which the user sets a new password; valid once, for 10 minutes
    ResetCode {
        /// Username
        name: String,
        /// For a password that may be known to others: refuse it from now on and end all sessions
        #[arg(long)]
        require_reset: bool,
    },
}
