//! Links between pages lead to a file and a heading that exist, and no page is an island.

use std::path::{Component, Path, PathBuf};

use super::Page;
use crate::support::program::root;

#[test]
fn links_of_every_page_lead_to_files_and_headings_that_exist() {
    let broken: Vec<_> = Page::all().iter().flat_map(broken_links).collect();
    assert!(broken.is_empty(), "broken links:\n{}", broken.join("\n"));
}

#[test]
fn link_to_a_missing_file_or_heading_is_reported_with_its_line() {
    let page =
        Page::made_up("# A\n\n[a](../README.md) [b](missing.md)\n[c](#nowhere) [d](#a) [e](../README.md#nowhere)\n");
    let expected = [
        "docs/made-up.md:3: missing.md: no such file",
        "docs/made-up.md:4: #nowhere: no such heading",
        "docs/made-up.md:4: ../README.md#nowhere: no such heading",
    ];
    assert_eq!(broken_links(&page), expected);
    let page = Page::made_up("[a](http://example.com) [b](/etc/passwd) [c](../../outside)\n");
    assert_eq!(broken_links(&page).len(), 3, "plain HTTP, an absolute path and a path out of the project");
}

#[test]
fn index_of_the_documents_names_every_page() {
    let index = Page::read("docs/README.md");
    let named: Vec<_> = index.links().into_iter().map(|(_, target)| resolved(&index.path, &target)).collect();
    for page in Page::all() {
        let is_named = page.path == index.path || named.contains(&Some(page.path.clone()));
        assert!(is_named, "docs/README.md does not name {}", page.name());
    }
    assert!(Page::read("README.md").links().iter().any(|(_, target)| target == "docs/README.md"));
}

#[test]
fn readme_has_at_most_200_lines() {
    let lines = Page::read("README.md").text.lines().count();
    assert!(lines <= 200, "{lines} lines");
}

/// One line for each link of the page that leads nowhere.
fn broken_links(page: &Page) -> Vec<String> {
    let links = page.links().into_iter();
    let broken = links.filter_map(|(line, target)| Some((line, fault(page, &target)?, target)));
    broken.map(|(line, fault, target)| format!("{}:{line}: {target}: {fault}", page.name())).collect()
}

fn fault(page: &Page, target: &str) -> Option<&'static str> {
    // Pages of others are not fetched: a test must not depend on them.
    if target.starts_with("https://") {
        return None;
    }
    let (path, anchor) = target.split_once('#').map_or((target, None), |(path, anchor)| (path, Some(anchor)));
    if path.contains(':') || path.starts_with('/') {
        return Some("neither https nor a relative path");
    }
    let file = if path.is_empty() { Some(page.path.clone()) } else { resolved(&page.path, path) };
    let Some(file) = file else { return Some("leads out of the project") };
    let Some(anchor) = anchor else { return (!root().join(&file).exists()).then_some("no such file") };
    let anchors = if file == page.path { page.anchors() } else { Page::read(&file).anchors() };
    (!anchors.iter().any(|known| known == anchor)).then_some("no such heading")
}

/// The path inside the project that a link of a page names, without its anchor.
fn resolved(page: &Path, target: &str) -> Option<PathBuf> {
    let mut path = page.parent().unwrap().to_owned();
    for part in Path::new(target.split('#').next().unwrap()).components() {
        match part {
            Component::ParentDir => path.pop().then_some(())?,
            Component::Normal(name) => path.push(name),
            _ => {}
        }
    }
    Some(path)
}
