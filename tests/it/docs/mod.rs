//! The documents: README, every page under `docs/`, and `deploy/README.md`.
//!
//! Links lead somewhere, every command block runs in the order of its page, and reference tables agree with the code.
//! The pages say nothing about the tests but two things: an HTML comment above a block that cannot run here, and the
//! comments `# prints: TEXT`, `# fails: TEXT` and `# Ctrl-C ...`, which the reader needs too.

mod commands;
mod links;
mod page;
mod reference;

use self::page::Page;
