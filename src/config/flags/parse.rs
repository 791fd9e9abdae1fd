//! Reads a command line: `watchword [FLAGS] [COMMAND [FLAGS]]`.
//!
//! Without a command, the flags are those of `serve`. Flags before a command belong to it, so that
//! `watchword --data-dir DIR user show NAME` works. A flag that the command does not read is refused by name. The
//! environment is different: a container sets the variables of the service for every command in it, so a command ignores
//! the variables that it does not read, whatever their values.

use std::ffi::OsString;

use clap::{
    Arg, ArgAction, Args, Command as Parser, FromArgMatches, Subcommand,
    error::{ContextKind, ContextValue, Error, ErrorKind},
};

use super::{Command, Settings};

const ABOUT: &str = "A gRPC authentication microservice: register users and sign them in.";

/// Explains the names of values that a command reads.
const VALUE_NOTES: [(&str, &str); 2] = [
    ("TIME", "TIME is a number with a unit, such as 800ms, 10s, 5m, 1h or 30d."),
    ("RATE", "RATE is COUNT/TIME: COUNT at once, and COUNT more, evenly, in each further TIME."),
];

/// A command line that was read.
#[derive(Debug, Clone)]
pub struct CommandLine {
    /// What to do, and with which settings.
    pub command: Command,
    /// The matches of the command, which say where each value comes from.
    pub matches: clap::ArgMatches,
}

impl CommandLine {
    /// Reads `args`, the first of which is the name of the program, and the environment.
    pub fn parse(args: impl IntoIterator<Item = impl Into<OsString>>) -> Result<Self, Error> {
        let args = without_help_command(args.into_iter().map(Into::into).collect());
        let Some((name, args)) = with_command_first(&args) else {
            // Errors, --help and --version of the whole program come here too.
            let matches = Self::parser().try_get_matches_from(args)?;
            let command = Command::Serve(Box::new(Settings::from_arg_matches(&matches)?));
            return Ok(Self { command, matches });
        };
        let matches = with_help(program()).try_get_matches_from(args).map_err(|error| unread(error, &name))?;
        let command = Command::from_arg_matches(&matches)?;
        let matches = matches.subcommand().expect("a command was read").1.clone();
        Ok(Self { command, matches })
    }

    /// The whole program: all settings and all commands.
    fn parser() -> Parser {
        with_help(Settings::augment_args(program()).about(ABOUT).subcommand_required(false))
    }
}

impl Settings {
    /// The settings of a node for which no flag and no variable is set.
    pub(in crate::config) fn defaults() -> Self {
        let parser = Settings::augment_args(Parser::new("defaults")).mut_args(|arg| arg.env(None::<&str>));
        let matches = parser.try_get_matches_from(["defaults"]).expect("every setting is optional");
        Self::from_arg_matches(&matches).expect("every default is valid")
    }
}

/// The program with its commands, and without settings of its own.
fn program() -> Parser {
    let program = Parser::new("watchword").version(env!("CARGO_PKG_VERSION")).about(ABOUT);
    // The flags of `user` are accepted before and after the action.
    let both_sides = |user: Parser| user.mut_args(|arg| arg.global(true));
    Command::augment_subcommands(program).subcommand_required(true).mut_subcommand("user", both_sides)
}

/// One form of help for every command: a flag and its meaning on lines of their own, then notes that hold for all.
fn with_help(command: Parser) -> Parser {
    let has_value = |name: &str| {
        let mut names = command.get_arguments().filter_map(Arg::get_value_names).flatten();
        names.any(|value| value.as_str() == name)
    };
    let mut notes: Vec<String> = command.get_after_help().map(ToString::to_string).into_iter().collect();
    if let Some(setting) = command.get_arguments().find(|arg| arg.get_env().is_some()) {
        let (flag, variable) = (setting.get_long().unwrap_or_default(), setting.get_env().unwrap_or_default());
        notes.push(format!(
            "Each setting also has an environment variable: --{flag} is {}. A flag overrides its variable.",
            variable.display()
        ));
    }
    notes.extend(VALUE_NOTES.iter().filter(|(name, _)| has_value(name)).map(|(_, note)| (*note).to_owned()));
    let help = Arg::new("help").short('h').long("help").action(ArgAction::HelpShort).help("Print help");
    let help = help.help_heading(None::<&str>);
    command
        .after_help(notes.join("\n"))
        .disable_help_flag(true)
        .arg(help)
        .mut_args(|arg| arg.hide_env(true).next_line_help(true))
        .mut_subcommands(with_help)
}

/// `help COMMAND` becomes `COMMAND --help`, because clap formats the help of its own command in another way.
fn without_help_command(args: Vec<OsString>) -> Vec<OsString> {
    match &args[..] {
        [program, help, command @ ..] if help == "help" => {
            let flag = OsString::from("--help");
            let command = command.iter().filter(|name| *name != "help");
            [program].into_iter().chain(command).chain([&flag]).cloned().collect()
        }
        _ => args,
    }
}

/// The name of the command in `args`, and `args` with the flags before it moved behind it; nothing when there is no command.
fn with_command_first(args: &[OsString]) -> Option<(String, Vec<OsString>)> {
    let flags = Settings::augment_args(Parser::new("watchword"))
        .mut_args(|arg| arg.env(None::<&str>))
        .disable_help_flag(true)
        .disable_help_subcommand(true)
        .allow_external_subcommands(true);
    let matches = flags.try_get_matches_from(args).ok()?;
    let (name, rest) = matches.subcommand()?;
    let rest = rest.get_raw("").map_or(0, Iterator::count);
    let (program, args) = args.split_first()?;
    let (before, from_command) = args.split_at(args.len() - rest - 1);
    let (command, after) = from_command.split_first()?;
    let moved = [program, command].into_iter().chain(before).chain(after);
    Some((name.to_owned(), moved.cloned().collect()))
}

/// A flag of the service at a command that does not read it: clap would call it unexpected, or propose a value of that name.
fn unread(error: Error, command: &str) -> Error {
    let Some(ContextValue::String(flag)) = error.get(ContextKind::InvalidArg) else { return error };
    let settings = Settings::augment_args(Parser::new("settings"));
    let is_setting = settings.get_arguments().any(|arg| arg.get_long() == flag.strip_prefix("--"));
    if error.kind() != ErrorKind::UnknownArgument || !is_setting {
        return error;
    }
    let text =
        format!("`watchword {command}` does not read {flag}; `watchword {command} --help` lists what it reads\n");
    Error::raw(ErrorKind::UnknownArgument, text)
}
