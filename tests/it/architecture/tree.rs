//! A source tree: the repository on the disk, or a few files in memory for tests that plant a violation.

use std::{
    collections::BTreeMap,
    fs,
    path::{Path, PathBuf},
};

/// Paths are relative to the repository: `src/domain/mod.rs`.
#[derive(Clone)]
pub struct Tree {
    /// None for a tree in memory.
    root: Option<PathBuf>,
    files: BTreeMap<String, String>,
}

impl Tree {
    /// Every `.rs` file under `src/`.
    pub fn on_disk() -> Self {
        let root = root();
        let files = text_files(&root.join("src"), "rs").into_iter().collect();
        Self { root: Some(root), files }
    }

    pub fn in_memory(files: &[(&str, &str)]) -> Self {
        let files = files.iter().map(|(path, text)| ((*path).to_owned(), (*text).to_owned())).collect();
        Self { root: None, files }
    }

    pub fn is_on_disk(&self) -> bool {
        self.root.is_some()
    }

    /// The same tree with one file added, or replaced.
    pub fn with(&self, path: &str, text: &str) -> Self {
        let mut tree = self.clone();
        tree.files.insert(path.to_owned(), text.to_owned());
        tree
    }

    pub fn text(&self, path: &str) -> Option<&str> {
        self.files.get(path).map(String::as_str)
    }

    pub fn sources(&self) -> impl Iterator<Item = (&str, &str)> {
        self.files.iter().map(|(path, text)| (path.as_str(), text.as_str()))
    }

    /// Whether a file or folder of this path exists, in `src/` or outside.
    pub fn exists(&self, path: &str) -> bool {
        let path = path.trim_end_matches('/');
        let folder = format!("{path}/");
        self.files.keys().any(|file| file == path || file.starts_with(&folder))
            || self.root.as_ref().is_some_and(|root| root.join(path).exists())
    }
}

/// The folder of the repository.
pub fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).into()
}

/// The files with this extension under `folder`, as path in the repository and text.
pub fn text_files(folder: &Path, extension: &str) -> Vec<(String, String)> {
    let mut found = Vec::new();
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            found.extend(text_files(&path, extension));
        } else if path.extension().is_some_and(|of| of == extension) {
            let name = path.strip_prefix(root()).unwrap().display().to_string();
            found.push((name, fs::read_to_string(&path).unwrap()));
        }
    }
    found
}

/// The folder of a path: `src/domain` of `src/domain/mod.rs`.
pub fn folder_of(file: &str) -> &str {
    file.rsplit_once('/').map_or("", |(folder, _)| folder)
}

/// The place of a file in the map of `lib.rs`: `domain` of `src/domain/mod.rs`, `cli` of `src/cli.rs`.
/// None for `lib.rs` and `main.rs`, which see everything.
pub fn place_of(file: &str) -> Option<&str> {
    let first = file.strip_prefix("src/")?.split('/').next()?;
    let place = first.trim_end_matches(".rs");
    (!matches!(first, "lib.rs" | "main.rs")).then_some(place)
}
