//! From the root folder to every file: what the three file systems have in common.
//!
//! A file system gives a number to each of its nodes (ext4's inode number, erofs' nid, squashfs' inode reference) and
//! answers what a node is; this walks. A folder that is reached twice is damage: no folder has two names, so it is a
//! circle or a forgery. A file that is reached twice is a hard link, and the first of its paths in order stays.

use super::source::{FILE_BYTES_MAX, PATH_BYTES_MAX, Source, Taken, damage};
use super::{Extent, FileExtents};
use std::collections::HashMap;

/// What the walk asks of a file system.
pub(super) trait Tree {
    /// The root folder's number.
    fn root(&self) -> u64;
    /// What a number stands for. A folder's entries go into `names`.
    fn node(&mut self, number: u64, names: &mut Names) -> Taken<Node>;
}

/// What a node is.
pub(super) enum Node {
    Folder,
    File {
        bytes: u64,
        extents: Vec<Extent>,
        holes: Vec<Extent>,
    },
    /// A link, a device, or a file whose content cannot be read in place.
    Other,
}

/// The entries of one folder.
pub(super) struct Names<'s> {
    source: &'s Source<'s>,
    list: Vec<(String, u64)>,
}

impl Names<'_> {
    /// Takes an entry; `.` and `..` are passed over.
    pub(super) fn add(&mut self, name: &[u8], number: u64) -> Taken<()> {
        if name == b"." || name == b".." {
            return Ok(());
        }
        if name.is_empty() || name.iter().any(|&byte| byte == b'/' || byte == 0) {
            return Err(damage!("expected a name in a folder, found {:?}", readable(name)));
        }
        self.source.name(name.len())?;
        self.list.push((readable(name), number));
        Ok(())
    }
}

/// All regular files, sorted by path, each once.
pub(super) fn files(source: &Source, tree: &mut dyn Tree) -> Taken<Vec<FileExtents>> {
    let mut files: Vec<FileExtents> = Vec::new();
    let mut seen: HashMap<u64, Seen> = HashMap::new();
    let mut ahead = vec![(String::new(), tree.root())];
    while let Some((path, number)) = ahead.pop() {
        match seen.get(&number) {
            None => {}
            Some(Seen::Folder) => {
                return Err(damage!("{path}: expected a folder, found one that has a path already"));
            }
            Some(Seen::Other) => continue,
            Some(Seen::File(index)) => {
                if let Some(file) = files.get_mut(*index).filter(|file| path < file.path) {
                    file.path = path;
                }
                continue;
            }
        }
        let mut names = Names { source, list: Vec::new() };
        let is = match tree.node(number, &mut names)? {
            Node::Folder => Seen::Folder,
            Node::Other => Seen::Other,
            Node::File { bytes, .. } if bytes > FILE_BYTES_MAX => {
                return Err(damage!("{path}: expected at most {FILE_BYTES_MAX} bytes, found {bytes}"));
            }
            Node::File { bytes, extents, holes } => {
                files.push(FileExtents { path: path.clone(), bytes, extents, holes });
                Seen::File(files.len().saturating_sub(1))
            }
        };
        seen.insert(number, is);
        for (name, child) in names.list {
            ahead.push((joined(source, &path, &name)?, child));
        }
    }
    files.sort_by(|a, b| a.path.cmp(&b.path));
    Ok(files)
}

enum Seen {
    Folder,
    /// Its place in the list.
    File(usize),
    Other,
}

fn joined(source: &Source, folder: &str, name: &str) -> Taken<String> {
    source.name(folder.len())?;
    let path = format!("{folder}/{name}");
    match path.len() {
        ..=PATH_BYTES_MAX => Ok(path),
        found => Err(damage!("expected paths of at most {PATH_BYTES_MAX} bytes, found one of {found}")),
    }
}

/// As text; what is not UTF-8 is written `\xNN`, so that two names stay two.
pub(super) fn readable(name: &[u8]) -> String {
    let mut text = String::with_capacity(name.len());
    for chunk in name.utf8_chunks() {
        text.push_str(chunk.valid());
        chunk.invalid().iter().for_each(|byte| text.push_str(&format!("\\x{byte:02x}")));
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::layout::source::Halt;

    /// Nodes by number: a folder's entries, or a file of so many bytes.
    struct Drawn(Vec<Result<Entries, u64>>);

    type Entries = Vec<(&'static [u8], u64)>;

    impl Tree for Drawn {
        fn root(&self) -> u64 {
            0
        }

        fn node(&mut self, number: u64, names: &mut Names) -> Taken<Node> {
            match &self.0[number as usize] {
                Ok(entries) => {
                    entries.iter().try_for_each(|(name, number)| names.add(name, *number))?;
                    Ok(Node::Folder)
                }
                Err(bytes) => Ok(Node::File { bytes: *bytes, extents: Vec::new(), holes: Vec::new() }),
            }
        }
    }

    #[test]
    fn each_file_has_one_path_the_first_in_order_and_what_is_no_folder_tree_is_refused() {
        #[rustfmt::skip]
        let cases = [
            // folders and files                                                                  paths, or what is wrong
            (vec![Ok(vec![(&b"."[..], 0), (b"..", 0), (b"b", 1), (b"a", 2)]), Err(1), Err(2)],    "/a 2, /b 1"),
            (vec![Ok(vec![(&b"z"[..], 1), (b"b", 1), (b"y", 1)]), Err(1)],                        "/b 1"),
            (vec![Ok(vec![(&b"z"[..], 1), (b"a", 2)]), Ok(vec![(b"n", 2)]), Err(1)],              "/a 1"),
            (vec![Ok(vec![(&b"\xff"[..], 1), (b"\xfe", 2)]), Err(1), Err(2)],                     "/\\xfe 2, /\\xff 1"),
            (vec![Ok(vec![(&b"a"[..], 1)]), Ok(vec![(b"up", 0)])],                                "/a/up: expected a folder, found one that has a path already"),
            (vec![Ok(vec![(&b"a"[..], 1), (b"b", 1)]), Ok(vec![])],                               "/a: expected a folder, found one that has a path already"),
            (vec![Ok(vec![(&b"a/b"[..], 1)]), Err(1)],                                            "expected a name in a folder, found \"a/b\""),
            (vec![Ok(vec![(&b""[..], 1)]), Err(1)],                                               "expected a name in a folder, found \"\""),
            (vec![Ok(vec![(&b"a"[..], 1)]), Err(FILE_BYTES_MAX + 1)],                             "/a: expected at most 17592186044416 bytes, found 17592186044417"),
        ];
        for (nodes, expected) in cases {
            let image = Vec::new();
            let found = match files(&Source::new(&image), &mut Drawn(nodes)) {
                Ok(files) => {
                    let files: Vec<_> =
                        files.iter().map(|file| format!("{} {}", file.path, file.bytes)).collect();
                    files.join(", ")
                }
                Err(Halt::Damage(why)) => why,
                Err(halt) => panic!("{halt:?}"),
            };
            assert_eq!(found, expected);
        }
    }
}
