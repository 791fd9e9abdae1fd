//! Flags of user records: the password policy, how passwords are hashed, and the size of user data.

use std::{
    io::Read,
    path::{Path, PathBuf},
};

use clap::Args;

use super::values::number_between;
use crate::{
    common::files,
    domain::password::{BLOCKLIST_BYTES_MAX, Blocklist, ContextWord, Cost},
};

/// Users and passwords.
#[derive(Debug, Clone, Args)]
#[command(next_help_heading = "Users and passwords")]
pub struct UserArgs {
    /// Minimum length of a new password, in characters (8 to 64). NIST requires 15 where the password is the only factor
    #[arg(long, env = "WATCHWORD_PASSWORD_MIN_LENGTH", value_name = "CHARACTERS", default_value_t = 8,
          value_parser = |text: &str| number_between::<u16>(text, 8, 64))]
    pub password_min_length: u16,

    /// File of passwords to refuse, one per line, in any case; at most 32 MiB, which are kept in memory. The 10000 most
    /// common passwords are refused without it
    #[arg(long, env = "WATCHWORD_PASSWORD_BLOCKLIST_FILE", value_name = "FILE")]
    pub password_blocklist_file: Option<PathBuf>,

    /// Words that an attacker would try at this service, such as the name of the company; separated by commas, at most 100. A
    /// password that is made of such words, once or repeated, with any digits and punctuation between and around them, is
    /// refused. The username and `watchword` are always refused
    #[arg(long, env = "WATCHWORD_PASSWORD_CONTEXT_WORDS", value_name = "WORDS", value_delimiter = ',',
          value_parser = ContextWord::parse)]
    pub password_context_words: Vec<ContextWord>,

    /// Memory of a new password hash (Argon2id), in KiB (19456 to 262144). Each of --hash-workers keeps as much. A login gives
    /// an older hash that is weaker the new cost; a stronger one stays as it is
    #[arg(long, env = "WATCHWORD_ARGON2_MEMORY_KIB", value_name = "KIB", default_value_t = Cost::DEFAULT.memory_kib,
          value_parser = |text: &str| number_between::<u32>(text, Cost::DEFAULT.memory_kib, Cost::MAX.memory_kib))]
    pub argon2_memory_kib: u32,

    /// Passes over that memory (2 to 16)
    #[arg(long, env = "WATCHWORD_ARGON2_PASSES", value_name = "COUNT", default_value_t = Cost::DEFAULT.passes,
          value_parser = |text: &str| number_between::<u32>(text, Cost::DEFAULT.passes, Cost::MAX.passes))]
    pub argon2_passes: u32,

    /// Lanes of that memory (1 to 16), computed one after the other: more of them do not make a hash stronger
    #[arg(long, env = "WATCHWORD_ARGON2_LANES", value_name = "COUNT", default_value_t = Cost::DEFAULT.lanes,
          value_parser = |text: &str| number_between::<u32>(text, Cost::DEFAULT.lanes, Cost::MAX.lanes))]
    pub argon2_lanes: u32,

    /// File with the pepper keys that password hashes need beside the store, one per line: 64 hexadecimal digits; retired and
    /// the id of a key that is not needed any more; or, as the first entry, plain: new hashes have no key yet. The first key
    /// makes new hashes, all of them verify. Default: no pepper
    #[arg(long, env = "WATCHWORD_PEPPER_KEY_FILE", value_name = "FILE")]
    pub pepper_key_file: Option<PathBuf>,

    /// Maximum size of the data of a user, in bytes (0 to 12288)
    #[arg(long, env = "WATCHWORD_DATA_MAX_BYTES", value_name = "BYTES", default_value_t = 8_192,
          value_parser = |text: &str| number_between::<u16>(text, 0, 12_288))]
    pub data_max_bytes: u16,
}

impl UserArgs {
    /// The cost of a new hash.
    pub(in crate::config) fn cost(&self) -> Cost {
        Cost { memory_kib: self.argon2_memory_kib, passes: self.argon2_passes, lanes: self.argon2_lanes }
    }

    /// The blocklist of the operator; empty when no file is named.
    pub(in crate::config) fn blocklist(&self) -> Result<Blocklist, String> {
        let Some(path) = &self.password_blocklist_file else { return Ok(Blocklist::default()) };
        let list = read_limited(path).and_then(Blocklist::parse);
        list.map_err(|fault| format!("--password-blocklist-file {}: {fault}", path.display()))
    }
}

/// Reads at most one byte more than the limit: that is enough to refuse the file.
fn read_limited(path: &Path) -> Result<Vec<u8>, String> {
    let file = files::open_named(path).map_err(|cause| cause.to_string())?;
    let length = file.metadata().map_or(0, |found| found.len()).min(BLOCKLIST_BYTES_MAX as u64);
    // Enough for the whole file: the allocator copies a text that grows, which would need three times its memory.
    let mut bytes = Vec::with_capacity(usize::try_from(length).unwrap_or_default() + 1);
    file.take(BLOCKLIST_BYTES_MAX as u64 + 1).read_to_end(&mut bytes).map_err(|cause| cause.to_string())?;
    Ok(bytes)
}
