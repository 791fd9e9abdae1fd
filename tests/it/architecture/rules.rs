//! The rules in figures and names, the list of checks that only print, and every exception with its reason.

/// What is checked. The order is that of the report.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Check {
    /// Every file parses and is reached by a `mod` item.
    Read,
    /// Every folder has a row in the map of `lib.rs`, and every row a folder.
    Map,
    /// A folder uses only what its row in the map allows.
    Imports,
    /// A folder uses no crate that it must not know.
    Outside,
    /// The components of `domain` form no circle.
    DomainComponents,
    /// The files of `domain` form no circle.
    DomainFiles,
    /// The components of the other folders form no circle.
    OtherComponents,
    /// Every file opens with a sentence, every folder with three lines.
    Opening,
    FunctionLength,
    FileLength,
    FolderSize,
    /// One name, one type.
    TypeNames,
    Facade,
    /// The stages of an attempt are defined in one file.
    Pipeline,
    /// What the recipes of `lib.rs` name exists.
    RecipePaths,
    /// A recipe lists all files that match on its enum.
    RecipeMatches,
    /// The glossary's retired words are gone; `words.rs`.
    RetiredWords,
}

/// Every check of the source tree.
pub const ALL: &[Check] = &[
    Check::Read,
    Check::Map,
    Check::Imports,
    Check::Outside,
    Check::DomainComponents,
    Check::DomainFiles,
    Check::OtherComponents,
    Check::Opening,
    Check::FunctionLength,
    Check::FileLength,
    Check::FolderSize,
    Check::TypeNames,
    Check::Facade,
    Check::Pipeline,
    Check::RecipePaths,
    Check::RecipeMatches,
];

/// The checks that print what they find. The others fail.
pub const PRINTED: &[Check] = &[Check::OtherComponents];

/// Folder -> crates, or paths in crates, that it must not know.
pub const OUTSIDE: &[(&str, &[&str])] = &[
    ("domain", &["tonic", "prost", "axum", "http", "hyper", "tower", "redis", "redb", "clap", "serde"]),
    ("domain", &["std::fs", "std::env", "std::net::TcpStream", "std::net::TcpListener"]),
    // Time comes from `domain::Clock`: a test moves it.
    ("domain", &["tokio::time", "std::thread::sleep"]),
    ("store", &["tonic", "axum", "hyper", "clap"]),
    ("api", &["axum", "redis", "redb", "hyper", "clap"]),
    ("grpc", &["axum", "redis", "redb", "clap"]),
    ("http", &["tonic", "redis", "redb", "clap"]),
    ("net", &["tonic", "axum", "redis", "redb", "clap"]),
    ("telemetry", &["tonic", "axum", "redis", "redb"]),
    ("client", &["axum", "argon2", "redis", "redb", "clap", "std::env"]),
];

pub const FUNCTION_LINES_MAX: usize = 70;
pub const FILE_LINES_MEDIAN_MAX: usize = 170;
pub const FOLDER_ENTRIES_MIN: usize = 4;
pub const FOLDER_ENTRIES_MAX: usize = 12;
pub const FOLDER_OPENING_LINES_MIN: usize = 3;

/// Folder -> why it has fewer or more entries.
pub const FOLDER_SIZE_EXCEPTIONS: &[(&str, &str)] = &[
    ("src/domain", "one folder for each component, and the leaves below them"),
    ("src/domain/authn/factor", "one file for each factor"),
    ("src/domain/gateway", "forward authentication over HTTP will join external authorization here"),
];

/// Type -> why it has several definitions.
pub const TYPE_NAME_EXCEPTIONS: &[(&str, &str)] = &[
    ("Clock", "the client is a crate feature of its own, without `domain`"),
    ("System", "the client is a crate feature of its own, without `domain`"),
];

/// The facade of the rules. The second one, `Admin`, is a component itself, and its methods do the work.
pub const FACADES: &[&str] = &["domain::Auth"];
pub const FACADE_METHODS_MAX: usize = 30;
/// A method of a facade is shorter than this.
pub const FACADE_METHOD_LINES: usize = 15;
pub const FACADE_FILE: &str = "src/domain/mod.rs";
/// Where the facade's `new` puts the components together.
pub const ASSEMBLY_FILE: &str = "src/domain/assemble.rs";

/// The types of an attempt's stages, in their order, and the one file that defines them.
pub const STAGES: &[&str] = &["Attempt", "Begun", "Limited", "Loaded", "Admitted", "Verified"];
pub const STAGES_FILE: &str = "src/domain/authn/attempt.rs";

/// Enums whose recipe must list the files that match on them by name: "`domain::Error`, matched by name in `…`".
pub const RECIPE_ENUMS: &[&str] = &["domain::Error", "domain::Event"];

/// A `match` is exhaustive by name from this many variants of an enum on, or with all of them.
pub const VARIANTS_OF_A_MATCH: usize = 6;
