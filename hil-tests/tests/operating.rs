//! Goal: what OPERATING tells people to type works, and prints what it says. Method: its rehearsal (sections 2, 3 and 6), block by block, in one shell,
//! with the programs as they are built here and a real Mosquitto. Each line that stands below a block has to come, in that order; words with a
//! digit or `…` in them may be others. It waits twice as long as it says.

use mainstay_hil::programs::{Programs, installed};
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Command, Stdio};

/// What is typed, and what it prints.
struct Block {
    typed: String,
    printed: Vec<String>,
}

const PAGE: &str = include_str!("../../agent/docs/OPERATING.md");

/// The shell's blocks, in their order: each goes on where the one before it has ended.
fn blocks() -> Vec<Block> {
    let (mut blocks, mut lines) = (Vec::<Block>::new(), PAGE.lines());
    while let Some(line) = lines.next() {
        if !line.starts_with("```") {
            continue;
        }
        let fenced: Vec<&str> = lines.by_ref().take_while(|line| *line != "```").collect();
        match (line, blocks.last_mut()) {
            ("```sh", _) => blocks.push(Block { typed: fenced.join("\n"), printed: Vec::new() }),
            ("```text", Some(block)) if block.printed.is_empty() => {
                block.printed = fenced.into_iter().filter(|line| *line != "…").map(String::from).collect();
            }
            _ => {}
        }
    }
    blocks
}

/// Is this line the one that the page has?
fn is_as_on_the_page(page: &str, found: &str) -> bool {
    let (page, found) = (page.split_whitespace(), found.split_whitespace());
    let varies = |word: &str| word.contains('…') || word.contains(|c: char| c.is_ascii_digit());
    page.clone().count() == found.clone().count()
        && page.zip(found).all(|(page, found)| varies(page) || page == found)
}

/// A machine with other work takes its time.
const PATIENCE: &str = "sleep() { command sleep $((2 * $1)); }";

/// Ends all that a rehearsal has left: agent and broker, which are of the shell's group, and second guards, whose lock is in its folder.
fn end_all_of(shell: u32, folder: &Path) {
    let _ = Command::new("pkill").args(["-KILL", "-g", &shell.to_string()]).status();
    let _ = Command::new("pkill").args(["-KILL", "-f"]).arg(folder).status();
}

#[test]
fn the_rehearsal_goes_as_its_page_says() {
    let tools = ["bash", "mosquitto", "openssl", "grub-editenv", "pkill"];
    if let Some(tool) = tools.into_iter().find(|tool| installed(tool).is_none()) {
        return println!("not run: {tool} is not installed");
    }
    if std::net::TcpListener::bind("127.0.0.1:8883").is_err() {
        return println!("not run: somebody else has the port 8883");
    }
    let programs = Programs::build().unwrap();
    let folder = tempfile::tempdir().unwrap();
    let blocks = blocks();
    assert!(blocks.len() >= 11, "{} blocks", blocks.len());
    let mut script = format!("{PATIENCE}\n");
    for block in &blocks {
        script += &format!("{}\necho '{BETWEEN}'\n", block.typed);
    }
    let built = programs.ctl.parent().unwrap().display().to_string();
    let script = script.replace("$PWD/target/debug", &built);
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap();
    // The shell's own end, and not that of what it leaves behind, ends it: so its output goes to a file.
    let said = folder.path().join("said");
    let out = std::fs::File::create(&said).unwrap();
    let mut shell = Command::new("bash");
    shell.args(["-c", &script]).current_dir(root).env("TMPDIR", folder.path()).process_group(0);
    shell.stdin(Stdio::null()).stdout(out.try_clone().unwrap()).stderr(out);
    let mut shell = shell.spawn().unwrap();
    let status = shell.wait();
    end_all_of(shell.id(), folder.path());
    assert!(status.unwrap().success());
    let said = std::fs::read_to_string(&said).unwrap();
    let mut parts = said.split(BETWEEN);
    for Block { typed, printed } in &blocks {
        let part = parts.next().unwrap_or_default();
        let mut lines = part.lines();
        for line in printed {
            assert!(
                lines.any(|found| is_as_on_the_page(line, found)),
                "expected, in its place:\n{line}\n\nof what this prints:\n{typed}\n\nfound:\n{part}"
            );
        }
    }
}

const BETWEEN: &str = "=== the next block ===";

/// A comparison that takes anything would show nothing.
#[test]
fn lines_are_compared_word_by_word() {
    let page = "update     settled: 2.0.0 for group B, attempt 1: committed";
    assert!(is_as_on_the_page(page, "update  settled: 9.9.9 for group B, attempt 7: committed"));
    for other in
        ["update settled: 2.0.0 for group B, attempt 1: rolled-back", "update settled: 2.0.0 for group B"]
    {
        assert!(!is_as_on_the_page(page, other), "{other}");
    }
}
