//! The archive that an initrd is (Documentation/driver-api/early-userspace/buffer-format.rst): "newc", 110 bytes of hexadecimal
//! digits before each name, names and contents padded to four bytes.

use crate::disk::{Node, Tree};
use crate::{Doing, Result};

/// An archive of the tree. All files belong to root, and their time is 0.
pub fn archive(tree: &Tree) -> Result<Vec<u8>> {
    let mut out = Vec::new();
    for (inode, (path, node)) in (1..).zip(tree.nodes()) {
        let (mode, content) = match node {
            Node::Folder => (0o040_755, Vec::new()),
            Node::Link(to) => (0o120_777, to.clone().into_bytes()),
            Node::Bytes(bytes, mode) => (0o100_000 | mode, bytes.clone()),
            Node::File(from, mode) => {
                (0o100_000 | mode, std::fs::read(from).doing(|| from.display().to_string())?)
            }
        };
        entry(&mut out, inode, mode, path.trim_start_matches('/'), &content);
    }
    entry(&mut out, 0, 0, "TRAILER!!!", &[]);
    Ok(out)
}

fn entry(out: &mut Vec<u8>, inode: u32, mode: u32, name: &str, content: &[u8]) {
    let (links, name_bytes) = (1, name.len() as u32 + 1);
    // magic, then inode, mode, uid, gid, links, mtime, size, device (2), special device (2), name's size, no checksum
    out.extend_from_slice(b"070701");
    for field in [inode, mode, 0, 0, links, 0, content.len() as u32, 0, 0, 0, 0, name_bytes, 0] {
        out.extend_from_slice(format!("{field:08x}").as_bytes());
    }
    out.extend_from_slice(name.as_bytes());
    out.push(0);
    pad(out);
    out.extend_from_slice(content);
    pad(out);
}

fn pad(out: &mut Vec<u8>) {
    out.resize(out.len().next_multiple_of(4), 0);
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::run::{output_of_input, tool};

    #[test]
    fn cpio_lists_what_we_archive() {
        let mut tree = Tree::new();
        tree.script("/init", "#!/bin/sh\n").link("/bin/sh", "busybox").text("/modules/order", "");
        let archive = archive(&tree).unwrap();
        assert_eq!(archive.len() % 4, 0);
        if tool("cpio").arg("--version").output().is_err() {
            return println!("not run: cpio is not installed");
        }
        let listed = output_of_input(tool("cpio").args(["-t", "--quiet"]), &archive).unwrap().stdout;
        assert_eq!(String::from_utf8(listed).unwrap(), "bin\nbin/sh\ninit\nmodules\nmodules/order\n");
    }
}
