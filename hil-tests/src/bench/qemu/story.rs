//! What a scenario is told of an emulated machine, out of the console's lines and QMP's events, in the order in which they
//! were seen. Each line is told as it is, and before it what it means.

use crate::bench::console::{Markers, Reader, Resets};
use crate::bench::{Event, What};
use mainstay_lab::machine::{Entry, Log, Seen};
use std::time::Duration;

/// guest/init says it first of all.
pub const USER_SPACE: &str = "guest: user space is up";

/// All that was seen so far. `resets_by_watchdog`: the machine's software has no other way to reset it; a bite that it has
/// announced is then no more than the reset.
pub fn events(log: &Log, resets_by_watchdog: bool) -> Vec<Event> {
    let mut told: Vec<Event> = Vec::new();
    let mut reader = Reader::new(Markers::laboratory(), Resets::Told);
    let mut announced = false;
    let mut stopped = false;
    for Entry { at, seen } in log.since(0) {
        let mut tell = |what| told.push(Event { at, what });
        match seen {
            Seen::PowerOn => {
                reader.begin();
                tell(What::PowerOn);
            }
            Seen::PowerOff | Seen::Gone(_) => {
                reader.begin();
                tell(What::PowerOff);
            }
            Seen::Line(line) => {
                stopped |= line.contains(STOPPED);
                announced |= RESETS.iter().any(|reset| line.contains(reset));
                let told = reader.line(&line).into_iter();
                told.filter(|what| !(stopped && *what == What::Prompt)).for_each(&mut tell);
                tell(What::Line(line));
            }
            Seen::Qmp { event, .. } if event == "WATCHDOG" && resets_by_watchdog && announced => {}
            Seen::Qmp { event, .. } if event == "WATCHDOG" => tell(What::WatchdogFires),
            Seen::Qmp { event, .. } if event == "RESET" => {
                announced = false;
                reader.begin();
                stopped = false;
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
        && let Some(what) = reader.partial(&line)
        && !(stopped && what == What::Prompt)
    {
        told.push(Event { at, what });
    }
    told
}

/// U-Boot's script says it when somebody has ended its wait: the prompt after it was asked for, and is no sign of a board that has
/// given up.
const STOPPED: &str = "mainstay: stopped at the console";
/// What Linux says before it restarts a machine, by itself or after a panic, and U-Boot.
const RESETS: [&str; 3] = ["reboot: Restarting system", "Rebooting in ", "resetting ..."];
/// Two resets within this time are one: no bootloader is there so soon after the first.
const ONE_RESET: Duration = Duration::from_secs(2);

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::Value;

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
    fn a_prompt_that_somebody_asked_for_is_none_that_the_board_was_left_at() {
        let told = |console: &[u8]| {
            let log = Log::new();
            log.console_bytes(console);
            events(&log, false).iter().any(|event| event.what == What::Prompt)
        };
        assert!(told(b"mainstay: group A could not be loaded\n=> "));
        assert!(!told(b"mainstay: stopped at the console\n=> "));
        assert!(!told(b"mainstay: stopped at the console\n=> saveenv; reset\n"));
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
