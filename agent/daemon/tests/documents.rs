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

/// The security page and the pages under it.
fn security_pages() -> Vec<(String, String)> {
    let docs = root().join("agent/docs");
    let threats =
        std::fs::read_dir(docs.join("threats")).expect("the folder").flatten().map(|entry| entry.path());
    let pages = threats.chain([docs.join("SECURITY.md")]);
    let read = |path: PathBuf| {
        let name = path.file_name().expect("a name").to_string_lossy().into_owned();
        (name, std::fs::read_to_string(&path).expect("the page"))
    };
    let mut pages: Vec<_> =
        pages.filter(|path| path.extension().is_some_and(|ends| ends == "md")).map(read).collect();
    pages.sort();
    pages
}

#[test]
fn every_test_that_the_security_pages_name_is_there() {
    let names: HashSet<String> = files(".rs")
        .iter()
        .flat_map(|path| std::fs::read_to_string(path).map(|text| tests(&text)).unwrap_or_default())
        .collect();
    let mut missing = Vec::new();
    let mut cited = HashSet::new();
    for (page, text) in security_pages() {
        for name in quoted(&text).filter(|word| is_a_claim(word)) {
            if !names.contains(name) {
                missing.push(format!("{page}: {name}"));
            }
            cited.insert(name.to_string());
        }
    }
    assert!(cited.len() > 150, "the pages cite {} tests", cited.len());
    assert!(missing.is_empty(), "not there (any more): {missing:#?}");
}

/// Names of tests: the functions behind the attribute, or those that a macro makes of a name and `;` or `{`.
fn tests(text: &str) -> Vec<String> {
    let behind = text.split("#[test]").skip(1).filter_map(|rest| rest.split_once("fn "));
    behind.filter_map(|(_, rest)| rest.split_once('(')).map(|(name, _)| name.to_string()).collect()
}

/// A row without a test says in plain words that nothing here answers it, or whose it is.
const PLAIN_WORDS: [&str; 3] = ["**not protected**", "**not ours**", "**the board's**"];

/// Pages whose tables say what an attacker does, what the answer is, and which test shows it.
const PAGES_OF_ANSWERS: [&str; 10] = [
    "cves.md",
    "hostile-broker.md",
    "hostile-bundle.md",
    "leaked-keys.md",
    "lost-root-keys.md",
    "rfc-9124.md",
    "technician-without-rights.md",
    "thief-with-the-disk.md",
    "traps.md",
    "uptane.md",
];

#[test]
fn every_row_of_the_threats_has_a_test_or_says_plainly_that_there_is_none() {
    let (mut rows, mut bare) = (0, Vec::new());
    let pages = security_pages();
    for name in PAGES_OF_ANSWERS {
        let (_, text) = pages.iter().find(|(page, _)| page == name).expect("the page");
        for row in rows_that_end_with(text, "test") {
            rows += 1;
            let plain = PLAIN_WORDS.iter().any(|words| row.to_lowercase().contains(words));
            if !plain && !quoted(row).any(is_a_claim) {
                bare.push(format!("{name}: {row}"));
            }
        }
    }
    assert!(rows > 150, "found {rows} rows");
    assert!(bare.is_empty(), "neither a test nor plain words: {bare:#?}");
}

/// The rows of those tables whose last column has this head.
fn rows_that_end_with<'a>(text: &'a str, head: &str) -> Vec<&'a str> {
    let (mut rows, mut within) = (Vec::new(), false);
    for line in text.lines() {
        match line.strip_prefix('|') {
            None => within = false,
            Some(cells) if !within => {
                within =
                    cells.trim_end().trim_end_matches('|').rsplit('|').next().map(str::trim) == Some(head)
            }
            Some(cells) if cells.starts_with("--") => {}
            Some(_) => rows.push(line),
        }
    }
    rows
}

/// RFC 9124, sections 4.2 and 4.3, whole.
#[rustfmt::skip]
const RFC_9124: [&str; 38] = [
    "THREAT.IMG.EXPIRED,", "THREAT.IMG.EXPIRED.OFFLINE,", "THREAT.IMG.INCOMPATIBLE,", "THREAT.IMG.FORMAT,",
    "THREAT.IMG.LOCATION,", "THREAT.NET.REDIRECT,", "THREAT.NET.ONPATH,", "THREAT.IMG.REPLACE,", "THREAT.IMG.NON_AUTH,",
    "THREAT.UPD.WRONG_PRECURSOR,", "THREAT.UPD.UNAPPROVED,", "THREAT.IMG.DISCLOSURE,", "THREAT.MFST.OVERRIDE,",
    "THREAT.MFST.EXPOSURE,", "THREAT.IMG.EXTRA,", "THREAT.KEY.EXPOSURE,", "THREAT.MFST.MODIFICATION,",
    "THREAT.MFST.TOCTOU,",
    "REQ.SEC.SEQUENCE", "REQ.SEC.COMPATIBLE", "REQ.SEC.EXP", "REQ.SEC.AUTHENTIC", "REQ.SEC.AUTH.IMG_TYPE",
    "REQ.SEC.AUTH.IMG_LOC", "REQ.SEC.AUTH.REMOTE_LOC", "REQ.SEC.AUTH.EXEC", "REQ.SEC.AUTH.PRECURSOR",
    "REQ.SEC.AUTH.COMPATIBILITY", "REQ.SEC.RIGHTS", "REQ.SEC.IMG.CONFIDENTIALITY", "REQ.SEC.ACCESS_CONTROL",
    "REQ.SEC.MFST.CONFIDENTIALITY", "REQ.SEC.IMG.COMPLETE_DIGEST", "REQ.SEC.REPORTING", "REQ.SEC.KEY.PROTECTION",
    "REQ.SEC.MFST.CHECK", "REQ.SEC.MFST.TRUSTED", "REQ.SEC.MFST.CONST",
];

#[test]
fn each_threat_and_requirement_of_rfc_9124_has_its_row() {
    let pages = security_pages();
    let (_, page) = pages.iter().find(|(page, _)| page == "rfc-9124.md").expect("the page");
    let heads: Vec<&str> =
        rows_that_end_with(page, "test").iter().filter_map(|row| row.split('|').nth(1)).collect();
    let missing: Vec<&&str> =
        RFC_9124.iter().filter(|name| !heads.iter().any(|head| head.contains(**name))).collect();
    assert!(missing.is_empty(), "without a row: {missing:?}");
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
