//! Waiting: for an event of the machine, or for a message to the operator. A wait has a deadline, and it ends at once, as a
//! failure, on what can no longer come good:
//!
//! | seen | unless |
//! |---|---|
//! | the bootloader's prompt | |
//! | nothing bootable | it is what the case is about |
//! | more resets than any case needs | |
//! | the bench itself is broken | |

use super::world::World;
use crate::bench::{Event, What};
use crate::listener::{Heard, outcome};
use crate::{Result, Trouble};
use mainstay_bootloader_glue::convention::Why;
use mainstay_core::boot::Group;
use mainstay_core::digest::Digest;
use mainstay_core::report::{Outcome, Presence};
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

/// A moment in the past: what has come since can be looked at.
#[derive(Clone, Copy, Debug)]
pub struct Mark {
    /// When it was.
    pub at: Instant,
    events: usize,
    heard: usize,
}

/// What has come since a [`Mark`], and how the gateway stands.
#[derive(Clone, Debug)]
pub struct Seen {
    /// Of the machine.
    pub events: Vec<Event>,
    /// Of this gateway.
    pub heard: Vec<Heard>,
    /// What the gateway said last, also before the mark.
    pub presence: Option<Presence>,
}

/// How often it is looked at: a phase of an update may last no longer.
const TICK: Duration = Duration::from_millis(20);
/// No case has so many resets in one wait: a board that has is in a reset loop.
const RESETS_MAX: usize = 15;

impl World<'_> {
    /// A mark.
    pub fn mark(&mut self) -> Mark {
        let events = self.bench.events().map_or(0, |events| events.len()); // the next wait says what is wrong
        Mark { at: Instant::now(), events, heard: self.listener.mark() }
    }

    /// Waits until `over` gives something; `what` is what is shown, and what the trouble says.
    pub fn until<T>(
        &mut self,
        mark: Mark,
        what: &str,
        patience: Duration,
        over: impl FnMut(&Seen) -> Option<T>,
    ) -> Result<T> {
        self.wait(mark, what, patience, false, over)
    }

    /// As [`World::until`], where nothing bootable is no surprise.
    pub fn until_used_up<T>(
        &mut self,
        mark: Mark,
        what: &str,
        patience: Duration,
        over: impl FnMut(&Seen) -> Option<T>,
    ) -> Result<T> {
        self.wait(mark, what, patience, true, over)
    }

    /// What has come since the mark, now.
    pub fn seen(&mut self, mark: Mark) -> Result<Seen> {
        let mut events = self.bench.events()?;
        events.drain(..mark.events.min(events.len()));
        let mut heard = self.listener.since(mark.heard);
        heard.retain(|heard| heard.who == self.device());
        Ok(Seen { events, heard, presence: self.presence() })
    }

    fn wait<T>(
        &mut self,
        mark: Mark,
        what: &str,
        patience: Duration,
        may_be_used_up: bool,
        mut over: impl FnMut(&Seen) -> Option<T>,
    ) -> Result<T> {
        let began = Instant::now();
        loop {
            let seen = self.seen(mark)?;
            if let Some(over) = over(&seen) {
                return Ok(over);
            }
            if self.stop.load(Ordering::Relaxed) {
                return Err(Trouble::new("interrupted"));
            }
            if let Some(why) = seen.hopeless(may_be_used_up) {
                return Err(Trouble::new(format!("waiting for {what}: {why}; {}", seen.in_short())));
            }
            if began.elapsed() > patience {
                let seconds = patience.as_secs();
                return Err(Trouble::new(format!(
                    "waited {seconds} s for {what} in vain; {}",
                    seen.in_short()
                )));
            }
            self.show(what, began.elapsed(), &seen.last());
            std::thread::sleep(TICK);
        }
    }
}

impl Seen {
    /// How often this was seen.
    pub fn count(&self, wanted: &What) -> usize {
        self.events.iter().filter(|event| event.what == *wanted).count()
    }

    /// Bites between a bootloader's jump and user space: on a computer with other work, where an emulated machine is slow but
    /// its watchdog is not, also a good image can be bitten so. It costs a try, as it should, and proves nothing else.
    pub fn bitten_on_the_way(&self) -> usize {
        let mut on_the_way = false;
        let mut bites = 0;
        for event in &self.events {
            match event.what {
                What::Jumps => on_the_way = true,
                What::UserSpace | What::Bootloader | What::Panic => on_the_way = false,
                What::WatchdogFires if on_the_way => {
                    on_the_way = false;
                    bites += 1;
                }
                _ => {}
            }
        }
        bites
    }

    /// Where this was first seen.
    pub fn first(&self, wanted: &What) -> Option<usize> {
        self.events.iter().position(|event| event.what == *wanted)
    }

    /// How the bundle of this name fared, where the operator has heard it.
    pub fn outcome(&self, name: Digest) -> Option<Outcome> {
        outcome(&self.heard, name)
    }

    /// Is there a line with all of these words?
    pub fn says(&self, words: &[&str]) -> bool {
        let has = |line: &str| words.iter().all(|word| line.contains(word));
        self.events.iter().any(|event| matches!(&event.what, What::Line(line) if has(line)))
    }

    /// Why nothing good can come any more.
    fn hopeless(&self, may_be_used_up: bool) -> Option<String> {
        if self.count(&What::Prompt) > 0 {
            return Some("the board stands at the bootloader's prompt".into());
        }
        if !may_be_used_up && self.count(&What::NothingBootable) > 0 {
            return Some("the bootloader found nothing to boot".into());
        }
        let resets = self.count(&What::Reset);
        (resets > RESETS_MAX).then(|| format!("{resets} resets: a reset loop"))
    }

    /// The last event that is not a line.
    fn last(&self) -> String {
        let last = self.events.iter().rev().find(|event| !matches!(event.what, What::Line(_)));
        last.map(|event| in_words(&event.what)).unwrap_or_default()
    }

    /// All that happened, for whoever wonders.
    fn in_short(&self) -> String {
        let lines = |event: &&Event| !matches!(event.what, What::Line(_));
        let seen: Vec<String> = self.events.iter().filter(lines).map(|event| in_words(&event.what)).collect();
        let phase = self.presence.as_ref().map(|presence| format!("{:?}", presence.phase));
        let seen = if seen.is_empty() { "nothing".into() } else { seen.join(", ") };
        format!("the machine: {seen}; the gateway said: {}", phase.as_deref().unwrap_or("nothing"))
    }
}

/// An event in a few words.
pub fn in_words(what: &What) -> String {
    match what {
        What::PowerOn => "power on".into(),
        What::PowerOff => "power off".into(),
        What::WatchdogFires => "the watchdog fires".into(),
        What::Reset => "reset".into(),
        What::Bootloader => "bootloader".into(),
        What::Boots(group, why) => boots_in_words(*group, *why),
        What::Jumps => "jumps".into(),
        What::NothingBootable => "nothing bootable".into(),
        What::Prompt => "PROMPT".into(),
        What::UserSpace => "user space".into(),
        What::Panic => "kernel panic".into(),
        What::AgentStarts => "agent".into(),
        What::Line(line) => line.clone(),
    }
}

fn boots_in_words(group: Group, why: Why) -> String {
    format!("boots {group} ({})", why.name())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn seen(whats: &[What]) -> Seen {
        let events = whats.iter().map(|what| Event { at: Instant::now(), what: what.clone() }).collect();
        Seen { events, heard: Vec::new(), presence: None }
    }

    #[test]
    fn what_can_no_longer_come_good_is_known() {
        #[rustfmt::skip]
        let cases = [
            (vec![What::Prompt],                   true,  Some("prompt")),
            (vec![What::NothingBootable],          false, Some("nothing to boot")),
            (vec![What::NothingBootable],          true,  None),
            (vec![What::Reset; RESETS_MAX],        false, None),
            (vec![What::Reset; RESETS_MAX + 1],    false, Some("reset loop")),
            (vec![What::Panic, What::WatchdogFires], false, None),
        ];
        for (whats, used_up, expected) in cases {
            let why = seen(&whats).hopeless(used_up);
            let right =
                expected.map_or(why.is_none(), |word| why.as_ref().is_some_and(|why| why.contains(word)));
            assert!(right, "{whats:?}: {why:?}");
        }
    }

    #[test]
    fn a_bite_before_user_space_is_told_apart_from_one_after_it() {
        use What::*;
        let slow = [Jumps, WatchdogFires, Reset, Bootloader, Jumps, UserSpace];
        let hangs = [Jumps, UserSpace, AgentStarts, WatchdogFires, Reset, Bootloader, Jumps, UserSpace];
        assert_eq!((seen(&slow).bitten_on_the_way(), seen(&hangs).bitten_on_the_way()), (1, 0));
    }

    #[test]
    fn a_story_is_told_without_its_lines() {
        let story = seen(&[What::PowerOn, What::Line("x".into()), What::Boots(Group::B, Why::Trial)]);
        assert_eq!(story.last(), "boots B (trial)");
        assert_eq!(story.in_short(), "the machine: power on, boots B (trial); the gateway said: nothing");
        assert!(story.says(&["x"]) && !story.says(&["x", "y"]));
    }
}
