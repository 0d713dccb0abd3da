//! What a file system is to hold: folders, files and links by their paths.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

/// One thing in a file system.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Node {
    /// A folder, 0755.
    Folder,
    /// A file with these bytes and permissions.
    Bytes(Vec<u8>, u32),
    /// A file with the content of a file of the host, and these permissions.
    File(PathBuf, u32),
    /// A symbolic link to this.
    Link(String),
}

/// Paths, absolute, and what stands there. Folders come before what is in them, for paths are sorted.
#[derive(Clone, Debug, Default)]
pub struct Tree(BTreeMap<String, Node>);

impl Tree {
    /// An empty one.
    pub fn new() -> Tree {
        Tree::default()
    }

    /// Adds a node, and the folders above it. A second one at the same path takes the place of the first.
    pub fn add(&mut self, path: &str, node: Node) -> &mut Tree {
        for (at, _) in path.match_indices('/').skip(1) {
            let above = path.get(..at).unwrap_or_default().to_owned();
            self.0.entry(above).or_insert(Node::Folder);
        }
        self.0.insert(path.to_owned(), node);
        self
    }

    /// Adds a folder.
    pub fn folder(&mut self, path: &str) -> &mut Tree {
        self.add(path, Node::Folder)
    }

    /// Adds a file with this text, 0644.
    pub fn text(&mut self, path: &str, text: &str) -> &mut Tree {
        self.add(path, Node::Bytes(text.into(), 0o644))
    }

    /// Adds a script, 0755.
    pub fn script(&mut self, path: &str, text: &str) -> &mut Tree {
        self.add(path, Node::Bytes(text.into(), 0o755))
    }

    /// Adds a file of the host.
    pub fn file(&mut self, path: &str, from: &Path, mode: u32) -> &mut Tree {
        self.add(path, Node::File(from.to_owned(), mode))
    }

    /// Adds a symbolic link.
    pub fn link(&mut self, path: &str, to: &str) -> &mut Tree {
        self.add(path, Node::Link(to.to_owned()))
    }

    /// All of it, folders first.
    pub fn nodes(&self) -> impl Iterator<Item = (&str, &Node)> {
        self.0.iter().map(|(path, node)| (path.as_str(), node))
    }
}
