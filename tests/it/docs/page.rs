//! One Markdown page as the tests see it: blocks of code, links and headings.
//!
//! Not a Markdown parser: it knows fences that begin a line, inline links and `#` headings, which is what our pages use.

use std::{
    fs,
    path::{Path, PathBuf},
};

use crate::support::program::root;

/// The beginning of the comment that says why the tests do not run a block.
const MARK: &str = "<!-- not run by the tests: ";

/// A page, by its path inside the project.
pub struct Page {
    pub path: PathBuf,
    pub text: String,
}

/// A fenced block of code.
pub struct Block {
    /// Where its fence stands.
    pub line: usize,
    pub language: String,
    /// Why the tests do not run it.
    pub mark: Option<String>,
    pub code: Vec<String>,
}

impl Page {
    /// Every page that readers are given.
    pub fn all() -> Vec<Self> {
        let mut paths = vec![root().join("README.md"), root().join("deploy/README.md")];
        collect(&root().join("docs"), &mut paths);
        paths.sort();
        paths.iter().map(|path| Self::read(path.strip_prefix(root()).unwrap())).collect()
    }

    pub fn read(path: impl AsRef<Path>) -> Self {
        let path = path.as_ref().to_owned();
        let text = fs::read_to_string(root().join(&path)).unwrap_or_else(|cause| panic!("{}: {cause}", path.display()));
        Self { path, text }
    }

    /// A page that exists for one test.
    pub fn made_up(text: &str) -> Self {
        Self { path: "docs/made-up.md".into(), text: text.to_owned() }
    }

    pub fn name(&self) -> String {
        self.path.display().to_string()
    }

    pub fn blocks(&self) -> Vec<Block> {
        let mut blocks: Vec<Block> = Vec::new();
        let mut is_open = false;
        let mut before = "";
        for (number, line) in self.numbered() {
            if let Some(language) = line.strip_prefix("```") {
                if !is_open {
                    let mark = before.strip_prefix(MARK).and_then(|rest| rest.strip_suffix(" -->"));
                    let mark = mark.map(str::to_owned);
                    blocks.push(Block { line: number, language: language.to_owned(), mark, code: Vec::new() });
                }
                is_open = !is_open;
            } else if is_open {
                blocks.last_mut().unwrap().code.push(line.to_owned());
            }
            before = line;
        }
        assert!(!is_open, "{}: a block of code has no end", self.name());
        blocks
    }

    /// The only block of code in that language.
    pub fn block(&self, language: &str) -> String {
        let mut blocks = self.blocks();
        blocks.retain(|block| block.language == language);
        assert_eq!(blocks.len(), 1, "{} should have one block in {language}", self.name());
        blocks.remove(0).code.join("\n") + "\n"
    }

    /// The targets of links and pictures, with their lines.
    pub fn links(&self) -> Vec<(usize, String)> {
        let mut links = Vec::new();
        for (number, line) in self.prose() {
            for part in line.split("](").skip(1) {
                links.push((number, part.split(')').next().unwrap().to_owned()));
            }
        }
        links
    }

    /// What a link may name after `#`, as GitHub makes it of the headings.
    pub fn anchors(&self) -> Vec<String> {
        let mut anchors: Vec<String> = Vec::new();
        for (_, line) in self.prose().filter(|(_, line)| line.starts_with('#')) {
            let heading = line.trim_start_matches('#').trim().to_lowercase();
            let kept = heading.chars().filter(|letter| letter.is_alphanumeric() || matches!(letter, ' ' | '-' | '_'));
            let anchor: String = kept.map(|letter| if letter == ' ' { '-' } else { letter }).collect();
            let same = anchors.iter().filter(|known| **known == anchor).count();
            anchors.push(if same == 0 { anchor } else { format!("{anchor}-{same}") });
        }
        anchors
    }

    /// The rows of every table: their cells, trimmed.
    pub fn rows(&self) -> Vec<Vec<String>> {
        let rows = self.prose().filter(|(_, line)| line.starts_with("| "));
        rows.map(|(_, line)| line.trim_matches('|').split('|').map(|cell| cell.trim().to_owned()).collect()).collect()
    }

    /// Lines outside blocks of code.
    fn prose(&self) -> impl Iterator<Item = (usize, &str)> {
        let mut is_open = false;
        self.numbered().filter(move |(_, line)| {
            let is_fence = line.starts_with("```");
            is_open ^= is_fence;
            !is_open && !is_fence
        })
    }

    fn numbered(&self) -> impl Iterator<Item = (usize, &str)> {
        self.text.lines().enumerate().map(|(index, line)| (index + 1, line))
    }
}

fn collect(folder: &Path, into: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            collect(&path, into);
        } else if path.extension().is_some_and(|extension| extension == "md") {
            into.push(path);
        }
    }
}
