//! Plays the source mutants: in a copy of the tracked files under `target/mutants/tree`, one after another, each built
//! and tried by the one test that has to fail.
//!
//! What the copy builds goes into the workspace's own target folder: what comes from registries is built already, and
//! cargo tells the copy's crates from ours by their path. First every named test has to pass in the copy as it is, else a
//! test that fails anyway would be taken for one that catches. Nothing of the workspace itself is touched.

use super::list::{SOURCES, Source, Test};
use super::{Caught, Row};
use crate::tools::{cargo, make_folder, output, read, read_text, target_dir, workspace, write};
use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Instant;

/// Plays those whose name or file contains `only`.
pub fn play(only: &str, row: &mut dyn FnMut(Row)) -> Result<(), String> {
    let chosen: Vec<&Source> =
        SOURCES.iter().filter(|mutant| mutant.name.contains(only) || mutant.file.contains(only)).collect();
    let tree = copy_of_the_sources()?;
    for mutant in &chosen {
        occurs_once(mutant, &read_text(&tree.join(mutant.file))?)?;
    }
    without_a_mutant_all_pass(&tree, &chosen)?;
    for mutant in chosen {
        let started = Instant::now();
        let caught = play_one(&tree, mutant)?;
        row(Row {
            name: mutant.name.into(),
            does: format!("`{}`", mutant.file),
            caught,
            schedule: mutant.test.package.into(),
            seconds: started.elapsed().as_secs_f32(),
        });
    }
    Ok(())
}

fn occurs_once(mutant: &Source, text: &str) -> Result<(), String> {
    match text.matches(mutant.from).count() {
        1 => Ok(()),
        found => Err(format!(
            "mutant {:?}: expected its text once in {}, found it {found} times: it is stale\n{}",
            mutant.name, mutant.file, mutant.from
        )),
    }
}

/// Changes the file, tries the test, and puts the file back.
fn play_one(tree: &Path, mutant: &Source) -> Result<Caught, String> {
    let file = tree.join(mutant.file);
    let text = read_text(&file)?;
    write(&file, text.replacen(mutant.from, mutant.to, 1))?;
    let tried = build(tree, &[mutant.test])
        .map_err(|why| format!("mutant {:?} does not compile, which catches nothing:\n{why}", mutant.name))
        .and_then(|()| try_test(tree, mutant.test));
    write(&file, text)?;
    match tried? {
        Tried::Failed => Ok(Caught::By(format!("`{}`", mutant.test.name))),
        Tried::Passed => Ok(Caught::Nobody),
    }
}

fn without_a_mutant_all_pass(tree: &Path, chosen: &[&Source]) -> Result<(), String> {
    let mut targets: BTreeMap<(&str, &str), BTreeSet<Test>> = BTreeMap::new();
    for Source { test, .. } in chosen {
        targets.entry((test.package, test.target)).or_default().insert(*test);
    }
    for tests in targets.into_values() {
        let tests: Vec<Test> = tests.into_iter().collect();
        build(tree, &tests)?;
        for test in tests {
            if try_test(tree, test)? == Tried::Failed {
                return Err(format!("test {} of {} fails without a mutant", test.name, test.package));
            }
        }
    }
    Ok(())
}

fn build(tree: &Path, tests: &[Test]) -> Result<(), String> {
    let Some(test) = tests.first() else { return Ok(()) };
    output(cargo_test(tree, *test).args(["--quiet", "--no-run"])).map(|_| ())
}

#[derive(PartialEq, Eq)]
enum Tried {
    Passed,
    Failed,
}

/// Runs one test that is built. Anything but "passed" and "failed" is an error: a name that no test has, most of all.
fn try_test(tree: &Path, test: Test) -> Result<Tried, String> {
    let mut command = cargo_test(tree, test);
    let run = command.args(["--", "--exact", test.name]).output();
    let run = run.map_err(|e| format!("cargo test: {e}"))?;
    let said = String::from_utf8_lossy(&run.stdout);
    let line = |ends: &str| said.lines().any(|line| line.starts_with("test ") && line.ends_with(ends));
    match run.status.success() {
        true if line(" ... ok") => Ok(Tried::Passed),
        false if line(" ... FAILED") => Ok(Tried::Failed),
        _ => Err(format!(
            "test {} of {}: expected that it passes or fails, found {}\n{said}{}",
            test.name,
            test.package,
            run.status,
            String::from_utf8_lossy(&run.stderr)
        )),
    }
}

fn cargo_test(tree: &Path, test: Test) -> Command {
    let mut cargo = cargo();
    cargo.current_dir(tree).env("CARGO_TARGET_DIR", target_dir()).args(["test", "-p", test.package]);
    match test.target {
        "" => cargo.arg("--lib"),
        target => cargo.args(["--test", target]),
    };
    cargo
}

/// Brings the copy up to date. A file that is the same already is left alone, so that cargo finds it as old as it was; one that
/// is no source any more goes: a module that became a folder would else stand there twice.
fn copy_of_the_sources() -> Result<PathBuf, String> {
    let tree = target_dir().join("mutants/tree");
    make_folder(&tree)?;
    let listed = ["ls-files", "-z", "--cached", "--others", "--exclude-standard"];
    let listed = output(Command::new("git").current_dir(workspace()).args(listed))?;
    let wanted = |name: &&str| {
        let rust = name.ends_with(".rs") || name.ends_with(".toml") || name.ends_with("Cargo.lock");
        let read_by_tests = CRATES.iter().any(|folder| name.starts_with(folder));
        !name.is_empty() && (rust || read_by_tests)
    };
    let names: BTreeSet<&str> = listed.split('\0').filter(wanted).collect();
    remove_others(&tree, &tree, &names)?;
    for name in names {
        let (from, to) = (workspace().join(name), tree.join(name));
        let Ok(bytes) = std::fs::read(&from) else { continue }; // taken away, and not yet committed
        if read(&to).ok().as_ref() != Some(&bytes) {
            write(&to, bytes)?;
        }
    }
    Ok(tree)
}

/// Removes the files below `folder`, which lies in `tree`, that are not among `names`.
fn remove_others(tree: &Path, folder: &Path, names: &BTreeSet<&str>) -> Result<(), String> {
    let wrong = |path: &Path, e: std::io::Error| format!("{}: {e}", path.display());
    for entry in std::fs::read_dir(folder).map_err(|e| wrong(folder, e))? {
        let path = entry.map_err(|e| wrong(folder, e))?.path();
        let name = path.strip_prefix(tree).ok().and_then(Path::to_str);
        if path.is_dir() {
            remove_others(tree, &path, names)?;
        } else if !name.is_some_and(|name| names.contains(name) && workspace().join(name).exists()) {
            std::fs::remove_file(&path).map_err(|e| wrong(&path, e))?;
        }
    }
    Ok(())
}

/// Folders of which a crate includes more than Rust.
const CRATES: [&str; 3] = ["agent/", "bootloader-glue/", "board-support/"];
