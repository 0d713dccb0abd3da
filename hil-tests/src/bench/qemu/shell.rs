//! A command typed at the guest's shell, and what it printed, told apart from all else that is on the console. The guest's
//! `lab-run` prints it as numbered lines of hexadecimal digits with the command's number, and once more where one of them
//! was torn by a line of somebody else.

use crate::{Result, Trouble};
use mainstay_lab::machine::{Machine, View};
use std::time::Duration;

/// `mainstay status` takes 0.1 s of CPU, `doctor` 0.3 s, a check of a whole slot 2 s.
const ANSWER: Duration = Duration::from_secs(60);
/// How often it is asked for again.
const TIMES: u32 = 4;

/// Runs the device binary with these words; what it printed, on standard error too.
pub fn agent(machine: &mut Machine, number: u32, words: &[&str]) -> Result<String> {
    let quoted: Vec<String> =
        words.iter().map(|word| format!(" '{}'", word.replace('\'', r"'\''"))).collect();
    let command = format!(" mainstay --config /data/mainstay/mainstay.toml{}", quoted.concat());
    let what = format!("mainstay {}", words.join(" "));
    let mut typed = command.as_str();
    for _ in 0..TIMES {
        let mark = machine.log().mark();
        machine.type_in(&format!("lab-run {number}{typed}\r"))?;
        let end = format!("lab {number} status ");
        let ended = |view: &View| {
            let mut lines = view.entries.iter().filter_map(|entry| entry.seen.line());
            lines.any(|line| line.starts_with(&end)).then(|| {
                view.entries.iter().filter_map(|entry| entry.seen.line().map(str::to_owned)).collect()
            })
        };
        let lines: Vec<String> = machine.wait(mark, ANSWER, &what, ended)?;
        if let Some((status, printed)) = read(number, &lines) {
            let printed = String::from_utf8_lossy(&printed).into_owned();
            return match status {
                0 => Ok(printed),
                status => Err(Trouble::new(format!("{what}: ended with {status}: {}", printed.trim()))),
            };
        }
        typed = ""; // only shown again
    }
    Err(Trouble::new(format!("{what}: its answer was torn {TIMES} times by other lines on the console")))
}

/// The status and the bytes; `None`: something is missing.
fn read(number: u32, lines: &[String]) -> Option<(u32, Vec<u8>)> {
    let begin = format!("lab {number} ");
    let mut pieces: Vec<Vec<u8>> = Vec::new();
    let (mut count, mut status) = (None, None);
    for line in lines.iter().filter_map(|line| line.strip_prefix(&begin)) {
        match line.split(' ').collect::<Vec<_>>()[..] {
            ["end", found] => count = found.parse::<usize>().ok(),
            ["status", found] => status = found.parse::<u32>().ok(),
            [at, hex] if at.parse() == Ok(pieces.len()) => pieces.push(bytes(hex)?),
            _ => return None,
        }
    }
    (count == Some(pieces.len())).then_some((status?, pieces.concat()))
}

fn bytes(hex: &str) -> Option<Vec<u8>> {
    let digits: Option<Vec<u8>> =
        hex.chars().map(|digit| digit.to_digit(16).map(|digit| digit as u8)).collect();
    digits?.chunks(2).map(|pair| Some(pair.first()? << 4 | pair.get(1)?)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lines(text: &str) -> Vec<String> {
        text.lines().map(str::to_owned).collect()
    }

    #[test]
    fn an_answer_is_read_between_other_lines_and_a_torn_one_is_not() {
        let good = "lab 7 0 6f6b\nmainstay: info: something\nlab 7 1 0a\nlab 7 end 2\nlab 7 status 0";
        assert_eq!(read(7, &lines(good)), Some((0, b"ok\n".to_vec())));
        assert_eq!(read(7, &lines("lab 7 end 0\nlab 7 status 3")), Some((3, Vec::new())));
        for torn in [
            "lab 7 0 6f6\nlab 7 end 1\nlab 7 status 0",
            "lab 7 1 0a\nlab 7 end 2\nlab 7 status 0",
            "lab 7 0 6f6b[ 3.1] usb\nlab 7 end 1\nlab 7 status 0",
            "lab 7 0 6f6b\nlab 7 status 0",
            "lab 8 0 6f6b\nlab 8 end 1\nlab 8 status 0",
        ] {
            assert_eq!(read(7, &lines(torn)), None, "{torn}");
        }
    }
}
