//! What a scenario is told of an emulated machine, out of the console's lines and QMP's events, in the order in which they
//! were seen. Each line is told as it is, and before it what it means.

use crate::bench::{Event, What};
use mainstay_bootloader_glue::convention::Why;
use mainstay_core::boot::Group;
use mainstay_lab::machine::{Entry, Log, Seen};
use std::time::Duration;

/// guest/init says it first of all.
pub const USER_SPACE: &str = "guest: user space is up";

/// All that was seen so far. `resets_by_watchdog`: the machine's software has no other way to reset it; a bite that it has
/// announced is then no more than the reset.
pub fn events(log: &Log, resets_by_watchdog: bool) -> Vec<Event> {
    let mut told: Vec<Event> = Vec::new();
    let mut announced = false;
    for Entry { at, seen } in log.since(0) {
        let mut tell = |what| told.push(Event { at, what });
        match seen {
            Seen::PowerOn => tell(What::PowerOn),
            Seen::PowerOff | Seen::Gone(_) => tell(What::PowerOff),
            Seen::Line(line) => {
                announced |= RESETS.iter().any(|reset| line.contains(reset));
                meaning(&line).into_iter().for_each(&mut tell);
                tell(What::Line(line));
            }
            Seen::Qmp { event, .. } if event == "WATCHDOG" && resets_by_watchdog && announced => {}
            Seen::Qmp { event, .. } if event == "WATCHDOG" => tell(What::WatchdogFires),
            Seen::Qmp { event, .. } if event == "RESET" => {
                announced = false;
                // Linux tries several ways to reset one after the other, and QEMU tells each.
                let said = told.iter().rev().find(|event| !matches!(event.what, What::Line(_)));
                let again = said.is_some_and(|last| {
                    last.what == What::Reset && at.saturating_duration_since(last.at) < ONE_RESET
                });
                if !again {
                    told.push(Event { at, what: What::Reset });
                }
            }
            Seen::Qmp { .. } => {}
        }
    }
    if let Some((at, line)) = log.begun()
        && is_prompt(&line)
    {
        told.push(Event { at, what: What::Prompt });
    }
    told
}

/// What Linux says before it restarts a machine, by itself or after a panic, and U-Boot.
const RESETS: [&str; 3] = ["reboot: Restarting system", "Rebooting in ", "resetting ..."];
/// Two resets within this time are one: no bootloader is there so soon after the first.
const ONE_RESET: Duration = Duration::from_secs(2);

/// What a line means. The bootloaders' scripts say the first ones, each in its file in bootloader-glue/scripts or
/// hil-tests/lab/boards; guest/init those that begin with "guest:".
fn meaning(line: &str) -> Option<What> {
    let script = line.strip_prefix("mainstay: ");
    if let Some((group, why)) = script.and_then(chosen) {
        return Some(What::Boots(group, why));
    }
    match line {
        _ if script.is_some_and(|said| said.starts_with("order ") || said.contains(", the other ")) => {
            Some(What::Bootloader)
        }
        _ if script.is_some_and(|said| said.starts_with("NOTHING LEFT TO BOOT")) => {
            Some(What::NothingBootable)
        }
        _ if line.starts_with("lab: ") && line.contains("jumping") => Some(What::Jumps),
        _ if line.starts_with("Starting kernel") => Some(What::Jumps),
        _ if line.contains(USER_SPACE) => Some(What::UserSpace),
        _ if line.contains("guest: agent starts") => Some(What::AgentStarts),
        _ if line.contains("Kernel panic - not syncing") => Some(What::Panic),
        _ if is_prompt(line) => Some(What::Prompt),
        _ => None,
    }
}

/// `group B (trial), partition …`
fn chosen(said: &str) -> Option<(Group, Why)> {
    let (group, rest) = said.strip_prefix("group ")?.split_once(" (")?;
    let (why, _) = rest.split_once(')')?;
    let group = [Group::A, Group::B].into_iter().find(|known| known.to_string() == group)?;
    let why = [Why::Good, Why::Trial, Why::LastResort].into_iter().find(|known| known.name() == why)?;
    Some((group, why))
}

/// GRUB's and U-Boot's prompts.
fn is_prompt(line: &str) -> bool {
    line.starts_with("grub> ") || line.starts_with("grub rescue> ") || line.starts_with("=> ")
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::Value;

    #[test]
    fn lines_mean_what_the_scripts_and_the_guest_say_with_them() {
        #[rustfmt::skip]
        let cases = [
            ("mainstay: order B A, A good 1 left 0, B good 0 left 2", Some(What::Bootloader)),
            ("mainstay: group B (trial), partition hd0,gpt4",         Some(What::Boots(Group::B, Why::Trial))),
            ("mainstay: group A (last-resort), partition hd0,gpt3",   Some(What::Boots(Group::A, Why::LastResort))),
            ("mainstay: group B could not be loaded",                 None),
            ("mainstay: group A, the other none, trial no, boot 1",   Some(What::Bootloader)),
            ("mainstay: NOTHING LEFT TO BOOT: no group is good and",  Some(What::NothingBootable)),
            ("lab: watchdog armed at 0xfebfc000, 60 s; jumping",      Some(What::Jumps)),
            ("Starting kernel ...",                                   Some(What::Jumps)),
            ("lab# guest: user space is up, version 1",               Some(What::UserSpace)),
            ("guest: agent starts",                                   Some(What::AgentStarts)),
            ("[    3.1] Kernel panic - not syncing: sysrq",           Some(What::Panic)),
            ("grub> ",                                                Some(What::Prompt)),
            ("mainstay: info: order of things",                       None),
        ];
        for (line, meant) in cases {
            assert_eq!(meaning(line), meant, "{line}");
        }
    }

    #[test]
    fn a_watchdog_s_bite_comes_before_its_reset_and_two_resets_at_once_are_one() {
        let log = Log::new();
        log.push(Seen::PowerOn);
        for event in ["WATCHDOG", "RESET", "RESET", "NIC_RX_FILTER_CHANGED"] {
            log.push(Seen::Qmp { event: event.into(), data: Value::Null });
        }
        log.console_bytes(b"[ 12.5] the kernel's last line\n");
        log.push(Seen::Qmp { event: "RESET".into(), data: Value::Null });
        log.console_bytes(b"grub> ");
        let told: Vec<What> = events(&log, false).into_iter().map(|event| event.what).collect();
        let line = What::Line("[ 12.5] the kernel's last line".into());
        assert_eq!(told, [What::PowerOn, What::WatchdogFires, What::Reset, line, What::Prompt]);
    }

    #[test]
    fn where_nothing_else_resets_a_machine_a_bite_that_it_announced_is_its_reset_and_no_other_bite_is() {
        let log = Log::new();
        for line in ["[  250.1] reboot: Restarting system\n", "Starting kernel ...\n"] {
            log.console_bytes(line.as_bytes());
            for event in ["WATCHDOG", "RESET"] {
                log.push(Seen::Qmp { event: event.into(), data: Value::Null });
            }
        }
        let told = |resets_by_watchdog| -> Vec<What> {
            let told = events(&log, resets_by_watchdog).into_iter().map(|event| event.what);
            told.filter(|what| !matches!(what, What::Line(_))).collect()
        };
        let hang = [What::Jumps, What::WatchdogFires, What::Reset];
        assert_eq!(told(true), [&[What::Reset][..], &hang].concat());
        assert_eq!(told(false), [&[What::WatchdogFires, What::Reset][..], &hang].concat());
    }
}
