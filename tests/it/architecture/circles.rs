//! Circles of imports between files, and between the components of a folder: its files and folders.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use super::{
    model::{Model, Reference, Role, Target},
    tree::folder_of,
};

/// Circles that are shown of one set; the shortest first.
const SHOWN_MAX: usize = 10;

/// Edge -> the first place that makes it.
type Graph = BTreeMap<String, BTreeMap<String, String>>;

/// Each set of components of `src/{folder}` that depend on each other, with the shortest circles in it.
pub fn of_components(model: &Model, folder: &str) -> Vec<String> {
    circles(&graph(model, folder, |file| component(folder, file)))
}

/// The same for the files under `src/{folder}`.
pub fn of_files(model: &Model, folder: &str) -> Vec<String> {
    circles(&graph(model, folder, |file| file.strip_prefix("src/").unwrap_or(file).to_owned()))
}

/// The direct child of the folder that a file belongs to: `token` of `src/domain/token/jwt.rs`.
fn component(folder: &str, file: &str) -> String {
    let inside = file.strip_prefix(&format!("src/{folder}/")).unwrap_or(file);
    inside.split('/').next().unwrap_or_default().to_owned()
}

fn graph(model: &Model, folder: &str, node: impl Fn(&str) -> String) -> Graph {
    let inside = format!("src/{folder}/");
    let mut graph = Graph::new();
    for reference in model.references.iter().filter(|reference| reference.file.starts_with(&inside)) {
        for target in &reference.targets {
            // A module alone is no edge: what is used in it is.
            let Target::Ours(found) = target else { continue };
            let file = model.file_of(found);
            if found.name.is_none() || !file.starts_with(&inside) || offers_its_own(reference, file) {
                continue;
            }
            let (from, to) = (node(&reference.file), node(file));
            if from != to {
                let place = || format!("{} uses {}", Model::place(reference), model.path_of(found));
                graph.entry(from).or_default().entry(to).or_insert_with(place);
            }
        }
    }
    graph
}

/// Whether this is a `pub use` of a folder's `mod.rs` for what is below it: those who use the name depend on the file that
/// defines it, and the `mod.rs` does not.
fn offers_its_own(reference: &Reference, file: &str) -> bool {
    let own = format!("{}/", folder_of(&reference.file));
    reference.role == Role::Reexport && reference.file.ends_with("/mod.rs") && file.starts_with(&own)
}

fn circles(graph: &Graph) -> Vec<String> {
    let reach: BTreeMap<&str, BTreeSet<&str>> =
        graph.keys().map(|from| (from.as_str(), reached(graph, from))).collect();
    let reaches = |from: &str, to: &str| reach.get(from).is_some_and(|reached| reached.contains(to));
    let mut seen: BTreeSet<&str> = BTreeSet::new();
    let mut found = Vec::new();
    for &node in reach.keys() {
        if reaches(node, node) && !seen.contains(node) {
            let members: Vec<&str> =
                reach.keys().copied().filter(|other| reaches(node, other) && reaches(other, node)).collect();
            seen.extend(&members);
            let names = members.join(", ");
            found.push(format!("{} in a circle: {names}\n    {}", members.len(), shown(graph, &members)));
        }
    }
    found
}

/// The shortest circle through each member, each circle once.
fn shown(graph: &Graph, members: &[&str]) -> String {
    let mut circles: BTreeMap<BTreeSet<String>, Vec<String>> = BTreeMap::new();
    for member in members {
        let circle = circle(graph, member);
        circles.entry(circle.iter().cloned().collect()).or_insert(circle);
    }
    let mut circles: Vec<String> = circles.into_values().map(|circle| circle.join("\n    ")).collect();
    circles.sort_by_key(|circle| circle.lines().count());
    circles.truncate(SHOWN_MAX);
    circles.join("\n    and\n    ")
}

fn reached<'a>(graph: &'a Graph, from: &str) -> BTreeSet<&'a str> {
    let mut reached = BTreeSet::new();
    let mut open: Vec<&str> = graph.get(from).into_iter().flat_map(BTreeMap::keys).map(String::as_str).collect();
    while let Some(node) = open.pop() {
        if reached.insert(node) {
            open.extend(graph.get(node).into_iter().flat_map(BTreeMap::keys).map(String::as_str));
        }
    }
    reached
}

/// The shortest way from a node back to it, a line for each edge.
fn circle(graph: &Graph, start: &str) -> Vec<String> {
    let mut before: BTreeMap<&str, &str> = BTreeMap::new();
    let mut open = VecDeque::from([start]);
    while let Some(node) = open.pop_front() {
        for (next, _) in graph.get(node).into_iter().flatten() {
            if next == start {
                return chain(graph, &before, start, node);
            }
            if !before.contains_key(next.as_str()) {
                before.insert(next, node);
                open.push_back(next);
            }
        }
    }
    Vec::new()
}

/// The edges of the way from `start` to `last` and back.
fn chain(graph: &Graph, before: &BTreeMap<&str, &str>, start: &str, last: &str) -> Vec<String> {
    let mut nodes = vec![start, last];
    while let Some(node) = before.get(nodes[nodes.len() - 1]).filter(|_| nodes[nodes.len() - 1] != start) {
        nodes.push(node);
    }
    nodes.reverse();
    nodes.windows(2).map(|pair| format!("{} -> {}  {}", pair[0], pair[1], graph[pair[0]][pair[1]])).collect()
}
