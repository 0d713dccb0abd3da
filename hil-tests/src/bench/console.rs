//! What a serial console tells, on QEMU's machines and on real boards alike: lines become [`What`]s by [`Markers`], and a
//! shell on the console runs commands by [`Shell`].
//!
//! ```text
//! U-Boot 2023.01 …                         Bootloader (and a Reset before it, where nothing else tells resets)
//! mainstay: order A B, A good 1 …          the bootloader still
//! mainstay: group B (trial), partition 3   Boots(B, Trial)
//! Starting kernel ...                      Jumps
//! Run /sbin/init as init process           UserSpace
//! mainstay: info: …                        AgentStarts, the first time in each boot
//! ```
//! A start prints each of its banners once, in the order in which [`Markers::bootloader`] names them. One that comes again
//! without a later one before it is the beginning of another start: the machine was reset. That is all that a console can
//! tell of a watchdog that bit: a banner where none was due.

use super::What;
use crate::{Doing, Result, Trouble};
use mainstay_bootloader_glue::convention::Why;
use mainstay_core::boot::{BootState, Group, GroupState};
use mainstay_lab::machine::Log;
use serde_json::Value;
use std::time::{Duration, Instant};

/// What stands in the lines that say something. Each is a piece of text, anywhere in a line.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Markers {
    /// The bootloader's banners, in the order in which one start prints them. A board need not print all of them.
    pub bootloader: Vec<String>,
    /// The choice of a group: `{group}` stands for A or B, `{why}` for `good`, `trial` or `last-resort`.
    pub boots: String,
    /// The jump into the kernel, or the first that the kernel says.
    pub jumps: Vec<String>,
    /// Nothing is left to boot.
    pub nothing_bootable: Vec<String>,
    /// The bootloader's prompt: the end of a line that has not ended.
    pub prompt: Vec<String>,
    /// The kernel has started user space.
    pub user_space: Vec<String>,
    /// The kernel panics.
    pub panic: Vec<String>,
    /// The bootloader says that it was the watchdog that reset the machine, before it chooses a group.
    pub watchdog: Vec<String>,
    /// The agent is started: told each time.
    pub agent_starts: Vec<String>,
    /// The agent is there: told once in each boot, where nothing has told that it was started.
    pub agent: Vec<String>,
}

impl Default for Markers {
    /// What our boot scripts, U-Boot, GRUB, Linux and the agent print.
    fn default() -> Self {
        let own = |texts: &[&str]| texts.iter().map(|text| (*text).to_owned()).collect();
        Markers {
            bootloader: own(&["U-Boot SPL 20", "U-Boot 20", "Welcome to GRUB!", "mainstay: order "]),
            boots: "mainstay: group {group} ({why})".to_owned(),
            jumps: own(&["Starting kernel ...", "] Linux version "]),
            nothing_bootable: own(&["mainstay: NOTHING LEFT TO BOOT"]),
            prompt: own(&["grub> ", "grub rescue> ", "=> "]),
            user_space: own(&["] Run /"]),
            panic: own(&["Kernel panic - not syncing"]),
            watchdog: Vec::new(),
            agent_starts: Vec::new(),
            agent: own(&["mainstay: info: ", "mainstay: warning: ", "mainstay: error: "]),
        }
    }
}

impl Markers {
    /// What the laboratory's emulated boards print: their kernels are quiet, and their init says how far it is
    /// (hil-tests/lab/boards, hil-tests/lab/guest/init).
    pub fn laboratory() -> Markers {
        let own = |texts: &[&str]| texts.iter().map(|text| (*text).to_owned()).collect();
        Markers {
            bootloader: own(&[
                "mainstay: order ",
                "mainstay: group A, the other ",
                "mainstay: group B, the other ",
            ]),
            jumps: own(&["; jumping", "Starting kernel ..."]),
            user_space: own(&["guest: user space is up"]),
            agent_starts: own(&["guest: agent starts"]),
            agent: Vec::new(),
            ..Markers::default()
        }
    }

    /// The group that a line says is booted, and why.
    fn choice(&self, line: &str) -> Option<(Group, Why)> {
        let (before, rest) = self.boots.split_once("{group}")?;
        let (between, after) = rest.split_once("{why}").unwrap_or((rest, ""));
        let (_, from) = line.split_once(before)?;
        let group = Group::from_name(from.get(..1)?)?;
        let rest = from.get(1..)?.strip_prefix(between)?;
        if !self.boots.contains("{why}") {
            return Some((group, Why::Good));
        }
        let whys = [Why::Good, Why::Trial, Why::LastResort];
        let said = |why: &Why| rest.strip_prefix(why.name()).is_some_and(|rest| rest.starts_with(after));
        whys.into_iter().find(said).map(|why| (group, why))
    }
}

/// Who tells that a machine was reset.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Resets {
    /// Somebody else: QEMU, by its events. See [`Reader::reset`].
    Told,
    /// Nobody: a banner of the bootloader where none is due.
    Guessed,
}

/// Turns lines into what they say.
#[derive(Clone, Debug)]
pub struct Reader {
    markers: Markers,
    resets: Resets,
    stage: Stage,
    prompted: bool,
}

/// How far a start has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Stage {
    /// Power or reset, and nothing seen since.
    Begun,
    /// The bootloader; its last banner was the one with this number.
    Bootloader(usize),
    /// A group was chosen.
    Chosen,
    /// The kernel.
    Kernel,
    /// User space.
    UserSpace,
    /// The agent.
    Agent,
}

impl Reader {
    /// For a machine whose power is off.
    pub fn new(markers: Markers, resets: Resets) -> Reader {
        Reader { markers, resets, stage: Stage::Begun, prompted: false }
    }

    /// The power came, or went, or somebody else has told of a reset: what comes next is a start.
    pub fn begin(&mut self) {
        (self.stage, self.prompted) = (Stage::Begun, false);
    }

    /// What a line says, in order; without the line itself.
    pub fn line(&mut self, line: &str) -> Vec<What> {
        let mut said = Vec::new();
        let has = |texts: &[String]| texts.iter().any(|text| line.contains(text.as_str()));
        let banner = self.markers.bootloader.iter().position(|text| line.contains(text.as_str()));
        if let Some(banner) = banner {
            let another = match self.stage {
                Stage::Begun => false,
                Stage::Bootloader(last) => banner <= last,
                _ => true,
            };
            if another && self.resets == Resets::Guessed {
                said.push(What::Reset);
            }
            if another || self.stage == Stage::Begun {
                said.push(What::Bootloader);
            }
            (self.stage, self.prompted) = (Stage::Bootloader(banner), false);
        }
        if has(&self.markers.watchdog) {
            said.push(What::WatchdogFires);
        }
        if let Some((group, why)) = self.markers.choice(line) {
            said.push(What::Boots(group, why));
            self.stage = Stage::Chosen;
        }
        if has(&self.markers.nothing_bootable) {
            said.push(What::NothingBootable);
        }
        if has(&self.markers.panic) {
            said.push(What::Panic);
        }
        let later = [
            (&self.markers.jumps, Stage::Kernel, What::Jumps),
            (&self.markers.user_space, Stage::UserSpace, What::UserSpace),
        ];
        for (texts, stage, what) in later {
            if self.stage < stage && has(texts) {
                said.push(what);
                self.stage = stage;
            }
        }
        if has(&self.markers.agent_starts) || (self.stage < Stage::Agent && has(&self.markers.agent)) {
            said.push(What::AgentStarts);
            self.stage = Stage::Agent;
        }
        said
    }

    /// Somebody goes to the bootloader's prompt on purpose: until the next start it is not told.
    pub fn expect_prompt(&mut self) {
        self.prompted = true;
    }

    /// What a line says that has not ended: the bootloader's prompt, once in each start.
    pub fn partial(&mut self, partial: &str) -> Option<What> {
        let here = matches!(self.stage, Stage::Begun | Stage::Bootloader(_) | Stage::Chosen);
        let end = partial.trim_end();
        let prompt = |text: &String| !end.is_empty() && end.ends_with(text.trim_end());
        if self.prompted || !here || !self.markers.prompt.iter().any(prompt) {
            return None;
        }
        self.prompted = true;
        Some(What::Prompt)
    }
}

/// Something with a console that can be typed at.
pub trait Console {
    /// What was seen.
    fn log(&self) -> &Log;
    /// Types.
    fn type_in(&mut self, keys: &str) -> Result<()>;
}

/// One step of a conversation: wait for a text, then type something.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Turn {
    /// What is waited for; empty: nothing.
    pub expect: String,
    /// What is typed then.
    pub send: String,
}

impl Turn {
    /// Waits for `expect`, types `send`.
    pub fn new(expect: &str, send: &str) -> Turn {
        Turn { expect: expect.to_owned(), send: send.to_owned() }
    }
}

/// Goes through a conversation; each turn has `patience`.
pub fn converse(console: &mut dyn Console, turns: &[Turn], patience: Duration) -> Result<()> {
    let mut mark = console.log().mark();
    for Turn { expect, send } in turns {
        if !expect.is_empty() {
            let what = format!("the console: expected {expect:?}");
            let seen = console.log().wait(mark, patience, &what, |view| view.line_with(expect));
            seen.doing(|| "talking to the console")?;
        }
        mark = console.log().mark();
        console.type_in(send)?;
    }
    Ok(())
}

/// A shell on the console of a running system.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Shell {
    /// What its prompt ends in.
    pub prompt: String,
    /// What has to be said before it is there: user's name and password, or nothing.
    pub login: Vec<Turn>,
}

/// What a command on the machine came to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Ran {
    /// Its exit code.
    pub code: i32,
    /// What was on the console between its beginning and its end: what it printed, and what others wrote there meanwhile.
    pub printed: String,
}

/// Between two looks at a line that has not ended.
const LOOK_AGAIN: Duration = Duration::from_millis(20);

impl Shell {
    /// Runs a line of shell on the machine. Kernel and agent may write to the same console: beginning and end of the output
    /// are marked by words that the echo of the typed line does not contain.
    pub fn run(&self, console: &mut dyn Console, line: &str, patience: Duration) -> Result<Ran> {
        self.reach(console, patience)?;
        let mark = console.log().mark();
        let number = mark; // grows with each command, for each is echoed
        console.type_in(&format!("echo hil'-begin'-{number}; {line}; echo hil'-end'-{number}-$?-\n"))?;
        let (begin, end) = (format!("hil-begin-{number}"), format!("hil-end-{number}-"));
        let what = format!("the end of {line:?} on the console");
        let ended = console.log().wait(mark, patience, &what, |view| {
            let lines: Vec<&str> = view.entries.iter().filter_map(|entry| entry.seen.line()).collect();
            read(&lines, &begin, &end)
        });
        ended.doing(|| "running a command over the console")?
    }

    /// Waits for the prompt, and logs in on the way there.
    fn reach(&self, console: &mut dyn Console, patience: Duration) -> Result<()> {
        let prompt = self.prompt.trim_end();
        let (until, mut answered) = (Instant::now() + patience, 0);
        // What was written since the prompt came has pushed it up: a line end brings a fresh one.
        console.type_in("\n")?;
        loop {
            let partial = console.log().partial();
            let partial = partial.trim_end();
            if !partial.is_empty() && partial.ends_with(prompt) {
                return Ok(());
            }
            if let Some(turn) = self.login.get(answered)
                && partial.ends_with(turn.expect.trim_end())
                && !partial.is_empty()
            {
                console.type_in(&format!("{}\n", turn.send.trim_end_matches('\n')))?;
                answered += 1;
            }
            if Instant::now() > until {
                return Err(Trouble::new(format!(
                    "the console: expected a line that ends in {prompt:?} within {} s, found {partial:?}",
                    patience.as_secs()
                )));
            }
            std::thread::sleep(LOOK_AGAIN);
        }
    }
}

/// Finds a command's output between its marks.
fn read(lines: &[&str], begin: &str, end: &str) -> Option<Result<Ran>> {
    let first = lines.iter().position(|line| line.ends_with(begin))?;
    let after = lines.get(first + 1..)?;
    let last = after.iter().position(|line| line.contains(end))?;
    let (before, code) = after.get(last)?.split_once(end)?;
    let code = code.split('-').next().unwrap_or_default();
    let mut printed = after.get(..last)?.join("\n");
    if !before.is_empty() {
        printed.push('\n');
        printed.push_str(before);
    }
    let read = code.parse().map(|code| Ran { code, printed: printed.trim_start_matches('\n').to_owned() });
    Some(read.doing(|| format!("the console: expected an exit code, found {code:?}")))
}

/// What a person types to repair a board on which nothing is left to boot, as `bootloader-glue/README.md` says.
pub mod repair {
    use super::Turn;

    /// Ctrl-C ends the boot script's wait; what it says to type, then.
    pub fn uboot() -> Vec<Turn> {
        vec![Turn::new("", "\u{3}"), Turn::new("=> ", &format!("{}\n", mainstay_lab::board::uboot::REPAIR))]
    }

    /// Esc ends the wait; the menu's fifth entry, then. Ctrl-N is one down: no sequence that a slow line could tear.
    pub fn grub() -> Vec<Turn> {
        vec![Turn::new("", "\u{1b}"), Turn::new("Three tries for the groups", "\u{e}\u{e}\u{e}\u{e}\n")]
    }
}

/// Finds the answer to `mainstay status --json` among what was on the console.
pub fn status(printed: &str) -> Result<Value> {
    let object = printed.lines().find_map(|line| line.find("{\"device\"").and_then(|at| line.get(at..)));
    let object = object.doing(|| format!("mainstay status --json: expected an object, found {printed:?}"))?;
    serde_json::from_str(object).doing(|| format!("mainstay status --json: {object:?}"))
}

/// What it says of a group.
pub fn group_of(status: &Value, group: Group) -> &Value {
    let groups = status["groups"].as_array().map(Vec::as_slice).unwrap_or_default();
    groups.iter().find(|of| of["group"] == group.name()).unwrap_or(&Value::Null)
}

/// What it says of the bootloader's variables.
pub fn boot_state(status: &Value) -> Result<BootState> {
    if let Some(fault) = status["boot_fault"].as_str() {
        return Err(Trouble::new(format!("the environment: {fault}")));
    }
    let [a, b] = Group::BOTH.map(|group| {
        let of = group_of(status, group);
        let number = |key: &str| of[key].as_u64().and_then(|number| u8::try_from(number).ok());
        let (priority, tries_left) = number("priority").zip(number("tries_left"))?;
        Some(GroupState { priority, tries_left, good: of["good"].as_bool() })
    });
    let (a, b) = a.zip(b).doing(|| format!("status: expected priority and tries_left, found {status}"))?;
    Ok(BootState { a, b })
}

/// A word for a shell, quoted where it has to be.
pub fn quoted(word: &str) -> String {
    let plain = |c: char| c.is_ascii_alphanumeric() || "-_./=:,+@%".contains(c);
    match !word.is_empty() && word.chars().all(plain) {
        true => word.to_owned(),
        false => format!("'{}'", word.replace('\'', "'\\''")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What a console says, as words, for a machine whose resets nobody tells.
    fn told(lines: &[&str]) -> Vec<What> {
        let mut reader = Reader::new(Markers::default(), Resets::Guessed);
        lines.iter().flat_map(|line| reader.line(line)).collect()
    }

    #[test]
    fn a_boot_is_told_step_by_step_and_each_step_once() {
        let said = told(&[
            "U-Boot SPL 2023.01+dfsg-2 (Jan 01 2023)",
            "U-Boot 2023.01+dfsg-2 (Jan 01 2023) Allwinner Technology",
            "mainstay: order A B, A good 1 left 0, B good 0 left 2",
            "mainstay: group A (good), partition 2",
            "Starting kernel ...",
            "[    0.000000] Linux version 6.12.95 (debian-kernel@lists.debian.org)",
            "[    2.100000] Run /sbin/init as init process",
            "mainstay: info: phase idle",
            "mainstay: info: waits for nothing",
        ]);
        let wanted = [
            What::Bootloader,
            What::Boots(Group::A, Why::Good),
            What::Jumps,
            What::UserSpace,
            What::AgentStarts,
        ];
        assert_eq!(said, wanted);
    }

    #[test]
    fn a_banner_where_none_is_due_is_a_reset() {
        #[rustfmt::skip]
        let cases: [(&str, &[&str], usize); 5] = [
            ("out of user space",           &["U-Boot 2023.01", "] Run /init", "U-Boot 2023.01"],                2),
            ("before the kernel spoke",     &["mainstay: order A B", "mainstay: group B (trial)", "mainstay: order A B"], 2),
            ("in the bootloader itself",    &["U-Boot 2023.01", "U-Boot 2023.01"],                               2),
            ("by its second banner only",   &["U-Boot 2023.01", "mainstay: order A B", "mainstay: order B A"],   2),
            ("none: banners of one start",  &["U-Boot SPL 2023.01", "U-Boot 2023.01", "mainstay: order A B"],    1),
        ];
        for (name, lines, starts) in cases {
            let said = told(lines);
            let count = |what: &What| said.iter().filter(|said| *said == what).count();
            assert_eq!(count(&What::Bootloader), starts, "{name}: {said:?}");
            assert_eq!(count(&What::Reset), starts - 1, "{name}: {said:?}");
        }
    }

    #[test]
    fn a_bootloader_that_knows_the_cause_of_a_reset_tells_of_the_watchdog() {
        let markers = Markers { watchdog: vec!["Reset cause: WDOG".into()], ..Markers::default() };
        let mut reader = Reader::new(markers, Resets::Guessed);
        assert_eq!(reader.line("U-Boot 2023.01"), [What::Bootloader]);
        assert_eq!(reader.line("Reset cause: POR"), []);
        assert_eq!(reader.line("mainstay: group B (trial)"), [What::Boots(Group::B, Why::Trial)]);
        assert_eq!(reader.line("U-Boot 2023.01"), [What::Reset, What::Bootloader]);
        assert_eq!(reader.line("Reset cause: WDOG"), [What::WatchdogFires]);
    }

    #[test]
    fn resets_that_are_told_are_not_guessed_and_a_start_after_them_is_one_start() {
        let mut reader = Reader::new(Markers::default(), Resets::Told);
        assert_eq!(reader.line("mainstay: order A B"), [What::Bootloader]);
        reader.begin();
        assert_eq!(reader.line("mainstay: order A B"), [What::Bootloader]);
        assert_eq!(reader.line("Kernel panic - not syncing: sysrq"), [What::Panic]);
    }

    #[test]
    fn the_choice_is_read_as_the_markers_say_it() {
        let own = Markers { boots: "BOOT slot={group}".to_owned(), ..Markers::default() };
        #[rustfmt::skip]
        let cases = [
            (Markers::default(), "mainstay: group B (last-resort), partition hd0,gpt4", Some((Group::B, Why::LastResort))),
            (Markers::default(), "\r  mainstay: group A (trial)",                     Some((Group::A, Why::Trial))),
            (Markers::default(), "mainstay: group A could not be loaded",             None),
            (Markers::default(), "mainstay: group C (good)",                          None),
            (own.clone(),        "BOOT slot=B now",                                   Some((Group::B, Why::Good))),
            (own,                "mainstay: group A (good)",                          None),
        ];
        for (markers, line, choice) in cases {
            assert_eq!(markers.choice(line), choice, "{line}");
        }
    }

    #[test]
    fn the_laboratory_s_lines_mean_what_the_scripts_and_the_guest_say_with_them() {
        #[rustfmt::skip]
        let cases: [(&str, &[What]); 12] = [
            ("mainstay: order B A, A good 1 left 0, B good 0 left 2", &[What::Bootloader]),
            ("mainstay: group B (trial), partition hd0,gpt4",         &[What::Boots(Group::B, Why::Trial)]),
            ("mainstay: group A (last-resort), partition hd0,gpt3",   &[What::Boots(Group::A, Why::LastResort)]),
            ("mainstay: group B could not be loaded",                 &[]),
            ("mainstay: group A, the other none, trial no, boot 1",   &[What::Bootloader]),
            ("mainstay: NOTHING LEFT TO BOOT: no group is good and",  &[What::NothingBootable]),
            ("lab: watchdog armed at 0xfebfc000, 60 s; jumping",      &[What::Jumps]),
            ("Starting kernel ...",                                   &[What::Jumps]),
            ("lab# guest: user space is up, version 1",               &[What::UserSpace]),
            ("guest: agent starts",                                   &[What::AgentStarts]),
            ("[    3.1] Kernel panic - not syncing: sysrq",           &[What::Panic]),
            ("mainstay: info: order of things",                       &[]),
        ];
        for (line, meant) in cases {
            assert_eq!(Reader::new(Markers::laboratory(), Resets::Told).line(line), meant, "{line}");
        }
    }

    #[test]
    fn each_start_of_the_agent_is_told_where_there_are_lines_that_say_so() {
        let mut reader = Reader::new(Markers::laboratory(), Resets::Told);
        let lines = [
            "guest: user space is up, version 1",
            "guest: agent starts",
            "mainstay: info: x",
            "guest: agent starts",
        ];
        let said: Vec<What> = lines.iter().flat_map(|line| reader.line(line)).collect();
        assert_eq!(said, [What::UserSpace, What::AgentStarts, What::AgentStarts]);
    }

    #[test]
    fn a_prompt_is_told_once_a_start_and_never_in_user_space() {
        let mut reader = Reader::new(Markers::default(), Resets::Guessed);
        reader.line("U-Boot 2023.01");
        assert_eq!(reader.partial("=> "), Some(What::Prompt));
        assert_eq!(reader.partial("=> "), None);
        reader.line("U-Boot 2023.01");
        assert_eq!(reader.partial("=>"), Some(What::Prompt));
        reader.line("[    2.1] Run /init as init process");
        assert_eq!(reader.partial("=> "), None);
        reader.line("U-Boot 2023.01");
        reader.expect_prompt();
        assert_eq!(reader.partial("=> "), None, "somebody went there on purpose");
    }

    #[test]
    fn output_is_what_stands_between_the_marks_and_not_in_the_echo() {
        let lines = [
            "~ # echo hil'-begin'-7; mainstay status; echo hil'-end'-7-$?-",
            "hil-begin-7",
            "{\"device\":\"gw\"}",
            "[   12.3] random: crng init done",
            "half a linehil-end-7-1-",
        ];
        let ran = read(&lines, "hil-begin-7", "hil-end-7-").unwrap().unwrap();
        assert_eq!(ran.code, 1);
        assert_eq!(ran.printed, "{\"device\":\"gw\"}\n[   12.3] random: crng init done\nhalf a line");
        assert_eq!(read(lines.get(..4).unwrap(), "hil-begin-7", "hil-end-7-"), None, "it has not ended");
    }

    #[test]
    fn the_boot_state_is_found_in_a_status_among_other_lines() {
        let printed = concat!(
            "[    9.1] usb 1-1: new device\n",
            r#"{"device":"gw","groups":[{"group":"A","priority":2,"tries_left":0,"good":true},"#,
            r#"{"group":"B","priority":1,"tries_left":2,"good":false}],"boot_fault":null}"#
        );
        let state = boot_state(&status(printed).unwrap()).unwrap();
        assert_eq!(state.a, GroupState { priority: 2, tries_left: 0, good: Some(true) });
        assert_eq!(state.b, GroupState { priority: 1, tries_left: 2, good: Some(false) });
        let error = status("mainstay: not found").unwrap_err().to_string();
        assert!(error.contains("expected an object"), "{error}");
    }

    #[test]
    fn words_are_quoted_for_a_shell_only_where_they_have_to_be() {
        #[rustfmt::skip]
        let cases = [("status", "status"), ("--json", "--json"), ("", "''"), ("a b", "'a b'"), ("it's", "'it'\\''s'")];
        for (word, wanted) in cases {
            assert_eq!(quoted(word), wanted);
        }
    }
}
