//! The documents cite tests by name and files by link. Both move; this holds the pages to what exists.

use std::collections::HashSet;
use std::path::{Path, PathBuf};

/// The repository.
fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..").canonicalize().expect("the repository")
}

/// Every file under the repository's folders whose name ends so.
fn files(ends: &str) -> Vec<PathBuf> {
    let skipped = ["target", ".git"];
    let (mut found, mut folders) = (Vec::new(), vec![root()]);
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(&folder).expect("readable").flatten() {
            let (path, name) = (entry.path(), entry.file_name());
            let name = name.to_string_lossy();
            match entry.file_type() {
                Ok(kind) if kind.is_dir() && !skipped.contains(&&*name) => folders.push(path),
                Ok(kind) if kind.is_file() && name.ends_with(ends) => found.push(path),
                _ => {}
            }
        }
    }
    found
}

/// What stands in backquotes.
fn quoted(text: &str) -> impl Iterator<Item = &str> {
    text.split('`').skip(1).step_by(2)
}

/// Long, and of words: no option, variable or path looks like that.
fn is_a_claim(word: &str) -> bool {
    let plain = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_';
    word.len() > 20 && word.matches('_').count() >= 3 && word.chars().all(plain)
}

#[test]
fn every_test_that_the_security_page_names_is_there() {
    let names: HashSet<String> = files(".rs")
        .iter()
        .flat_map(|path| std::fs::read_to_string(path).map(|text| functions(&text)).unwrap_or_default())
        .collect();
    let page = std::fs::read_to_string(root().join("agent/docs/SECURITY.md")).expect("the page");
    let cited: Vec<&str> = quoted(&page).filter(|word| is_a_claim(word)).collect();
    assert!(cited.len() > 50, "the page cites {} tests", cited.len());
    let missing: Vec<&str> = cited.into_iter().filter(|name| !names.contains(*name)).collect();
    assert!(missing.is_empty(), "not there (any more): {missing:#?}");
}

/// Names of functions without parameters: tests are.
fn functions(text: &str) -> Vec<String> {
    let after = text.split("fn ").skip(1);
    after.filter_map(|rest| rest.split_once("()")).map(|(name, _)| name.to_string()).collect()
}

#[test]
fn every_link_between_the_pages_leads_somewhere() {
    let mut wrong = Vec::new();
    for page in files(".md") {
        let text = std::fs::read_to_string(&page).expect("the page");
        for link in text.split("](").skip(1).filter_map(|rest| rest.split_once(')')).map(|(link, _)| link) {
            let path = link.split('#').next().unwrap_or_default();
            let outside = link.contains("://") || path.is_empty();
            if !outside && !page.parent().expect("a folder").join(path).exists() {
                wrong.push(format!("{}: {link}", page.display()));
            }
        }
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
}
