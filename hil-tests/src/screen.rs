//! What a person watches: both groups, tries left, phase and progress, drawn again and again on a terminal; plain lines,
//! one for each change, everywhere else.
//!
//! ```text
//! ── 3 of 6: an image that never comes up
//!    B never comes up                                        lines that stay
//!    watchdog bites
//!   A  1.0.0   good                       ◄ running          lines that are drawn again
//!   B  3.0.0   on trial, 2 tries left
//!   Downloading  ██████████░░░░░░░░░░  50 %   32.0 of 64.0 MiB
//!   ┌ serial console                                          where a machine has one: its last lines
//!   │ mainstay: group B (trial), partition hd0,gpt4
//!   └
//! ```

use mainstay_core::boot::{BootState, Group};
use std::collections::VecDeque;
use std::fmt::Write as _;
use std::io::{IsTerminal, Write};

/// What is shown of one group.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct GroupView {
    /// The version of what is in its slot; empty where there is nothing that boots.
    pub version: String,
    /// What the bootloader makes of it.
    pub standing: String,
}

/// What is shown.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct View {
    /// A and B.
    pub groups: [GroupView; 2],
    /// Which of them runs. `None`: off, or booting.
    pub running: Option<Group>,
    /// The phase of the update, in a word or two.
    pub phase: String,
    /// Bytes done, and of how many.
    pub progress: Option<(u64, u64)>,
}

impl View {
    /// What the bootloader makes of both groups, in words.
    pub fn standing(state: &BootState) -> [String; 2] {
        Group::BOTH.map(|group| {
            let of = state.group(group);
            let tries = |left: u8| format!("{left} {} left", if left == 1 { "try" } else { "tries" });
            match (of.priority, of.good, of.tries_left) {
                (0, ..) => "not bootable".to_owned(),
                (_, Some(true), _) => "good".to_owned(),
                (_, Some(false), 0) => "tried, given up".to_owned(),
                (_, Some(false), left) => format!("on trial, {}", tries(left)),
                (_, None, left) => tries(left),
            }
        })
    }

    /// As lines for a terminal.
    fn lines(&self) -> Vec<String> {
        let width = self.groups.iter().map(|group| group.version.chars().count()).max().unwrap_or(0).max(5);
        let group = |group: Group| {
            let GroupView { version, standing } = &self.groups[group as usize];
            let version = if version.is_empty() { "–" } else { version };
            let here = if self.running == Some(group) { "◄ running" } else { "" };
            format!("  {group}  {version:width$}  {standing:24} {here}").trim_end().to_owned()
        };
        let mut phase = format!("  {}", self.phase);
        if let Some((done, total)) = self.progress {
            let _ = write!(phase, "  {}", bar(done, total)); // to a String: cannot fail
        }
        vec![group(Group::A), group(Group::B), phase]
    }

    /// As one line, which changes only where a reader of a log wants to know.
    fn line(&self) -> String {
        let group = |group: Group| {
            let GroupView { version, standing } = &self.groups[group as usize];
            let here = if self.running == Some(group) { "*" } else { "" };
            format!("{group}{here} {version} {standing}")
        };
        let mut line = format!("{} | {} | {}", group(Group::A), group(Group::B), self.phase);
        if let Some((done, total)) = self.progress {
            let quarter = percent(done, total) / 25 * 25;
            let _ = write!(line, " {quarter} %"); // to a String: cannot fail
        }
        line
    }
}

/// A terminal, or a log.
pub struct Screen<W> {
    out: W,
    live: bool,
    /// Lines that were drawn and will be drawn over.
    drawn: usize,
    shown: Option<View>,
    console: VecDeque<String>,
}

impl Screen<std::io::Stdout> {
    /// Standard output, whatever it is.
    pub fn new() -> Self {
        let out = std::io::stdout();
        let dumb = std::env::var_os("TERM").is_none_or(|term| term == "dumb");
        let live = out.is_terminal() && !dumb;
        Screen::on(out, live)
    }
}

impl Default for Screen<std::io::Stdout> {
    fn default() -> Self {
        Screen::new()
    }
}

impl<W: Write> Screen<W> {
    /// On `out`; `live`: it understands cursor movements.
    pub fn on(out: W, live: bool) -> Screen<W> {
        Screen { out, live, drawn: 0, shown: None, console: VecDeque::new() }
    }

    /// A line that stays.
    pub fn say(&mut self, line: &str) {
        self.wipe();
        self.put(&format!("{line}\n"));
        self.redraw();
    }

    /// Shows `view`, if it differs from what is shown.
    pub fn show(&mut self, view: &View) {
        if self.shown.as_ref() == Some(view) {
            return;
        }
        let before = self.shown.replace(view.clone());
        if self.live {
            self.wipe();
            self.redraw();
        } else if before.is_none_or(|before| before.line() != view.line()) {
            self.put(&format!("     {}\n", view.line()));
        }
    }

    /// Lines of the machine's console: its last ones are drawn below all else; in a log, each is a line of its own.
    pub fn console(&mut self, lines: &[String]) {
        if lines.is_empty() {
            return;
        }
        if !self.live {
            lines.iter().for_each(|line| self.put(&format!("   console   {line}\n")));
            return;
        }
        self.console.extend(lines.iter().map(|line| line.replace(char::is_control, " ")));
        let over = self.console.len().saturating_sub(CONSOLE_LINES);
        self.console.drain(..over);
        self.wipe();
        self.redraw();
    }

    /// Leaves what is shown where it is; what comes next is drawn below.
    pub fn leave(&mut self) {
        self.drawn = 0;
        self.shown = None;
        self.console.clear();
    }

    fn redraw(&mut self) {
        let Some(view) = self.shown.as_ref().filter(|_| self.live) else { return };
        let mut lines = view.lines();
        if !self.console.is_empty() {
            lines.push("  ┌ serial console".to_owned());
            lines.extend(self.console.iter().map(|line| format!("  │ {line}")));
            lines.push("  └".to_owned());
        }
        self.drawn = lines.len();
        // Without wrapping (DECAWM off): a narrow terminal cuts a line, and the count of lines stays right.
        self.put(&format!("\x1b[?7l{}\n\x1b[?7h", lines.join("\n")));
    }

    fn wipe(&mut self) {
        if self.drawn > 0 {
            let up = self.drawn;
            self.put(&format!("\x1b[{up}A\x1b[J"));
            self.drawn = 0;
        }
    }

    /// Nobody who watches has to be there: a closed pipe is not a fault of the demo.
    fn put(&mut self, text: &str) {
        let _ = self.out.write_all(text.as_bytes()).and_then(|()| self.out.flush());
    }
}

/// How many lines of the console are on the screen: with all else, half of a terminal's 45 lines stay for the story.
const CONSOLE_LINES: usize = 14;

fn percent(done: u64, total: u64) -> u64 {
    (done.min(total) * 100).checked_div(total).unwrap_or(100)
}

fn bar(done: u64, total: u64) -> String {
    const CELLS: usize = 24;
    let percent = percent(done, total);
    let full = CELLS * percent as usize / 100;
    let mib = |bytes: u64| bytes as f64 / (1024.0 * 1024.0);
    let (full, empty) = ("█".repeat(full), "░".repeat(CELLS - full));
    format!("{full}{empty} {percent:3} %  {:.1} of {:.1} MiB", mib(done), mib(total))
}

#[cfg(test)]
mod tests {
    use super::*;
    use mainstay_core::boot::GroupState;

    const MIB: u64 = 1024 * 1024;

    fn view(progress: Option<(u64, u64)>) -> View {
        let group =
            |version: &str, standing: &str| GroupView { version: version.into(), standing: standing.into() };
        View {
            groups: [group("1.0.0", "good"), group("", "not bootable")],
            running: Some(Group::A),
            phase: "Downloading".into(),
            progress,
        }
    }

    fn shown(live: bool, views: &[View]) -> String {
        let mut out = Vec::new();
        let mut screen = Screen::on(&mut out, live);
        views.iter().for_each(|view| screen.show(view));
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn a_log_gets_one_line_for_each_quarter_and_no_escape() {
        let views: Vec<View> = (0..=64).map(|done| view(Some((done * MIB, 64 * MIB)))).collect();
        let log = shown(false, &views);
        assert_eq!(log.lines().count(), 5, "{log}");
        assert!(!log.contains('\x1b'));
        assert!(log.starts_with("     A* 1.0.0 good | B  not bootable | Downloading 0 %\n"), "{log}");
    }

    #[test]
    fn a_terminal_is_drawn_over_and_what_was_said_stays_above() {
        let mut out = Vec::new();
        let mut screen = Screen::on(&mut out, true);
        screen.show(&view(None));
        screen.show(&view(None));
        screen.say("watchdog bites");
        screen.show(&view(Some((32 * MIB, 64 * MIB))));
        let text = String::from_utf8(out).unwrap();
        assert_eq!(
            text.matches("\x1b[3A\x1b[J").count(),
            2,
            "wiped for the line and for the new view: {text:?}"
        );
        assert!(text.contains("\x1b[Jwatchdog bites\n"), "{text:?}");
        assert!(
            text.contains("  A  1.0.0  good                     ◄ running\n  B  –      not bootable\n"),
            "{text}"
        );
        assert!(text.ends_with("████████████░░░░░░░░░░░░  50 %  32.0 of 64.0 MiB\n\x1b[?7h"), "{text}");
    }

    #[test]
    fn a_console_s_last_lines_are_drawn_below_and_all_of_them_are_in_a_log() {
        let lines: Vec<String> = (0..CONSOLE_LINES + 3).map(|line| format!("line {line}.")).collect();
        let on = |live: bool| {
            let mut out = Vec::new();
            let mut screen = Screen::on(&mut out, live);
            screen.show(&view(None));
            screen.console(&lines);
            String::from_utf8(out).unwrap()
        };
        let (log, terminal) = (on(false), on(true));
        assert!(log.contains("   console   line 0.\n") && log.contains("   console   line 16.\n"), "{log}");
        assert!(!terminal.contains("line 2.") && terminal.contains("  │ line 3.\n"), "{terminal}");
        assert!(terminal.ends_with("  │ line 16.\n  └\n\x1b[?7h"), "{terminal:?}");
    }

    #[test]
    fn a_group_s_standing_is_said_in_words() {
        let state = |priority, tries_left, good| GroupState { priority, tries_left, good };
        #[rustfmt::skip]
        let cases = [
            (state(1, 0, Some(true)),  "good"),
            (state(2, 3, Some(false)), "on trial, 3 tries left"),
            (state(2, 1, Some(false)), "on trial, 1 try left"),
            (state(2, 0, Some(false)), "tried, given up"),
            (state(0, 0, Some(false)), "not bootable"),
            (state(2, 2, None),        "2 tries left"),
        ];
        for (of, said) in cases {
            assert_eq!(View::standing(&BootState { a: of, b: of })[1], said);
        }
    }

    #[test]
    fn progress_of_nothing_is_all_of_it() {
        assert_eq!((percent(0, 0), percent(1, 3), percent(9, 3)), (100, 33, 100));
    }
}
