//! `cargo xtask dist --reproducible`: a commit makes one binary, wherever it is built.
//!
//! The tree is copied to another place, a longer one, and built there into a target folder of another name, with another
//! time zone and language. What differs between the two is what must not get into the binary; what is the same is what
//! defines it: the commit, `Cargo.lock`, rustc, and the C compiler with its C library. The rest (cargo's home, the
//! toolchain's place) is the same here, but mapped to fixed names as well.

use crate::dist::elf;
use crate::target::{Target, Tree};
use crate::{Failure, Outcome, tools};
use std::path::{Path, PathBuf};
use std::process::Command;

/// Builds each of `built` a second time, and compares.
pub fn each(built: &[(&'static Target, PathBuf)]) -> Outcome {
    let folder = tools::target_dir().join("dist-again/at-another-place/with-a-longer-name");
    let tree = Tree { workspace: folder.join("source"), target_dir: folder.join("built") };
    copy_tree(&tree.workspace)?;
    println!("| binary | built again, elsewhere |\n|---|---|");
    let mut different = Vec::new();
    for (target, first) in built {
        let second =
            target.build_with(&tree, &[("TZ", "Pacific/Chatham"), ("LC_ALL", "C"), ("HOSTNAME", "another")]);
        let second = second.map_err(|why| format!("{}, built again: {why}", target.triple))?;
        match elf::difference(&tools::read(first)?, &tools::read(&second)?) {
            None => println!("| {} | the same bytes |", target.triple),
            Some(at) => {
                println!("| {} | DIFFERENT: {at} |", target.triple);
                different.push(format!("{}: {at}", target.triple));
            }
        }
    }
    println!();
    match different.is_empty() {
        true => Ok(()),
        false => Err(Failure::Differs(different.join("; "))),
    }
}

/// Copies what git would commit of the tree as it stands: with changes that are not committed yet, both builds have them.
fn copy_tree(to: &Path) -> Result<(), String> {
    let from = tools::workspace();
    let mut git = Command::new("git");
    git.args(["ls-files", "-z", "--cached", "--others", "--exclude-standard"]).current_dir(&from);
    let files = tools::output(&mut git)?;
    tools::make_empty_folder(to)?;
    for name in files.split('\0').filter(|name| !name.is_empty()) {
        let file = from.join(name);
        if file.is_file() {
            tools::copy(&file, &to.join(name))?;
        }
    }
    Ok(())
}
